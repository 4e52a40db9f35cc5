-- Start-up profile: a motor draws much when it starts, and less than 40 A eight seconds later. One that still draws more
-- is jammed or too heavily loaded.

-- {"ts":"2026-03-01T12:00:00Z","on":true,"amps":120.0} on plant/motors/motor-1
CREATE TABLE motors (
  motor  STRING METADATA FROM 'topic[2]',
  ts     TIMESTAMP_LTZ(3),
  `on`   BOOLEAN,
  amps   DOUBLE,
  WATERMARK FOR ts AS ts - INTERVAL '1' SECOND
) WITH (
  'connector' = 'mqtt', 'connection' = 'plant', 'topic' = 'plant/motors/+', 'qos' = '1', 'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601',
  'scan.watermark.idle-timeout' = '10 s'
);

CREATE TABLE heavy_starts (
  motor       STRING,
  started     TIMESTAMP_LTZ(3),
  seconds     BIGINT,
  amps        DOUBLE,
  most_amps   DOUBLE,
  readings    BIGINT
) WITH (
  'connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'alerts/{motor}/start', 'qos' = '1', 'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601', 'json.id-field' = 'id'
);

INSERT INTO heavy_starts
SELECT motor, started, seconds, amps, most_amps, readings
FROM motors MATCH_RECOGNIZE (
  PARTITION BY motor
  ORDER BY ts
  MEASURES
    BEGUN.ts                                                         AS started,
    CAST(TIMESTAMPDIFF(SECOND, BEGUN.ts, TOO_HIGH.ts) AS BIGINT) AS seconds,
    TOO_HIGH.amps                                                    AS amps,
    MAX(amps)                                                        AS most_amps,
    COUNT(*)                                                         AS readings
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (BEGUN INRUSH* TOO_HIGH) WITHIN INTERVAL '20' SECOND
  DEFINE
    BEGUN    AS `on` AND NOT COALESCE(PREV(`on`), FALSE),
    INRUSH   AS `on` AND ts < BEGUN.ts + INTERVAL '8' SECOND,
    TOO_HIGH AS `on` AND amps > 40 AND ts >= BEGUN.ts + INTERVAL '8' SECOND
);

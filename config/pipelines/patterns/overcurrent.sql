-- Duration: a current over 200 A for ten seconds. Told once when the ten seconds are over, without a message that ends
-- them; again only after the current has been lower.

-- {"ts":"2026-03-01T12:00:00Z","amps":180.5} on plant/feeders/feeder-1
CREATE TABLE feeders (
  feeder  STRING METADATA FROM 'topic[2]',
  ts      TIMESTAMP_LTZ(3),
  amps    DOUBLE,
  WATERMARK FOR ts AS ts - INTERVAL '1' SECOND
) WITH (
  'connector' = 'mqtt', 'connection' = 'plant', 'topic' = 'plant/feeders/+', 'qos' = '1', 'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601',
  'scan.watermark.idle-timeout' = '10 s'
);

CREATE TABLE overcurrents (
  feeder   STRING,
  since    TIMESTAMP_LTZ(3),
  noticed  TIMESTAMP_LTZ(3),
  amps     DOUBLE
) WITH (
  'connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'alerts/{feeder}/overcurrent', 'qos' = '1',
  'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601', 'json.id-field' = 'id'
);

INSERT INTO overcurrents
SELECT feeder, since, noticed, amps
FROM feeders MATCH_RECOGNIZE (
  PARTITION BY feeder
  ORDER BY ts
  MEASURES OVER_LIMIT.ts AS since, MATCH_ROWTIME() AS noticed, OVER_LIMIT.amps AS amps
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (OVER_LIMIT {- X*? -} [^UNDER_LIMIT]) WITHIN INTERVAL '10' SECOND
  DEFINE
    OVER_LIMIT  AS amps > 200 AND (PREV(amps) IS NULL OR PREV(amps) <= 200),
    UNDER_LIMIT AS amps <= 200
);

-- Tell me when this pump looks wrong: a score for each reading against the pump's own past, without training.

-- {"ts":"2026-03-01T12:00:00Z","mm_s":2.8} on plant/pumps/pump-1/vibration
CREATE TABLE vibrations (
  pump  STRING METADATA FROM 'topic[2]',
  ts    TIMESTAMP_LTZ(3),
  mm_s  DOUBLE,
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH (
  'connector' = 'mqtt', 'connection' = 'plant', 'topic' = 'plant/pumps/+/vibration', 'qos' = '1', 'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601', 'scan.watermark.idle-timeout' = '10 s'
);

CREATE TABLE unusual_vibrations (
  pump      STRING,
  ts        TIMESTAMP_LTZ(3),
  mm_s      DOUBLE,
  expected  DOUBLE,
  score     DOUBLE,
  channel   STRING
) WITH (
  'connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'alerts/{pump}/unusual', 'qos' = '1', 'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601', 'json.id-field' = 'id'
);

-- alarm is true once, and then not for a hundred readings; the channel says what is unusual: the level, this hour of
-- the day, the spread, the range, the order of readings, or the gap before this one.
-- A pump that is silent for a month is forgotten.
SET 'table.exec.state.ttl' = '30 d';

INSERT INTO unusual_vibrations
SELECT pump, ts, mm_s, ROUND(a.expected, 1), ROUND(a.score, 1), a.channel
FROM (
  SELECT pump, ts, mm_s,
    ANOMALY_SCORE(mm_s, timezone => 'Europe/Berlin') OVER (PARTITION BY pump ORDER BY ts) AS a
  FROM vibrations
)
WHERE a.alarm;

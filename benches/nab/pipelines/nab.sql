-- The Numenta Anomaly Benchmark with the defaults: every series is a key, and nothing is set.
CREATE TABLE readings (
  series  STRING METADATA FROM 'topic[1]',
  ts      TIMESTAMP_LTZ(3),
  x       DOUBLE,
  WATERMARK FOR ts AS ts - INTERVAL '1' SECOND    -- some readings share a second
) WITH (
  'connector' = 'mqtt',
  'connection' = 'bench',
  'topic' = 'nab/+',
  'qos' = '1',
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601'
);

CREATE TABLE scores (
  series         STRING,
  ts             TIMESTAMP_LTZ(3),
  x              DOUBLE,
  anomaly_score  DOUBLE,
  score          DOUBLE,
  channel        STRING
) WITH ('connector' = 'print');

-- The benchmark counts every row above its threshold, so what stands between alarms is 0.
INSERT INTO scores
SELECT series, ts, x, CASE WHEN a.alarm THEN a.score ELSE 0.0 END, a.score, a.channel
FROM (
  SELECT series, ts, x, ANOMALY_SCORE(x) OVER (PARTITION BY series ORDER BY ts) AS a
  FROM readings
);

-- An example that does no harm: it waits for readings on sensors/NAME/reading, such as
--   {"ts":"2026-03-01T12:00:00Z","celsius":3.9}
-- and publishes the mean of each minute to derived/NAME. Change it, or put other files beside it.

CREATE TABLE readings (
  sensor   STRING METADATA FROM 'topic[1]',          -- the second level of the topic, counted from 0
  ts       TIMESTAMP_LTZ(3),                         -- event time: the device's own clock
  celsius  DOUBLE,
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND       -- readings may come five seconds late
) WITH (
  'connector' = 'mqtt', 'topic' = 'sensors/+/reading', 'qos' = '1',
  'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601',
  'scan.watermark.idle-timeout' = '30 s'             -- the last minute closes although the sensors are silent
);

CREATE TABLE means (
  sensor STRING, since TIMESTAMP(3), readings BIGINT, celsius DOUBLE
) WITH (
  'connector' = 'mqtt', 'topic' = 'derived/{sensor}', 'qos' = '1',
  'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601'
);

INSERT INTO means
SELECT sensor, window_start, COUNT(*), AVG(celsius)
FROM TUMBLE(TABLE readings, DESCRIPTOR(ts), INTERVAL '1' MINUTE)
GROUP BY sensor, window_start, window_end;

-- A float switch that chatters: the alarm itself is held back by an off-delay, so that waves give one alarm and not fifty;
-- a second call without delays tells which switch should be looked after.

-- {"ts":"2026-03-01T12:00:00Z","wet":true} on plant/switches/sump-1
CREATE TABLE switches (
  switch  STRING METADATA FROM 'topic[2]',
  ts      TIMESTAMP_LTZ(3),
  wet     BOOLEAN,
  WATERMARK FOR ts AS ts - INTERVAL '1' SECOND
) WITH (
  'connector' = 'mqtt', 'connection' = 'plant', 'topic' = 'plant/switches/+', 'qos' = '1', 'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601', 'scan.watermark.idle-timeout' = '10 s'
);

CREATE TABLE switch_alarms (
  switch   STRING,
  event    STRING,
  at       TIMESTAMP_LTZ(3),
  seconds  DOUBLE
) WITH (
  'connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'alarms/{switch}', 'qos' = '1', 'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601', 'json.id-field' = 'id'
);

CREATE TABLE chattering_switches (
  switch  STRING,
  at      TIMESTAMP_LTZ(3),
  raises  BIGINT
) WITH (
  'connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'maintenance/{switch}', 'qos' = '1', 'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601', 'json.id-field' = 'id'
);

INSERT INTO switch_alarms
SELECT switch, event, at, duration
FROM ALARM(
  TABLE switches PARTITION BY switch, DESCRIPTOR(ts),
  condition => wet, name => 'sump full', on_delay => INTERVAL '2' SECOND, off_delay => INTERVAL '15' SECOND
);

-- Three raises within a minute are chatter: it is told with the third.
INSERT INTO chattering_switches
SELECT switch, at, raises
FROM ALARM(TABLE switches PARTITION BY switch, DESCRIPTOR(ts), condition => wet)
WHERE event = 'raised' AND raises_last_minute = 3;

-- A cold room: too warm for longer than ten minutes, far too warm at once, door open for two minutes. The delay lets a
-- defrost pass; the alarm for the HACCP log stands until somebody has acknowledged it.

-- {"ts":"2026-03-01T12:00:00Z","celsius":3.9,"door":"closed"} on plant/rooms/room-1
CREATE TABLE rooms (
  room     STRING METADATA FROM 'topic[2]',
  ts       TIMESTAMP_LTZ(3),
  celsius  DOUBLE,
  door     STRING,
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH (
  'connector' = 'mqtt', 'connection' = 'plant', 'topic' = 'plant/rooms/+', 'qos' = '1', 'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601',
  'scan.watermark.idle-timeout' = '30 s'          -- delays end although the sensor is silent
);

-- {"command":"acknowledge","alarm":"HI"} or {"command":"shelve","duration":"2 h"} on plant/rooms/room-1/alarm
CREATE TABLE room_commands (
  room      STRING METADATA FROM 'topic[2]',
  command   STRING,
  alarm     STRING,
  duration  STRING
) WITH (
  'connector' = 'mqtt', 'connection' = 'plant', 'topic' = 'plant/rooms/+/alarm', 'qos' = '1', 'format' = 'json'
);

-- The last message of each alarm stays on the broker: a screen that comes later sees how things are.
CREATE TABLE room_alarms (
  room       STRING,
  alarm      STRING,
  severity   STRING,
  event      STRING,
  state      STRING,
  at         TIMESTAMP_LTZ(3),
  raised_at  TIMESTAMP_LTZ(3),
  minutes    DOUBLE,
  celsius    DOUBLE,
  warmest    DOUBLE
) WITH (
  'connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'alarms/{room}/{alarm}', 'qos' = '1', 'retain' = 'true',
  'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601', 'json.id-field' = 'id'
);

INSERT INTO room_alarms
SELECT room, alarm, severity, event, state, at, raised_at, ROUND(duration / 60, 1), `value`, peak
FROM ALARM(
  TABLE rooms PARTITION BY room, DESCRIPTOR(ts),
  value      => celsius,
  high       => 8.0,
  high_high  => 15.0,
  deadband   => 1.0,                               -- cleared below 7 and below 14 degrees
  condition  => door = 'open',
  name       => 'door open',
  on_delay   => MAP['HI', INTERVAL '10' MINUTE, 'door open', INTERVAL '2' MINUTE],
  re_alarm   => MAP['HI', INTERVAL '1' HOUR, 'HIHI', INTERVAL '15' MINUTE],
  latch      => MAP['HI', TRUE, 'HIHI', TRUE],
  severity   => MAP['HI', 'high', 'HIHI', 'critical', 'door open', 'low'],
  commands   => TABLE room_commands
);

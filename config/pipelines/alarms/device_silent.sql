-- Devices that do not report: known to be silent by a timer, also if they have never reported since they were
-- installed. The list of devices is a file, read again when it changes; a device that is taken off it is not missed.

-- {"ts":"2026-03-01T12:00:00Z","battery":87} on sensors/s-17/state
CREATE TABLE device_states (
  device   STRING METADATA FROM 'topic[1]',
  ts       TIMESTAMP_LTZ(3),
  battery  DOUBLE,
  WATERMARK FOR ts AS ts - INTERVAL '10' SECOND
) WITH (
  'connector' = 'mqtt', 'connection' = 'plant', 'topic' = 'sensors/+/state', 'qos' = '1', 'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601',
  'scan.watermark.idle-timeout' = '30 s'          -- time goes on, and begins, although nobody reports
);

CREATE TABLE installed_devices (
  device  STRING,
  site    STRING
) WITH (
  'connector' = 'filesystem', 'format' = 'csv',
  'path' = 'config/pipelines/alarms/devices.csv'      -- from where headwater runs; on a gateway /etc/headwater/devices.csv
);

CREATE TABLE device_alarms (
  device   STRING,
  alarm    STRING,
  event    STRING,
  at       TIMESTAMP_LTZ(3),
  hours    DOUBLE,
  battery  DOUBLE
) WITH (
  'connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'alarms/{device}/{alarm}', 'qos' = '1', 'retain' = 'true',
  'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601', 'json.id-field' = 'id'
);

-- After a start of the gateway each has its hour, and ten minutes more.
INSERT INTO device_alarms
SELECT device, alarm, event, at, ROUND(duration / 3600, 2), `value`
FROM ALARM(
  TABLE device_states PARTITION BY device, DESCRIPTOR(ts),
  value         => battery,
  low           => 15, deadband => 5,
  silent_after  => INTERVAL '1' HOUR,
  grace         => INTERVAL '70' MINUTE,
  expected      => TABLE installed_devices
);

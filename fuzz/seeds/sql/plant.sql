-- A small plant: pumps that report twice a second, cold rooms that report their temperature.
-- Try it with `headwater demo`, or over recorded messages with
--   headwater replay --config config/headwater.toml config/examples/plant.jsonl

-- {"ts":"2026-03-01T12:00:00.500Z","vibration":2.81,"current":14.2} on plant/pumps/pump-1/telemetry
CREATE TABLE pumps (
  pump       STRING METADATA FROM 'topic[2]',     -- the third level of the topic
  ts         TIMESTAMP_LTZ(3),                    -- event time: the device's own clock
  vibration  DOUBLE,                              -- mm/s RMS
  amperes    DOUBLE,
  WATERMARK FOR ts AS ts - INTERVAL '2' SECOND    -- a message may be two seconds late
) WITH (
  'connector' = 'mqtt',
  'connection' = 'plant',
  'topic' = 'plant/pumps/+/telemetry',
  'qos' = '1',
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601',
  'fields.amperes.path' = 'current',
  'scan.watermark.idle-timeout' = '10 s'          -- the last windows close although the plant is silent
);

-- 3.94 on plant/coldrooms/room-1/temperature: no clock on the device, so the arrival counts
CREATE TABLE cold_rooms (
  room     STRING METADATA FROM 'topic[2]',
  at       TIMESTAMP_LTZ(3) METADATA FROM 'timestamp',
  celsius  DOUBLE,
  WATERMARK FOR at AS at - INTERVAL '1' SECOND
) WITH (
  'connector' = 'mqtt',
  'connection' = 'plant',
  'topic' = 'plant/coldrooms/+/temperature',
  'qos' = '1',
  'format' = 'text',
  'scan.watermark.idle-timeout' = '10 s'
);

-- What goes upstream: a summary of each pump, and alerts.
CREATE TABLE pump_summary (
  pump           STRING,
  window_start   TIMESTAMP(3),
  window_end     TIMESTAMP(3),
  readings       BIGINT,
  avg_vibration  DOUBLE,
  max_vibration  DOUBLE,
  max_amperes    DOUBLE
) WITH (
  'connector' = 'mqtt',
  'connection' = 'upstream',
  'topic' = 'derived/{pump}',
  'qos' = '1',
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601'
);

CREATE TABLE alerts (
  device    STRING,
  at        TIMESTAMP(3),
  severity  STRING,
  reading   DOUBLE,
  message   STRING
) WITH (
  'connector' = 'mqtt',
  'connection' = 'upstream',
  'topic' = 'alerts/{device}',
  'qos' = '1',
  'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601',
  'json.id-field' = 'id'                          -- the same on every delivery: receivers can drop repeats
);

CREATE VIEW pump_windows AS
SELECT pump, window_start, window_end,
       COUNT(*) AS readings,
       AVG(vibration) AS avg_vibration,
       MAX(vibration) AS max_vibration,
       MAX(amperes) AS max_amperes
FROM TUMBLE(TABLE pumps, DESCRIPTOR(ts), INTERVAL '10' SECOND)
GROUP BY pump, window_start, window_end;

INSERT INTO pump_summary SELECT * FROM pump_windows;

-- ISO 10816: above 4.5 mm/s a machine of this size should be looked at, above 7.1 it should be stopped.
INSERT INTO alerts
SELECT pump, window_end,
       CASE WHEN avg_vibration > 7.1 THEN 'critical' ELSE 'warning' END,
       avg_vibration,
       'vibration too high over 10 seconds'
FROM pump_windows
WHERE avg_vibration > 4.5;

-- Too warm for a whole minute, looked at every ten seconds: a door that is opened for a moment is no alert.
INSERT INTO alerts
SELECT room, window_end, 'critical', MIN(celsius), 'above 8 degrees for a minute'
FROM HOP(TABLE cold_rooms, DESCRIPTOR(at), INTERVAL '10' SECOND, INTERVAL '1' MINUTE)
GROUP BY room, window_start, window_end
HAVING MIN(celsius) > 8 AND COUNT(*) > 30;

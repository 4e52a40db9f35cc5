-- Rising sequence: a pump whose vibration rises three readings in a row and that then stops, within five minutes.

-- {"ts":"2026-03-01T12:00:00Z","vibration":2.8,"running":true} on plant/pumps/pump-1/state
CREATE TABLE pump_states (
  pump       STRING METADATA FROM 'topic[2]',
  ts         TIMESTAMP_LTZ(3),
  vibration  DOUBLE,
  running    BOOLEAN,
  WATERMARK FOR ts AS ts - INTERVAL '2' SECOND
) WITH (
  'connector' = 'mqtt', 'connection' = 'plant', 'topic' = 'plant/pumps/+/state', 'qos' = '1', 'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601',
  'scan.watermark.idle-timeout' = '10 s'
);

CREATE TABLE pump_failures (
  pump        STRING,
  began       TIMESTAMP_LTZ(3),
  stopped     TIMESTAMP_LTZ(3),
  first_mm_s  DOUBLE,
  last_mm_s   DOUBLE
) WITH (
  'connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'alerts/{pump}/failure', 'qos' = '1', 'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601', 'json.id-field' = 'id'
);

INSERT INTO pump_failures
SELECT pump, began, stopped, first_mm_s, last_mm_s
FROM pump_states MATCH_RECOGNIZE (
  PARTITION BY pump
  ORDER BY ts
  MEASURES
    CALM.ts                AS began,
    STOP.ts                AS stopped,
    CALM.vibration         AS first_mm_s,
    LAST(RISING.vibration) AS last_mm_s
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (CALM RISING{3} STOP) WITHIN INTERVAL '5' MINUTE
  DEFINE
    CALM   AS running,
    RISING AS running AND vibration > PREV(vibration),
    STOP   AS NOT running
);

-- A tank with four limits: HI and LO for the operator, HIHI and LOLO latched until somebody has acknowledged them. The
-- limits of each tank are columns of a registry, a file that is read again when it changes.

-- {"ts":"2026-03-01T12:00:00Z","percent":87.5} on plant/tanks/tank-1/level
CREATE TABLE levels (
  tank     STRING METADATA FROM 'topic[2]',
  ts       TIMESTAMP_LTZ(3),
  percent  DOUBLE,
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH (
  'connector' = 'mqtt', 'connection' = 'plant', 'topic' = 'plant/tanks/+/level', 'qos' = '1', 'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601', 'scan.watermark.idle-timeout' = '30 s'
);

CREATE TABLE tanks (
  tank      STRING,
  low_low   DOUBLE,
  low       DOUBLE,
  high      DOUBLE,
  high_high DOUBLE
) WITH (
  'connector' = 'filesystem', 'format' = 'csv',
  'path' = 'config/pipelines/alarms/tanks.csv'      -- from where headwater runs; on a gateway /etc/headwater/tanks.csv
);

-- {"tank":"tank-1","command":"acknowledge"} on plant/tanks/commands
CREATE TABLE tank_commands (
  tank      STRING,
  command   STRING,
  alarm     STRING,
  duration  STRING,
  until     TIMESTAMP_LTZ(3)
) WITH (
  'connector' = 'mqtt', 'connection' = 'plant', 'topic' = 'plant/tanks/commands', 'qos' = '1', 'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601'
);

CREATE TABLE tank_alarms (
  tank           STRING,
  alarm          STRING,
  event          STRING,
  state          STRING,
  at             TIMESTAMP_LTZ(3),
  seconds        DOUBLE,
  percent        DOUBLE,
  extreme        DOUBLE,
  first_out      BOOLEAN,
  shelved_until  TIMESTAMP_LTZ(3)
) WITH (
  'connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'alarms/{tank}/{alarm}', 'qos' = '1', 'retain' = 'true',
  'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601', 'json.id-field' = 'id'
);

INSERT INTO tank_alarms
SELECT tank, alarm, event, state, at, duration, `value`, peak, first_out, shelved_until
FROM ALARM(
  TABLE (
    SELECT l.tank, l.ts, l.percent, r.low_low, r.low, r.high, r.high_high
    FROM levels AS l JOIN tanks FOR SYSTEM_TIME AS OF l.ts AS r ON l.tank = r.tank
  ) PARTITION BY tank, DESCRIPTOR(ts),
  value     => percent,
  low_low   => low_low, low => low, high => high, high_high => high_high,
  deadband  => 2,                                  -- percent
  on_delay  => MAP['HI', INTERVAL '60' SECOND, 'LO', INTERVAL '60' SECOND],
  latch     => MAP['HIHI', TRUE, 'LOLO', TRUE],
  commands  => TABLE tank_commands
);

-- An energy meter: the average power of a quarter of an hour is above the contracted limit, which is what is paid for;
-- a warning at nine tenths of it; and a meter that has not reported for five minutes.

-- {"ts":"2026-03-01T12:00:00Z","kw":412.5} on plant/meters/main/power
CREATE TABLE meters (
  meter  STRING METADATA FROM 'topic[2]',
  ts     TIMESTAMP_LTZ(3),
  kw     DOUBLE,
  WATERMARK FOR ts AS ts - INTERVAL '10' SECOND
) WITH (
  'connector' = 'mqtt', 'connection' = 'plant', 'topic' = 'plant/meters/+/power', 'qos' = '1', 'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601', 'scan.watermark.idle-timeout' = '1 min'
);

CREATE TABLE meter_alarms (
  meter     STRING,
  alarm     STRING,
  event     STRING,
  at        TIMESTAMP_LTZ(3),
  minutes   DOUBLE,
  kw        DOUBLE,
  greatest  DOUBLE
) WITH (
  'connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'alarms/{meter}/{alarm}', 'qos' = '1', 'retain' = 'true',
  'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601', 'json.id-field' = 'id'
);

-- The readings of an alarm can be the results of windows.
INSERT INTO meter_alarms
SELECT meter, alarm, event, at, duration / 60, `value`, peak
FROM ALARM(
  TABLE (
    SELECT meter, window_time, ROUND(AVG(kw), 1) AS kw
    FROM TUMBLE(TABLE meters, DESCRIPTOR(ts), INTERVAL '15' MINUTE)
    GROUP BY meter, window_start, window_end, window_time
  ) PARTITION BY meter, DESCRIPTOR(window_time),
  value => kw, high => 450, high_high => 500
);

INSERT INTO meter_alarms
SELECT meter, alarm, event, at, duration / 60, `value`, peak
FROM ALARM(
  TABLE meters PARTITION BY meter, DESCRIPTOR(ts),
  value => kw, silent_after => INTERVAL '5' MINUTE
);

-- A filling line under statistical control: implausible readings are left out, and the chart sees a small shift before
-- any bottle is out of its limits.

-- {"ts":"2026-03-01T12:00:00Z","ml":500.4} on plant/lines/line-1/fill
CREATE TABLE fills (
  line  STRING METADATA FROM 'topic[2]',
  ts    TIMESTAMP_LTZ(3),
  ml    DOUBLE,
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH (
  'connector' = 'mqtt', 'connection' = 'plant', 'topic' = 'plant/lines/+/fill', 'qos' = '1', 'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601', 'scan.watermark.idle-timeout' = '10 s'
);

CREATE TABLE fill_shifts (
  line   STRING,
  ts     TIMESTAMP_LTZ(3),
  side   STRING,
  since  BIGINT,
  rules  STRING
) WITH (
  'connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'alerts/{line}/shift', 'qos' = '1', 'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601', 'json.id-field' = 'id'
);

-- A line that is silent for a month is forgotten.
SET 'table.exec.state.ttl' = '30 d';

CREATE VIEW plausible_fills AS
SELECT line, ts, CASE WHEN flag <= 3 THEN ml END AS ml
FROM (
  SELECT line, ts, ml,
    QARTOD_GROSS_RANGE(ml, fail_low => 400, fail_high => 600) OVER (PARTITION BY line ORDER BY ts) AS flag
  FROM fills
);

-- 500 ml with a standard deviation of 0.5; since is how many bottles ago the shift began.
INSERT INTO fill_shifts
SELECT line, ts, c.signal, CASE c.signal WHEN 'HI' THEN c.high_run ELSE c.low_run END, r.rules
FROM (
  SELECT line, ts,
    CUSUM(ml, target => 500, sigma => 0.5, h => 4, restart => TRUE) OVER w AS c,
    CONTROL_RULES(ml, target => 500, sigma => 0.5, rules => 'western electric') OVER w AS r
  FROM plausible_fills WINDOW w AS (PARTITION BY line ORDER BY ts)
)
WHERE c.signal IS NOT NULL;

-- Threshold with re-arm: a tank at 90 % or more is told once, and again only after it has been below 80 %.

-- 87.5 on plant/tanks/tank-1/level: no clock on the device, so the arrival counts
CREATE TABLE tank_levels (
  tank     STRING METADATA FROM 'topic[2]',
  at       TIMESTAMP_LTZ(3) METADATA FROM 'timestamp',
  percent  DOUBLE,
  WATERMARK FOR at AS at - INTERVAL '1' SECOND
) WITH (
  'connector' = 'mqtt', 'connection' = 'plant', 'topic' = 'plant/tanks/+/level', 'qos' = '1', 'format' = 'text',
  'scan.watermark.idle-timeout' = '5 s'
);

CREATE TABLE tanks_full (
  tank     STRING,
  at       TIMESTAMP_LTZ(3),
  percent  DOUBLE
) WITH (
  'connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'alerts/{tank}/full', 'qos' = '1', 'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601', 'json.id-field' = 'id'
);

-- Levels in between say nothing: without them a pattern of two rows is enough, and no row is held for longer.
-- The second alternative is a tank that is full at its first reading.
INSERT INTO tanks_full
SELECT tank, full_at, percent
FROM (SELECT tank, at, percent FROM tank_levels WHERE percent < 80 OR percent >= 90) MATCH_RECOGNIZE (
  PARTITION BY tank
  ORDER BY at
  MEASURES LAST(at) AS full_at, LAST(percent) AS percent
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (LOW HIGH | FULL)
  DEFINE
    LOW  AS percent < 80,
    HIGH AS percent >= 90,
    FULL AS percent >= 90 AND PREV(percent) IS NULL
);

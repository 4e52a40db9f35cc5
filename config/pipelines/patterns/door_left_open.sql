-- Absence: a door that is opened and not closed within two minutes. It is told when the two minutes are over, by time
-- alone: no further message is needed.

-- {"ts":"2026-03-01T12:00:00Z","contact":"open"} on plant/doors/dock-1
CREATE TABLE doors (
  door     STRING METADATA FROM 'topic[2]',
  ts       TIMESTAMP_LTZ(3),
  contact  STRING,
  WATERMARK FOR ts AS ts - INTERVAL '1' SECOND
) WITH (
  'connector' = 'mqtt', 'connection' = 'plant', 'topic' = 'plant/doors/+', 'qos' = '1', 'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601',
  'scan.watermark.idle-timeout' = '10 s'          -- time goes on although all doors are silent
);

CREATE TABLE doors_left_open (
  door     STRING,
  opened   TIMESTAMP_LTZ(3),
  noticed  TIMESTAMP_LTZ(3)
) WITH (
  'connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'alerts/{door}/open', 'qos' = '1', 'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601', 'json.id-field' = 'id'
);

-- {- X*? -} stands for any rows in between, [^CLOSED] for what must not come before the end of WITHIN.
INSERT INTO doors_left_open
SELECT door, opened, noticed
FROM doors MATCH_RECOGNIZE (
  PARTITION BY door
  ORDER BY ts
  MEASURES OPENED.ts AS opened, MATCH_ROWTIME() AS noticed
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (OPENED {- X*? -} [^CLOSED]) WITHIN INTERVAL '2' MINUTE
  DEFINE
    OPENED AS contact = 'open' AND (PREV(contact) IS NULL OR PREV(contact) <> 'open'),
    CLOSED AS contact = 'closed'
);

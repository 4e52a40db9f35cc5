-- Chatter: a contact that changes six times within ten seconds is loose, dirty or at its limit.

-- {"ts":"2026-03-01T12:00:00.120Z","closed":true} on plant/contacts/limit-1
CREATE TABLE contacts (
  contact  STRING METADATA FROM 'topic[2]',
  ts       TIMESTAMP_LTZ(3),
  closed   BOOLEAN,
  WATERMARK FOR ts AS ts - INTERVAL '1' SECOND
) WITH (
  'connector' = 'mqtt', 'connection' = 'plant', 'topic' = 'plant/contacts/+', 'qos' = '1', 'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601',
  'scan.watermark.idle-timeout' = '10 s'
);

CREATE TABLE chatter (
  contact  STRING,
  began    TIMESTAMP_LTZ(3),
  ended    TIMESTAMP_LTZ(3),
  changes  BIGINT
) WITH (
  'connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'alerts/{contact}/chatter', 'qos' = '1',
  'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601', 'json.id-field' = 'id'
);

-- Readings that repeat the state before may come in between.
INSERT INTO chatter
SELECT contact, began, ended, changes
FROM contacts MATCH_RECOGNIZE (
  PARTITION BY contact
  ORDER BY ts
  MEASURES FIRST(CHANGE.ts) AS began, LAST(CHANGE.ts) AS ended, COUNT(CHANGE.closed) AS changes
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (CHANGE (SAME* CHANGE){5}) WITHIN INTERVAL '10' SECOND
  DEFINE
    CHANGE AS closed <> PREV(closed),
    SAME   AS closed = PREV(closed)
);

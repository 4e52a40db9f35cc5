-- Steps of a batch process out of order: fill, heat, mix, drain. And a batch that was begun and is not drained within
-- four hours.

-- {"ts":"2026-03-01T12:00:00Z","batch":"B-17","step":"fill"} on plant/kettles/kettle-1
CREATE TABLE batch_steps (
  kettle  STRING METADATA FROM 'topic[2]',
  ts      TIMESTAMP_LTZ(3),
  batch   STRING,
  step    STRING,
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH (
  'connector' = 'mqtt', 'connection' = 'plant', 'topic' = 'plant/kettles/+', 'qos' = '1', 'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601',
  'scan.watermark.idle-timeout' = '1 min'
);

CREATE TABLE wrong_steps (
  batch   STRING,
  at      TIMESTAMP_LTZ(3),
  before  STRING,
  step    STRING
) WITH (
  'connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'alerts/{batch}/step', 'qos' = '1', 'format' = 'json',
  'json.timestamp-format.standard' = 'ISO-8601', 'json.id-field' = 'id'
);

CREATE TABLE unfinished_batches (
  batch  STRING,
  begun  TIMESTAMP_LTZ(3),
  due    TIMESTAMP_LTZ(3)
) WITH (
  'connector' = 'mqtt', 'connection' = 'upstream', 'topic' = 'alerts/{batch}/unfinished', 'qos' = '1',
  'format' = 'json', 'json.timestamp-format.standard' = 'ISO-8601', 'json.id-field' = 'id'
);

CREATE VIEW numbered_steps AS
SELECT batch, ts, step, CASE step WHEN 'fill' THEN 1 WHEN 'heat' THEN 2 WHEN 'mix' THEN 3 WHEN 'drain' THEN 4 END AS n
FROM batch_steps;

-- Each step is looked at with the one before it, and so belongs to two attempts: the next begins at the second row.
INSERT INTO wrong_steps
SELECT batch, at, before, step
FROM numbered_steps MATCH_RECOGNIZE (
  PARTITION BY batch
  ORDER BY ts
  MEASURES B.ts AS at, A.step AS before, B.step AS step
  ONE ROW PER MATCH
  AFTER MATCH SKIP TO NEXT ROW
  PATTERN (A B)
  DEFINE B AS B.n <> A.n + 1 OR B.n IS NULL
);

INSERT INTO unfinished_batches
SELECT batch, begun, due
FROM numbered_steps MATCH_RECOGNIZE (
  PARTITION BY batch
  ORDER BY ts
  MEASURES FILL.ts AS begun, MATCH_ROWTIME() AS due
  ONE ROW PER MATCH
  AFTER MATCH SKIP PAST LAST ROW
  PATTERN (FILL {- X*? -} [^DRAIN]) WITHIN INTERVAL '4' HOUR
  DEFINE FILL AS step = 'fill', DRAIN AS step = 'drain'
);

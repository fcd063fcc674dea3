SHOW TABLES;

DESCRIBE logs;

DESCRIBE orders.v1;

DESC system.topics;

SHOW COLUMNS FROM logs;

SELECT name, partitions, format, time_field, bucket, retention, max_message_bytes FROM system.topics ORDER BY name;

SELECT * FROM system.partitions WHERE topic = 'logs' ORDER BY partition;

SELECT topic, shard, kind, min_time, max_time, rows, dead_rows, bytes > 0 AS has_bytes FROM system.segments;

SELECT "column", type FROM system.columns WHERE topic = 'orders.v1' AND shown ORDER BY position;

EXPLAIN SELECT status FROM logs WHERE MATCH(message, 'disk OR user') AND http.latency > 0.1 LIMIT 2;

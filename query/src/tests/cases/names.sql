SELECT * FROM logs ORDER BY _time;

SELECT traceId, http.latency, l.http.latency AS again, l.status FROM logs l WHERE l.http.latency >= 0.25 ORDER BY http.latency;

SELECT *, _key FROM logs ORDER BY _offset LIMIT 2;

SELECT l.*, _dead FROM logs AS l WHERE _dead IS NOT NULL;

SELECT a.status, b.*, b._key FROM logs a JOIN logs b ON a.status = b.status + 1 ORDER BY a.status;

SELECT *, a._dead FROM logs a, orders.v1 b WHERE a.status = 200 ORDER BY b._offset;

SELECT total, a FROM orders.v1 ORDER BY total;

SELECT orders.v1.total, v.total FROM orders.v1, orders.v1 v WHERE orders.v1.total = v.total ORDER BY 1;

SELECT x.total FROM (SELECT total FROM orders.v1) x ORDER BY x.total DESC;

WITH orders AS (SELECT 1 AS v1) SELECT orders.v1 FROM orders;

SELECT _offset, _raw FROM logs WHERE _raw LIKE '%/3' OR status = 201 ORDER BY _offset;

SELECT COUNT(*) AS n, Max(status) FROM logs;

SELECT (SELECT max(b.total) FROM orders.v1 b WHERE b._offset = l._offset) AS m, l.traceId FROM logs l ORDER BY l.http.latency DESC LIMIT 1;

SELECT status FROM logs UNION ALL SELECT total FROM orders.v1 ORDER BY status;

SELECT topics.name, system.topics.partitions FROM system.topics ORDER BY topics.name;

SELECT "traceId" FROM "logs" WHERE "http.latency" = 0.5;

SELECT extract(minute FROM _time) AS minute, _time::date AS day FROM logs LIMIT 1;

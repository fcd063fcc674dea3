SELEC 1;

SELECT 1 +;

SELECT status
FROM logs
WHERE statu = 1;

SELECT traceid FROM logs;

SELECT l.http.latenc FROM logs l;

SELECT nothing_like_it FROM logs;

SELECT * FROM
  log;

SELECT * FROM quite_another_name;

SELECT * FROM system.segmets;

SELECT status FROM logs a, logs b;

SELECT 'unterminated FROM logs;

SELECT lenght(message) FROM logs;

SELECT status + message FROM logs GROUP BY 1;

SELECT status, count(*) FROM logs;

SELECT MATCH(status, 'x') FROM logs;

SELECT MATCH(message) FROM logs;

SELECT * FROM logs WHERE MATCH(message, '(disk');

SELECT * FROM logs WHERE MATCH(message, 'a', 'b');

SELECT * FROM logs WHERE MATCH(lower(message), 'a');

SELECT * FROM logs WHERE MATCH(mesage, 'a');

SELECT * FROM logs WHERE status;

SELECT 1 / (status - 200) FROM logs;

SELECT CAST(message AS BIGINT) FROM logs;

SELECT _time > 'yesterday' FROM logs;

INSERT INTO logs VALUES (1);

DELETE FROM logs;

DROP TABLE logs;

CREATE TABLE x AS SELECT 1;

CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd';

COPY logs TO '/tmp/x';

SET a = 1;

SELECT * INTO y FROM logs;

EXPLAIN DELETE FROM logs;

SELECT 1; SELECT 2 ;

SELECT * FROM '/etc/passwd';

SHOW ALL;

DESCRIBE lgos;

TRUNCATE logs;

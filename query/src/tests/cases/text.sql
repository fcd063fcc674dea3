SELECT status FROM logs WHERE MATCH(message, 'logged') ORDER BY status;

SELECT status FROM logs WHERE NOT MATCH(message, 'logged') ORDER BY _offset;

SELECT status, MATCH(message, '"user 42"') AS hit FROM logs ORDER BY _offset;

SELECT status FROM logs WHERE MATCH('dev/sda1') ORDER BY status;

SELECT status FROM logs WHERE MATCH('status:[201 TO 202]') ORDER BY status;

SELECT status FROM logs WHERE MATCH('(disk OR out) AND NOT traceId:t1') ORDER BY status;

SELECT count(*) FROM (SELECT lower(message) AS m FROM logs) WHERE MATCH(m, 'DISK');

SELECT a.status FROM logs a JOIN orders.v1 b ON a._offset = b._offset WHERE MATCH('t1') OR b.total = 10 ORDER BY 1;

SELECT count(*) FROM logs WHERE MATCH('');

SELECT _offset FROM logs WHERE NOT MATCH('status:>=202') ORDER BY _offset;

SELECT _offset, MATCH('status:[202 TO 203] OR nosuch:x') AS hit FROM logs ORDER BY _offset;

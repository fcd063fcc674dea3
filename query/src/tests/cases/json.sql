SELECT json_get('{"a":[1, "x\ty", null, {"b":1.50}]}', 'a', 1) AS text, json_get('[0, 7]', 1) AS number;

SELECT json_get('{"a":[1, "x", null, {"b":1.50}]}', 'a', 3) AS object, json_get('{"a.b":true}', 'a.b') AS dotted;

SELECT json_get('{"a":null}', 'a') AS "null", json_get('[1]', 1) AS missing, json_get('{a}', 'a') AS none;

SELECT json_get('{"' || "traceId" || '":' || status || '}', 't1') AS status FROM logs ORDER BY _offset;

SELECT json_get(message, 'a') AS none, count(*) FROM logs GROUP BY none;

SELECT json_get(message) FROM logs;

SELECT json_get(message, -1) FROM logs;

SELECT json_get(message, traceId) FROM logs;

"""What is asked, by file: a statement for both engines, or one for Stratalog and one for DuckDB.

The table is `t` in both. In DuckDB a dotted field is a column with a dot in its name, so it is quoted; Stratalog reads
quoted names in the same way.
"""

TICKET_LOGS = [
    "SELECT count(*) FROM t",
    "SELECT pod, count(*) FROM t GROUP BY pod",
    "SELECT node, container, count(*), min(trace_id), max(span_id) FROM t GROUP BY node, container",
    "SELECT count(DISTINCT trace_id), count(DISTINCT span_id) FROM t",
    "SELECT count(*) FROM t WHERE message LIKE '%ERROR%' OR message LIKE '%Exception%'",
    "SELECT count(*) FROM t WHERE message NOT LIKE '%TraceID%' AND length(message) > 100",
    "SELECT length(message) AS n, count(*) FROM t GROUP BY n ORDER BY 2 DESC, n LIMIT 25",
    "SELECT trace_id, count(*) AS n FROM t GROUP BY trace_id HAVING count(*) > 20 ORDER BY n DESC, trace_id LIMIT 50",
    (
        "SELECT count(*) FROM t WHERE MATCH(message, '\"Get Route By Id\"')",
        r"SELECT count(*) FROM t WHERE regexp_matches(message, '(?i)(^|[^\p{L}\p{N}])get[^\p{L}\p{N}]+route[^\p{L}\p{N}]+by[^\p{L}\p{N}]+id($|[^\p{L}\p{N}])')",
    ),
    (
        "SELECT date_bin(INTERVAL '1 hour', _time) AS h, count(*) FROM t GROUP BY h",
        "SELECT date_trunc('hour', CAST(timestamp AS TIMESTAMP)) AS h, count(*) FROM t GROUP BY h",
    ),
    "SELECT pod, n FROM (SELECT pod, count(*) AS n, row_number() OVER (ORDER BY count(*) DESC, pod) AS place FROM t "
    "GROUP BY pod) AS ranked WHERE place <= 5",
    "SELECT count(*) FROM t AS a JOIN (SELECT DISTINCT span_id FROM t WHERE message LIKE '%shanghai%') AS b "
    "ON a.span_id = b.span_id",
]

METRICS = [
    "SELECT count(*), min(value), max(value) FROM t",
    'SELECT metric, "group", count(*), min(value), max(value), avg(value), stddev_samp(value) FROM t GROUP BY metric, "group"',
    "SELECT count(*) FROM t WHERE value BETWEEN 10 AND 20 OR value < 0",
    "SELECT metric, sum(value) FROM t WHERE metric LIKE 'ec2%' GROUP BY metric",
    "SELECT count(*) FROM t WHERE value <> round(value)",
    (
        "SELECT metric, date_bin(INTERVAL '1 day', _time) AS d, max(value) FROM t GROUP BY metric, d",
        "SELECT metric, date_trunc('day', CAST(timestamp AS TIMESTAMP)) AS d, max(value) FROM t GROUP BY metric, d",
    ),
    "SELECT metric, value FROM t ORDER BY value DESC, metric LIMIT 40",
    "SELECT count(*) FROM (SELECT metric, value - lag(value) OVER (PARTITION BY metric ORDER BY timestamp, value) AS step "
    "FROM t) AS steps WHERE abs(step) > 100",
]

ZEEK_DNS = [
    'SELECT "id.resp_p", count(*) FROM t GROUP BY "id.resp_p"',
    "SELECT qtype_name, rcode_name, count(*), sum(trans_id), count(rtt) FROM t GROUP BY qtype_name, rcode_name",
    'SELECT "id.orig_h", count(*) AS n FROM t GROUP BY "id.orig_h" ORDER BY n DESC, "id.orig_h" LIMIT 50',
    "SELECT count(*) FROM t WHERE answers IS NULL",
    "SELECT count(*) FROM t WHERE NOT rejected AND rtt > 0.01",
    "SELECT count(*) FROM t WHERE rtt IS NULL OR rtt < 0.0005",
    "SELECT sum(rtt), avg(rtt), max(rtt) FROM t",
    "SELECT lower(query) AS q, count(*) AS n FROM t GROUP BY q ORDER BY n DESC, q LIMIT 100",
    "SELECT count(*) FROM t WHERE query LIKE '%.edu' AND qtype_name IN ('A', 'AAAA')",
    "SELECT \"AA\", \"TC\", \"RD\", \"RA\", count(*) FROM t GROUP BY \"AA\", \"TC\", \"RD\", \"RA\"",
    'SELECT count(*) FROM t WHERE "id.orig_p" % 2 = 0 AND "Z" IS NOT DISTINCT FROM 0',
]

ZEEK_SSL = [
    "SELECT version, cipher, count(*) FROM t GROUP BY version, cipher",
    "SELECT count(*) FROM t WHERE established AND NOT resumed AND server_name IS NOT NULL",
    "SELECT server_name, count(*) AS n FROM t GROUP BY server_name ORDER BY n DESC, server_name NULLS LAST LIMIT 100",
    "SELECT count(*) FROM t WHERE version IS DISTINCT FROM 'TLSv12'",
    "SELECT validation_status, count(*), count(DISTINCT uid) FROM t GROUP BY validation_status",
    "SELECT coalesce(next_protocol, 'none') AS p, count(*) FROM t GROUP BY p",
    'SELECT "id.resp_p", sum(CASE WHEN established THEN 1 ELSE 0 END), count(*) FROM t GROUP BY "id.resp_p"',
]

TEXT = [
    "SELECT count(*), min(message), max(message), sum(length(message)) FROM t",
    "SELECT count(*) FROM t WHERE message LIKE '%[_]%' OR message LIKE '%404%'",
    "SELECT count(DISTINCT message) FROM t",
    "SELECT substr(message, 1, 12) AS s, count(*) AS n FROM t GROUP BY s ORDER BY n DESC, s LIMIT 50",
    "SELECT upper(message) AS m FROM t ORDER BY length(message) DESC, m LIMIT 5",
    (
        "SELECT count(*) FROM t WHERE MATCH('error')",
        r"SELECT count(*) FROM t WHERE regexp_matches(message, '(?i)(^|[^\p{L}\p{N}])error($|[^\p{L}\p{N}])')",
    ),
]

# File, format, time field, statements.
FILES = [
    ("trainticket-logs.ndjson.zst", "json", "timestamp", TICKET_LOGS),
    ("nab-metrics.ndjson.zst", "json", "timestamp", METRICS),
    ("zeek-dns.ndjson.gz", "json", "ts", ZEEK_DNS),
    ("zeek-ssl.ndjson.gz", "json", "ts", ZEEK_SSL),
    ("kafka-broker.log.gz", "text", None, TEXT),
    ("apache-access.log.gz", "text", None, TEXT),
]

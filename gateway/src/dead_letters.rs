//! Why records became no rows: one statement for every protocol.

use stratalog_proto::Error;
use stratalog_proto::config::check_topic_name;

/// The SQL statement that says why records of a topic are dead letters: `reason`, `count`, `oldest`, `newest`, and of the
/// newest one `partition`, `offset` and `example`, its own reason. Reasons that differ only in a value or in a position
/// are one. The most frequent comes first.
///
/// ```
/// let sql = stratalog_gateway::dead_letter_reasons("logs", 50).unwrap();
/// assert!(sql.contains(r#"FROM "logs" WHERE _dead IS NOT NULL"#));
/// ```
///
/// # Errors
/// [`stratalog_proto::Code::InvalidTopicName`].
pub fn dead_letter_reasons(topic: &str, limit: u32) -> Result<String, Error> {
    check_topic_name(topic)?;
    let newest = |column: &str| format!("last_value({column} ORDER BY _time, _partition, _offset)");
    let (partition, offset, example) = (newest("_partition"), newest("_offset"), newest("_dead"));
    Ok(format!(
        r#"SELECT regexp_replace(regexp_replace(_dead, '(?s)holds .*, which', 'holds …, which'), '(byte|line|column|character|position|index) [0-9]+', '\1 …', 'g') AS reason,
  count(*) AS count, min(_time) AS oldest, max(_time) AS newest,
  {partition} AS "partition", {offset} AS "offset", {example} AS example
FROM "{topic}" WHERE _dead IS NOT NULL GROUP BY 1 ORDER BY count DESC, reason LIMIT {limit}"#
    ))
}

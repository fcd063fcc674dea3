//! Values for `$1`, `$2`, … of a statement.

use arrow::util::pretty::pretty_format_batches;
use stratalog_proto::{Code, Error};

use super::fixture::{Fixture, Place};
use super::rows::Row;
use crate::{Parameter, SqlRequest};

fn fixture() -> Fixture {
    let fixture = Fixture::new();
    fixture.topic("logs");
    let row = |n: u64| Row::new(0, n, n as i64 * 1_000).int("x", n as i64 - 5).text("s", format!("word{n} it's"));
    let rows: Vec<Row> = (0..10).map(row).collect();
    fixture.add("logs", Place::Sealed, &rows);
    fixture
}

/// The values of the one column of the answer, joined.
async fn ask(fixture: &Fixture, sql: &str, parameters: &[Parameter]) -> Result<String, Error> {
    let request = SqlRequest { sql: sql.to_owned(), parameters: parameters.to_vec(), ..SqlRequest::default() };
    let batches = fixture.engine.sql(request).await?.collect().await?;
    let table = pretty_format_batches(&batches).unwrap().to_string();
    let values = table.lines().skip(3).filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    Ok(values.map(str::trim).collect::<Vec<_>>().join(","))
}

#[tokio::test]
async fn parameters_stand_wherever_a_value_does() {
    use Parameter::{Bigint, Boolean, Double, Null, Text, Timestamp};
    let fixture = fixture();
    let cases: &[(&str, &[Parameter], &str)] = &[
        ("SELECT x FROM logs WHERE x = $1", &[Bigint(-3)], "-3"),
        ("SELECT x FROM logs WHERE -x = -$1", &[Bigint(-3)], "-3"),
        ("SELECT count(*) FROM logs WHERE x > $1 AND x < $2", &[Double(-1.5), Double(2.0)], "3"),
        ("SELECT x FROM logs WHERE s = $1 OR s = $1", &[Text("word7 it's".into())], "2"),
        ("SELECT x FROM logs WHERE s LIKE $1", &[Text("word7%".into())], "2"),
        ("SELECT x FROM logs WHERE MATCH(s, $1)", &[Text("word7".into())], "2"),
        ("SELECT x FROM logs WHERE _time = $1", &[Timestamp(7_000)], "2"),
        ("SELECT x FROM logs WHERE x IN ($2, $1) ORDER BY x LIMIT $3", &[Bigint(4), Bigint(3), Bigint(1)], "3"),
        ("SELECT count(*) FROM logs WHERE $1", &[Boolean(true)], "10"),
        ("SELECT count(*) FROM logs WHERE x = $1", &[Null], "0"),
        ("SELECT $1 + 1", &[Bigint(41)], "42"),
        ("SELECT arrow_typeof($1)", &[Double(5.0)], "Float64"),
        ("SELECT $1", &[Bigint(i64::MIN)], "-9223372036854775808"),
        ("SELECT $1", &[Bigint(i64::MAX)], "9223372036854775807"),
        ("SELECT $1 > 1e308", &[Double(f64::INFINITY)], "true"),
        ("SELECT $1", &[Text("'; DROP TABLE logs; -- $1".into())], "'; DROP TABLE logs; -- $1"),
    ];
    for (sql, parameters, expected) in cases {
        let answer = ask(&fixture, sql, parameters).await;
        assert_eq!(answer.as_deref(), Ok(*expected), "{sql} {parameters:?}");
    }
}

#[tokio::test]
async fn x1_a_parameter_named_many_times_is_refused() {
    let fixture = fixture();
    let text = Parameter::Text("x".repeat(700 << 10));
    let many = format!("SELECT 1 WHERE 'a' IN ({})", vec!["$1"; 80_000].join(","));
    let error = ask(&fixture, &many, std::slice::from_ref(&text)).await.unwrap_err();
    assert!(error.code == Code::InvalidSql && error.message.contains("so often"), "{error}");
    assert_eq!(ask(&fixture, "SELECT length($1) + length($1) AS n", &[text]).await.unwrap(), (1400 << 10).to_string());
    let short = [Parameter::Text("word7 it's".into())];
    let several = format!("SELECT x FROM logs WHERE s IN ({})", vec!["$1"; 10_000].join(","));
    assert_eq!(ask(&fixture, &several, &short).await.unwrap(), "2");
}

#[tokio::test]
async fn a_kill_takes_no_parameters() {
    let error = ask(&fixture(), "KILL QUERY 'x'", &[Parameter::Null]).await.unwrap_err();
    assert!(error.message.contains("takes no parameters"), "{error}");
}

#[tokio::test]
async fn as_many_parameters_are_sent_as_are_named() {
    let fixture = fixture();
    let cases: &[(&str, usize, &str)] = &[
        ("SELECT $1", 0, "names $1, and 0 parameters"),
        ("SELECT $2", 1, "names $2, and 1 parameters"),
        ("SELECT 1", 1, "up to $0, and 1 were sent"),
        ("SELECT $1", 2, "up to $1, and 2 were sent"),
        ("SELECT $0", 1, "`$0` is not a parameter"),
        ("SELECT $a", 1, "`$a` is not a parameter"),
        ("SELECT $1", 1_001, "more than 1000"),
    ];
    for (sql, count, what) in cases {
        let error = ask(&fixture, sql, &vec![Parameter::Bigint(1); *count]).await.unwrap_err();
        assert!(error.code == Code::InvalidSql && error.message.contains(what), "{sql}: {error}");
    }
}

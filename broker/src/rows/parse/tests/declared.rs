//! Columns that a topic declares.

use stratalog_proto::config::ColumnType;

use super::*;

fn declared(columns: &str) -> TopicConfig {
    let mut config = TopicConfig::default();
    config.set("columns", columns).unwrap();
    config
}

#[test]
fn a_declared_column_has_its_type_whatever_the_values_look_like() {
    let time = "2026-01-31T23:59:59Z";
    let cases: &[(&str, &[&str], &str)] = &[
        ("a boolean", &[r#"{"a":true}"#, r#"{"a":"False"}"#, "{}"], "a: Boolean true | false | -"),
        ("a bigint", &[r#"{"a":1}"#, r#"{"a":2.0}"#, r#"{"a":"-3"}"#, r#"{"a":"4e2"}"#], "a: Int64 1 | 2 | -3 | 400"),
        ("a double", &[r#"{"a":1}"#, r#"{"a":"2.5"}"#, r#"{"a":1e300}"#], "a: Float64 1.0 | 2.5 | 1e300"),
        ("a double", &[r#"{"a":18446744073709551615}"#], "a: Float64 1.8446744073709552e19"),
        ("a double", &[r#"{"a":9007199254740993}"#], "a: Float64 9007199254740992.0"),
        ("a text", &[r#"{"a":1}"#, r#"{"a":1.50}"#, r#"{"a":true}"#, r#"{"a":"x"}"#], "a: Utf8 1 | 1.50 | true | x"),
        ("a text", &[r#"{"a":18446744073709551615}"#, r#"{"a":[1]}"#], "a: Utf8 18446744073709551615 | [1]"),
        ("a text", &[r#"{"a":7}"#], "a: Utf8 7"),
        ("a text", &[r#"{"a":{"b": 1}}"#, r#"{"a":{}}"#], r#"a: Utf8 {"b": 1} | {}"#),
        ("a.b bigint", &[r#"{"a":{"b":"1","c":"1"}}"#, r#"{"a.b":2}"#], "a.b: Int64 1 | 2\na.c: Utf8 1 | -"),
        (
            "a timestamp",
            &[r#"{"a":1769903999}"#, r#"{"a":"2026-01-31 23:59:59"}"#, r#"{"a":"1769903999000"}"#, r#"{"a":null}"#],
            &format!("a: Timestamp(ns, \"UTC\") {time} | {time} | {time} | -"),
        ),
        ("a bigint", &[r#"{"a":"x","a":1}"#], "a: Int64 1"),
        ("a bigint", &[r#"{"a":1,"b":"x"}"#, r#"{"b":1}"#], "a: Int64 1 | -\nb: Utf8 x | 1"),
    ];
    for (columns, input, expected) in cases {
        let rows = rows_with(&declared(columns), input);
        assert_eq!(dead(&rows), vec![None; input.len()], "{columns} {input:?}");
        assert_eq!(shown(&rows), *expected, "{columns}");
    }
}

#[test]
fn a_value_that_does_not_fit_makes_its_record_dead_with_column_value_and_type() {
    let cases = [
        ("a boolean", r#"{"a":1}"#, "column `a` holds 1, which is no boolean"),
        ("a bigint", r#"{"a":"soon"}"#, "column `a` holds `soon`, which is no bigint"),
        ("a bigint", r#"{"a":2.5}"#, "column `a` holds 2.5, which is no bigint"),
        ("a bigint", r#"{"a":true}"#, "column `a` holds true, which is no bigint"),
        ("a bigint", r#"{"a":9223372036854775808}"#, "column `a` holds `9223372036854775808`, which is no bigint"),
        ("a bigint", r#"{"a":[1]}"#, "column `a` holds `[1]`, which is no bigint"),
        ("a bigint", r#"{"a":{"b":1}}"#, "column `a` holds `{\"b\":1}`, which is no bigint"),
        ("a double", r#"{"a":1e400}"#, "column `a` holds `1e400`, which is no double"),
        ("a double", r#"{"a":"NaN"}"#, "column `a` holds `NaN`, which is no double"),
        ("a timestamp", r#"{"a":"soon"}"#, "column `a` holds `soon`, which is no timestamp"),
        ("a timestamp", r#"{"a":"1601-01-01"}"#, "column `a` holds `1601-01-01`, which is not within 1970 to 2262"),
        ("a.b bigint", r#"{"a":{"b":"x"}}"#, "column `a.b` holds `x`, which is no bigint"),
        ("a text not null", "{}", "column `a` is missing, and it is declared NOT NULL"),
        ("a text not null", r#"{"a":null}"#, "column `a` is missing, and it is declared NOT NULL"),
        ("a text not null", r#"{"a":"x","a":null}"#, "column `a` is missing, and it is declared NOT NULL"),
    ];
    for (columns, value, reason) in cases {
        let rows = rows_with(&declared(columns), &[value]);
        assert_eq!(dead(&rows), [Some(reason.to_owned())], "{columns} {value}");
        assert_eq!(shown(&rows), "", "a dead row leaves nothing behind");
    }
}

#[test]
fn declared_columns_are_there_behind_any_number_of_others() {
    let wide = (0..3 * MAX_COLUMNS).map(|n| format!("\"k{n}\":{{\"x\":{n}}}")).collect::<Vec<_>>().join(",");
    let config = declared("late.b bigint, late.c text, z double");
    let rows = rows_with(&config, &[&format!("{{{wide},\"late\":{{\"b\":\"7\",\"c\":1.0}},\"z\":2}}")]);
    assert_eq!(dead(&rows), [None]);
    assert_eq!(rows.num_columns() - system_fields().len(), MAX_COLUMNS - 3 + 3 + 1);
    let value = |name| values(rows.column_by_name(name).unwrap());
    assert_eq!((value("late.b"), value("late.c"), value("z")), ("7".to_owned(), "1.0".to_owned(), "2.0".to_owned()));
}

#[test]
fn the_time_field_may_be_declared_with_any_type_that_holds_it() {
    for (columns, expected) in [
        ("ts timestamp", "ts: Timestamp(ns, \"UTC\") 2026-01-31T23:59:59Z"),
        ("ts text", "ts: Utf8 1769903999"),
        ("ts bigint", "ts: Int64 1769903999"),
    ] {
        let config = TopicConfig { time_field: Some("ts".to_owned()), ..declared(columns) };
        let rows = rows_with(&config, &[r#"{"ts":1769903999}"#]);
        let time = rows.column_by_name(system::TIME).unwrap().as_primitive::<TimestampNanosecondType>().value(0);
        assert_eq!((dead(&rows), shown(&rows)), (vec![None], expected.to_owned()));
        assert_eq!(time, 1_769_903_999_000_000_000);
    }
}

/// What a value is in a declared column, as the oracle sees it: null, a value by its text, or an error.
fn expected(value: &Json, column_type: ColumnType) -> Result<Option<String>, ()> {
    let number = match value {
        Json::Number(number) => Some(number.clone()),
        Json::String(text) if text.trim() == text => serde_json::from_str(text).ok(),
        _ => None,
    };
    // serde_json reads a float from text in one rounding too many.
    let float = |number: &serde_json::Number| match value {
        Json::String(text) => text.parse::<f64>().ok(),
        _ => number.as_f64(),
    };
    let whole = |float: f64| float.fract() == 0.0 && (-9.3e18..9.3e18).contains(&float);
    let text = match (value, column_type) {
        (Json::Null, _) => return Ok(None),
        (Json::String(text), ColumnType::Text) => Some(text.clone()),
        (other, ColumnType::Text) => Some(other.to_string()),
        (Json::Bool(value), ColumnType::Boolean) => Some(value.to_string()),
        (Json::String(text), ColumnType::Boolean) => {
            Some(text.to_ascii_lowercase()).filter(|text| ["true", "false"].contains(&text.as_str()))
        }
        (_, ColumnType::Bigint) => number.and_then(|number| {
            let float = float(&number).filter(|float| whole(*float)).map(|float| float as i128);
            let whole = number.as_i64().map(i128::from).or(float.filter(|_| !number.is_u64()));
            whole.and_then(|whole| i64::try_from(whole).ok()).map(|whole| whole.to_string())
        }),
        (_, ColumnType::Double) => number.and_then(|number| float(&number)).map(|float| float.to_string()),
        _ => None,
    };
    text.map(Some).ok_or(())
}

fn any_value() -> impl Strategy<Value = Json> {
    let written = any_json().prop_map(|value| Json::String(value.to_string()));
    prop_oneof![3 => any_json(), 1 => written, 1 => "(?i)true|false|[0-9]{1,3}".prop_map(Json::from)]
}

proptest! {
    #[test]
    fn a_value_of_a_declared_column_is_converted_or_refused(
        value in any_value(),
        column_type in prop::sample::select(vec!["boolean", "bigint", "double", "text"]),
    ) {
        let rows = rows_with(&declared(&format!("a {column_type}")), &[&json!({"a": value}).to_string()]);
        let reason = dead(&rows).remove(0);
        let shown = rows.column_by_name("a").map(|column| match column.as_primitive_opt::<Float64Type>() {
            Some(floats) => floats.value(0).to_string(),
            None => values(column),
        });
        match expected(&value, ColumnType::parse(column_type).unwrap()) {
            Err(()) => prop_assert!(reason.is_some(), "{value} became {shown:?}"),
            Ok(expected) => {
                prop_assert_eq!(reason, None);
                prop_assert_eq!(shown, expected, "{}", value);
            }
        }
    }
}

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;

fn check(text: &str, expected: Expect) {
    let shown = match parse(text) {
        Ok(query) => query.to_string(),
        Err(error) => format!("{}: {}", error.position, error.message),
    };
    expected.assert_eq(&shown);
}

#[test]
fn words_next_to_each_other_are_all_wanted() {
    check("", expect!["*"]);
    check("  \t ", expect!["*"]);
    check("*", expect!["*"]);
    check("*:*", expect!["*"]);
    check("disk full", expect!["(disk AND full)"]);
    check("disk && full AND now", expect!["(disk AND full AND now)"]);
    check("and or not", expect!["(and AND or AND not)"]);
}

#[test]
fn and_binds_closer_than_or_and_not_closest() {
    check("a OR b c", expect!["(a OR (b AND c))"]);
    check("a b || NOT c AND d", expect!["((a AND b) OR (NOT c AND d))"]);
    check("(a OR b) c", expect!["((a OR b) AND c)"]);
    check("-a !b NOT c +d", expect!["(NOT a AND NOT b AND NOT c AND d)"]);
    check("NOT (a OR b)", expect!["NOT (a OR b)"]);
    check("NOT NOT a", expect!["NOT NOT a"]);
}

#[test]
fn columns_apply_to_what_follows_and_to_groups() {
    check("level:error host:web-1", expect!["(level:error AND host:web-1)"]);
    check(r#"message:"disk full""#, expect![[r#"message:"disk full""#]]);
    check("level:(error OR warn)", expect!["(level:error OR level:warn)"]);
    check("a:(b c:d -e)", expect!["(a:b AND c:d AND NOT a:e)"]);
    check("http.status:500", expect!["http.status:500"]);
    check("@timestamp:2024", expect!["@timestamp:2024"]);
    check(r"my\ column:x", expect![[r"my\ column:x"]]);
    check(r"\=:a", expect![[r"\=:a"]]);
    check("temp:-5", expect![[r"temp:\-5"]]);
}

#[test]
fn colons_of_times_addresses_urls_and_paths_name_no_column() {
    check("10.0.0.1:8080", expect![[r"10.0.0.1\:8080"]]);
    check("12:30:45", expect![[r"12\:30\:45"]]);
    check("https://a.b/c", expect![[r"https\://a.b/c"]]);
    check("std::vec", expect![[r"std\:\:vec"]]);
    check("time:12:30:45", expect![[r"time:12\:30\:45"]]);
}

#[test]
fn prefixes_and_existence() {
    check("conn*", expect!["conn*"]);
    check("host:web-*", expect!["host:web-*"]);
    check("host:*", expect!["_exists_:host"]);
    check("_exists_:http.status", expect!["_exists_:http.status"]);
    check(r#"_exists_:("a b" OR c)"#, expect![[r"(_exists_:a\ b OR _exists_:c)"]]);
    check("NOT _exists_:user", expect!["NOT _exists_:user"]);
}

#[test]
fn ranges_and_comparisons() {
    check("status:[400 TO 499]", expect![[r#"(status:>="400" AND status:<="499")"#]]);
    check("status:{400 TO 500}", expect![[r#"(status:>"400" AND status:<"500")"#]]);
    check("status:[500 TO *]", expect![[r#"status:>="500""#]]);
    check("status:{* TO 0}", expect![[r#"status:<"0""#]]);
    check("status:[* TO *]", expect!["_exists_:status"]);
    check(
        r#"_time:["2024-01-01 00:00" TO 2024-01-02T00:00:00Z}"#,
        expect![[r#"(_time:>="2024-01-01 00:00" AND _time:<"2024-01-02T00:00:00Z")"#]],
    );
    check("status:>=500 ms:<1.5", expect![[r#"(status:>="500" AND ms:<"1.5")"#]]);
    check("t:>-5", expect![[r#"t:>"-5""#]]);
    check("status:(>500 OR 404)", expect![[r#"(status:>"500" OR status:404)"#]]);
}

#[test]
fn escapes_and_quotes() {
    check(r"a\ b", expect![[r"a\ b"]]);
    check(r"C\:\\Users", expect![[r"C\:\\Users"]]);
    check(r#""say \"hi\" to C:\new""#, expect![[r#""say \"hi\" to C:\\new""#]]);
    check(r"\AND", expect![[r"\AND"]]);
    check(r"what\?", expect![[r"what\?"]]);
    check(r#"a"b"c"#, expect![[r#"(a AND "b" AND c)"#]]);
    check("f(x)", expect!["(f AND x)"]);
    check("/api/v1/users", expect![[r"\/api/v1/users"]]);
}

#[test]
fn what_is_not_supported_says_so() {
    check("roam~", expect!["4: fuzzy search (~) is not supported; write \\~ to search for the text"]);
    check("roam~2", expect!["4: fuzzy search (~) is not supported; write \\~ to search for the text"]);
    check(r#""a b"~3"#, expect!["5: '~' after a phrase (distance) is not supported; remove it"]);
    check(
        "a^4",
        expect!["1: boosts (^) are not supported: answers are ordered by time; write \\^ to search for the text"],
    );
    check("(a b)^4", expect!["5: '^' after a group (boost) is not supported: answers are ordered by time; remove it"]);
    check(
        "m:/err.*/",
        expect![
            "2: regular expressions are not supported; quote the text to search for a path, or use SQL's ~ operator"
        ],
    );
    check(
        "te*t",
        expect![
            "2: the wildcard '*' is supported only as a '*' at the end of a word; write \\* to search for the text"
        ],
    );
    check(
        "*ing",
        expect![
            "0: the wildcard '*' is supported only as a '*' at the end of a word; write \\* to search for the text"
        ],
    );
    check(
        "te?t",
        expect![
            "2: the wildcard '?' is supported only as a '*' at the end of a word; write \\? to search for the text"
        ],
    );
    check(
        r#""a b"*"#,
        expect!["5: '*' after a phrase is not supported; only a single word can be open, as in connect*"],
    );
    check("[1 TO 2]", expect!["0: a range needs a column, as in status:[400 TO 499]; quote the text to search for it"]);
}

#[test]
fn mistakes_are_named_where_they_are() {
    check("(a", expect!["0: this '(' is not closed; write \\( to search for it"]);
    check("a)", expect!["1: this ')' closes nothing; write \\) to search for it"]);
    check("é \"a", expect!["3: this quote is not closed; write \\\" to search for a quote"]);
    check("()", expect!["1: something to search for is missing here"]);
    check("a AND", expect!["5: something to search for is missing here"]);
    check("OR a", expect!["0: an operator stands between two things to search for; quote it to search for it"]);
    check("a AND OR b", expect!["6: an operator stands between two things to search for; quote it to search for it"]);
    check("Error: disk", expect![[r#"6: column 'Error' has no value here; quote "Error:" to search for that text"#]]);
    check("a - b", expect!["2: this has no letter or digit, and only those can be searched for; remove it"]);
    check("a:\"--\"", expect!["2: this has no letter or digit, and only those can be searched for; remove it"]);
    check("s:[1 2]", expect!["5: a range is written [low TO high], with * for an open end"]);
    check("s:[1 TO 2", expect!["2: this range is not closed; it ends with ] or }"]);
    check("s:[ TO 2]", expect!["4: an end of the range is missing; write * for an open end"]);
    check("s:>", expect!["3: a value has to follow '>' directly, as in s:>500"]);
    check("a\\", expect!["1: a backslash at the end escapes nothing; write \\\\ for a backslash"]);
    check("_exists_:a*", expect!["10: wildcards in column names are not supported; name the column"]);
}

#[test]
fn depth_length_and_clauses_are_bounded() {
    let nested = |n: usize| format!("{}a{}", "(".repeat(n), ")".repeat(n));
    assert!(parse(&nested(MAX_DEPTH)).is_ok());
    assert_eq!(parse(&nested(MAX_DEPTH + 1)).unwrap_err().position, MAX_DEPTH + 1);
    assert!(parse(&format!("{}a", "!".repeat(10_000))).is_err());
    assert!(parse(&"a ".repeat(MAX_CLAUSES)).is_ok());
    assert!(parse(&"a ".repeat(MAX_CLAUSES + 1)).is_err());
    assert!(parse(&"a".repeat(MAX_QUERY_BYTES + 1)).is_err());
}

/// Texts made of what the grammar gives a meaning to.
fn soup() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a",
        "bc",
        "é",
        "1",
        " ",
        " ",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "\\",
        "*",
        "?",
        "~",
        "^",
        ":",
        "-",
        "+",
        "!",
        "&&",
        "||",
        "AND ",
        " OR ",
        "NOT ",
        " TO ",
        ">",
        "<",
        "=",
        "/",
        "_exists_:",
        "f:",
        ".",
        "\u{3000}",
    ]);
    prop::collection::vec(piece, 0..16).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_text_parses_or_is_refused_at_a_position_within_it(text in prop_oneof![soup(), any::<String>()]) {
        if let Err(error) = parse(&text) {
            prop_assert!(text.is_char_boundary(error.position), "{} in {text:?}", error.position);
        }
    }

    #[test]
    fn a_query_shown_parses_to_itself(text in soup()) {
        if let Ok(query) = parse(&text) {
            prop_assert_eq!(parse(&query.to_string()), Ok(query));
        }
    }
}

//! Logs of servers, as lines.

use std::collections::BTreeMap;

use super::tools::grep;
use super::{Loaded, counted, found, has_word, lines};

#[test]
fn kafka_broker_log_as_text() {
    let Some(lines) = lines("kafka-broker.log.gz") else { return };
    let count = |holds: &dyn Fn(&str) -> bool| lines.iter().filter(|line| holds(line)).count();
    let rebalance = "need to trigger partition rebalance";
    let phrase = count(&|line| line.to_lowercase().contains(rebalance));
    if let Some(said) = grep(&["--ignore-case", "--fixed-strings", rebalance], &lines) {
        assert_eq!(said, phrase, "grep says otherwise");
    }
    Loaded::new(&lines, &["--format", "text"]).check(&["t"], |node| {
        let debug = count(&|line| line.contains("DEBUG"));
        assert_eq!(node.value("SELECT count(*) FROM t WHERE message LIKE '%DEBUG%'"), debug);
        assert_eq!(node.value(&format!("SELECT count(*) FROM t WHERE MATCH('\"{rebalance}\"')")), phrase);
        assert_eq!(found(node, "t", &format!("\"{rebalance}\"")), phrase.min(10_000));
        for word in ["IOException", "at", "Controller", "WARN"] {
            let expected = count(&|line| has_word(line, word));
            assert_eq!(node.value(&format!("SELECT count(*) FROM t WHERE MATCH('{word}')")), expected, "{word}");
        }
        let prefix = count(&|line| {
            line.to_lowercase().split(|c: char| !c.is_alphanumeric()).any(|part| part.starts_with("partition"))
        });
        assert_eq!(node.value("SELECT count(*) FROM t WHERE MATCH('partition*')"), prefix);
        let level = r"regexp_match(message, '^\[[^\]]*\] ([A-Z]+) ')[1]";
        let counts = counted(node, &format!("SELECT {level} AS level, count(*) AS n FROM t GROUP BY 1"));
        assert_eq!(counts, levels(&lines));
        assert_eq!(node.value("SELECT count(*) FROM t WHERE btrim(message) = ''"), 0);
    });
}

/// Lines by the word behind the time in brackets.
fn levels(lines: &[String]) -> BTreeMap<String, u64> {
    let mut levels = BTreeMap::new();
    for line in lines {
        let rest = line.strip_prefix('[').and_then(|line| line.split_once("] ")).map(|(_, rest)| rest);
        let word = rest.and_then(|rest| rest.split_once(' ')).map(|(word, _)| word);
        let level = word.filter(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase()));
        *levels.entry(level.unwrap_or("null").to_owned()).or_default() += 1;
    }
    levels
}

/// What the combined format of web servers says: client, time, request, status, bytes, referrer, agent.
fn access(line: &str) -> (&str, &str, u64) {
    let quoted: Vec<&str> = line.split('"').collect();
    let status = quoted[2].split_whitespace().next().unwrap().parse().unwrap();
    (line.split(' ').next().unwrap(), quoted[1], status)
}

#[test]
fn apache_access_log_as_text() {
    let Some(lines) = lines("apache-access.log.gz") else { return };
    let count = |holds: &dyn Fn(&str) -> bool| lines.iter().filter(|line| holds(line)).count();
    let not_found = count(&|line| access(line).2 == 404);
    if let Some(said) = grep(&["\" 404 "], &lines) {
        assert_eq!(said, not_found, "grep says otherwise");
    }
    Loaded::new(&lines, &["--format", "text"]).check(&["t"], |node| {
        assert_eq!(node.value("SELECT count(*) FROM t WHERE message LIKE '%\" 404 %'"), not_found);
        let bots = count(&|line| has_word(line, "Googlebot"));
        assert_eq!(node.value("SELECT count(*) FROM t WHERE MATCH('googlebot')"), bots);
        let client = access(&lines[0]).0;
        let of_client = count(&|line| line.contains(client));
        assert_eq!(node.value(&format!("SELECT count(*) FROM t WHERE MATCH('{client}')")), of_client);
        let posts = count(&|line| access(line).1.starts_with("POST "));
        assert_eq!(node.value("SELECT count(*) FROM t WHERE message LIKE '%\"POST %'"), posts);
    });
}

#[test]
fn apache_access_log_taken_apart() {
    let Some(lines) = lines("apache-access.log.gz") else { return };
    // One line of the file ends within the quotes of its last field.
    let (whole, cut): (Vec<&String>, Vec<&String>) = lines.iter().partition(|line| line.matches('"').count() % 2 == 0);
    let mut by_status = BTreeMap::new();
    whole.iter().for_each(|line| *by_status.entry(access(line).2).or_insert(0_u64) += 1);
    let create = ["--format", "text", "--pattern", "%{COMBINEDAPACHELOG}"];
    Loaded::with_dead(&lines, &create, cut.len()).check(&["t"], |node| {
        let rows = node.sql("SELECT response AS status, count(*) AS n FROM t WHERE _dead IS NULL GROUP BY 1");
        let counts: BTreeMap<u64, u64> =
            rows.iter().map(|row| (row["status"].as_u64().unwrap(), row["n"].as_u64().unwrap())).collect();
        assert_eq!(counts, by_status);
        let gets = whole.iter().filter(|line| access(line).1.starts_with("GET ")).count();
        assert_eq!(node.value("SELECT count(*) FROM t WHERE verb = 'GET'"), gets);
    });
}

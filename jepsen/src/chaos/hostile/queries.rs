//! Statements that ask for more than anybody has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stratalog_client::{Client, ClientError, QueryOptions};
use stratalog_proto::Code;
use tokio::task::JoinSet;

/// How long each may take.
const TIMEOUT: Duration = Duration::from_secs(4);
/// Until its error has come; far more than that takes, so that a busy machine makes no difference.
const GRACE: Duration = Duration::from_secs(15);
/// As many are asked at once.
const CLIENTS: usize = 6;
/// As many go too deep as a statement's text has room for.
const DEEP: usize = 5_000;
/// As deep as is allowed, with as many operators.
const NESTED: usize = 90;

/// What they are called, and what they ask; `{t}` is the topic.
const STATEMENTS: &[(&str, &str)] = &[
    ("groups", "SELECT a.id, b.id, count(*) FROM {t} a CROSS JOIN {t} b GROUP BY a.id, b.id"),
    ("groups of a series", "SELECT value, max(concat(value, 'x')) FROM generate_series(1, 100000000) GROUP BY value"),
    ("cross joins", "SELECT count(*) FROM {t} a, {t} b, {t} c, {t} d WHERE a.id + b.id + c.id + d.id = -1"),
    ("a join of all with all", "SELECT count(*) FROM {t} a JOIN {t} b ON a.padding < b.padding"),
    ("all rows of a cross join", "SELECT * FROM {t} a CROSS JOIN {t} b"),
    ("a sort of all", "SELECT a.padding FROM {t} a CROSS JOIN {t} b ORDER BY concat(b.padding, a.padding) LIMIT 3"),
    ("a sort of all rows", "SELECT a.*, b.padding FROM {t} a CROSS JOIN {t} b ORDER BY b.padding, a.id"),
    ("windows", "SELECT sum(a.id) OVER (PARTITION BY b.padding ORDER BY a.padding) FROM {t} a CROSS JOIN {t} b"),
    ("distinct", "SELECT count(DISTINCT concat(a.padding, b.padding)) FROM {t} a CROSS JOIN {t} b"),
    ("arrays", "SELECT array_agg(a.padding) FROM {t} a CROSS JOIN {t} b"),
    ("one text of all", "SELECT length(string_agg(a.padding, b.padding)) FROM {t} a CROSS JOIN {t} b"),
    (
        "a regular expression",
        "SELECT count(*) FROM {t} a CROSS JOIN {t} b \
         WHERE regexp_like(concat(a.padding, b.padding), '(([a-z]+|[0-9]+|.?)+(x|.){1,30}){1,9}!$')",
    ),
    (
        "a regular expression that grows",
        "SELECT count(*) FROM {t} WHERE regexp_like(padding, '((a{1,999}){1,999}){1,999}')",
    ),
    (
        "a recursion without an end",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
    ),
    (
        "a recursion that doubles",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + v FROM r CROSS JOIN generate_series(1, 2) s(v)) \
         SELECT max(n) FROM r",
    ),
    ("a long text", "SELECT length(repeat('x', 2000000000))"),
    ("long texts", "SELECT max(length(repeat(padding, 1000000))) FROM {t}"),
    ("padding", "SELECT length(lpad('x', 2000000000, 'y')) FROM {t}"),
    ("an endless series", "SELECT count(*) FROM generate_series(1, 1000000000000000)"),
    ("words with stars", "SELECT count(*) FROM {t} WHERE MATCH('*a*b*c* OR NOT *d*e*f* OR *1*2*3*')"),
];

/// What came of statements that were asked.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) count: u64,
    /// Answered, or ended at their deadline, for what they need, refused as they stand, sent away for now.
    pub(super) ends: std::collections::BTreeMap<&'static str, u64>,
    /// Whatever else came of one, and of which.
    pub(super) troubles: Vec<String>,
}

/// All of them for a topic.
pub(super) fn statements(topic: &str) -> Vec<(&'static str, String)> {
    let mut all: Vec<_> = STATEMENTS.iter().map(|(name, sql)| (*name, sql.replace("{t}", topic))).collect();
    let begin = format!("SELECT count(*) FROM {topic} WHERE ");
    let nested = format!("{}id > 5{}", "(id < 0 OR NOT (id = 1 AND ".repeat(NESTED / 2), "))".repeat(NESTED / 2));
    all.push(("booleans as deep as may be", format!("{begin}{nested}")));
    all.push(("booleans that are too deep", format!("{begin}{}id = 1{}", "NOT (".repeat(DEEP), ")".repeat(DEEP))));
    all.push(("a chain of booleans", format!("{begin}id = 0{}", " OR id = 1".repeat(DEEP))));
    all.push(("a search that is too deep", format!("{begin}MATCH('{}a{}')", "(".repeat(DEEP), ")".repeat(DEEP))));
    all
}

/// Asks statements in any order, several at once, until then.
pub(super) async fn ask(client: &Client, topic: &str, until: Instant, random: &mut fastrand::Rng) -> Asked {
    let asked = Arc::new(Mutex::new(Asked::default()));
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let mut statements = statements(topic);
        random.shuffle(&mut statements);
        let (client, asked) = (client.clone(), Arc::clone(&asked));
        clients.spawn(async move {
            for (name, sql) in statements.iter().cycle() {
                if Instant::now() >= until {
                    return;
                }
                let answer = tokio::time::timeout(TIMEOUT + GRACE, ask_one(&client, sql)).await;
                asked.lock().note(name, answer.ok());
            }
        });
    }
    while clients.join_next().await.is_some() {}
    std::mem::take(&mut *asked.lock())
}

async fn ask_one(client: &Client, sql: &str) -> Result<(), ClientError> {
    let options = QueryOptions { timeout: Some(TIMEOUT), ..QueryOptions::default() };
    let mut answer = client.sql(sql, &options).await?;
    while answer.next().await?.is_some() {}
    Ok(())
}

impl Asked {
    /// `None`: there was no answer.
    fn note(&mut self, name: &str, answer: Option<Result<(), ClientError>>) {
        self.count += 1;
        let end = match &answer {
            None => Err(format!("{name}: neither an answer nor an error within {:?}", TIMEOUT + GRACE)),
            Some(Ok(())) => Ok("answered"),
            Some(Err(error)) => {
                end_of(error.code()).ok_or_else(|| format!("{name}: {}: {}", error.code(), error.message()))
            }
        };
        match end {
            Ok(end) => *self.ends.entry(end).or_default() += 1,
            Err(trouble) => self.troubles.push(trouble),
        }
    }
}

/// How a statement may end that asks for too much; `None`: not so.
fn end_of(code: Code) -> Option<&'static str> {
    match code {
        Code::QueryBudget => Some("over budget"),
        Code::QueryDeadline => Some("over time"),
        Code::InvalidSql | Code::InvalidSearch => Some("refused"),
        Code::Overloaded => Some("sent away"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_name_the_topic_and_have_names_of_their_own() {
        let all = statements("logs");
        let names: std::collections::BTreeSet<_> = all.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.iter().all(|(_, sql)| !sql.contains("{t}")));
    }

    #[test]
    fn only_an_error_that_says_which_bound_was_met_is_a_proper_end() {
        let mut asked = Asked::default();
        asked.note("sort", Some(Ok(())));
        asked.note("sort", None);
        assert_eq!((asked.count, asked.ends["answered"], asked.troubles.len()), (2, 1, 1));
        assert_eq!(end_of(Code::QueryBudget), Some("over budget"));
        assert_eq!(end_of(Code::Internal), None);
        assert_eq!(end_of(Code::Unavailable), None);
    }
}

//! X1: what other nodes and users send, mutated. Nothing of it ends a thread that it runs on.

use std::cell::RefCell;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use bytes::Bytes;
use futures::StreamExt;
use stratalog_mutation::{Decoder, Meter};
use stratalog_proto::{Error, internal};
use tokio::runtime::Runtime;

use super::fixture::{Fixture, Place};
use super::nodes::Spread;
use super::rows::{Row, Value};
use crate::SearchRequest;
use crate::parts::fuzzing::{read_batches, read_schema, written};
use crate::sql::{Command, parse, parse_predicate, resolve};

#[global_allocator]
static METER: Meter = Meter;

/// Rows, and a part of them that stays open at another node, if there is one.
struct World {
    fixture: Fixture,
    runtime: Runtime,
    part: u64,
}

thread_local! {
    /// What the decoders of a test run on: it goes with the test.
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

fn row(n: u64) -> Row {
    let row = Row::new(0, n, 1_000_000_000 * n as i64).int("n", n as i64).text("message", format!("disk full {n}"));
    let row = row.with("f", Value::Float(n as f64 / 8.0));
    if n.is_multiple_of(3) { row.text("host", format!("h{}", n % 20)) } else { row }
}

impl World {
    fn new(over: Spread) -> Self {
        let fixture = Fixture::spread(over);
        fixture.topic("logs");
        let rows: Vec<Row> = (0..60).map(row).collect();
        fixture.add("logs", Place::Sealed, &rows[..40]);
        fixture.add("logs", Place::Tail, &rows[40..]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let topic = fixture.topic_id("logs").to_bytes();
        let open = internal::OpenPart { topic, shards: vec![0], timeout_ms: 3_600_000, ..Default::default() };
        let part = match over {
            Spread::Alone => 0,
            _ => runtime.block_on(fixture.nodes.engine(2).open_part(open)).unwrap().part,
        };
        Self { fixture, runtime, part }
    }
}

/// With another node.
fn in_world<T>(work: impl FnOnce(&World) -> T) -> T {
    in_world_of(Spread::Two, work)
}

fn in_world_of<T>(over: Spread, work: impl FnOnce(&World) -> T) -> T {
    WORLD.with_borrow_mut(|world| work(world.get_or_insert_with(|| World::new(over))))
}

/// Checks a decoder in a world of its own.
fn check(decoder: Decoder) {
    decoder.check_slow();
    WORLD.take();
}

/// A task that ended without a word has panicked.
fn did_not_panic(error: &Error) {
    assert!(!error.message.contains("a defect"), "X1: {error}");
}

const STATEMENTS: [&str; 8] = [
    "SELECT n, message FROM logs WHERE host = 'h7' AND n > 3 ORDER BY n DESC LIMIT 7",
    "SELECT host, count(*), sum(n), avg(f), min(message) FROM logs GROUP BY host",
    "SELECT count(*) FROM logs WHERE MATCH(message, 'disk AND NOT retry') OR n IN (1, 2, 3)",
    "SELECT date_trunc('hour', _time) AS hour, approx_distinct(message), stddev(f) FROM logs GROUP BY hour",
    "SELECT n FROM logs WHERE message LIKE '%7' AND f BETWEEN 1.5 AND 3 AND host IS NOT NULL",
    "SELECT TRY_CAST(host AS int) IS NULL AS none, count(*) FROM logs GROUP BY none",
    "SELECT CASE WHEN n < 9 THEN upper(host) ELSE 'x' END AS a, n * 2 - 1 FROM logs WHERE n % 10 <> 3",
    "WITH big AS (SELECT n FROM logs) SELECT max(b.n), (SELECT min(f) FROM logs) FROM big b JOIN logs l ON b.n = l.n",
];

/// Plans as they go to another node.
const PLAN: Decoder = Decoder { name: "plan", samples: plans, run: run_plan, words: &[], memory_bytes: 32 << 20 };

fn plans() -> Vec<Vec<u8>> {
    in_world(|world| {
        let plan = |sql: &&str| {
            world.runtime.block_on(world.fixture.sql(sql)).unwrap();
            world.fixture.nodes.last_plan.lock().to_vec()
        };
        STATEMENTS.iter().map(plan).collect()
    })
}

fn run_plan(bytes: &[u8]) -> bool {
    in_world(|world| {
        let plan = internal::PartPlan { part: world.part, plan: Bytes::copy_from_slice(bytes) };
        let request = internal::RunPart { what: Some(internal::run_part::What::Plan(plan)) };
        let frames = world.fixture.nodes.engine(2).run_part(request);
        let frames: Vec<_> = world.runtime.block_on(frames.collect());
        match frames.last().expect("X1: a part that ends without a word has panicked") {
            Ok(last) => {
                assert!(last.frame.end.is_some(), "X1: a part that breaks off has panicked");
                true
            }
            // What is wrong with a plan DataFusion calls a defect of its own.
            Err(_) => false,
        }
    })
}

#[test]
fn x1_plans_that_lie() {
    check(PLAN);
}

/// A schema (with its length in front), and the frames of an answer.
const ANSWER: Decoder =
    Decoder { name: "answer", samples: answers, run: read_answer, words: &[], memory_bytes: 4 << 20 };

fn answers() -> Vec<Vec<u8>> {
    in_world(|world| {
        let answer = |sql: &str| {
            let (batches, _) = world.runtime.block_on(world.fixture.sql(sql)).unwrap();
            let schema = batches.first().map_or_else(|| Schema::empty().into(), RecordBatch::schema);
            written(&schema, &batches)
        };
        vec![answer("SELECT * FROM logs ORDER BY n LIMIT 5"), answer("SELECT count(*), min(host) FROM logs")]
    })
}

fn read_answer(bytes: &[u8]) -> bool {
    let mut pieces = stratalog_mutation::Pieces(bytes);
    let Some(schema) = read_schema(pieces.piece()) else { return false };
    read_batches(schema, Bytes::copy_from_slice(pieces.rest()))
}

#[test]
fn x1_answers_that_lie() {
    ANSWER.check();
    WORLD.take();
}

const SQL_WORDS: &[&str] = &[
    " SELECT ",
    " FROM logs",
    " WHERE ",
    " AND ",
    " NOT ",
    " BETWEEN ",
    " IN (",
    ")",
    "(",
    "'",
    "\"",
    ",",
    ".",
    "::int",
    " JOIN logs ON ",
    " UNION ",
    " GROUP BY ",
    " ORDER BY ",
    " OVER (",
    "NULL",
    "1e400",
    "-",
    "*",
    "$1",
    "INTERVAL '1 day'",
    "ARRAY[",
    "MATCH(",
    "a.b.c",
    "--",
    "/*",
    "ä",
    "\0",
    "CASE WHEN ",
    " END",
    "count(*)",
    "DELETE FROM logs WHERE ",
    "9223372036854775807",
    "'1970-01-01'",
    " LIMIT ",
];

/// Statements. Queries are planned, and not run.
const SQL: Decoder =
    Decoder { name: "sql", samples: statements, run: plan_sql, words: SQL_WORDS, memory_bytes: 32 << 20 };

fn statements() -> Vec<Vec<u8>> {
    let changes = ["DELETE FROM logs WHERE n > 3 AND host = 'h7'", "CREATE TABLE t (a bigint not null, \"b c\" text)"];
    STATEMENTS.iter().chain(&changes).map(|sql| sql.as_bytes().to_vec()).collect()
}

fn plan_sql(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let _ = parse_predicate(text);
    let mut statement = match parse(text) {
        Ok(Command::Query(statement)) => statement,
        other => return other.is_ok(),
    };
    let explain = format!("EXPLAIN {statement}");
    let _ = resolve(&mut statement);
    in_world_of(Spread::Alone, |world| match world.runtime.block_on(world.fixture.sql(&explain)) {
        Ok(_) => true,
        Err(error) => {
            did_not_panic(&error);
            false
        }
    })
}

#[test]
fn x1_statements_that_lie() {
    check(SQL);
}

/// Searches of a topic, run.
const SEARCH_TOPIC: Decoder = Decoder {
    name: "search_topic",
    samples: searches,
    run: search,
    words: &[
        " AND ",
        "NOT ",
        "n:[1 TO ",
        "]",
        "host:",
        "_exists_:",
        "*",
        ">=",
        "\"",
        "(",
        ")",
        "_time:",
        "f:>",
        "9e99",
    ],
    memory_bytes: 32 << 20,
};

fn searches() -> Vec<Vec<u8>> {
    let texts =
        ["disk NOT retry", "host:h7 OR n:[3 TO 9}", "_exists_:host f:>1.5", "\"disk full\" message:di* _time:>1"];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

fn search(bytes: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let (topic, query) = ("logs".to_owned(), text.to_owned());
    let request = SearchRequest { topic, query, limit: Some(5), ..SearchRequest::default() };
    in_world_of(Spread::Alone, |world| match world.runtime.block_on(world.fixture.search(request)) {
        Ok(_) => true,
        Err(error) => {
            did_not_panic(&error);
            false
        }
    })
}

#[test]
fn x1_searches_that_lie() {
    check(SEARCH_TOPIC);
}

//! Cases as data: each `cases/*.sql` holds statements, each ended by `;` at the end of a line; `*.result` holds what they
//! answer. Adding a case is adding a file, or a statement; UPDATE_EXPECT=1 writes the results.

use std::path::PathBuf;

use expect_test::expect_file;

use super::fixture::{Fixture, Place};
use super::nodes::Spread;
use super::rows::{Row, Value};

/// A topic with a little of everything, old rows sealed, and one whose name has a dot.
fn fixture(spread: Spread) -> Fixture {
    let fixture = Fixture::spread(spread);
    fixture.topic("logs");
    fixture.topic("orders.v1");
    let second = 1_000_000_000;
    let row = |n: u64| Row::new(0, n, 1_767_225_600 * second + n as i64 * second);
    let words = ["user 42 logged in", "disk full on /dev/sda1", "user 7 logged out"];
    let log = |n: u64| {
        let row = row(n)
            .text("message", words[n as usize % 3])
            .int("status", 200 + n as i64)
            .text("traceId", format!("t{n}"));
        row.with("http.latency", Value::Float(n as f64 / 4.0))
    };
    fixture.add("logs", Place::Sealed, &[log(0), log(1), log(2)]);
    fixture.add("logs", Place::Tail, &[log(3), row(4).dead("not JSON: expected value at byte 0")]);
    fixture.add("orders.v1", Place::Tail, &[row(0).int("total", 10).with("a", Value::Int(1)), row(1).int("total", 20)]);
    fixture
}

/// What the statements of a file answer, wherever the rows are (Q2).
async fn run_everywhere(name: &str) {
    for spread in Spread::ALL {
        run(name, spread).await;
    }
}

async fn run(name: &str, spread: Spread) {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/tests/cases");
    let statements = std::fs::read_to_string(directory.join(format!("{name}.sql"))).unwrap();
    let fixture = fixture(spread);
    let mut shown = String::new();
    for statement in statements.split(";\n").map(str::trim_end).filter(|statement| !statement.trim().is_empty()) {
        let statement = statement.trim_start_matches('\n');
        shown += &format!("{statement};\n{}\n\n", fixture.show(statement).await);
    }
    expect_file![directory.join(format!("{name}.result"))].assert_eq(&shown);
}

#[tokio::test]
async fn names() {
    run_everywhere("names").await;
}

#[tokio::test]
async fn errors() {
    run_everywhere("errors").await;
}

#[tokio::test]
async fn json() {
    run_everywhere("json").await;
}

#[tokio::test]
async fn system() {
    run("system", Spread::Alone).await;
}

#[tokio::test]
async fn information() {
    run("information", Spread::Alone).await;
}

#[tokio::test]
async fn text() {
    run_everywhere("text").await;
}

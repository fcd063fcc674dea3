//! Tables about all topics: those of the node and those of SQL's standard.

use std::sync::atomic::Ordering;

use arrow::array::AsArray;
use arrow::datatypes::DataType;

use super::fixture::{Fixture, Place};
use super::nodes::Spread;
use super::rows::Row;
use crate::SearchRequest;

fn fixture(topics: usize) -> Fixture {
    let fixture = Fixture::new();
    for n in 0..topics {
        let name = format!("t{n}");
        fixture.topic(&name);
        fixture.add(&name, Place::Tail, &[Row::new(0, 0, 0).int("x", 1), Row::new(0, 1, 0).dead("no JSON")]);
    }
    fixture
}

/// The values of the one column of text.
async fn texts(fixture: &Fixture, sql: &str) -> Vec<String> {
    let (batches, _) = fixture.sql(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let plain = batches.iter().map(|batch| arrow::compute::cast(batch.column(0), &DataType::Utf8).unwrap());
    plain.flat_map(|column| column.as_string::<i32>().iter().flatten().map(str::to_owned).collect::<Vec<_>>()).collect()
}

#[tokio::test]
async fn x1_thousands_of_topics_have_dead_letters() {
    let fixture = fixture(1_500);
    let found = texts(&fixture, "SELECT topic FROM system.dead_letters WHERE reason = 'no JSON'").await;
    assert_eq!(found.len(), 1_500);
    let counted = texts(&fixture, "SELECT CAST(count(*) AS TEXT) FROM system.dead_letters").await;
    assert_eq!(counted, ["1500"]);
    let before = fixture.catalog.snapshots.load(Ordering::Relaxed);
    let sql = "SELECT reason FROM system.dead_letters d WHERE d.topic IN ('t7', 't8') AND \"offset\" = 1 LIMIT 5";
    assert_eq!(texts(&fixture, sql).await, ["no JSON", "no JSON"]);
    assert_eq!(fixture.catalog.snapshots.load(Ordering::Relaxed), before + 2, "of other topics there is no snapshot");
}

#[tokio::test]
async fn topics_with_dead_letters_are_named_beside_answers_about_them() {
    for spread in Spread::ALL {
        let fixture = Fixture::spread(spread);
        for (name, place) in [("sealed", Place::Sealed), ("tail", Place::Tail), ("clean", Place::Tail)] {
            fixture.topic(name);
            let row = Row::new(0, 0, 0);
            fixture.add(name, place, &[if name == "clean" { row.int("x", 1) } else { row.dead("no JSON") }]);
        }
        let cases: [(&str, &[&str]); 4] = [
            ("SELECT * FROM sealed", &["sealed"]),
            (
                "SELECT count(*) FROM tail t JOIN sealed s ON t._offset = s._offset JOIN clean c ON true",
                &["sealed", "tail"],
            ),
            ("SELECT * FROM clean", &[]),
            ("SELECT * FROM system.topics", &[]),
        ];
        for (sql, named) in cases {
            assert_eq!(fixture.sql(sql).await.unwrap().1.dead_letter_topics, named, "{spread:?}: {sql}");
        }
        let missed = fixture.sql("SELECT level FROM sealed").await.unwrap_err().message;
        assert!(
            missed.ends_with(
                "records of `sealed` became dead letters, which have no columns of their own: see system.dead_letters"
            ),
            "{missed}"
        );
        let missed = fixture.sql("SELECT level FROM clean").await.unwrap_err().message;
        assert!(!missed.contains("dead letters"), "{missed}");
        for (topic, named) in [("sealed", vec!["sealed"]), ("clean", Vec::new())] {
            let request = SearchRequest { topic: topic.into(), query: "word".into(), ..SearchRequest::default() };
            assert_eq!(fixture.search(request).await.unwrap().1.dead_letter_topics, named, "{spread:?}: {topic}");
        }
    }
}

#[tokio::test]
async fn a_topic_that_cannot_be_read_takes_nothing_from_the_others() {
    let fixture = fixture(3);
    fixture.catalog.hold_back("t1");
    let sql = "SELECT DISTINCT table_name FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1";
    assert_eq!(texts(&fixture, sql).await, ["t0", "t2"]);
    assert_eq!(texts(&fixture, "SELECT topic FROM system.dead_letters ORDER BY 1").await, ["t0", "t2"]);
    assert_eq!(
        texts(&fixture, "SELECT topic FROM system.columns WHERE \"column\" = 'x' ORDER BY 1").await,
        ["t0", "t2"]
    );
    assert!(fixture.show("SELECT * FROM t1").await.starts_with("CORRUPT_DATA"));
}

#[tokio::test]
async fn a_statement_sees_one_snapshot_of_a_topic_in_such_a_table() {
    let fixture = fixture(1);
    let sql = "SELECT a.topic FROM system.dead_letters a JOIN system.dead_letters b ON a.topic = b.topic";
    assert_eq!(texts(&fixture, sql).await, ["t0"]);
}

#[tokio::test]
async fn every_table_is_found_by_the_name_that_the_standard_gives_it() {
    let fixture = fixture(2);
    fixture.topic("orders.v1");
    let quoted = r#"'"' || table_schema || '"."' || table_name || '"'"#;
    for name in [quoted.to_owned(), format!(r#"'"' || table_catalog || '".' || {quoted}"#)] {
        let tables = texts(&fixture, &format!("SELECT {name} FROM information_schema.tables")).await;
        assert_eq!(tables.len(), 3 + 12 + 2, "{tables:?}");
        for table in tables {
            fixture.sql(&format!("SELECT * FROM {table} LIMIT 1")).await.unwrap_or_else(|e| panic!("{table}: {e}"));
            let described = fixture.show(&format!("DESCRIBE {table}")).await;
            assert!(described.starts_with('+'), "{table}: {described}");
        }
    }
    let listed = "SELECT DISTINCT table_name FROM information_schema.columns WHERE table_schema <> 'public' ORDER BY 1";
    assert_eq!(
        texts(&fixture, listed).await.len(),
        13,
        "`columns` and `tables`, and the twelve of the node, which have `columns`, too"
    );
    for sql in [
        "SELECT CAST(public.t0.x AS TEXT) FROM public.t0 WHERE t0.x = 1",
        "SELECT CAST(x AS TEXT) FROM stratalog.public.t0 WHERE public.t0.x = 1",
    ] {
        assert_eq!(texts(&fixture, sql).await, ["1"], "{sql}");
    }
}

#[tokio::test]
async fn a_declared_column_that_is_not_null_is_not_nullable() {
    let fixture = fixture(1);
    fixture.declare("t0", "x");
    let sql = "SELECT is_nullable FROM information_schema.columns WHERE table_name = 't0' AND column_name = 'x'";
    assert_eq!(texts(&fixture, sql).await, ["NO"]);
}

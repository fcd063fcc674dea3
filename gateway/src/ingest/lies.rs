//! X1: bodies of any bytes, in each shape. What is planned is batches that a broker takes.

use bytes::Bytes;
use stratalog_mutation::{Decoder, Pieces, piece};
use stratalog_proto::batch::Batch;

use super::*;

/// Flags (u8), the expression of lines that begin a record and the field of the key (each with its length), and a body.
const BODY: Decoder = Decoder { name: "body", samples: bodies, run: plan_body, words: WORDS, memory_bytes: 4 << 20 };

const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "\n",
    "\r\n",
    "null",
    "\\u0000",
    "\"a\":{\"b\":",
    "\tat x",
    "{\"a.b\":1}",
    "[[[[",
    "\n\n",
];

const TYPES: [Shape; 3] = [Shape::Json, Shape::Lines, Shape::Whole];

fn bodies() -> Vec<Vec<u8>> {
    let body = |flags: u8, begins: &str, field: &str, body: &str| {
        [&[flags][..], &piece(begins.as_bytes()), &piece(field.as_bytes()), body.as_bytes()].concat()
    };
    vec![
        body(0, "", "a.b", "[{\"a\":{\"b\":\"k\"}}, {\"a.b\":7}, 3, null]"),
        body(0, "", "", "{\"one\": [1, 2, {}]}"),
        body(1, "", "id", "{\"id\":1}\n\n{\"id\":\"x\"}\r\nnot json\n"),
        body(1 | 4, "^\\d{4}-", "", "2024-05-01 first\n  more of it\n2024-05-02 second"),
        body(1 | 4, "java", "", "WARN a\njava.io.IOException: x\n\tat b.C(C.java:1)\nINFO b\n"),
        body(2, "", "", "anything at all"),
    ]
}

fn plan_body(bytes: &[u8]) -> bool {
    let mut pieces = Pieces(bytes);
    let flags = pieces.byte();
    let (begins, field) = (pieces.piece(), pieces.piece());
    let (Ok(begins), Ok(field)) = (str::from_utf8(begins), str::from_utf8(field)) else { return false };
    let multiline = if flags & 4 > 0 { Multiline::new(begins).ok() } else { None };
    let options = IngestOptions {
        key_field: (!field.is_empty()).then(|| field.to_owned()),
        key: None,
        partition: None,
        timestamp_ms: 1_000,
        partitions: 3,
        first_spread: u32::MAX,
        max_batch_bytes: 1_024,
        format: Format::Text,
        multiline,
    };
    let body = Bytes::copy_from_slice(pieces.rest());
    plan(TYPES[usize::from(flags & 3).min(2)], &body, &options).is_ok_and(|plan| is_whole(&plan, &options))
}

/// Each record is in a batch that can be sent, or refused.
fn is_whole(plan: &Plan, options: &IngestOptions) -> bool {
    let mut planned = 0;
    for PlannedBatch { partition, bytes, records } in &plan.batches {
        let batch = Batch::parse(bytes.clone()).expect("what is planned is a batch");
        assert!(bytes.len() <= options.max_batch_bytes && partition.0 < options.partitions);
        assert_eq!(batch.record_count() as usize, records.len());
        planned += records.len();
    }
    assert_eq!(planned + plan.refused.len(), plan.records as usize, "each record is sent or refused");
    true
}

#[test]
fn x1_bodies_that_lie() {
    BODY.check();
}

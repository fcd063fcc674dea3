use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, ListArray, StringArray, TimestampMillisecondArray,
    TimestampNanosecondArray, UInt64Array,
};
use arrow::datatypes::Int64Type;
use arrow::ipc::reader::StreamReader;
use arrow::record_batch::RecordBatch;
use expect_test::{Expect, expect};
use stratalog_proto::v1::{QueryStats, ShardFence};
use stratalog_proto::{Code, Error};

use super::*;

fn sample() -> RecordBatch {
    let nanos = TimestampNanosecondArray::from(vec![Some(1_700_000_000_000_000_000), Some(-1), None]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("_time", Arc::new(nanos.with_timezone("UTC"))),
        ("naive", Arc::new(TimestampMillisecondArray::from(vec![0, 1_500, -62_135_596_800_000]))),
        ("n", Arc::new(Int64Array::from(vec![Some(i64::MAX), Some(i64::MIN), None]))),
        ("u", Arc::new(UInt64Array::from(vec![u64::MAX, 0, 1]))),
        ("f", Arc::new(Float64Array::from(vec![1.0, f64::NAN, 1e300]))),
        ("ok", Arc::new(BooleanArray::from(vec![Some(true), Some(false), None]))),
        ("text", Arc::new(StringArray::from(vec![Some("a\"b\n,\u{1}ü"), Some(""), None]))),
        ("bin", Arc::new(BinaryArray::from(vec![&b"\x00\xff"[..], b"", b"a"]))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn stats() -> QueryStats {
    let fences = vec![ShardFence { shard: 1, index: 7, lag: 0 }];
    QueryStats {
        rows_returned: 3,
        elapsed_us: 12,
        fences,
        dead_letter_topics: vec!["t".to_owned()],
        ..QueryStats::default()
    }
}

fn encode(mut encoder: impl RowEncoder, batches: &[RecordBatch]) -> Vec<u8> {
    let mut out = Vec::new();
    encoder.start(&batches[0].schema(), &mut out).unwrap();
    for batch in batches {
        encoder.rows(batch, &mut out).unwrap();
    }
    encoder.finish(&stats(), &mut out).unwrap();
    out
}

fn check(encoder: impl RowEncoder, batches: &[RecordBatch], expected: Expect) {
    expected.assert_eq(std::str::from_utf8(&encode(encoder, batches)).unwrap());
}

#[test]
fn json_body_is_one_document() {
    let batch = sample();
    let body = encode(JsonBody::default(), &[batch.slice(0, 2), batch.slice(0, 0), batch.slice(2, 1)]);
    let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(document["rows"].as_array().unwrap().len(), 3);
    check(
        JsonBody::default(),
        &[batch],
        expect![[r#"
            {"columns":[{"name":"_time","type":"timestamp"},{"name":"naive","type":"timestamp"},{"name":"n","type":"int64"},{"name":"u","type":"uint64"},{"name":"f","type":"float64"},{"name":"ok","type":"boolean"},{"name":"text","type":"string"},{"name":"bin","type":"binary"}],
            "rows":[
            {"_time":"2023-11-14T22:13:20Z","naive":"1970-01-01T00:00:00Z","n":9223372036854775807,"u":18446744073709551615,"f":1.0,"ok":true,"text":"a\"b\n,\u0001ü","bin":"00ff"},
            {"_time":"1969-12-31T23:59:59.999999999Z","naive":"1970-01-01T00:00:01.500Z","n":-9223372036854775808,"u":0,"f":null,"ok":false,"text":"","bin":""},
            {"_time":null,"naive":"0001-01-01T00:00:00Z","n":null,"u":1,"f":1.0e300,"ok":null,"text":null,"bin":"61"}
            ],
            "stats":{"bytes_scanned":0,"catalogue_version":0,"dead_letter_topics":["t"],"elapsed_us":12,"fences":[{"index":7,"lag":0,"shard":1}],"granules_pruned":0,"granules_total":0,"query_id":"","rows_returned":3,"rows_scanned":0,"segments_pruned":0,"segments_total":0,"spilled_bytes":0,"tail_rows":0}}
        "#]],
    );
}

#[test]
fn json_body_without_rows_is_whole() {
    let body = encode(JsonBody::default(), &[sample().slice(0, 0)]);
    let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(document["rows"], serde_json::json!([]));
    assert_eq!(document["stats"]["rows_returned"], 3);
}

#[test]
fn json_body_that_fails_says_so_in_the_place_of_stats() {
    let (mut encoder, mut out) = (JsonBody::default(), Vec::new());
    encoder.start(&sample().schema(), &mut out).unwrap();
    encoder.rows(&sample(), &mut out).unwrap();
    encoder.fail(&Error::new(Code::QueryDeadline, "too late"), &mut out);
    let document: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(document["error"]["code"], "QUERY_DEADLINE_EXCEEDED");
    assert!(document.get("stats").is_none());
}

#[test]
fn columns_of_one_name_are_told_apart() {
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let fields =
        ["a", "a", "a_2", "a"].map(|name| arrow::datatypes::Field::new(name, column.data_type().clone(), true));
    let schema = Arc::new(arrow::datatypes::Schema::new(fields.to_vec()));
    let batch = RecordBatch::try_new(schema, vec![column; 4]).unwrap();
    check(
        NdjsonBody::default(),
        &[batch],
        expect![[r#"
            {"a":1,"a_3":1,"a_2":1,"a_4":1}
        "#]],
    );
}

#[test]
fn rows_without_columns_are_empty_objects() {
    let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(2));
    let schema = Arc::new(arrow::datatypes::Schema::empty());
    let batch = RecordBatch::try_new_with_options(schema, vec![], &options).unwrap();
    check(
        NdjsonBody::default(),
        &[batch],
        expect![[r#"
        {}
        {}
    "#]],
    );
}

#[test]
fn csv_quotes_and_leaves_nulls_empty() {
    check(
        Csv,
        &[sample(), sample().slice(0, 1)],
        expect![[r#"
        _time,naive,n,u,f,ok,text,bin
        2023-11-14T22:13:20Z,1970-01-01T00:00:00Z,9223372036854775807,18446744073709551615,1.0,true,"a""b
        ,ü",00ff
        1969-12-31T23:59:59.999999999Z,1970-01-01T00:00:01.500Z,-9223372036854775808,0,NaN,false,,
        ,0001-01-01T00:00:00Z,,1,1e300,,,61
        2023-11-14T22:13:20Z,1970-01-01T00:00:00Z,9223372036854775807,18446744073709551615,1.0,true,"a""b
        ,ü",00ff
    "#]],
    );
}

#[test]
fn csv_refuses_nested_columns_by_name() {
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some([Some(1)])]);
    let batch = RecordBatch::try_from_iter([("tags", Arc::new(list) as ArrayRef)]).unwrap();
    let error = Csv.start(&batch.schema(), &mut Vec::new()).unwrap_err();
    assert_eq!(error.code, Code::InvalidRequest);
    assert!(error.message.contains("`tags`"), "{error}");
    check(
        NdjsonBody::default(),
        &[batch],
        expect![[r#"
        {"tags":[1]}
    "#]],
    );
}

#[test]
fn arrow_pieces_are_one_stream() {
    let batch = sample();
    let stream = encode(ArrowStream::default(), &[batch.slice(0, 1), batch.slice(1, 2)]);
    let read: Vec<RecordBatch> = StreamReader::try_new(&stream[..], None).unwrap().map(Result::unwrap).collect();
    assert_eq!(arrow::compute::concat_batches(&batch.schema(), &read).unwrap(), batch);
}

//! L5: damaged segments give the right answer or an error that says so, never another answer.

use stratalog_proto::Code;

use super::fixture::{Fixture, Place};
use super::rows::Row;

#[tokio::test]
async fn l5_a_damaged_segment_is_reported_and_never_answers_wrongly() {
    let rows: Vec<Row> =
        (0..2_000).map(|n| Row::new(0, n, n as i64).text("message", format!("word{} and more", n % 7))).collect();
    let fixture = Fixture::new();
    fixture.topic("logs");
    fixture.add("logs", Place::Sealed, &rows);
    let (right, _) = fixture.positions("logs", "MATCH(message, 'word3')").await;
    let path = fixture.catalog.segment_file();
    let whole = std::fs::read(&path).unwrap();
    let mut reported = 0;
    for at in (0..whole.len()).step_by(whole.len() / 23) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x40;
        std::fs::write(&path, damaged).unwrap();
        fixture.catalog.reopen();
        let sql = "SELECT _partition, _offset FROM logs WHERE MATCH(message, 'word3')";
        match fixture.sql(sql).await {
            Ok((batches, _)) => {
                let mut found: Vec<_> = batches.iter().flat_map(super::fixture::positions).collect();
                found.sort_unstable();
                assert_eq!(found, right, "L5: byte {at} of {}", whole.len());
            }
            Err(error) => {
                assert!(matches!(error.code, Code::CorruptData | Code::NewerVersion), "byte {at}: {error}");
                reported += 1;
            }
        }
    }
    assert!(reported > 0, "no damage was where the query reads");
}

//! Panics of the parser (X1): injected, since no input is known to cause one.

use super::*;

#[test]
fn x1_a_record_at_which_the_parser_panics_is_one_dead_row() {
    let good: &[u8] = b"{\"a\":1}";
    let values = [Some(good), Some(DEFECT_OF_A_RECORD), Some(good), Some(DEFECT_OF_A_RECORD)];
    let batches = [applied(batch(&values, Compression::None)), applied(batch(&[Some(good)], Compression::Lz4))];
    let parsed = parse(&TopicConfig::default(), &batches);
    assert_eq!((parsed.rows, parsed.dead_rows), (5, 2));
    let rows = &parsed.chunks[0].rows;
    assert_eq!(shown(rows), "a: Int64 1 | - | 1 | - | 1");
    assert!(dead(rows)[3].as_deref().unwrap().starts_with("the parser failed at this record"));
}

#[test]
fn x1_a_chunk_whose_columns_cannot_be_made_is_dead_and_the_next_is_not() {
    let poison = format!("{{\"a\":1,\"{DEFECT_OF_A_COLUMN}\":2}}");
    let good: &[u8] = b"{\"a\":1}";
    let mut values = vec![Some(good); TailChunk::MAX_ROWS + 2];
    values[7] = Some(poison.as_bytes());
    let parsed = parse(&TopicConfig::default(), [&applied(batch(&values, Compression::None))]);
    assert_eq!((parsed.rows, parsed.dead_rows), (values.len() as u64, TailChunk::MAX_ROWS as u64));
    assert!(dead(&parsed.chunks[0].rows).iter().all(Option::is_some));
    assert_eq!(dead(&parsed.chunks[1].rows), [None, None]);
}

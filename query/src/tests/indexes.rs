//! Text indexes stay open between queries, and no longer than their segments.

use std::sync::Arc;

use stratalog_index::TextIndex;
use stratalog_storage::SegmentHandle;

use super::fixture::{Fixture, Place, ended};
use super::rows::Row;
use crate::EngineOptions;

fn fixture(options: EngineOptions) -> Fixture {
    let fixture = Fixture::with_options(EngineOptions { threads: 1, ..options });
    fixture.topic("logs");
    for segment in 0..2 {
        let row = |n: u64| Row::new(0, segment * 100 + n, n as i64).text("message", format!("word{n} of {segment}"));
        fixture.add("logs", Place::Sealed, &(0..100).map(row).collect::<Vec<_>>());
    }
    fixture
}

/// The open index of a segment.
fn open_index(segment: &SegmentHandle) -> Option<Arc<TextIndex>> {
    segment.companion(|| Err(())).ok()
}

async fn search(fixture: &Fixture) {
    let (found, _) = fixture.positions("logs", "MATCH(message, 'word7')").await;
    assert_eq!(found, [(0, 7), (0, 107)]);
}

#[tokio::test]
async fn an_index_is_opened_by_the_first_search_only() {
    let fixture = fixture(EngineOptions::default());
    let segments = fixture.catalog.segments();
    assert!(segments.iter().all(|segment| open_index(segment).is_none()));
    search(&fixture).await;
    let opened: Vec<_> = segments.iter().map(|segment| open_index(segment).unwrap()).collect();
    search(&fixture).await;
    for (segment, opened) in segments.iter().zip(opened) {
        assert!(Arc::ptr_eq(&opened, &open_index(segment).unwrap()));
    }
}

#[tokio::test]
async fn an_open_index_does_not_keep_the_file_of_a_dropped_segment() {
    let fixture = fixture(EngineOptions::default());
    search(&fixture).await;
    let paths: Vec<_> = fixture.catalog.segments().iter().map(|segment| segment.path().to_owned()).collect();
    assert!(paths.iter().all(|path| path.exists()));
    ended(&fixture).await;
    fixture.catalog.drop_segments();
    assert!(!paths.iter().any(|path| path.exists()));
}

#[tokio::test]
async fn indexes_beyond_the_limit_are_closed_again() {
    let whole = fixture(EngineOptions::default());
    let segments = whole.catalog.segments();
    let bytes = segments.iter().map(|segment| segment.reader().unwrap().text().unwrap().len() as usize).max().unwrap();
    for (room, expected) in [(0, 0), (1, 1), (2, 2)] {
        // A quarter of the memory is for indexes; the rest of these queries needs little.
        let memory_bytes = 4 * (room * bytes + bytes / 2);
        let fixture = fixture(EngineOptions { memory_bytes, ..EngineOptions::default() });
        let segments = fixture.catalog.segments();
        search(&fixture).await;
        search(&fixture).await;
        assert_eq!(segments.iter().filter_map(|segment| open_index(segment)).count(), expected, "room for {room}");
    }
}

//! What a merge takes, and what it leaves in its files.

use super::*;

/// Rows with a text of `bytes` bytes that packs well, none of them twice.
fn wide(first: i64, rows: i64, bytes: usize) -> Vec<String> {
    (first..first + rows).map(|n| value(0, n, &format!(r#","wide":"{n}{}""#, "x".repeat(bytes)))).collect()
}

#[tokio::test]
async fn memory_for_values_is_bounded_whatever_they_are_packed_to() {
    const HELD_BYTES: usize = 3 << 20;
    let setup = Setup::new(1).await.with_held_bytes(HELD_BYTES).await;
    for n in 0..4 {
        setup.seal(0, &wide(100 * n, 100, 5_000)).await;
    }
    assert!(setup.segments().iter().map(|meta| meta.bytes).sum::<u64>() < 500_000);
    let before = setup.rows().await;
    let merged = setup.rows.merge_now(&setup.logs).await.unwrap();
    assert_eq!((setup.segments().len(), merged.made, merged.left_apart), (2, 2, 1), "by twos, and no further");
    let most = setup.rows.merger.room.most();
    assert!((1_500_000..=HELD_BYTES).contains(&most), "{most} bytes");
    assert_eq!(setup.rows().await, before);
    setup.check().await;
    setup.rows.stop().await;
}

#[tokio::test]
async fn few_rows_of_many_granules_are_not_held_together() {
    const HELD_BYTES: usize = 1 << 20;
    let setup = Setup::new(1).await.with_held_bytes(HELD_BYTES).await;
    let rows = 10 * i64::from(stratalog_storage::col::GRANULE_ROWS);
    setup.seal(0, &wide(0, rows, 100)).await;
    setup.begin_erasure();
    let erased: RoaringTreemap = (0..rows as u64).filter(|offset| offset % 1_000 != 0).collect();
    let edit = Edit { erase: BTreeMap::from([(PartitionId(0), erased)]), ..Edit::default() };
    setup.rewrite(&setup.segments(), edit).await.unwrap();
    let most = setup.rows.merger.room.most();
    assert!(most < 4 * HELD_BYTES, "{most} bytes of {}", 100 * rows);
    let expected: Vec<_> = (0..rows).step_by(1_000).map(|offset| (0, offset)).collect();
    assert_eq!(setup.rows().await.into_keys().collect::<Vec<_>>(), expected);
    setup.rows.stop().await;
}

#[tokio::test]
async fn segments_of_too_many_columns_together_are_merged_by_fewer() {
    let setup = Setup::new(1).await;
    for n in 0..16 {
        // What is parsed together has a thousand columns at most, so the first is parsed before the second comes.
        let columns =
            |from: usize| (from..from + 990).map(|column| format!(r#","c{n}_{column}":1"#)).collect::<String>();
        setup.log.produce(&setup.logs, 0, &[&value(0, n, &columns(0))]);
        setup.rows.caught_up(Instant::now() + Duration::from_secs(10)).await.unwrap();
        setup.seal(0, &[value(0, n, &columns(990))]).await;
    }
    let merged = setup.rows.merge_now(&setup.logs).await.unwrap();
    assert!(merged.left_apart > 0 && setup.segments().len() < 8, "{merged:?}");
    assert_eq!(setup.segments().iter().map(|meta| meta.rows).sum::<u64>(), 32);
    setup.check().await;
    setup.rows.stop().await;
}

#[tokio::test]
async fn the_name_of_a_field_goes_with_the_last_row_that_has_it() {
    let setup = Setup::new(1).await;
    setup.begin_erasure();
    let values = [r#","n":1"#, r#","bob@x.org":1,"n":2"#, r#","amy@x.org":"here""#, r#","amy@x.org":"too""#];
    setup.seal(0, &values.map(|rest| value(0, 0, rest))).await;
    let edit = Edit { erase: BTreeMap::from([(PartitionId(0), RoaringTreemap::from_iter([1, 2]))]), ..Edit::default() };
    let rewritten = setup.rewrite(&setup.segments(), edit).await.unwrap();
    eventually("the input is unlinked", || setup.files() == 1).await;
    let file = stratalog_storage::col::segment_file_name(rewritten.segments[0].id);
    let bytes = std::fs::read(setup.dir.path().join(file)).unwrap();
    let has = |name: &str| bytes.windows(name.len()).any(|window| window == name.as_bytes());
    assert_eq!((has("bob@x.org"), has("amy@x.org")), (false, true));
    setup.delete_records(0, 4);
    setup.rows.merge_now(&setup.logs).await.unwrap();
    setup.check().await;
    setup.rows.stop().await;
}

//! What a manifest says of segments, on its way through commands.

use stratalog_proto::internal;

use super::*;

fn meta() -> RecMeta {
    written(&sample()).1
}

#[test]
fn meta_survives_replication() {
    let meta = meta();
    assert!(meta.is_packed() && meta.ranges().count() == 6);
    assert_eq!(RecMeta::try_from(&internal::RecMeta::from(&meta)).unwrap(), meta);
}

#[test]
fn meta_that_contradicts_itself_is_refused() {
    let changes: [fn(&mut internal::RecMeta); 15] = [
        |meta| meta.id = Bytes::from_static(b"short"),
        |meta| meta.blake3 = Bytes::from_static(&[0; 31]),
        |meta| meta.after = meta.through,
        |meta| meta.bytes = 10,
        |meta| meta.topics.clear(),
        |meta| meta.topics.swap(0, 1),
        |meta| meta.topics[1] = meta.topics[0].clone(),
        |meta| meta.topics[0].topic = Bytes::new(),
        |meta| meta.topics[0].ranges.clear(),
        |meta| meta.topics[0].ranges.swap(0, 1),
        |meta| meta.topics[0].ranges[0].next = meta.topics[0].ranges[0].first,
        |meta| meta.topics[0].ranges[0].bytes = 60,
        |meta| meta.topics[0].ranges[0].bytes = u64::MAX,
        |meta| meta.topics[0].ranges[2].next = 1 << 63,
        |meta| meta.topics[0].ranges[1].partition = 0,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut raw = internal::RecMeta::from(&meta());
        change(&mut raw);
        assert_eq!(RecMeta::try_from(&raw).unwrap_err().code, Code::CorruptData, "change {number}");
    }
}

#[test]
fn meta_of_a_later_release_says_so() {
    let changes: [fn(&mut internal::RecMeta); 2] = [|meta| meta.location = 1, |meta| meta.key_id = 9];
    for change in changes {
        let mut raw = internal::RecMeta::from(&meta());
        change(&mut raw);
        assert_eq!(RecMeta::try_from(&raw).unwrap_err().code, Code::NewerVersion);
    }
}

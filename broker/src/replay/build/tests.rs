use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use stratalog_proto::Offset;
use stratalog_storage::simulation::{Op, SimDisk};
use stratalog_storage::{ErasedOffsets, Io};

use super::*;
use crate::replay::testing::{Log, SHARD, batch, store, store_on};

fn listed(disk: &SimDisk) -> Vec<String> {
    disk.list(Path::new("/segments")).unwrap()
}

#[test]
fn small_topics_share_a_segment_and_each_entry_is_read_once() {
    let (_, store) = store();
    let [a, b, large] = [(); 3].map(|()| TopicId::new());
    let mut log = Log::default();
    log.append(1, &[(a, 0, 10), (b, 1, 10), (a, 0, 20)]);
    log.append(1, &[(large, 0, 5 << 20)]);
    log.append(2, &[(large, 3, 4 << 20), (b, 1, 30)]);
    let metas = build(&store, &log, log.range(), log.placed.clone()).unwrap();
    assert_eq!(log.reads.load(Ordering::Relaxed), 3);
    let topics = |meta: &RecMeta| meta.topics.iter().map(|topic| topic.topic).collect::<Vec<_>>();
    assert_eq!(metas.iter().map(topics).collect::<Vec<_>>(), [vec![large], vec![a, b]]);
    assert!(metas.iter().all(|meta| (meta.after, meta.through) == (RaftIndex(0), RaftIndex(3))));
}

#[test]
fn batches_have_the_offsets_of_apply_and_the_terms_of_their_entries() {
    let (_, store) = store();
    let topic = TopicId::new();
    let mut log = Log::default();
    log.append(3, &[(topic, 0, 10)]);
    log.append(5, &[(topic, 0, 10)]);
    let [meta] = build(&store, &log, log.range(), log.placed.clone()).unwrap().try_into().unwrap();
    let meta = Arc::new(meta);
    store.adopt(Arc::clone(&meta));
    let reader = store.reader(&meta).unwrap();
    let epochs: Vec<_> = reader.epochs(topic, PartitionId(0)).iter().map(|epoch| (epoch.epoch, epoch.first)).collect();
    assert_eq!(epochs, [(3, Offset(0)), (5, Offset(1))]);
    let slice = reader.read(topic, PartitionId(0), Offset(1), 1 << 20).unwrap().unwrap();
    assert_eq!((slice.first, slice.next), (Offset(1), Offset(2)));
    assert_eq!(slice.bytes[61..], batch(2, 10)[61..]);
}

#[test]
fn a1_another_replica_makes_the_same_file_of_its_own_log() {
    let [(_, leader), (disk, follower)] = [store(), store()];
    let [a, b] = [TopicId::new(), TopicId::new()];
    let mut log = Log::default();
    (1..20).for_each(|term| log.append(term / 4, &[(a, 0, 100), (b, term as u32 % 3, 50)]));
    let [meta] = build(&leader, &log, log.range(), log.placed.clone()).unwrap().try_into().unwrap();
    rebuild(&follower, &log, &meta, log.placed.clone()).unwrap();
    assert_eq!(listed(&disk), [format!("{}.rec", meta.id)]);

    let mut other = Log::default();
    (1..20).for_each(|term| other.append(term / 4, &[(a, 0, 99), (b, term as u32 % 3, 51)]));
    let error = rebuild(&follower, &other, &meta, other.placed.clone()).unwrap_err();
    assert_eq!(error.code, Code::CorruptData);
    assert!(error.message.contains(&meta.id.to_string()) && error.message.contains("shard 7"), "{error}");
    assert_eq!(listed(&disk), [""; 0], "the wrong file is gone");
}

#[test]
fn a_rewritten_segment_is_the_same_on_every_replica() {
    let [(_, leader), (disk, follower)] = [store(), store()];
    let [a, b] = [TopicId::new(), TopicId::new()];
    let mut log = Log::default();
    (0..20).for_each(|_| log.append(1, &[(a, 0, 100), (a, 1, 100), (b, 0, 50)]));
    let [packed] = build(&leader, &log, log.range(), log.placed.clone()).unwrap().try_into().unwrap();
    rebuild(&follower, &log, &packed, log.placed.clone()).unwrap();
    let packed = Arc::new(packed);
    [&leader, &follower].iter().for_each(|store| store.adopt(Arc::clone(&packed)));
    let rewritten = repack(&leader, &packed, SegmentId::new(), &[(a, PartitionId(1))], &ErasedOffsets::default());
    let rewritten = rewritten.unwrap().unwrap();
    assert_eq!(rewritten.ranges().count(), 1);
    repack_as(&follower, &packed, &rewritten, &ErasedOffsets::default()).unwrap();
    assert!(listed(&disk).contains(&format!("{}.rec", rewritten.id)));
}

#[test]
fn a_full_disk_leaves_nothing_of_a_build() {
    let (disk, store) = store();
    let [small, large] = [TopicId::new(), TopicId::new()];
    let mut log = Log::default();
    log.append(1, &[(small, 0, 10), (large, 0, 9 << 20)]);
    for op in [Op::Create, Op::Write, Op::Sync, Op::Rename] {
        for nth in 0..2 {
            let calls = AtomicUsize::new(0);
            disk.set_fault(move |at, path| {
                let counts = at == op && path.to_string_lossy().contains(".rec");
                let full = counts && calls.fetch_add(1, Ordering::SeqCst) >= nth;
                if full { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
            });
            let built = build(&store, &log, log.range(), log.placed.clone());
            disk.clear_fault();
            assert_eq!(built.map_err(|error| error.code), Err(Code::StorageFull), "{op:?} {nth}");
            let whole: Vec<_> = listed(&disk).into_iter().filter(|name| name.ends_with(".rec")).collect();
            assert_eq!(whole, [""; 0], "{op:?} {nth}");
        }
    }
    assert_eq!(build(&store_on(&disk), &log, log.range(), log.placed.clone()).unwrap().len(), 2);
}

#[test]
fn an_entry_that_is_too_short_for_its_batches_is_damage_that_names_it() {
    let (_, store) = store();
    let topic = TopicId::new();
    let mut log = Log::default();
    log.append(1, &[(topic, 0, 10)]);
    log.placed[0].2.len += 1;
    let error = build(&store, &log, log.range(), log.placed.clone()).unwrap_err();
    assert_eq!(error.code, Code::CorruptData);
    assert!(error.message.contains("entry 1") && error.message.contains(&SHARD.to_string()), "{error}");
}

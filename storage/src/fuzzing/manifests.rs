//! What commands and state images say of segments.

use bytes::Bytes;
use prost::Message;
use stratalog_mutation::Decoder;
use stratalog_proto::entry::{Command, Entry, EntryBuilder};
use stratalog_proto::fuzzing::{TOPIC, commands};
use stratalog_proto::internal::{self, ShardState, TopicState};
use stratalog_proto::{Offset, PartitionId, RaftIndex, SegmentId, TopicId};

use crate::{ErasedOffsets, Manifest, RecMeta, SegmentMeta};

/// An entry of commands that are applied to a manifest.
pub const MANIFEST: Decoder =
    Decoder { name: "manifest", samples: entries, run: apply, words: &[], memory_bytes: 4 << 20 };

/// The manifest in the image of a shard's state.
pub const SHARD_STATE: Decoder =
    Decoder { name: "shard_state", samples: states, run: read_state, words: &[], memory_bytes: 4 << 20 };

/// Bitmaps of offsets, as a command carries them.
pub const ERASED: Decoder =
    Decoder { name: "erased", samples: bitmaps, run: read_bitmaps, words: &[], memory_bytes: 4 << 20 };

fn topic() -> TopicId {
    TopicId::from_slice(&TOPIC).expect("16 bytes")
}

/// Those that a manifest takes, in an order in which it takes them.
fn on_manifests() -> Vec<Command> {
    let of_manifests = |command: &Command| {
        use Command::{Drop, Merge, Repack, Roll, Seal};
        matches!(command, Seal(_) | Merge(_) | Drop(_) | Roll(_) | Repack(_))
    };
    let without_bitmaps = |command| match command {
        Command::Repack(repack) => Command::Repack(internal::Repack { erased: Vec::new(), ..repack }),
        other => other,
    };
    commands().into_iter().filter(of_manifests).map(without_bitmaps).collect()
}

fn entries() -> Vec<Vec<u8>> {
    let mut builder = EntryBuilder::with_capacity(4_096);
    on_manifests().iter().for_each(|command| builder.push(command));
    vec![builder.finish(1).to_vec()]
}

fn apply(bytes: &[u8]) -> bool {
    let Ok(entry) = Entry::parse(Bytes::copy_from_slice(bytes)) else { return false };
    let mut manifest = Manifest::default();
    manifest.put_topic(topic(), RaftIndex(0));
    let mut all = !entry.is_empty();
    for command in entry.commands() {
        all &= command.is_ok_and(|command| apply_one(&mut manifest, &command));
        look_at(&manifest);
    }
    all
}

/// Whether it changed something.
fn apply_one(manifest: &mut Manifest, command: &Command) -> bool {
    let before = manifest.clone();
    let applied = match command {
        Command::Seal(seal) => manifest.seal(seal).is_ok(),
        Command::Merge(merge) => manifest.merge(merge).is_ok(),
        Command::Roll(roll) => manifest.roll(roll).is_ok(),
        Command::Repack(repack) => manifest.repack(repack).is_ok(),
        Command::Drop(drop) => {
            let ids: Vec<SegmentId> = drop.segments.iter().filter_map(|id| SegmentId::from_slice(id)).collect();
            !manifest.drop_segments(topic(), &ids).is_empty()
        }
        _ => false,
    };
    assert!(applied || *manifest == before, "S2: what is refused changes nothing");
    applied
}

/// Asks a manifest whatever a node asks it.
fn look_at(manifest: &Manifest) {
    let _ = (manifest.segment_ids().count(), manifest.replay_frontier());
    for rec in manifest.recs() {
        assert_eq!(RecMeta::try_from(&internal::RecMeta::from(&**rec)).as_ref(), Ok(&**rec));
        for (topic, range) in rec.ranges() {
            assert!(manifest.rec_with(topic, range.partition, range.first).is_some());
        }
    }
    for (topic, live) in manifest.topics() {
        let _ = (live.live_rows(), live.accounted(), live.lowest_offset(PartitionId(0)));
        let _ = manifest.recs_of(topic);
        let mut trimmed = manifest.clone();
        let _ = trimmed.drop_passed(topic, |_| Offset(12));
    }
    let mut trimmed = manifest.clone();
    let _ = trimmed.remove_recs(|_, _| Offset(50));
}

fn states() -> Vec<Vec<u8>> {
    let mut manifest = Manifest::default();
    manifest.put_topic(topic(), RaftIndex(0));
    for command in on_manifests().iter().filter(|command| !matches!(command, Command::Drop(_))) {
        assert!(apply_one(&mut manifest, command), "{command:?}");
    }
    let segments = manifest.topic(topic()).map(|manifest| manifest.segments_to_proto()).unwrap_or_default();
    let counts = Some(internal::RowCounts { rowless: 1, ..internal::RowCounts::default() });
    let raw = TopicState { topic: topic().to_bytes(), row_frontier: 9, segments, counts, ..TopicState::default() };
    let state = ShardState {
        time_ns: 5,
        replay_frontier: manifest.replay_frontier().0,
        manifest_version: manifest.version(),
        topics: vec![raw],
        replay: manifest.replay_to_proto(),
        ..ShardState::default()
    };
    vec![state.encode_to_vec(), ShardState::default().encode_to_vec()]
}

fn read_state(bytes: &[u8]) -> bool {
    let Ok(state) = ShardState::decode(bytes) else { return false };
    let Ok(manifest) = Manifest::from_proto(&state) else { return false };
    look_at(&manifest);
    for (_, topic) in manifest.topics() {
        for raw in topic.segments_to_proto() {
            assert_eq!(internal::SegmentMeta::from(&SegmentMeta::try_from(&raw).expect("it was one")), raw);
        }
    }
    true
}

fn bitmaps() -> Vec<Vec<u8>> {
    // Some alone, a dense run, and some beyond 32 bits: each is another kind of container.
    let offsets = (0..20).map(|n| n * 1_000).chain(70_000..76_000).chain([1 << 40, (1 << 40) + 7]);
    let erased: ErasedOffsets = offsets.map(|offset| (topic(), PartitionId(0), Offset(offset))).collect();
    erased.to_proto().into_iter().map(|one| one.offsets.to_vec()).collect()
}

fn read_bitmaps(bytes: &[u8]) -> bool {
    let offsets = Bytes::copy_from_slice(bytes);
    let raw = internal::ErasedOffsets { topic: topic().to_bytes(), partition: 0, offsets };
    let Ok(mut erased) = ErasedOffsets::from_proto(&[raw]) else { return false };
    assert_eq!(ErasedOffsets::from_proto(&erased.to_proto()).as_ref(), Ok(&erased));
    let _ = (erased.len(), erased.contains(topic(), PartitionId(0), Offset(3)));
    erased.truncate(100);
    true
}

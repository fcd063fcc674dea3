//! The way into a snapshot and back.

use stratalog_proto::Code;

use super::replay::{rec, roll};
use super::seals::{hosting, seal, segment};
use super::*;

fn manifest() -> Manifest {
    let mut manifest = hosting();
    manifest.put_topic(OTHER_TOPIC, RaftIndex(4));
    manifest.seal(&seal(TOPIC, 0, 9, &[1, 2])).unwrap();
    manifest.roll(&roll(0, 10, &[rec(3, 0, 10, &[(TOPIC, &[0, 1]), (OTHER_TOPIC, &[0])])])).unwrap();
    manifest.roll(&roll(10, 20, &[rec(2, 10, 20, &[(OTHER_TOPIC, &[0])]), rec(1, 10, 20, &[(TOPIC, &[1])])])).unwrap();
    manifest
}

pub(super) fn image(manifest: &Manifest) -> internal::ShardState {
    let topic = |(topic, live): (TopicId, &TopicManifest)| internal::TopicState {
        topic: topic.to_bytes(),
        row_frontier: live.row_frontier.0,
        segments: live.segments_to_proto(),
        counts: Some(live.counts.into()),
        ..Default::default()
    };
    internal::ShardState {
        replay_frontier: manifest.replay_frontier().0,
        manifest_version: manifest.version(),
        topics: manifest.topics().map(topic).collect(),
        replay: manifest.replay_to_proto(),
        ..Default::default()
    }
}

#[test]
fn a_manifest_survives_a_snapshot() {
    for manifest in [Manifest::default(), manifest()] {
        assert_eq!(Manifest::from_proto(&image(&manifest)).unwrap(), manifest);
    }
}

#[test]
fn an_image_that_contradicts_itself_is_refused() {
    let changes: [fn(&mut internal::ShardState); 11] = [
        |state| state.topics[0].topic = bytes::Bytes::new(),
        |state| state.topics[1].topic = state.topics[0].topic.clone(),
        |state| state.topics[0].segments[0].rows = 0,
        |state| state.topics[0].segments[0] = segment(OTHER_TOPIC, 9),
        |state| state.topics[0].segments[0] = state.topics[0].segments[1].clone(),
        |state| state.replay_frontier = 19,
        |state| state.replay.swap(0, 1),
        |state| state.replay[1] = state.replay[2].clone(),
        |state| state.replay[0].id = state.replay[2].id.clone(),
        |state| state.replay[1].after = 9,
        |state| state.replay[1].topics[0].ranges[0].first = 99,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut state = image(&manifest());
        change(&mut state);
        assert_eq!(Manifest::from_proto(&state).unwrap_err().code, Code::CorruptData, "change {number}");
    }
}

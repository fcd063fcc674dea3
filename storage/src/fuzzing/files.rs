//! Small files of a group: its vote, and its state.

use std::path::Path;

use stratalog_mutation::Decoder;
use stratalog_proto::ShardId;

use super::disk_with;
use crate::{StateFiles, Votes};

/// A file with a vote.
pub const VOTE: Decoder = Decoder { name: "vote", samples: votes, run: read_vote, words: &[], memory_bytes: 1 << 20 };

/// A state file, as it is and with a hash that is right for it.
pub const STATE_FILE: Decoder =
    Decoder { name: "state_file", samples: states, run: read_both, words: &[], memory_bytes: 1 << 20 };

const SHARD: ShardId = ShardId(7);
/// In the name of the sample.
const INDEX: u64 = 8;

fn votes() -> Vec<Vec<u8>> {
    vec![include_bytes!("../../tests/fixtures/vote-v1.vote").to_vec()]
}

fn read_vote(file: &[u8]) -> bool {
    let io = disk_with(Path::new("/votes/0000000007.vote"), file);
    let votes = Votes::open(io, Path::new("/votes")).expect("the disk does not fail");
    votes.load(SHARD).is_ok_and(|vote| vote.expect("a vote that is there is one, or an error").len() < file.len())
}

fn states() -> Vec<Vec<u8>> {
    vec![include_bytes!("../../tests/fixtures/state-v1.state").to_vec()]
}

fn read_both(file: &[u8]) -> bool {
    let opens = read_state(file);
    let hashed = &file[..file.len().saturating_sub(blake3::OUT_LEN)];
    read_state(&[hashed, blake3::hash(hashed).as_bytes()].concat()) && opens
}

fn read_state(file: &[u8]) -> bool {
    let dir = Path::new("/shards/0007/state");
    let io = disk_with(&dir.join(format!("{INDEX:020}.state")), file);
    let files = StateFiles::open(io, dir, SHARD).expect("the disk does not fail");
    files.newest().is_ok_and(|image| {
        let image = image.expect("L5: a state that is there is one, or an error");
        assert!(image.frontier <= image.at && image.at.index.0 == INDEX);
        image.membership.len() + image.state.len() < file.len()
    })
}

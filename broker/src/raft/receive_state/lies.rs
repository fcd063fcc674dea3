//! X1: the head of a snapshot, mutated.

use openraft::vote::{RaftLeaderId, RaftVote};
use stratalog_mutation::{Decoder, Pieces, piece};

use super::super::codec::encode_stored_membership;
use super::super::send_state;
use super::super::types::{LeaderId, Membership, StoredMembership, log_id};
use super::*;

/// The membership (with its length), and the head.
const HEAD: Decoder = Decoder { name: "state_head", samples: heads, run: read_head, words: &[], memory_bytes: 1 << 20 };

fn heads() -> Vec<Vec<u8>> {
    let vote = Vote::from_leader_id(LeaderId::new(5, 2), true);
    let membership = Membership::new_with_defaults(vec![[1, 2, 3].into()], [9]);
    let image = |frontier: u64, set_by| StateImage {
        at: point(log_id(4, 90)),
        frontier: point(log_id(3, frontier)),
        membership: encode_stored_membership(&StoredMembership::new(set_by, membership.clone())),
        state: Bytes::from_static(b"a state"),
    };
    [image(70, Some(log_id(3, 60))), image(90, None)].map(|image| written(&send_state::head(vote, &image))).into()
}

fn written(Message { head, parts }: &Message) -> Vec<u8> {
    [piece(&parts[0]), head.to_vec()].concat()
}

fn read_head(bytes: &[u8]) -> bool {
    let mut pieces = Pieces(bytes);
    let parts = vec![Bytes::copy_from_slice(pieces.piece())];
    let Ok(read) = Head::decode(Message { head: Bytes::copy_from_slice(pieces.rest()), parts }) else { return false };
    let Head { image, state_bytes, .. } = read;
    assert!(image.frontier <= image.at && state_bytes <= StateImage::MAX_STATE_BYTES);
    true
}

#[test]
fn x1_snapshots_that_lie() {
    HEAD.check();
}

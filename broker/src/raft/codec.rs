//! The bytes of what Raft itself keeps: votes, and memberships in the log. All integers are little-endian.
//!
//! Vote: version (1), committed (0 or 1), six zeroes, term u64, node u64.
//! Membership: version (1), count of configs u32, each a count u32 and that many node ids u64; count of nodes u32 and
//! that many node ids u64.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::impls::EmptyNode;
use openraft::vote::{RaftLeaderId, RaftVote};

use super::types::{LeaderId, Membership, StoredMembership, Vote, log_id};

const VERSION: u8 = 1;
pub(super) const VOTE_BYTES: usize = 24;
/// Bounds what is read: Raft groups are small.
const MAX_NODES: u32 = 1_024;

pub(super) fn encode_vote(vote: &Vote) -> Bytes {
    let mut out = BytesMut::with_capacity(VOTE_BYTES);
    out.put_u8(VERSION);
    out.put_u8(u8::from(vote.is_committed()));
    out.put_bytes(0, 6);
    out.put_u64_le(vote.leader_id().term);
    out.put_u64_le(vote.leader_id().voted_for);
    out.freeze()
}

/// # Errors
/// `InvalidData` for bytes that are not a vote: never taken for "no vote".
pub(super) fn decode_vote(mut bytes: Bytes) -> io::Result<Vote> {
    if bytes.len() != VOTE_BYTES || bytes[0] != VERSION || bytes[1] > 1 {
        return Err(invalid("a vote of this version"));
    }
    bytes.advance(1);
    let committed = bytes.get_u8() == 1;
    bytes.advance(6);
    let leader = LeaderId::new(bytes.get_u64_le(), bytes.get_u64_le());
    Ok(Vote::from_leader_id(leader, committed))
}

pub(super) fn encode_membership(membership: &Membership) -> Bytes {
    let mut out = BytesMut::new();
    let configs = membership.get_joint_config();
    out.put_u8(VERSION);
    out.put_u32_le(configs.len() as u32);
    for config in configs {
        put_ids(&mut out, config.iter().copied());
    }
    put_ids(&mut out, membership.nodes().map(|(id, _)| *id));
    out.freeze()
}

/// # Errors
/// `InvalidData` for bytes that are not a membership.
pub(super) fn decode_membership(mut bytes: Bytes) -> io::Result<Membership> {
    if bytes.try_get_u8().ok() != Some(VERSION) {
        return Err(invalid("a membership of this version"));
    }
    let count = take_count(&mut bytes)?;
    let configs = (0..count).map(|_| take_ids(&mut bytes)).collect::<io::Result<Vec<BTreeSet<u64>>>>()?;
    let nodes: BTreeMap<u64, EmptyNode> = take_ids(&mut bytes)?.into_iter().map(|id| (id, EmptyNode {})).collect();
    if bytes.has_remaining() {
        return Err(invalid("a membership: bytes are left over"));
    }
    Membership::new(configs, nodes).map_err(|error| invalid(&format!("a membership: {error}")))
}

/// A membership as of the entry that set it, as it stands in a state file.
pub(super) fn encode_stored_membership(stored: &StoredMembership) -> Bytes {
    let mut out = BytesMut::new();
    let set_by = stored.log_id();
    out.put_u8(u8::from(set_by.is_some()));
    out.put_u64_le(set_by.as_ref().map_or(0, |id| id.leader_id.term));
    out.put_u64_le(set_by.as_ref().map_or(0, |id| id.index));
    out.put_slice(&encode_membership(stored.membership()));
    out.freeze()
}

/// # Errors
/// `InvalidData` for bytes that are not a membership with its entry.
pub(super) fn decode_stored_membership(mut bytes: Bytes) -> io::Result<StoredMembership> {
    if bytes.len() < 17 || bytes[0] > 1 {
        return Err(invalid("a membership with the entry that set it"));
    }
    let is_set = bytes.get_u8() == 1;
    let set_by = log_id(bytes.get_u64_le(), bytes.get_u64_le());
    Ok(StoredMembership::new(is_set.then_some(set_by), decode_membership(bytes)?))
}

fn put_ids(out: &mut BytesMut, ids: impl Iterator<Item = u64>) {
    let ids: Vec<u64> = ids.collect();
    out.put_u32_le(ids.len() as u32);
    ids.into_iter().for_each(|id| out.put_u64_le(id));
}

fn take_count(bytes: &mut Bytes) -> io::Result<u32> {
    let count = bytes.try_get_u32_le().map_err(|_| invalid("a membership: it ends early"))?;
    if count > MAX_NODES { Err(invalid("a membership: it has too many nodes")) } else { Ok(count) }
}

fn take_ids(bytes: &mut Bytes) -> io::Result<BTreeSet<u64>> {
    let count = take_count(bytes)?;
    let take = |_| bytes.try_get_u64_le().map_err(|_| invalid("a membership: it ends early"));
    (0..count).map(take).collect()
}

pub(super) fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the bytes are not {what}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn votes_round_trip() {
        for committed in [false, true] {
            let vote = Vote::from_leader_id(LeaderId::new(7, u64::MAX), committed);
            assert_eq!(decode_vote(encode_vote(&vote)).unwrap(), vote);
        }
        assert!(decode_vote(Bytes::new()).is_err());
    }

    #[test]
    fn joint_membership_with_learners_round_trips() {
        let configs = vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([3, 4])];
        let membership = Membership::new_with_defaults(configs, [9]);
        assert_eq!(decode_membership(encode_membership(&membership)).unwrap(), membership);
    }

    proptest! {
        #[test]
        fn x1_garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode_vote(bytes.clone().into());
            let _ = decode_membership(bytes.into());
        }
    }
}

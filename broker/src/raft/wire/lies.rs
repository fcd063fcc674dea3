//! X1: what replicas of a group tell each other, mutated.

use openraft::vote::{RaftLeaderId, RaftVote};
use stratalog_mutation::{Decoder, Pieces, piece};

use super::super::codec::{decode_stored_membership, encode_stored_membership};
use super::super::types::{LeaderId, Membership, StoredMembership};
use super::*;

fn vote(term: u64, committed: bool) -> Vote {
    Vote::from_leader_id(LeaderId::new(term, 2), committed)
}

fn membership() -> Membership {
    Membership::new_with_defaults(vec![[1, 2, 3].into(), [3, 4].into()], [9])
}

/// The number of parts (u8), each with its length, and the head.
const REQUEST: Decoder =
    Decoder { name: "raft_request", samples: requests, run: read_request, words: &[], memory_bytes: 1 << 20 };

fn requests() -> Vec<Vec<u8>> {
    let entry = |(index, payload)| Entry { log_id: log_id(4, index), payload };
    let payloads = [
        EntryPayload::Blank,
        EntryPayload::Normal(EntryBytes::from(Bytes::from_static(b"an entry"))),
        EntryPayload::Membership(membership()),
    ];
    let append = |prev: Option<LogId>| AppendEntriesRequest {
        vote: vote(5, true),
        prev_log_id: prev,
        entries: (prev.map_or(0, |prev| prev.index + 1)..).zip(payloads.clone()).map(entry).collect(),
        leader_commit: prev,
    };
    let last = Some(log_id(4, 8));
    let requests = [
        Request::Append(append(Some(log_id(3, 7)))),
        Request::Append(append(None)),
        Request::Vote(VoteRequest::new(vote(9, false), last)),
        Request::PreVote(VoteRequest::new(vote(9, false), None)),
        Request::TransferLeader(TransferLeaderRequest::new(vote(9, true), 7, last)),
    ];
    requests.map(|request| written(&request.encode())).into()
}

fn written(Message { head, parts }: &Message) -> Vec<u8> {
    let pieces: Vec<u8> = parts.iter().flat_map(|part| piece(part)).collect();
    [&[parts.len() as u8], &pieces[..], head].concat()
}

/// Under checksums that are right for the payloads, as far as the head has entries.
fn read_request(bytes: &[u8]) -> bool {
    let mut pieces = Pieces(bytes);
    let parts: Vec<Bytes> = (0..pieces.byte()).map(|_| Bytes::copy_from_slice(pieces.piece())).collect();
    let mut head = pieces.rest().to_vec();
    let _ = Request::decode(Message { head: Bytes::copy_from_slice(&head), parts: parts.clone() });
    let headers = head.len().saturating_sub(parts.len() * ENTRY_HEADER_BYTES);
    for (header, payload) in head[headers..].chunks_exact_mut(ENTRY_HEADER_BYTES).zip(&parts) {
        header[16..20].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        header[20..24].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
    }
    let Ok(read) = Request::decode(Message { head: head.into(), parts }) else { return false };
    if let Request::Append(append) = &read {
        let follows = append.entries.iter().all(|entry| entry.log_id.index < u64::MAX);
        assert!(follows, "every index has a next one");
    }
    let again = read.encode();
    let back = Request::decode(again.clone()).map(|request| request.encode());
    assert_eq!(back.map(|message| written(&message)).ok(), Some(written(&again)));
    true
}

#[test]
fn x1_requests_that_lie() {
    REQUEST.check();
}

const ANSWER: Decoder =
    Decoder { name: "raft_answer", samples: answers, run: read_answer, words: &[], memory_bytes: 1 << 20 };

fn answers() -> Vec<Vec<u8>> {
    let answers = [
        Answer::Appended(Some(log_id(1, 2))),
        Answer::Conflict(None),
        Answer::HigherVote(vote(3, true)),
        Answer::Vote(VoteResponse { vote: vote(3, false), vote_granted: true, last_log_id: Some(log_id(1, 2)) }),
        Answer::StateTaken(vote(3, true)),
        Answer::TakenOver(true),
    ];
    answers.map(|answer| answer.encode().to_vec()).into()
}

fn read_answer(bytes: &[u8]) -> bool {
    let Ok(answer) = Answer::decode(Bytes::copy_from_slice(bytes)) else { return false };
    assert_eq!(Answer::decode(answer.encode()).ok(), Some(answer));
    true
}

const MEMBERSHIP: Decoder =
    Decoder { name: "membership", samples: memberships, run: read_membership, words: &[], memory_bytes: 1 << 20 };

fn memberships() -> Vec<Vec<u8>> {
    let stored = |set_by| encode_stored_membership(&StoredMembership::new(set_by, membership())).to_vec();
    vec![stored(None), stored(Some(log_id(4, 8)))]
}

fn read_membership(bytes: &[u8]) -> bool {
    let Ok(stored) = decode_stored_membership(Bytes::copy_from_slice(bytes)) else { return false };
    assert_eq!(decode_stored_membership(encode_stored_membership(&stored)).ok(), Some(stored));
    true
}

#[test]
fn x1_answers_and_memberships_that_lie() {
    ANSWER.check();
    MEMBERSHIP.check();
}

use openraft::vote::{RaftLeaderId, RaftVote};
use proptest::prelude::*;

use super::*;
use crate::raft::types::LeaderId;

fn vote(term: u64, committed: bool) -> Vote {
    Vote::from_leader_id(LeaderId::new(term, 2), committed)
}

fn append(entries: u64) -> AppendEntriesRequest<TypeConfig> {
    let entry = |index| Entry {
        log_id: log_id(4, index),
        payload: match index % 3 {
            0 => EntryPayload::Blank,
            1 => EntryPayload::Normal(EntryBytes::from(Bytes::from(vec![index as u8; 9]))),
            _ => EntryPayload::Membership(openraft::Membership::new_with_defaults(vec![[1, 2, 3].into()], [])),
        },
    };
    AppendEntriesRequest {
        vote: vote(5, true),
        prev_log_id: Some(log_id(3, 7)),
        entries: (8..8 + entries).map(entry).collect(),
        leader_commit: None,
    }
}

#[test]
fn an_append_round_trips_without_a_copy_of_its_payloads() {
    let sent = append(5);
    let message = Request::Append(sent.clone()).encode();
    let Request::Append(back) = Request::decode(message.clone()).unwrap() else { panic!("another request") };
    assert_eq!((back.vote, back.prev_log_id, back.leader_commit), (sent.vote, sent.prev_log_id, sent.leader_commit));
    assert_eq!(back.entries, sent.entries);
    let payload = sent.entries.iter().find_map(|entry| match &entry.payload {
        EntryPayload::Normal(entry) => Some(entry.bytes.as_ptr()),
        _ => None,
    });
    assert!(message.parts.iter().any(|part| Some(part.as_ptr()) == payload));
}

#[test]
fn votes_and_answers_round_trip() {
    let mut request = VoteRequest::<TypeConfig>::new(vote(9, false), Some(log_id(4, 8)));
    request.leadership_transfer = true;
    match Request::decode(Request::PreVote(request.clone()).encode()).unwrap() {
        Request::PreVote(back) => assert_eq!(back, request),
        _ => panic!("another request"),
    }
    let transfer = TransferLeaderRequest::<TypeConfig>::new(vote(9, true), 7, Some(log_id(4, 8)));
    match Request::decode(Request::TransferLeader(transfer.clone()).encode()).unwrap() {
        Request::TransferLeader(back) => assert_eq!(back, transfer),
        _ => panic!("another request"),
    }
    let answers = [
        Answer::TakenOver(true),
        Answer::Appended(None),
        Answer::Appended(Some(log_id(1, 2))),
        Answer::Conflict(Some(log_id(1, 2))),
        Answer::HigherVote(vote(3, true)),
        Answer::Vote(VoteResponse { vote: vote(3, false), vote_granted: true, last_log_id: None }),
        Answer::StateTaken(vote(3, true)),
    ];
    for answer in answers {
        assert_eq!(Answer::decode(answer.encode()).unwrap(), answer);
    }
}

#[test]
fn x1_messages_that_contradict_themselves_are_refused() {
    let refused = |message: Message| assert!(Request::decode(message).is_err());
    let whole = Request::Append(append(4)).encode();
    refused(Message { parts: whole.parts[1..].to_vec(), ..whole.clone() });
    refused(Message { head: whole.head.slice(..whole.head.len() - 1), ..whole.clone() });
    refused(Message { head: [&whole.head[..], b"x"].concat().into(), ..whole.clone() });
    for at in 0..whole.parts.len() {
        let mut other = whole.clone();
        other.parts[at] = Bytes::from_static(b"another payload");
        refused(other);
    }
    refused(Request::Append(AppendEntriesRequest { vote: vote(5, false), ..append(1) }).encode());
    refused(Request::TransferLeader(TransferLeaderRequest::new(vote(5, false), 7, None)).encode());
    refused(Request::Append(AppendEntriesRequest { vote: vote(u64::MAX, true), ..append(1) }).encode());
    refused(Request::Append(AppendEntriesRequest { vote: vote(3, true), ..append(1) }).encode());
    refused(Request::Append(AppendEntriesRequest { prev_log_id: Some(log_id(4, 3)), ..append(1) }).encode());
    refused(Request::Append(AppendEntriesRequest { prev_log_id: Some(log_id(4, u64::MAX - 1)), ..append(1) }).encode());
}

proptest! {
    #[test]
    fn x1_garbage_never_panics(
        head in prop::collection::vec(any::<u8>(), 0..200),
        kind in 0..8u8,
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..4),
    ) {
        let mut head = head;
        if let Some(first) = head.first_mut() {
            *first = kind;
        }
        let _ = Answer::decode(Bytes::from(head.clone()));
        let parts = parts.into_iter().map(Bytes::from).collect();
        let _ = Request::decode(Message { head: head.into(), parts });
    }
}

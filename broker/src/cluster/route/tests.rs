//! How a request finds the leader of its shard.

use std::sync::atomic::{AtomicUsize, Ordering};

use stratalog_proto::Code;
use stratalog_proto::internal::TookEffect;

use super::testing::{FakeLinks, ME, SHARD};
use super::wire::success;
use super::*;

fn router(links: &Arc<FakeLinks>) -> Router {
    Router::new(Arc::clone(links) as _, CancellationToken::new())
}

/// Sends a request until it has an answer: where it was answered.
async fn route(router: &Router, patience: Duration, repeatable: bool) -> Result<Leader, Error> {
    let mut tries = router.tries(SHARD, patience, repeatable);
    loop {
        let leader = tries.leader().await?;
        let answer = match leader {
            Leader::Here => Ok(leader),
            Leader::At(node) => {
                let asked = router.ask(node, Method::Propose, Frame::default(), Duration::from_secs(1)).await;
                asked.map(|_| leader)
            }
        };
        if let Some(answer) = tries.settle(leader, answer).await {
            return answer;
        }
    }
}

fn done() -> Result<Frame, CallError> {
    Ok(success(&TookEffect {}, Vec::new()))
}

fn not_leader(hint: Option<u64>) -> Result<Frame, CallError> {
    Ok(refusal(Error::new(Code::NotLeader, "not me"), hint.map(NodeId)))
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_nobody_told_of_is_asked_for_once() {
    let links = FakeLinks::new(false, Some(NodeId(3)));
    links.call_with(3, |_| done());
    let router = router(&links);
    assert_eq!(route(&router, READ_WAIT, false).await, Ok(Leader::At(NodeId(3))));
    links.lead(None);
    assert_eq!(route(&router, READ_WAIT, false).await, Ok(Leader::At(NodeId(3))), "it is remembered");
}

#[tokio::test(start_paused = true)]
async fn what_the_own_replica_knows_counts_more_than_what_was_heard() {
    let links = FakeLinks::new(true, Some(NodeId(3)));
    links.note_leader(SHARD, Some(NodeId(3)));
    links.call_with(2, |_| done());
    let router = router(&links);
    links.set_role(7, Some(NodeId(2)));
    assert_eq!(route(&router, READ_WAIT, false).await, Ok(Leader::At(NodeId(2))));
    links.set_role(8, Some(ME));
    assert_eq!(route(&router, READ_WAIT, false).await, Ok(Leader::Here));
}

#[tokio::test(start_paused = true)]
async fn a_leader_is_named_with_the_epoch_in_which_it_leads() {
    let links = FakeLinks::new(true, None);
    let router = router(&links);
    assert_eq!(router.known_lead(SHARD), (None, None));
    links.set_role(4, Some(NodeId(2)));
    assert_eq!(router.known_lead(SHARD), (Some(Leader::At(NodeId(2))), Some(Term(4))));
    links.set_role(9, None);
    assert_eq!(router.known_lead(SHARD), (None, Some(Term(4))), "a term that nobody leads yet is no epoch");
    links.note_leader(SHARD, Some(NodeId(3)));
    links.note_epoch(SHARD, Term(11));
    assert_eq!(router.known_lead(SHARD), (Some(Leader::At(NodeId(3))), Some(Term(11))), "what was heard is newer");
    links.note_epoch(SHARD, Term(10));
    assert_eq!(router.known_epoch(SHARD), Some(Term(11)), "an epoch does not go back");
    links.set_role(12, Some(ME));
    assert_eq!(router.known_lead(SHARD), (Some(Leader::Here), Some(Term(12))));
}

#[tokio::test(start_paused = true)]
async fn who_claims_a_newer_epoch_has_the_others_asked() {
    let links = FakeLinks::new(true, Some(NodeId(3)));
    let router = router(&links);
    links.set_role(4, Some(NodeId(2)));
    assert_eq!(router.epoch(SHARD, Term(4)).await, Some(Term(4)));
    assert_eq!(links.heard_epoch(SHARD), None, "nobody was asked");
    // They know of the fifth term.
    assert_eq!(router.epoch(SHARD, Term(5)).await, Some(Term(5)));
    assert_eq!(router.epoch(SHARD, Term(6)).await, Some(Term(5)), "what nobody knows stays a claim");
    assert_eq!(router.known_lead(SHARD), (Some(Leader::At(NodeId(3))), Some(Term(5))));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_lead_any_more_says_who_does() {
    let links = FakeLinks::new(false, None);
    links.note_leader(SHARD, Some(NodeId(2)));
    links.call_with(2, |_| not_leader(Some(3)));
    links.call_with(3, |_| done());
    assert_eq!(route(&router(&links), READ_WAIT, false).await, Ok(Leader::At(NodeId(3))));
    assert_eq!(links.heard_leader(SHARD), Some(NodeId(3)));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_down_is_not_believed_in_by_its_old_reputation() {
    let links = FakeLinks::new(true, Some(NodeId(3)));
    links.set_role(4, Some(NodeId(2)));
    links.call_with(3, |_| done());
    assert_eq!(route(&router(&links), READ_WAIT, false).await, Ok(Leader::At(NodeId(3))));
}

#[tokio::test(start_paused = true)]
async fn without_a_leader_a_request_ends_and_was_not_done() {
    let links = FakeLinks::new(false, None);
    let error = route(&router(&links), READ_WAIT, false).await.unwrap_err();
    assert_eq!(error.code, Code::NotLeader);
    assert!(error.message.contains("nothing was done"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_request_of_unknown_outcome_is_repeated_only_if_that_does_no_harm() {
    for repeatable in [true, false] {
        let links = FakeLinks::new(false, Some(NodeId(2)));
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        links.call_with(2, move |_| match counted.fetch_add(1, Ordering::SeqCst) {
            0 => Err(CallError::Unknown("the connection broke".to_owned())),
            _ => done(),
        });
        let answer = route(&router(&links), READ_WAIT, repeatable).await;
        match repeatable {
            true => assert_eq!(answer, Ok(Leader::At(NodeId(2)))),
            false => assert_eq!(answer.unwrap_err().code, Code::Timeout),
        }
        assert_eq!(calls.load(Ordering::SeqCst), if repeatable { 2 } else { 1 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_hangs_is_waited_for_until_another_one_leads() {
    let links = FakeLinks::new(true, None);
    links.set_role(4, Some(NodeId(2)));
    links.hang(2);
    let (router, begun) = (router(&links), tokio::time::Instant::now());
    let elected = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        links.set_role(5, None);
        tokio::time::sleep(Duration::from_secs(1)).await;
        links.set_role(6, Some(NodeId(3)));
    };
    let asked = router.ask_leader(SHARD, NodeId(2), Method::Read, Frame::default(), READ_WAIT);
    let (asked, ()) = tokio::join!(asked, elected);
    assert!(matches!(asked, Err(Missed::Unknown(_))), "it may be asked elsewhere");
    assert_eq!(begun.elapsed(), Duration::from_secs(2));
    let asked = router.ask_leader(SHARD, NodeId(2), Method::Read, Frame::default(), READ_WAIT).await;
    assert!(
        asked.is_err() && begun.elapsed() == Duration::from_secs(2) + READ_WAIT,
        "what was known before is no news"
    );
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_hangs_does_not_hold_up_who_looks_for_the_leader() {
    let links = FakeLinks::new(true, Some(NodeId(3)));
    links.hang(2);
    let (router, begun) = (router(&links), tokio::time::Instant::now());
    assert_eq!(router.ask_replicas(SHARD).await, Some(NodeId(3)));
    assert!(begun.elapsed() < Duration::from_millis(100), "{:?}", begun.elapsed());
    links.lead(Some(NodeId(2)));
    assert_eq!(router.ask_replicas(SHARD).await, Some(NodeId(2)), "as node 3 says, while it does not say so itself");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_request_itself_is_the_answer() {
    let links = FakeLinks::new(false, Some(NodeId(2)));
    links.call_with(2, |_| Ok(refusal(Error::new(Code::Conflict, "others were faster"), None)));
    assert_eq!(route(&router(&links), READ_WAIT, true).await.unwrap_err().code, Code::Conflict);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_stops_looks_for_nobody() {
    let stop = CancellationToken::new();
    let links = FakeLinks::new(false, None);
    let router = Router::new(Arc::clone(&links) as _, stop.clone());
    stop.cancel();
    assert_eq!(route(&router, READ_WAIT, false).await.unwrap_err().code, Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn x1_an_answer_that_is_none_leaves_the_outcome_open() {
    let links = FakeLinks::new(false, Some(NodeId(2)));
    links.call_with(2, |_| Ok(Frame::head(&b"\xff\xff\xff"[..])));
    assert_eq!(route(&router(&links), READ_WAIT, false).await.unwrap_err().code, Code::Timeout);
}

//! Nodes that go, and come back.

use futures::StreamExt;

use super::*;

#[tokio::test]
async fn a_node_that_dies_leaves_what_it_was_asked_unknown() {
    let (one, two) = pair().await;
    let asked = one.transport.call(NodeId(2), Method::Propose, frame("wait", &[]), LONG);
    let heard = two.service.clone();
    let kill = async {
        while heard.heard.lock().is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        two.kill().await;
    };
    let (answer, ()) = tokio::join!(asked, kill);
    assert!(matches!(answer, Err(CallError::Unknown(_))), "{answer:?}");
    // What comes later was certainly not done.
    let later = one.transport.call(NodeId(2), Method::Propose, frame("", &[]), LONG).await;
    assert!(matches!(later, Err(CallError::NotSent(_))), "{later:?}");
    assert!(one.transport.problem(NodeId(2)).is_some());
}

#[tokio::test]
async fn a_stream_that_loses_its_node_ends_with_an_error() {
    let (one, two) = pair().await;
    let frames = stream::iter([Ok(frame("first", &[]))]).chain(stream::pending()).boxed();
    let mut answers = one.transport.stream(NodeId(2), Method::RaftReplicate, frames);
    answers.next().await.unwrap().unwrap();
    two.kill().await;
    let last = answers.next().await;
    assert!(matches!(last, Some(Err(CallError::Unknown(_)))), "{last:?}");
}

#[tokio::test]
async fn a_node_that_comes_back_is_found_again() {
    let (one, two) = pair().await;
    eventually(&one, 2, Method::Produce).await;
    let address = two.address.clone();
    two.kill().await;
    let refused = one.transport.call(NodeId(2), Method::Produce, frame("", &[]), LONG).await;
    assert!(refused.is_err());
    let again = Node::start_on(TcpListener::bind(&address).await.unwrap(), identity(2), TransportOptions::default());
    eventually(&one, 2, Method::Produce).await;
    assert_eq!(one.transport.problem(NodeId(2)), None);
    again.stop().await;
}

#[tokio::test]
async fn a_node_that_is_reached_on_one_lane_is_reached_whatever_was_lost_on_the_others() {
    let (one, two) = pair().await;
    for method in [Method::Produce, Method::ReplicaState, Method::OpenPart] {
        eventually(&one, 2, method).await;
    }
    let address = two.address.clone();
    two.kill().await;
    let again = Node::start_on(TcpListener::bind(&address).await.unwrap(), identity(2), TransportOptions::default());
    eventually(&one, 2, Method::ReplicaState).await;
    assert_eq!(one.transport.problem(NodeId(2)), None);
    for method in [Method::Produce, Method::OpenPart] {
        eventually(&one, 2, method).await;
    }
    again.stop().await;
}

#[tokio::test]
async fn a_node_is_gone_for_certain_once_nobody_listens_there() {
    let (one, two) = pair().await;
    assert!(!one.transport.is_gone(NodeId(2)).await, "it was not even connected to");
    eventually(&one, 2, Method::Produce).await;
    two.kill().await;
    assert!(one.transport.is_gone(NodeId(2)).await);
    assert!(!one.transport.is_gone(NodeId(9)).await, "nobody knows where that is");
}

#[tokio::test]
async fn while_a_node_is_away_callers_fail_at_once() {
    let options = TransportOptions { backoff_min: LONG, backoff_max: LONG, ..TransportOptions::default() };
    let (one, two) = pair_with(options).await;
    let address = two.address.clone();
    two.kill().await;
    let first = one.transport.call(NodeId(2), Method::Produce, frame("", &[]), LONG).await;
    assert!(matches!(first, Err(CallError::NotSent(_))), "{first:?}");
    // It is back, but nobody tries before the pause is over.
    let back = Node::start_on(TcpListener::bind(&address).await.unwrap(), identity(2), TransportOptions::default());
    let second = one.transport.call(NodeId(2), Method::Produce, frame("", &[]), LONG).await;
    assert!(matches!(second, Err(CallError::NotSent(_))), "{second:?}");
    back.stop().await;
}

#[tokio::test]
async fn a_node_that_stops_ends_what_it_answers_within_its_time() {
    let (one, two) = pair().await;
    let frames = stream::iter([Ok(frame("first", &[]))]).chain(stream::pending()).boxed();
    let mut answers = one.transport.stream(NodeId(2), Method::RaftReplicate, frames);
    answers.next().await.unwrap().unwrap();
    tokio::time::timeout(LONG, two.stop()).await.unwrap();
    assert!(matches!(answers.next().await, Some(Err(_))));
}

/// A peer that accepts connections and then is silent, as one that is stopped or cut off.
#[tokio::test]
async fn a_silent_peer_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = TransportOptions { connect_timeout: Duration::from_millis(200), ..TransportOptions::default() };
    let one = Node::start(identity(1), options).await;
    one.knows(2, &silent.local_addr().unwrap().to_string());
    let refused = one.transport.call(NodeId(2), Method::Produce, frame("", &[]), LONG).await;
    assert!(matches!(&refused, Err(CallError::NotSent(words)) if words.contains("did not answer")), "{refused:?}");
}

/// It keeps to the handshake, and then neither reads nor answers, as a process that is stopped.
#[tokio::test]
async fn a_peer_that_falls_silent_is_noticed() {
    let (millis, listener) = (Duration::from_millis, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let options = TransportOptions { ping_interval: millis(50), ping_timeout: millis(100), ..Default::default() };
    let one = Node::start(identity(1), options).await;
    one.knows(2, &listener.local_addr().unwrap().to_string());
    let silent = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let accepted = crate::handshake::accept(&mut socket, &identity(2), &Book::default(), None).await;
        (socket, accepted.unwrap())
    });
    let asked = one.transport.call(NodeId(2), Method::Propose, frame("", &[]), 10 * LONG);
    let answer = tokio::time::timeout(LONG, asked).await.expect("it is given up long before");
    assert!(matches!(answer, Err(CallError::Unknown(_))), "{answer:?}");
    drop(silent.await);
}

/// While a node goes, by its own will or not, nothing that was done is called not sent.
#[tokio::test]
async fn what_is_said_not_to_be_sent_was_not_heard() {
    for gently in [true, false] {
        let (one, two) = pair().await;
        eventually(&one, 2, Method::Propose).await;
        let service = two.service.clone();
        let calls = (0..3000).map(|number| {
            let sent =
                Frame { head: format!("call {number}").into(), parts: vec![Bytes::from(vec![0; number % 6000])] };
            let (transport, head) = (one.transport.clone(), sent.head.clone());
            async move { (head, transport.call(NodeId(2), Method::Propose, sent, LONG).await) }
        });
        let calls = stream::iter(calls).buffer_unordered(64).collect::<Vec<_>>();
        let heard = service.clone();
        let go = async move {
            while heard.heads.lock().len() < 500 {
                tokio::task::yield_now().await;
            }
            if gently { two.stop().await } else { two.kill().await }
        };
        let (answers, ()) = tokio::join!(calls, go);
        let heads = service.heads.lock();
        for (head, answer) in &answers {
            match answer {
                Ok(_) => assert!(heads.contains(head)),
                Err(CallError::NotSent(words)) => assert!(!heads.contains(head), "{head:?} was heard: {words}"),
                Err(CallError::Unknown(_)) => {}
                Err(CallError::Refused(error)) => panic!("{head:?} was refused: {error}"),
            }
        }
        let not_sent = answers.iter().filter(|(_, answer)| matches!(answer, Err(CallError::NotSent(_)))).count();
        assert!(not_sent > 500, "only {not_sent} were certain");
    }
}

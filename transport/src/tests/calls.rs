//! One message, one answer.

use super::*;

#[tokio::test]
async fn a_frame_comes_back_as_it_went() {
    let (one, two) = pair().await;
    for sent in [frame("", &[]), frame("head", &[0, 1, 5_000, 3 << 20, 10]), Frame::head(vec![1; 2 << 20])] {
        let answer = one.transport.call(NodeId(2), Method::Produce, sent.clone(), LONG).await.unwrap();
        assert!(answer == sent, "{} bytes went, {} came back", sent.bytes(), answer.bytes());
    }
    let heard = two.service.heard.lock();
    assert_eq!((heard[0].0.identity.node, heard[0].1), (NodeId(1), Method::Produce));
}

#[tokio::test]
async fn many_calls_share_the_connections() {
    let (one, _two) = pair().await;
    let methods = Method::ALL.iter().copied().filter(|method| !method.is_open()).cycle();
    let calls = (0..500_usize).zip(methods).map(|(number, method)| {
        let sent = frame("head", &[number, 10 * number]);
        let call = one.transport.call(NodeId(2), method, sent.clone(), LONG);
        async move { assert_eq!(call.await.unwrap(), sent) }
    });
    futures::future::join_all(calls).await;
}

#[tokio::test]
async fn a_refusal_keeps_its_code_and_words() {
    let (one, _two) = pair().await;
    let refused = one.transport.call(NodeId(2), Method::Propose, frame("refuse", &[]), LONG).await;
    let Err(CallError::Refused(error)) = refused else { panic!("{refused:?}") };
    assert_eq!(error, Error::new(Code::NotLeader, "node 3 leads it"));
    assert_eq!(one.transport.problem(NodeId(2)), None, "a refusal is no problem of the connection");
}

#[tokio::test]
async fn a_call_without_an_answer_in_time_is_unknown() {
    let (one, two) = pair().await;
    let none = one.transport.call(NodeId(2), Method::Propose, frame("wait", &[]), Duration::from_millis(300)).await;
    assert!(matches!(none, Err(CallError::Unknown(_))), "{none:?}");
    two.service.go.notify_waiters();
    one.transport.call(NodeId(2), Method::Propose, frame("on", &[]), LONG).await.unwrap();
}

#[tokio::test]
async fn a_frame_over_the_bounds_is_refused_before_it_is_sent() {
    let (one, two) = pair().await;
    let large = Frame::head(vec![0; Frame::MAX_BYTES + 1]);
    let refused = one.transport.call(NodeId(2), Method::Produce, large, LONG).await;
    assert!(matches!(refused, Err(CallError::Refused(_))), "{refused:?}");
    assert!(two.service.heard.lock().is_empty());
}

#[tokio::test]
async fn an_address_is_asked_what_is_open() {
    let options = TransportOptions { secret: Some(Secret::new("0123456789abcdef").unwrap()), ..Default::default() };
    let seed = Node::start(identity(2), options.clone()).await;
    let alone = Identity { cluster: None, node: NodeId(0), ..identity(9) };
    let node = Node::start(alone.clone(), options).await;
    let (peer, answer) =
        node.transport.call_address(&seed.address, Method::Join, frame("join", &[]), LONG).await.unwrap();
    assert_eq!((peer.identity, answer), (identity(2), frame("join", &[])));
    assert_eq!(seed.service.heard.lock()[0].0.identity, alone);
    let refused = node.transport.call_address(&seed.address, Method::Propose, frame("", &[]), LONG).await;
    assert!(matches!(refused, Err(CallError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn who_joins_is_heard_by_its_new_name() {
    let (one, two) = pair().await;
    let alone = Identity { cluster: None, node: NodeId(0), ..identity(1) };
    one.transport.identify(alone);
    let refused = one.transport.call(NodeId(2), Method::Propose, frame("", &[]), LONG).await;
    assert!(matches!(refused, Err(CallError::NotSent(_))), "{refused:?}");
    one.transport.identify(identity(1));
    one.transport.call(NodeId(2), Method::Propose, frame("", &[]), LONG).await.unwrap();
    assert_eq!(two.service.heard.lock().len(), 1);
}

#[tokio::test]
async fn mutual_tls_carries_calls() {
    let (one, _two) = pair_with(TransportOptions { tls: Some(refusals::tls("cluster")), ..Default::default() }).await;
    let sent = frame("head", &[1 << 20, 3]);
    assert_eq!(one.transport.call(NodeId(2), Method::Fetch, sent.clone(), LONG).await.unwrap(), sent);
}

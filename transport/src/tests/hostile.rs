//! What comes to the port and is no node, and nodes that lie.

use hyper::{Request, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

#[tokio::test]
async fn strangers_are_closed_and_nodes_go_on() {
    let (one, two) = pair().await;
    for rubbish in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01", &[0xff; 100_000]] {
        let mut stranger = TcpStream::connect(&two.address).await.unwrap();
        // The other side may close before it has read all.
        let _ = stranger.write_all(rubbish).await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(LONG, stranger.read_to_end(&mut answer)).await.unwrap();
        assert!(answer.is_empty(), "a stranger learns nothing, not {answer:?}");
    }
    eventually(&one, 2, Method::Produce).await;
}

#[tokio::test]
async fn silent_strangers_do_not_keep_nodes_away() {
    let options =
        TransportOptions { max_handshakes: 4, connect_timeout: Duration::from_millis(300), ..Default::default() };
    let (one, two) = pair_with(options).await;
    let mut strangers = Vec::new();
    for _ in 0..16 {
        strangers.push(TcpStream::connect(&two.address).await.unwrap());
    }
    eventually(&one, 2, Method::Produce).await;
    for mut stranger in strangers {
        let read = tokio::time::timeout(LONG, stranger.read(&mut [0; 16])).await.unwrap();
        assert_eq!(read.unwrap_or(0), 0, "closed without a word");
    }
}

/// Starts a call of so many bytes that node 2 does not answer before it is told to.
fn wait_with(one: &Node, bytes: usize) -> JoinHandle<Result<Frame, CallError>> {
    let call = one.transport.call(NodeId(2), Method::Propose, frame("wait", &[bytes]), LONG);
    tokio::spawn(call)
}

async fn until_heard(two: &Node, calls: usize) {
    while two.service.heard.lock().len() < calls {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn x1_large_frames_come_in_only_as_far_as_there_is_room() {
    let options = TransportOptions { max_intake_bytes: 0, intake_wait: LONG, ..TransportOptions::default() };
    let (one, two) = pair_with(options).await;
    let most_of_it = Frame::MAX_BYTES / 4 * 3;
    let first = wait_with(&one, most_of_it);
    until_heard(&two, 1).await;
    let second = wait_with(&one, most_of_it);
    for _ in 0..20 {
        one.transport.call(NodeId(2), Method::Propose, frame("small", &[]), LONG).await.unwrap();
    }
    assert_eq!(two.service.heard.lock().len(), 21, "what is small does not wait, and what is large does");
    two.service.go.notify_one();
    first.await.unwrap().unwrap();
    until_heard(&two, 22).await;
    two.service.go.notify_one();
    second.await.unwrap().unwrap();
}

#[tokio::test]
async fn x1_a_frame_that_finds_no_room_is_refused_and_was_not_heard() {
    let intake_wait = Duration::from_millis(100);
    let options = TransportOptions { max_intake_bytes: 0, intake_wait, ..TransportOptions::default() };
    let (one, two) = pair_with(options).await;
    let first = wait_with(&one, Frame::MAX_BYTES / 4 * 3);
    until_heard(&two, 1).await;
    let refused = wait_with(&one, Frame::MAX_BYTES / 4 * 3).await.unwrap();
    let Err(CallError::Refused(error)) = refused else { panic!("{:?}", refused.map(|_| ())) };
    assert!(error.code.is_retriable() && error.message.contains("no room"), "{error}");
    assert_eq!(two.service.heard.lock().len(), 1);
    two.service.go.notify_one();
    first.await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_are_bounded() {
    let options = TransportOptions { max_connections: 2, ..TransportOptions::default() };
    let (one, two) = pair_with(options).await;
    one.transport.call(NodeId(2), Method::Produce, frame("", &[]), LONG).await.unwrap();
    one.transport.call(NodeId(2), Method::RaftState, frame("", &[]), LONG).await.unwrap();
    let third = one.transport.call(NodeId(2), Method::Propose, frame("", &[]), LONG).await;
    assert!(matches!(third, Err(CallError::NotSent(_))), "{third:?}");
    assert_eq!(two.service.heard.lock().len(), 2);
}

/// A node that has passed the handshake, and then sends what it likes.
async fn liar(two: &Node) -> hyper::client::conn::http2::SendRequest<String> {
    let mut socket = TcpStream::connect(&two.address).await.unwrap();
    let expected = crate::handshake::Expected::Node { node: NodeId(2), incarnation: None };
    crate::handshake::offer(&mut socket, &identity(1), expected, None, "two").await.unwrap();
    let executor = hyper_util::rt::TokioExecutor::new();
    let io = hyper_util::rt::TokioIo::new(socket);
    let (sender, driver) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(driver);
    sender
}

#[tokio::test]
async fn a_node_that_sends_no_frames_is_closed() {
    let (one, two) = pair().await;
    let mut liar = liar(&two).await;
    let rubbish = crate::http::request(Method::Produce, crate::http::Shape::Call, "x".repeat(1000));
    assert_eq!(liar.send_request(rubbish).await.unwrap().status(), StatusCode::OK);
    tokio::time::timeout(LONG, async {
        while !liar.is_closed() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert!(two.service.heard.lock().is_empty());
    eventually(&one, 2, Method::Produce).await;
}

#[tokio::test]
async fn a_request_that_is_none_of_ours_is_refused() {
    let (_one, two) = pair().await;
    let mut liar = liar(&two).await;
    let request = Request::post("http://x/stratalog.internal.v1.Peer/Produce").body(String::new()).unwrap();
    assert_eq!(liar.send_request(request).await.unwrap().status(), StatusCode::OK);
    assert!(two.service.heard.lock().is_empty());
    assert!(!liar.is_closed());
}

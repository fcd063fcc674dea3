//! Messages in both directions.

use futures::StreamExt;
use tokio::sync::mpsc;

use super::*;

type Sent = stream::BoxStream<'static, Result<Frame, Error>>;

fn numbered(count: usize, bytes: usize) -> Sent {
    let part = Bytes::from(vec![3; bytes]);
    let frames = (0..count).map(move |number| Ok(Frame { head: number.to_string().into(), parts: vec![part.clone()] }));
    stream::iter(frames).boxed()
}

#[tokio::test]
async fn frames_keep_their_order() {
    let (one, _two) = pair().await;
    let streams = (0..8).map(|_| async {
        let mut answers = one.transport.stream(NodeId(2), Method::RaftReplicate, numbered(300, 9_000));
        for number in 0..300 {
            let answer = answers.next().await.unwrap().unwrap();
            assert_eq!(answer.head, number.to_string());
        }
        assert!(answers.next().await.is_none());
    });
    futures::future::join_all(streams).await;
}

#[tokio::test]
async fn an_error_among_the_frames_ends_the_stream_at_the_receiver() {
    let (one, _two) = pair().await;
    let broken = Error::new(Code::CorruptData, "block 7");
    let frames = numbered(2, 10).chain(stream::iter([Err(broken.clone()), Ok(frame("never", &[]))])).boxed();
    let answers: Vec<_> = one.transport.stream(NodeId(2), Method::RaftState, frames).collect().await;
    assert_eq!(answers.len(), 3);
    assert!(matches!(&answers[2], Err(CallError::Refused(error)) if *error == broken), "{:?}", answers[2]);
}

#[tokio::test]
async fn a_stream_can_be_refused() {
    let (one, _two) = pair().await;
    let frames = stream::iter([Ok(frame("refuse", &[]))]).boxed();
    let answers: Vec<_> = one.transport.stream(NodeId(2), Method::RunPart, frames).collect().await;
    assert!(matches!(&answers[..], [Err(CallError::Refused(error))] if error.code == Code::Conflict), "{answers:?}");
}

#[tokio::test]
async fn a_stream_to_nobody_is_not_sent() {
    let (one, two) = pair().await;
    two.kill().await;
    let answers: Vec<_> = one.transport.stream(NodeId(2), Method::RunPart, numbered(3, 10)).collect().await;
    assert!(matches!(&answers[..], [Err(CallError::NotSent(_))]), "{answers:?}");
}

#[tokio::test]
async fn who_does_not_read_holds_the_sender_back() {
    let (one, two) = pair().await;
    let (drawn, count) = (Arc::new(Mutex::new(0_usize)), 200);
    let counted = drawn.clone();
    let first = stream::iter([Ok(frame("wait", &[]))]);
    let frames = first.chain(numbered(count, 1 << 20)).inspect(move |_| *counted.lock() += 1).boxed();
    let mut answers = one.transport.stream(NodeId(2), Method::RaftState, frames);
    let first = tokio::time::timeout(Duration::from_secs(1), answers.next()).await;
    assert!(first.is_err(), "it is not read yet: {first:?}");
    // The windows of the stream and of the buffers below it are far less than what is to be sent.
    let held = *drawn.lock();
    assert!(held < count / 2, "{held} of {count} frames left");
    // Another stream and calls on the same connection go on.
    let other: Vec<_> = one.transport.stream(NodeId(2), Method::RaftState, numbered(20, 1 << 20)).collect().await;
    assert!(other.len() == 20 && other.iter().all(Result::is_ok));
    two.service.go.notify_one();
    let rest = answers.fold(0, |sum, answer| async move { sum + answer.unwrap().parts.len() }).await;
    assert_eq!(rest, count);
}

#[tokio::test]
async fn dropping_the_answers_ends_both_directions() {
    let (one, two) = pair().await;
    let (sender, mut receiver) = mpsc::channel(1);
    let frames = stream::poll_fn(move |cx| receiver.poll_recv(cx)).boxed();
    let mut answers = one.transport.stream(NodeId(2), Method::RaftReplicate, frames);
    sender.send(Ok(frame("first", &[]))).await.unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap(), frame("first", &[]));
    drop(answers);
    // The source of the frames is dropped, too.
    tokio::time::timeout(LONG, sender.closed()).await.unwrap();
    // And so is the answering side's stream, with what it holds.
    tokio::time::timeout(LONG, async {
        while Arc::strong_count(&two.service.read) > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
}

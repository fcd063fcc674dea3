//! One file from another replica to the disk.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use stratalog_proto::{Code, Error};
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio_util::task::TaskTracker;

use super::SegmentBytes;
use super::partial::{Arriving, Partial, Wanted};
use super::way::Way;
use crate::pace::Pace;

/// Chunks of a file that wait for the disk.
const CHUNKS_AHEAD: usize = 4;
/// A fetch from which nothing has come for so long is given up.
const SILENCE: Duration = Duration::from_secs(10);

/// Has a file be here, whole, verified and durable; `source` gives its bytes from an offset on. Dropping this ends it, but
/// for what the disk has begun, which is one of `tasks`.
///
/// # Errors
/// Those of the source and of the disk; [`Code::CorruptData`] if the bytes are not those that are wanted;
/// [`Code::Unavailable`] if they break off, or nobody needs them any more.
pub(crate) async fn fetch<F>(
    wanted: Wanted,
    arriving: Box<dyn Arriving>,
    way: &Way,
    tasks: &TaskTracker,
    source: impl FnOnce(u64) -> F,
) -> Result<(), Error>
where
    F: Future<Output = Result<SegmentBytes, Error>>,
{
    let (what, given_up) = (wanted.what.clone(), arriving.given_up().clone());
    let fetched = async {
        let _permit = way.at_once.acquire().await.map_err(|_| Error::new(Code::Unavailable, "the node is stopping"))?;
        let opened = tasks.spawn_blocking(move || Partial::open(wanted, arriving)).await;
        let partial = opened.unwrap_or_else(|panic| Err(failed(&panic)))?;
        let incoming = source(partial.len()).await?;
        receive(partial, incoming, &way.pace, tasks).await
    };
    tokio::select! {
        fetched = fetched => fetched,
        () = given_up.cancelled() => Err(Error::new(Code::Unavailable, format!("{what} is not needed any more"))),
    }
}

/// Writes what comes, and gives it its name if it is what was expected.
async fn receive(partial: Partial, incoming: SegmentBytes, pace: &Pace, tasks: &TaskTracker) -> Result<(), Error> {
    let (chunks, received) = mpsc::channel(CHUNKS_AHEAD);
    let writing = tasks.spawn_blocking(move || write(partial, received));
    let passed_on = pass_on(incoming, chunks, pace).await;
    let written = writing.await.unwrap_or_else(|panic| Err(failed(&panic)));
    match (written, passed_on) {
        // It lacks bytes, for a reason.
        (Err(error), Err(broken)) if error.code == Code::Unavailable => Err(broken),
        (written, _) => written,
    }
}

/// Hands on what comes, at the pace, until the writer has given up: it says why.
async fn pass_on(mut incoming: SegmentBytes, chunks: mpsc::Sender<Bytes>, pace: &Pace) -> Result<(), Error> {
    loop {
        let silent = |_| Error::new(Code::Unavailable, format!("nothing has come for {SILENCE:?}"));
        let Some(chunk) = tokio::time::timeout(SILENCE, incoming.next()).await.map_err(silent)? else { return Ok(()) };
        let chunk = chunk?;
        pace.earn(chunk.len() as u64).await;
        if chunks.send(chunk).await.is_err() {
            return Ok(());
        }
    }
}

fn write(mut partial: Partial, mut chunks: mpsc::Receiver<Bytes>) -> Result<(), Error> {
    while let Some(chunk) = chunks.blocking_recv() {
        partial.push(&chunk)?;
    }
    partial.finish()
}

fn failed(panic: &JoinError) -> Error {
    Error::new(Code::Internal, format!("fetching a segment failed: {panic}"))
}

//! Parts of queries that another node coordinates.

use std::sync::Arc;

use futures::stream::{self, StreamExt};
use prost::Message;
use stratalog_proto::internal::{ClosePart, OpenPart, RunPart};
use stratalog_proto::{Code, Error};
use stratalog_query::PartBytes;
use stratalog_transport::{CallError, Frame, Frames, Method};

use super::{decode, encode};
use crate::broker::Broker;
use crate::cluster::workers::FRAMES_AHEAD;

/// Takes a snapshot of rows for a query.
pub(super) async fn open(broker: &Arc<Broker>, frame: Frame) -> Result<Frame, Error> {
    let request: OpenPart = decode(Method::OpenPart, frame.head)?;
    Ok(encode(&broker.engine().open_part(request).await?))
}

/// Runs a part of a plan over such a snapshot. Each frame beside the first one asks for one more of the answer.
pub(super) async fn run(broker: &Arc<Broker>, mut frames: Frames) -> Result<Frames, Error> {
    let request: RunPart = match frames.next().await {
        Some(Ok(frame)) => decode(Method::RunPart, frame.head)?,
        Some(Err(error)) => return Err(Error::new(Code::Unavailable, error.to_string())),
        None => return Err(Error::new(Code::InvalidRequest, "a run of a part does not say of what")),
    };
    let answer = |rows: Result<PartBytes, Error>| rows.map(frame_of).map_err(CallError::Refused);
    let rows = broker.engine().run_part(request).map(answer).boxed();
    let asked_for = stream::unfold((rows, frames, FRAMES_AHEAD), |(mut rows, mut frames, mut wanted)| async move {
        if wanted == 0 {
            // Nothing more is asked for by who has gone.
            frames.next().await?.ok()?;
            wanted = 1;
        }
        let frame = rows.next().await?;
        Some((frame, (rows, frames, wanted - 1)))
    });
    Ok(asked_for.boxed())
}

fn frame_of(rows: PartBytes) -> Frame {
    let parts = if rows.body.is_empty() { Vec::new() } else { vec![rows.body] };
    Frame { head: rows.frame.encode_to_vec().into(), parts }
}

/// Lets go of a snapshot.
pub(super) async fn close(broker: &Arc<Broker>, frame: Frame) -> Result<Frame, Error> {
    let request: ClosePart = decode(Method::ClosePart, frame.head)?;
    broker.engine().close_part(request.part);
    Ok(Frame::default())
}

//! Files of segments on their way here from other replicas: what column segments and replay segments have in common.
//!
//! What has come stays when a fetch breaks off, and the next one goes on behind it. A file gets its name only once it is
//! whole, is what was meant by its hash, and is durable (L5, X1).

mod partial;
mod receive;
mod troubles;
mod way;

use bytes::Bytes;
use futures::stream::BoxStream;
use stratalog_proto::Error;

pub(crate) use partial::{Arriving, Wanted, partial_name};
pub(crate) use receive::fetch;
pub(crate) use troubles::{Round, Troubles};
pub(crate) use way::Way;

/// The bytes of a file, in order.
pub(crate) type SegmentBytes = BoxStream<'static, Result<Bytes, Error>>;

#[cfg(test)]
mod tests;

//! Reading a topic: one snapshot's segments and tail as record batches.
//!
//! A scan is a queue of [work](work::Work) that its partitions take from, newest rows first, so that all cores work on
//! one large segment and a top-k ends early. A unit of work is a granule or a tail chunk, at most 8,192 rows: its
//! filters are evaluated on the columns that they name, and only where rows survive are the other columns decoded.
//!
//! What is not read: segments by what the manifest says of them, granules by their zone maps and by the text index, both
//! through DataFusion's pruning; again while the scan runs, as dynamic filters (of a top-k, of a join) get narrower. Rows
//! below log start are filtered where a segment or chunk still has some.

mod counts;
mod filter;
mod granule;
mod indexes;
mod known;
mod log_start;
mod monotone;
mod prune;
mod segment;
mod selection;
mod source;
mod stream;
mod tail;
mod text;
mod work;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::DataFusionError;
use stratalog_proto::Error;

pub(crate) use counts::Counts;
pub(crate) use filter::{Conjunct, Filters, LeafColumn};
pub(crate) use indexes::OpenIndexes;
pub(crate) use known::{Ends, ends};
pub(crate) use source::{TopicScan, sees_every_row};

use crate::catalog::TopicSnapshot;
use crate::meter::Meter;
use crate::parts::Part;

/// A topic as one statement sees it.
#[derive(Clone, Debug)]
pub(crate) struct ScanTable {
    /// Its rows that are here.
    pub(crate) snapshot: Arc<TopicSnapshot>,
    /// Its rows at other nodes.
    pub(crate) parts: Vec<Arc<Part>>,
    /// Its columns, `_raw` included where the statement names it.
    pub(crate) schema: SchemaRef,
    /// Where to count what is read.
    pub(crate) meter: Arc<Meter>,
    /// Text indexes that are open.
    pub(crate) indexes: Arc<OpenIndexes>,
}

/// An error of ours on its way through DataFusion, which gives it back unchanged.
pub(crate) fn external(error: impl Into<Error>) -> DataFusionError {
    DataFusionError::External(Box::new(error.into()))
}

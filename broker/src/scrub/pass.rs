//! One pass over all files.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Weak};

use stratalog_storage::Io;
use tokio_util::sync::CancellationToken;

use super::segment::{Place, Segment, places};
use crate::broker::Broker;
use crate::metrics::ScrubMetrics;
use crate::pace::Pace;

/// A pass that is under way. It keeps no node alive.
pub(super) struct Pass<'a> {
    broker: &'a Weak<Broker>,
    io: Arc<dyn Io>,
    metrics: ScrubMetrics,
    pace: Pace,
    stop: &'a CancellationToken,
    found: Found,
}

/// What a pass has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) damaged: u64,
}

/// The node is stopping.
struct Stopping;

impl<'a> Pass<'a> {
    /// One of a node that runs.
    pub(super) fn new(broker: &'a Weak<Broker>, stop: &'a CancellationToken) -> Option<Self> {
        let node = broker.upgrade()?;
        let options = node.options();
        let pace = Pace::new(options.scrub.rate_bytes, stop.clone());
        let (io, metrics) = (Arc::clone(&options.disk), node.scrub_metrics().clone());
        Some(Self { broker, io, metrics, pace, stop, found: Found::default() })
    }

    /// Reads every file that there is when it begins; `None` if the node stops before the end.
    pub(super) async fn run(mut self) -> Option<Found> {
        let mut places = places(&*self.broker.upgrade()?);
        // Another order each time: where a node restarts more often than a pass takes, each file still has its turn.
        let order = RandomState::new();
        places.sort_by_cached_key(|place| order.hash_one(place));
        for place in places {
            let segment = Segment::at(&*self.broker.upgrade()?, place);
            if let Some(segment) = segment {
                self.check(place, Arc::new(segment)).await.ok()?;
            }
        }
        self.metrics.passed();
        Some(self.found)
    }

    /// Reads one file, and has it replaced if it is damaged.
    async fn check(&mut self, place: Place, segment: Arc<Segment>) -> Result<(), Stopping> {
        self.found.files += 1;
        if self.is_whole(&segment).await? {
            return Ok(());
        }
        let anew = Arc::new(segment.anew(&self.io));
        let looked = Arc::clone(&anew);
        let damage = blocking(move || looked.damage()).await.flatten();
        let broker = self.broker.upgrade().ok_or(Stopping)?;
        // What left the manifest meanwhile may be gone.
        let Some(what) = damage.filter(|_| Segment::at(&broker, place).is_some()) else { return Ok(()) };
        let Place { shard, segment: id, kind } = place;
        tracing::error!(%shard, segment = %id, path = %segment.path().display(), what, "L5: a scrub found a damaged segment");
        self.found.damaged += 1;
        self.metrics.found_damaged(kind.name());
        anew.have_replaced(&broker);
        Ok(())
    }

    /// Whether a file has the bytes that the manifest means. One that the device does not read has not.
    async fn is_whole(&mut self, segment: &Arc<Segment>) -> Result<bool, Stopping> {
        let (io, opening) = (Arc::clone(&self.io), Arc::clone(segment));
        let Some(Ok(mut reading)) = blocking(move || opening.open(&*io)).await else { return Ok(false) };
        loop {
            let stepped = blocking(move || reading.step().map(|bytes| (bytes, reading))).await;
            let Some(Ok((bytes, read))) = stepped else { return Ok(false) };
            reading = read;
            if bytes == 0 {
                return Ok(reading.is_whole());
            }
            self.found.bytes += bytes;
            self.metrics.read(bytes);
            self.stop.run_until_cancelled(self.pace.earn(bytes)).await.ok_or(Stopping)?;
        }
    }
}

/// What blocks, where that harms nobody; `None` if it panicked.
async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Option<R> {
    tokio::task::spawn_blocking(work).await.inspect_err(|error| tracing::warn!(%error, "a read of a scrub failed")).ok()
}

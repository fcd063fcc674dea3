//! Batches that this node appends itself, without a box.

use parking_lot::Mutex;
use stratalog_proto::ShardId;

use crate::raft::Reign;

/// Locks of the counters; shards share them when there are more.
const STRIPES: usize = 256;

/// How many batches of a shard were taken in a reign and have no answer.
struct Aloft {
    shard: ShardId,
    reign: Reign,
    batches: usize,
}

/// What is on its way to groups of this node.
pub(super) struct Flights {
    stripes: [Mutex<Vec<Aloft>>; STRIPES],
}

/// A batch on its way to a group of this node, until it is dropped.
pub(crate) struct Flight<'a> {
    flights: &'a Flights,
    shard: ShardId,
    reign: Reign,
}

impl Flights {
    pub(super) fn new() -> Self {
        Self { stripes: std::array::from_fn(|_| Mutex::default()) }
    }

    /// Counts a batch that is taken in this reign; `None` while one of an earlier reign is in flight: that one may be refused,
    /// and would then be overtaken.
    pub(super) fn begin(&self, shard: ShardId, reign: Reign) -> Option<Flight<'_>> {
        let mut aloft = self.stripe(shard).lock();
        if aloft.iter().any(|of| of.shard == shard && of.reign < reign) {
            return None;
        }
        match aloft.iter_mut().find(|of| of.shard == shard && of.reign == reign) {
            Some(of) => of.batches += 1,
            None => aloft.push(Aloft { shard, reign, batches: 1 }),
        }
        Some(Flight { flights: self, shard, reign })
    }

    /// Whether batches of this shard are in flight.
    pub(super) fn has_any(&self, shard: ShardId) -> bool {
        self.stripe(shard).lock().iter().any(|of| of.shard == shard)
    }

    fn stripe(&self, shard: ShardId) -> &Mutex<Vec<Aloft>> {
        &self.stripes[shard.0 as usize % STRIPES]
    }
}

impl Flight<'_> {
    /// The only reign in which the batch may be proposed.
    pub(crate) fn reign(&self) -> Reign {
        self.reign
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut aloft = self.flights.stripe(self.shard).lock();
        let Some(at) = aloft.iter().position(|of| of.shard == self.shard && of.reign == self.reign) else { return };
        aloft[at].batches -= 1;
        if aloft[at].batches == 0 {
            aloft.swap_remove(at);
        }
    }
}

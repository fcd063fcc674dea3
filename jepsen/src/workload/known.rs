//! What clients know of the log while it grows: what a read has to show at least.

use std::collections::{HashMap, VecDeque};

use stratalog_client::Ack;
use stratalog_proto::{RaftIndex, ShardId, Token};

/// Records that searches choose from.
const SAMPLE: usize = 512;

/// A record that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Acked {
    pub(crate) value: u64,
    pub(crate) partition: u32,
    pub(crate) offset: u64,
    pub(crate) token: Token,
}

#[derive(Debug)]
pub(crate) struct Known {
    /// One past the highest offset that was acknowledged in each partition.
    acked_to: Vec<u64>,
    /// The highest index that was acknowledged in each shard.
    tokens: HashMap<ShardId, RaftIndex>,
    recent: VecDeque<Acked>,
    /// Records that were acknowledged.
    pub(crate) acked: u64,
}

impl Known {
    pub(super) fn new(partitions: u32) -> Self {
        Self { acked_to: vec![0; partitions as usize], tokens: HashMap::new(), recent: VecDeque::new(), acked: 0 }
    }

    pub(super) fn acked(&mut self, value: u64, ack: &Ack) {
        let (partition, offset) = (ack.partition.0, ack.offset.0);
        self.acked += 1;
        if let Some(highest) = self.acked_to.get_mut(partition as usize) {
            *highest = (offset + 1).max(*highest);
        }
        let index = self.tokens.entry(ack.token.shard).or_default();
        *index = (*index).max(ack.token.index);
        self.recent.push_back(Acked { value, partition, offset, token: ack.token });
        if self.recent.len() > SAMPLE {
            self.recent.pop_front();
        }
    }

    /// For each partition one past the highest acknowledged offset, and the tokens that cover all of it.
    pub(super) fn acknowledged(&self) -> (Vec<u64>, Vec<Token>) {
        let tokens = self.tokens.iter().map(|(shard, index)| Token { shard: *shard, index: *index });
        (self.acked_to.clone(), tokens.collect())
    }

    /// One of the last records that were acknowledged.
    pub(super) fn choose(&self, random: &mut fastrand::Rng) -> Option<Acked> {
        if self.recent.is_empty() { None } else { self.recent.get(random.usize(..self.recent.len())).copied() }
    }
}

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
    /// The same, with what was acknowledged without a token.
    known_to: Vec<u64>,
    /// The highest index that was acknowledged in each shard.
    tokens: HashMap<ShardId, RaftIndex>,
    recent: VecDeque<Acked>,
    /// Records that were acknowledged.
    pub(crate) acked: u64,
}

impl Known {
    pub(super) fn new(partitions: u32) -> Self {
        let none = vec![0; partitions as usize];
        Self { acked_to: none.clone(), known_to: none, tokens: HashMap::new(), recent: VecDeque::new(), acked: 0 }
    }

    pub(super) fn acked(&mut self, value: u64, ack: &Ack) {
        let (partition, offset) = (ack.partition.0, ack.offset.0);
        self.acked_at(partition, offset);
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

    /// A record of a client that gets no tokens.
    pub(super) fn acked_at(&mut self, partition: u32, offset: u64) {
        self.acked += 1;
        if let Some(highest) = self.known_to.get_mut(partition as usize) {
            *highest = (offset + 1).max(*highest);
        }
    }

    /// For each partition one past the highest acknowledged offset, whoever was told of it.
    pub(super) fn known_to(&self) -> Vec<u64> {
        self.known_to.clone()
    }

    /// For each partition one past the highest offset that was acknowledged with a token, and the tokens that cover all of it.
    pub(super) fn acknowledged(&self) -> (Vec<u64>, Vec<Token>) {
        let tokens = self.tokens.iter().map(|(shard, index)| Token { shard: *shard, index: *index });
        (self.acked_to.clone(), tokens.collect())
    }

    /// One of the last records that were acknowledged.
    pub(super) fn choose(&self, random: &mut fastrand::Rng) -> Option<Acked> {
        if self.recent.is_empty() { None } else { self.recent.get(random.usize(..self.recent.len())).copied() }
    }
}

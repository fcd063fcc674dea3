//! A producer that writes to one partition, and sends again what may not have arrived.

use std::collections::VecDeque;

use bytes::Bytes;
use stratalog_proto::batch::{BatchBuilder, Compression};
use stratalog_proto::{ProducerId, TopicPartition};
use stratalog_storage::simulation::Dice;

/// As many batches as a shard remembers of a producer.
const WINDOW: usize = 5;

/// A producer in one partition.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) tp: TopicPartition,
    /// `None`: its batches have no numbers and are never sent again.
    producer: Option<ProducerId>,
    next: i32,
    /// The last batches, the oldest first.
    window: VecDeque<Sent>,
    /// The first batch of the window that was not sent since the last restart, or its end.
    unsent: usize,
}

#[derive(Clone, Debug)]
struct Sent {
    sequence: i32,
    batch: Bytes,
    acked: bool,
}

impl Client {
    pub(super) fn new(tp: TopicPartition, producer: Option<ProducerId>) -> Self {
        Self { tp, producer, next: 0, window: VecDeque::new(), unsent: 0 }
    }

    /// The next batch that it sends: what a restart may have lost in its order, now and then an old one, else a new one.
    /// `number` is different for every batch.
    pub(super) fn send(&mut self, dice: &mut Dice, number: u64) -> Bytes {
        let Some(producer) = self.producer else { return batch(None, number, dice).0 };
        if let Some(lost) = self.window.get(self.unsent) {
            self.unsent += 1;
            return lost.batch.clone();
        }
        let again = dice.below(4 * WINDOW as u64) as usize;
        let waits = self.window.len() == WINDOW && !self.window[0].acked;
        if let Some(sent) = self.window.get(again).or(self.window.front().filter(|_| waits)) {
            return sent.batch.clone();
        }
        if self.window.len() == WINDOW {
            self.window.pop_front();
        }
        let (batch, records) = batch(Some((producer, self.next)), number, dice);
        self.window.push_back(Sent { sequence: self.next, batch: batch.clone(), acked: false });
        self.unsent = self.window.len();
        self.next += records;
        batch
    }

    /// The batch with this number was acknowledged.
    pub(super) fn acknowledge(&mut self, producer: i64, sequence: i32) {
        if self.producer == Some(ProducerId(producer)) {
            self.window.iter_mut().filter(|sent| sent.sequence == sequence).for_each(|sent| sent.acked = true);
        }
    }

    /// The node was restarted: what has no answer has to be sent again, from the oldest on.
    pub(super) fn reconnect(&mut self) {
        self.unsent = self.window.iter().position(|sent| !sent.acked).unwrap_or(self.window.len());
    }
}

/// A batch with contents of its own, and the number of its records. No payload has a sector of zeroes in it.
fn batch(producer: Option<(ProducerId, i32)>, number: u64, dice: &mut Dice) -> (Bytes, i32) {
    let mut builder = BatchBuilder::new(Compression::None);
    if let Some((id, sequence)) = producer {
        builder = builder.producer(id, 0, sequence);
    }
    let records = 1 + dice.below(4) as i32;
    let most = if dice.chance(1, 8) { 1_500 } else { 250 };
    for record in 0..records {
        let mut value = format!("{number}/{record}:").into_bytes();
        value.extend((0..dice.below(most)).map(|n| (number.wrapping_mul(31).wrapping_add(n) % 255) as u8 + 1));
        builder.push(1_700_000_000_000 + number as i64, None, Some(&value), &[]);
    }
    (builder.finish(), records)
}

//! Where records without a key go.

use stratalog_proto::PartitionId;

/// One partition until its batch is closed, then the next: full batches, and evenly spread ones.
#[derive(Debug)]
pub(super) struct Sticky {
    current: u32,
    partitions: u32,
}

impl Sticky {
    /// Starts anywhere, so that many producers of short life do not all begin with partition 0.
    pub(super) fn new(partitions: u32) -> Self {
        let random = uuid::Uuid::new_v4().as_u128();
        Self { current: (random % u128::from(partitions)) as u32, partitions }
    }

    /// Where the next record goes.
    pub(super) fn current(&self) -> PartitionId {
        PartitionId(self.current)
    }

    /// A batch of `partition` takes no more records.
    pub(super) fn batch_closed(&mut self, partition: PartitionId) {
        if partition.0 == self.current {
            self.current = (self.current + 1) % self.partitions;
        }
    }
}

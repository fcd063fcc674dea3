//! The check of a whole file.

use bytes::Bytes;
use stratalog_proto::RaftIndex;
use stratalog_proto::batch::Batch;

use super::error::RecError;
use super::meta::RecMeta;
use super::ordered::Steps;
use super::partition::{PartitionEntry, Placed};
use super::reader::RecReader;

impl RecReader {
    /// Reads the whole file again: compares it with the checksum of each block and the BLAKE3 in its trailer, every batch
    /// with its own checksum, and what the footer says with what the batches are. Gives what a manifest says of such a
    /// file.
    ///
    /// # Errors
    /// [`RecError::Io`], and [`RecError::Corrupt`] with file and block, and with offsets where they are known.
    pub fn verify(&self) -> Result<RecMeta, RecError> {
        let blake3 = self.file.verify().map_err(|error| self.explained(error))?;
        let mut steps = Steps::new(self, |_| Some(RaftIndex(0)))?;
        let mut found: Vec<Option<PartitionEntry>> = vec![None; self.footer.partitions.len()];
        let (mut batches, mut max_entry_time_ns) = (0_u32, i64::MIN);
        while let Some((order, placed, bytes)) = steps.next(self)? {
            let number = order.partition as usize;
            self.verify_batch(&self.footer.partitions[number], &mut found[number], &placed, bytes)?;
            batches = batches.wrapping_add(1);
            max_entry_time_ns = max_entry_time_ns.max(order.entry_time_ns);
        }
        let unlike = self.footer.partitions.iter().zip(&found).find(|(said, found)| found.as_ref() != Some(said));
        if let Some((said, _)) = unlike {
            return Err(self.corrupt(said, said.start()..said.end, "its batches are not those that the footer means"));
        }
        if batches != self.footer.batches {
            let what = format!("it has {batches} batches, its footer says {}", self.footer.batches);
            return Err(RecError::corrupt(self.path(), self.file.footer(), what));
        }
        Ok(self.with_hash(blake3, max_entry_time_ns))
    }

    /// Checks a batch, and adds it to what was found of its partition.
    fn verify_batch(
        &self,
        said: &PartitionEntry,
        found: &mut Option<PartitionEntry>,
        placed: &Placed,
        bytes: Bytes,
    ) -> Result<(), RecError> {
        let broken = |what: String| self.corrupt(said, placed.start..placed.end, &format!("a batch: {what}"));
        Batch::parse(bytes).map_err(|error| broken(error.to_string()))?;
        match found {
            Some(entry) => entry.push(placed).map_err(broken),
            None => {
                *found = Some(PartitionEntry::new(said.topic, said.partition, placed));
                Ok(())
            }
        }
    }
}

//! The logs that are produced.

use std::path::Path;

use bytes::Bytes;
use stratalog_bench_log::Failure;
use stratalog_client::{OutRecord, Producer};

/// A file of one record a line, in memory: reading it costs nothing beside what is measured.
pub(crate) struct Logs {
    lines: Vec<Bytes>,
    bytes: u64,
}

impl Logs {
    /// Unpacks a file.
    ///
    /// # Errors
    /// It is not there, not compressed with zstd, or empty.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |error| Failure::io("read the logs (another file: --logs)", path, &error);
        let unpacked = Bytes::from(zstd::decode_all(std::fs::File::open(path).map_err(failed)?).map_err(failed)?);
        let lines = unpacked.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let lines: Vec<Bytes> = lines.map(|line| unpacked.slice_ref(line)).collect();
        let bytes = lines.iter().map(|line| line.len() as u64).sum();
        if bytes == 0 {
            return Err(Failure(format!("{} holds no record", path.display())));
        }
        Ok(Self { lines, bytes })
    }

    /// Bytes of all records.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The records, in the order of the file.
    pub(crate) fn lines(&self) -> &[Bytes] {
        &self.lines
    }

    /// Sends the file again and again until it was about `bytes`, each time whole, and waits until everything is
    /// acknowledged: records, and their bytes.
    ///
    /// # Errors
    /// A record was not acknowledged.
    pub(crate) async fn produce(&self, producer: Producer, bytes: u64) -> Result<(u64, u64), Failure> {
        let rounds = bytes.div_ceil(self.bytes);
        for _ in 0..rounds {
            for line in &self.lines {
                // What becomes of it, closing tells.
                drop(producer.send(OutRecord::new(line.clone())).await?);
            }
        }
        producer.close().await?;
        Ok((rounds * self.lines.len() as u64, rounds * self.bytes))
    }
}

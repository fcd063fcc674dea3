//! What is written, and what is made of the times.

use std::time::Duration;

use bytes::Bytes;
use stratalog_proto::batch::{BatchBuilder, Compression};

/// Bytes of the value of every record.
pub const RECORD_BYTES: usize = 1 << 10;
/// Beyond what any codec looks back.
const NOISE_BYTES: usize = 64 << 20;
/// Records start at its multiples, so that the same bytes come back only after all others were used.
const STRIDE: usize = RECORD_BYTES + 8;

/// Random bytes, cut into records: making one costs nothing beside what is measured, and no codec makes one smaller.
pub struct Noise {
    bytes: Bytes,
    at: usize,
}

impl Noise {
    /// The same bytes for the same seed.
    pub fn new(seed: u64) -> Self {
        let mut bytes = vec![0; NOISE_BYTES];
        fastrand::Rng::with_seed(seed).fill(&mut bytes);
        Self { bytes: bytes.into(), at: 0 }
    }

    /// The value of the next record.
    pub fn record(&mut self) -> Bytes {
        if self.at + RECORD_BYTES > NOISE_BYTES {
            self.at = 0;
        }
        let record = self.bytes.slice(self.at..self.at + RECORD_BYTES);
        self.at += STRIDE;
        record
    }

    /// A batch of so many records, not compressed, as a producer without an id sends it.
    pub fn batch(&mut self, records: usize) -> Bytes {
        let mut builder = BatchBuilder::new(Compression::None);
        for _ in 0..records {
            builder.push(1_700_000_000_000, None, Some(&self.record()), &[]);
        }
        builder.finish()
    }
}

/// The time that this part of `times` (in microseconds) does not exceed. Sorts them.
pub fn percentile(times: &mut [u32], part: f64) -> Duration {
    times.sort_unstable();
    let at = (times.len() as f64 * part) as usize;
    Duration::from_micros(times.get(at.min(times.len().saturating_sub(1))).copied().unwrap_or(0).into())
}

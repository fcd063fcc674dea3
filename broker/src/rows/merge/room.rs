//! Memory for the values that a merge holds at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use stratalog_proto::{Code, Error};

/// Bytes of values that a merge may hold at once: segments are bounded by their compressed bytes, which say little about it.
#[derive(Debug)]
pub(super) struct Room {
    bytes: usize,
    /// The most that was held.
    most: AtomicUsize,
}

impl Room {
    pub(super) fn new(bytes: usize) -> Self {
        Self { bytes, most: AtomicUsize::new(0) }
    }

    /// Whether so many bytes are all that should be held.
    pub(super) fn is_full(&self, bytes: usize) -> bool {
        bytes >= self.bytes / 2
    }

    /// Takes note of so many bytes that are held, or are about to be. `is_bounded`: whether there is another way than to hold
    /// them.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] for too many.
    pub(super) fn hold(&self, bytes: usize, is_bounded: bool) -> Result<(), Error> {
        if is_bounded && bytes > self.bytes {
            let message = format!(
                "together they need over {} MiB of memory for one column: its values are too long",
                self.bytes >> 20
            );
            return Err(Error::new(Code::InvalidRequest, message));
        }
        self.most.fetch_max(bytes, Ordering::Relaxed);
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }
}

/// Bytes of the values at these rows of the sources: (source, row) each.
pub(super) fn bytes_at(sources: &[ArrayRef], rows: &[(usize, usize)]) -> usize {
    let fixed = rows.len() * size_of::<u64>();
    match sources.first().map(|source| source.data_type()) {
        Some(DataType::Utf8) => {
            let texts: Vec<_> = sources.iter().map(|source| source.as_string::<i32>()).collect();
            rows.iter()
                .map(|(source, row)| texts[*source].value_length(*row) as usize)
                .fold(fixed, usize::saturating_add)
        }
        _ => fixed,
    }
}

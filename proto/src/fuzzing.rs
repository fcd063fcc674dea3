//! The decoders of this room, as fuzz targets and for a short run of mutations in every test run.

mod batches;
mod entries;
mod heads;
mod settings;

#[cfg(test)]
mod tests;

use stratalog_mutation::Decoder;

pub use batches::{BATCHES, RECORDS};
pub use entries::{ENTRY, TOPIC, commands};
pub use heads::HEADS;
pub use settings::{COLUMNS, TOPIC_CONFIG};

/// All of them.
pub const DECODERS: &[Decoder] = &[BATCHES, RECORDS, ENTRY, HEADS, COLUMNS, TOPIC_CONFIG];

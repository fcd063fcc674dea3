//! Dead letters: rows whose value became no row of its own, and another try once the settings of their topic are mended.
//!
//! A retry seals the topic, goes through the dead rows of its segments, makes rows of their records again, and rewrites the
//! segments with what came of them. A segment is rewritten by a compare-and-set like any merge (S2), a row for a row (S1).
//! Of a topic there is one retry at a time (X1). Whatever ends it early, what it has mended is mended, and the next one goes on with what is still dead.

mod letters;
mod retry;
mod turns;

#[cfg(test)]
mod tests;

pub use retry::Retried;
pub(super) use turns::Turns;

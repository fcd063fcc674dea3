//! The decoders of Kafka's protocol, as fuzz targets and for a short run of mutations in every test run.

mod by_hand;
mod frames;
mod requests;
mod samples;

#[cfg(test)]
mod tests;

pub use by_hand::{FETCH, PRODUCE};
pub use frames::FRAMES;
pub use requests::REQUESTS;

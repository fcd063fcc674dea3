//! From the rows of an answer to bytes: one encoder per media type, and the task that pumps an answer through it.

mod arrow_stream;
mod csv;
mod encoder;
mod json;
mod pump;
mod schema;
mod stats;

pub(crate) use arrow_stream::ArrowStream;
pub(crate) use csv::Csv;
pub(crate) use encoder::RowEncoder;
pub(crate) use json::{JsonBody, NdjsonBody};
pub(crate) use pump::{Piece, Pieces, pump};
pub(crate) use stats::stats_json;

pub use json::JsonRows;
pub use schema::unique_names;

#[cfg(test)]
mod tests;

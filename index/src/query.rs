//! The query language of log search, in the manner of Lucene. Described for users in `docs/SEARCH.md`.

mod ast;
mod display;
mod parse;
mod range;
mod word;

pub use ast::{CompareOp, Leaf, ParseError, Query};
pub use parse::{MAX_CLAUSES, MAX_DEPTH, MAX_QUERY_BYTES, parse};

#[cfg(test)]
mod tests;

//! Text search: the analyzer, the matcher, the query language, and the text index of a column segment.
//!
//! A text index answers with *bounds*: [`Hits::sure`] ⊆ truth ⊆ [`Hits::maybe`]. It holds words without positions, so
//! that "these words, adjacent and in order" is known only to within the documents that have all of them; the caller
//! verifies `maybe − sure` with [`LeafMatcher`] on the text of the column. [`LeafMatcher`] *is* the truth: the tail is
//! scanned with it, so fresh and sealed data answer the same, `NOT` included (Q2).
//!
//! Invariants:
//! - Indexing, matching and query analysis walk text with the same [`analyzer`]; a change of its rules is a new
//!   [`ANALYZER_VERSION`].
//! - The document id inside the index is the row id of the segment.
//! - Nothing in a query or in an index file can make this crate panic or take memory without bound (X1).
//!
//! This crate never sees `storage`: bytes arrive through [`Source`].

mod analyzer;
mod blob;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod hits;
mod matcher;
mod pattern;
mod query;
mod reader;
mod words;
mod writer;

#[cfg(test)]
mod tests;

pub use analyzer::{ANALYZER_VERSION, MAX_TOKEN_BYTES};
pub use blob::Source;
pub use error::IndexError;
pub use hits::Hits;
pub use matcher::LeafMatcher;
pub use query::{CompareOp, Leaf, MAX_CLAUSES, MAX_DEPTH, MAX_QUERY_BYTES, ParseError, Query, parse};
pub use reader::TextIndex;
pub use words::Words;
pub use writer::{MIN_BUDGET_BYTES, TextIndexWriter};

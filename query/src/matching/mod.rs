//! Text search inside expressions.
//!
//! `MATCH(column, 'query')` and log search compile to the same thing: boolean expressions over [`MatchLeaf`], a
//! function of text columns that is true where one of them has the leaf. A scan recognizes leaves over its own columns
//! and answers them from the text index; anywhere else they evaluate themselves. Both give the same answer, and never
//! null: text that is not there does not match, so `NOT MATCH(…)` keeps the row.

mod compile;
mod function;
mod leaf;
mod literal;

pub(crate) use compile::{Compiler, parse_query};
pub(crate) use function::{MatchFunction, MatchRewrite};
pub(crate) use leaf::{MatchLeaf, may_match, row_matches};

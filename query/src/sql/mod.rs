//! SQL text → one statement whose names are those of our tables.
//!
//! [`parse`] bounds and parses; [`names::resolve`] finds which topics and hidden columns the statement names and
//! rewrites what PostgreSQL would read otherwise: `a.b` where `a` is no relation is the dotted column `a.b`, and
//! `FROM orders.v1` is the topic `orders.v1`.

mod change;
mod dialect;
mod limits;
mod names;
mod parse;
mod predicate;
mod scope;

pub(crate) use change::Change;
pub(crate) use names::{Names, TableName, resolve};
pub(crate) use parse::{Command, parse, parse_with, refuse};
pub(crate) use predicate::{parse_predicate, predicate_text, refused, select_positions};

/// The schema of our own tables, as in `system.topics`.
pub(crate) const SYSTEM: &str = "system";
/// The one catalog.
pub(crate) const CATALOG: &str = "stratalog";
/// The schema of topics, which names may leave out.
pub(crate) const PUBLIC: &str = "public";
/// The schema of the tables that SQL's standard has about tables.
pub(crate) const INFORMATION: &str = "information_schema";

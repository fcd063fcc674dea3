//! SQL text → one read-only statement whose names are those of our tables.
//!
//! [`parse`] bounds and parses; [`names::resolve`] finds which topics and hidden columns the statement names and
//! rewrites what PostgreSQL would read otherwise: `a.b` where `a` is no relation is the dotted column `a.b`, and
//! `FROM orders.v1` is the topic `orders.v1`.

mod dialect;
mod limits;
mod names;
mod parse;
mod scope;

pub(crate) use names::{Names, TableName, resolve};
pub(crate) use parse::{Command, parse, refuse};

/// The schema of our own tables, as in `system.topics`.
pub(crate) const SYSTEM: &str = "system";

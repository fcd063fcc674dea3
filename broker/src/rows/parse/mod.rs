//! From record batches to rows: the parsers of each format, and the columns that they fill.
//!
//! [`parse`] is pure. It loses no value and drops no record (S1): a value that cannot become a row of its own becomes a
//! dead row with the reason, whether it is its text, its time, its batch or a defect of ours that is at fault (X1).
//!
//! What a JSON object becomes, or an array of one: nested objects dotted columns, arrays the text of themselves; null
//! and empty objects are no value; of a key that comes twice the last value wins, and so of `{"a.b":…}` and
//! `{"a":{"b":…}}`. A column takes the narrowest type that keeps each of its values in the chunk: Boolean, Int64,
//! Float64, else Utf8. A field with the name of a system column is the column `_user.<name>`, an empty key is called
//! `_empty`, objects more than 32 levels deep are the text of themselves, and fields beyond 1,000 columns are kept as
//! the text of one JSON object in `_rest`.
//! Declared columns have the type that they are declared with, and a record that does not fit is dead.

mod chunk;
mod column;
mod declared;
mod escape;
mod fields;
mod json;
mod json_text;
mod logfmt;
mod names;
mod number;
mod parser;
mod pattern;
mod recipe;
mod system;
mod time;

#[cfg(test)]
mod tests;

pub(super) use column::exact_float;
pub(super) use declared::column_type;
pub(crate) use declared::declared_schema;
pub(super) use escape::escape;
pub(super) use parser::{Parsed, parse};
pub(crate) use pattern::check_pattern;
pub(super) use system::{empty_schema, system_fields};

//! What a user's field is called as a column.

use std::borrow::Cow;

use stratalog_storage::col::system;

use super::fields::REST;

/// The longest column name, in bytes; fields with longer ones go to `_rest`.
pub(super) const MAX_NAME_BYTES: usize = 1_024;
/// What comes before a field that has the name of one of our columns.
const USER_PREFIX: &str = "_user.";
/// What an empty key is called.
const EMPTY_KEY: &str = "_empty";

/// The path of `key` in the object at `parent`.
pub(super) fn join(parent: &str, key: &str) -> String {
    let key = if key.is_empty() { EMPTY_KEY } else { key };
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

/// The column of a dotted path: the path itself, unless that is the name of one of our columns. A field `_time` is
/// the column `_user._time`.
pub(super) fn column_name(path: &str) -> Cow<'_, str> {
    if system::is_system(path) || path == REST {
        Cow::Owned(format!("{USER_PREFIX}{path}"))
    } else {
        Cow::Borrowed(path)
    }
}

//! Names of the system columns. They come first in a segment, in the order of [`ORDER`]; user columns follow by name.

/// Event time: Timestamp(ns, UTC), never null.
pub const TIME: &str = "_time";
/// When the record's entry was proposed: Timestamp(ns, UTC), never null.
pub const INGESTED_AT: &str = "_ingested_at";
/// The record's own timestamp: Timestamp(ms, UTC).
pub const TIMESTAMP: &str = "_timestamp";
/// The record's partition: Int32, never null.
pub const PARTITION: &str = "_partition";
/// The record's offset: Int64, never null.
pub const OFFSET: &str = "_offset";
/// The record's key: Utf8; bytes that are not UTF-8 are escaped as `\xNN`.
pub const KEY: &str = "_key";
/// The record's headers: Utf8, the text of a JSON object.
pub const HEADERS: &str = "_headers";
/// Why the value became no row: Utf8; null for a row that parsed.
pub const DEAD: &str = "_dead";
/// The record's value as produced. Virtual: read from ground, never stored in a segment.
pub const RAW: &str = "_raw";

/// The stored system columns, in their order.
pub const ORDER: [&str; 8] = [TIME, INGESTED_AT, TIMESTAMP, PARTITION, OFFSET, KEY, HEADERS, DEAD];

/// Whether `name` is a system column, the virtual one included.
pub fn is_system(name: &str) -> bool {
    name.starts_with('_') && (name == RAW || ORDER.contains(&name))
}

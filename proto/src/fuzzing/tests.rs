//! The short form of `fuzz/`.

use stratalog_mutation::Meter;

use super::*;

#[global_allocator]
static METER: Meter = Meter;

#[test]
fn x1_batches_that_lie() {
    BATCHES.check();
}

#[test]
fn x1_records_that_lie() {
    RECORDS.check();
}

#[test]
fn x1_entries_that_lie() {
    ENTRY.check();
}

#[test]
fn x1_heads_that_lie() {
    HEADS.check();
}

#[test]
fn x1_settings_that_lie() {
    COLUMNS.check();
    TOPIC_CONFIG.check();
}

//! The short form of `fuzz/`.

use stratalog_mutation::Meter;

use super::*;

#[global_allocator]
static METER: Meter = Meter;

#[test]
fn x1_text_indexes_that_lie() {
    TEXT_INDEX.check();
}

#[test]
fn x1_searches_of_any_text() {
    SEARCH.check();
}

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
fn x1_searches_that_lie() {
    SEARCH.check();
}

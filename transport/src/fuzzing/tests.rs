//! The short form of `fuzz/`.

use stratalog_mutation::Meter;

use super::*;

#[global_allocator]
static METER: Meter = Meter;

#[test]
fn x1_frames_that_lie() {
    FRAMES.check();
}

#[test]
fn x1_strangers_that_lie() {
    ACCEPT.check();
    OFFER.check();
}

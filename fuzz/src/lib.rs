//! What the fuzz targets share. Each is a [`Decoder`] of one of the rooms, with libFuzzer to search for what it does not
//! stand: see `README.md`.

pub mod groups;
pub mod kafka;

use std::panic::{set_hook, take_hook};
use std::path::Path;
use std::process::abort;

pub use libfuzzer_sys::fuzz_target;
pub use stratalog_mutation::{Decoder, Meter};

/// The whole of a fuzz target.
#[macro_export]
macro_rules! target {
    ($decoder:expr) => {
        #[global_allocator]
        static METER: $crate::Meter = $crate::Meter;

        const DECODER: $crate::Decoder = $decoder;

        $crate::fuzz_target!(init: $crate::begin(&DECODER), |bytes: &[u8]| {
            DECODER.try_bytes(bytes);
        });
    };
}

/// Writes what libFuzzer begins with, before it reads its corpus, and ends the process at a panic.
///
/// But for those of other people's code: Tantivy's, on bytes that it did not write, are caught where it is called, and are
/// errors there. One that is not caught ends the process all the same, a little later.
pub fn begin(decoder: &Decoder) {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    decoder.write_corpus(&corpora).expect("the corpus can be written");
    let report = take_hook();
    set_hook(Box::new(move |panic| {
        let is_ours = |file: &str| !file.contains("/registry/") && !file.starts_with("/rustc/");
        if panic.location().is_none_or(|location| is_ours(location.file())) {
            report(panic);
            abort();
        }
    }));
}

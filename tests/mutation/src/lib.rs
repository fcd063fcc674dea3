//! Decoders against bytes that lie: what a decoder is to a fuzzer, and a short run of mutated encodings for every test run.
//!
//! Each room describes its decoders as [`Decoder`]s, in a module `fuzzing`. A test of the room [checks](Decoder::check) each
//! of them with a few thousand mutations of valid encodings; `fuzz/` has libFuzzer search further, with the same seeds and
//! the same demands. X1: no input makes a decoder panic, or hold more memory than it may.

mod memory;
mod mutate;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use fastrand::Rng;

pub use memory::{Meter, peak_of};

/// Mutations that each decoder is checked with; `MUTATIONS` sets another number.
const MUTATIONS: u64 = 3_000;
/// Beside its constant share, a decoder may hold this many bytes for each byte of its input: an empty message of protobuf
/// takes two bytes, and becomes a struct.
const MEMORY_PER_BYTE: usize = 512;

/// A decoder of bytes that come from outside, from another node or from a disk.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    /// The fuzz target and its corpus are called so.
    pub name: &'static str,
    /// Valid encodings, small and of different shapes.
    pub samples: fn() -> Vec<Vec<u8>>,
    /// Decodes, walks all that came of it, and checks what has to hold of it. Whether the bytes were an encoding.
    pub run: fn(&[u8]) -> bool,
    /// Words of a format that is text. Mutations insert them, and libFuzzer's dictionary has them.
    pub words: &'static [&'static str],
    /// The most memory that one run holds at a time, whatever the input's length; 512 bytes for each byte of it come on top.
    pub memory_bytes: usize,
}

impl Decoder {
    /// Runs once. Whether the bytes were an encoding.
    ///
    /// # Panics
    /// X1: as the decoder did, or because it held too much memory. The latter is seen only where [`Meter`] is the global
    /// allocator, and does not include what C code takes.
    pub fn try_bytes(&self, bytes: &[u8]) -> bool {
        let (accepted, held) = peak_of(|| (self.run)(bytes));
        let most = self.memory_bytes + MEMORY_PER_BYTE * bytes.len();
        assert!(held <= most, "X1: `{}` held {held} bytes for {} of input, at most {most}", self.name, bytes.len());
        accepted
    }

    /// Tries the samples, and as many mutations of them as `MUTATIONS` says, or 3,000. The same number is always the same
    /// bytes.
    ///
    /// # Panics
    /// At the first input that the decoder does not stand; it is left in a file that the message names.
    pub fn check(&self) {
        self.check_by(1);
    }

    /// The same with a tenth of the mutations: for what takes milliseconds.
    ///
    /// # Panics
    /// As [`check`](Self::check).
    pub fn check_slow(&self) {
        self.check_by(10);
    }

    fn check_by(&self, part: u64) {
        let samples = (self.samples)();
        assert!(!samples.is_empty(), "`{}` has samples to begin with", self.name);
        for (number, sample) in samples.iter().enumerate() {
            assert!(self.try_or_keep(sample, "a sample"), "`{}` refuses its own sample {number}", self.name);
        }
        let mutations = std::env::var("MUTATIONS").ok().and_then(|number| number.parse().ok()).unwrap_or(MUTATIONS);
        for number in 0..mutations / part {
            let bytes = mutate::mutated(&mut Rng::with_seed(number), &samples, self.words);
            self.try_or_keep(&bytes, &format!("mutation {number}"));
        }
    }

    fn try_or_keep(&self, bytes: &[u8], which: &str) -> bool {
        catch_unwind(AssertUnwindSafe(|| self.try_bytes(bytes))).unwrap_or_else(|panic| {
            let kept = std::env::temp_dir().join(format!("stratalog-{}-{}", self.name, std::process::id()));
            let written = std::fs::write(&kept, bytes);
            eprintln!("X1: `{}` does not stand {which}; its bytes are in {} ({written:?})", self.name, kept.display());
            resume_unwind(panic)
        })
    }

    /// Writes the samples into a directory of libFuzzer's, and returns the path of a dictionary there if it has words.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn write_corpus(&self, corpora: &Path) -> std::io::Result<Option<PathBuf>> {
        let corpus = corpora.join(self.name);
        std::fs::create_dir_all(&corpus)?;
        for (number, sample) in (self.samples)().iter().enumerate() {
            std::fs::write(corpus.join(format!("sample-{number:03}")), sample)?;
        }
        if self.words.is_empty() {
            return Ok(None);
        }
        let dictionary = corpora.join(format!("{}.dict", self.name));
        let lines: Vec<String> = self.words.iter().map(|word| format!("\"{}\"\n", quoted(word))).collect();
        std::fs::write(&dictionary, lines.concat())?;
        Ok(Some(dictionary))
    }
}

/// As libFuzzer's dictionaries have a word: what is not a visible character of ASCII is `\xNN`.
fn quoted(word: &str) -> String {
    let byte = |byte: u8| match byte {
        b'"' | b'\\' => format!("\\x{byte:02X}"),
        byte if byte.is_ascii_graphic() || byte == b' ' => char::from(byte).to_string(),
        byte => format!("\\x{byte:02X}"),
    };
    word.bytes().map(byte).collect()
}

/// Takes numbers and pieces off the front of a fuzzer's bytes, for decoders that are given more than one buffer. Where the
/// bytes end, numbers are 0 and pieces are short.
#[derive(Clone, Copy, Debug)]
pub struct Pieces<'a>(pub &'a [u8]);

impl<'a> Pieces<'a> {
    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// A number of four bytes, little-endian.
    pub fn number(&mut self) -> u32 {
        self.take(4).try_into().map_or(0, u32::from_le_bytes)
    }

    /// A piece that says how long it is, in two bytes.
    pub fn piece(&mut self) -> &'a [u8] {
        let len = self.take(2).try_into().map_or(0, u16::from_le_bytes);
        self.take(len.into())
    }

    /// What is left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// Writes a piece as [`Pieces::piece`] takes it.
///
/// # Panics
/// If it has 64 KiB or more.
pub fn piece(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).expect("a piece is below 64 KiB");
    [&len.to_le_bytes(), bytes].concat()
}

#[cfg(test)]
mod tests;

//! Bytes that are nearly right: they reach further into a decoder than random ones.

use fastrand::Rng;

/// Changes of one mutation, at most.
const MAX_CHANGES: usize = 4;
/// What is added, cut out or repeated at once, at most.
const MAX_RUN: usize = 64;
/// Numbers at which lengths, counts and offsets go wrong.
const LIES: [u64; 20] = [
    0,
    1,
    2,
    7,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x0001_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x0000_0001_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_ffff_fffe,
    0xffff_ffff_ffff_ffff,
];

/// A sample with some changes.
pub(crate) fn mutated(rng: &mut Rng, samples: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut bytes = samples[rng.usize(..samples.len())].clone();
    for _ in 0..rng.usize(1..=MAX_CHANGES) {
        change(rng, &mut bytes, samples, words);
    }
    bytes
}

fn change(rng: &mut Rng, bytes: &mut Vec<u8>, samples: &[Vec<u8>], words: &[&str]) {
    let at = rng.usize(..=bytes.len());
    match rng.u8(..12) {
        0 | 1 => flip(rng, bytes, at),
        2..=5 => lie(rng, bytes, at),
        6 => bytes.truncate(at),
        7 => bytes.extend((0..rng.usize(1..=MAX_RUN)).map(|_| rng.u8(..))),
        8 => drop(bytes.drain(run_at(rng, bytes, at))),
        9 => {
            let repeated = bytes[run_at(rng, bytes, at)].to_vec();
            insert(bytes, at, &repeated);
        }
        10 => splice(rng, bytes, at, samples),
        _ if words.is_empty() => flip(rng, bytes, at),
        _ => insert(bytes, at, words[rng.usize(..words.len())].as_bytes()),
    }
}

fn flip(rng: &mut Rng, bytes: &mut [u8], at: usize) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << rng.u8(..8);
    }
}

/// Writes a number of some width over what is there, or one that is near it.
fn lie(rng: &mut Rng, bytes: &mut [u8], at: usize) {
    let width = 1 << rng.u8(..4);
    let Some(field) = bytes.get_mut(at..at + width) else { return };
    let is_little = rng.bool();
    if is_little {
        field.reverse();
    }
    let was = field.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let lie = match rng.u8(..4) {
        0 => was.wrapping_add(1),
        1 => was.wrapping_sub(1),
        _ => LIES[rng.usize(..LIES.len())],
    };
    field.copy_from_slice(&lie.to_be_bytes()[8 - width..]);
    if is_little {
        field.reverse();
    }
}

fn run_at(rng: &mut Rng, bytes: &[u8], at: usize) -> std::ops::Range<usize> {
    at..bytes.len().min(at + rng.usize(1..=MAX_RUN))
}

fn insert(bytes: &mut Vec<u8>, at: usize, inserted: &[u8]) {
    bytes.splice(at..at, inserted.iter().copied());
}

/// Goes on as another sample, or the same one, does from some place on.
fn splice(rng: &mut Rng, bytes: &mut Vec<u8>, at: usize, samples: &[Vec<u8>]) {
    let other = &samples[rng.usize(..samples.len())];
    bytes.truncate(at);
    bytes.extend_from_slice(&other[rng.usize(..=other.len())..]);
}

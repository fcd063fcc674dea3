use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[global_allocator]
static METER: Meter = Meter;

fn one_sample() -> Vec<Vec<u8>> {
    vec![b"\x03abc".to_vec()]
}

/// Believes its first byte.
fn believing(bytes: &[u8]) -> bool {
    let mut pieces = Pieces(bytes);
    let len = pieces.byte().into();
    pieces.rest()[..len].len() == len
}

/// Takes memory for what its first two bytes say, in units of 64 KiB.
fn greedy(bytes: &[u8]) -> bool {
    let len = usize::from(Pieces(bytes).byte());
    std::hint::black_box(vec![0_u8; len << 16]).len() == len << 16
}

fn decoder(run: fn(&[u8]) -> bool) -> Decoder {
    Decoder { name: "test", samples: one_sample, run, words: &["word"], memory_bytes: 1 << 20 }
}

#[test]
fn a_decoder_that_believes_a_length_is_found_out() {
    assert!(catch_unwind(|| decoder(believing).check()).is_err());
}

#[test]
fn x1_a_decoder_that_takes_memory_for_a_claim_is_found_out() {
    assert!(decoder(greedy).try_bytes(&[15]));
    let panic = catch_unwind(|| decoder(greedy).try_bytes(&[200])).unwrap_err();
    assert!(panic.downcast_ref::<String>().unwrap().starts_with("X1: `test` held 13107200 bytes"));
    assert!(catch_unwind(|| decoder(greedy).check()).is_err());
}

#[test]
fn the_same_number_is_always_the_same_mutation() {
    let samples = [one_sample(), vec![vec![7; 300]]].concat();
    let of = |number| mutate::mutated(&mut Rng::with_seed(number), &samples, &["word"]);
    let all: Vec<Vec<u8>> = (0..500).map(of).collect();
    assert_eq!(all, (0..500).map(of).collect::<Vec<_>>());
    let changed = all.iter().filter(|bytes| !samples.contains(bytes)).count();
    assert!(changed > 400, "{changed} of 500 differ from the samples");
}

#[test]
fn a_sample_has_to_be_an_encoding() {
    assert!(catch_unwind(|| decoder(|_| false).check()).is_err());
}

#[test]
fn each_mutation_is_tried() {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    fn counted(_: &[u8]) -> bool {
        RUNS.fetch_add(1, Ordering::Relaxed);
        true
    }
    decoder(counted).check();
    assert!(RUNS.load(Ordering::Relaxed) as u64 > MUTATIONS);
}

#[test]
fn words_of_a_dictionary_are_ascii() {
    assert_eq!(quoted("a \"b\\\nä"), "a \\x22b\\x5C\\x0A\\xC3\\xA4");
}

#[test]
fn pieces_come_back_as_they_were_written_and_short_ones_are_short() {
    let bytes = [&[9][..], &piece(b"one"), &7_u32.to_le_bytes(), b"rest"].concat();
    let mut pieces = Pieces(&bytes);
    assert_eq!((pieces.byte(), pieces.piece(), pieces.number(), pieces.rest()), (9, &b"one"[..], 7, &b"rest"[..]));
    let mut cut = Pieces(&[5, 0, 1]);
    assert_eq!((cut.piece(), cut.byte(), cut.number()), (&[1][..], 0, 0));
}

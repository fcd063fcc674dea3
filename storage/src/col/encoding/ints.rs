//! Integers: frame of reference, or deltas of it, bit-packed. Timestamps whose clock ticks in micro-, milli- or whole
//! seconds are stored in ticks.
//!
//! A value is `base + 10^exponent * step`, in wrapping 64-bit arithmetic, with `step` a u64 that is packed as it is, or as
//! the difference to the one before.

use super::bitpack::{pack, unpack, width_of};
use crate::container::{Cursor, Malformed};

const FRAME: u8 = 0;
const DELTA: u8 = 1;
/// Tick sizes that the writer tries, as powers of ten.
const EXPONENTS: [u8; 3] = [9, 6, 3];
/// The largest power of ten in an i64.
const MAX_EXPONENT: u8 = 18;

/// Appends `values`.
pub(super) fn encode(values: &[i64], out: &mut Vec<u8>) {
    let base = values.iter().copied().min().unwrap_or(0);
    let exponent = tick_exponent(values, base);
    let mut steps: Vec<u64> = values.iter().map(|&value| distance(base, value)).collect();
    if exponent > 0 {
        let tick = 10_u64.pow(exponent.into());
        steps.iter_mut().for_each(|step| *step /= tick);
    }
    let frame_width = width_of(steps.iter().copied().max().unwrap_or(0));
    let deltas = Deltas::of(&steps).filter(|deltas| deltas.width < frame_width);
    out.push(if deltas.is_some() { DELTA } else { FRAME });
    out.push(exponent);
    out.extend_from_slice(&base.to_le_bytes());
    match deltas {
        None => {
            out.push(frame_width as u8);
            pack(steps.iter().copied(), frame_width, out);
        }
        Some(deltas) => {
            out.push(deltas.width as u8);
            out.extend_from_slice(&steps[0].to_le_bytes());
            out.extend_from_slice(&deltas.min.to_le_bytes());
            let moves = steps.windows(2).map(|pair| distance(deltas.min, delta(pair)));
            pack(moves, deltas.width, out);
        }
    }
}

/// Reads `n` values; `n` is the caller's to bound.
pub(super) fn decode(cursor: &mut Cursor<'_>, n: usize) -> Result<Vec<i64>, Malformed> {
    let (mode, exponent) = (cursor.u8()?, cursor.u8()?);
    if exponent > MAX_EXPONENT {
        return Err(Malformed("a tick is over 10^18"));
    }
    let tick = 10_u64.pow(exponent.into());
    let base = cursor.i64()?;
    let width = u32::from(cursor.u8()?);
    let value = |step: u64| base.wrapping_add(tick.wrapping_mul(step) as i64);
    match mode {
        FRAME if exponent == 0 => unpack(cursor, n, width, |step| base.wrapping_add(step as i64)),
        FRAME => unpack(cursor, n, width, value),
        DELTA if n > 0 => {
            let (first, min) = (cursor.u64()?, cursor.i64()?);
            let moves = unpack(cursor, n - 1, width, |above| min.wrapping_add(above as i64))?;
            let mut values = Vec::with_capacity(n);
            values.push(value(first));
            let mut step = first;
            values.extend(moves.iter().map(|&by| {
                step = step.wrapping_add(by as u64);
                value(step)
            }));
            Ok(values)
        }
        _ => Err(Malformed("integers have a mode that version 1 does not know")),
    }
}

/// The largest tick that every value is a whole number of, counted from `base`.
fn tick_exponent(values: &[i64], base: i64) -> u8 {
    let whole = |exponent: &u8| {
        let tick = 10_u64.pow(u32::from(*exponent));
        values.iter().all(|&value| distance(base, value).is_multiple_of(tick))
    };
    EXPONENTS.into_iter().find(whole).unwrap_or(0)
}

/// `to - from` for `from <= to`: it fits a u64 even where it does not fit an i64.
fn distance(from: i64, to: i64) -> u64 {
    to.wrapping_sub(from) as u64
}

fn delta(pair: &[u64]) -> i64 {
    pair[1].wrapping_sub(pair[0]) as i64
}

/// How wide the differences of neighbours are.
struct Deltas {
    min: i64,
    width: u32,
}

impl Deltas {
    /// `None` where there are none, or where one might not fit an i64.
    fn of(steps: &[u64]) -> Option<Self> {
        if steps.len() < 2 || steps.iter().any(|&step| step > i64::MAX as u64) {
            return None;
        }
        let range = steps.windows(2).map(delta).fold((i64::MAX, i64::MIN), |(min, max), d| (min.min(d), max.max(d)));
        Some(Self { min: range.0, width: width_of(distance(range.0, range.1)) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(values: &[i64]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(values, &mut out);
        let mut cursor = Cursor::new(&out);
        assert_eq!(decode(&mut cursor, values.len()).unwrap(), values);
        assert_eq!(cursor.finish(), Ok(()));
        out
    }

    #[test]
    fn ends_of_the_range_round_trip() {
        encoded(&[]);
        encoded(&[i64::MIN]);
        encoded(&[i64::MIN, i64::MAX, 0, -1, i64::MAX, i64::MIN]);
        encoded(&[i64::MAX, i64::MAX - 1]);
    }

    #[test]
    fn dense_offsets_take_no_bits() {
        assert!(encoded(&(1_000_000..1_008_192).collect::<Vec<_>>()).len() < 32);
        assert!(encoded(&[7; 8_192]).len() < 32);
    }

    #[test]
    fn millisecond_times_in_nanoseconds_are_stored_as_milliseconds() {
        let times: Vec<i64> = (0..8_192).map(|i| (1_700_000_000_000 + (i * 7_919) % 60_000) * 1_000_000).collect();
        assert!(encoded(&times).len() <= 8_192 * 2 + 32);
    }

    proptest! {
        #[test]
        fn any_integers_round_trip(values in proptest::collection::vec(any::<i64>(), 0..100)) {
            encoded(&values);
        }

        #[test]
        fn walks_round_trip(start in any::<i64>(), moves in proptest::collection::vec(-1_000_i64..1_000, 0..300)) {
            let mut at = start;
            encoded(&moves.iter().map(|by| { at = at.wrapping_add(*by); at }).collect::<Vec<_>>());
        }

        #[test]
        fn x1_garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100), n in 0_usize..200) {
            let _ = decode(&mut Cursor::new(&bytes), n);
        }
    }
}

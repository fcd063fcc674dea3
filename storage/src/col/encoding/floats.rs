//! Floats: as decimals where all of them are (measurements mostly are: 12.5, 0.31, 1700000000), else their bits.
//!
//! A decimal is an integer over a power of ten. Both are exact floats there, and a division is correctly rounded, so that
//! it gives the very float that reading the decimal's text gave.

use super::{bytes, ints};
use crate::container::{Cursor, Malformed};

const DECIMAL: u8 = 0;
const BITS: u8 = 1;
/// Powers of ten that the writer tries.
const EXPONENTS: std::ops::RangeInclusive<u8> = 0..=6;
/// The powers of ten that a float holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];
/// Integers up to here are exact floats.
const MAX_EXACT: f64 = (1_u64 << 53) as f64;

/// Appends `values`.
pub(super) fn encode(values: &[f64], out: &mut Vec<u8>) {
    let found = EXPONENTS.into_iter().find_map(|exponent| Some((exponent, decimals(values, exponent)?)));
    match found {
        Some((exponent, decimals)) => {
            out.extend_from_slice(&[DECIMAL, exponent]);
            ints::encode(&decimals, out);
        }
        None => {
            out.push(BITS);
            let bits: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            bytes::encode(&bits, out);
        }
    }
}

/// Reads `n` values; `n` is the caller's to bound.
pub(super) fn decode(cursor: &mut Cursor<'_>, n: usize) -> Result<Vec<f64>, Malformed> {
    match cursor.u8()? {
        DECIMAL => {
            let exponent = usize::from(cursor.u8()?);
            let scale = *POWERS.get(exponent).ok_or(Malformed("a decimal has more than 22 places"))?;
            Ok(ints::decode(cursor, n)?.into_iter().map(|decimal| decimal as f64 / scale).collect())
        }
        BITS => {
            let bits = bytes::decode(cursor, n * size_of::<f64>())?;
            Ok(bits.as_chunks().0.iter().map(|bits| f64::from_le_bytes(*bits)).collect())
        }
        _ => Err(Malformed("floats have a mode that version 1 does not know")),
    }
}

/// The values as integers over `10^exponent`, if every one of them comes back bit for bit.
fn decimals(values: &[f64], exponent: u8) -> Option<Vec<i64>> {
    let scale = POWERS[usize::from(exponent)];
    let decimal = |value: &f64| {
        let scaled = (value * scale).round();
        let same = scaled.abs() <= MAX_EXACT && (scaled / scale).to_bits() == value.to_bits();
        // The cast loses the sign of a negative zero, which `same` cannot see.
        (same && !(scaled == 0.0 && value.is_sign_negative())).then_some(scaled as i64)
    };
    values.iter().map(decimal).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(values: &[f64]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(values, &mut out);
        let mut cursor = Cursor::new(&out);
        let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&decode(&mut cursor, values.len()).unwrap()), bits(values));
        assert_eq!(cursor.finish(), Ok(()));
        out
    }

    #[test]
    fn unusual_floats_round_trip() {
        encoded(&[]);
        encoded(&[0.0, -0.0]);
        encoded(&[f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, f64::MAX, 5e-324]);
        encoded(&[MAX_EXACT, -MAX_EXACT, MAX_EXACT * 2.0]);
    }

    #[test]
    fn measurements_are_stored_as_decimals() {
        let values: Vec<f64> = (0..8_192).map(|i| f64::from(i % 1_000) / 100.0).collect();
        assert!(encoded(&values).len() < 8_192 * 2);
    }

    proptest! {
        #[test]
        fn any_floats_round_trip(bits in proptest::collection::vec(any::<u64>(), 0..100)) {
            encoded(&bits.into_iter().map(f64::from_bits).collect::<Vec<_>>());
        }

        #[test]
        fn texts_of_decimals_round_trip(parts in proptest::collection::vec((any::<i32>(), 0_u32..1_000_000), 0..50)) {
            encoded(&parts.iter().map(|(a, b)| format!("{a}.{b}").parse().unwrap()).collect::<Vec<f64>>());
        }

        #[test]
        fn x1_garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100), n in 0_usize..200) {
            let _ = decode(&mut Cursor::new(&bytes), n);
        }
    }
}

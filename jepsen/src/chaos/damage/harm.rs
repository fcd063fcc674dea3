//! What is done to the bytes of a file.

/// Devices lose, mix up and forget bytes by such chunks.
const CHUNK: usize = 4_096;
/// Bits are flipped where something was written: a sector of zeroes may be space that nobody uses yet.
const SECTOR: usize = 512;
/// Every write of the log ends with the same bytes, at the end of a sector.
const END_MARK: usize = 8;
/// What is left of a write whose end is lost: enough to see that there was one.
const BEGINNING: usize = 128;

/// A way to damage a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Harm {
    /// Two bits are not what they were.
    Flips,
    /// The file ends before some chunk.
    Truncated,
    /// A chunk is zeroes.
    Zeroed,
    /// A chunk is what it was before, or what another file has there.
    Stale,
    /// Of the last write only the beginning is there, and zeroes behind it, as if these had never reached the medium.
    EndLost,
}

impl Harm {
    /// Those of chunks.
    pub(super) const OF_CHUNKS: [Self; 3] = [Self::Truncated, Self::Zeroed, Self::Stale];

    /// Damages the bytes of a file, and says how; `None`, and nothing is changed, where that cannot be done. `stale`: what a chunk
    /// may become again.
    ///
    /// The last chunk that is not empty stays as it was: without it a log ends a little earlier, as if nothing had been
    /// written there. No bytes of the file tell the difference.
    pub(super) fn apply(self, bytes: &mut Vec<u8>, stale: &[u8], random: &mut fastrand::Rng) -> Option<String> {
        match self {
            Self::Flips => return flip(bytes, random),
            Self::EndLost => return lose_end(bytes),
            Self::Truncated | Self::Zeroed | Self::Stale => {}
        }
        let used = bytes.chunks(CHUNK).rposition(has_something)?;
        let is_hurt = |chunk: &usize| {
            let range = chunk * CHUNK..((chunk + 1) * CHUNK).min(bytes.len());
            match self {
                Self::Flips | Self::EndLost | Self::Truncated => true,
                Self::Zeroed => has_something(&bytes[range]),
                Self::Stale => stale_chunk(stale, &range) != bytes[range],
            }
        };
        // A file of one chunk has no other.
        let chunks: Vec<usize> = (0..used.max(1)).filter(is_hurt).collect();
        let at = random.choice(chunks)? * CHUNK;
        let range = at..(at + CHUNK).min(bytes.len());
        match self {
            Self::Flips | Self::EndLost | Self::Truncated => {
                bytes.truncate(if at == 0 { random.usize(..range.end) } else { at })
            }
            Self::Zeroed => bytes[range].fill(0),
            Self::Stale => {
                let before = stale_chunk(stale, &range);
                bytes[range].copy_from_slice(&before);
            }
        }
        let how = match self {
            Self::Flips | Self::EndLost | Self::Truncated => format!("ends at byte {}", bytes.len()),
            Self::Zeroed => format!("has zeroes from byte {at} on"),
            Self::Stale => format!("has other bytes from byte {at} on"),
        };
        Some(how)
    }
}

fn flip(bytes: &mut [u8], random: &mut fastrand::Rng) -> Option<String> {
    let used: Vec<usize> =
        bytes.chunks(SECTOR).enumerate().filter(|(_, sector)| has_something(sector)).map(|(at, _)| at).collect();
    let mut at = || {
        let sector = random.choice(&used)? * SECTOR;
        Some((sector + random.usize(..SECTOR.min(bytes.len() - sector)), random.u32(..8)))
    };
    let (first, mut second) = (at()?, at()?);
    while second == first {
        second = at()?;
    }
    for (byte, bit) in [first, second] {
        bytes[byte] ^= 1 << bit;
    }
    Some(format!("has other bits in bytes {} and {}", first.0, second.0))
}

fn lose_end(bytes: &mut [u8]) -> Option<String> {
    let end = bytes.iter().rposition(|byte| *byte != 0)? + 1;
    let mark = bytes.get(end.checked_sub(END_MARK)?..end)?;
    // The last write begins where the one before it ended, or behind the first sector, which says what file it is.
    let is_end = |at: &usize| bytes[..*at].ends_with(mark);
    let begins = (1..end.div_ceil(SECTOR)).map(|sector| sector * SECTOR).rev().find(is_end).unwrap_or(SECTOR);
    let lost = begins + BEGINNING;
    bytes.get_mut(lost..end).filter(|lost| has_something(lost))?.fill(0);
    Some(format!("has zeroes from byte {lost} on"))
}

fn has_something(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| *byte != 0)
}

/// What was in a place before: nothing, where there was none.
fn stale_chunk(stale: &[u8], range: &std::ops::Range<usize>) -> Vec<u8> {
    let mut chunk = stale.get(range.start.min(stale.len())..range.end.min(stale.len())).unwrap_or_default().to_vec();
    chunk.resize(range.len(), 0);
    chunk
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn apply(harm: Harm, bytes: &[u8], stale: &[u8], seed: u64) -> (Vec<u8>, Option<String>) {
        let mut hurt = bytes.to_vec();
        let how = harm.apply(&mut hurt, stale, &mut fastrand::Rng::with_seed(seed));
        (hurt, how)
    }

    #[test]
    fn two_bits_are_flipped_where_something_was_written() {
        let mut bytes = vec![0; 4 * SECTOR];
        bytes[2 * SECTOR] = 1;
        for seed in 0..50 {
            let (hurt, how) = apply(Harm::Flips, &bytes, &[], seed);
            let flipped: u32 = hurt.iter().zip(&bytes).map(|(one, other)| (one ^ other).count_ones()).sum();
            assert_eq!((flipped, how.is_some()), (2, true));
            assert!(hurt[..2 * SECTOR].iter().chain(&hurt[3 * SECTOR..]).all(|byte| *byte == 0));
        }
    }

    #[test]
    fn the_last_used_chunk_stays_and_free_space_is_no_damage() {
        let mut bytes = vec![7; 3 * CHUNK];
        bytes.extend(vec![0; 5 * CHUNK]);
        for seed in 0..50 {
            let (zeroed, _) = apply(Harm::Zeroed, &bytes, &[], seed);
            assert_eq!(zeroed[2 * CHUNK..], bytes[2 * CHUNK..]);
            assert_eq!(zeroed.iter().filter(|byte| **byte == 7).count(), 2 * CHUNK);
            let (cut, _) = apply(Harm::Truncated, &bytes, &[], seed);
            assert!(cut.len() < 2 * CHUNK, "{}", cut.len());
            let (stale, _) = apply(Harm::Stale, &bytes, &[7; CHUNK], seed);
            assert!(stale[..CHUNK] == bytes[..CHUNK] && stale[CHUNK..2 * CHUNK] == [0; CHUNK]);
        }
    }

    #[test]
    fn of_the_last_write_the_beginning_is_left() {
        let write = |sectors: usize| [&vec![7; sectors * SECTOR - END_MARK][..], b"THE-END\n"].concat();
        let header = [5; SECTOR];
        for (before, kept) in [(vec![], SECTOR), (write(1), 2 * SECTOR), ([write(1), write(3)].concat(), 5 * SECTOR)] {
            let bytes = [&header[..], &before, &write(2), &[0; 3 * SECTOR]].concat();
            let (hurt, how) = apply(Harm::EndLost, &bytes, &[], 1);
            let kept = kept + BEGINNING;
            assert!(how.is_some() && hurt[..kept] == bytes[..kept] && !has_something(&hurt[kept..]), "{kept}");
        }
    }

    #[test]
    fn what_cannot_be_damaged_is_left() {
        for harm in [Harm::Flips, Harm::Truncated, Harm::Zeroed, Harm::Stale, Harm::EndLost] {
            assert_eq!(apply(harm, &[], &[], 1), (Vec::new(), None));
            assert_eq!(apply(harm, &[0; CHUNK], &[], 1), (vec![0; CHUNK], None));
        }
        assert_eq!(apply(Harm::Stale, &[7; 100], &[7; 200], 1), (vec![7; 100], None));
    }

    proptest! {
        #[test]
        fn whatever_is_said_to_be_damaged_differs(
            bytes in prop::collection::vec(0_u8..3, 0..3 * CHUNK),
            stale in prop::collection::vec(0_u8..3, 0..3 * CHUNK),
            seed in any::<u64>(),
        ) {
            for harm in [Harm::Flips, Harm::Truncated, Harm::Zeroed, Harm::Stale] {
                let (hurt, how) = apply(harm, &bytes, &stale, seed);
                prop_assert_eq!(hurt != bytes, how.is_some(), "{:?}", harm);
            }
        }
    }
}

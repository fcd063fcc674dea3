//! Tables that are indexed by numbers from 0 on, and take memory only where something is.

const PAGE: usize = 4_096;
/// The highest number that has a place: a history that names a higher one is not of this harness, and takes no memory (X1).
pub(crate) const MAX_INDEX: u64 = 1 << 32;

/// A table of `T`, with `T::default()` wherever nothing was set. A lookup is two array accesses.
#[derive(Clone, Debug, Default)]
pub(super) struct Paged<T> {
    pages: Vec<Option<Box<[T]>>>,
}

impl<T: Copy + Default> Paged<T> {
    pub(super) fn get(&self, index: u64) -> T {
        let (page, at) = split(index);
        self.pages.get(page).and_then(Option::as_ref).map_or_else(T::default, |page| page[at])
    }

    /// `None` above [`MAX_INDEX`].
    pub(super) fn get_mut(&mut self, index: u64) -> Option<&mut T> {
        if index > MAX_INDEX {
            return None;
        }
        let (page, at) = split(index);
        if self.pages.len() <= page {
            self.pages.resize_with(page + 1, || None);
        }
        let page = self.pages[page].get_or_insert_with(|| vec![T::default(); PAGE].into_boxed_slice());
        Some(&mut page[at])
    }

    /// All places of the pages that there are, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, T)> {
        let pages = self.pages.iter().enumerate();
        pages.flat_map(|(number, page)| {
            let places = page.iter().flat_map(|page| page.iter().copied());
            places.enumerate().map(move |(at, value)| ((number * PAGE + at) as u64, value))
        })
    }
}

fn split(index: u64) -> (usize, usize) {
    ((index / PAGE as u64) as usize, (index % PAGE as u64) as usize)
}

/// A set of numbers from 0 on, a bit each.
#[derive(Clone, Debug, Default)]
pub(super) struct Bits(Paged<u64>);

impl Bits {
    /// Adds a number; false if it was there, or is above what has a place.
    pub(super) fn insert(&mut self, index: u64) -> bool {
        let Some(word) = self.0.get_mut(index / 64).filter(|_| index <= MAX_INDEX) else { return false };
        let bit = 1 << (index % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    pub(super) fn contains(&self, index: u64) -> bool {
        self.0.get(index / 64) & (1 << (index % 64)) != 0
    }

    /// The lowest number in it that is not below `index`.
    pub(super) fn next_from(&self, index: u64) -> Option<u64> {
        let end = (self.0.pages.len() * PAGE) as u64;
        let masked = self.0.get(index / 64) & (u64::MAX << (index % 64));
        if masked != 0 {
            return Some(index / 64 * 64 + u64::from(masked.trailing_zeros()));
        }
        let words = (index / 64 + 1..end).map(|at| (at, self.0.get(at)));
        let mut found = words.filter(|(_, word)| *word != 0);
        found.next().map(|(at, word)| at * 64 + u64::from(word.trailing_zeros()))
    }

    /// The highest number in it that is not above `index`.
    pub(super) fn last_to(&self, index: u64) -> Option<u64> {
        let masked = self.0.get(index / 64) & (u64::MAX >> (63 - index % 64));
        if masked != 0 {
            return Some(index / 64 * 64 + 63 - u64::from(masked.leading_zeros()));
        }
        let end = (index / 64).min((self.0.pages.len() * PAGE) as u64);
        let mut found = (0..end).rev().map(|at| (at, self.0.get(at))).filter(|(_, word)| *word != 0);
        found.next().map(|(at, word)| at * 64 + 63 - u64::from(word.leading_zeros()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_taken_only_where_something_is() {
        let mut table = Paged::default();
        *table.get_mut(3 * PAGE as u64 + 1).unwrap() = 7_u32;
        assert_eq!((table.get(0), table.get(3 * PAGE as u64 + 1), table.get(u64::MAX)), (0, 7, 0));
        assert_eq!(table.pages.iter().flatten().count(), 1);
        assert!(table.get_mut(MAX_INDEX + 1).is_none());
        assert_eq!(table.iter().filter(|(_, value)| *value != 0).collect::<Vec<_>>(), [(3 * PAGE as u64 + 1, 7)]);
    }

    #[test]
    fn neighbours_in_a_set_are_found() {
        let mut bits = Bits::default();
        assert!([0, 63, 64, 300_000].map(|index| bits.insert(index)).iter().all(|is_new| *is_new));
        assert!(!bits.insert(64) && bits.contains(64) && !bits.contains(65));
        assert_eq!(
            [0, 1, 64, 65, 300_001].map(|at| bits.next_from(at)),
            [Some(0), Some(63), Some(64), Some(300_000), None]
        );
        assert_eq!(
            [0, 62, 64, 299_999, 1 << 40].map(|at| bits.last_to(at)),
            [Some(0), Some(0), Some(64), Some(64), Some(300_000)]
        );
        assert_eq!(Bits::default().last_to(5), None);
    }
}

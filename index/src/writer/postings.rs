//! Lists of ascending row numbers, many of them, growing side by side in one arena.
//!
//! A list starts without room of its own: words such as ids come once. From its second row on it has blocks, each twice as
//! large as the one before up to a limit, which hold the distances from row to row, 7 bits a byte. The last bytes of a
//! block are the place of the next one.

/// Bytes of the place of the next block.
const LINK_BYTES: usize = 4;
const FIRST_BLOCK_BYTES: usize = 16;
/// The largest blocks have 2^6 times the bytes of the first: 1 KiB.
const LAST_LEVEL: u8 = 6;
/// The most that a distance takes. A block that has less room left is full.
const MAX_DISTANCE_BYTES: u32 = 5;

/// One list, of one row at least.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    first: u32,
    last: u32,
    /// Where its first block begins, if there is one.
    head: u32,
    /// Where the next distance goes, and where the last block's link is. Equal without a block.
    at: u32,
    link: u32,
    /// Says how large the next block is.
    level: u8,
}

impl List {
    /// A list of one row.
    pub(super) fn new(row: u32) -> Self {
        Self { first: row, last: row, head: 0, at: 0, link: 0, level: 0 }
    }
}

/// The blocks of all lists: less than 4 GiB.
#[derive(Default)]
pub(super) struct Arena(Vec<u8>);

impl Arena {
    /// Memory in use, in bytes.
    pub(super) fn used_bytes(&self) -> usize {
        self.0.capacity()
    }

    /// Adds a row, which is not below the last one; the last one is not added again.
    #[inline]
    pub(super) fn push(&mut self, list: &mut List, row: u32) {
        if list.last == row {
            return;
        }
        debug_assert!(list.last < row, "rows ascend");
        if list.link - list.at < MAX_DISTANCE_BYTES {
            self.grow(list);
        }
        let mut distance = row - list.last;
        let mut at = list.at as usize;
        while distance >= 0x80 {
            self.0[at] = distance as u8 | 0x80;
            distance >>= 7;
            at += 1;
        }
        self.0[at] = distance as u8;
        list.at = at as u32 + 1;
        list.last = row;
    }

    /// Gives a list its first block, or the next.
    fn grow(&mut self, list: &mut List) {
        let start = self.0.len();
        let end = start + block_bytes(list.level);
        self.0.resize(end, 0);
        if list.link == 0 {
            list.head = start as u32;
        } else {
            let link = list.link as usize;
            self.0[link..link + LINK_BYTES].copy_from_slice(&(start as u32).to_le_bytes());
        }
        list.at = start as u32;
        list.link = (end - LINK_BYTES) as u32;
        list.level = LAST_LEVEL.min(list.level + 1);
    }

    /// Calls `visit` with each row of a list, ascending.
    pub(super) fn for_each(&self, list: &List, mut visit: impl FnMut(u32)) {
        let mut row = list.first;
        visit(row);
        let (mut at, mut level) = (list.head as usize, 0);
        let mut link = at + block_bytes(level) - LINK_BYTES;
        while row != list.last {
            if link - at < MAX_DISTANCE_BYTES as usize {
                let next = self.0[link..link + LINK_BYTES].try_into().expect("a link has four bytes");
                (at, level) = (u32::from_le_bytes(next) as usize, LAST_LEVEL.min(level + 1));
                link = at + block_bytes(level) - LINK_BYTES;
            }
            let mut shift = 0;
            loop {
                let byte = self.0[at];
                at += 1;
                row += u32::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    break;
                }
            }
            visit(row);
        }
    }
}

fn block_bytes(level: u8) -> usize {
    FIRST_BLOCK_BYTES << level
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(arena: &Arena, list: &List) -> Vec<u32> {
        let mut rows = Vec::new();
        arena.for_each(list, |row| rows.push(row));
        rows
    }

    #[test]
    fn a_list_of_one_row_takes_no_room() {
        let mut arena = Arena::default();
        let mut list = List::new(7);
        arena.push(&mut list, 7);
        assert_eq!((read(&arena, &list), arena.used_bytes()), (vec![7], 0));
    }

    #[test]
    fn rows_as_far_apart_as_can_be_come_back() {
        let mut arena = Arena::default();
        let mut list = List::new(0);
        [1, 1, 0x80, 0x4000, u32::MAX - 1, u32::MAX].into_iter().for_each(|row| arena.push(&mut list, row));
        assert_eq!(read(&arena, &list), [0, 1, 0x80, 0x4000, u32::MAX - 1, u32::MAX]);
    }

    proptest! {
        #[test]
        fn lists_that_grow_side_by_side_do_not_meet(steps in proptest::collection::vec((0_usize..4, 1_u32..300), 0..4_000)) {
            let mut arena = Arena::default();
            let mut lists = [List::new(0); 4];
            let mut expected = vec![vec![0]; 4];
            let mut row = 0;
            for (which, by) in steps {
                row += by;
                arena.push(&mut lists[which], row);
                expected[which].push(row);
            }
            for (list, expected) in lists.iter().zip(&expected) {
                prop_assert_eq!(&read(&arena, list), expected);
            }
        }
    }
}

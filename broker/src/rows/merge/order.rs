//! One order for the rows of all inputs, and which of them stay.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use stratalog_proto::{Code, Error, Offset, PartitionId, TimeBucket};

use super::edit::{Fate, Filter};
use super::input::{Input, Key, Keys};
use crate::pace::Pace;

/// A row of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) input: u32,
    pub(super) row: u32,
}

/// The rows that stay, ascending by [`Key`].
#[derive(Debug, Default)]
pub(super) struct Ordered {
    pub(super) places: Vec<Place>,
    /// Neighbours of one time bucket, as ranges of `places`: all of them, in their order.
    pub(super) runs: Vec<(TimeBucket, Range<usize>)>,
    pub(super) trimmed: u64,
    pub(super) erased: u64,
    pub(super) replaced: u64,
}

/// How rows are assigned to time buckets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buckets {
    /// The bucket that all inputs have in common: its rows stay in it, however wide the topic's buckets are by now.
    pub(super) home: Option<TimeBucket>,
    pub(super) width_ns: i64,
}

impl Buckets {
    fn of(&self, time_ns: i64) -> TimeBucket {
        match self.home.filter(|home| holds(*home, time_ns)) {
            Some(home) => home,
            None => TimeBucket::of(time_ns, self.width_ns),
        }
    }
}

/// The last bucket's end is cut to `i64::MAX`, which lies in it none the less.
fn holds(bucket: TimeBucket, time_ns: i64) -> bool {
    bucket.contains(time_ns) || (time_ns >= bucket.start_ns && bucket.end_ns == i64::MAX)
}

/// Brings the rows of all inputs into one order. It reads their three key columns, a granule at a time.
///
/// # Errors
/// What reading reports; [`Code::Conflict`] for a row that stands for none of the inputs; [`Code::CorruptData`] for an
/// input that is not in order.
pub(super) fn order(inputs: &[Input], filter: &Filter, buckets: Buckets, pace: &Pace) -> Result<Ordered, Error> {
    let mut cursors: Vec<Cursor<'_>> = Vec::with_capacity(inputs.len());
    let mut heads = BinaryHeap::with_capacity(inputs.len());
    for (number, input) in inputs.iter().enumerate() {
        let mut cursor = Cursor { input, granule: 0, at: 0, keys: None, last: None };
        if let Some(key) = cursor.next(pace)? {
            heads.push(Reverse((key, number)));
        }
        cursors.push(cursor);
    }
    let mut ordered =
        Ordered { places: Vec::with_capacity(inputs.iter().map(Input::rows).sum()), ..Ordered::default() };
    let mut matched = 0;
    while let Some(Reverse((key, number))) = heads.pop() {
        let cursor = &mut cursors[number];
        let place = Place { input: number as u32, row: cursor.row() };
        matched += u64::from(ordered.take(key, place, cursor.input.stands_in(), filter, buckets));
        if let Some(key) = cursor.next(pace)? {
            heads.push(Reverse((key, number)));
        }
    }
    if matched != filter.replacements() {
        let message =
            format!("{} rows stand for others, and the inputs have {matched} of those", filter.replacements());
        return Err(Error::new(Code::Conflict, message));
    }
    Ok(ordered)
}

impl Ordered {
    /// The rows of some inputs alone, by the number of the input.
    pub(super) fn only(&self, is_in: &[bool]) -> Self {
        let mut only = Self::default();
        for (bucket, range) in &self.runs {
            let (first, places) = (only.places.len(), &self.places[range.clone()]);
            only.places.extend(places.iter().filter(|place| is_in[place.input as usize]));
            if only.places.len() > first {
                only.runs.push((*bucket, first..only.places.len()));
            }
        }
        only
    }

    /// Takes the next row, if it stays; whether another stands for it.
    fn take(&mut self, key: Key, place: Place, stands_in: bool, filter: &Filter, buckets: Buckets) -> bool {
        let (time_ns, partition, offset) = key;
        let (partition, offset) = (PartitionId(partition as u32), Offset(offset as u64));
        let fate = filter.fate(partition, offset);
        if stands_in {
            // Counted with the row that it stands for.
            if matches!(fate, Fate::Stays | Fate::Replaced) {
                self.push(time_ns, place, buckets);
            }
            return false;
        }
        match fate {
            Fate::Stays => self.push(time_ns, place, buckets),
            Fate::Trimmed => self.trimmed += 1,
            Fate::Erased => self.erased += 1,
            Fate::Replaced => self.replaced += 1,
        }
        filter.stands_for_another(partition, offset)
    }

    fn push(&mut self, time_ns: i64, place: Place, buckets: Buckets) {
        let at = self.places.len();
        self.places.push(place);
        match self.runs.last_mut().filter(|(bucket, _)| holds(*bucket, time_ns)) {
            Some((_, range)) => range.end = at + 1,
            None => self.runs.push((buckets.of(time_ns), at..at + 1)),
        }
    }
}

/// Where the order stands in an input.
struct Cursor<'a> {
    input: &'a Input,
    granule: usize,
    /// The row of `granule` after the last one given.
    at: usize,
    keys: Option<Keys>,
    last: Option<Key>,
}

impl Cursor<'_> {
    /// The number of the row given last.
    fn row(&self) -> u32 {
        (self.input.granule_rows(self.granule).start + self.at - 1) as u32
    }

    fn next(&mut self, pace: &Pace) -> Result<Option<Key>, Error> {
        if self.keys.as_ref().is_some_and(|keys| self.at == keys.len()) {
            (self.keys, self.granule, self.at) = (None, self.granule + 1, 0);
        }
        if self.granule == self.input.granules() {
            return Ok(None);
        }
        if self.keys.is_none() {
            self.keys = Some(self.input.keys(self.granule, pace)?);
        }
        let key = self.keys.as_ref().expect("it was just read").get(self.at);
        self.at += 1;
        if self.last.is_some_and(|last| last >= key) {
            self.input.blame();
            return Err(Error::new(Code::CorruptData, "the rows of a segment to be merged are not in their order"));
        }
        self.last = Some(key);
        Ok(Some(key))
    }
}

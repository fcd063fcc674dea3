//! The batches of several replay segments as one sequence, in the order of the log.

use stratalog_proto::{Error, RaftIndex, TopicId};
use stratalog_storage::{RecBatchRef, RecCursor};

use super::Unreadable;

/// Segments, each with the batch that it comes to next. A roll has one for each large topic and one for all others: few
/// enough to look at all of them at each step. A topic with a batch that cannot be read is left out from there on.
#[derive(Default)]
pub(super) struct Merge {
    runs: Vec<Run>,
    unreadable: Vec<Unreadable>,
}

struct Run {
    next: RecBatchRef,
    cursor: RecCursor,
    topics: Vec<TopicId>,
}

impl Merge {
    /// Adds a cursor over batches of `topics` in entries from `from` on.
    pub(super) fn add(&mut self, mut cursor: RecCursor, topics: Vec<TopicId>, from: RaftIndex) {
        if let Some(next) = step(&mut cursor, &topics, from, &mut self.unreadable) {
            self.runs.push(Run { next, cursor, topics });
        }
    }

    /// None of these topics can be read from entry `from` on.
    pub(super) fn leave_out(&mut self, topics: &[TopicId], from: RaftIndex, error: &Error) {
        leave_out(topics, from, error, &mut self.unreadable);
    }

    /// The next batch of all, unless its entry lies above `end`.
    pub(super) fn next_up_to(&mut self, end: RaftIndex) -> Option<RecBatchRef> {
        let places = self.runs.iter().enumerate().map(|(at, run)| ((run.next.index, run.next.at), at));
        let ((_, _), at) = places.min().filter(|((index, _), _)| *index <= end)?;
        let run = &mut self.runs[at];
        match step(&mut run.cursor, &run.topics, run.next.index, &mut self.unreadable) {
            Some(following) => Some(std::mem::replace(&mut run.next, following)),
            None => Some(self.runs.swap_remove(at).next),
        }
    }

    /// What could not be read so far.
    pub(super) fn into_unreadable(self) -> Vec<Unreadable> {
        self.unreadable
    }
}

/// The next batch of a cursor that can be read. An error of the whole segment concerns entries from `from` on.
fn step(
    cursor: &mut RecCursor,
    topics: &[TopicId],
    from: RaftIndex,
    unreadable: &mut Vec<Unreadable>,
) -> Option<RecBatchRef> {
    loop {
        let error = match cursor.next()? {
            Ok(batch) => return Some(batch),
            Err(error) => Error::from(error),
        };
        let Some((topic, index)) = cursor.skip_failed() else {
            leave_out(topics, from, &error, unreadable);
            return None;
        };
        unreadable.push(Unreadable { topic, index, error });
    }
}

fn leave_out(topics: &[TopicId], from: RaftIndex, error: &Error, unreadable: &mut Vec<Unreadable>) {
    unreadable.extend(topics.iter().map(|topic| Unreadable { topic: *topic, index: from, error: error.clone() }));
}

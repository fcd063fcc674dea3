//! The batches of several replay segments as one sequence, in the order of the log.

use stratalog_proto::RaftIndex;
use stratalog_storage::{RecBatchRef, RecCursor, RecError};

/// Cursors, each with the batch that it comes to next. A roll has one for each large topic and one for all others: few
/// enough to look at all of them at each step.
#[derive(Default)]
pub(super) struct Merge {
    cursors: Vec<(RecBatchRef, RecCursor)>,
}

impl Merge {
    /// Adds a cursor.
    ///
    /// # Errors
    /// Those of reading its first batch.
    pub(super) fn add(&mut self, mut cursor: RecCursor) -> Result<(), RecError> {
        if let Some(first) = cursor.next().transpose()? {
            self.cursors.push((first, cursor));
        }
        Ok(())
    }

    /// The next batch of all, unless its entry lies above `end`.
    ///
    /// # Errors
    /// Those of reading the batch behind it.
    pub(super) fn next_up_to(&mut self, end: RaftIndex) -> Result<Option<RecBatchRef>, RecError> {
        let places = self.cursors.iter().enumerate().map(|(at, (next, _))| ((next.index, next.at), at));
        let Some(((_, _), at)) = places.min().filter(|((index, _), _)| *index <= end) else { return Ok(None) };
        let (next, cursor) = &mut self.cursors[at];
        match cursor.next().transpose()? {
            Some(following) => Ok(Some(std::mem::replace(next, following))),
            None => Ok(Some(self.cursors.swap_remove(at).0)),
        }
    }
}

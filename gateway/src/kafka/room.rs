//! Answers about groups, which may be much larger than what asks for them: bounded each, and over all connections together with
//! the records of fetches.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Node;
use super::requests::fetch::MAX_BYTES;

/// What an answer still has room for. One group, at least, is told of however much it is, if all answers together leave room for
/// it; who does not fit is asked for again. Taken as soon as it is known how much it is, before it is written.
pub(super) struct Room {
    answers: Arc<Semaphore>,
    /// All that answers may take together, in KiB: what is larger takes all of it.
    all: u32,
    /// In KiB.
    held: Option<OwnedSemaphorePermit>,
    left: usize,
}

impl Room {
    pub(super) fn new(node: &Node) -> Self {
        let (answers, all) = (Arc::clone(&node.shares.answers), node.shares.answers_kib);
        Self { answers, all, held: None, left: MAX_BYTES }
    }

    /// Whether so much more fits.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        if self.held.is_some() && bytes > self.left {
            return false;
        }
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX).min(self.all);
        let Ok(more) = Arc::clone(&self.answers).try_acquire_many_owned(kib) else { return false };
        match &mut self.held {
            None => self.held = Some(more),
            Some(held) => held.merge(more),
        }
        self.left = self.left.saturating_sub(bytes);
        true
    }

    /// Its place, which counts until the answer is sent.
    pub(super) fn held(self) -> Option<OwnedSemaphorePermit> {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With so many KiB for all answers.
    fn room(answers: &Arc<Semaphore>, all: u32) -> Room {
        Room { answers: Arc::clone(answers), all, held: None, left: MAX_BYTES }
    }

    #[test]
    fn x1_the_first_group_fits_and_others_as_far_as_there_is_room() {
        let answers = Arc::new(Semaphore::new(1 << 20));
        let mut one = room(&answers, 1 << 20);
        assert!(one.take(MAX_BYTES - 100) && one.take(60) && !one.take(41) && one.take(40) && !one.take(1));
        let mut large = room(&answers, 1 << 20);
        assert!(large.take(2 * MAX_BYTES) && !large.take(1));
    }

    #[test]
    fn x1_answers_of_all_connections_share_a_budget() {
        let answers = Arc::new(Semaphore::new(10));
        let (mut one, mut other) = (room(&answers, 10), room(&answers, 10));
        assert!(one.take(3 << 10) && one.take(10));
        assert_eq!(answers.available_permits(), 5, "4 KiB and 1");
        assert!(!other.take(5 << 10), "the first of an answer waits for room, too");
        let held = one.held();
        assert!(held.is_some() && !other.take(5 << 10));
        drop(held);
        assert!(other.take(5 << 10));
        drop(other);
        let mut larger_than_all = room(&answers, 10);
        assert!(larger_than_all.take(1 << 20));
        assert_eq!(answers.available_permits(), 0);
        drop(larger_than_all);
        assert_eq!(answers.available_permits(), 10, "an answer that is not written gives its place back");
    }
}

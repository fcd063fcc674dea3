//! The deadlines of all long polls: one task, and one timer, whatever the number of fetches that wait.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use crate::shard::Waiter;

/// Deadlines are rounded up to ticks of so many milliseconds.
const TICK_MS: u64 = 10;

/// Ends waits when their time is over. Dropping it ends its task; those who still wait then wait on.
pub(crate) struct Deadlines {
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    begin: Instant,
    due: Mutex<BTreeMap<Due, Arc<Waiter>>>,
    /// A deadline came before all others.
    earlier: Notify,
}

/// A tick since the beginning, and the waiter's number: its place in the list.
pub(super) type Due = (u64, u64);

impl Deadlines {
    /// Starts the task on the present runtime.
    pub(crate) fn start() -> Self {
        let shared =
            Arc::new(Shared { begin: Instant::now(), due: Mutex::new(BTreeMap::new()), earlier: Notify::new() });
        let task = tokio::spawn(Arc::clone(&shared).run()).abort_handle();
        Self { shared, task }
    }

    /// Expires the waiter once `wait` is over, not before, unless [`remove`](Self::remove) comes first.
    pub(super) fn add(&self, wait: Duration, waiter: &Arc<Waiter>) -> Due {
        let at = self.shared.begin.elapsed() + wait;
        let due = (at.as_millis() as u64 / TICK_MS + 1, waiter.id());
        let mut list = self.shared.due.lock();
        let first = list.first_key_value().is_none_or(|(first, _)| due < *first);
        list.insert(due, Arc::clone(waiter));
        drop(list);
        if first {
            self.shared.earlier.notify_one();
        }
        due
    }

    /// The waiter waits no longer.
    pub(super) fn remove(&self, due: Due) {
        self.shared.due.lock().remove(&due);
    }

    /// How many wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.shared.due.lock().len()
    }
}

impl Drop for Deadlines {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    async fn run(self: Arc<Self>) {
        loop {
            match self.expire_due() {
                None => self.earlier.notified().await,
                Some(next) => tokio::select! {
                    () = sleep_until(next) => {}
                    () = self.earlier.notified() => {}
                },
            }
        }
    }

    /// Expires those whose time is over; when the next one's is.
    fn expire_due(&self) -> Option<Instant> {
        let now = self.begin.elapsed().as_millis() as u64 / TICK_MS;
        let mut list = self.due.lock();
        let later = list.split_off(&(now + 1, 0));
        let over = std::mem::replace(&mut *list, later);
        let next = list.first_key_value().map(|((tick, _), _)| self.begin + Duration::from_millis(tick * TICK_MS));
        drop(list);
        over.into_values().for_each(|waiter| waiter.expire());
        next
    }
}

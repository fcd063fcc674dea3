//! Work that is done once for all who came before it began.

use std::sync::{Arc, Weak};

use futures::future::{BoxFuture, FutureExt, Shared};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::{JoinError, JoinHandle};

/// A look at something that changes. Those who come while one looks share the next look: one that had begun before may have
/// missed what they have to see. A look goes on whoever stops waiting for it.
pub(crate) struct Joint<T: Clone + Send + Sync + 'static> {
    looks: Arc<Mutex<Looks<T>>>,
    /// Where looks run: queries have threads of their own, on which nothing may touch the network.
    runtime: Handle,
}

/// A look that has begun, or will.
pub(crate) type Look<T> = Shared<BoxFuture<'static, T>>;

struct Looks<T: Clone> {
    /// The one that began last.
    begun: Option<Look<T>>,
    /// It begins when that one has ended.
    next: Option<Look<T>>,
}

impl<T: Clone + Send + Sync + 'static> Joint<T> {
    /// Looks run in the tokio runtime in which this is called.
    ///
    /// # Panics
    /// Outside of one.
    pub(crate) fn new() -> Self {
        let looks = Looks { begun: None, next: None };
        Self { looks: Arc::new(Mutex::new(looks)), runtime: Handle::current() }
    }

    /// What a look comes to that begins after this call. `look` should end by itself: the next one waits for it.
    pub(crate) fn join<F>(&self, look: impl FnOnce() -> F + Send + 'static) -> Look<T>
    where
        F: Future<Output = T> + Send,
    {
        let mut looks = self.looks.lock();
        if let Some(next) = &looks.next {
            return next.clone();
        }
        let (before, all) = (looks.begun.clone(), Arc::downgrade(&self.looks));
        let next = self.runtime.spawn(async move {
            if let Some(before) = before {
                before.await;
            }
            begin(&all);
            look().await
        });
        let next = outcome(next).boxed().shared();
        looks.next = Some(next.clone());
        next
    }
}

/// What a look came to. One that a runtime took with it as it ended has no outcome, and nobody who waits for it.
async fn outcome<T>(look: JoinHandle<T>) -> T {
    match look.await.map_err(JoinError::try_into_panic) {
        Ok(seen) => seen,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_)) => std::future::pending().await,
    }
}

/// Whoever comes from now on needs another look.
fn begin<T: Clone>(looks: &Weak<Mutex<Looks<T>>>) {
    if let Some(looks) = looks.upgrade() {
        let mut looks = looks.lock();
        looks.begun = looks.next.take();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::time::{sleep, timeout};

    use super::*;

    /// Takes a second, and says how many have looked by then.
    fn look(joint: &Joint<usize>, looks: &Arc<AtomicUsize>) -> Look<usize> {
        let looks = Arc::clone(looks);
        joint.join(move || async move {
            sleep(Duration::from_secs(1)).await;
            looks.fetch_add(1, Ordering::SeqCst) + 1
        })
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_while_one_looks_shares_the_next_look() {
        let (joint, looks) = (Joint::new(), Arc::default());
        let first = look(&joint, &looks);
        sleep(Duration::from_millis(500)).await;
        let others = [look(&joint, &looks), look(&joint, &looks), look(&joint, &looks)];
        assert_eq!(first.await, 1);
        for other in others {
            assert_eq!(other.await, 2, "what began before they came may have missed something");
        }
        assert_eq!(look(&joint, &looks).await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_goes_on_though_each_who_waits_for_it_gives_up_soon() {
        let (joint, looks) = (Joint::new(), Arc::default());
        for _ in 0..15 {
            let _ = timeout(Duration::from_millis(100), look(&joint, &looks)).await;
        }
        assert_eq!(looks.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_look_runs_where_the_network_is_whoever_asks_for_it() {
        let joint = Joint::new();
        let elsewhere = move || {
            let queries = tokio::runtime::Builder::new_current_thread().build().unwrap();
            queries.block_on(joint.join(|| async { tokio::net::TcpListener::bind("127.0.0.1:0").await.is_ok() }))
        };
        assert!(tokio::task::spawn_blocking(elsewhere).await.unwrap());
    }
}

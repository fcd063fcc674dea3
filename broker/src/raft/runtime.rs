//! What openraft runs on: tokio, with pauses that end together.
//!
//! Each group has a clock of its own that ticks some twenty times a second, for ever, and openraft begins each at a random
//! time. A node with many groups would be woken for each of them alone, and so would its peers by the heartbeats that follow. Here
//! all groups of a node tick at once. Nodes tick at times of their own, so that no two of them stand for election together.

use std::future::Future;
use std::time::Duration;

use futures::future::Either;
use openraft::impls::TokioRuntime;
use openraft::{AsyncRuntime, OptionalSend};
use tokio::time::Instant;

use crate::idle::next;

/// How often a clock ticks: a heartbeat is due, or a leader is missed, up to so much later.
pub(super) const BEAT: Duration = Duration::from_millis(150);
/// A shorter pause ends when it is to: openraft also pauses for a microsecond, to take several things together.
const LONG: Duration = Duration::from_millis(5);

tokio::task_local! {
    static KEPT: Beat;
}

/// When the clocks of a node tick: at whole multiples of [`BEAT`] since a random time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beat(Instant);

impl Beat {
    pub(super) fn new() -> Self {
        Self(Instant::now() + BEAT.mul_f64(fastrand::f64()))
    }

    /// Runs a group, with all that it spawns, on this beat.
    pub(super) async fn keep<T>(self, group: impl Future<Output = T>) -> T {
        KEPT.scope(self, group).await
    }

    /// How long to pause for `pause` at least, until the next tick.
    fn pause(self, pause: Duration) -> Duration {
        let passed = Instant::now() + BEAT - self.0;
        next(passed + pause, BEAT) - passed
    }
}

/// Tokio, in which a pause until a given time may last up to 150 ms longer, until the tick of its node.
#[derive(Debug)]
pub(super) struct AlignedRuntime(TokioRuntime);

impl AsyncRuntime for AlignedRuntime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(match KEPT.try_get() {
            Ok(beat) => Either::Left(KEPT.scope(beat, future)),
            Err(_) => Either::Right(future),
        })
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        let now = <Self::Instant as openraft::Instant>::now();
        let pause = deadline - now;
        match KEPT.try_get() {
            Ok(beat) if pause > LONG => TokioRuntime::sleep_until(now + beat.pause(pause)),
            _ => TokioRuntime::sleep_until(deadline),
        }
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_on_a_beat_end_together_and_never_before_their_time() {
        let (beat, ms) = (Beat::new(), Duration::from_millis);
        let mut ends = Vec::new();
        for pause in 200..500 {
            tokio::time::advance(ms(pause % 7)).await;
            let (now, longer) = (Instant::now(), beat.pause(ms(pause)));
            assert!(longer >= ms(pause) && longer <= ms(pause) + BEAT, "{longer:?}");
            ends.push(now + longer);
        }
        ends.dedup();
        assert!(ends.windows(2).all(|pair| (pair[1] - pair[0]).as_nanos() % BEAT.as_nanos() == 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_group_spawns_keeps_its_beat() {
        type Now = <AlignedRuntime as AsyncRuntime>::Instant;
        let sleep = |ms| async move {
            AlignedRuntime::sleep_until(<Now as openraft::Instant>::now() + Duration::from_millis(ms)).await;
            Instant::now()
        };
        let group = async move { (AlignedRuntime::spawn(sleep(20)).await.unwrap(), sleep(7).await) };
        let (first, second) = Beat::new().keep(group).await;
        assert_eq!(second - first, BEAT);
        assert_eq!(sleep(20).await - second, Duration::from_millis(20), "nobody else waits for a beat");
    }
}

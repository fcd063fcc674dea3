//! Waiting for several leaders at once.

use std::time::Duration;

use futures::stream::{FuturesUnordered, Stream, StreamExt};
use tokio::time::Instant;

use super::{has_answer, is_not_led};
use crate::fetch::FetchedPartition;

/// How long an answer that is there waits for those of other groups.
const GRACE: Duration = Duration::from_millis(100);
/// How long past the deadline a group may take for its first answer, once another one has given its.
const LATE: Duration = Duration::from_secs(1);

/// What the groups have. `ask` asks one of them, and has it wait until a time if there is nothing. Each is asked what there
/// is now, and then waits until `deadline`, until one of them has something or one is not led where it was asked; the
/// others then have a moment left for their first answer. `None` for a group that gave none: it may hang, and holds up
/// nobody.
pub(super) async fn gather<F>(
    groups: usize,
    deadline: Instant,
    ask: impl Fn(usize, Instant) -> F,
) -> Vec<Option<Vec<FetchedPartition>>>
where
    F: Future<Output = Vec<FetchedPartition>>,
{
    let look = |at: usize, until: Instant| {
        let asked = ask(at, until);
        async move { (at, until, asked.await) }
    };
    let first = if groups == 1 { deadline } else { Instant::now() };
    let mut looks: FuturesUnordered<_> = (0..groups).map(|at| look(at, first)).collect();
    let mut found = vec![None; groups];
    let (mut end, mut is_over) = (None, false);
    while let Some((at, until, partitions)) = next_before(&mut looks, end).await {
        let ends_it = partitions.iter().any(|partition| has_answer(partition) || is_not_led(partition));
        found[at] = Some(partitions);
        if ends_it && !is_over {
            (end, is_over) = (Some(Instant::now() + GRACE), true);
        } else if until < deadline && !is_over {
            looks.push(look(at, deadline));
        }
        end.get_or_insert_with(|| deadline.max(Instant::now()) + LATE);
        if is_over && found.iter().all(Option::is_some) {
            break;
        }
    }
    found
}

async fn next_before<S: Stream + Unpin>(looks: &mut S, end: Option<Instant>) -> Option<S::Item> {
    match end {
        Some(end) => tokio::time::timeout_at(end, looks.next()).await.unwrap_or(None),
        None => looks.next().await,
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use stratalog_proto::{Code, Error, Offset, PartitionId};

    use super::super::without_answer;
    use super::*;

    fn nothing(at: usize) -> Vec<FetchedPartition> {
        let (partition, zero) = (PartitionId(at as u32), Offset(0));
        vec![FetchedPartition { partition, log_start: zero, high_watermark: zero, result: Ok(Vec::new()) }]
    }

    /// Which groups answered, if each does as `answer` says: with an error at once, with nothing when its time is over, or
    /// never.
    async fn gathered(groups: usize, wait: Duration, answer: fn(usize) -> Option<Result<(), Code>>) -> Vec<bool> {
        let deadline = Instant::now() + wait;
        let ask = |at: usize, until: Instant| async move {
            match answer(at) {
                None => pending().await,
                Some(Ok(())) => {
                    tokio::time::sleep_until(until).await;
                    nothing(at)
                }
                Some(Err(code)) => vec![without_answer(PartitionId(at as u32), Error::new(code, "no"))],
            }
        };
        gather(groups, deadline, ask).await.iter().map(Option::is_some).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_that_hangs_does_not_hold_up_the_others_beyond_the_deadline() {
        let (begun, wait) = (Instant::now(), Duration::from_secs(3));
        assert_eq!(gathered(2, wait, |at| (at == 0).then_some(Ok(()))).await, [true, false]);
        assert!(begun.elapsed() <= wait + 2 * LATE, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_with_something_waits_only_a_moment_for_one_that_hangs() {
        let begun = Instant::now();
        let answer = |at| (at == 1).then_some(Err(Code::UnknownPartition));
        assert_eq!(gathered(2, Duration::from_secs(60), answer).await, [false, true]);
        assert!(begun.elapsed() <= 2 * GRACE, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn groups_with_nothing_wait_until_the_deadline() {
        let (begun, wait) = (Instant::now(), Duration::from_secs(5));
        assert_eq!(gathered(3, wait, |_| Some(Ok(()))).await, [true; 3]);
        assert!(begun.elapsed() >= wait && begun.elapsed() < wait + LATE, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_does_not_lead_ends_the_wait() {
        let begun = Instant::now();
        let answer = |at| Some(if at == 0 { Err(Code::NotLeader) } else { Ok(()) });
        assert_eq!(gathered(2, Duration::from_secs(60), answer).await, [true; 2]);
        assert!(begun.elapsed() <= 2 * GRACE, "{:?}", begun.elapsed());
    }
}

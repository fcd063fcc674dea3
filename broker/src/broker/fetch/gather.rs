//! Waiting for several leaders at once.

use std::time::Duration;

use futures::stream::{FuturesUnordered, Stream, StreamExt};
use tokio::time::Instant;

use super::{has_answer, is_not_led};
use crate::fetch::FetchedPartition;

/// How long a group may take for its first answer, once another one has something, or the deadline is over: a leader that
/// is slow and lives is heard, one that hangs holds up the others for no longer than this.
const LATE: Duration = Duration::from_secs(1);

/// What the groups have. `ask` asks one of them, and has it wait until a time if there is nothing. Each is asked what there
/// is now, and then waits until `deadline`, until one of them has something or one is not led where it was asked; the
/// others then have [`LATE`] left for their first answer, and none for a second one. `None` for a group that gave none by
/// then, which is at most [`LATE`] after the deadline, unless all of them hang.
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
        let latest = *end.get_or_insert_with(|| deadline.max(Instant::now()) + LATE);
        if ends_it && !is_over {
            (end, is_over) = (Some(latest.min(Instant::now() + LATE)), true);
        } else if until < deadline && !is_over {
            looks.push(look(at, deadline));
        }
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
        assert!(begun.elapsed() <= wait + LATE, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_group_finds_past_the_deadline_does_not_prolong_the_wait_for_one_that_hangs() {
        let begun = Instant::now();
        // Nothing at the first look, and something shortly before the end at the second.
        let ask = |at: usize, until: Instant| async move {
            if at == 1 {
                pending().await
            }
            tokio::time::sleep_until(until).await;
            if until > begun {
                tokio::time::sleep(LATE * 9 / 10).await;
                return vec![without_answer(PartitionId(0), Error::new(Code::UnknownPartition, "no"))];
            }
            nothing(at)
        };
        let wait = Duration::from_secs(3);
        let found = gather(2, begun + wait, ask).await;
        assert!(found[0].as_ref().is_some_and(|found| found[0].result.is_err()) && found[1].is_none());
        assert!(begun.elapsed() <= wait + LATE, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_that_is_slow_and_lives_is_heard() {
        let begun = Instant::now();
        let ask = |at: usize, _| async move {
            tokio::time::sleep(LATE / 2 * at as u32).await;
            vec![without_answer(PartitionId(at as u32), Error::new(Code::UnknownPartition, "no"))]
        };
        let found = gather(2, begun + Duration::from_secs(60), ask).await;
        assert!(found.iter().all(Option::is_some), "{found:?}");
        assert_eq!(begun.elapsed(), LATE / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_with_something_waits_only_for_a_while_for_one_that_hangs() {
        let begun = Instant::now();
        let answer = |at| (at == 1).then_some(Err(Code::UnknownPartition));
        assert_eq!(gathered(2, Duration::from_secs(60), answer).await, [false, true]);
        assert!(begun.elapsed() <= LATE, "{:?}", begun.elapsed());
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
        assert!(begun.elapsed() < LATE, "{:?}", begun.elapsed());
    }
}

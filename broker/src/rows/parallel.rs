//! Parsing what one pull has found, on several threads where cores are idle. The order of rows does not depend on it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, OnceLock};
use std::thread;

use stratalog_proto::config::TopicConfig;

use super::parse::{Parsed, parse};
use crate::shard::AppliedBatch;

/// A thread is not worth starting for fewer bytes of record batches.
const MIN_BYTES: usize = 256 << 10;

/// Threads of this process that parse now: cores belong to the process, whatever shards it hosts.
static BUSY: AtomicUsize = AtomicUsize::new(0);
static CORES: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, usize::from));

/// Batches of one topic, ascending by index.
pub(super) struct Work<'a> {
    pub(super) config: &'a TopicConfig,
    pub(super) batches: Vec<&'a AppliedBatch>,
}

/// The rows of each, in the order of `works`.
pub(super) fn parse_all(works: &[Work<'_>]) -> Vec<Parsed> {
    let busy = Busy::this_thread();
    let bytes: usize = works.iter().map(Work::bytes).sum();
    let helpers = busy.helpers((bytes / MIN_BYTES).saturating_sub(1));
    parse_on(works, helpers.threads)
}

/// As [`parse_all`], with so many threads beside this one.
fn parse_on(works: &[Work<'_>], helpers: usize) -> Vec<Parsed> {
    let bytes: usize = works.iter().map(Work::bytes).sum();
    let runs = runs(works, bytes.div_ceil(helpers + 1).max(1));
    let parsed: Vec<OnceLock<Parsed>> = runs.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(at) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|at| *at < runs.len()) {
            let run = &runs[at];
            let rows = parse(works[run.work].config, run.batches.iter().copied());
            assert!(parsed[at].set(rows).is_ok(), "S1: a run is parsed once");
        }
    };
    thread::scope(|scope| {
        for _ in 0..helpers.min(runs.len().saturating_sub(1)) {
            // Without another thread this one does it all.
            let _ = thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    let mut all: Vec<Parsed> = works.iter().map(|_| Parsed::default()).collect();
    for (run, parsed) in runs.iter().zip(parsed) {
        all[run.work].append(parsed.into_inner().expect("S1: every run is parsed"));
    }
    all
}

/// A part of the batches of one topic.
struct Run<'a> {
    /// Its place among the works.
    work: usize,
    batches: &'a [&'a AppliedBatch],
}

/// Cuts works into runs of about so many bytes, in order.
fn runs<'a>(works: &'a [Work<'_>], run_bytes: usize) -> Vec<Run<'a>> {
    let mut runs = Vec::new();
    for (at, work) in works.iter().enumerate() {
        let (mut start, mut bytes) = (0, 0);
        for (end, batch) in (1..).zip(&work.batches) {
            bytes += batch.batch.len();
            if bytes >= run_bytes || end == work.batches.len() {
                runs.push(Run { work: at, batches: &work.batches[start..end] });
                (start, bytes) = (end, 0);
            }
        }
    }
    runs
}

impl Work<'_> {
    fn bytes(&self) -> usize {
        self.batches.iter().map(|batch| batch.batch.len()).sum()
    }
}

/// Threads that are counted as parsing until it is dropped.
struct Busy {
    threads: usize,
}

impl Busy {
    fn this_thread() -> Self {
        BUSY.fetch_add(1, Ordering::Relaxed);
        Self { threads: 1 }
    }

    /// At most so many further threads: as many as there are cores on which nothing is parsed.
    fn helpers(&self, most: usize) -> Self {
        let mut threads = 0;
        let take = |busy: usize| {
            threads = CORES.saturating_sub(busy).min(most);
            (threads > 0).then_some(busy + threads)
        };
        match BUSY.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
            Ok(_) => Self { threads },
            Err(_) => Self { threads: 0 },
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        BUSY.fetch_sub(self.threads, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    use stratalog_proto::{Offset, PartitionId, RaftIndex, TopicId};
    use stratalog_storage::col::system;

    use super::*;
    use crate::rows::testing::batch_of;

    /// Batches of two records each, at indexes from 1 on.
    fn batches(topic: TopicId, count: u64) -> Vec<AppliedBatch> {
        let batch = |n: u64| AppliedBatch {
            index: RaftIndex(n + 1),
            topic,
            partition: PartitionId(0),
            base_offset: Offset(2 * n),
            entry_time_ns: 1,
            batch: batch_of(&[&format!(r#"{{"n":{n}}}"#), "not json"]),
        };
        (0..count).map(batch).collect()
    }

    fn offsets(parsed: &Parsed) -> Vec<i64> {
        let column = |rows: &arrow::array::RecordBatch| {
            let offsets = rows.column_by_name(system::OFFSET).expect("every chunk has it");
            offsets.as_primitive::<Int64Type>().values().to_vec()
        };
        parsed.chunks.iter().flat_map(|chunk| column(&chunk.rows)).collect()
    }

    #[test]
    fn s1_rows_keep_their_order_on_any_number_of_threads() {
        let config = TopicConfig::default();
        let found: Vec<Vec<AppliedBatch>> =
            [7, 0, 1, 40].into_iter().map(|count| batches(TopicId::new(), count)).collect();
        let works: Vec<Work<'_>> =
            found.iter().map(|batches| Work { config: &config, batches: batches.iter().collect() }).collect();
        for helpers in 0..5 {
            let parsed = parse_on(&works, helpers);
            for (parsed, batches) in parsed.iter().zip(&found) {
                let rows = 2 * batches.len() as i64;
                assert_eq!(offsets(parsed), (0..rows).collect::<Vec<_>>(), "{helpers} helpers");
                assert_eq!((parsed.rows, parsed.dead_rows), (rows as u64, rows as u64 / 2));
                assert!(parsed.chunks.is_sorted_by_key(|chunk| (chunk.first_index, chunk.last_index)));
            }
        }
    }

    #[test]
    fn threads_that_parse_are_never_more_than_there_are_cores() {
        let busy = Busy::this_thread();
        let (first, second) = (busy.helpers(usize::MAX), busy.helpers(usize::MAX));
        assert!(first.threads < *CORES);
        assert_eq!(second.threads, 0, "all cores are taken");
    }
}

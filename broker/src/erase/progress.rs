//! How far erasures are, for whoever looks.

use std::collections::HashMap;

use parking_lot::Mutex;
use stratalog_proto::{Error, JobId, ShardId, TopicId};
use stratalog_query::JobInfo;

use crate::shard::Erasure;

/// An erasure in one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErasureInfo {
    /// The job, the same in all shards of the topic.
    pub job: JobId,
    /// The topic.
    pub topic: TopicId,
    /// Its name; its id if it is gone.
    pub topic_name: String,
    /// The shard.
    pub shard: ShardId,
    /// The condition; empty once the job is done, since it may say what was to be forgotten.
    pub predicate: String,
    /// When it was asked for, in nanoseconds since the epoch.
    pub requested_at_ns: i64,
    /// How far it is.
    pub state: ErasureState,
    /// Rows of column segments that were erased. Of a job that was cut short, what it did before is not counted.
    pub rows: u64,
    /// Records that were erased, counted as rows are.
    pub records: u64,
    /// Which files it waits for; empty if for none.
    pub waits_for: String,
    /// Why the last try failed, or the job was given up.
    pub error: Option<String>,
}

/// How far an erasure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErasureState {
    /// Others come first, or it failed a moment ago and is tried again.
    Waiting,
    /// It is under way.
    Running {
        /// What is done.
        phase: ErasurePhase,
        /// Files of this phase that are done.
        done: u64,
        /// Files that there are in this phase; 0 if it does not go by files.
        files: u64,
    },
    /// No file holds what was to be erased.
    Done {
        /// When, in nanoseconds since the epoch.
        at_ns: i64,
    },
    /// It was given up.
    Failed {
        /// When, in nanoseconds since the epoch.
        at_ns: i64,
    },
}

/// What an erasure does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErasurePhase {
    /// Rows and batches leave tail and log for segments.
    Sealing,
    /// Looks for rows in column segments.
    Finding,
    /// Rewrites replay segments.
    ReplaySegments,
    /// Rewrites column segments.
    ColumnSegments,
    /// Leaves the old files of the log.
    Log,
    /// Files that were replaced are still read.
    Readers,
}

impl ErasurePhase {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sealing => "sealing",
            Self::Finding => "finding rows",
            Self::ReplaySegments => "replay segments",
            Self::ColumnSegments => "column segments",
            Self::Log => "log",
            Self::Readers => "waiting for readers",
        }
    }
}

/// Which job, where.
pub(super) type Key = (JobId, ShardId);

/// The jobs that this node works on.
#[derive(Default)]
pub(super) struct Board(Mutex<HashMap<Key, Progress>>);

#[derive(Clone, Debug, Default)]
struct Progress {
    phase: Option<(ErasurePhase, u64, u64)>,
    waits_for: String,
    rows: u64,
    records: u64,
    error: Option<String>,
}

impl Board {
    /// A job begins a phase with so many files.
    pub(super) fn phase(&self, key: Key, phase: ErasurePhase, files: usize) {
        self.change(key, |progress| {
            progress.phase = Some((phase, 0, files as u64));
            progress.waits_for.clear();
        });
    }

    /// A job waits for files to be gone.
    pub(super) fn waits_for(&self, key: Key, files: String) {
        self.change(key, |progress| progress.waits_for = files);
    }

    /// A file of the phase is done.
    pub(super) fn file_done(&self, key: Key) {
        self.change(key, |progress| {
            if let Some((_, done, files)) = &mut progress.phase {
                *done += 1;
                *files = (*files).max(*done);
            }
        });
    }

    /// Rows and records were erased.
    pub(super) fn count(&self, key: Key, rows: u64, records: u64) {
        self.change(key, |progress| {
            progress.rows += rows;
            progress.records += records;
        });
    }

    /// Rows and records that were erased.
    pub(super) fn counts(&self, key: Key) -> (u64, u64) {
        self.0.lock().get(&key).map_or((0, 0), |progress| (progress.rows, progress.records))
    }

    /// A try failed.
    pub(super) fn failed(&self, key: Key, error: &Error) {
        self.change(key, |progress| {
            (progress.phase, progress.error) = (None, Some(error.to_string()));
            progress.waits_for.clear();
        });
    }

    /// A job has ended.
    pub(super) fn forget(&self, key: Key) {
        self.0.lock().remove(&key);
    }

    fn change(&self, key: Key, change: impl FnOnce(&mut Progress)) {
        change(self.0.lock().entry(key).or_default());
    }

    /// What a state remembers of a job, and how far it is here.
    pub(super) fn info(&self, shard: ShardId, erasure: &Erasure, topic_name: Option<String>) -> ErasureInfo {
        let known = self.0.lock().get(&(erasure.job, shard)).cloned().unwrap_or_default();
        let (state, rows, records, error) = match &erasure.done {
            Some(done) if done.error.is_some() => {
                (ErasureState::Failed { at_ns: done.at_ns }, done.rows, done.records, done.error.clone())
            }
            Some(done) => (ErasureState::Done { at_ns: done.at_ns }, done.rows, done.records, None),
            None => {
                let running = |(phase, done, files)| ErasureState::Running { phase, done, files };
                (known.phase.map_or(ErasureState::Waiting, running), known.rows, known.records, known.error)
            }
        };
        ErasureInfo {
            job: erasure.job,
            topic: erasure.topic,
            topic_name: topic_name.unwrap_or_else(|| erasure.topic.to_string()),
            shard,
            predicate: erasure.predicate.clone(),
            requested_at_ns: erasure.requested_at_ns,
            state,
            rows,
            records,
            waits_for: if erasure.done.is_none() { known.waits_for } else { String::new() },
            error,
        }
    }
}

impl From<&ErasureInfo> for JobInfo {
    /// As `system.jobs` shows it.
    fn from(info: &ErasureInfo) -> Self {
        let (state, phase) = match info.state {
            ErasureState::Waiting => ("waiting", String::new()),
            ErasureState::Running { phase, .. } if !info.waits_for.is_empty() => {
                ("running", format!("{}: {}, ", phase.name(), info.waits_for))
            }
            ErasureState::Running { phase, files: 0, .. } => ("running", format!("{}, ", phase.name())),
            ErasureState::Running { phase, done, files } => {
                ("running", format!("{}: {done} of {files} files, ", phase.name()))
            }
            ErasureState::Done { .. } => ("done", String::new()),
            ErasureState::Failed { .. } => ("failed", String::new()),
        };
        JobInfo {
            id: info.job.to_string(),
            kind: "erase".to_owned(),
            topic: info.topic_name.clone(),
            shard: info.shard,
            state: state.to_owned(),
            what: info.predicate.clone(),
            progress: format!("{phase}{} rows, {} records erased", info.rows, info.records),
            error: info.error.clone(),
        }
    }
}

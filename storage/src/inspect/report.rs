use std::collections::BTreeMap;
use std::path::PathBuf;

use stratalog_proto::{RaftIndex, ShardId};

/// The most findings that a report lists; more are only counted.
pub(super) const MAX_FINDINGS: usize = 10_000;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// What a crash leaves behind and the next start clears away. No data is concerned.
    Note,
    /// A file that another one names and that is not there: it is missed if no later command dropped it.
    Missing,
    /// Bytes that are not what was written, or cannot be read.
    Damage,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file, or the directory.
    pub path: PathBuf,
    /// Where in the file, in bytes, if that is known.
    pub offset: Option<u64>,
    /// What is wrong.
    pub what: String,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lane files whose header is whole.
    pub lane_files: u64,
    /// Bytes of those files.
    pub lane_bytes: u64,
    /// Whole flush groups.
    pub groups: u64,
    /// Whole frames in them.
    pub frames: u64,
    /// Record batches in those frames; only where the depth asks for them.
    pub batches: u64,
    /// Vote files.
    pub votes: u64,
    /// State files.
    pub states: u64,
    /// Replay segments.
    pub replay_segments: u64,
    /// Bytes of those segments.
    pub replay_bytes: u64,
    /// Column segments.
    pub column_segments: u64,
    /// Bytes of those segments.
    pub column_bytes: u64,
}

/// What the directory holds of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSummary {
    /// The entries at the end of its log, without a gap: the first and the last.
    pub log: Option<(RaftIndex, RaftIndex)>,
    /// The index of its state file.
    pub state: Option<RaftIndex>,
    /// The replay frontier of its state file: the log above it is needed.
    pub frontier: Option<RaftIndex>,
}

/// What a look at a data directory has found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What was looked at.
    pub counts: Counts,
    /// The groups, 0 being the metadata group.
    pub shards: BTreeMap<ShardId, ShardSummary>,
    /// The first 10,000 findings, in the order in which the directory was walked.
    pub findings: Vec<Finding>,
    /// Findings that were too many to list.
    pub unlisted: u64,
}

impl Report {
    /// Whether nothing is missing and nothing is damaged. Notes do not count.
    pub fn is_clean(&self) -> bool {
        self.unlisted == 0 && self.findings.iter().all(|finding| finding.severity == Severity::Note)
    }

    pub(super) fn add(&mut self, finding: Finding) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        } else {
            self.unlisted += 1;
        }
    }

    pub(super) fn damage(&mut self, path: impl Into<PathBuf>, offset: Option<u64>, what: impl Into<String>) {
        self.add(Finding { severity: Severity::Damage, path: path.into(), offset, what: what.into() });
    }

    pub(super) fn note(&mut self, path: impl Into<PathBuf>, offset: Option<u64>, what: impl Into<String>) {
        self.add(Finding { severity: Severity::Note, path: path.into(), offset, what: what.into() });
    }
}

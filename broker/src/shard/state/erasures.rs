//! Erasures: what somebody asked to erase, and what became of it.
//!
//! The state remembers the asking and the end. What lies between is work on files, which the leader does: it begins again
//! from the state after a crash.

use bytes::Bytes;
use stratalog_proto::config::ColumnSpec;
use stratalog_proto::{Code, Error, JobId, RaftIndex, TopicId, internal};

use super::digest::Sink;
use super::{At, ShardState, not_hosted, topic_id};
use crate::outcome::CommandResult;

/// The most erasures of a shard that are under way at once.
pub(crate) const MAX_RUNNING_ERASURES: usize = 64;
/// Of those that are done, so many are remembered: the newest.
pub(crate) const MAX_DONE_ERASURES: usize = 1_000;
/// Bytes of a predicate.
pub(crate) const MAX_PREDICATE_BYTES: usize = 64 << 10;
/// Bytes of what is remembered of an error, and of the condition of a job that failed.
const MAX_TEXT_BYTES: usize = 1_000;

/// An erasure: every record of the topic at or below `index` whose row fulfils the predicate is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Erasure {
    pub(crate) job: JobId,
    pub(crate) topic: TopicId,
    /// A SQL expression over the columns of the topic; empty once it is done, since it may say what was to be forgotten. Of
    /// one that failed, its beginning.
    pub(crate) predicate: String,
    /// The columns that it names, with the types by which it is evaluated; none once it has ended.
    pub(crate) columns: Vec<ColumnSpec>,
    /// The entry that asked: its fence.
    pub(crate) index: RaftIndex,
    /// Time of that entry.
    pub(crate) requested_at_ns: i64,
    /// `None` while it is under way.
    pub(crate) done: Option<ErasureDone>,
}

/// How an erasure ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ErasureDone {
    /// Time of the entry that said so, at least 1: 0 stands for none in the state's bytes.
    pub(crate) at_ns: i64,
    /// Rows that were erased.
    pub(crate) rows: u64,
    /// Records that were erased: more than rows if some had lost theirs before.
    pub(crate) records: u64,
    /// Why it was given up; then some of it may still be there.
    pub(crate) error: Option<String>,
}

/// The erasures that a shard remembers, ascending by the entry that asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Erasures(Vec<Erasure>);

impl Erasures {
    fn running(&self) -> impl Iterator<Item = &Erasure> {
        self.0.iter().filter(|erasure| erasure.done.is_none())
    }

    pub(super) fn is_running(&self, topic: TopicId) -> bool {
        self.running().any(|erasure| erasure.topic == topic)
    }

    fn forget_oldest_done(&mut self) {
        let done = self.0.iter().filter(|erasure| erasure.done.is_some()).count();
        let mut excess = done.saturating_sub(MAX_DONE_ERASURES);
        self.0.retain(|erasure| {
            let goes = excess > 0 && erasure.done.is_some();
            excess -= usize::from(goes);
            !goes
        });
    }

    /// A topic is gone, and its records with it.
    pub(super) fn remove_topic(&mut self, topic: TopicId, at_ns: i64) {
        for erasure in self.0.iter_mut().filter(|erasure| erasure.topic == topic && erasure.done.is_none()) {
            let error = Some("the topic was deleted".to_owned());
            erasure.end(ErasureDone { at_ns: at_ns.max(1), rows: 0, records: 0, error });
            erasure.predicate.clear();
        }
        self.forget_oldest_done();
    }

    pub(super) fn to_proto(&self) -> Vec<internal::EraseState> {
        self.0.iter().map(internal::EraseState::from).collect()
    }

    /// # Errors
    /// What contradicts itself in them.
    pub(super) fn from_proto(raw: &[internal::EraseState]) -> Result<Self, &'static str> {
        let erasures: Vec<Erasure> =
            raw.iter().map(decode).collect::<Option<_>>().ok_or("an erasure has no ids, or a column of no type")?;
        if !erasures.is_sorted_by_key(|erasure| erasure.index) {
            return Err("its erasures are not in their order");
        }
        Ok(Self(erasures))
    }

    pub(super) fn hash(&self, sink: &mut Sink) {
        sink.count(self.0.len());
        for erasure in &self.0 {
            sink.message(&internal::EraseState::from(erasure));
        }
    }
}

impl Erasure {
    /// It has ended; what is not needed any more is forgotten.
    fn end(&mut self, done: ErasureDone) {
        match done.error {
            Some(_) => self.predicate = shortened(&self.predicate),
            None => self.predicate.clear(),
        }
        self.columns.clear();
        self.done = Some(done);
    }
}

impl ShardState {
    /// The erasures that are under way, and those that were done last; ascending by the entry that asked.
    pub(crate) fn erasures(&self) -> &[Erasure] {
        &self.erasures.0
    }

    /// Remembers an erasure. The same one once more changes nothing.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`]; [`Code::InvalidRequest`] for a predicate that is empty or too long; [`Code::Conflict`] for
    /// the id of another erasure; [`Code::Overloaded`] if there are too many.
    pub(super) fn erase(&mut self, at: At, erase: &internal::Erase) -> Result<CommandResult, Error> {
        let (job, topic) = (job_id(&erase.job)?, topic_id(&erase.topic)?);
        if let Some(known) = self.erasures.0.iter().find(|erasure| erasure.job == job) {
            let is_same = known.topic == topic && (known.predicate == erase.predicate || known.done.is_some());
            let message = format!("the id {job} is that of another erasure");
            return if is_same { Ok(CommandResult::Done) } else { Err(Error::new(Code::Conflict, message)) };
        }
        if !self.topics.contains_key(&topic) {
            return Err(not_hosted(topic));
        }
        if erase.predicate.is_empty() || erase.predicate.len() > MAX_PREDICATE_BYTES {
            let message = format!("an erasure has a condition of 1 to {MAX_PREDICATE_BYTES} bytes");
            return Err(Error::new(Code::InvalidRequest, message));
        }
        let columns = erased_columns(&erase.columns)?;
        if self.erasures.running().count() >= MAX_RUNNING_ERASURES {
            let message = format!("{MAX_RUNNING_ERASURES} erasures are under way in this shard; ask again later");
            return Err(Error::new(Code::Overloaded, message));
        }
        self.erasures.0.push(Erasure {
            job,
            topic,
            predicate: erase.predicate.clone(),
            columns,
            index: at.index,
            requested_at_ns: self.time_ns,
            done: None,
        });
        Ok(CommandResult::Done)
    }

    /// Ends an erasure. One that has ended stays as it did.
    ///
    /// # Errors
    /// [`Code::Conflict`] if it is not known.
    pub(super) fn erase_done(&mut self, done: &internal::EraseDone) -> Result<CommandResult, Error> {
        let job = job_id(&done.job)?;
        let Some(erasure) = self.erasures.0.iter_mut().find(|erasure| erasure.job == job) else {
            return Err(Error::new(Code::Conflict, format!("erasure {job} cannot end: this shard does not know it")));
        };
        if erasure.done.is_none() {
            let error = (!done.error.is_empty()).then(|| shortened(&done.error));
            erasure.end(ErasureDone { at_ns: self.time_ns.max(1), rows: done.rows, records: done.records, error });
            self.erasures.forget_oldest_done();
        }
        Ok(CommandResult::Done)
    }
}

fn job_id(bytes: &Bytes) -> Result<JobId, Error> {
    let malformed = || Error::new(Code::CorruptData, "the id of an erasure does not have 16 bytes");
    JobId::from_slice(bytes).ok_or_else(malformed)
}

/// The columns that a condition names: their names are no longer than it.
fn erased_columns(raw: &[internal::Column]) -> Result<Vec<ColumnSpec>, Error> {
    if raw.iter().map(|column| column.name.len()).sum::<usize>() > MAX_PREDICATE_BYTES
        || raw.len() > MAX_PREDICATE_BYTES
    {
        let message = format!("the columns of a condition take more than its {MAX_PREDICATE_BYTES} bytes");
        return Err(Error::new(Code::InvalidRequest, message));
    }
    raw.iter().map(ColumnSpec::from_internal).collect()
}

fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT_BYTES)].to_owned()
}

impl From<&Erasure> for internal::EraseState {
    fn from(erasure: &Erasure) -> Self {
        let done = erasure.done.as_ref();
        Self {
            job: erasure.job.to_bytes(),
            topic: erasure.topic.to_bytes(),
            predicate: erasure.predicate.clone(),
            index: erasure.index.0,
            requested_at_ns: erasure.requested_at_ns,
            done_at_ns: done.map_or(0, |done| done.at_ns),
            rows: done.map_or(0, |done| done.rows),
            records: done.map_or(0, |done| done.records),
            error: done.and_then(|done| done.error.clone()).unwrap_or_default(),
            columns: erasure.columns.iter().map(ColumnSpec::to_internal).collect(),
        }
    }
}

fn decode(raw: &internal::EraseState) -> Option<Erasure> {
    let done = ErasureDone {
        at_ns: raw.done_at_ns,
        rows: raw.rows,
        records: raw.records,
        error: (!raw.error.is_empty()).then(|| raw.error.clone()),
    };
    Some(Erasure {
        job: JobId::from_slice(&raw.job)?,
        topic: TopicId::from_slice(&raw.topic)?,
        predicate: raw.predicate.clone(),
        columns: erased_columns(&raw.columns).ok()?,
        index: RaftIndex(raw.index),
        requested_at_ns: raw.requested_at_ns,
        done: (raw.done_at_ns != 0).then_some(done),
    })
}

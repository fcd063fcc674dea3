//! One query, from its arrival to its end: who asked what, until when, what it takes, and whether it was killed.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use stratalog_proto::{Code, Error, v1};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::budget::QueryPool;
use crate::lengthy::EndOfQuery;
use crate::meter::Meter;
use crate::spill::QuerySpill;

/// The longest text of a query that is kept to be shown, in bytes.
const SHOWN_BYTES: usize = 4 << 10;

/// What the caller says of a query.
#[derive(Debug)]
pub(crate) struct Arrival<'a> {
    pub(crate) id: String,
    pub(crate) text: &'a str,
    pub(crate) client: String,
    pub(crate) timeout: Duration,
}

/// A query.
#[derive(Debug)]
pub(crate) struct Query {
    pub(crate) id: String,
    /// Its beginning, if it is long.
    pub(crate) text: String,
    pub(crate) client: String,
    /// In nanoseconds since the epoch.
    pub(crate) arrived_ns: i64,
    pub(crate) meter: Arc<Meter>,
    pub(crate) memory: Arc<QueryPool>,
    pub(crate) spill: Arc<QuerySpill>,
    deadline: Instant,
    timeout: Duration,
    phase: AtomicU8,
    /// Whether it changes something, so that its end says nothing of the change.
    changes: AtomicBool,
    /// Whether other nodes have a part in it.
    has_parts: AtomicBool,
    /// Whether one of the parts was lost.
    lost: AtomicBool,
    killed: watch::Sender<bool>,
}

/// How far a query is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// It waits for others to end.
    Waiting,
    /// It is being planned, or its snapshots are taken.
    Planning,
    /// Its rows are on their way.
    Running,
}

impl Query {
    pub(crate) fn new(arrival: Arrival<'_>, memory: Arc<QueryPool>, spill: Arc<QuerySpill>) -> Arc<Self> {
        let shown = arrival.text.floor_char_boundary(SHOWN_BYTES);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Arc::new(Self {
            id: arrival.id,
            text: arrival.text[..shown].to_owned(),
            client: arrival.client,
            arrived_ns: i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            meter: Arc::new(Meter::start()),
            memory,
            spill,
            deadline: Instant::now() + arrival.timeout,
            timeout: arrival.timeout,
            phase: AtomicU8::new(Phase::Planning as u8),
            changes: AtomicBool::new(false),
            has_parts: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            killed: watch::Sender::new(false),
        })
    }

    /// When it has to be done.
    pub(crate) fn deadline(&self) -> std::time::Instant {
        self.deadline.into_std()
    }

    /// When it has to have ended, for what cannot wait for that.
    pub(crate) fn end(&self) -> EndOfQuery {
        EndOfQuery::new(self.deadline(), self.killed.subscribe())
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Waiting,
            1 => Phase::Planning,
            _ => Phase::Running,
        }
    }

    /// Notes that it is about to change something: when it has to end, nobody knows whether it has.
    pub(crate) fn begins_to_change(&self) {
        self.changes.store(true, Ordering::Relaxed);
    }

    /// Notes that another node has a part in it.
    pub(crate) fn has_part_elsewhere(&self) {
        self.has_parts.store(true, Ordering::Relaxed);
    }

    /// Whether another node has a part in it.
    pub(crate) fn is_distributed(&self) -> bool {
        self.has_parts.load(Ordering::Relaxed)
    }

    /// Notes that a part of it was lost with the node that had it, or refused.
    pub(crate) fn lost_a_part(&self) {
        self.lost.store(true, Ordering::Relaxed);
    }

    /// Whether it failed since a part was lost, and may be run again from its beginning: it has changed nothing. What it
    /// counted so far is forgotten.
    pub(crate) fn begins_again(&self) -> bool {
        if self.changes.load(Ordering::Relaxed) || !self.lost.swap(false, Ordering::Relaxed) {
            return false;
        }
        self.meter.begin_again();
        true
    }

    /// Ends it, wherever it is.
    pub(crate) fn kill(&self) {
        self.killed.send_replace(true);
    }

    /// What it read and took so far.
    pub(crate) fn stats(&self) -> v1::QueryStats {
        let spilled_bytes = self.spill.written();
        v1::QueryStats { query_id: self.id.clone(), spilled_bytes, ..self.meter.stats() }
    }

    /// The result of `work`, unless the query has to end before.
    ///
    /// # Errors
    /// [`Code::QueryDeadline`], or [`Code::Timeout`] of a statement that changes something; [`Code::Cancelled`].
    pub(crate) async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, Error> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            error = self.stopped() => Err(error),
        }
    }

    /// Why the query has ended if it has, else what went wrong: what is torn down at the end may fail in many ways.
    pub(crate) fn error_or(&self, error: Error) -> Error {
        match (*self.killed.borrow(), Instant::now() >= self.deadline) {
            (true, _) => self.ended_by_kill(),
            (_, true) => self.late(),
            _ => error,
        }
    }

    /// Waits until the query has to end, and says why.
    async fn stopped(&self) -> Error {
        let mut killed_now = self.killed.subscribe();
        // The sender lives as long as this.
        let kill = async { killed_now.wait_for(|killed| *killed).await.map(drop) };
        tokio::select! {
            _ = kill => self.ended_by_kill(),
            () = tokio::time::sleep_until(self.deadline) => self.late(),
        }
    }

    fn ended_by_kill(&self) -> Error {
        let message = if self.changes.load(Ordering::Relaxed) {
            "the statement was killed; its change may be made all the same"
        } else {
            "the query was killed"
        };
        Error::new(Code::Cancelled, message)
    }

    /// What the user is told at the deadline.
    fn late(&self) -> Error {
        if self.changes.load(Ordering::Relaxed) {
            let message =
                "the change was not confirmed in time: it may be made all the same; look before you try again";
            return Error::new(Code::Timeout, message);
        }
        let timeout = self.timeout;
        let message =
            format!("the query did not finish within {timeout:?}; narrow its time range, or ask with a longer timeout");
        Error::new(Code::QueryDeadline, message)
    }
}

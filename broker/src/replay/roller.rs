//! The roller: one task of a node that keeps its log short.
//!
//! It does one thing at a time, so that what it holds in memory is bounded by one roll. Whatever blocks runs on blocking
//! threads, and no lock is held meanwhile. A failure, a full disk above all, is said once; the group is left alone for a
//! while and tried again, and everything else goes on. Other nodes are never waited for: what they are asked for comes in
//! tasks beside this one.

use std::sync::Arc;
use std::time::Instant;

use futures::future::join_all;
use stratalog_proto::ShardId;
use stratalog_storage::Lane;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::ReplayOptions;
use super::errands::{ERRANDS_AHEAD, Errand};
use super::member::{Care, Member, Step};
use super::peers::SegmentSources;
use super::policy::{Action, GroupView, LaneView, next_action};
use super::pull::Pulling;
use crate::metrics::ReplayMetrics;
use crate::raft::Logs;
use crate::shard::Shard;

/// Actions in one round, at most: what is due after them is due in the next.
const ROUND_ACTIONS: usize = 64;
/// The log is short of files when this part of one is all the room that it has.
const STARVED_PART: u64 = 4;
/// Log stays for other replicas up to so many times what it may take otherwise.
const SPARE_BUDGETS: u64 = 2;

/// What a roller is started with.
pub(crate) struct RollerOptions {
    pub(crate) replay: ReplayOptions,
    pub(crate) lane: Arc<Lane>,
    /// All logs that are in the lane.
    pub(crate) logs: Arc<Logs>,
    /// The size of a log file.
    pub(crate) file_bytes: u64,
    /// The groups that run from the start on.
    pub(crate) members: Vec<Member>,
    pub(crate) sources: SegmentSources,
    pub(crate) metrics: ReplayMetrics,
}

/// The roller of a node. It ends when this is dropped, between two steps.
pub(crate) struct Roller {
    stop: CancellationToken,
    errands: mpsc::Sender<Errand>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Roller {
    /// Starts it.
    pub(crate) fn start(options: RollerOptions) -> Self {
        let stop = CancellationToken::new();
        let worker = Worker::new(options, stop.clone());
        let (errands, asked) = mpsc::channel(ERRANDS_AHEAD);
        Self { task: Mutex::new(Some(tokio::spawn(worker.run(asked)))), errands, stop }
    }

    /// Where errands are left.
    pub(super) fn errands(&self) -> &mpsc::Sender<Errand> {
        &self.errands
    }

    /// Ends it, and waits for the step that is under way.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        if let Some(task) = self.task.lock().await.take()
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the roller did not end cleanly");
        }
    }
}

impl Drop for Roller {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The task.
pub(super) struct Worker {
    pub(super) options: ReplayOptions,
    pub(super) lane: Arc<Lane>,
    pub(super) logs: Arc<Logs>,
    file_bytes: u64,
    pub(super) cares: Vec<Care>,
    pub(super) sources: SegmentSources,
    pub(super) metrics: ReplayMetrics,
    stop: CancellationToken,
}

impl Worker {
    pub(super) fn new(options: RollerOptions, stop: CancellationToken) -> Self {
        let mut worker = Self {
            options: options.replay,
            lane: options.lane,
            logs: options.logs,
            file_bytes: options.file_bytes,
            cares: Vec::new(),
            sources: options.sources,
            metrics: options.metrics,
            stop,
        };
        options.members.into_iter().for_each(|member| worker.care_for(member));
        worker
    }

    /// Looks after a group from now on, and has fetched what it misses.
    pub(super) fn care_for(&mut self, member: Member) {
        let shard = member.shard().cloned();
        let pulling = shard.map(|shard| Pulling::start(shard, self.sources.clone(), self.metrics.clone()));
        self.cares.push(Care::new(member, pulling));
    }

    /// Looks after a group no more; when this returns, nothing here uses it or its files.
    pub(super) async fn leave(&mut self, group: ShardId) {
        while let Some(at) = self.cares.iter().position(|care| care.member.id() == group) {
            self.cares.remove(at).end().await;
        }
    }
}

impl Worker {
    async fn run(mut self, errands: mpsc::Receiver<Errand>) {
        self.work(errands).await;
        join_all(self.cares.into_iter().map(Care::end)).await;
    }

    async fn work(&mut self, mut errands: mpsc::Receiver<Errand>) {
        self.release_lane().await;
        let mut due = tokio::time::Instant::now() + self.options.interval;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(due) => {
                    self.round().await;
                    due = tokio::time::Instant::now() + self.options.interval;
                }
                errand = Self::next_errand(&mut errands) => self.do_errand(errand).await,
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Does what is due now, [`ROUND_ACTIONS`] at most.
    pub(super) async fn round(&mut self) {
        self.tend().await;
        for _ in 0..ROUND_ACTIONS {
            let Some(action) = self.next().filter(|_| !self.stop.is_cancelled()) else { break };
            self.act(action).await;
            // What an action left behind is looked after before the next one: that may wait for it.
            self.tend().await;
        }
        for at in 0..self.cares.len() {
            if self.may(Step::Repack, at) {
                let done = self.repack(at).await;
                self.cares[at].ended(Step::Repack, &done);
            }
        }
    }

    /// Has the segments of all groups be here, and those that left their manifests be gone.
    pub(super) async fn tend(&mut self) {
        for at in 0..self.cares.len() {
            self.settle_files(at).await;
            self.make_expected(at).await;
            self.write_off(at);
            self.unlink_retired(at).await;
        }
    }

    fn next(&mut self) -> Option<Action> {
        let now = Instant::now();
        let mut views: Vec<GroupView> = self.cares.iter_mut().map(|care| care.view(&self.options, now)).collect();
        for (at, view) in views.iter_mut().enumerate() {
            view.may_release &= !self.stays_for_others(at);
        }
        next_action(self.lane_view(), &views, &self.options)
    }

    /// Whether the log of a group stays for a replica that is being brought up, while there is log to spare.
    pub(super) fn stays_for_others(&self, at: usize) -> bool {
        let lane = self.lane_view();
        let to_spare = !lane.starved && lane.bytes <= self.options.lane_bytes.saturating_mul(SPARE_BUDGETS);
        to_spare && self.cares[at].member.group().sends_snapshot()
    }

    fn lane_view(&self) -> LaneView {
        let usage = self.lane.usage();
        let starved = self.lane.room_bytes() < self.file_bytes / STARVED_PART;
        LaneView { bytes: usage.bytes, last_file: usage.last_file, starved }
    }

    async fn act(&mut self, action: Action) {
        let (group, step) = match action {
            Action::Roll(group) => (group, Step::Roll),
            Action::Snapshot(group) => (group, Step::Snapshot),
            Action::Release(group) => (group, Step::Release),
        };
        let Some(at) = self.cares.iter().position(|care| care.member.id() == group) else { return };
        let started = Instant::now();
        let done = match action {
            Action::Roll(_) => self.roll(at).await,
            Action::Snapshot(_) => self.snapshot(at).await,
            Action::Release(_) => self.release(at).await,
        };
        match action {
            Action::Roll(_) => self.metrics.rolled(started.elapsed(), done.is_ok()),
            Action::Snapshot(_) => self.metrics.snapshot_taken(started.elapsed(), done.is_ok()),
            Action::Release(_) => {}
        }
        self.cares[at].ended(step, &done);
    }

    /// The shard of a group that has one.
    pub(super) fn shard(&self, at: usize) -> Option<Arc<Shard>> {
        self.cares[at].member.shard().cloned()
    }

    /// Whether a step may begin.
    pub(super) fn may(&self, step: Step, at: usize) -> bool {
        !self.stop.is_cancelled() && !self.cares[at].rests(step, Instant::now())
    }

    /// Whether the roller is to end.
    pub(super) fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Returns when the roller is to end.
    pub(super) async fn stopped(&self) {
        self.stop.cancelled().await;
    }
}

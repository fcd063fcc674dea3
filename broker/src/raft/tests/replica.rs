//! One replica: a simulated disk, a lane that is flushed step by step, and the group over them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use stratalog_proto::{Error, RaftIndex, ReplicaId, ShardId};
use stratalog_storage::simulation::{SimDisk, SteppedLane};
use stratalog_storage::{Io, LaneError, LaneOptions, StateFiles, Votes, write_durably};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::machine::{Segments, ShadowShard};
use super::network::ChannelNetwork;
use crate::raft::{Group, GroupLog, Known, Logs, LogsOptions, Repair};

pub(super) const SHARD: ShardId = ShardId(3);
/// How long a write waits for its flush.
const FLUSH_EVERY: Duration = Duration::from_millis(2);
const STOP_WAIT: Duration = Duration::from_millis(100);

/// A replica that runs.
pub(super) struct Replica {
    pub(super) disk: SimDisk,
    pub(super) group: Arc<Group>,
    pub(super) machine: Arc<ShadowShard>,
    pub(super) segments: Segments,
    network: ChannelNetwork,
    lane: Arc<Mutex<SteppedLane>>,
    /// The disk takes no flush.
    stalled: Arc<AtomicBool>,
    flusher: JoinHandle<()>,
}

impl Replica {
    /// Starts a replica from what is on its disk.
    pub(super) async fn start(
        id: u64,
        disk: SimDisk,
        segments: Segments,
        network: ChannelNetwork,
    ) -> Result<Self, Error> {
        Self::start_over(id, disk, segments, network, false).await
    }

    /// Starts it, as if the end of its lane had been discarded if it is `torn`.
    pub(super) async fn start_over(
        id: u64,
        disk: SimDisk,
        segments: Segments,
        network: ChannelNetwork,
        torn: bool,
    ) -> Result<Self, Error> {
        let io = Arc::new(disk.clone()) as Arc<dyn Io>;
        let options = LaneOptions { file_bytes: 64 << 10, reserve_bytes: 0, ..LaneOptions::default() };
        if torn {
            write_durably(&*io, Path::new("/lane/doubt"), &[]).map_err(LaneError::from)?;
        }
        let votes = Arc::new(Votes::open(Arc::clone(&io), Path::new("/votes"))?);
        let states = Arc::new(StateFiles::open(Arc::clone(&io), Path::new("/state"), SHARD)?);
        let keep = Arc::new(()) as Arc<dyn Send + Sync>;
        let known = [Known { replica: ReplicaId(id), states: Arc::clone(&states) }];
        let repair = Repair {
            io: &io,
            lane_dir: Path::new("/lane"),
            options: &options,
            votes: &votes,
            known: &known,
            other_voters: &|_, _| None,
        };
        let (lane, recovery) =
            repair.opened(|| SteppedLane::open(Arc::clone(&io), Path::new("/lane"), options.clone()))?;
        let logs = LogsOptions { lane: Arc::clone(lane.lane()), votes, cache_bytes: 0, keep };
        let logs = Logs::recover(logs, &known, &BTreeMap::new(), &recovery)?;
        let log = logs.get(SHARD).expect("one group");
        let lane = Arc::new(Mutex::new(lane));
        let stalled = Arc::new(AtomicBool::new(false));
        let flusher = tokio::spawn(flush(Arc::clone(&lane), Arc::clone(&stalled)));
        let machine = Arc::new(ShadowShard::new(log.clone(), Arc::clone(&segments)));
        let group = Group::start(log, Arc::clone(&machine) as _, states, Arc::new(network.clone())).await?;
        let group = Arc::new(group);
        network.attach(ReplicaId(id), &group);
        Ok(Self { disk, group, machine, segments, network, lane, stalled, flusher })
    }

    pub(super) fn log(&self) -> &GroupLog {
        self.group.log()
    }

    /// From now on nothing becomes durable, until `false`.
    pub(super) fn stall(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::SeqCst);
    }

    /// Saves the state, and lets go of the log that it does not need, as far as the segments are here.
    pub(super) async fn compact(&self) -> Result<RaftIndex, Error> {
        let taken = self.group.snapshot().await?;
        if self.machine.missing().is_empty() {
            self.group.purge(taken.frontier).await?;
            self.log().release(taken.frontier);
            if let Some(file) = self.log().retained().oldest_file {
                self.lane.lock().lane().release(file);
            }
        }
        Ok(taken.frontier)
    }

    /// Stops it as a crash does; gives what is left on the disk.
    pub(super) async fn crash(self, power: bool) -> (SimDisk, Segments) {
        self.flusher.abort();
        self.network.unplug();
        let left = if power { self.disk.after_power_cut_by_seed() } else { self.disk.after_kill() };
        // A group that waits for its disk does not stop; nothing of it is heard any more.
        let _ = timeout(STOP_WAIT, self.group.stop()).await;
        std::mem::forget(self.group);
        // What waits in the lane is never answered: the process that waited is gone.
        std::mem::forget(self.lane);
        (left, self.segments)
    }
}

async fn flush(lane: Arc<Mutex<SteppedLane>>, stalled: Arc<AtomicBool>) {
    loop {
        tokio::time::sleep(FLUSH_EVERY).await;
        if !stalled.load(Ordering::SeqCst) {
            let mut lane = lane.lock();
            while lane.flush() {}
            lane.make_spare();
        }
    }
}

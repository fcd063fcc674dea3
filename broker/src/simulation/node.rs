//! A node: its lane, and a replica of each shard.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use stratalog_proto::batch::Batches;
use stratalog_proto::{Code, Error, Offset, RaftIndex, ReplicaId, ShardId, TopicPartition};
use stratalog_storage::simulation::{SimDisk, SteppedLane};
use stratalog_storage::{Io, LaneOptions, PooledDisk, RecMeta, StateFiles, Votes};
use tokio::runtime::Runtime;

use crate::identity;
use crate::metrics::Stages;
use crate::raft::{Known, Logs, LogsOptions, Solo};
use crate::replay::{RecStore, first_needed, is_of_the_device, make};
use crate::shard::{ShardMachine, Source, leader_epoch};

/// The shards of a node.
pub(super) const SHARDS: u32 = 2;
/// Small, so that a run has many.
const FILE_BYTES: u64 = 12 << 10;

/// Where the node's data is on its disk.
pub(super) fn data_dir() -> &'static Path {
    Path::new("/data")
}

/// A process, from its start to its end.
pub(super) struct Node {
    pub(super) lane: SteppedLane,
    pub(super) replicas: Vec<Replica>,
}

/// One shard.
pub(super) struct Replica {
    pub(super) solo: Solo,
    pub(super) machine: Arc<ShardMachine>,
    pub(super) recs: Arc<RecStore>,
    /// Built, and proposed by the entry of this index: what it is to become known as.
    pub(super) proposed: Option<(RaftIndex, Vec<Arc<RecMeta>>)>,
}

impl Node {
    /// Opens everything as a start of the broker does, in the same order. Nothing is applied yet that is not in a state
    /// file.
    pub(super) fn open(disk: &SimDisk) -> Result<Self, Error> {
        let io: Arc<dyn Io> = Arc::new(PooledDisk::new(Arc::new(disk.clone())));
        let failed = |error: std::io::Error| Error::new(Code::Io, error.to_string());
        let shards = (1..=SHARDS).map(ShardId);
        let mut states = Vec::new();
        for shard in shards {
            io.create_dir_all(&identity::segments_dir(data_dir(), shard.0)).map_err(failed)?;
            let dir = identity::state_dir(data_dir(), shard.0);
            states.push(Arc::new(StateFiles::open(Arc::clone(&io), &dir, shard)?));
        }
        let lane_dir: PathBuf = data_dir().join("lanes").join("0");
        let votes = Arc::new(Votes::open(Arc::clone(&io), &lane_dir.join("votes"))?);
        let options =
            LaneOptions { file_bytes: FILE_BYTES, group_bytes: 8 << 10, reserve_bytes: 0, ..Default::default() };
        let (lane, recovery) = SteppedLane::open(Arc::clone(&io), &lane_dir, options)?;
        let keep = Arc::new(()) as Arc<dyn Send + Sync>;
        let known: Vec<Known> =
            states.iter().map(|states| Known { replica: ReplicaId(1), states: Arc::clone(states) }).collect();
        let lane_of_logs = Arc::clone(lane.lane());
        let logs = LogsOptions { lane: lane_of_logs, votes, cache_bytes: 2 << 10, keep: Arc::clone(&keep) };
        let logs = Logs::recover(logs, &known, &BTreeMap::new(), &recovery)?;
        let open = |states: Arc<StateFiles>| {
            let shard = states.shard();
            let dir = identity::segments_dir(data_dir(), shard.0);
            let recs = Arc::new(RecStore::new(Arc::clone(&io), &dir, shard, Arc::clone(&keep)));
            let machine = Arc::new(ShardMachine::new(Arc::clone(&recs), Stages::default()));
            let log = logs.get(shard).expect("each shard has a log");
            let solo = Solo::start(log, Arc::clone(&machine) as _, states)?;
            Ok(Replica { solo, machine, recs, proposed: None })
        };
        let replicas = states.into_iter().map(open).collect::<Result<_, Error>>()?;
        Ok(Self { lane, replicas })
    }

    /// Leads in a higher term.
    pub(super) fn lead(&mut self, runtime: &Runtime) -> Result<(), Error> {
        for replica in &mut self.replicas {
            while self.lane.flush() {}
            runtime.block_on(replica.solo.lead())?;
        }
        Ok(())
    }

    /// Finds the segment files, once everything that was recovered is applied and before anything new is built.
    pub(super) fn reconcile(&self) -> Result<(), Error> {
        for replica in &self.replicas {
            let manifest = replica.machine.read(|state| state.manifest().clone());
            replica.recs.reconcile(manifest.recs(), None)?;
        }
        self.release();
        Ok(())
    }

    /// Lets the lane have the files that no group needs.
    pub(super) fn release(&self) {
        let last = self.lane.lane().usage().last_file;
        let oldest = self.replicas.iter().map(|replica| replica.solo.log().retained().oldest_file);
        self.lane.lane().release(first_needed(oldest, last));
    }
}

impl Replica {
    /// Makes the segments that were rolled and are not here, and unlinks what left the manifest.
    pub(super) fn make_expected(&self) -> Result<(), Error> {
        while let Some(pending) = self.recs.next_expected() {
            let (id, of_log) = (pending.meta.id, pending.replaces.is_none());
            match make(&self.recs, self.solo.log(), pending) {
                // Its source went when it was whole, and it was damaged since: who reads it hears of that.
                Err(error) if !of_log && !is_of_the_device(error.code) => self.recs.give_up(id),
                made => made?,
            }
        }
        self.recs.unlink_retired();
        Ok(())
    }

    /// Batches of a partition as a consumer gets them; the first holds `offset`. `None` where the state has none.
    pub(super) fn read(&self, tp: TopicPartition, offset: Offset) -> Result<Option<Vec<Bytes>>, Error> {
        match self.machine.read(|state| Source::of(state, tp, offset)) {
            None => Ok(None),
            Some(Source::Log(slot)) => {
                let log = self.solo.log();
                let payload = log.payload(slot.index)?.ok_or_else(|| Error::new(Code::CorruptData, "no commands"))?;
                let batch = payload.slice(slot.at as usize..(slot.at + slot.len) as usize);
                let epoch = leader_epoch(log.term_of(slot.index));
                let (head, body) = stratalog_proto::batch::Batch::parse(batch)?.patched(slot.base_offset, epoch);
                Ok(Some(vec![[head, body].concat().into()]))
            }
            Some(Source::Rec(meta)) => {
                let slice = self.recs.reader(&meta)?.read(tp.topic, tp.partition, offset, 4 << 10)?;
                let bytes = slice.map(|slice| slice.bytes).unwrap_or_default();
                Ok(Some(Batches::new(bytes).collect::<Result<_, _>>()?))
            }
        }
    }
}

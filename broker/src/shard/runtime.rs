//! The runtime of one shard: what the rest of the broker holds.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use stratalog_proto::entry::{Append, Command};
use stratalog_proto::{Error, RaftIndex, ShardId, Term};
use stratalog_storage::{Io, SegmentMeta, StateFiles};
use tokio::sync::watch;

use super::admission::Admission;
use super::batcher::Batcher;
use super::checks::propose_hashes;
use super::machine::ShardMachine;
use super::state::ShardState;
use super::waiters::Waiters;
use crate::metrics::Stages;
use crate::outcome::CommandResult;
use crate::raft::{Group, GroupLog, Peers, Reign, RoleNow};
use crate::replay::RecStore;

/// What a shard is started with.
pub(crate) struct ShardOptions {
    pub(crate) id: ShardId,
    pub(crate) io: Arc<dyn Io>,
    /// Where the shard's column segments are.
    pub(crate) segments_dir: PathBuf,
    /// The shard's replay segments.
    pub(crate) recs: Arc<RecStore>,
    /// Its state files.
    pub(crate) states: Arc<StateFiles>,
    /// The other replicas.
    pub(crate) peers: Arc<dyn Peers>,
    /// Bytes of commands that may wait, shared by all shards.
    pub(crate) admission: Arc<Admission>,
    /// Told how long each stage takes.
    pub(crate) stages: Stages,
    /// This replica is the first one of its group, which begins with it.
    pub(crate) form: bool,
    /// How long the log of a restart may take to apply.
    pub(crate) recovery_timeout: Duration,
}

/// One Raft group with its applied state.
pub(crate) struct Shard {
    id: ShardId,
    io: Arc<dyn Io>,
    segments_dir: PathBuf,
    recs: Arc<RecStore>,
    machine: Arc<ShardMachine>,
    log: GroupLog,
    group: Arc<Group>,
    batcher: Batcher,
}

impl Shard {
    /// Starts the group over its recovered log. Where this replica alone votes, it leads, and everything in the log is
    /// applied, when this returns; where others vote, too, it waits for nobody.
    ///
    /// # Errors
    /// [`Code::Timeout`](stratalog_proto::Code::Timeout) if the log is not applied in `recovery_timeout`; those of reading
    /// the log and the state.
    pub(crate) async fn start(options: ShardOptions, log: GroupLog) -> Result<Arc<Self>, Error> {
        let machine = Arc::new(ShardMachine::new(Arc::clone(&options.recs), options.stages.clone()));
        let group =
            Arc::new(Group::start(log.clone(), Arc::clone(&machine) as _, options.states, options.peers).await?);
        if options.form {
            group.form().await?;
        }
        group.lead(options.recovery_timeout).await?;
        let applied = Arc::clone(&machine);
        let last_time_ns = move || applied.read(ShardState::time_ns);
        let batcher = Batcher::start(Arc::clone(&group), options.admission, options.stages, last_time_ns);
        let hashed = machine.watch_hashed();
        let shard = Arc::new(Self {
            id: options.id,
            io: options.io,
            segments_dir: options.segments_dir,
            recs: options.recs,
            machine,
            log,
            group,
            batcher,
        });
        tokio::spawn(propose_hashes(Arc::downgrade(&shard), hashed));
        Ok(shard)
    }

    /// The shard's number.
    pub(crate) fn id(&self) -> ShardId {
        self.id
    }

    /// The last applied index: the fence of all its partitions.
    pub(crate) fn applied(&self) -> RaftIndex {
        self.machine.applied()
    }

    /// Changes each time an entry is applied.
    pub(crate) fn watch_applied(&self) -> watch::Receiver<RaftIndex> {
        self.machine.watch_applied()
    }

    /// The term of the last entry with commands that was applied here since the start; 0 before.
    pub(crate) fn applied_term(&self) -> Term {
        self.machine.applied_term()
    }

    /// Whether this replica leads.
    pub(crate) fn is_leader(&self) -> bool {
        self.group.is_leader()
    }

    /// Who leads, and whether everything that was acknowledged before is applied here.
    pub(crate) fn watch_role(&self) -> watch::Receiver<RoleNow> {
        self.group.watch_role()
    }

    /// A short read of the state, under its lock: no IO and no waiting inside.
    pub(crate) fn read<R>(&self, f: impl FnOnce(&ShardState) -> R) -> R {
        self.machine.read(f)
    }

    /// Proposes a command other than a record batch, and waits until it is applied here.
    ///
    /// # Errors
    /// The refusal of the command itself; [`Timeout`](stratalog_proto::Code::Timeout) if its outcome is unknown;
    /// [`Unavailable`](stratalog_proto::Code::Unavailable) if the shard stops, and it did not happen.
    pub(crate) async fn propose(&self, command: Command) -> Result<CommandResult, Error> {
        self.batcher.propose(command).await.map(|(_, result)| result)
    }

    /// As [`propose`](Self::propose), but in this term of this replica's leadership alone: in a later one it is refused.
    ///
    /// # Errors
    /// As [`propose`](Self::propose); [`NotLeader`](stratalog_proto::Code::NotLeader) in another term: it did not happen.
    pub(crate) async fn propose_in(&self, term: Term, command: Command) -> Result<CommandResult, Error> {
        self.batcher.propose_in(term, command).await.map(|(_, result)| result)
    }

    /// As [`propose_in`](Self::propose_in), for a command that a client causes: it waits until there is room for it.
    ///
    /// # Errors
    /// As [`propose_in`](Self::propose_in); [`Overloaded`](stratalog_proto::Code::Overloaded) and
    /// [`StorageFull`](stratalog_proto::Code::StorageFull) if it was not admitted: it did not happen.
    pub(crate) async fn submit_in(&self, term: Term, command: Command) -> Result<CommandResult, Error> {
        self.batcher.submit_in(term, command).await.map(|(_, result)| result)
    }

    /// As [`propose`](Self::propose), and at which index it was applied.
    ///
    /// # Errors
    /// As [`propose`](Self::propose).
    pub(crate) async fn propose_at(&self, command: Command) -> Result<(RaftIndex, CommandResult), Error> {
        self.batcher.propose(command).await
    }

    /// Proposes a record batch, once `gate` lets it pass and there is room, and waits until it is applied here: the
    /// index at which it was, and its answer. Batches of a partition keep the order of these calls, since none is proposed
    /// in another reign than the one in which it was taken.
    ///
    /// # Errors
    /// As [`propose_in`](Self::propose_in); those of `gate`; [`Overloaded`](stratalog_proto::Code::Overloaded) and
    /// [`StorageFull`](stratalog_proto::Code::StorageFull) if it was not admitted: it did not happen.
    pub(crate) async fn append(
        &self,
        append: Append,
        reign: Reign,
        gate: impl Future<Output = Result<(), Error>>,
    ) -> Result<(RaftIndex, CommandResult), Error> {
        self.batcher.append(append, reign, gate).await
    }

    /// Calls `listener` with the segments that an applied command removed from the manifest, outside of all locks.
    pub(crate) fn on_segments_removed(&self, listener: impl Fn(&[Arc<SegmentMeta>]) + Send + Sync + 'static) {
        self.machine.on_segments_removed(Box::new(listener));
    }

    /// The files of the shard's replay segments.
    pub(crate) fn recs(&self) -> &Arc<RecStore> {
        &self.recs
    }

    /// Who waits for records of this shard.
    pub(crate) fn waiters(&self) -> &Waiters {
        self.machine.waiters()
    }

    /// The Raft group, for snapshots and for letting go of the log.
    pub(crate) fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Where the shard's column segments are.
    pub(crate) fn segments_dir(&self) -> &Path {
        &self.segments_dir
    }

    /// The disk.
    pub(crate) fn io(&self) -> &Arc<dyn Io> {
        &self.io
    }

    /// The log, for reading applied entries.
    pub(super) fn log(&self) -> &GroupLog {
        &self.log
    }

    /// Stops proposing, then the group. Nothing is acknowledged afterwards.
    pub(crate) async fn stop(&self) {
        self.batcher.stop().await;
        self.group.stop().await;
    }
}

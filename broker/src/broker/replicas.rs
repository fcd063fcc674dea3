//! The replicas in the data directory of this node: how they are started, and how they come and go while it runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use stratalog_proto::{Code, Error, ReplicaId, ShardId};
use stratalog_storage::{Io, StateFiles};

use super::Broker;
use super::recovery::blocking;
use crate::identity::{self, DirLock, Mark};
use crate::metrics::Stages;
use crate::options::BrokerOptions;
use crate::raft::{GroupLog, Logs, Peers};
use crate::replay::{Member, RecStore};
use crate::shard::{Admission, Shard, ShardOptions};

/// What replicas are made with.
pub(super) struct Replicas {
    pub(super) options: BrokerOptions,
    pub(super) lock: Arc<DirLock>,
    pub(super) logs: Arc<Logs>,
    pub(super) peers: Arc<dyn Peers>,
    pub(super) admission: Arc<Admission>,
    pub(super) stages: Stages,
    /// What is durable in the directories of the shards.
    pub(super) marks: Mutex<BTreeMap<ShardId, Mark>>,
}

impl Replicas {
    /// Starts a replica over its log, and looks for the files of its replay segments once it is known which there have to
    /// be. One that `forms` begins its group, unless that has begun.
    ///
    /// # Errors
    /// Those of [`Shard::start`] and of the disk.
    pub(super) async fn start(&self, log: GroupLog, states: Arc<StateFiles>, forms: bool) -> Result<Arc<Shard>, Error> {
        let (id, io) = (log.shard(), Arc::clone(&self.options.disk));
        let segments_dir = identity::segments_dir(&self.options.data_dir, id.0);
        let recs = Arc::new(RecStore::new(Arc::clone(&io), &segments_dir, id, Arc::clone(&self.lock) as _));
        let options = ShardOptions {
            id,
            io,
            segments_dir,
            recs,
            states,
            peers: Arc::clone(&self.peers),
            admission: Arc::clone(&self.admission),
            stages: self.stages.clone(),
            form: forms,
            recovery_timeout: self.options.recovery_timeout,
        };
        let shard = Shard::start(options, log).await?;
        // Where others vote, too, the log behind the state is applied once there is a leader.
        let role = *shard.group().watch_role().borrow();
        let unapplied = (!role.leads).then_some(role.term);
        let (recs, manifest) = (Arc::clone(shard.recs()), shard.read(|state| state.manifest().clone()));
        let found = blocking(move || recs.reconcile(manifest.recs(), unapplied)).await?;
        if found.garbage > 0 {
            tracing::info!(shard = %id, removed = found.garbage, "removed replay segments that no manifest names");
        }
        if found.missing > 0 {
            tracing::warn!(shard = %id, missing = found.missing, "replay segments are not on this node");
        }
        Ok(shard)
    }

    /// Makes and starts a replica that is new here, or that was made and could not be started.
    async fn create(&self, shard: ShardId, replica: ReplicaId, forms: bool) -> Result<Arc<Shard>, Error> {
        let before = self.marks.lock().get(&shard).and_then(|mark| mark.replica);
        if let Some(before) = before.filter(|before| *before != replica) {
            let message = format!("replica {before} of shard {shard} has to be gone before replica {replica} comes");
            return Err(Error::new(Code::Unavailable, message));
        }
        self.mark(shard, |mark| Mark { replica: Some(replica), ..mark }).await?;
        let (options, logs) = (self.options.clone(), Arc::clone(&self.logs));
        let (log, states) = blocking(move || {
            let (io, dir) = (&options.disk, &options.data_dir);
            create_dir(&options, &identity::segments_dir(dir, shard.0))?;
            let states = StateFiles::open(Arc::clone(io), &identity::state_dir(dir, shard.0), shard).map(Arc::new)?;
            let log = logs.get(shard).filter(|log| log.replica() == replica);
            Ok((log.map_or_else(|| logs.create(shard, replica), Ok)?, states))
        })
        .await?;
        self.start(log, states, forms).await
    }

    /// Removes what a replica that has stopped leaves behind. It never comes back under its id.
    async fn forget(&self, shard: ShardId, replica: ReplicaId) -> Result<(), Error> {
        let gone = Mark { replica: None, removed: Some(replica) };
        let (options, logs) = (self.options.clone(), Arc::clone(&self.logs));
        blocking(move || {
            identity::mark(&*options.disk, &options.data_dir, shard, gone)?;
            wipe(&options, shard).and_then(|()| logs.forget(shard))
        })
        .await?;
        // Last: until then it is planned again, and nothing comes in its place.
        self.marks.lock().insert(shard, gone);
        Ok(())
    }

    async fn mark(&self, shard: ShardId, change: impl FnOnce(Mark) -> Mark) -> Result<(), Error> {
        let before = self.marks.lock().get(&shard).copied().unwrap_or_default();
        let (options, after) = (self.options.clone(), change(before));
        blocking(move || identity::mark(&*options.disk, &options.data_dir, shard, after)).await?;
        self.marks.lock().insert(shard, after);
        Ok(())
    }
}

impl Broker {
    /// Which replica each directory of this node is.
    pub(crate) fn marks(&self) -> BTreeMap<ShardId, Mark> {
        self.replicas.marks.lock().clone()
    }

    /// Makes a replica that the metadata gives to this node, and runs it: empty, until a leader sends what there is. One
    /// that `forms` is the first of its group.
    ///
    /// # Errors
    /// Those of the disk; it can be done again.
    pub(crate) async fn start_replica(&self, shard: ShardId, replica: ReplicaId, forms: bool) -> Result<(), Error> {
        let started = self.replicas.create(shard, replica, forms).await?;
        let added = async {
            self.roller.add(Member::Shard(Arc::clone(&started))).await?;
            self.rows.add(Arc::clone(&started) as _).await
        };
        if let Err(error) = added.await {
            started.stop().await;
            return Err(error);
        }
        self.shards.insert(started);
        tracing::info!(%shard, %replica, forms, "this node has a replica of a shard now");
        Ok(())
    }

    /// Stops a replica that the metadata has taken away, and removes what it has.
    ///
    /// # Errors
    /// Those of the disk; it can be done again.
    pub(crate) async fn stop_replica(&self, shard: ShardId, replica: ReplicaId) -> Result<(), Error> {
        let is_meant = |running: &Shard| running.group().log().replica() == replica;
        if self.shards.get(shard).is_some_and(|running| is_meant(&running))
            && let Some(running) = self.shards.remove(shard)
        {
            self.rows.remove(shard).await;
            self.roller.remove(shard).await?;
            running.stop().await;
        }
        self.replicas.forget(shard, replica).await?;
        tracing::info!(%shard, %replica, "this node has no replica of a shard any more, and removed its files");
        Ok(())
    }
}

/// Removes the files of a replica, but for its mark. Blocks.
///
/// # Errors
/// [`Code::Io`].
pub(super) fn wipe(options: &BrokerOptions, shard: ShardId) -> Result<(), Error> {
    let (io, dir) = (&*options.disk, &options.data_dir);
    for dir in [identity::segments_dir(dir, shard.0), identity::state_dir(dir, shard.0)] {
        let failed = |error| Error::new(Code::Io, format!("cannot empty the directory {}: {error}", dir.display()));
        empty(io, &dir).map_err(failed)?;
    }
    Ok(())
}

fn empty(io: &dyn Io, dir: &std::path::Path) -> std::io::Result<()> {
    if !io.exists(dir)? {
        return Ok(());
    }
    for name in io.list(dir)? {
        io.remove(&dir.join(name))?;
    }
    io.sync_dir(dir)
}

pub(super) fn create_dir(options: &BrokerOptions, path: &std::path::Path) -> Result<(), Error> {
    let failed = |error| Error::new(Code::Io, format!("cannot create the directory {}: {error}", path.display()));
    options.disk.create_dir_all(path).map_err(failed)
}

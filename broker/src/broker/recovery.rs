//! Reading a data directory: from files on disk to the logs and states of the replicas that it has.

use std::collections::BTreeMap;
use std::sync::Arc;

use stratalog_proto::{Code, Error, ReplicaId, ShardId};
use stratalog_storage::{Lane, Recovery, StateFiles, Votes};

use super::META;
use super::replicas::{create_dir, wipe};
use crate::cluster::read_book;
use crate::identity::{self, DirLock, Identity, Mark};
use crate::options::BrokerOptions;
use crate::raft::{GroupLog, Known, Logs, LogsOptions, Repair, check_readable};

/// What is known once the disk has been read.
pub(super) struct Recovered {
    pub(super) lane: Arc<Lane>,
    pub(super) logs: Arc<Logs>,
    pub(super) marks: BTreeMap<ShardId, Mark>,
    pub(super) meta: Recovering,
    pub(super) shards: Vec<Recovering>,
    /// Bytes of the log's files that were set aside, now or at an earlier start.
    pub(super) aside_bytes: u64,
}

/// A replica before it is started.
pub(super) struct Recovering {
    pub(super) log: GroupLog,
    pub(super) states: Arc<StateFiles>,
}

/// Reads the disk. Blocks.
///
/// # Errors
/// [`Code::CorruptData`], naming file and offset, for damage that no crash explains, unless it is one of the log and others can
/// send again what is lost: nothing is changed then; [`Code::Io`].
pub(super) fn recover(options: &BrokerOptions, identity: &Identity, lock: &Arc<DirLock>) -> Result<Recovered, Error> {
    let (io, dir) = (&options.disk, &options.data_dir);
    if !identity.joined && identity.shards != options.shards {
        let (kept, asked) = (identity.shards, options.shards);
        tracing::info!(kept, asked, "the number of shards is fixed at the first start");
    }
    let marks = identity::local_replicas(&**io, dir, identity)?;
    for (shard, _) in marks.iter().filter(|(_, mark)| mark.replica.is_none()) {
        // A crash may have come between its leaving and the removal of its files.
        wipe(options, *shard)?;
    }
    let known = known(options, &marks)?;
    let lane_dir = identity::lane_dir(dir);
    let votes = Arc::new(Votes::open(Arc::clone(io), &lane_dir.join("votes"))?);
    check_readable(&known, &votes)?;
    let view = read_book(&**io, dir)?;
    let other_voters = |shard: ShardId, replica: ReplicaId| {
        let placement = view.as_ref()?.shards.get(&shard)?;
        Some(placement.other_voters(replica).len())
    };
    let repair = Repair {
        io,
        lane_dir: &lane_dir,
        options: &options.lane,
        votes: &votes,
        known: &known,
        other_voters: &other_voters,
    };
    let (lane, recovery) = repair.opened(|| Lane::open(Arc::clone(io), &lane_dir, options.lane.clone()))?;
    tell(identity, &known, &recovery);
    let (cache_bytes, keep) = (options.log_cache_bytes, Arc::clone(lock) as _);
    let log_options = LogsOptions { lane: Arc::clone(&lane), votes, cache_bytes, keep };
    let gone = marks.iter().filter_map(|(shard, mark)| Some((*shard, mark.removed?))).collect();
    let logs = Logs::recover(log_options, &known, &gone, &recovery)?;
    let with_log = |Known { states, .. }: Known| Some(Recovering { log: logs.get(states.shard())?, states });
    let (meta, shards): (Vec<_>, Vec<_>) =
        known.into_iter().filter_map(with_log).partition(|replica| replica.log.shard() == META);
    let no_meta = || Error::new(Code::CorruptData, format!("{} has no replica of the metadata group", dir.display()));
    let meta = meta.into_iter().next().ok_or_else(no_meta)?;
    let aside = Lane::list_aside(&**io, &lane_dir).inspect_err(|error| {
        tracing::warn!(%error, "how much of the log was set aside cannot be told");
    });
    let aside_bytes = aside.unwrap_or_default().iter().map(|aside| aside.bytes).sum();
    Ok(Recovered { lane, logs, marks, meta, shards, aside_bytes })
}

/// The replicas that are here, each with its directories.
fn known(options: &BrokerOptions, marks: &BTreeMap<ShardId, Mark>) -> Result<Vec<Known>, Error> {
    let (io, dir) = (&options.disk, &options.data_dir);
    let here = marks.iter().filter_map(|(shard, mark)| Some((*shard, mark.replica?)));
    let open = |(shard, replica): (ShardId, ReplicaId)| {
        if shard != META {
            create_dir(options, &identity::segments_dir(dir, shard.0))?;
        }
        let states = StateFiles::open(Arc::clone(io), &identity::state_dir(dir, shard.0), shard).map(Arc::new)?;
        Ok(Known { replica, states })
    };
    here.map(open).collect()
}

fn tell(identity: &Identity, known: &[Known], recovery: &Recovery) {
    if let Some(torn) = &recovery.torn_tail {
        let (file, offset, bytes) = (torn.file, torn.offset, torn.bytes);
        tracing::warn!(file, offset, bytes, "discarded the end of the log: a write that a crash cut short");
    }
    tracing::info!(
        node = %identity.node, cluster = %identity.cluster, incarnation = %identity.incarnation,
        replicas = known.len(), frames = recovery.frames.len(), "recovered the log"
    );
}

pub(super) async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, Error> + Send + 'static,
) -> Result<R, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|panic| {
        Err(Error::new(Code::Internal, format!("what was done on the disk ended early: {panic}")))
    })
}

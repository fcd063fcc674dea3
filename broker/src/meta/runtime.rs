//! The running metadata group.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use stratalog_proto::config::TopicConfig;
use stratalog_proto::entry::{Command, Entry};
use stratalog_proto::{Code, Error, ProducerId, RaftIndex, ShardId, TenantId, Term, TopicId, internal};
use stratalog_query::TopicInfo;
use stratalog_storage::StateFiles;
use tokio::sync::watch;

use super::placement::place;
use super::state::MetaState;
use crate::metrics::Stages;
use crate::outcome::{CommandResult, Results};
use crate::raft::{Captured, Group, GroupLog, Machine, NoPeers};
use crate::shard::{Admission, Batcher};

/// Producer ids that are reserved at once; those left at a restart are never used.
const PRODUCER_ID_BLOCK: u32 = 1_000;

/// The metadata group of the node.
pub(crate) struct Meta {
    machine: Arc<MetaMachine>,
    group: Arc<Group>,
    batcher: Batcher,
    /// Whether a change of topics was proposed whose outcome is not known.
    unsettled: AtomicBool,
    /// Reserved producer ids, half open.
    producer_ids: Mutex<std::ops::Range<i64>>,
    /// One reservation at a time.
    reserving: tokio::sync::Mutex<()>,
}

impl Meta {
    /// Starts the group over its recovered log, makes it lead, and returns when everything in the log is applied.
    ///
    /// # Errors
    /// [`Code::Timeout`] if that takes longer than `recovery_timeout`.
    pub(crate) async fn start(
        log: GroupLog,
        states: Arc<StateFiles>,
        admission: Arc<Admission>,
        recovery_timeout: Duration,
    ) -> Result<Self, Error> {
        let machine = Arc::new(MetaMachine::default());
        let group = Arc::new(Group::start(log, Arc::clone(&machine) as _, states, Arc::new(NoPeers)).await?);
        group.lead(recovery_timeout).await?;
        let last_time_ns = machine.state.read().time_ns();
        let batcher = Batcher::start(Arc::clone(&group), admission, Stages::default(), last_time_ns);
        Ok(Self {
            machine,
            group,
            batcher,
            unsettled: AtomicBool::new(false),
            producer_ids: Mutex::new(0..0),
            reserving: tokio::sync::Mutex::new(()),
        })
    }

    /// All topics, those included whose shards do not host them yet.
    pub(crate) fn topics(&self) -> Vec<Arc<TopicInfo>> {
        self.machine.state.read().topics().cloned().collect()
    }

    /// A topic as it is now, by its id.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`].
    pub(crate) fn topic(&self, id: TopicId) -> Result<Arc<TopicInfo>, Error> {
        let gone = || Error::new(Code::UnknownTopic, "the topic was deleted at the same time");
        self.machine.state.read().topics().find(|topic| topic.id == id).cloned().ok_or_else(gone)
    }

    /// A topic as it is now, by its name; also one whose shards do not host it yet.
    pub(crate) fn named(&self, name: &str) -> Option<Arc<TopicInfo>> {
        self.machine.state.read().topics().find(|topic| topic.name == name).cloned()
    }

    /// Returns when every change of topics that was proposed before has its outcome, so that [`topics`](Self::topics)
    /// shows it. Entries are applied in order: the answer of any later command is the sign.
    ///
    /// # Errors
    /// As [`Shard::propose`](crate::shard::Shard::propose): it is not known yet.
    pub(crate) async fn settle(&self) -> Result<(), Error> {
        if self.unsettled.load(Ordering::SeqCst) {
            self.change(Command::AllocateProducerIds(internal::AllocateProducerIds { count: 1 })).await?;
        }
        Ok(())
    }

    /// The last applied index.
    pub(crate) fn applied(&self) -> RaftIndex {
        *self.machine.applied.borrow()
    }

    /// Whether this replica leads.
    pub(crate) fn is_leader(&self) -> bool {
        self.group.is_leader()
    }

    /// The Raft group, for snapshots and for letting go of the log.
    pub(crate) fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Adds a topic under a new id, its partitions spread over `shards`.
    ///
    /// # Errors
    /// The refusal of the command, see [`MetaState`]; else as [`Shard::propose`](crate::shard::Shard::propose).
    pub(crate) async fn create_topic(
        &self,
        name: &str,
        partitions: u32,
        config: &TopicConfig,
        shards: &[ShardId],
    ) -> Result<Arc<TopicInfo>, Error> {
        let id = TopicId::new();
        let placed = place(partitions, shards, &self.machine.state.read().load());
        let create = internal::CreateTopic {
            topic: id.to_bytes(),
            tenant: TenantId::default().0,
            name: name.to_owned(),
            config: Some(config.to_internal()),
            shards: placed.iter().map(|shard| shard.0).collect(),
        };
        self.change(Command::CreateTopic(create)).await?;
        self.topic(id)
    }

    /// Replaces a topic's settings.
    ///
    /// # Errors
    /// As [`create_topic`](Self::create_topic).
    pub(crate) async fn alter_topic(&self, id: TopicId, config: &TopicConfig) -> Result<Arc<TopicInfo>, Error> {
        let alter = internal::AlterTopic { topic: id.to_bytes(), config: Some(config.to_internal()) };
        self.change(Command::AlterTopic(alter)).await?;
        self.topic(id)
    }

    /// Removes a topic. Its shards forget it afterwards.
    ///
    /// # Errors
    /// As [`create_topic`](Self::create_topic).
    pub(crate) async fn delete_topic(&self, id: TopicId) -> Result<(), Error> {
        let delete = internal::DeleteTopic { topic: id.to_bytes() };
        self.change(Command::DeleteTopic(delete)).await
    }

    /// A producer id that was never given before.
    ///
    /// # Errors
    /// As [`Shard::propose`](crate::shard::Shard::propose).
    pub(crate) async fn producer_id(&self) -> Result<ProducerId, Error> {
        let _one = self.reserving.lock().await;
        if let Some(id) = self.producer_ids.lock().next() {
            return Ok(ProducerId(id));
        }
        let reserve = internal::AllocateProducerIds { count: PRODUCER_ID_BLOCK };
        let (_, reserved) = self.batcher.propose(Command::AllocateProducerIds(reserve)).await?;
        let CommandResult::ProducerIds(first) = reserved else {
            return Err(Error::new(Code::Internal, format!("producer ids were answered with {reserved:?}")));
        };
        *self.producer_ids.lock() = first.0 + 1..first.0 + i64::from(PRODUCER_ID_BLOCK);
        Ok(first)
    }

    /// Stops proposing, then the group.
    pub(crate) async fn stop(&self) {
        self.batcher.stop().await;
        self.group.stop().await;
    }

    /// Proposes a change of topics. It counts as unsettled from before it is proposed, since who waits may go away.
    async fn change(&self, command: Command) -> Result<(), Error> {
        self.unsettled.store(true, Ordering::SeqCst);
        let answer = self.batcher.propose(command).await.map(|_| ());
        let was_applied = |error: &Error| !matches!(error.code, Code::Timeout | Code::Unavailable | Code::NotLeader);
        if answer.as_ref().err().is_none_or(was_applied) {
            self.unsettled.store(false, Ordering::SeqCst);
        }
        answer
    }
}

/// The shards of a topic, each with the partitions that it hosts, ascending.
pub(crate) fn partitions_by_shard(topic: &TopicInfo) -> BTreeMap<ShardId, Vec<u32>> {
    let mut by_shard = BTreeMap::<ShardId, Vec<u32>>::new();
    for (partition, shard) in (0..).zip(&topic.shards) {
        by_shard.entry(*shard).or_default().push(partition);
    }
    by_shard
}

struct MetaMachine {
    state: RwLock<MetaState>,
    applied: watch::Sender<RaftIndex>,
}

impl Default for MetaMachine {
    fn default() -> Self {
        Self { state: RwLock::default(), applied: watch::Sender::new(RaftIndex(0)) }
    }
}

impl Machine for MetaMachine {
    fn apply(&self, index: RaftIndex, _term: Term, entry: &Entry) -> Result<Results, Error> {
        self.state.write().apply(index, entry)
    }

    fn advance(&self, index: RaftIndex) {
        self.applied.send_replace(index);
    }

    /// The metadata has nothing beside its state, so its log is not needed up to where it is taken.
    fn capture(&self) -> Result<Captured, Error> {
        let state = self.state.read().clone();
        Ok(Captured { frontier: *self.applied.borrow(), encode: Box::new(move || state.encode()) })
    }

    fn restore(&self, _at: RaftIndex, state: Bytes) -> Result<(), Error> {
        *self.state.write() = MetaState::decode(state)?;
        Ok(())
    }
}

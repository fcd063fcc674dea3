//! The running metadata group.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;
use stratalog_proto::entry::{Command, Entry};
use stratalog_proto::{Code, Error, RaftIndex, ShardId, Term, TopicId, internal};
use stratalog_query::TopicInfo;
use stratalog_storage::StateFiles;
use tokio::sync::watch;

use super::placement::place;
use super::state::MetaState;
use super::topics::Topics;
use super::view::ClusterView;
use crate::metrics::Stages;
use crate::outcome::{CommandResult, Results};
use crate::raft::{Captured, Group, GroupLog, Machine, Peers};
use crate::shard::{Admission, Batcher};

/// The metadata group of the node.
pub(crate) struct Meta {
    machine: Arc<MetaMachine>,
    group: Arc<Group>,
    batcher: Batcher,
}

/// What the metadata group is started with.
pub(crate) struct MetaOptions {
    /// Its state files.
    pub(crate) states: Arc<StateFiles>,
    /// Shows the topics that there are.
    pub(crate) topics: Arc<Topics>,
    /// The other replicas.
    pub(crate) peers: Arc<dyn Peers>,
    /// Bytes of commands that may wait, shared with the shards.
    pub(crate) admission: Arc<Admission>,
    /// This is the first replica of a cluster: it begins the group, unless it has done so. One that joins must not.
    pub(crate) form: bool,
    /// How long the log of a restart may take to apply.
    pub(crate) recovery_timeout: Duration,
}

impl Meta {
    /// Starts the group over its recovered log. Where this replica alone votes, it leads, and everything in the log is
    /// applied, when this returns; where others vote, too, it waits for nobody.
    ///
    /// # Errors
    /// [`Code::Timeout`] if the log is not applied in `recovery_timeout`; those of reading the log and the state.
    pub(crate) async fn start(options: MetaOptions, log: GroupLog) -> Result<Self, Error> {
        let MetaOptions { states, topics, peers, admission, form, recovery_timeout } = options;
        let machine = Arc::new(MetaMachine::new(topics));
        let group = Arc::new(Group::start(log, Arc::clone(&machine) as _, states, peers).await?);
        if form {
            group.form().await?;
        }
        group.lead(recovery_timeout).await?;
        let applied = Arc::clone(&machine);
        let last_time_ns = move || applied.state.read().time_ns();
        let batcher = Batcher::start(Arc::clone(&group), admission, Stages::default(), last_time_ns);
        Ok(Self { machine, group, batcher })
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
        self.machine.state.read().topic(id).cloned().ok_or_else(gone)
    }

    /// Shows a topic again that was to be deleted and is still there, as it is now.
    pub(crate) fn restore_topic(&self, id: TopicId) {
        // Nothing is applied meanwhile.
        let state = self.machine.state.read();
        if let Some(topic) = state.topic(id) {
            self.machine.topics.restore(Arc::clone(topic));
        }
    }

    /// A topic as it is now, by its name; also one whose shards do not host it yet.
    pub(crate) fn named(&self, name: &str) -> Option<Arc<TopicInfo>> {
        self.machine.state.read().named(name).cloned()
    }

    /// Where the partitions of a new topic are to live, one by one.
    ///
    /// # Panics
    /// Without a shard.
    pub(crate) fn place(&self, partitions: u32, shards: &[ShardId]) -> Vec<ShardId> {
        place(partitions, shards, &self.machine.state.read().load())
    }

    /// The shard of a consumer group; `None` until the slots were assigned.
    pub(crate) fn group_shard(&self, group: &str) -> Option<ShardId> {
        self.machine.state.read().group_shard(group)
    }

    /// The shards that consumer groups may live in, ascending; none until the slots were assigned.
    pub(crate) fn shards_of_groups(&self) -> BTreeSet<ShardId> {
        self.machine.state.read().shards_of_groups()
    }

    /// The cluster as of the last applied entry.
    pub(crate) fn view(&self) -> Arc<ClusterView> {
        self.machine.view.borrow().clone()
    }

    /// The same as a message, for nodes that join and for the address book; `None` as long as there is no cluster.
    pub(crate) fn cluster(&self) -> Option<internal::Cluster> {
        self.machine.state.read().cluster()
    }

    /// Changes whenever an applied entry changes the cluster.
    pub(crate) fn watch_view(&self) -> watch::Receiver<Arc<ClusterView>> {
        self.machine.view.subscribe()
    }

    /// The last applied index.
    pub(crate) fn applied(&self) -> RaftIndex {
        *self.machine.applied.borrow()
    }

    /// Changes whenever an entry is applied.
    pub(crate) fn watch_applied(&self) -> watch::Receiver<RaftIndex> {
        self.machine.applied.subscribe()
    }

    /// Whether this replica leads.
    pub(crate) fn is_leader(&self) -> bool {
        self.group.is_leader()
    }

    /// The Raft group, for snapshots and for letting go of the log.
    pub(crate) fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Proposes a command here, and waits until it is applied here: the index of its entry, and its answer.
    ///
    /// # Errors
    /// As [`Shard::propose`](crate::shard::Shard::propose); [`Code::Unavailable`] for a command that a node of the cluster
    /// does not know yet.
    pub(crate) async fn propose(&self, command: Command) -> Result<(RaftIndex, CommandResult), Error> {
        check_level(&self.view(), &command)?;
        self.batcher.propose(command).await
    }

    /// Stops proposing, then the group.
    pub(crate) async fn stop(&self) {
        self.batcher.stop().await;
        self.group.stop().await;
    }
}

/// Refuses a command that a node of the cluster may not know: it would stop there.
///
/// # Errors
/// [`Code::Unavailable`], naming both levels.
pub(crate) fn check_level(view: &ClusterView, command: &Command) -> Result<(), Error> {
    let (needs, level) = (command.level(), view.feature_level);
    if needs <= level {
        return Ok(());
    }
    let message = format!(
        "this needs feature level {needs}, and the cluster is at {level} until every node runs a version that knows it"
    );
    Err(Error::new(Code::Unavailable, message))
}

/// The topic that a command changes.
fn topic_named(command: &Command) -> Option<TopicId> {
    let id = match command {
        Command::CreateTopic(create) => &create.topic,
        Command::AlterTopic(alter) => &alter.topic,
        Command::DeleteTopic(delete) => &delete.topic,
        _ => return None,
    };
    TopicId::from_slice(id)
}

struct MetaMachine {
    state: RwLock<MetaState>,
    applied: watch::Sender<RaftIndex>,
    view: watch::Sender<Arc<ClusterView>>,
    topics: Arc<Topics>,
}

impl MetaMachine {
    fn new(topics: Arc<Topics>) -> Self {
        let view = watch::Sender::new(Arc::default());
        Self { state: RwLock::default(), applied: watch::Sender::new(RaftIndex(0)), view, topics }
    }

    /// Shows what an applied entry made of the topics that it names.
    fn show_topics(&self, state: &MetaState, entry: &Entry) {
        for id in entry.commands().filter_map(|command| topic_named(&command.ok()?)) {
            match state.topic(id) {
                Some(topic) => self.topics.publish(Arc::clone(topic)),
                None => self.topics.withdraw(id),
            }
        }
    }

    /// Shows the cluster to whoever acts on it, if it is another one than before.
    fn show(&self, state: &MetaState) {
        self.view.send_if_modified(|shown| {
            let changed = !Arc::ptr_eq(shown, state.view()) && *shown != *state.view();
            if changed {
                *shown = Arc::clone(state.view());
            }
            changed
        });
    }
}

impl Machine for MetaMachine {
    fn apply(&self, index: RaftIndex, _term: Term, entry: &Entry) -> Result<Results, Error> {
        let mut state = self.state.write();
        let results = state.apply(index, entry);
        self.show(&state);
        self.show_topics(&state, entry);
        results
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
        let restored = MetaState::decode(state)?;
        let mut state = self.state.write();
        *state = restored;
        self.show(&state);
        self.topics.replace(state.topics().cloned());
        Ok(())
    }
}

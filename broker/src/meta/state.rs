//! The replicated state of the metadata group, and how each command changes it. Pure, as all apply is (A1).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stratalog_proto::config::{TopicConfig, check_topic_name};
use stratalog_proto::entry::{Command, Entry};
use stratalog_proto::{Code, Error, NodeId, ProducerId, RaftIndex, ShardId, TenantId, TopicId, internal};
use stratalog_query::TopicInfo;
use uuid::Uuid;

use super::cluster::Cluster;
use super::slots::Slots;
use super::view::ClusterView;
use crate::outcome::{CommandResult, Results};

/// The most partitions of a topic.
pub(crate) const MAX_PARTITIONS: u32 = 10_000;
/// The most topics.
pub(super) const MAX_TOPICS: usize = 100_000;
/// The most producer ids that one command reserves.
const MAX_PRODUCER_IDS: u32 = 1 << 20;

/// Producer ids that a cluster may have given out since a backup of it was made. Their producers go on after a restore, and
/// nobody else may get their ids: two producers of one id take each other's records for their own (L2).
const PRODUCERS_SINCE: i64 = 1 << 40;

/// Topics and counters of the cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct MetaState {
    pub(super) topics: BTreeMap<TopicId, Arc<TopicInfo>>,
    pub(super) names: BTreeMap<(TenantId, String), TopicId>,
    pub(super) next_producer: i64,
    pub(super) time_ns: i64,
    pub(super) cluster: Cluster,
    pub(super) slots: Slots,
}

impl MetaState {
    /// All topics, ascending by id.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &Arc<TopicInfo>> {
        self.topics.values()
    }

    /// The nodes, and who has a replica of what. Shared: a change replaces it.
    pub(crate) fn view(&self) -> &Arc<ClusterView> {
        self.cluster.view()
    }

    /// The same as a message; `None` as long as there is no cluster.
    pub(crate) fn cluster(&self) -> Option<internal::Cluster> {
        self.cluster.to_message()
    }

    /// The same topics in a cluster that begins with one node; see [`Cluster::anew`].
    ///
    /// # Errors
    /// As [`Cluster::anew`].
    pub(crate) fn anew(&self, cluster: Uuid, node: NodeId, incarnation: Uuid) -> Result<Self, Error> {
        let cluster = self.cluster.anew(cluster, node, incarnation)?;
        let next_producer = self.next_producer.saturating_add(PRODUCERS_SINCE);
        Ok(Self { cluster, next_producer, ..self.clone() })
    }

    /// A topic.
    pub(crate) fn topic(&self, id: TopicId) -> Option<&Arc<TopicInfo>> {
        self.topics.get(&id)
    }

    /// A topic of the default tenant.
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<TopicInfo>> {
        self.topics.get(self.names.get(&(TenantId::default(), name.to_owned()))?)
    }

    /// The shard of a consumer group; `None` until the slots were assigned.
    pub(crate) fn group_shard(&self, group: &str) -> Option<ShardId> {
        self.slots.shard_of(group)
    }

    /// The shards that consumer groups may live in, ascending; none until the slots were assigned.
    pub(crate) fn shards_of_groups(&self) -> BTreeSet<ShardId> {
        self.slots.shards()
    }

    /// The newest entry time, in nanoseconds.
    pub(crate) fn time_ns(&self) -> i64 {
        self.time_ns
    }

    /// Partitions of each shard.
    pub(crate) fn load(&self) -> BTreeMap<ShardId, usize> {
        let mut load = BTreeMap::new();
        for shard in self.topics.values().flat_map(|topic| &topic.shards) {
            *load.entry(*shard).or_insert(0) += 1;
        }
        load
    }

    /// Applies one entry. A command that is refused changes nothing.
    ///
    /// # Errors
    /// The entry cannot be applied by this version, or is not an entry: the replica has to stop.
    pub(crate) fn apply(&mut self, _index: RaftIndex, entry: &Entry) -> Result<Results, Error> {
        self.time_ns = self.time_ns.max(entry.time_ns());
        let mut results = Vec::with_capacity(entry.len());
        for command in entry.commands() {
            match self.command(command?) {
                Err(error) if error.code == Code::NewerVersion => return Err(error),
                result => results.push(result),
            }
        }
        Ok(results)
    }

    fn command(&mut self, command: Command) -> Result<CommandResult, Error> {
        match command {
            Command::CreateTopic(create) => self.create_topic(&create),
            Command::AlterTopic(alter) => self.alter_topic(&alter),
            Command::DeleteTopic(delete) => self.delete_topic(&delete),
            Command::AllocateProducerIds(allocate) => self.allocate_producer_ids(allocate.count),
            Command::InitCluster(init) => self.cluster.init(&init),
            Command::PutNode(put) => self.cluster.put_node(&put),
            Command::SetNodeState(set) => self.cluster.set_node_state(&set),
            Command::RemoveNode(remove) => self.cluster.remove_node(&remove),
            Command::CreateShards(create) => self.cluster.create_shards(&create),
            Command::ChangeReplicas(change) => self.cluster.change_replicas(&change),
            Command::ReplicaChanged(changed) => self.cluster.replica_changed(&changed),
            Command::RaiseLevel(raise) => self.cluster.raise_level(&raise),
            Command::AssignSlots(assign) => self.assign_slots(&assign),
            Command::Append(_)
            | Command::Seal(_)
            | Command::Drop(_)
            | Command::PutTopic(_)
            | Command::RemoveTopic(_)
            | Command::Roll(_)
            | Command::Repack(_)
            | Command::CheckState(_)
            | Command::Merge(_)
            | Command::DeleteRecords(_)
            | Command::Erase(_)
            | Command::EraseDone(_)
            | Command::GroupState(_)
            | Command::CommitOffsets(_)
            | Command::DeleteGroup(_)
            | Command::DeleteOffsets(_)
            | Command::ExpireOffsets(_)
            | Command::Barrier(_) => {
                Err(Error::new(Code::InvalidRequest, "a command of a shard was proposed to the metadata group"))
            }
        }
    }

    fn assign_slots(&mut self, assign: &internal::AssignSlots) -> Result<CommandResult, Error> {
        let view = self.cluster.view();
        let is_there = |shard: ShardId| view.cluster.is_none() || view.shards.contains_key(&shard);
        self.slots.assign(&assign.shards, is_there)
    }

    fn create_topic(&mut self, create: &internal::CreateTopic) -> Result<CommandResult, Error> {
        let id = topic_id(&create.topic)?;
        check_topic_name(&create.name)?;
        let config = config(create.config.as_ref())?;
        let tenant = TenantId(create.tenant);
        let key = (tenant, create.name.clone());
        if let Some(there) = self.names.get(&key) {
            if *there == id {
                // The same creation, which came twice.
                return Ok(CommandResult::Done);
            }
            return Err(Error::new(Code::TopicExists, format!("there is already a topic `{}`", create.name)));
        }
        if self.topics.contains_key(&id) {
            return Err(Error::new(Code::Conflict, format!("topic id {id} is taken; try again")));
        }
        let partitions = u32::try_from(create.shards.len()).unwrap_or(u32::MAX);
        if !(1..=MAX_PARTITIONS).contains(&partitions) || self.topics.len() >= MAX_TOPICS {
            let message =
                format!("a topic has 1 to {MAX_PARTITIONS} partitions, and there are at most {MAX_TOPICS} topics");
            return Err(Error::new(Code::InvalidRequest, message));
        }
        let shards: Vec<ShardId> = create.shards.iter().map(|shard| ShardId(*shard)).collect();
        self.check_shards(&create.name, &shards)?;
        let topic = TopicInfo { id, tenant, name: create.name.clone(), partitions, config, shards };
        self.names.insert(key, id);
        self.topics.insert(id, Arc::new(topic));
        Ok(CommandResult::Done)
    }

    /// Partitions live on shards that there are; a data directory that is of no cluster yet has no list of them.
    fn check_shards(&self, name: &str, shards: &[ShardId]) -> Result<(), Error> {
        let view = self.view();
        let unknown = shards.iter().find(|shard| shard.0 == 0 || !view.shards.contains_key(shard));
        match unknown.filter(|_| view.cluster.is_some()) {
            Some(shard) => {
                let message = format!("a partition of topic `{name}` was placed on shard {shard}, which there is not");
                Err(Error::new(Code::InvalidRequest, message))
            }
            None => Ok(()),
        }
    }

    fn alter_topic(&mut self, alter: &internal::AlterTopic) -> Result<CommandResult, Error> {
        let id = topic_id(&alter.topic)?;
        let config = config(alter.config.as_ref())?;
        let topic = self.topics.get(&id).ok_or_else(|| unknown(id))?;
        let shards = self.grown(topic, &alter.shards)?;
        let topic = self.topics.get_mut(&id).ok_or_else(|| unknown(id))?;
        if alter.expect.as_ref().is_some_and(|expect| *expect != topic.config.to_internal()) {
            let message = format!("the settings of topic `{}` were changed at the same time; try again", topic.name);
            return Err(Error::new(Code::Conflict, message));
        }
        let topic = Arc::make_mut(topic);
        topic.config = config;
        if let Some(shards) = shards {
            topic.partitions = shards.len() as u32;
            topic.shards = shards;
        }
        Ok(CommandResult::Done)
    }

    /// The shards of the partitions of a topic that gets more of them; `None` if it gets none. Those that it has stay where they
    /// are: their records are there.
    fn grown(&self, topic: &TopicInfo, shards: &[u32]) -> Result<Option<Vec<ShardId>>, Error> {
        if shards.is_empty() {
            return Ok(None);
        }
        let shards: Vec<ShardId> = shards.iter().map(|shard| ShardId(*shard)).collect();
        if !shards.starts_with(&topic.shards) {
            let message = format!("the partitions of topic `{}` were changed at the same time; try again", topic.name);
            return Err(Error::new(Code::Conflict, message));
        }
        if shards.len() > MAX_PARTITIONS as usize {
            return Err(Error::new(Code::InvalidRequest, format!("a topic has at most {MAX_PARTITIONS} partitions")));
        }
        self.check_shards(&topic.name, &shards)?;
        Ok(Some(shards))
    }

    fn delete_topic(&mut self, delete: &internal::DeleteTopic) -> Result<CommandResult, Error> {
        let id = topic_id(&delete.topic)?;
        let topic = self.topics.remove(&id).ok_or_else(|| unknown(id))?;
        self.names.remove(&(topic.tenant, topic.name.clone()));
        Ok(CommandResult::Done)
    }

    fn allocate_producer_ids(&mut self, count: u32) -> Result<CommandResult, Error> {
        let first = self.next_producer;
        match first.checked_add(i64::from(count)) {
            Some(next) if (1..=MAX_PRODUCER_IDS).contains(&count) => {
                self.next_producer = next;
                Ok(CommandResult::ProducerIds(ProducerId(first)))
            }
            _ => Err(Error::new(Code::InvalidRequest, format!("{count} producer ids cannot be reserved at once"))),
        }
    }
}

fn topic_id(bytes: &[u8]) -> Result<TopicId, Error> {
    let malformed = || Error::new(Code::CorruptData, "the topic id of a command does not have 16 bytes");
    TopicId::from_slice(bytes).ok_or_else(malformed)
}

fn config(config: Option<&internal::TopicConfig>) -> Result<TopicConfig, Error> {
    let config = config.ok_or_else(|| Error::new(Code::CorruptData, "a topic command came without settings"))?;
    TopicConfig::from_internal(config)
}

fn unknown(id: TopicId) -> Error {
    Error::new(Code::UnknownTopic, format!("there is no topic with id {id}: it was deleted"))
}

#[cfg(test)]
mod tests {
    use stratalog_proto::entry::EntryBuilder;

    use super::*;

    fn create(name: &str, shards: &[u32]) -> (TopicId, Command) {
        let id = TopicId::new();
        let create = internal::CreateTopic {
            topic: id.to_bytes(),
            tenant: 0,
            name: name.to_owned(),
            config: Some(TopicConfig::default().to_internal()),
            shards: shards.to_vec(),
        };
        (id, Command::CreateTopic(create))
    }

    fn apply(state: &mut MetaState, commands: &[Command]) -> Vec<Result<CommandResult, Code>> {
        let mut entry = EntryBuilder::with_capacity(0);
        commands.iter().for_each(|command| entry.push(command));
        let entry = Entry::parse(entry.finish(1)).unwrap();
        let results = state.apply(RaftIndex(1), &entry).unwrap();
        results.into_iter().map(|result| result.map_err(|error| error.code)).collect()
    }

    #[test]
    fn a_name_created_again_is_a_new_id() {
        let mut state = MetaState::default();
        let (first, create_first) = create("t", &[1, 2]);
        let (second, create_second) = create("t", &[1]);
        let delete = Command::DeleteTopic(internal::DeleteTopic { topic: first.to_bytes() });
        let done = Ok(CommandResult::Done);
        let results = apply(&mut state, &[create_first, create_second.clone(), delete.clone(), create_second, delete]);
        assert_eq!(results, [done.clone(), Err(Code::TopicExists), done.clone(), done, Err(Code::UnknownTopic)]);
        assert_eq!(state.topics().map(|topic| topic.id).collect::<Vec<_>>(), [second]);
        assert_eq!(state.load(), BTreeMap::from([(ShardId(1), 1)]));
    }

    #[test]
    fn a_creation_that_comes_twice_took_effect_once() {
        let mut state = MetaState::default();
        let (id, create) = create("t", &[1]);
        let done = Ok(CommandResult::Done);
        assert_eq!(apply(&mut state, &[create.clone(), create]), [done.clone(), done]);
        assert_eq!(state.topics().map(|topic| topic.id).collect::<Vec<_>>(), [id]);
        assert_eq!(state.load(), BTreeMap::from([(ShardId(1), 1)]));
    }

    #[test]
    fn settings_made_of_others_than_those_there_are_refused() {
        let mut state = MetaState::default();
        let (topic, create) = create("t", &[1]);
        let settings = |max_message_bytes| TopicConfig { max_message_bytes, ..TopicConfig::default() }.to_internal();
        let alter = |expect: Option<u32>, to| {
            let (config, expect) = (Some(settings(to)), expect.map(settings));
            Command::AlterTopic(internal::AlterTopic { topic: topic.to_bytes(), config, expect, shards: vec![] })
        };
        let (done, conflict) = (Ok(CommandResult::Done), Err(Code::Conflict));
        let alters = [alter(None, 2_000), alter(Some(2_000), 3_000), alter(Some(2_000), 4_000), alter(None, 5_000)];
        assert_eq!(apply(&mut state, &[create]), std::slice::from_ref(&done));
        assert_eq!(apply(&mut state, &alters), [done.clone(), done.clone(), conflict, done]);
        assert_eq!(state.topics().next().unwrap().config.max_message_bytes, 5_000);
    }

    #[test]
    fn a_topic_grows_and_what_it_has_stays_where_it_is() {
        let mut state = MetaState::default();
        let (topic, create) = create("t", &[1, 2]);
        let config = TopicConfig::default().to_internal();
        let grow = |shards: &[u32]| {
            let (config, shards) = (Some(config.clone()), shards.to_vec());
            Command::AlterTopic(internal::AlterTopic { topic: topic.to_bytes(), config, expect: None, shards })
        };
        let too_many: Vec<u32> = [1, 2, 2].into_iter().chain(std::iter::repeat_n(1, MAX_PARTITIONS as usize)).collect();
        let (done, conflict, refused) = (Ok(CommandResult::Done), Err(Code::Conflict), Err(Code::InvalidRequest));
        let commands = [
            create,
            grow(&[1, 2, 2]),
            // The same, which came twice.
            grow(&[1, 2, 2]),
            grow(&[]),
            grow(&[1, 2]),
            grow(&[2, 2, 2, 1]),
            grow(&too_many),
        ];
        let results = apply(&mut state, &commands);
        let expected = [&done, &done, &done, &done, &conflict, &conflict, &refused];
        assert_eq!(results.iter().collect::<Vec<_>>(), expected);
        assert_eq!(apply(&mut state, &[grow(&[1, 2, 2, 1])]), [done]);
        let grown = state.topic(topic).unwrap();
        assert_eq!((grown.partitions, &grown.shards[..]), (4, &[1, 2, 2, 1].map(ShardId)[..]));
        assert_eq!(MetaState::decode(state.encode().into()), Ok(state));
    }

    #[test]
    fn producer_ids_are_never_given_twice() {
        let mut state = MetaState::default();
        let allocate = |count| Command::AllocateProducerIds(internal::AllocateProducerIds { count });
        let results = apply(&mut state, &[allocate(10), allocate(0), allocate(5), allocate(u32::MAX), allocate(1)]);
        let ids = |first| Ok(CommandResult::ProducerIds(ProducerId(first)));
        assert_eq!(results, [ids(0), Err(Code::InvalidRequest), ids(10), Err(Code::InvalidRequest), ids(15)]);
    }

    #[test]
    fn a_state_is_read_back_as_it_was() {
        let mut state = MetaState::default();
        let (gone, create_gone) = create("gone", &[3]);
        let allocate = Command::AllocateProducerIds(internal::AllocateProducerIds { count: 7 });
        let delete = Command::DeleteTopic(internal::DeleteTopic { topic: gone.to_bytes() });
        let (_, kept) = create("kept", &[1, 2, 1]);
        apply(&mut state, &[create_gone, kept, create("other", &[2]).1, allocate, delete]);
        let image = state.encode();
        let decoded = MetaState::decode(image.clone().into()).unwrap();
        assert_eq!((&decoded, decoded.encode()), (&state, image));
        assert_eq!(MetaState::decode(MetaState::default().encode().into()), Ok(MetaState::default()));
    }

    #[test]
    fn topics_live_on_shards_that_there_are_once_there_is_a_cluster() {
        let mut state = MetaState::default();
        let node = internal::Node { incarnation: vec![1; 16].into(), ..internal::Node::default() };
        let cluster = vec![2; 16].into();
        let init = internal::InitCluster { cluster, node: Some(node), shards: 2, replication: 3 };
        let commands = [
            create("before", &[7]).1,
            Command::InitCluster(init),
            create("there", &[1, 2]).1,
            create("beyond", &[3]).1,
            create("meta", &[0]).1,
        ];
        let results = apply(&mut state, &commands);
        let refused = Err(Code::InvalidRequest);
        let node = Ok(CommandResult::Node(stratalog_proto::NodeId(1)));
        assert_eq!(results, [Ok(CommandResult::Done), node, Ok(CommandResult::Done), refused.clone(), refused]);
        assert_eq!(MetaState::decode(state.encode().into()), Ok(state));
    }

    #[test]
    fn x1_a_state_that_contradicts_itself_is_refused() {
        use prost::Message;
        type Change = fn(&mut internal::MetaState);
        let changes: &[(&str, Change)] = &[
            ("a topic twice", |s| s.topics.push(s.topics[0].clone())),
            ("topics out of order", |s| s.topics.swap(0, 1)),
            ("a name twice", |s| s.topics[1].name = s.topics[0].name.clone()),
            ("no settings", |s| s.topics[0].config = None),
            ("no partitions", |s| s.topics[0].shards.clear()),
            ("an id of no bytes", |s| s.topics[0].topic.clear()),
            ("producer ids below 0", |s| s.next_producer = -1),
        ];
        let mut state = MetaState::default();
        apply(&mut state, &[create("a", &[1]).1, create("b", &[1, 2]).1]);
        for (name, change) in changes {
            let mut raw = internal::MetaState::decode(&state.encode()[..]).unwrap();
            change(&mut raw);
            let refused = MetaState::decode(raw.encode_to_vec().into());
            assert_eq!(refused.unwrap_err().code, Code::CorruptData, "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn x1_damaged_bytes_never_panic(at in 0..1_000usize, byte in proptest::prelude::any::<u8>()) {
            let mut state = MetaState::default();
            apply(&mut state, &[create("a", &[1]).1, create("b", &[1, 2]).1]);
            let mut image = state.encode();
            let at = at % image.len();
            image[at] ^= byte;
            let _ = MetaState::decode(image.into());
        }
    }

    #[test]
    fn malformed_topics_are_refused_whole() {
        let mut state = MetaState::default();
        let results = apply(&mut state, &[create("../x", &[1]).1, create("ok", &[]).1]);
        assert_eq!(results, [Err(Code::InvalidTopicName), Err(Code::InvalidRequest)]);
        assert_eq!(state.topics().count(), 0);
    }
}

//! Log entries: one pre-encoded frame that holds a list of commands. Bytes in `docs/FORMATS.md`, "Entry".
//!
//! Record batches stay as slices of the entry from the moment it is built until it leaves in a fetch.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::internal::{
    AllocateProducerIds, AlterTopic, AssignSlots, Barrier, ChangeReplicas, CheckState, CommitOffsets, CreateShards,
    CreateTopic, DeleteGroup, DeleteOffsets, DeleteRecords, DeleteTopic, Drop, Erase, EraseDone, ExpireOffsets,
    GroupState, InitCluster, Merge, PutNode, PutTopic, RaiseLevel, RemoveNode, RemoveTopic, Repack, ReplicaChanged,
    Roll, Seal, SetNodeState,
};
use crate::{Code, Error, PartitionId, TopicId, bounded};

/// The version of the entry frame.
pub const ENTRY_VERSION: u8 = 1;
/// Bytes before the first command: version, three zeroes, count, time.
pub const ENTRY_HEADER_BYTES: usize = 16;
/// Bytes before a command's body: kind, version, two zeroes, length.
pub const COMMAND_HEADER_BYTES: usize = 8;
/// Bytes of an Append body before its record batch: topic, partition.
pub const APPEND_HEADER_BYTES: usize = 20;
/// The most commands in one entry.
pub const MAX_COMMANDS: u32 = 65_536;

/// What one command of an entry does.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// A record batch for a partition: the hot path.
    Append(Append),
    /// Moves a row frontier.
    Seal(Seal),
    /// Removes segments from the manifest.
    Drop(Drop),
    /// Hosts partitions of a topic on this shard.
    PutTopic(PutTopic),
    /// Forgets a topic.
    RemoveTopic(RemoveTopic),
    /// Moves the replay frontier.
    Roll(Roll),
    /// Rewrites a packed replay segment.
    Repack(Repack),
    /// Compares the state of the replicas.
    CheckState(CheckState),
    /// Replaces column segments by others with the same rows.
    Merge(Merge),
    /// Moves log starts forward.
    DeleteRecords(DeleteRecords),
    /// Begins to erase records.
    Erase(Erase),
    /// Ends an erasure.
    EraseDone(EraseDone),
    /// Changes nothing; behind it, older files without a name are garbage.
    Barrier(Barrier),
    /// Who is in a consumer group.
    GroupState(GroupState),
    /// How far a consumer group has read.
    CommitOffsets(CommitOffsets),
    /// Forgets a consumer group.
    DeleteGroup(DeleteGroup),
    /// Forgets offsets of a consumer group.
    DeleteOffsets(DeleteOffsets),
    /// Forgets offsets of a consumer group that nobody needed for long.
    ExpireOffsets(ExpireOffsets),
    /// Meta: a new topic.
    CreateTopic(CreateTopic),
    /// Meta: new settings of a topic.
    AlterTopic(AlterTopic),
    /// Meta: deletes a topic.
    DeleteTopic(DeleteTopic),
    /// Meta: reserves producer ids.
    AllocateProducerIds(AllocateProducerIds),
    /// Meta: begins the cluster.
    InitCluster(InitCluster),
    /// Meta: adds a node, or renews what is known of it.
    PutNode(PutNode),
    /// Meta: drains a node, or makes it active again.
    SetNodeState(SetNodeState),
    /// Meta: forgets a node.
    RemoveNode(RemoveNode),
    /// Meta: adds shards.
    CreateShards(CreateShards),
    /// Meta: changes who is to have a replica of a shard.
    ChangeReplicas(ChangeReplicas),
    /// Meta: says what became of a replica in its group.
    ReplicaChanged(ReplicaChanged),
    /// Meta: allows what every node knows by now.
    RaiseLevel(RaiseLevel),
    /// Meta: says in which shard each consumer group lives.
    AssignSlots(AssignSlots),
}

/// One record batch on its way into a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// Where it goes.
    pub topic: TopicId,
    /// Where it goes.
    pub partition: PartitionId,
    /// A whole Kafka v2 batch with base offset 0, as the client sent it.
    pub batch: Bytes,
}

mod kind {
    pub(super) const APPEND: u8 = 1;
    pub(super) const SEAL: u8 = 2;
    pub(super) const DROP: u8 = 3;
    pub(super) const PUT_TOPIC: u8 = 4;
    pub(super) const REMOVE_TOPIC: u8 = 5;
    pub(super) const ROLL: u8 = 6;
    pub(super) const REPACK: u8 = 7;
    pub(super) const CHECK_STATE: u8 = 8;
    pub(super) const MERGE: u8 = 9;
    pub(super) const DELETE_RECORDS: u8 = 10;
    pub(super) const ERASE: u8 = 11;
    pub(super) const ERASE_DONE: u8 = 12;
    pub(super) const BARRIER: u8 = 13;
    pub(super) const GROUP_STATE: u8 = 14;
    pub(super) const COMMIT_OFFSETS: u8 = 15;
    pub(super) const DELETE_GROUP: u8 = 16;
    pub(super) const DELETE_OFFSETS: u8 = 17;
    pub(super) const EXPIRE_OFFSETS: u8 = 18;
    pub(super) const CREATE_TOPIC: u8 = 32;
    pub(super) const ALTER_TOPIC: u8 = 33;
    pub(super) const DELETE_TOPIC: u8 = 34;
    pub(super) const ALLOCATE_PRODUCER_IDS: u8 = 35;
    pub(super) const INIT_CLUSTER: u8 = 36;
    pub(super) const PUT_NODE: u8 = 37;
    pub(super) const SET_NODE_STATE: u8 = 38;
    pub(super) const REMOVE_NODE: u8 = 39;
    pub(super) const CREATE_SHARDS: u8 = 40;
    pub(super) const CHANGE_REPLICAS: u8 = 41;
    pub(super) const REPLICA_CHANGED: u8 = 42;
    pub(super) const RAISE_LEVEL: u8 = 43;
    pub(super) const ASSIGN_SLOTS: u8 = 44;
}

impl Command {
    fn kind(&self) -> u8 {
        match self {
            Command::Append(_) => kind::APPEND,
            Command::Seal(_) => kind::SEAL,
            Command::Drop(_) => kind::DROP,
            Command::PutTopic(_) => kind::PUT_TOPIC,
            Command::RemoveTopic(_) => kind::REMOVE_TOPIC,
            Command::Roll(_) => kind::ROLL,
            Command::Repack(_) => kind::REPACK,
            Command::CheckState(_) => kind::CHECK_STATE,
            Command::Merge(_) => kind::MERGE,
            Command::DeleteRecords(_) => kind::DELETE_RECORDS,
            Command::Erase(_) => kind::ERASE,
            Command::EraseDone(_) => kind::ERASE_DONE,
            Command::Barrier(_) => kind::BARRIER,
            Command::GroupState(_) => kind::GROUP_STATE,
            Command::CommitOffsets(_) => kind::COMMIT_OFFSETS,
            Command::DeleteGroup(_) => kind::DELETE_GROUP,
            Command::DeleteOffsets(_) => kind::DELETE_OFFSETS,
            Command::ExpireOffsets(_) => kind::EXPIRE_OFFSETS,
            Command::CreateTopic(_) => kind::CREATE_TOPIC,
            Command::AlterTopic(_) => kind::ALTER_TOPIC,
            Command::DeleteTopic(_) => kind::DELETE_TOPIC,
            Command::AllocateProducerIds(_) => kind::ALLOCATE_PRODUCER_IDS,
            Command::InitCluster(_) => kind::INIT_CLUSTER,
            Command::PutNode(_) => kind::PUT_NODE,
            Command::SetNodeState(_) => kind::SET_NODE_STATE,
            Command::RemoveNode(_) => kind::REMOVE_NODE,
            Command::CreateShards(_) => kind::CREATE_SHARDS,
            Command::ChangeReplicas(_) => kind::CHANGE_REPLICAS,
            Command::ReplicaChanged(_) => kind::REPLICA_CHANGED,
            Command::RaiseLevel(_) => kind::RAISE_LEVEL,
            Command::AssignSlots(_) => kind::ASSIGN_SLOTS,
        }
    }

    /// Bytes that this command takes in an entry.
    pub fn encoded_len(&self) -> usize {
        COMMAND_HEADER_BYTES + self.body_len()
    }

    fn body_len(&self) -> usize {
        match self {
            Command::Append(append) => APPEND_HEADER_BYTES + append.batch.len(),
            Command::Seal(m) => m.encoded_len(),
            Command::Drop(m) => m.encoded_len(),
            Command::PutTopic(m) => m.encoded_len(),
            Command::RemoveTopic(m) => m.encoded_len(),
            Command::Roll(m) => m.encoded_len(),
            Command::Repack(m) => m.encoded_len(),
            Command::CheckState(m) => m.encoded_len(),
            Command::Merge(m) => m.encoded_len(),
            Command::DeleteRecords(m) => m.encoded_len(),
            Command::Erase(m) => m.encoded_len(),
            Command::EraseDone(m) => m.encoded_len(),
            Command::Barrier(m) => m.encoded_len(),
            Command::GroupState(m) => m.encoded_len(),
            Command::CommitOffsets(m) => m.encoded_len(),
            Command::DeleteGroup(m) => m.encoded_len(),
            Command::DeleteOffsets(m) => m.encoded_len(),
            Command::ExpireOffsets(m) => m.encoded_len(),
            Command::CreateTopic(m) => m.encoded_len(),
            Command::AlterTopic(m) => m.encoded_len(),
            Command::DeleteTopic(m) => m.encoded_len(),
            Command::AllocateProducerIds(m) => m.encoded_len(),
            Command::InitCluster(m) => m.encoded_len(),
            Command::PutNode(m) => m.encoded_len(),
            Command::SetNodeState(m) => m.encoded_len(),
            Command::RemoveNode(m) => m.encoded_len(),
            Command::CreateShards(m) => m.encoded_len(),
            Command::ChangeReplicas(m) => m.encoded_len(),
            Command::ReplicaChanged(m) => m.encoded_len(),
            Command::RaiseLevel(m) => m.encoded_len(),
            Command::AssignSlots(m) => m.encoded_len(),
        }
    }

    fn encode_body(&self, out: &mut BytesMut) {
        match self {
            Command::Append(append) => {
                out.put_slice(append.topic.as_bytes());
                out.put_u32_le(append.partition.0);
                out.put_slice(&append.batch);
            }
            Command::Seal(m) => m.encode_raw(out),
            Command::Drop(m) => m.encode_raw(out),
            Command::PutTopic(m) => m.encode_raw(out),
            Command::RemoveTopic(m) => m.encode_raw(out),
            Command::Roll(m) => m.encode_raw(out),
            Command::Repack(m) => m.encode_raw(out),
            Command::CheckState(m) => m.encode_raw(out),
            Command::Merge(m) => m.encode_raw(out),
            Command::DeleteRecords(m) => m.encode_raw(out),
            Command::Erase(m) => m.encode_raw(out),
            Command::EraseDone(m) => m.encode_raw(out),
            Command::Barrier(m) => m.encode_raw(out),
            Command::GroupState(m) => m.encode_raw(out),
            Command::CommitOffsets(m) => m.encode_raw(out),
            Command::DeleteGroup(m) => m.encode_raw(out),
            Command::DeleteOffsets(m) => m.encode_raw(out),
            Command::ExpireOffsets(m) => m.encode_raw(out),
            Command::CreateTopic(m) => m.encode_raw(out),
            Command::AlterTopic(m) => m.encode_raw(out),
            Command::DeleteTopic(m) => m.encode_raw(out),
            Command::AllocateProducerIds(m) => m.encode_raw(out),
            Command::InitCluster(m) => m.encode_raw(out),
            Command::PutNode(m) => m.encode_raw(out),
            Command::SetNodeState(m) => m.encode_raw(out),
            Command::RemoveNode(m) => m.encode_raw(out),
            Command::CreateShards(m) => m.encode_raw(out),
            Command::ChangeReplicas(m) => m.encode_raw(out),
            Command::ReplicaChanged(m) => m.encode_raw(out),
            Command::RaiseLevel(m) => m.encode_raw(out),
            Command::AssignSlots(m) => m.encode_raw(out),
        }
    }

    fn decode(kind: u8, version: u8, body: Bytes) -> Result<Self, Error> {
        if version != 1 {
            return Err(newer(format!("command of kind {kind} has version {version}, this node knows version 1")));
        }
        fn cold<M: Message + Default>(body: Bytes, wrap: fn(M) -> Command) -> Result<Command, Error> {
            let command = bounded::decode(body, bounded::MAX_OF_LIST);
            command.map(wrap).map_err(|e| malformed(format!("command body does not decode: {e}")))
        }
        match kind {
            kind::APPEND => Append::decode(body).map(Command::Append),
            kind::SEAL => cold(body, Command::Seal),
            kind::DROP => cold(body, Command::Drop),
            kind::PUT_TOPIC => cold(body, Command::PutTopic),
            kind::REMOVE_TOPIC => cold(body, Command::RemoveTopic),
            kind::ROLL => cold(body, Command::Roll),
            kind::REPACK => cold(body, Command::Repack),
            kind::CHECK_STATE => cold(body, Command::CheckState),
            kind::MERGE => cold(body, Command::Merge),
            kind::DELETE_RECORDS => cold(body, Command::DeleteRecords),
            kind::ERASE => cold(body, Command::Erase),
            kind::ERASE_DONE => cold(body, Command::EraseDone),
            kind::BARRIER => cold(body, Command::Barrier),
            kind::GROUP_STATE => cold(body, Command::GroupState),
            kind::COMMIT_OFFSETS => cold(body, Command::CommitOffsets),
            kind::DELETE_GROUP => cold(body, Command::DeleteGroup),
            kind::DELETE_OFFSETS => cold(body, Command::DeleteOffsets),
            kind::EXPIRE_OFFSETS => cold(body, Command::ExpireOffsets),
            kind::CREATE_TOPIC => cold(body, Command::CreateTopic),
            kind::ALTER_TOPIC => cold(body, Command::AlterTopic),
            kind::DELETE_TOPIC => cold(body, Command::DeleteTopic),
            kind::ALLOCATE_PRODUCER_IDS => cold(body, Command::AllocateProducerIds),
            kind::INIT_CLUSTER => cold(body, Command::InitCluster),
            kind::PUT_NODE => cold(body, Command::PutNode),
            kind::SET_NODE_STATE => cold(body, Command::SetNodeState),
            kind::REMOVE_NODE => cold(body, Command::RemoveNode),
            kind::CREATE_SHARDS => cold(body, Command::CreateShards),
            kind::CHANGE_REPLICAS => cold(body, Command::ChangeReplicas),
            kind::REPLICA_CHANGED => cold(body, Command::ReplicaChanged),
            kind::RAISE_LEVEL => cold(body, Command::RaiseLevel),
            kind::ASSIGN_SLOTS => cold(body, Command::AssignSlots),
            other => Err(newer(format!("command kind {other} is not known to this node"))),
        }
    }
}

impl Append {
    fn decode(body: Bytes) -> Result<Self, Error> {
        if body.len() < APPEND_HEADER_BYTES {
            return Err(malformed(format!("Append body of {} bytes is shorter than its header", body.len())));
        }
        let topic = TopicId::from_slice(&body[..16]).expect("16 bytes");
        let partition = PartitionId(u32::from_le_bytes(body[16..20].try_into().expect("4 bytes")));
        Ok(Self { topic, partition, batch: body.slice(APPEND_HEADER_BYTES..) })
    }
}

/// Builds an entry in one buffer: the one copy that a record batch sees on its way to the log.
pub struct EntryBuilder {
    buffer: BytesMut,
    count: u32,
}

impl EntryBuilder {
    /// An empty entry, with room for `capacity` bytes of commands.
    pub fn with_capacity(capacity: usize) -> Self {
        let mut buffer = BytesMut::with_capacity(ENTRY_HEADER_BYTES + capacity);
        buffer.put_bytes(0, ENTRY_HEADER_BYTES);
        buffer[0] = ENTRY_VERSION;
        Self { buffer, count: 0 }
    }

    /// Adds a command.
    ///
    /// # Panics
    /// At [`MAX_COMMANDS`] commands, or for a body of 4 GiB: the batcher stops long before.
    pub fn push(&mut self, command: &Command) {
        assert!(self.count < MAX_COMMANDS, "an entry holds at most {MAX_COMMANDS} commands");
        let len = u32::try_from(command.body_len()).expect("a command is smaller than 4 GiB");
        self.buffer.reserve(COMMAND_HEADER_BYTES + len as usize);
        self.buffer.put_u8(command.kind());
        self.buffer.put_u8(1);
        self.buffer.put_u16_le(0);
        self.buffer.put_u32_le(len);
        command.encode_body(&mut self.buffer);
        self.count += 1;
    }

    /// The number of commands so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The finished entry. `time_ns` is `entry.time`: the larger of the previous entry's and the proposer's clock.
    pub fn finish(mut self, time_ns: i64) -> Bytes {
        self.buffer[4..8].copy_from_slice(&self.count.to_le_bytes());
        self.buffer[8..16].copy_from_slice(&time_ns.to_le_bytes());
        self.buffer.freeze()
    }
}

/// An entry read back: its time, and its commands one by one as slices of the same buffer.
#[derive(Clone, Debug)]
pub struct Entry {
    time_ns: i64,
    count: u32,
    commands: Bytes,
}

impl Entry {
    /// Reads the header of an entry.
    ///
    /// # Errors
    /// [`Code::NewerVersion`] or [`Code::CorruptData`].
    pub fn parse(bytes: Bytes) -> Result<Self, Error> {
        if bytes.len() < ENTRY_HEADER_BYTES {
            return Err(malformed(format!("entry of {} bytes is shorter than its header", bytes.len())));
        }
        if bytes[0] != ENTRY_VERSION {
            return Err(newer(format!("entry has version {}, this node knows version {ENTRY_VERSION}", bytes[0])));
        }
        let count = u32::from_le_bytes(bytes[4..8].try_into().expect("4 bytes"));
        if count > MAX_COMMANDS {
            return Err(malformed(format!("entry claims {count} commands, at most {MAX_COMMANDS} are allowed")));
        }
        let time_ns = i64::from_le_bytes(bytes[8..16].try_into().expect("8 bytes"));
        let commands = bytes.slice(ENTRY_HEADER_BYTES..);
        if count as usize > commands.len() / COMMAND_HEADER_BYTES {
            return Err(malformed(format!("entry claims {count} commands in {} bytes", commands.len())));
        }
        Ok(Self { time_ns, count, commands })
    }

    /// `entry.time`, in nanoseconds since the epoch; `_ingested_at` of its records.
    pub fn time_ns(&self) -> i64 {
        self.time_ns
    }

    /// The number of commands.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is no command.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The commands, in order.
    pub fn commands(&self) -> Commands {
        Commands { left: self.count, position: ENTRY_HEADER_BYTES, rest: self.commands.clone() }
    }
}

/// The commands of an [`Entry`].
#[derive(Clone, Debug)]
pub struct Commands {
    left: u32,
    position: usize,
    rest: Bytes,
}

impl Commands {
    /// Where the next command begins, in bytes from the start of the entry. Right after an Append was returned, its
    /// batch ends here.
    pub fn position(&self) -> usize {
        self.position
    }

    fn read(&mut self) -> Result<Command, Error> {
        if self.rest.len() < COMMAND_HEADER_BYTES {
            return Err(malformed(format!("entry ends inside a command's header, {} commands early", self.left)));
        }
        let header = self.rest.split_to(COMMAND_HEADER_BYTES);
        let len = u32::from_le_bytes(header[4..8].try_into().expect("4 bytes")) as usize;
        if len > self.rest.len() {
            return Err(malformed(format!("a command claims {len} bytes, {} are left", self.rest.len())));
        }
        self.position += COMMAND_HEADER_BYTES + len;
        Command::decode(header[0], header[1], self.rest.split_to(len))
    }
}

impl Iterator for Commands {
    type Item = Result<Command, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let read = self.read();
        if read.is_err() {
            self.left = 0;
        }
        Some(read)
    }
}

fn malformed(message: String) -> Error {
    Error::new(Code::CorruptData, message)
}

fn newer(message: String) -> Error {
    Error::new(Code::NewerVersion, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn append(batch: Vec<u8>) -> Command {
        Command::Append(Append { topic: TopicId::new(), partition: PartitionId(7), batch: batch.into() })
    }

    #[test]
    fn entry_round_trips() {
        let commands = [
            append(vec![1, 2, 3]),
            Command::Drop(Drop { topic: TopicId::new().to_bytes(), segments: vec![] }),
            append(vec![]),
        ];
        let mut builder = EntryBuilder::with_capacity(0);
        commands.iter().for_each(|c| builder.push(c));
        let bytes = builder.finish(42);
        let entry = Entry::parse(bytes.clone()).unwrap();
        assert_eq!(entry.time_ns(), 42);
        assert_eq!(entry.commands().collect::<Result<Vec<_>, _>>().unwrap(), commands);
        let mut walk = entry.commands();
        walk.next();
        assert_eq!(bytes[walk.position() - 3..walk.position()], [1, 2, 3]);
    }

    #[test]
    fn unknown_kind_is_a_newer_version() {
        let mut builder = EntryBuilder::with_capacity(0);
        builder.push(&append(vec![]));
        let mut bytes = builder.finish(0).to_vec();
        bytes[ENTRY_HEADER_BYTES] = 200;
        let error = Entry::parse(bytes.into()).unwrap().commands().next().unwrap().unwrap_err();
        assert_eq!(error.code, Code::NewerVersion);
    }

    #[test]
    fn x1_an_entry_has_room_for_the_commands_that_it_claims() {
        let mut builder = EntryBuilder::with_capacity(0);
        builder.push(&append(vec![1]));
        let mut bytes = builder.finish(0).to_vec();
        bytes[4..8].copy_from_slice(&60_000_u32.to_le_bytes());
        assert_eq!(Entry::parse(bytes.into()).unwrap_err().code, Code::CorruptData);
    }

    proptest! {
        #[test]
        fn x1_garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(entry) = Entry::parse(bytes.into()) {
                let _ = entry.commands().count();
            }
        }
    }
}

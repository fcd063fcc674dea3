//! Clients that keep a cluster busy through the Rust SDK, and note what they did and what came of it.

mod consumer;
mod finale;
mod group;
mod kafka_consumer;
mod kafka_producer;
mod known;
mod operator;
mod producer;
mod reader;
mod record;
mod whole;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use stratalog_client::{Client, ClientError};
use stratalog_proto::Code;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::error::Elapsed;

use crate::failure::Failure;
use crate::history::{ClientKind, Line, Outcome, Probe, Process, Role, When, Writer};
use crate::kafka::{self, Clients, Handle};
use known::Known;

pub(crate) use finale::finish;
pub(crate) use group::Group;
pub(crate) use whole::{read_from, read_partitions};

/// A record's text has the word `value % WORDS`.
pub(crate) const WORDS: u64 = 5;
/// Who reads, or changes metadata, waits no longer for a node.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// How long the clients may take to end.
const ENDS_WITHIN: Duration = Duration::from_secs(90);

/// What every run looks at that has clients in processes of their own.
pub(crate) const NO_KAFKA_CLIENT_ENDS: &str = "no Kafka client ends by itself";

/// How much load there is.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) topic: String,
    pub(crate) partitions: u32,
    /// Producers that know all nodes, and what each of them sends in a second.
    pub(crate) producers: u32,
    pub(crate) records_a_second: u32,
    /// Bytes that each record has beside what it says.
    pub(crate) padding: usize,
    /// Consumers that know all nodes.
    pub(crate) consumers: u32,
    /// Of the topic.
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) kafka: KafkaLoad,
}

/// Clients through librdkafka, beside the others.
#[derive(Clone, Debug, Default)]
pub(crate) struct KafkaLoad {
    pub(crate) producers: u32,
    pub(crate) records_a_second: u32,
    pub(crate) consumers: u32,
    /// Of a consumer group; with them, one that asks what the group has committed.
    pub(crate) members: u32,
}

/// Everything that clients share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) history: Writer,
    pub(crate) load: Load,
    pub(crate) known: Mutex<Known>,
    seed: u64,
    values: AtomicU64,
    metadata: operator::Keys,
    /// Whether a process of a client ended by itself.
    lost_client: AtomicBool,
    stop: watch::Sender<bool>,
}

/// Running clients.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) shared: Arc<Shared>,
    clients: JoinSet<()>,
    /// Members of a consumer group, if the run has one; they go on until everything is read.
    pub(crate) group: Option<Group>,
}

impl Shared {
    pub(crate) fn new(history: Writer, load: Load, seed: u64) -> Self {
        Self {
            known: Mutex::new(Known::new(load.partitions)),
            history,
            load,
            seed,
            values: AtomicU64::new(0),
            metadata: operator::Keys::new(seed),
            lost_client: AtomicBool::new(false),
            stop: watch::Sender::new(false),
        }
    }

    /// A number that no other record has. They ascend.
    fn next_value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::SeqCst)
    }

    /// Random numbers of one client.
    fn random(&self, process: u32) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed ^ (u64::from(process) << 40))
    }

    fn is_over(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits, but not beyond the end of the load.
    async fn sleep(&self, time: Duration) {
        let mut stop = self.stop.subscribe();
        let over = stop.wait_for(|over| *over);
        // It ends with whichever comes first; the sender lives as long as this.
        let _ = tokio::time::timeout(time, over).await;
    }

    /// Runs one operation and measures it.
    async fn timed<T>(&self, operation: impl Future<Output = T>) -> (When, T) {
        let invoked = self.history.now();
        let answer = operation.await;
        (When(invoked, self.history.now()), answer)
    }

    pub(crate) fn note(&self, line: &Line) {
        self.history.note(line);
    }

    /// Waits for the end of a client that answers no more, and notes it if nobody asked for it.
    async fn note_end(&self, client: &Handle) {
        if let Err(why) = client.ended().await {
            eprintln!("  {why}");
            self.lost_client.store(true, Ordering::SeqCst);
            self.probe_clients(false, why);
        }
    }

    fn probe_clients(&self, held: bool, detail: String) {
        let (what, now) = (NO_KAFKA_CLIENT_ENDS.to_owned(), self.history.now());
        self.note(&Line::Probe(Probe { what, at: When(now, now), held, detail }));
    }

    /// Notes that all clients in processes of their own lived as long as they were to, if they did.
    pub(crate) fn look_for_lost_clients(&self) {
        if !self.lost_client.load(Ordering::SeqCst) {
            self.probe_clients(true, String::new());
        }
    }
}

/// All clients of a run: number, role, and the node that one of them is bound to. Operations name them by these numbers.
pub(crate) fn processes(load: &Load, nodes: &[u64]) -> Vec<Process> {
    let mut all = Vec::new();
    let mut add = |role, node| add_process(&mut all, role, node, ClientKind::Sdk);
    (0..load.producers).for_each(|_| add(Role::Producer, None));
    (0..load.consumers).for_each(|_| add(Role::Consumer, None));
    [Role::Querier, Role::Searcher].into_iter().for_each(|role| add(role, None));
    // What a node answers when it wakes up is asked of it before: several watchers are more likely to be in time.
    let watchers = [Role::Watcher; 3];
    for role in [Role::Producer, Role::Consumer, Role::Querier, Role::Operator].into_iter().chain(watchers) {
        nodes.iter().for_each(|node| add(role, Some(*node)));
    }
    // They go where the leaders are: none can be bound to a node.
    let KafkaLoad { producers, consumers, members, .. } = load.kafka;
    let counts = [
        (Role::Producer, producers),
        (Role::Consumer, consumers),
        (Role::Member, members),
        (Role::Observer, members.min(1)),
    ];
    for (role, count) in counts {
        (0..count).for_each(|_| add_process(&mut all, role, None, ClientKind::Librdkafka));
    }
    all
}

fn add_process(all: &mut Vec<Process>, role: Role, node: Option<u64>, client: ClientKind) {
    all.push(Process { process: all.len() as u32 + 1, role, node, client });
}

impl Workload {
    /// Makes the topic, and starts all clients. `addresses` are those of the nodes by number; `kafka` starts clients in processes of
    /// their own, if there are to be any. To be called on the thread that the harness began on.
    ///
    /// # Errors
    /// If a client cannot be made while all is well.
    pub(crate) async fn start(
        shared: Shared,
        processes: &[Process],
        addresses: &BTreeMap<u64, String>,
        kafka: Option<&Clients>,
    ) -> Result<Self, Failure> {
        let all: Vec<&str> = addresses.values().map(String::as_str).collect();
        let of_all = Client::connect(&all.join(",")).await?;
        of_all.create_topic(&shared.load.topic, shared.load.partitions, &shared.load.settings).await?;
        let shared = Arc::new(shared);
        let mut clients = JoinSet::new();
        for process in processes.iter().filter(|process| process.client == ClientKind::Sdk) {
            let client = match process.node {
                None => Client::connect(&all.join(",")).await?,
                Some(node) => {
                    let address = addresses.get(&node).ok_or_else(|| Failure(format!("there is no node {node}")))?;
                    Client::connect_only(address).await?
                }
            };
            begin(&mut clients, Arc::clone(&shared), process.clone(), client);
        }
        let mut group = None;
        if let Some(kafka) = kafka {
            processes.iter().try_for_each(|process| begin_kafka(&mut clients, &shared, process, kafka))?;
            group = Group::start(&shared, processes, kafka)?;
        }
        Ok(Self { shared, clients, group })
    }

    /// Stops all clients but members of a group, and waits until they have noted what became of what they did.
    ///
    /// # Errors
    /// If one has panicked, or does not end.
    pub(crate) async fn stop(mut self) -> Result<(Arc<Shared>, Option<Group>), Failure> {
        self.shared.stop.send_replace(true);
        let ended = async {
            while let Some(ended) = self.clients.join_next().await {
                ended.map_err(|error| Failure(format!("a client of the harness failed: {error}")))?;
            }
            Ok::<_, Failure>(())
        };
        let late = |_| Failure(format!("the clients did not end within {ENDS_WITHIN:?}"));
        tokio::time::timeout(ENDS_WITHIN, ended).await.map_err(late)??;
        Ok((self.shared, self.group))
    }
}

fn begin(clients: &mut JoinSet<()>, shared: Arc<Shared>, process: Process, client: Client) {
    match process.role {
        Role::Producer => drop(clients.spawn(producer::run(shared, process, client))),
        Role::Consumer => drop(clients.spawn(consumer::run(shared, process, client))),
        Role::Querier => drop(clients.spawn(reader::query(shared, process, client))),
        Role::Searcher => drop(clients.spawn(reader::search(shared, process, client))),
        Role::Watcher => drop(clients.spawn(reader::watch(shared, process, client))),
        Role::Operator => drop(clients.spawn(operator::run(shared, process, client))),
        // There are none of the SDK.
        Role::Member | Role::Observer => {}
    }
}

/// Members of a group are begun with it.
fn begin_kafka(
    clients: &mut JoinSet<()>,
    shared: &Arc<Shared>,
    process: &Process,
    kafka: &Clients,
) -> Result<(), Failure> {
    if process.client != ClientKind::Librdkafka {
        return Ok(());
    }
    let (number, shared) = (process.process, Arc::clone(shared));
    match process.role {
        Role::Producer => {
            let client = kafka.start(number, kafka::Kind::Producer, &kafka_producer::settings(number))?;
            clients.spawn(kafka_producer::run(shared, number, client));
        }
        Role::Consumer => {
            let client = kafka.start(number, kafka::Kind::Consumer, &[])?;
            clients.spawn(kafka_consumer::run(shared, number, client));
        }
        _ => {}
    }
    Ok(())
}

/// The outcome of something that only reads: it failed, or it did not.
fn read_outcome<T>(answer: Result<Result<T, ClientError>, Elapsed>) -> Outcome<T> {
    match answer {
        Ok(Ok(answer)) => Outcome::Ok(answer),
        Ok(Err(error)) => Outcome::Fail(told(&error)),
        Err(_) => Outcome::Info("no answer in time".to_owned()),
    }
}

fn told(error: &ClientError) -> String {
    format!("{}: {}", error.code(), error.message())
}

/// Whether a change that failed so certainly did nothing.
fn did_nothing(code: Code) -> bool {
    matches!(code, Code::NotLeader | Code::NotFormed | Code::Conflict)
}

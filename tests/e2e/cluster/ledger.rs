//! What was written to a cluster, and what became of it.
//!
//! Writers keep a topic busy and note each outcome: acknowledged at an offset, refused, or unknown. At the end each replica is
//! read, and SQL and search are asked, and all have to agree with the notes and with each other.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use stratalog_client::{Client, Compression, Delivery, OutRecord, ProducerOptions, SendError};
use stratalog_proto::{PartitionId, RaftIndex, ShardId, Token};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::agreement::{agree, agree_on_prefix};
use super::nodes::Cluster;

/// Records that a writer sends a second: enough that every moment has some in flight, little enough for two cores.
const RECORDS_A_SECOND: u32 = 400;
/// Some records have each of these words.
pub(super) const WORDS: u64 = 10;
/// A record may take as long as the longest fault lasts, and the cluster needs to come back.
const DEADLINE: Duration = Duration::from_secs(90);
pub(super) const PARTITIONS: u32 = 6;

/// Outcomes of all writers.
#[derive(Default)]
pub(super) struct Notes {
    /// (partition, offset) → the record's id.
    pub(super) acknowledged: BTreeMap<(u32, u64), String>,
    /// They are certainly not in the log.
    pub(super) refused: BTreeSet<String>,
    pub(super) unknown: BTreeSet<String>,
    tokens: HashMap<ShardId, RaftIndex>,
    /// When acknowledgements came.
    times: Vec<Instant>,
}

/// A topic, and what its records look like.
#[derive(Clone)]
pub(super) struct Written {
    pub(super) topic: String,
    /// Bytes that each record has beside what it says.
    padding: usize,
}

/// Writers to a topic, until they are told to stop.
pub(super) struct Ledger {
    written: Written,
    notes: Arc<Mutex<Notes>>,
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<()>>,
}

impl Ledger {
    /// Makes the topic, and starts writers that know all nodes.
    pub(super) fn begin(cluster: &Cluster, topic: &str, writers: u32) -> Self {
        Self::begin_padded(cluster, topic, writers, 0)
    }

    /// As `begin`, with records that have so many bytes more, so that logs and files fill sooner.
    pub(super) fn begin_padded(cluster: &Cluster, topic: &str, writers: u32, padding: usize) -> Self {
        let create = ["topic", "create", topic, "--partitions", &PARTITIONS.to_string()];
        cluster.run(&create).ok();
        let written = Written { topic: topic.to_owned(), padding };
        let (notes, stop) = (Arc::default(), Arc::default());
        let start = |writer| {
            let name = format!("{topic}-{writer}");
            let (written, notes, stop) = (written.clone(), Arc::clone(&notes), Arc::clone(&stop));
            cluster.runtime.spawn(write(cluster.client(), written, name, notes, stop))
        };
        let writers = (0..writers).map(start).collect();
        Self { written, notes, stop, writers }
    }

    /// Waits until so many more records were acknowledged.
    pub(super) fn wait_for(&self, cluster: &Cluster, more: usize) {
        let wanted = self.notes.lock().times.len() + more;
        cluster.wait(&format!("{more} more records are acknowledged"), |_| {
            let so_far = self.notes.lock().times.len();
            if so_far >= wanted { Ok(()) } else { Err(format!("{} are missing", wanted - so_far)) }
        });
    }

    /// Waits until so many more records were acknowledged in each partition.
    pub(super) fn wait_for_each(&self, cluster: &Cluster, more: usize) {
        let before = self.notes.lock().by_partition();
        cluster.wait(&format!("{more} more records are acknowledged in each partition"), |_| {
            let now = self.notes.lock().by_partition();
            let has_more = |at: usize| now[at] >= before[at] + more;
            let missing = (0..now.len()).find(|at| !has_more(*at));
            missing.map_or(Ok(()), |partition| Err(format!("partition {partition} lacks some")))
        });
    }

    /// The longest time without an acknowledgement since `from`, up to now.
    pub(super) fn longest_gap(&self, from: Instant) -> Duration {
        let mut times: Vec<Instant> = self.notes.lock().times.iter().copied().filter(|time| *time >= from).collect();
        times.extend([from, Instant::now()]);
        times.sort();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
    }

    /// Panics if a writer was told of a failure: they retry, and the fault is one that a client need not hear of.
    pub(super) fn refused_nothing(&self) {
        let notes = self.notes.lock();
        assert!(notes.refused.is_empty(), "{} records were refused", notes.refused.len());
        assert!(notes.unknown.is_empty(), "of {} records nobody knows", notes.unknown.len());
    }

    /// What was acknowledged so far: how many records, and the tokens that cover them.
    pub(super) fn known(&self) -> (usize, Vec<Token>) {
        let notes = self.notes.lock();
        (notes.acknowledged.len(), notes.tokens())
    }

    /// Compares another cluster, which was restored, with this one: its records are the first ones of each partition, and its
    /// rows are those. How many there are.
    pub(super) fn check_prefix(&self, cluster: &Cluster, restored: &Client) -> usize {
        agree_on_prefix(cluster, restored, &self.written.topic)
    }

    /// Stops the writers, waits until the cluster is whole, and compares. Panics with what does not agree.
    pub(super) fn check(mut self, cluster: &Cluster) {
        self.stop.store(true, Ordering::Release);
        for writer in self.writers.drain(..) {
            cluster.runtime.block_on(writer).expect("a writer does not panic");
        }
        cluster.wait_whole();
        cluster.runtime.block_on(write_last(cluster.client(), &self.written, &self.notes));
        let notes = self.notes.lock();
        assert!(notes.acknowledged.len() > 100, "only {} records: the test tested little", notes.acknowledged.len());
        agree(cluster, &self.written, &notes);
    }
}

impl Notes {
    pub(super) fn tokens(&self) -> Vec<Token> {
        self.tokens.iter().map(|(shard, index)| Token { shard: *shard, index: *index }).collect()
    }

    /// Records that were acknowledged in each partition.
    fn by_partition(&self) -> [usize; PARTITIONS as usize] {
        let mut counts = [0; PARTITIONS as usize];
        self.acknowledged.keys().for_each(|(partition, _)| counts[*partition as usize] += 1);
        counts
    }
}

impl Written {
    /// The record of an id, which ends with a number: all of it follows from the id.
    pub(super) fn record(&self, id: &str) -> OutRecord {
        let number = number_of(id);
        let mut random = fastrand::Rng::with_seed(number);
        let padding: String = (0..self.padding).map(|_| random.alphanumeric()).collect();
        let text = format!("the word{} of {id}", number % WORDS);
        let value = format!("{{\"id\":\"{id}\",\"text\":\"{text}\",\"padding\":\"{padding}\"}}");
        let headers = vec![("id".to_owned(), Some(id.to_owned().into())), ("none".to_owned(), None)];
        OutRecord { headers, ..OutRecord::keyed(id.to_owned(), value) }
    }
}

/// The number at the end of an id.
pub(super) fn number_of(id: &str) -> u64 {
    let last = id.rsplit('-').next().and_then(|last| last.parse().ok());
    last.expect("ids end with a number")
}

fn options() -> ProducerOptions {
    let (linger, compression) = (Duration::from_millis(2), Compression::None);
    ProducerOptions { deadline: DEADLINE, linger, compression, ..ProducerOptions::default() }
}

async fn write(client: Client, written: Written, name: String, notes: Arc<Mutex<Notes>>, stop: Arc<AtomicBool>) {
    let producer = client.producer(&written.topic, options()).await.expect("the topic is there");
    let (outcomes, told) = mpsc::unbounded_channel();
    let noting = tokio::spawn(note(told, notes.clone()));
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / RECORDS_A_SECOND);
    for number in 0_u64.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        ticks.tick().await;
        let id = format!("{name}-{number}");
        match producer.send(written.record(&id)).await {
            Ok(delivery) => outcomes.send((id, delivery)).expect("the task that notes lives longer"),
            // The buffer is full: it was not taken.
            Err(_) => drop(notes.lock().refused.insert(id)),
        }
    }
    drop(outcomes);
    noting.await.expect("noting does not panic");
}

/// One more record to each partition: its token covers what was written before it with an unknown outcome, too.
async fn write_last(client: Client, written: &Written, notes: &Arc<Mutex<Notes>>) {
    let producer = client.producer(&written.topic, options()).await.expect("the topic is there");
    let (outcomes, told) = mpsc::unbounded_channel();
    for partition in 0..PARTITIONS {
        let id = format!("last-{partition}");
        let record = OutRecord { partition: Some(PartitionId(partition)), ..written.record(&id) };
        let delivery = producer.send(record).await.expect("an empty buffer has room");
        outcomes.send((id, delivery)).expect("the other side is held");
    }
    drop(outcomes);
    note(told, notes.clone()).await;
    let acknowledged = notes.lock().acknowledged.values().filter(|id| id.starts_with("last-")).count();
    assert_eq!(acknowledged, PARTITIONS as usize, "a whole cluster acknowledges one more record in each partition");
}

async fn note(mut told: mpsc::UnboundedReceiver<(String, Delivery)>, notes: Arc<Mutex<Notes>>) {
    while let Some((id, delivery)) = told.recv().await {
        let outcome = delivery.await;
        let mut notes = notes.lock();
        match outcome {
            Ok(ack) => {
                notes.times.push(Instant::now());
                let highest = notes.tokens.entry(ack.token.shard).or_default();
                *highest = (*highest).max(ack.token.index);
                let before = notes.acknowledged.insert((ack.partition.0, ack.offset.0), id.clone());
                assert_eq!(before, None, "L2: offset {} of partition {} was given twice", ack.offset, ack.partition);
            }
            Err(SendError::Failed { .. }) => drop(notes.refused.insert(id)),
            Err(SendError::Unknown { .. }) => drop(notes.unknown.insert(id)),
        }
    }
}

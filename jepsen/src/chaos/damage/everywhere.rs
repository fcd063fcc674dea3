//! Damage on all nodes: of each file one copy, or of one file all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use futures::future::join_all;
use stratalog_client::Client;

use super::files::{Target, Wound, name_of};
use super::harm::Harm;
use super::{Chaos, fault};
use crate::cluster::Started;
use crate::failure::Failure;
use crate::history::When;
use crate::workload::read_partitions;

pub(crate) const HALTS_NAMED: &str =
    "records whose bytes are damaged everywhere are named with their offsets, and all others can be read";

/// Copies of segments, by their names.
type Copies = BTreeMap<String, Vec<(u64, PathBuf)>>;

impl Chaos<'_> {
    /// All nodes stop, and of every segment that several of them have, one copy loses a chunk.
    pub(in crate::chaos) async fn damage_each_once(&mut self) -> Result<(), Failure> {
        let all = self.cluster.numbers();
        let began = self.now();
        all.iter().try_for_each(|node| self.cluster.kill(*node))?;
        let mut wounds: Vec<Wound> = Vec::new();
        for copies in self.copies()?.into_values().filter(|copies| copies.len() > 1) {
            let (_, path) = self.random.choice(copies).ok_or_else(|| Failure::new("a segment without copies"))?;
            wounds.extend(Wound::inflict(path, Harm::Zeroed, &[], &mut self.random)?);
        }
        self.start_all(&all).await?;
        let at = When(began, self.now());
        self.wait_whole().await?;
        for node in &all {
            self.read_all_of(*node, Target::Col).await?;
        }
        self.wait_whole().await?;
        let detail = format!("a chunk of zeroes in {} segments", wounds.len());
        if !wounds.is_empty() {
            self.note(fault("damage-once", &all, at, self.all_partitions(), detail));
        }
        self.sleep_ms(1_000..3_000).await;
        Ok(())
    }

    /// All nodes stop, and the same bit of all copies of one replay segment flips.
    pub(in crate::chaos) async fn damage_on_all(&mut self) -> Result<(), Failure> {
        let all = self.cluster.numbers();
        let began = self.now();
        all.iter().try_for_each(|node| self.cluster.kill(*node))?;
        let Some(copies) = self.oldest_everywhere(&all)? else {
            self.start_all(&all).await?;
            return self.wait_whole().await;
        };
        // The same seed hits the same place of the same bytes.
        let seed = self.random.u64(..);
        let mut wounds = Vec::new();
        for path in copies {
            wounds.extend(Wound::inflict_front(path, &mut fastrand::Rng::with_seed(seed))?);
        }
        self.start_all(&all).await?;
        let halted = self.others_serve().await?;
        let ended = self.now();
        all.iter().try_for_each(|node| self.cluster.kill(*node))?;
        wounds.iter().try_for_each(Wound::mend)?;
        self.start_all(&all).await?;
        let detail = wounds.first().map_or_else(String::new, |wound| format!("{} {}", wound.name(), wound.how));
        if halted > 0 {
            self.note(fault("damage-on-all", &all, When(began, ended), self.all_partitions(), detail));
        } else {
            eprintln!("  it was made again of the log: {detail}");
        }
        self.wait_whole().await?;
        self.sleep_ms(1_000..2_000).await;
        Ok(())
    }

    fn copies(&self) -> Result<Copies, Failure> {
        let mut copies = Copies::new();
        for number in self.cluster.numbers() {
            let data = &self.cluster.node(number)?.data;
            for path in [Target::Rec, Target::Col].iter().flat_map(|target| target.files(data)) {
                copies.entry(name_of(&path)).or_default().push((number, path));
            }
        }
        Ok(copies)
    }

    /// A replay segment that every node has, the oldest: its name begins with the time at which it was made. The log of later ones
    /// may still be there, and they are made again.
    fn oldest_everywhere(&self, all: &[u64]) -> Result<Option<Vec<PathBuf>>, Failure> {
        let is_everywhere =
            |(name, copies): &(String, Vec<(u64, PathBuf)>)| name.ends_with(".rec") && copies.len() == all.len();
        let oldest = self.copies()?.into_iter().find(is_everywhere);
        Ok(oldest.map(|(_, copies)| copies.into_iter().map(|(_, path)| path).collect()))
    }

    async fn start_all(&mut self, all: &[u64]) -> Result<(), Failure> {
        all.iter().try_for_each(|node| self.cluster.launch(*node))?;
        for node in all {
            if let Started::Refused(words) = self.cluster.wait_started(*node).await? {
                return Err(Failure(format!("node {node} does not start: {words}")));
            }
        }
        for shard in self.shards().await.into_values().collect::<BTreeSet<u32>>() {
            self.cluster.leader_of(shard, &[]).await?;
        }
        Ok(())
    }

    /// Partitions that cannot be read say which offsets; whatever the others give is what was sent. How many cannot be read.
    async fn others_serve(&mut self) -> Result<usize, Failure> {
        let began = self.now();
        let client: Client = self.cluster.client().await?;
        let all = self.all_partitions();
        let reads = all.iter().map(|partition| read_partitions(&self.shared, &client, std::slice::from_ref(partition)));
        let reads = join_all(reads.collect::<Vec<_>>()).await;
        let wrong: Vec<&String> = reads.iter().flatten().flatten().collect();
        let halted: Vec<&Failure> = reads.iter().filter_map(|read| read.as_ref().err()).collect();
        let named = halted.iter().all(|why| why.0.contains("offset"));
        let held = wrong.is_empty() && named && halted.len() < all.len();
        let example = halted.first().map_or_else(String::new, |why| why.to_string());
        let detail =
            format!("{} of {} partitions halt: {example}; {} records are wrong", halted.len(), all.len(), wrong.len());
        if held {
            eprintln!("  {detail}");
        }
        let count = halted.len();
        self.probe(HALTS_NAMED, began, held, detail);
        Ok(count)
    }
}

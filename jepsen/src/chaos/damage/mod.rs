//! Files are damaged or gone while their nodes do not run.
//!
//! What is promised of a start after that: the node serves, gets what is damaged from others, and keeps what is damaged of its log
//! aside; or it says which file is damaged, ends, and changes nothing. Then the harness does what its operator would: it puts the
//! file back.

mod aside;
mod everywhere;
mod files;
mod gone;
mod harm;
mod logs;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Chaos, fault};
use crate::cluster::{Found, Started};
use crate::failure::Failure;
use crate::history::{Micros, When};
use crate::workload::read_from;
use files::{Contents, Target, Wound, changed, content, contents, name_of};
use harm::Harm;

pub(crate) use everywhere::HALTS_NAMED;

pub(crate) const DAMAGE_IS_FOUND: &str = "a look at the files of a node that does not run names those that are damaged";
pub(crate) const REFUSAL_NAMES: &str = "a node that does not start for damage names the file, and changes nothing";
pub(crate) const KEPT_ASIDE: &str = "what is damaged of a log is kept as it is by a node that goes on without it";
pub(crate) const NO_BAD_BYTE: &str = "a node whose files were damaged serves what was sent, or says that it cannot yet";
pub(crate) const WHOLE_AGAIN: &str = "segments that were damaged are whole again once they were read";

/// Where bits flip, and where chunks are lost.
const DATA: [Target; 3] = [Target::Rec, Target::Col, Target::Lane];
/// What a replica is lost with.
const META: [Target; 2] = [Target::Vote, Target::State];
/// Losses of small files.
const OF_SMALL: [Harm; 3] = [Harm::Flips, Harm::Truncated, Harm::Zeroed];
/// How long a leader keeps on being asked to give a shard away.
const MOVES_WITHIN: Duration = Duration::from_secs(20);
/// How long it may take until everything can be read again.
const WHOLE_WITHIN: Duration = Duration::from_secs(90);
/// Nodes that read their segments again have done so, twice, and have fetched what was damaged.
const SCRUBBED_WITHIN: Duration = Duration::from_secs(12);
const READ_AGAIN: Duration = Duration::from_millis(300);

/// How a node came back over damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    /// Nothing that it needs was damaged, or it is repaired as it is read.
    Whole,
    /// Without what was damaged of its log.
    SetAside,
    /// It did not start until the files were put back.
    PutBack,
}

impl Came {
    fn in_words(self) -> &'static str {
        match self {
            Self::Whole => "it started",
            Self::SetAside => "it started, and set aside what was damaged",
            Self::PutBack => "it did not start until they were put back",
        }
    }
}

impl Chaos<'_> {
    /// Two bits of every file of a kind on one node.
    pub(super) async fn flip_bits(&mut self, round: usize) -> Result<(), Failure> {
        self.damage_one("flip", DATA[round % DATA.len()], Harm::Flips).await
    }

    /// A chunk of every file of a kind on one node.
    pub(super) async fn lose_chunks(&mut self, round: usize) -> Result<(), Failure> {
        let harm = Harm::OF_CHUNKS[round / DATA.len() % Harm::OF_CHUNKS.len()];
        self.damage_one("lose-chunk", DATA[round % DATA.len()], harm).await
    }

    /// A vote or a state of every shard on one node.
    pub(super) async fn damage_votes(&mut self, round: usize) -> Result<(), Failure> {
        let harm = OF_SMALL[round / META.len() % OF_SMALL.len()];
        self.damage_one("damage", META[round % META.len()], harm).await
    }

    async fn damage_one(&mut self, kind: &str, target: Target, harm: Harm) -> Result<(), Failure> {
        let (node, partitions) = self.some_leader().await?;
        if target.files(&self.cluster.node(node)?.data).is_empty() {
            // The first ones take a while.
            self.sleep_ms(1_000..2_000).await;
            return Ok(());
        }
        let earlier = self.earlier(node, target, harm).await?;
        let began = self.now();
        self.cluster.kill(node)?;
        let wounds = self.inflict(node, target, harm, &earlier)?;
        let found = self.look_found(node, target, &wounds)?;
        let came = self.start_damaged(node, &wounds).await?;
        let ended = self.now();
        self.wait_whole().await?;
        aside::clear(&self.cluster.node(node)?.data)?;
        self.read_all_of(node, target).await?;
        self.whole_again(node, target).await?;
        let (files, name) = (wounds.len(), target.name());
        let how = wounds.first().map_or_else(String::new, |wound| format!("{} {}", wound.name(), wound.how));
        let detail = format!("{files} files; {how}; {}", came.in_words());
        if found || came != Came::Whole {
            self.note(fault(&format!("{kind}-{name}"), &[node], When(began, ended), partitions, detail));
        } else {
            eprintln!("  nobody needs what was damaged: {detail}");
        }
        self.sleep_ms(500..1_500).await;
        Ok(())
    }

    /// What files of a node are now, for chunks that become it again later.
    async fn earlier(&mut self, node: u64, target: Target, harm: Harm) -> Result<BTreeMap<PathBuf, Vec<u8>>, Failure> {
        if (target, harm) != (Target::Lane, Harm::Stale) {
            return Ok(BTreeMap::new());
        }
        let files = target.files(&self.cluster.node(node)?.data);
        // A log file may go meanwhile.
        let read = files.into_iter().filter_map(|path| std::fs::read(&path).ok().map(|bytes| (path, bytes))).collect();
        self.sleep_ms(1_500..3_000).await;
        Ok(read)
    }

    fn inflict(
        &mut self,
        node: u64,
        target: Target,
        harm: Harm,
        earlier: &BTreeMap<PathBuf, Vec<u8>>,
    ) -> Result<Vec<Wound>, Failure> {
        let files = target.files(&self.cluster.node(node)?.data);
        // Bytes that belong elsewhere: a device may mix up where it writes.
        let another = files.last().map(std::fs::read).transpose()?.unwrap_or_default();
        let mut wounds = Vec::new();
        for path in files {
            let stale = if target == Target::Lane { earlier.get(&path) } else { Some(&another) };
            let stale = stale.map(Vec::as_slice).unwrap_or_default();
            wounds.extend(Wound::inflict(path, harm, stale, &mut self.random)?);
        }
        Ok(wounds)
    }

    /// Whether `log verify` finds the damage. It has to, but for bytes of the log that nobody needs any more.
    fn look_found(&self, node: u64, target: Target, wounds: &[Wound]) -> Result<bool, Failure> {
        let began = self.now();
        let found = self.cluster.verify_files(node)?;
        let is_named = |wound: &&Wound| found.iter().any(|found| name_of(&found.file) == wound.name());
        let (named, silent): (Vec<&Wound>, Vec<&Wound>) = wounds.iter().partition(is_named);
        if target != Target::Lane {
            let missed =
                silent.first().map_or_else(String::new, |wound| format!("{} {}", wound.path.display(), wound.how));
            self.probe(
                DAMAGE_IS_FOUND,
                began,
                silent.is_empty(),
                format!("{} of {}: {missed}", silent.len(), wounds.len()),
            );
        }
        Ok(!named.is_empty())
    }

    /// Starts a node over damage. One that refuses to gets the files put back.
    async fn start_damaged(&mut self, node: u64, wounds: &[Wound]) -> Result<Came, Failure> {
        let data = self.cluster.node(node)?.data.clone();
        let before = contents(&data)?;
        let began = self.now();
        let words = match self.cluster.try_launch(node).await? {
            Started::Serves => return self.look_kept(node, &before, began),
            Started::Refused(words) => words,
        };
        let changed = changed(&before, &contents(&data)?);
        let is_named = wounds.iter().any(|wound| words.contains(&wound.name()));
        let detail = format!("node {node} said `{words}` and changed {changed:?}");
        self.probe(REFUSAL_NAMES, began, is_named && changed.is_empty(), detail);
        // The others go on without it.
        self.sleep_ms(1_000..3_000).await;
        wounds.iter().try_for_each(Wound::mend)?;
        self.cluster.launch(node)?;
        Ok(Came::PutBack)
    }

    /// Looks at what a node that serves has set aside: it has to be what was damaged, byte for byte.
    fn look_kept(&mut self, node: u64, before: &Contents, began: Micros) -> Result<Came, Failure> {
        let kept = aside::files(&self.cluster.node(node)?.data);
        if kept.is_empty() {
            return Ok(Came::Whole);
        }
        let mut other = Vec::new();
        for (was, is) in &kept {
            if before.get(was) != Some(&content(is)?) {
                other.push(is.display().to_string());
            }
        }
        self.probe(KEPT_ASIDE, began, other.is_empty(), format!("node {node}, {} files: {other:?}", kept.len()));
        Ok(Came::SetAside)
    }

    /// Reads everything from a node's own replicas until that succeeds: each time, what is found damaged is fetched from others. A
    /// node has to lead to be asked for its rows.
    async fn read_all_of(&mut self, node: u64, target: Target) -> Result<(), Failure> {
        let rows = target == Target::Col;
        if rows {
            self.have_lead(node).await;
        }
        let (began, deadline) = (self.now(), Instant::now() + WHOLE_WITHIN);
        let address = self.cluster.node(node)?.grpc.clone();
        let mut refused: u32 = 0;
        let wrong = loop {
            match read_from(&self.shared, &address, rows).await {
                Ok(wrong) => break wrong.into_iter().next(),
                Err(why) if Instant::now() >= deadline => break Some(why.to_string()),
                Err(_) => refused += 1,
            }
            tokio::time::sleep(READ_AGAIN).await;
        };
        if refused > 0 {
            eprintln!("  node {node} refused {refused} reads of damaged files");
        }
        self.probe(NO_BAD_BYTE, began, wrong.is_none(), format!("node {node}: {}", wrong.unwrap_or_default()));
        Ok(())
    }

    /// Moves the shards of the topic to a node, as far as that goes.
    async fn have_lead(&self, node: u64) {
        let shards: BTreeSet<u32> = self.shards().await.into_values().collect();
        let moved = async {
            let client = self.cluster.client().await?;
            for shard in shards {
                if let Err(why) = client.transfer_leader(shard, Some(node)).await {
                    eprintln!("  shard {shard} was not moved to node {node}: {}", why.message());
                }
            }
            Ok::<_, Failure>(())
        };
        if !matches!(tokio::time::timeout(MOVES_WITHIN, moved).await, Ok(Ok(()))) {
            eprintln!("  not all shards were moved to node {node}");
        }
    }

    /// Stops a node, and looks whether its replay segments are whole: all of them were read. Of column segments, what no query has
    /// touched is found only by nodes that read their segments again.
    async fn whole_again(&mut self, node: u64, target: Target) -> Result<(), Failure> {
        if !target.has_copies() {
            return Ok(());
        }
        let scrubs = self.cluster.scrubs();
        tokio::time::sleep(if scrubs { SCRUBBED_WITHIN } else { Duration::ZERO }).await;
        self.wait_whole().await?;
        let began = self.now();
        if let Err(why) = self.cluster.stop(node).await {
            self.probe("a node that is asked to stop does so", began, false, why.0);
        }
        let damaged = self.cluster.verify_files(node)?.into_iter().filter(|found| found.severity == "damage");
        let was_read =
            |found: &Found| scrubs || found.file.extension().is_some_and(|found| found == Target::Rec.name());
        let (read, others): (Vec<Found>, Vec<Found>) = damaged.partition(was_read);
        self.cluster.launch(node)?;
        if !others.is_empty() {
            eprintln!("  {} column segments of node {node} are damaged where nobody has read", others.len());
        }
        let example =
            read.first().map_or_else(String::new, |found| format!("{}: {}", found.file.display(), found.what));
        self.probe(WHOLE_AGAIN, began, read.is_empty(), format!("{} files of node {node}: {example}", read.len()));
        self.wait_whole().await
    }
}

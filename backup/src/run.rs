//! From a cluster to a target.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use async_trait::async_trait;
use stratalog_proto::v1::copy_ask::Ask;
use stratalog_proto::v1::{CopyAnswer, CopyHead};
use stratalog_proto::{Code, Error};

use crate::lease::Lease;
use crate::manifest::{Manifest, Part};
use crate::names::{self, Work};
use crate::pace::Pace;
use crate::shard::{Opened, Sent, Way, cluster_of, open};
use crate::target::Target;

/// Shards that are open at the same time: they are of nearly one moment. A leader has 128 copies open at most, and
/// all shards may have the same one.
const WINDOW: usize = 64;
/// How often a shard is copied anew when its copy broke off.
const TRIES: u32 = 6;
/// The pause before that: the first; each one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// How often shards that came meanwhile are looked for.
const MAX_LOOKS: usize = 8;
/// The metadata group.
const META: u32 = 0;

/// What is copied.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// A connection for the copy of one shard.
    ///
    /// # Errors
    /// If no node answers.
    async fn copy(&self, shard: u32) -> Result<Box<dyn Copy>, Error>;
}

/// A shard that is being copied; `CopyShard` of the gRPC service `Backup`. What was opened stays open until this is dropped.
#[async_trait]
pub trait Copy: Send {
    /// One question, one answer.
    ///
    /// # Errors
    /// Those of the node. Nothing can be asked afterwards.
    async fn ask(&mut self, ask: Ask) -> Result<CopyAnswer, Error>;
}

/// How a backup is made.
pub struct Options<'a> {
    /// Bytes that are read from the cluster in a second; 0: as fast as it goes.
    pub bytes_per_second: u64,
    /// Called with bytes that have come.
    pub progress: &'a (dyn Fn(u64) + Send + Sync),
    /// Called with a sentence for people when something has to be waited for.
    pub notice: &'a (dyn Fn(&str) + Send + Sync),
}

/// A backup that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// What it is made of.
    pub manifest: Manifest,
    /// Segments that were sent; the others were there.
    pub sent_segments: u64,
    /// Bytes of those.
    pub sent_segment_bytes: u64,
    /// Bytes of states and logs.
    pub sent_other_bytes: u64,
}

/// Makes a backup of a cluster. Everything that was acknowledged before this was called is in it.
///
/// # Errors
/// [`Code::WrongCluster`] if the target is another cluster's; those of the cluster and of the store. The backups that are
/// there stay as they are, and the next one goes on with the segments that were copied.
pub async fn make(cluster: &dyn Cluster, target: &Target, options: &Options<'_>) -> Result<Made, Error> {
    let head = patiently(META, async || open(cluster, META).await.map(|(_, head)| head)).await?;
    target.claim(cluster_of(&head)?).await?;
    let lease = Lease::begin(target, Work::Backup).await?;
    let made = lease.hold(copy_all(cluster, &lease, head, target, options)).await;
    lease.end().await;
    made
}

async fn copy_all(
    cluster: &dyn Cluster,
    lease: &Lease<'_>,
    head: CopyHead,
    target: &Target,
    options: &Options<'_>,
) -> Result<Made, Error> {
    lease.wait_for_removals(options.notice).await?;
    let began_ms = chrono::Utc::now().timestamp_millis();
    let mut way = Way {
        target,
        id: lease.id(),
        pace: Pace::new(options.bytes_per_second),
        // Not before: what is there from now on stays.
        known: target.segments().await?,
        sent: Sent::default(),
        progress: options.progress,
    };
    let (mut done, mut wanted) = (BTreeMap::new(), head.shards);
    let last = 'whole: {
        for _ in 0..MAX_LOOKS {
            for window in wanted.chunks(WINDOW) {
                copy_window(cluster, window, &mut way, &mut done).await?;
            }
            let metadata = open_again(cluster, META, &mut way).await?;
            wanted = metadata.head.shards.iter().copied().filter(|shard| !done.contains_key(shard)).collect();
            if wanted.is_empty() {
                break 'whole metadata;
            }
        }
        return Err(Error::new(Code::Conflict, "shards are added to the cluster again and again; try it later"));
    };
    let Sent { segments, segment_bytes, other_bytes } = way.sent;
    let manifest = whole(&last.head, lease.id().to_owned(), began_ms, last.part, done.into_values().collect())?;
    commit(target, lease, &manifest).await?;
    Ok(Made { manifest, sent_segments: segments, sent_segment_bytes: segment_bytes, sent_other_bytes: other_bytes })
}

/// Makes a backup of what was copied, if all of it is still there and nobody has given this one up.
async fn commit(target: &Target, lease: &Lease<'_>, manifest: &Manifest) -> Result<(), Error> {
    let there = target.segments().await?;
    let mut named = manifest.parts().flat_map(|part| &part.segments);
    if let Some(gone) = named.find(|segment| there.get(&segment.blake3) != Some(&segment.bytes)) {
        let (path, place) = (names::segment(gone.blake3), target.place());
        let message = format!("{path} was taken away from {place} while the backup was made; run it again");
        return Err(Error::new(Code::Conflict, message));
    }
    let encoded = manifest.encode()?;
    lease.check_held()?;
    if target.create(&names::manifest(&manifest.id), encoded).await? {
        return Ok(());
    }
    let message = format!(
        "backup {} was held up for so long that it was taken for dead, and what it needs may be gone; run it again",
        manifest.id
    );
    Err(Error::new(Code::Conflict, message))
}

fn whole(head: &CopyHead, id: String, began_ms: i64, metadata: Part, shards: Vec<Part>) -> Result<Manifest, Error> {
    Ok(Manifest { id, cluster: cluster_of(head)?, feature_level: head.feature_level, began_ms, metadata, shards })
}

/// Opens some shards, and then copies them one after the other.
async fn copy_window(
    cluster: &dyn Cluster,
    shards: &[u32],
    way: &mut Way<'_>,
    done: &mut BTreeMap<u32, Part>,
) -> Result<(), Error> {
    let mut opened = VecDeque::new();
    for shard in shards {
        opened.push_back(open_again(cluster, *shard, way).await?);
    }
    while let Some(first) = opened.pop_front() {
        let (shard, mut next) = (first.part.shard, Some(first));
        // What a copy that broke off has brought is not sent again.
        let mut tries = Tries::new(shard);
        let part = loop {
            let sent = match next.take() {
                Some(opened) => opened.send_segments(way).await,
                None => match Opened::open(cluster, shard, way).await {
                    Ok(opened) => opened.send_segments(way).await,
                    Err(error) => Err(error),
                },
            };
            match sent {
                Ok(part) => break part,
                Err(error) => tries.again(error).await?,
            }
        };
        done.insert(shard, part);
    }
    Ok(())
}

async fn open_again(cluster: &dyn Cluster, shard: u32, way: &mut Way<'_>) -> Result<Opened, Error> {
    let mut tries = Tries::new(shard);
    loop {
        match Opened::open(cluster, shard, way).await {
            Ok(opened) => return Ok(opened),
            Err(error) => tries.again(error).await?,
        }
    }
}

async fn patiently<T>(shard: u32, work: impl AsyncFn() -> Result<T, Error>) -> Result<T, Error> {
    let mut tries = Tries::new(shard);
    loop {
        match work().await {
            Ok(done) => return Ok(done),
            Err(error) => tries.again(error).await?,
        }
    }
}

/// Failures of the copy of one shard.
struct Tries {
    shard: u32,
    failures: u32,
}

impl Tries {
    fn new(shard: u32) -> Self {
        Self { shard, failures: 0 }
    }

    /// Waits for the next try.
    ///
    /// # Errors
    /// The failure itself, if there is to be no other try.
    async fn again(&mut self, error: Error) -> Result<(), Error> {
        self.failures += 1;
        let may_pass = error.code.is_retriable() || matches!(error.code, Code::Timeout | Code::NotLeader);
        if !may_pass || self.failures >= TRIES {
            return Err(Error::new(error.code, format!("shard {} cannot be copied: {}", self.shard, error.message)));
        }
        tracing::debug!(shard = self.shard, %error, "a copy broke off; it is begun anew");
        tokio::time::sleep(FIRST_PAUSE * 2u32.pow(self.failures - 1)).await;
        Ok(())
    }
}

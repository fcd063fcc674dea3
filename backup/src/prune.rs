//! Keeps the newest backups, and removes the others with what only they need.
//!
//! Manifests go first: what an interrupted removal leaves are whole backups, and objects that no backup names. While a
//! backup is being made nothing is removed (see [`crate::lease`]).

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use object_store::ObjectMeta;
use object_store::path::Path;
use stratalog_proto::{Code, Error};
use uuid::Uuid;

use crate::blob::Hash;
use crate::lease::{Lease, STEP};
use crate::manifest::Manifest;
use crate::names::{self, Work};
use crate::stored::read_manifest;
use crate::target::{Target, is_tombstone};

/// What no backup ever named stays for so long: it may be about to be named, whatever else fails.
const LEFTOVER_FOR: Duration = Duration::from_secs(24 * 3600);
/// How long a backup that was taken for dead is kept from coming back.
const TOMBSTONE_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
/// Objects that are removed at once; stores take no more in one request.
const BATCH: usize = 1_000;

/// What a removal did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The backups that are gone, the oldest first.
    pub backups: Vec<String>,
    /// Objects that are gone, manifests included.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Backups that stay though not all of their objects are there, the oldest first. They do not count as kept.
    pub incomplete: Vec<String>,
}

/// Removes the backups beyond the newest `keep` that have all their objects, and then what no backup names. `made`, if it is
/// there, stays in any case.
///
/// # Errors
/// [`Code::Conflict`] if a backup is being made or another removal is under way, [`Code::CorruptData`] and
/// [`Code::NewerVersion`] if a backup that stays cannot be read: nothing is removed then. Those of the store: every backup
/// that is still there is whole, and the next removal goes on.
pub async fn keep_newest(target: &Target, keep: NonZeroU32, made: &str) -> Result<Removed, Error> {
    let owner = target.owner().await?;
    let lease = Lease::begin(target, Work::Removal).await?;
    let removed = lease.hold(remove_older(target, &lease, owner, keep, made)).await;
    lease.end().await;
    removed
}

async fn remove_older(
    target: &Target,
    lease: &Lease<'_>,
    owner: Uuid,
    keep: NonZeroU32,
    made: &str,
) -> Result<Removed, Error> {
    let others = lease.others().await?;
    if let Some(other) = others.iter().find(|other| !other.is_dead()) {
        let message = format!("nothing is removed from {} while others are at work there: {other}", target.place());
        return Err(Error::new(Code::Conflict, message));
    }
    for other in others {
        other.bury(target).await?;
    }
    let there = There::list(target, lease.now().await?).await?;
    let mut plan = Plan::default();
    for id in there.newest_first() {
        let manifest = match read_manifest(target, owner, &id).await {
            Ok(None) => continue,
            Ok(Some(manifest)) => Ok(manifest),
            Err(error) => Err(error),
        };
        plan.add(&there, id, manifest, keep, made)?;
    }
    let going = plan.going(&there);
    for path in &going.manifests {
        step(lease, async {
            target.remove(vec![path.clone()]).await?;
            target.sync_gone(path).await
        })
        .await?;
    }
    for batch in going.others.chunks(BATCH) {
        step(lease, target.remove(batch.to_vec())).await?;
    }
    let objects = (going.manifests.len() + going.others.len()) as u64;
    let oldest_first = |ids: Vec<String>| ids.into_iter().rev().collect();
    let Plan { removed, incomplete, .. } = plan;
    Ok(Removed { backups: oldest_first(removed), objects, bytes: going.bytes, incomplete: oldest_first(incomplete) })
}

/// What others could mind, in bounded time.
async fn step(lease: &Lease<'_>, work: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    lease.check_held()?;
    let late = |_| Error::new(Code::Unavailable, "removing older backups takes too long; the next removal goes on");
    tokio::time::timeout(STEP, work).await.unwrap_or_else(|elapsed| Err(late(elapsed)))
}

/// What is at a target.
#[derive(Default)]
struct There {
    segments: HashMap<Hash, Object>,
    /// Everything else of backups, with the ids of those.
    files: HashMap<Path, (String, Object)>,
    /// Manifests by the ids of their backups.
    manifests: Vec<String>,
    /// Tombstones.
    tombstones: HashSet<Path>,
}

#[derive(Clone, Copy)]
struct Object {
    bytes: u64,
    age: Duration,
}

impl There {
    async fn list(target: &Target, now: DateTime<Utc>) -> Result<Self, Error> {
        let mut there = Self::default();
        for below in [names::SEGMENTS, names::BACKUPS] {
            let mut found = target.list(below);
            while let Some(meta) = found.try_next().await? {
                there.add(&meta, now);
            }
        }
        Ok(there)
    }

    /// Whatever has another name than ours is not ours.
    fn add(&mut self, meta: &ObjectMeta, now: DateTime<Utc>) {
        let path = &meta.location;
        let object = Object { bytes: meta.size, age: (now - meta.last_modified).to_std().unwrap_or_default() };
        if let Some(hash) = names::segment_hash(path) {
            self.segments.insert(hash, object);
        } else if let Some(id) = names::backup_of(path) {
            match names::manifest_id(path) {
                Some(_) if is_tombstone(meta) => drop(self.tombstones.insert(path.clone())),
                Some(id) => self.manifests.push(id),
                None => {}
            }
            self.files.insert(path.clone(), (id, object));
        }
    }

    fn newest_first(&self) -> Vec<String> {
        let mut ids = self.manifests.clone();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ids
    }

    /// Whether everything is there that a backup names, by name and size.
    fn has_all(&self, manifest: &Manifest) -> bool {
        let has = |path: Path, bytes| bytes == 0 || self.files.get(&path).is_some_and(|(_, file)| file.bytes == bytes);
        manifest.parts().all(|part| {
            let segments = &mut part.segments.iter();
            has(names::state(&manifest.id, part.shard), part.state.bytes)
                && has(names::log(&manifest.id, part.shard), part.log.bytes)
                && segments.all(|named| self.segments.get(&named.blake3).is_some_and(|file| file.bytes == named.bytes))
        })
    }
}

/// Which backups stay.
#[derive(Default)]
struct Plan {
    /// Backups that stay and are whole.
    kept: u32,
    /// Segments that they name, whole or not.
    needed: HashSet<Hash>,
    /// The newest first, as the following.
    removed: Vec<String>,
    /// Segments that these name.
    freed: HashSet<Hash>,
    incomplete: Vec<String>,
}

/// What is removed.
#[derive(Default)]
struct Going {
    manifests: Vec<Path>,
    others: Vec<Path>,
    bytes: u64,
}

impl Plan {
    /// Decides on the next older backup.
    ///
    /// # Errors
    /// Those of `manifest`, unless it is damaged and would be removed.
    fn add(
        &mut self,
        there: &There,
        id: String,
        manifest: Result<Manifest, Error>,
        keep: NonZeroU32,
        made: &str,
    ) -> Result<(), Error> {
        let stays = self.kept < keep.get() || id == made;
        let manifest = match manifest {
            Ok(manifest) => manifest,
            Err(error) if error.code == Code::CorruptData && !stays => {
                self.removed.push(id);
                return Ok(());
            }
            Err(error) => {
                let message = format!("what backup {id} needs is not known, so nothing is removed: {}", error.message);
                return Err(Error::new(error.code, message));
            }
        };
        let named = manifest.parts().flat_map(|part| &part.segments).map(|segment| segment.blake3);
        if !stays {
            self.freed.extend(named);
            self.removed.push(id);
            return Ok(());
        }
        self.needed.extend(named);
        if there.has_all(&manifest) {
            self.kept += 1;
        } else {
            self.incomplete.push(id);
        }
        Ok(())
    }

    /// What goes, the oldest manifest first.
    fn going(&self, there: &There) -> Going {
        let removed: HashSet<&str> = self.removed.iter().map(String::as_str).collect();
        let stay: HashSet<&str> =
            there.manifests.iter().map(String::as_str).filter(|id| !removed.contains(id)).collect();
        let mut going = Going::default();
        for id in self.removed.iter().rev() {
            going.manifests.push(names::manifest(id));
        }
        for (hash, object) in &there.segments {
            let is_leftover = object.age >= LEFTOVER_FOR || self.freed.contains(hash);
            if is_leftover && !self.needed.contains(hash) {
                going.others.push(names::segment(*hash));
                going.bytes += object.bytes;
            }
        }
        for (path, (id, object)) in &there.files {
            let is_manifest = names::manifest_id(path).is_some();
            let goes = if there.tombstones.contains(path) {
                object.age >= TOMBSTONE_FOR
            } else if removed.contains(id.as_str()) {
                true
            } else {
                !stay.contains(id.as_str()) && object.age >= LEFTOVER_FOR
            };
            if goes {
                going.bytes += object.bytes;
                if !(is_manifest && removed.contains(id.as_str())) {
                    going.others.push(path.clone());
                }
            }
        }
        going
    }
}

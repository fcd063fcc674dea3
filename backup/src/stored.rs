//! A backup that is read back.

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt};
use object_store::path::Path;
use stratalog_proto::{Code, Error};
use uuid::Uuid;

use crate::blob::{Blob, Hash};
use crate::manifest::{MAX_MANIFEST_BYTES, Manifest, Part, Segment};
use crate::names;
use crate::target::{TOMBSTONE, Target};

/// A backup at a target.
#[derive(Debug)]
pub struct Stored {
    target: Target,
    manifest: Manifest,
}

/// The bytes of an object as they come. They are those that were stored only once [`Pieces::next`] has said so with `None`.
pub struct Pieces {
    incoming: BoxStream<'static, Result<Bytes, Error>>,
    target: Target,
    path: Path,
    expected: Blob,
    hash: blake3::Hasher,
    bytes: u64,
}

/// The backups at a target, the oldest first, by their ids.
///
/// # Errors
/// [`Code::InvalidRequest`] if it was never one for backups; those of the store.
pub async fn stored_backups(target: &Target) -> Result<Vec<String>, Error> {
    target.owner().await?;
    target.ids().await
}

/// The manifest of a backup; `None` if there is no such backup.
///
/// # Errors
/// [`Code::CorruptData`], [`Code::NewerVersion`], naming the manifest; those of the store.
pub(crate) async fn read_manifest(target: &Target, owner: Uuid, id: &str) -> Result<Option<Manifest>, Error> {
    let path = names::manifest(id);
    let Some(bytes) = target.read_small(&path, MAX_MANIFEST_BYTES).await? else { return Ok(None) };
    if bytes == TOMBSTONE {
        return Ok(None);
    }
    let manifest = Manifest::decode(&bytes).map_err(|error| {
        let damaged = target.damaged(&path, &error.message);
        Error::new(error.code, damaged.message)
    })?;
    if manifest.id != id || manifest.cluster != owner {
        return Err(target.damaged(&path, &"it is that of another backup"));
    }
    Ok(Some(manifest))
}

impl Stored {
    /// Finds a backup by its id, or the newest that is whole.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if there is none; [`Code::CorruptData`], [`Code::NewerVersion`], naming the manifest; those of
    /// the store.
    pub async fn open(target: Target, id: Option<&str>) -> Result<Self, Error> {
        let owner = target.owner().await?;
        let none = |what: &str| Error::new(Code::InvalidRequest, format!("there is no {what} in {}", target.place()));
        let id = match id {
            Some(id) if names::is_id(id) => id.to_owned(),
            Some(id) => return Err(none(&format!("backup `{}`", id.escape_default()))),
            None => target.ids().await?.pop().ok_or_else(|| none("backup that is whole"))?,
        };
        let manifest = read_manifest(&target, owner, &id).await?.ok_or_else(|| none(&format!("backup {id}")))?;
        Ok(Self { target, manifest })
    }

    /// What it is made of.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The state of a shard, whole and checked.
    ///
    /// # Errors
    /// [`Code::CorruptData`], naming the object, if it is missing or not what was stored (L5); those of the store.
    pub async fn state(&self, part: &Part) -> Result<Bytes, Error> {
        let mut pieces = self.pieces(names::state(&self.manifest.id, part.shard), part.state).await?;
        let mut state = Vec::new();
        while let Some(piece) = pieces.next().await? {
            state.extend_from_slice(&piece);
        }
        Ok(state.into())
    }

    /// The log of a shard.
    ///
    /// # Errors
    /// As [`Stored::state`].
    pub async fn log(&self, part: &Part) -> Result<Pieces, Error> {
        self.pieces(names::log(&self.manifest.id, part.shard), part.log).await
    }

    /// A segment.
    ///
    /// # Errors
    /// As [`Stored::state`].
    pub async fn segment(&self, segment: &Segment) -> Result<Pieces, Error> {
        let Segment { bytes, blake3, .. } = *segment;
        self.pieces(names::segment(blake3), Blob { bytes, blake3 }).await
    }

    /// Where it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The bytes of any object of it.
    ///
    /// # Errors
    /// As [`Stored::state`].
    pub(crate) async fn pieces(&self, path: Path, expected: Blob) -> Result<Pieces, Error> {
        let incoming = match expected.bytes {
            0 => futures::stream::empty().boxed(),
            bytes => self.target.read(&path, bytes).await?,
        };
        let target = self.target.clone();
        Ok(Pieces { incoming, target, path, expected, hash: blake3::Hasher::new(), bytes: 0 })
    }
}

impl Pieces {
    /// The next bytes; `None` once all have come and are those that were stored.
    ///
    /// # Errors
    /// [`Code::CorruptData`], naming the object (L5); those of the store.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if let Some(piece) = self.incoming.next().await.transpose()? {
            self.hash.update(&piece);
            self.bytes += piece.len() as u64;
            return Ok(Some(piece));
        }
        let come = Blob { bytes: self.bytes, blake3: Hash::from(self.hash.finalize()) };
        if come == self.expected {
            return Ok(None);
        }
        Err(self.target.damaged(&self.path, &"its bytes are not those that were stored"))
    }
}

//! Where backups are kept: a directory, or an object store.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::{Deserialize, Serialize};
use stratalog_proto::{Code, Error};
use url::Url;
use uuid::Uuid;

use crate::blob::Hash;
use crate::names;

/// A text of a few lines; anything larger is not ours.
const MAX_SMALL_BYTES: u64 = 4_096;
const FORMAT: u32 = 1;

/// A place for the backups of one cluster.
#[derive(Clone, Debug)]
pub struct Target {
    store: Arc<dyn ObjectStore>,
    /// As it was named, for messages.
    place: String,
    /// The directory, if it is one: what is written there is synced.
    dir: Option<PathBuf>,
}

/// What `cluster.json` says.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Owner {
    format: u32,
    cluster: Uuid,
}

impl Target {
    /// A directory, which is made, or a URL such as `file:///backups` or, in builds with the store's feature, `s3://bucket/path`
    /// with the store's settings from `settings`.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] for a URL that this build does not know; [`Code::Io`] for a directory that cannot be made.
    pub fn open(place: &str, settings: impl IntoIterator<Item = (String, String)>) -> Result<Self, Error> {
        let url = place.contains("://").then(|| Url::parse(place)).transpose();
        let invalid = |error: &dyn std::fmt::Display| {
            let message =
                format!("`{place}` is neither a directory nor the URL of an object store of this build: {error}");
            Error::new(Code::InvalidConfig, message)
        };
        let dir = match url.map_err(|error| invalid(&error))? {
            None => PathBuf::from(place),
            Some(url) if url.scheme() == "file" => url.to_file_path().map_err(|()| invalid(&"it is no path"))?,
            Some(url) => {
                let (store, path) = object_store::parse_url_opts(&url, settings).map_err(|error| invalid(&error))?;
                return Ok(Self { store: Arc::new(PrefixStore::new(store, path)), place: place.to_owned(), dir: None });
            }
        };
        Self::of_dir(dir)
    }

    fn of_dir(dir: PathBuf) -> Result<Self, Error> {
        let failed = |error: &dyn std::fmt::Display| {
            Error::new(Code::Io, format!("cannot use the directory {}: {error}", dir.display()))
        };
        std::fs::create_dir_all(&dir).map_err(|error| failed(&error))?;
        let dir = dir.canonicalize().map_err(|error| failed(&error))?;
        let store = LocalFileSystem::new_with_prefix(&dir).map_err(|error| failed(&error))?;
        Ok(Self { store: Arc::new(store), place: dir.display().to_string(), dir: Some(dir) })
    }

    #[cfg(test)]
    pub(crate) fn of_store(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, place: "memory".to_owned(), dir: None }
    }

    /// As it was named.
    pub fn place(&self) -> &str {
        &self.place
    }

    pub(crate) fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// Makes the place one for the backups of a cluster, or finds that it is.
    ///
    /// # Errors
    /// [`Code::WrongCluster`] if it is another one's; those of the store.
    pub(crate) async fn claim(&self, cluster: Uuid) -> Result<(), Error> {
        let path = Path::from(names::CLUSTER);
        let text =
            serde_json::to_vec(&Owner { format: FORMAT, cluster }).map_err(|error| self.damaged(&path, &error))?;
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.store.put_opts(&path, text.into(), create).await {
            Ok(_) => return self.sync(&path).await,
            Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(error) => return Err(self.failed("write", &path, &error)),
        }
        let owner = self.owner().await?;
        if owner == cluster {
            return Ok(());
        }
        let message = format!(
            "{} has the backups of cluster {owner}, and this is cluster {cluster}: choose another place",
            self.place
        );
        Err(Error::new(Code::WrongCluster, message))
    }

    /// The cluster whose backups are here.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if there are none; [`Code::CorruptData`], [`Code::NewerVersion`]; those of the store.
    pub(crate) async fn owner(&self) -> Result<Uuid, Error> {
        let path = Path::from(names::CLUSTER);
        let none = || Error::new(Code::InvalidRequest, format!("there are no backups in {}", self.place));
        let text = self.read_small(&path, MAX_SMALL_BYTES).await?.ok_or_else(none)?;
        let owner: Owner = serde_json::from_slice(&text).map_err(|error| self.damaged(&path, &error))?;
        match owner.format {
            FORMAT => Ok(owner.cluster),
            other => {
                let message = format!("{} has backups of format {other}, this version knows {FORMAT}", self.place);
                Err(Error::new(Code::NewerVersion, message))
            }
        }
    }

    /// The segments that are here, each with its size.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn segments(&self) -> Result<HashMap<Hash, u64>, Error> {
        let path = Path::from(names::SEGMENTS);
        let found = self.store.list(Some(&path)).try_filter_map(|meta| async move {
            Ok(names::segment_hash(&meta.location).map(|hash| (hash, meta.size)))
        });
        found.try_collect().await.map_err(|error| self.failed("list", &path, &error))
    }

    /// The ids of the backups that are whole, the oldest first.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn ids(&self) -> Result<Vec<String>, Error> {
        let path = Path::from(names::BACKUPS);
        let found =
            self.store.list(Some(&path)).try_filter_map(|meta| async move { Ok(names::manifest_id(&meta.location)) });
        let mut ids: Vec<String> = found.try_collect().await.map_err(|error| self.failed("list", &path, &error))?;
        ids.sort_unstable();
        Ok(ids)
    }

    /// All bytes of an object of at most `max_bytes`; `None` if there is none.
    ///
    /// # Errors
    /// [`Code::CorruptData`] for a larger one; those of the store.
    pub(crate) async fn read_small(&self, path: &Path, max_bytes: u64) -> Result<Option<Bytes>, Error> {
        let found = match self.store.get(path).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(|error| self.failed("read", path, &error))?,
        };
        if found.meta.size > max_bytes {
            return Err(self.damaged(path, &format!("it has {} bytes, more than it can have", found.meta.size)));
        }
        found.bytes().await.map(Some).map_err(|error| self.failed("read", path, &error))
    }

    /// The bytes of an object, as they come.
    ///
    /// # Errors
    /// [`Code::CorruptData`] if it is missing, or has another size; those of the store.
    pub(crate) async fn read(
        &self,
        path: &Path,
        bytes: u64,
    ) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        let found = match self.store.get(path).await {
            Err(object_store::Error::NotFound { .. }) => return Err(self.damaged(path, &"it is missing")),
            found => found.map_err(|error| self.failed("read", path, &error))?,
        };
        if found.meta.size != bytes {
            return Err(self.damaged(path, &format!("it has {} bytes and not {bytes}", found.meta.size)));
        }
        let (this, path) = (self.clone(), path.clone());
        Ok(found.into_stream().map_err(move |error| this.failed("read", &path, &error)).boxed())
    }

    /// Writes an object at once, durably.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn write(&self, path: &Path, bytes: Bytes) -> Result<(), Error> {
        self.store.put(path, bytes.into()).await.map_err(|error| self.failed("write", path, &error))?;
        self.sync(path).await
    }

    /// Has a file and its name survive a power cut. Object stores see to it by themselves.
    ///
    /// # Errors
    /// [`Code::Io`].
    pub(crate) async fn sync(&self, path: &Path) -> Result<(), Error> {
        let Some(dir) = self.dir.clone() else { return Ok(()) };
        let relative = PathBuf::from(path.as_ref());
        let sync = move || -> io::Result<()> {
            File::open(dir.join(&relative))?.sync_all()?;
            relative.ancestors().skip(1).try_for_each(|parent| File::open(dir.join(parent))?.sync_all())
        };
        let synced = tokio::task::spawn_blocking(sync).await.unwrap_or_else(|panic| Err(io::Error::other(panic)));
        synced.map_err(|error| self.failed("sync", path, &error))
    }

    pub(crate) fn failed(&self, tried: &str, path: &Path, error: &dyn std::fmt::Display) -> Error {
        Error::new(Code::Io, format!("cannot {tried} {path} in {}: {error}", self.place))
    }

    pub(crate) fn damaged(&self, path: &Path, what: &dyn std::fmt::Display) -> Error {
        Error::new(Code::CorruptData, format!("L5: {path} in {} cannot be used: {what}", self.place))
    }
}

//! Where backups are kept: a directory, or an object store.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::{Deserialize, Serialize};
use stratalog_proto::{Code, Error};
use url::Url;
use uuid::Uuid;

use crate::blob::Hash;
use crate::cloud::{self, Provider};
use crate::names;

/// A text of a few lines; anything larger is not ours.
const MAX_SMALL_BYTES: u64 = 4_096;
const FORMAT: u32 = 1;
/// What is fetched of an object at once, and of how many such pieces: none takes a request too long to be tried again.
const FETCH_BYTES: u64 = 8 << 20;
const FETCHES_AHEAD: usize = 2;
/// How often an object is tried to be made that is neither made nor there.
const CREATE_TRIES: u32 = 5;
/// Lies where the manifest of a backup would, and makes that impossible: whoever made it was taken for dead.
pub(crate) const TOMBSTONE: &[u8] = b"SLG-ABANDONED 1\n";

/// A place for the backups of one cluster.
#[derive(Clone, Debug)]
pub struct Target {
    store: Arc<dyn ObjectStore>,
    /// As it was named, for messages.
    place: String,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// What is written there is synced.
    Dir(PathBuf),
    Cloud(Provider),
    #[cfg(test)]
    Memory,
}

/// What `cluster.json` says.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Owner {
    format: u32,
    cluster: Uuid,
}

impl Target {
    /// A directory, which is made, or a URL: `file:///backups`, and in builds with the feature `cloud` `s3://bucket/path`,
    /// `gs://bucket/path` and `az://container/path`, with credentials and endpoint of the environment.
    ///
    /// # Errors
    /// [`Code::InvalidConfig`] for another URL, or an environment that does not suffice; [`Code::Io`] for a directory that
    /// cannot be made.
    pub fn open(place: &str) -> Result<Self, Error> {
        let url = place.contains("://").then(|| Url::parse(place)).transpose();
        let invalid = |what: &dyn std::fmt::Display| {
            let message = format!(
                "this is no place for backups: {what}; name a directory, or file:///DIR, s3://BUCKET/PATH, \
                 gs://BUCKET/PATH, az://CONTAINER/PATH"
            );
            Error::new(Code::InvalidConfig, message)
        };
        match url.map_err(|error| invalid(&error))? {
            None => Self::of_dir(PathBuf::from(place)),
            Some(url) if url.scheme() == "file" => {
                let dir = url.to_file_path().map_err(|()| invalid(&format!("`{place}` is no path")))?;
                Self::of_dir(dir)
            }
            Some(url) => {
                let unknown = || invalid(&format!("nothing is known of `{}`", url.scheme()));
                let provider = Provider::of_scheme(url.scheme()).ok_or_else(unknown)?;
                let store = cloud::connect(provider, &url)?;
                let path = Path::from_url_path(url.path()).map_err(|error| invalid(&error))?;
                let store = Arc::new(PrefixStore::new(store, path));
                Ok(Self { store, place: place.trim_end_matches('/').to_owned(), kind: Kind::Cloud(provider) })
            }
        }
    }

    fn of_dir(dir: PathBuf) -> Result<Self, Error> {
        let failed = |error: &dyn std::fmt::Display| {
            Error::new(Code::Io, format!("cannot use the directory {}: {error}", dir.display()))
        };
        std::fs::create_dir_all(&dir).map_err(|error| failed(&error))?;
        let dir = dir.canonicalize().map_err(|error| failed(&error))?;
        let store = LocalFileSystem::new_with_prefix(&dir).map_err(|error| failed(&error))?;
        let store = Arc::new(store.with_automatic_cleanup(true));
        Ok(Self { store, place: dir.display().to_string(), kind: Kind::Dir(dir) })
    }

    #[cfg(test)]
    pub(crate) fn of_store(store: Arc<dyn ObjectStore>) -> Self {
        Self { store, place: "memory".to_owned(), kind: Kind::Memory }
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
        // Looked at first: not every store that is asked to make an object only if there is none does so.
        if self.found_owner().await?.is_none() {
            let text =
                serde_json::to_vec(&Owner { format: FORMAT, cluster }).map_err(|error| self.damaged(&path, &error))?;
            self.create(&path, text.into()).await?;
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
        let none = || Error::new(Code::InvalidRequest, format!("there are no backups in {}", self.place));
        self.found_owner().await?.ok_or_else(none)
    }

    async fn found_owner(&self) -> Result<Option<Uuid>, Error> {
        let path = Path::from(names::CLUSTER);
        let Some(text) = self.read_small(&path, MAX_SMALL_BYTES).await? else { return Ok(None) };
        let owner: Owner = serde_json::from_slice(&text).map_err(|error| self.damaged(&path, &error))?;
        match owner.format {
            FORMAT => Ok(Some(owner.cluster)),
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
        let found = self.list(names::SEGMENTS).try_filter_map(|meta| async move {
            Ok(names::segment_hash(&meta.location).map(|hash| (hash, meta.size)))
        });
        found.try_collect().await
    }

    /// The ids of the backups that are whole, the oldest first.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn ids(&self) -> Result<Vec<String>, Error> {
        let found = self.list(names::BACKUPS).try_filter_map(|meta| async move {
            Ok(names::manifest_id(&meta.location).filter(|_| !is_tombstone(&meta)))
        });
        let mut ids: Vec<String> = found.try_collect().await?;
        ids.sort_unstable();
        Ok(ids)
    }

    /// What there is below a name, in no order.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) fn list(&self, below: &str) -> BoxStream<'static, Result<ObjectMeta, Error>> {
        let (this, path) = (self.clone(), Path::from(below));
        self.store.list(Some(&path)).map_err(move |error| this.failed("list", &path, &error)).boxed()
    }

    /// The size of an object; `None` if there is none.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn size(&self, path: &Path) -> Result<Option<u64>, Error> {
        match self.store.head(path).await {
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            found => found.map(|meta| Some(meta.size)).map_err(|error| self.failed("read", path, &error)),
        }
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
        match self.size(path).await? {
            None => return Err(self.damaged(path, &"it is missing")),
            Some(found) if found != bytes => {
                return Err(self.damaged(path, &format!("it has {found} bytes and not {bytes}")));
            }
            Some(_) => {}
        }
        let pieces =
            (0..bytes).step_by(FETCH_BYTES as usize).map(move |from| from..bytes.min(from.saturating_add(FETCH_BYTES)));
        let (this, path) = (self.clone(), path.clone());
        let fetched = stream::iter(pieces).map(move |piece| {
            let (this, path) = (this.clone(), path.clone());
            async move { this.store.get_range(&path, piece).await.map_err(|error| this.failed("read", &path, &error)) }
        });
        Ok(fetched.buffered(FETCHES_AHEAD).boxed())
    }

    /// Writes an object over what may be there.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn write(&self, path: &Path, bytes: Bytes) -> Result<(), Error> {
        self.store.put(path, bytes.into()).await.map_err(|error| self.failed("write", path, &error))?;
        Ok(())
    }

    /// Writes an object durably if there is none of that name; whether what is there now is this.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn create(&self, path: &Path, bytes: Bytes) -> Result<bool, Error> {
        for n in 0..CREATE_TRIES {
            let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            match self.store.put_opts(path, bytes.clone().into(), create).await {
                Ok(_) => return self.sync(path).await.map(|()| true),
                Err(object_store::Error::AlreadyExists { .. }) => {}
                Err(error) => return Err(self.failed("write", path, &error)),
            }
            // A request that is sent again meets what it has made; and a store may say so of two at once, and make neither.
            match self.size(path).await? {
                Some(size) if size != bytes.len() as u64 => return Ok(false),
                Some(size) => return Ok(self.read_small(path, size).await?.is_some_and(|found| found == bytes)),
                None => tokio::time::sleep(Duration::from_millis(100 << n)).await,
            }
        }
        let message = format!("cannot write {path} in {}: it is there and it is not there, says the store", self.place);
        Err(Error::new(Code::Io, message))
    }

    /// Removes objects; those that are not there are none to remove.
    ///
    /// # Errors
    /// Those of the store, for the first that could not be removed.
    pub(crate) async fn remove(&self, paths: Vec<Path>) -> Result<(), Error> {
        let Some(first) = paths.first().cloned() else { return Ok(()) };
        let others = paths.len() - 1;
        let mut removed = self.store.delete_stream(stream::iter(paths.into_iter().map(Ok)).boxed());
        let mut failure = None;
        while let Some(one) = removed.next().await {
            match one {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        let tried = if others == 0 { "remove".to_owned() } else { format!("remove {others} objects and") };
        failure.map_or(Ok(()), |error| Err(self.failed(&tried, &first, &error)))
    }

    /// Has a file and its name survive a power cut. Object stores see to it by themselves.
    ///
    /// # Errors
    /// [`Code::Io`].
    pub(crate) async fn sync(&self, path: &Path) -> Result<(), Error> {
        self.synced(path, |dir, relative| {
            File::open(dir.join(relative))?.sync_all()?;
            relative.ancestors().skip(1).try_for_each(|parent| File::open(dir.join(parent))?.sync_all())
        })
        .await
    }

    /// Has it survive a power cut that a file is gone.
    ///
    /// # Errors
    /// [`Code::Io`].
    pub(crate) async fn sync_gone(&self, path: &Path) -> Result<(), Error> {
        self.synced(path, |dir, relative| {
            // The folders that were left empty went with it.
            let is_there = |parent: &&std::path::Path| dir.join(parent).is_dir();
            let parent = relative.ancestors().skip(1).find(is_there).unwrap_or(relative);
            File::open(dir.join(parent))?.sync_all()
        })
        .await
    }

    async fn synced(
        &self,
        path: &Path,
        sync: impl FnOnce(&std::path::Path, &std::path::Path) -> io::Result<()> + Send + 'static,
    ) -> Result<(), Error> {
        let Kind::Dir(dir) = self.kind.clone() else { return Ok(()) };
        let relative = PathBuf::from(path.as_ref());
        let synced = tokio::task::spawn_blocking(move || sync(&dir, &relative)).await;
        let synced = synced.unwrap_or_else(|panic| Err(io::Error::other(panic)));
        synced.map_err(|error| Error::new(Code::Io, format!("cannot sync {path} in {}: {error}", self.place)))
    }

    /// What to say of an error of the store.
    pub(crate) fn failed(&self, tried: &str, path: &Path, error: &object_store::Error) -> Error {
        let advice = match self.kind {
            Kind::Cloud(provider) => provider.advice(error),
            _ => String::new(),
        };
        // Stores answer with XML of several lines.
        let error = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        Error::new(Code::Io, format!("cannot {tried} {path} in {}: {error}{advice}", self.place))
    }

    pub(crate) fn damaged(&self, path: &Path, what: &dyn std::fmt::Display) -> Error {
        Error::new(Code::CorruptData, format!("L5: {path} in {} cannot be used: {what}", self.place))
    }
}

/// Whether an object that is called a manifest says that there will be none.
pub(crate) fn is_tombstone(meta: &ObjectMeta) -> bool {
    meta.size == TOMBSTONE.len() as u64
}

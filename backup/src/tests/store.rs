//! A store in memory, the processes that use it, and what may happen to one of them at each of its requests.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::Target;

/// A store whose clock is that of the test.
#[derive(Debug)]
pub(super) struct World {
    store: InMemory,
    began: Instant,
    /// When each object was written, since then.
    written: Mutex<HashMap<Path, TimeDelta>>,
}

/// One user of a store.
#[derive(Clone, Debug)]
pub(super) struct Process(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    world: Arc<World>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    requests: usize,
    dies_at: Option<usize>,
    freezes_at: Option<usize>,
    frozen: Option<Request>,
    /// Requests that it may make; `None`: as many as it wants.
    turns: Option<usize>,
    waits: bool,
}

/// What is asked of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Read,
    Write(Path),
    Remove(Path),
}

impl World {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { store: InMemory::new(), began: Instant::now(), written: Mutex::default() })
    }

    pub(super) fn process(self: &Arc<Self>) -> Process {
        let (world, state, changed) = (Arc::clone(self), Mutex::default(), Notify::new());
        Process(Arc::new(Inner { world, state, changed }))
    }

    pub(super) fn target(self: &Arc<Self>) -> Target {
        self.process().target()
    }

    /// Has everything that is there be older, while nobody's clock moves.
    pub(super) fn age(&self, by: Duration) {
        let by = TimeDelta::from_std(by).unwrap();
        self.written.lock().values_mut().for_each(|written| *written -= by);
    }

    pub(super) async fn objects(&self) -> Vec<String> {
        let mut all: Vec<String> =
            self.store.list(None).map_ok(|meta| meta.location.to_string()).try_collect().await.unwrap();
        all.sort_unstable();
        all
    }

    /// Behind everybody's back.
    pub(super) async fn put(&self, path: &str, bytes: impl Into<PutPayload>) {
        self.store.put(&path.into(), bytes.into()).await.unwrap();
        self.note(&path.into());
    }

    /// Behind everybody's back.
    pub(super) async fn delete(&self, path: &str) {
        self.store.delete(&path.into()).await.unwrap();
    }

    /// Flips the last bit of an object.
    pub(super) async fn flip(&self, path: &str) {
        let mut bytes = self.store.get(&path.into()).await.unwrap().bytes().await.unwrap().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        self.store.put(&path.into(), bytes.into()).await.unwrap();
    }

    fn note(&self, path: &Path) {
        let at = TimeDelta::from_std(self.began.elapsed()).unwrap();
        self.written.lock().insert(path.clone(), at);
    }

    fn with_time(&self, meta: ObjectMeta) -> ObjectMeta {
        let written = self.written.lock().get(&meta.location).copied().unwrap_or_default();
        ObjectMeta { last_modified: DateTime::<Utc>::UNIX_EPOCH + written, ..meta }
    }
}

impl Process {
    pub(super) fn target(&self) -> Target {
        Target::of_store(Arc::new(self.clone()))
    }

    /// From this request on, none of it arrives.
    pub(super) fn dies_at(self, request: usize) -> Self {
        self.0.state.lock().dies_at = Some(request);
        self
    }

    /// Stands still at this request.
    pub(super) fn freezes_at(self, request: usize) -> Self {
        self.0.state.lock().freezes_at = Some(request);
        self
    }

    /// Makes requests only as it is told.
    pub(super) fn in_turns(self) -> Self {
        self.0.state.lock().turns = Some(0);
        self
    }

    pub(super) fn turn(&self) {
        *self.0.state.lock().turns.get_or_insert_default() += 1;
        self.0.changed.notify_waiters();
    }

    /// Whether it has a request that it may not make yet.
    pub(super) fn waits(&self) -> bool {
        self.0.state.lock().waits
    }

    pub(super) fn requests(&self) -> usize {
        self.0.state.lock().requests
    }

    /// The request at which it stands still, once it does.
    pub(super) async fn frozen(&self) -> Request {
        loop {
            let changed = self.0.changed.notified();
            if let Some(request) = self.0.state.lock().frozen.clone() {
                return request;
            }
            changed.await;
        }
    }

    pub(super) fn thaw(&self) {
        self.0.state.lock().frozen = None;
        self.0.changed.notify_waiters();
    }

    async fn request(&self, request: Request) -> Result<()> {
        let number = {
            let mut state = self.0.state.lock();
            state.requests += 1;
            if state.freezes_at == Some(state.requests - 1) {
                state.frozen = Some(request);
                self.0.changed.notify_waiters();
            }
            state.requests - 1
        };
        loop {
            let changed = self.0.changed.notified();
            {
                let mut state = self.0.state.lock();
                if state.dies_at.is_some_and(|at| number >= at) {
                    return Err(object_store::Error::Generic { store: "test", source: "the process died".into() });
                }
                state.waits = state.turns == Some(0);
                if state.frozen.is_none() && !state.waits {
                    state.turns = state.turns.map(|turns| turns - 1);
                    return Ok(());
                }
            }
            changed.await;
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a store of a test")
    }
}

#[async_trait]
impl ObjectStore for Process {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.request(Request::Write(path.clone())).await?;
        let put = self.0.world.store.put_opts(path, payload, options).await?;
        self.0.world.note(path);
        Ok(put)
    }

    async fn put_multipart_opts(&self, path: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.request(Request::Write(path.clone())).await?;
        self.0.world.store.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.request(Request::Read).await?;
        self.0.world.store.get_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        let removed = paths.then(move |path| {
            let this = this.clone();
            async move {
                let path = path?;
                this.request(Request::Remove(path.clone())).await?;
                this.0.world.store.delete(&path).await.map(|()| path)
            }
        });
        removed.boxed()
    }

    fn list(&self, below: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, below) = (self.clone(), below.cloned());
        let listed = async move {
            this.request(Request::Read).await?;
            let world = Arc::clone(&this.0.world);
            let found = this.0.world.store.list(below.as_ref()).map_ok(move |meta| world.with_time(meta));
            Ok::<_, object_store::Error>(found)
        };
        stream::once(listed).try_flatten().boxed()
    }

    async fn list_with_delimiter(&self, below: Option<&Path>) -> Result<ListResult> {
        self.request(Request::Read).await?;
        self.0.world.store.list_with_delimiter(below).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.request(Request::Write(to.clone())).await?;
        self.0.world.store.copy_opts(from, to, options).await
    }
}

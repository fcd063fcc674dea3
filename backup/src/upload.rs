//! An object on its way to a target.

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStoreExt, WriteMultipart};
use stratalog_proto::{Code, Error};

use crate::blob::Blob;
use crate::target::Target;

/// Parts that are on their way at once.
const PARTS_AHEAD: usize = 4;

/// It gets its name when it is [finished](Upload::finish), and leaves nothing behind otherwise.
pub(crate) struct Upload<'a> {
    target: &'a Target,
    path: Path,
    writer: WriteMultipart,
    hash: blake3::Hasher,
    bytes: u64,
}

impl<'a> Upload<'a> {
    /// # Errors
    /// Those of the store.
    pub(crate) async fn begin(target: &'a Target, path: Path) -> Result<Self, Error> {
        let upload =
            target.store().put_multipart(&path).await.map_err(|error| target.failed("write", &path, &error))?;
        Ok(Self { target, path, writer: WriteMultipart::new(upload), hash: blake3::Hasher::new(), bytes: 0 })
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn push(&mut self, bytes: Bytes) -> Result<(), Error> {
        let ready = self.writer.wait_for_capacity(PARTS_AHEAD).await;
        ready.map_err(|error| self.target.failed("write", &self.path, &error))?;
        self.hash.update(&bytes);
        self.bytes += bytes.len() as u64;
        self.writer.put(bytes);
        Ok(())
    }

    /// Gives the object its name, durably; one of no bytes is not stored. `expected`: what it has to be.
    ///
    /// # Errors
    /// [`Code::CorruptData`] if it is something else: it is not stored. Those of the store.
    pub(crate) async fn finish(self, expected: Option<Blob>) -> Result<Blob, Error> {
        let Self { target, path, writer, hash, bytes } = self;
        let failed = |error: object_store::Error| target.failed("write", &path, &error);
        let blob = Blob { bytes, blake3: hash.finalize().into() };
        let is_wrong = expected.is_some_and(|expected| expected != blob);
        if is_wrong || bytes == 0 {
            writer.abort().await.map_err(failed)?;
            let message =
                || format!("L5: what the cluster sent for {path} is not what it named: {bytes} bytes, {}", blob.blake3);
            return if is_wrong { Err(Error::new(Code::CorruptData, message())) } else { Ok(blob) };
        }
        writer.finish().await.map_err(failed)?;
        target.sync(&path).await.map(|()| blob)
    }

    /// Leaves nothing behind.
    pub(crate) async fn abort(self) {
        if let Err(error) = self.writer.abort().await {
            tracing::debug!(path = %self.path, %error, "what came of an object was not cleared away");
        }
    }
}

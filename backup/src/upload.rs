//! An object on its way to a target.

use bytes::{Bytes, BytesMut};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use stratalog_proto::{Code, Error};
use tokio::task::JoinSet;

use crate::blob::Blob;
use crate::target::Target;

/// What is smaller is sent with one request, anything else in parts of this size. Stores take 10,000 parts: 78 GiB.
pub(crate) const PART_BYTES: usize = 8 << 20;
/// Parts that are on their way at once; one more is being filled.
const PARTS_AHEAD: usize = 4;

/// It gets its name when it is [ended](Upload::end), and leaves nothing behind where it fails.
pub(crate) struct Upload<'a> {
    target: &'a Target,
    path: Path,
    /// The part that is being filled.
    part: BytesMut,
    /// There once one part was full.
    parts: Option<Parts>,
    hash: blake3::Hasher,
    bytes: u64,
}

struct Parts {
    upload: Box<dyn MultipartUpload>,
    on_the_way: JoinSet<object_store::Result<()>>,
}

impl<'a> Upload<'a> {
    pub(crate) fn begin(target: &'a Target, path: Path) -> Self {
        Self { target, path, part: BytesMut::new(), parts: None, hash: blake3::Hasher::new(), bytes: 0 }
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn push(&mut self, mut bytes: Bytes) -> Result<(), Error> {
        self.hash.update(&bytes);
        self.bytes += bytes.len() as u64;
        while self.part.len() + bytes.len() >= PART_BYTES {
            self.part.extend_from_slice(&bytes.split_to(PART_BYTES - self.part.len()));
            let sent = self.send_part().await;
            sent.map_err(|error| self.target.failed("write", &self.path, &error))?;
        }
        self.part.extend_from_slice(&bytes);
        Ok(())
    }

    async fn send_part(&mut self) -> object_store::Result<()> {
        let parts = match &mut self.parts {
            Some(parts) => parts,
            none => {
                let upload = self.target.store().put_multipart(&self.path).await?;
                none.insert(Parts { upload, on_the_way: JoinSet::new() })
            }
        };
        parts.wait_for(PARTS_AHEAD - 1).await?;
        let part = PutPayload::from(std::mem::take(&mut self.part).freeze());
        parts.on_the_way.spawn(parts.upload.put_part(part));
        Ok(())
    }

    /// Gives the object its name, durably; one of no bytes is not stored. `filled`: whether all of it was pushed; `expected`:
    /// what it has to be.
    ///
    /// # Errors
    /// That of `filled`; [`Code::CorruptData`] if it is something else; those of the store. Nothing is stored then.
    pub(crate) async fn end(mut self, filled: Result<(), Error>, expected: Option<Blob>) -> Result<Blob, Error> {
        let blob = Blob { bytes: self.bytes, blake3: self.hash.finalize().into() };
        let is_right = |()| match expected {
            Some(expected) if expected != blob => {
                let what = format!("{} bytes, {}", blob.bytes, blob.blake3);
                let message = format!("L5: what the cluster sent for {} is not what it named: {what}", self.path);
                Err(Error::new(Code::CorruptData, message))
            }
            _ => Ok(()),
        };
        let sent = match filled.and_then(is_right) {
            Ok(()) if blob.bytes == 0 => return Ok(blob),
            Ok(()) => self.send().await.map_err(|error| self.target.failed("write", &self.path, &error)),
            Err(error) => Err(error),
        };
        if sent.is_err() {
            self.clear_away().await;
        }
        sent?;
        self.target.sync(&self.path).await.map(|()| blob)
    }

    async fn send(&mut self) -> object_store::Result<()> {
        if self.parts.is_some() && !self.part.is_empty() {
            self.send_part().await?;
        }
        let Some(parts) = &mut self.parts else {
            let whole = std::mem::take(&mut self.part).freeze();
            return self.target.store().put(&self.path, whole.into()).await.map(|_| ());
        };
        parts.wait_for(0).await?;
        parts.upload.complete().await.map(|_| ())
    }

    async fn clear_away(&mut self) {
        let Some(parts) = &mut self.parts else { return };
        parts.on_the_way.shutdown().await;
        if let Err(error) = parts.upload.abort().await {
            tracing::debug!(path = %self.path, %error, "what came of an object was not cleared away");
        }
    }
}

impl Parts {
    /// Until at most so many are on their way.
    async fn wait_for(&mut self, at_most: usize) -> object_store::Result<()> {
        while self.on_the_way.len() > at_most {
            if let Some(sent) = self.on_the_way.join_next().await {
                sent??;
            }
        }
        Ok(())
    }
}

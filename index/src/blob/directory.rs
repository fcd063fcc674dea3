//! A container as Tantivy's directory, read-only, over a [`Source`].

use std::collections::HashMap;
use std::ffi::OsStr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fmt, io};

use bytes::Bytes;
use tantivy::HasLen;
use tantivy::directory::error::{DeleteError, OpenReadError, OpenWriteError};
use tantivy::directory::{Directory, FileHandle, OwnedBytes, WatchCallback, WatchHandle, WritePtr};
use tantivy::index::SegmentId;

use super::{Component, Container, Source};
use crate::IndexError;

/// Every container holds one segment, under this id.
pub(crate) fn segment_id() -> SegmentId {
    SegmentId::from_uuid_string(&"0".repeat(32)).expect("thirty-two zeros are a UUID")
}

/// The files of a container.
#[derive(Clone)]
pub(crate) struct BlobDirectory {
    source: Arc<dyn Source>,
    container: Arc<Container>,
    /// What Tantivy notes about the index. It is derived from the container, so it lives in memory only.
    notes: Arc<Mutex<HashMap<PathBuf, Vec<u8>>>>,
}

impl BlobDirectory {
    pub(crate) fn new(source: Arc<dyn Source>, container: Arc<Container>) -> Self {
        Self { source, container, notes: Arc::default() }
    }
}

impl fmt::Debug for BlobDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlobDirectory").field("bytes", &self.source.len()).finish_non_exhaustive()
    }
}

/// The file that a name of Tantivy's stands for.
///
/// Nothing is stored, so there is no store; the reader wants the file all the same, looks at its footer and never reads
/// on. It gets a file that is as empty.
fn component_of(path: &Path) -> Option<Component> {
    match path.extension().and_then(OsStr::to_str)? {
        "term" => Some(Component::Terms),
        "idx" => Some(Component::Postings),
        "pos" => Some(Component::Positions),
        "fast" => Some(Component::FastFields),
        "fieldnorm" | "store" => Some(Component::FieldNorms),
        _ => None,
    }
}

impl Directory for BlobDirectory {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        let component = component_of(path).ok_or_else(|| OpenReadError::FileDoesNotExist(path.to_owned()))?;
        let range = self.container.file(component);
        Ok(Arc::new(BlobFile { source: self.source.clone(), range, ahead: Mutex::default() }))
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(component_of(path).is_some() || notes.contains_key(path))
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.get(path).cloned().ok_or_else(|| OpenReadError::FileDoesNotExist(path.to_owned()))
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        notes.insert(path.to_owned(), data.to_owned());
        Ok(())
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        Err(DeleteError::IoError { io_error: Arc::new(read_only()), filepath: path.to_owned() })
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        Err(OpenWriteError::wrap_io_error(read_only(), path.to_owned()))
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn watch(&self, _: WatchCallback) -> tantivy::Result<WatchHandle> {
        Ok(WatchHandle::empty())
    }
}

fn read_only() -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "a text index is immutable")
}

/// Reads below this take more than they were asked for: opening a column and walking neighbouring terms are many
/// small reads, one behind the other.
const READ_AHEAD_BYTES: u64 = 16 * 1024;

/// One file of a container.
struct BlobFile {
    source: Arc<dyn Source>,
    range: Range<u64>,
    /// What the last small read brought along, and where in the source it starts.
    ahead: Mutex<(u64, Bytes)>,
}

impl BlobFile {
    fn read(&self, range: Range<u64>) -> Result<Bytes, IndexError> {
        if range.end - range.start >= READ_AHEAD_BYTES {
            return super::container::exactly(&*self.source, range);
        }
        let mut ahead = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        if range.start < ahead.0 || range.end > ahead.0 + ahead.1.len() as u64 {
            let end = self.range.end.min(range.start + READ_AHEAD_BYTES);
            *ahead = (range.start, super::container::exactly(&*self.source, range.start..end)?);
        }
        let start = (range.start - ahead.0) as usize;
        Ok(ahead.1.slice(start..start + (range.end - range.start) as usize))
    }
}

impl fmt::Debug for BlobFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlobFile({:?})", self.range)
    }
}

impl HasLen for BlobFile {
    fn len(&self) -> usize {
        (self.range.end - self.range.start) as usize
    }
}

impl FileHandle for BlobFile {
    fn read_bytes(&self, range: Range<usize>) -> io::Result<OwnedBytes> {
        if range.start > range.end || range.end > self.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{range:?} is outside of {self:?}")));
        }
        let range = self.range.start + range.start as u64..self.range.start + range.end as u64;
        let bytes = self.read(range).map_err(|error| match error {
            IndexError::Io(error) => error,
            other => io::Error::new(io::ErrorKind::InvalidData, other.to_string()),
        })?;
        // Without a copy when these bytes were read for us alone.
        Ok(OwnedBytes::new(Vec::from(bytes)))
    }
}

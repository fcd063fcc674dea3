//! Disk of queries: what operators write when their memory is used up, bounded for each query and for the node.
//!
//! A spill file has no name from the moment that it is open, so that nothing is left of it when the query, or the
//! process, is gone; what a crash leaves between the two is removed at the next start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use datafusion::common::{DataFusionError, Result, resources_err};
use datafusion::execution::{SpillFile, SpillWriter, TempFileFactory};
use futures::{Stream, stream};
use stratalog_proto::{Code, Error};

/// What is read of a spill file at a time, in bytes.
const READ_BYTES: usize = 128 << 10;

/// The spill files of all queries.
#[derive(Debug)]
pub(crate) struct SpillSpace {
    dir: PathBuf,
    /// The most bytes of all files together.
    limit: u64,
    used: AtomicU64,
    next: AtomicU64,
}

impl SpillSpace {
    /// Removes what a crash left in the directory, or makes it. Blocks.
    ///
    /// # Errors
    /// Names the directory that cannot be used.
    pub(crate) fn open(dir: &Path, limit: u64) -> Result<Arc<Self>, Error> {
        let failed = |what: &str, error: io::Error| {
            Error::new(Code::Io, format!("cannot {what} the directory for spilled queries {}: {error}", dir.display()))
        };
        fs::create_dir_all(dir).map_err(|error| failed("create", error))?;
        for entry in fs::read_dir(dir).map_err(|error| failed("read", error))? {
            let entry = entry.map_err(|error| failed("read", error))?;
            // Directories are nobody's spill files, and in nobody's way.
            if !entry.file_type().map_err(|error| failed("read", error))?.is_dir() {
                fs::remove_file(entry.path()).map_err(|error| failed("clear", error))?;
            }
        }
        Ok(Arc::new(Self { dir: dir.to_owned(), limit, used: AtomicU64::new(0), next: AtomicU64::new(0) }))
    }

    /// Bytes on disk now.
    #[cfg(test)]
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    fn create(&self) -> io::Result<File> {
        let path = self.dir.join(format!("{}.spill", self.next.fetch_add(1, Ordering::Relaxed)));
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        fs::remove_file(&path)?;
        Ok(file)
    }
}

/// What one query has spilled.
#[derive(Debug)]
pub(crate) struct QuerySpill {
    space: Option<Arc<SpillSpace>>,
    /// The most bytes of its files together.
    limit: u64,
    used: AtomicU64,
    written: AtomicU64,
}

impl QuerySpill {
    /// A query's part of the space, if there is any.
    pub(crate) fn new(space: Option<Arc<SpillSpace>>, limit: u64) -> Arc<Self> {
        Arc::new(Self { space, limit, used: AtomicU64::new(0), written: AtomicU64::new(0) })
    }

    /// Whether operators can spill at all.
    pub(crate) fn is_possible(&self) -> bool {
        self.space.is_some()
    }

    /// All that was ever written, in bytes.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Takes room for so many bytes more.
    ///
    /// # Errors
    /// [`Code::QueryBudget`].
    fn take(&self, space: &SpillSpace, bytes: u64) -> Result<(), Error> {
        let within = |used: &AtomicU64, limit: u64| {
            let add = |used: u64| used.checked_add(bytes).filter(|used| *used <= limit);
            used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
        };
        let over = |whose: &str, limit: u64| {
            let message = format!(
                "the query needs more disk than {whose} may use, {limit} bytes (query.spill_bytes); \
                 narrow the time range, or select fewer columns"
            );
            Error::new(Code::QueryBudget, message)
        };
        if !within(&self.used, self.limit) {
            return Err(over("one query", self.limit));
        }
        if !within(&space.used, space.limit) {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            return Err(over("all queries together", space.limit));
        }
        self.written.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

/// Makes the spill files of one query.
#[derive(Debug)]
pub(crate) struct SpillFiles(pub(crate) Arc<QuerySpill>);

impl TempFileFactory for SpillFiles {
    fn create_temp_file(&self, what: &str) -> Result<Arc<dyn SpillFile>> {
        let Some(space) = &self.0.space else {
            return resources_err!("{what} would have to write to disk, which is not possible here");
        };
        let file = space.create().map_err(|error| unwritable(space, &error))?;
        let spill = self.0.clone();
        Ok(Arc::new(Spilled(Arc::new(SpilledFile { file, spill, space: space.clone(), len: AtomicU64::new(0) }))))
    }
}

fn unwritable(space: &SpillSpace, error: &io::Error) -> DataFusionError {
    let message = format!("the query cannot write what it has no memory for to {}: {error}", space.dir.display());
    DataFusionError::External(Box::new(Error::new(Code::QueryBudget, message)))
}

/// One file without a name; its room is given back when the last who has it is gone.
struct SpilledFile {
    file: File,
    spill: Arc<QuerySpill>,
    space: Arc<SpillSpace>,
    len: AtomicU64,
}

impl Drop for SpilledFile {
    fn drop(&mut self) {
        let len = *self.len.get_mut();
        self.spill.used.fetch_sub(len, Ordering::Relaxed);
        self.space.used.fetch_sub(len, Ordering::Relaxed);
    }
}

struct Spilled(Arc<SpilledFile>);

impl SpillFile for Spilled {
    fn size(&self) -> Option<u64> {
        Some(self.0.len.load(Ordering::Relaxed))
    }

    fn read_stream(&self) -> Result<Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>> {
        let pieces = stream::try_unfold((self.0.clone(), 0), |(file, at)| async move {
            let mut piece = vec![0; READ_BYTES];
            // Query threads are made to wait for the disk.
            let read = file.file.read_at(&mut piece, at)?;
            piece.truncate(read);
            Ok((read > 0).then(|| (Bytes::from(piece), (file, at + read as u64))))
        });
        Ok(Box::pin(pieces))
    }

    fn open_writer(&self) -> Result<Box<dyn SpillWriter>> {
        Ok(Box::new(Appending(self.0.clone())))
    }
}

/// Writes behind what is there. A file has one writer at a time.
struct Appending(Arc<SpilledFile>);

impl Write for Appending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let file = &*self.0;
        file.spill.take(&file.space, bytes.len() as u64).map_err(io::Error::other)?;
        let at = file.len.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        file.file.write_all_at(bytes, at).map_err(|error| io::Error::other(unwritable(&file.space, &error)))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SpillWriter for Appending {
    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use futures::TryStreamExt;

    use super::*;

    async fn content(file: &Arc<dyn SpillFile>) -> Vec<u8> {
        file.read_stream().unwrap().try_collect::<Vec<_>>().await.unwrap().concat()
    }

    #[tokio::test]
    async fn what_was_written_is_read_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("7.spill"), "left by a crash").unwrap();
        fs::create_dir(dir.path().join("lost+found")).unwrap();
        let space = SpillSpace::open(dir.path(), 1_000_000).unwrap();
        fs::remove_dir(dir.path().join("lost+found")).unwrap();
        let spill = QuerySpill::new(Some(space.clone()), 500_000);
        let file = SpillFiles(spill.clone()).create_temp_file("test").unwrap();
        let bytes: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
        let mut writer = file.open_writer().unwrap();
        bytes.chunks(7_777).for_each(|piece| writer.write_all(piece).unwrap());
        assert_eq!(content(&file).await, bytes);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "the file has no name");
        assert_eq!((space.used(), spill.written()), (300_000, 300_000));
        drop((file, writer));
        assert_eq!((space.used(), spill.written()), (0, 300_000));
    }

    #[test]
    fn a_query_and_the_node_have_so_much_disk_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let space = SpillSpace::open(dir.path(), 150).unwrap();
        let file = |limit| SpillFiles(QuerySpill::new(Some(space.clone()), limit)).create_temp_file("test").unwrap();
        let (one, two) = (file(100), file(100));
        let mut first = one.open_writer().unwrap();
        first.write_all(&[0; 100]).unwrap();
        assert!(first.write_all(&[0]).unwrap_err().to_string().contains("one query"));
        let mut second = two.open_writer().unwrap();
        second.write_all(&[0; 50]).unwrap();
        assert!(second.write_all(&[0]).unwrap_err().to_string().contains("all queries"));
        assert_eq!(space.used(), 150);
    }
}

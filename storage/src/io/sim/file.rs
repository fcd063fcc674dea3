use std::io::{self, ErrorKind, IoSlice};
use std::ops::Range;
use std::path::PathBuf;

use bytes::Bytes;

use super::content::{Content, SECTOR};
use super::descriptors::Descriptor;
use super::faults::Lie;
use super::names::FileId;
use super::{Op, SimDisk, error};
use crate::io::File;

/// An open file of a [`SimDisk`].
#[derive(Debug)]
pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) path: PathBuf,
    pub(super) id: FileId,
    pub(super) writable: bool,
    pub(super) _descriptor: Descriptor,
}

impl SimFile {
    fn with<R>(&self, f: impl FnOnce(&mut Content) -> R) -> R {
        f(self.disk.world.lock().file(self.id))
    }

    fn check(&self, op: Op) -> io::Result<()> {
        self.disk.check(op, &self.path)
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(error(ErrorKind::PermissionDenied, &self.path)) }
    }

    /// Makes the file at least `len` bytes long, if the device has the room.
    fn grow(&self, len: u64) -> io::Result<()> {
        self.disk.world.lock().grow(self.id, len).map_err(|kind| error(kind, &self.path))
    }

    fn sync(&self) -> io::Result<()> {
        let checked = self.check(Op::Sync);
        self.with(|content| if checked.is_ok() { content.sync() } else { content.fail_sync() });
        checked
    }

    /// A write that failed may have reached the file in part, up to any sector.
    fn write_prefix(&self, offset: usize, bytes: &[u8]) {
        let sectors = bytes.len().div_ceil(SECTOR) as u64;
        let kept = self.disk.faults.lock().dice().below(sectors + 1) as usize * SECTOR;
        let kept = kept.min(bytes.len());
        if self.grow((offset + kept) as u64).is_ok() {
            self.with(|content| content.write(offset, &bytes[..kept]));
        }
    }

    fn write_as_told(&self, offset: usize, bytes: &[u8], lie: Option<Lie>) {
        let stray = lie.map(|lie| (lie, self.disk.faults.lock().dice().fork()));
        self.with(|content| {
            content.write(offset, bytes);
            let Some((lie, mut dice)) = stray else { return };
            content.lose(offset..offset + bytes.len());
            if lie == Lie::Misdirected {
                let places = content.len().saturating_sub(bytes.len()) / SECTOR;
                let place = dice.below(places as u64 + 1) as usize * SECTOR;
                content.edit(|all| all[place..place + bytes.len()].copy_from_slice(bytes));
            }
        });
    }
}

impl File for SimFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.check_writable()?;
        let from = usize::try_from(offset).map_err(|_| error(ErrorKind::InvalidInput, &self.path))?;
        if let Err(failed) = self.check(Op::Write) {
            if self.disk.is_seeded() {
                self.write_prefix(from, bytes);
            }
            return Err(failed);
        }
        self.grow(offset + bytes.len() as u64)?;
        let lie = self.disk.faults.lock().take_lie(&self.path);
        self.write_as_told(from, bytes, lie);
        Ok(())
    }

    fn write_vectored_at(&self, offset: u64, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let whole: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        if whole.is_empty() { Ok(()) } else { self.write_at(offset, &whole) }
    }

    fn view(&self, range: Range<u64>) -> io::Result<Bytes> {
        self.check(Op::View)?;
        let bytes = self.with(|content| content.get(range).map(Bytes::copy_from_slice));
        bytes.ok_or_else(|| error(ErrorKind::UnexpectedEof, &self.path))
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|content| content.len() as u64))
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        self.check(Op::Allocate)?;
        self.grow(len)
    }

    fn zero_range(&self, range: Range<u64>) -> io::Result<()> {
        self.check_writable()?;
        self.check(Op::Zero)?;
        if range.end > self.len()? {
            return Err(error(ErrorKind::UnexpectedEof, &self.path));
        }
        self.with(|content| content.zero(range.start as usize..range.end as usize));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        self.check(Op::Truncate)?;
        self.grow(len)?;
        self.with(|content| content.set_len(len as usize));
        Ok(())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.disk.world.lock().close(self.id);
    }
}

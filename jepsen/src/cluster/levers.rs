//! Levers between a node and what it asks the system for: its clock steps, its log is slow or fails.
//!
//! A library of a few calls is made with the C compiler and loaded before all others (`LD_PRELOAD`). It looks into a file of a few
//! numbers that it shares with the harness. Nothing of that is in a node that is built.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::machine::system;

const SOURCE: &str = include_str!("levers.c");
/// The file's numbers, eight bytes each, in the order of `levers.c`.
const NUMBERS: u64 = 3;

/// The library, made.
#[derive(Debug)]
pub(crate) struct Library(PathBuf);

/// The levers of one node.
#[derive(Debug)]
pub(crate) struct Levers {
    file: File,
    path: PathBuf,
}

impl Library {
    /// Makes the library in a directory.
    ///
    /// # Errors
    /// What the compiler said.
    pub(crate) fn make(dir: &Path) -> Result<Self, String> {
        let (source, made) = (dir.join("levers.c"), dir.join("levers.so"));
        std::fs::write(&source, SOURCE).map_err(|error| format!("{}: {error}", source.display()))?;
        let [source, library] = [&source, &made].map(|path| path.to_string_lossy().into_owned());
        system("cc", &["-shared", "-fPIC", "-O1", "-o", &library, &source])?;
        Ok(Self(made))
    }

    /// Has a command load the library, with these levers.
    pub(super) fn put_before(&self, command: &mut Command, levers: &Levers) {
        command.env("LD_PRELOAD", &self.0).env("JEPSEN_LEVERS", &levers.path);
    }

    /// What `date` says through the library, in seconds: a clock that steps tells that it is loaded.
    ///
    /// # Errors
    /// If the command cannot be run.
    pub(super) fn seconds(&self, levers: &Levers) -> Result<i64, String> {
        let mut command = Command::new("date");
        self.put_before(command.arg("+%s"), levers);
        let told = command.output().map_err(|error| format!("date: {error}"))?;
        String::from_utf8_lossy(&told.stdout).trim().parse().map_err(|error| format!("date: {error}"))
    }
}

impl Levers {
    /// # Errors
    /// If the file cannot be made.
    pub(super) fn new(path: PathBuf) -> Result<Self, String> {
        let named = |error: std::io::Error| format!("{}: {error}", path.display());
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path).map_err(named)?;
        file.set_len(NUMBERS * 8).map_err(named)?;
        Ok(Self { file, path })
    }

    /// The node's clock is so far off from now on.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn set_clock(&self, off_ns: i64) -> Result<(), String> {
        self.set(0, off_ns)
    }

    /// Each sync takes so much longer.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn delay_syncs(&self, by_us: i64) -> Result<(), String> {
        self.set(1, by_us)
    }

    /// So many syncs of the log fail.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub(crate) fn fail_syncs(&self, count: i64) -> Result<(), String> {
        self.set(2, count)
    }

    fn set(&self, lever: u64, number: i64) -> Result<(), String> {
        let written = self.file.write_all_at(&number.to_le_bytes(), lever * 8);
        written.map_err(|error| format!("{}: {error}", self.path.display()))
    }
}

/// Whether a program's clock can be moved here.
///
/// # Errors
/// Why not.
pub(super) fn probe(dir: &Path) -> Result<(), String> {
    let library = Library::make(dir)?;
    let levers = Levers::new(dir.join("levers"))?;
    let before = library.seconds(&levers)?;
    levers.set_clock(-3_600_000_000_000)?;
    let after = library.seconds(&levers)?;
    if before - after > 3_000 { Ok(()) } else { Err("a program does not see a clock that was moved".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_sees_the_clock_that_it_is_given() {
        let home = tempfile::tempdir().unwrap();
        if let Err(why) = system("cc", &["--version"]) {
            return eprintln!("skipped: {why}");
        }
        probe(home.path()).unwrap();
    }
}

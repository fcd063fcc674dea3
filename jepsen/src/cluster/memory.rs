//! A limit on the memory of a node: a control group of its own. A process that does not keep within it is killed by the system.

use std::fs;
use std::path::{Path, PathBuf};

const CONTROLLERS: &str = "/sys/fs/cgroup";

/// A control group; dropping it removes it.
#[derive(Debug)]
pub(crate) struct MemoryLimit(PathBuf);

impl MemoryLimit {
    /// A group for the node of this name whose processes have so many bytes together, what the system keeps of their files
    /// included.
    ///
    /// # Errors
    /// Why that cannot be had here.
    pub(super) fn make(node: &str, bytes: u64) -> Result<Self, String> {
        let (parent, file) = place(Path::new(CONTROLLERS))?;
        let path = parent.join(format!("stratalog-jepsen-{}-{node}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let made = Self(path);
        made.write(file, bytes)?;
        Ok(made)
    }

    /// Has a process keep within it, and all that it starts from now on.
    ///
    /// # Errors
    /// If the system refuses.
    pub(super) fn add(&self, process: u32) -> Result<(), String> {
        self.write("cgroup.procs", process.into())
    }

    fn write(&self, file: &str, number: u64) -> Result<(), String> {
        let path = self.0.join(file);
        fs::write(&path, number.to_string()).map_err(|error| format!("{}: {error}", path.display()))
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        // It is empty once its process has ended.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Where groups are made that limit memory, and the file that says how much: of the second version of control groups, or the first.
fn place(controllers: &Path) -> Result<(PathBuf, &'static str), String> {
    let of_first = controllers.join("memory");
    if of_first.join("memory.limit_in_bytes").exists() {
        return Ok((of_first, "memory.limit_in_bytes"));
    }
    let given = fs::read_to_string(controllers.join("cgroup.subtree_control")).unwrap_or_default();
    if given.split_whitespace().any(|controller| controller == "memory") {
        return Ok((controllers.to_owned(), "memory.max"));
    }
    Err(format!("no control groups for memory in {}", controllers.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_control_groups_are_found() {
        let home = tempfile::tempdir().unwrap();
        assert!(place(home.path()).unwrap_err().contains("no control groups for memory"));
        fs::write(home.path().join("cgroup.subtree_control"), "cpu memory pids\n").unwrap();
        assert_eq!(place(home.path()).unwrap(), (home.path().to_owned(), "memory.max"));
        fs::create_dir(home.path().join("memory")).unwrap();
        fs::write(home.path().join("memory/memory.limit_in_bytes"), "0").unwrap();
        assert_eq!(place(home.path()).unwrap(), (home.path().join("memory"), "memory.limit_in_bytes"));
    }
}

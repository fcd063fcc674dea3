//! What `stratalog log verify --deep` says of the files of a node that does not run.

use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

use super::Cluster;
use crate::failure::Failure;

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Found {
    /// `note` for what a crash leaves behind.
    pub(crate) severity: String,
    /// Below the data directory.
    pub(crate) file: PathBuf,
    pub(crate) what: String,
}

#[derive(Deserialize)]
struct Told {
    findings: Vec<Found>,
}

impl Cluster {
    /// Reads every file of a node that does not run.
    ///
    /// # Errors
    /// If the command cannot be run, or says something else.
    pub(crate) fn verify_files(&self, number: u64) -> Result<Vec<Found>, Failure> {
        let data = &self.node(number)?.data;
        let mut command = Command::new(&self.site.binary);
        let ran = command.args(["log", "verify", "--deep", "--output", "json"]).arg(data).output()?;
        let told: Result<Told, _> = serde_json::from_slice(&ran.stdout);
        told.map(|told| told.findings).map_err(|error| {
            let said = String::from_utf8_lossy(&ran.stderr);
            Failure(format!("`log verify` of the files of node {number} gave no report: {error}; {}", said.trim()))
        })
    }
}

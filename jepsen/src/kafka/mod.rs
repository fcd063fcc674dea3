//! Clients of Kafka's protocol that nobody here wrote: librdkafka, in a process of its own for each (`jepsen/kafka-client`, which runs
//! in a Python that has confluent-kafka). The workspace knows nothing of it: commands and answers are lines of JSON.

mod process;
mod wire;

use std::path::{Path, PathBuf};
use std::process::Command as System;

use crate::failure::Failure;

pub(crate) use process::{Handle, KafkaClient};
pub(crate) use wire::{Answer, Command};

const SOURCE: &str = include_str!("../../kafka-client");
/// Where `--install target/kafka-client` puts it.
pub(crate) const PYTHON: &str = "target/kafka-client/bin/python3";

/// What such a client is for; the process has a command line for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Producer,
    Consumer,
    Member,
    Observer,
}

/// Starts clients of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Clients {
    python: PathBuf,
    /// The program, written where the run is.
    program: PathBuf,
    /// Logs of the clients.
    home: PathBuf,
    bootstrap: String,
    topic: String,
}

impl Clients {
    /// # Errors
    /// If the program cannot be written.
    pub(crate) fn new(python: &Path, home: &Path, bootstrap: String, topic: &str) -> Result<Self, Failure> {
        let program = home.join("kafka-client");
        std::fs::write(&program, SOURCE)?;
        let (python, home, topic) = (python.to_owned(), home.to_owned(), topic.to_owned());
        Ok(Self { python, program, home, bootstrap, topic })
    }

    /// Starts one, with these settings of librdkafka. To be called on the thread that the harness began on: it ends with it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn start(&self, process: u32, kind: Kind, settings: &[(&str, String)]) -> Result<KafkaClient, Failure> {
        let mut command = tokio::process::Command::new(&self.python);
        command.arg(&self.program).arg(kind.name()).arg(&self.bootstrap).arg(&self.topic);
        command.args(settings.iter().map(|(name, value)| format!("{name}={value}")));
        KafkaClient::start(command, process, kind, &self.home.join(format!("kafka-client{process}.log")))
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Producer => "producer",
            Self::Consumer => "consumer",
            Self::Member => "member",
            Self::Observer => "observer",
        }
    }
}

/// The versions of the client, as it tells them.
///
/// # Errors
/// Why there is none here, and how to get one.
pub(crate) fn version(python: &Path) -> Result<String, String> {
    let hint = "`jepsen/kafka-client --install target/kafka-client` makes one, --kafka-python names another";
    // The program is given as text: nothing is left behind.
    let asked = System::new(python).args(["-c", SOURCE, "--version"]).output();
    let told = asked.map_err(|error| format!("{}: {error}; {hint}", python.display()))?;
    if told.status.success() {
        return Ok(String::from_utf8_lossy(&told.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&told.stderr);
    let last = said.lines().last().unwrap_or_default();
    Err(format!("{}: {last}; {hint}", python.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_is_not_there_says_how_to_get_one() {
        let why = version(Path::new("/nowhere/python3")).unwrap_err();
        assert!(why.contains("/nowhere/python3: No such file") && why.contains("kafka-client --install"), "{why}");
    }
}

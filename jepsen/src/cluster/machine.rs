//! What the harness asks of this machine: commands, ports, and what can be injected here.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use parking_lot::Mutex;

use super::disk::SmallDisk;
use super::levers;
use super::loop_disk::LoopDisk;
use super::network::Network;
use crate::kafka;

/// Ports that were given out. A node listens on its own only a while after it was given them, and not while it is down.
static GIVEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());

/// Ports of loopback that nobody listens on, and that nobody else gets from here. They lie below those that the system gives to
/// connections: one of these may be taken before the node listens on it.
pub(super) fn free_ports() -> [u16; 4] {
    let mut given = GIVEN.lock();
    [(); 4].map(|()| {
        loop {
            let port = fastrand::u16(10_000..32_000);
            if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
                given.push(port);
                return port;
            }
        }
    })
}

/// Runs a command of the system.
///
/// # Errors
/// The command, and what it said.
pub(super) fn system(program: &str, arguments: &[&str]) -> Result<(), String> {
    let ran = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if ran.status.success() {
        return Ok(());
    }
    Err(format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&ran.stderr).trim()))
}

/// Something that a scenario needs of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Capability {
    /// Kill, stop and continue processes of our own.
    Signals,
    /// Network namespaces whose packets can be lost.
    Namespaces,
    /// A router of the harness between such namespaces.
    Router,
    /// A small file system that can be filled.
    SmallDisks,
    /// A device that can lose its power.
    PowerCuts,
    /// A library between a node and the system: clocks that step, syncs that are slow or fail.
    Levers,
    /// A client of Kafka's protocol: librdkafka.
    KafkaClient,
}

impl Capability {
    pub(crate) const ALL: [Self; 7] = [
        Self::Signals,
        Self::Namespaces,
        Self::Router,
        Self::SmallDisks,
        Self::PowerCuts,
        Self::Levers,
        Self::KafkaClient,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Signals => "signals",
            Self::Namespaces => "network-namespaces",
            Self::Router => "network-router",
            Self::SmallDisks => "small-disks",
            Self::PowerCuts => "power-cuts",
            Self::Levers => "levers",
            Self::KafkaClient => "kafka-client",
        }
    }

    /// Tries it, and leaves nothing behind. `python` is to have the Kafka client.
    ///
    /// # Errors
    /// Why it is not to be had here.
    pub(crate) fn probe(self, dir: &Path, python: &Path) -> Result<(), String> {
        let at = dir.join(format!("stratalog-jepsen-{}", std::process::id()));
        match self {
            Self::Signals => Ok(()),
            Self::Namespaces => {
                let network = Network::namespaces()?;
                network.connect(1)
            }
            Self::Router => {
                let network = Network::routed(1)?;
                network.connect(1)
            }
            Self::SmallDisks => {
                let mounted = SmallDisk::mount(&at, 1).map(drop);
                // Where the mount failed it is an empty directory.
                let _ = std::fs::remove_dir(&at);
                mounted
            }
            Self::PowerCuts => {
                let cut = LoopDisk::mount(&at).and_then(|disk| disk.cut());
                // What was not made cannot be removed either.
                let _ = std::fs::remove_dir(&at);
                let _ = std::fs::remove_file(at.with_extension("img"));
                cut
            }
            Self::Levers => {
                let moved = std::fs::create_dir_all(&at).map_err(|error| error.to_string());
                let moved = moved.and_then(|()| levers::probe(&at));
                let _ = std::fs::remove_dir_all(&at);
                moved
            }
            Self::KafkaClient => kafka::version(python).map(drop),
        }
    }
}

//! Which nodes there are, and what each is told.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use super::LocalNode;
use crate::cli::Serve;
use crate::config::{Addresses, Settings, load};
use crate::failure::Failure;

/// More than there are names for.
const MAX_NODES: u16 = 9;
/// Ports of the first node; each further one takes those ten higher.
const FIRST_PORTS: Ports = Ports { grpc: 7070, peer: 7071, http: 8080, kafka: 9092 };
const STEP: u16 = 10;

/// A node of the cluster.
pub(super) struct Member {
    pub(super) node: LocalNode,
    /// host:port.
    peer: String,
}

#[derive(Clone, Copy)]
struct Ports {
    grpc: u16,
    peer: u16,
    http: u16,
    kafka: u16,
}

/// The nodes that `directory` has, and new ones up to `count`.
///
/// # Errors
/// Settings that cannot be read or written.
pub(super) fn members(directory: &Path, count: u16, adjust: fn(&mut Settings)) -> Result<Vec<Member>, Failure> {
    let directory = std::path::absolute(directory).map_err(|error| Failure::io("find", directory.display(), &error))?;
    let mut members: Vec<Member> = Vec::new();
    for number in 1..=MAX_NODES {
        let config = directory.join(format!("node{number}.toml"));
        if config.exists() {
            members.push(read(number, config)?);
        } else if number <= count {
            let seeds = members.iter().map(|member| member.peer.clone()).collect();
            write(&config, &new_node(&directory, number, seeds, adjust)?)?;
            members.push(read(number, config)?);
        }
    }
    Ok(members)
}

fn read(number: u16, config: PathBuf) -> Result<Member, Failure> {
    let settings = load(&Serve { config: Some(config.clone()), ..Serve::default() })?;
    let peer = settings.cluster.listen().unwrap_or_default().to_owned();
    let url = |address: SocketAddr| format!("http://{address}");
    let (grpc, http) = (url(settings.grpc_addr()?), url(settings.http_addr()?));
    let kafka = settings.kafka_addr()?.map(|address| address.to_string()).unwrap_or_default();
    Ok(Member { node: LocalNode { name: format!("node{number}"), grpc, http, kafka, config }, peer })
}

fn new_node(directory: &Path, number: u16, seeds: Vec<String>, adjust: fn(&mut Settings)) -> Result<Settings, Failure> {
    let ports = ports(number)?;
    let at = |port: u16| format!("127.0.0.1:{port}");
    let mut settings = Settings { data_dir: directory.join(format!("node{number}")), ..Settings::default() };
    settings.grpc.listen = at(ports.grpc);
    settings.http.listen = at(ports.http);
    settings.kafka.listen = at(ports.kafka);
    settings.cluster.listen = at(ports.peer);
    settings.cluster.join = Addresses(seeds);
    // So that names and ids agree, whoever comes first.
    settings.cluster.node_id = number.into();
    adjust(&mut settings);
    Ok(settings)
}

/// Those that a node of this number should have, if all of them are free; else any.
fn ports(number: u16) -> Result<Ports, Failure> {
    let further = STEP * (number - 1);
    let Ports { grpc, peer, http, kafka } = FIRST_PORTS;
    let ours = [grpc, peer, http, kafka].map(|port| port + further);
    let bind = |port: u16| TcpListener::bind(("127.0.0.1", port));
    let wanted: Result<Vec<_>, _> = ours.into_iter().map(bind).collect();
    // Held until all are chosen, so that no two are the same.
    let held = wanted.or_else(|_| [0; 4].into_iter().map(bind).collect());
    let held = held.map_err(|error| Failure::io("find free ports on", "127.0.0.1", &error))?;
    let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
    let found: Result<Vec<u16>, _> = held.iter().map(port).collect();
    match found.map_err(|error| Failure::io("read the address of", "a listener", &error))?[..] {
        [grpc, peer, http, kafka] => Ok(Ports { grpc, peer, http, kafka }),
        _ => unreachable!("four listeners have four ports"),
    }
}

/// What differs from the defaults.
fn write(path: &Path, settings: &Settings) -> Result<(), Failure> {
    let table = |settings| toml::Table::try_from(settings).expect("settings are plain values");
    let mut told = table(settings);
    without(&mut told, &table(&Settings::default()));
    let text = format!("# Written by `stratalog dev`; docs/CONFIG.md describes every setting.\n{told}");
    std::fs::write(path, text).map_err(|error| Failure::io("write", path.display(), &error))
}

/// Takes out what is in `defaults`, too.
fn without(told: &mut toml::Table, defaults: &toml::Table) {
    told.retain(|key, value| {
        let default = defaults.get(key);
        if let (toml::Value::Table(inner), Some(toml::Value::Table(default))) = (&mut *value, default) {
            without(inner, default);
            return !inner.is_empty();
        }
        default != Some(value)
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(members: &[Member]) -> Vec<&str> {
        members.iter().map(|member| member.node.name.as_str()).collect()
    }

    #[test]
    fn a_later_start_finds_the_same_nodes_and_adds_those_that_are_new() {
        let directory = tempfile::tempdir().unwrap();
        let first = members(directory.path(), 2, |settings| settings.log.level = "warn".to_owned()).unwrap();
        assert_eq!(names(&first), ["node1", "node2"]);
        let again = members(directory.path(), 3, |_| ()).unwrap();
        assert_eq!(names(&again), ["node1", "node2", "node3"]);
        for (before, after) in first.iter().zip(&again) {
            assert_eq!((&before.node.grpc, &before.peer), (&after.node.grpc, &after.peer));
        }
        assert_eq!(names(&members(directory.path(), 1, |_| ()).unwrap()).len(), 3, "a quorum needs those there are");
    }

    #[test]
    fn the_first_node_begins_a_cluster_and_the_others_join_it() {
        let directory = tempfile::tempdir().unwrap();
        let members = members(directory.path(), 3, |settings| settings.log.level = "warn".to_owned()).unwrap();
        let settings = |at: usize| {
            let config = Some(members[at].node.config.clone());
            load(&Serve { config, ..Serve::default() }).unwrap()
        };
        assert!(settings(0).cluster.join.0.is_empty());
        assert_eq!(settings(2).cluster.join.0, [members[0].peer.clone(), members[1].peer.clone()]);
        assert_eq!(settings(1).log.level, "warn");
        let text = std::fs::read_to_string(&members[0].node.config).unwrap();
        assert!(!text.contains("seal_bytes"), "defaults are not written: {text}");
    }
}

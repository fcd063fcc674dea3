//! `[cluster]`: the node among others.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stratalog_broker::ClusterOptions;
use stratalog_proto::NodeId;
use stratalog_proto::config::REPLICATION;
use stratalog_transport::{Secret, Tls, TransportOptions};

use super::texts::{Addresses, Hidden};
use super::units::Bytes;
use super::{Bound, bounded};
use crate::failure::Failure;

/// Where a node listens that is to join a cluster and was not told where.
const DEFAULT_LISTEN: &str = "127.0.0.1:7071";
/// More seeds than anybody needs.
const MAX_SEEDS: usize = 64;
/// The longest name of a zone.
const MAX_ZONE_BYTES: usize = 100;

/// `[cluster]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Cluster {
    /// The id that a new node wants; 0: the next free one.
    pub(crate) node_id: u64,
    /// The listener for other nodes; empty: none, and the node stays alone.
    pub(crate) listen: String,
    /// Where the other nodes reach it; empty: at the address that it listens on.
    pub(crate) advertise: String,
    /// Where clients reach gRPC; empty: at its listener.
    pub(crate) grpc_advertise: String,
    /// Where clients reach HTTP; empty: at its listener.
    pub(crate) http_advertise: String,
    /// Where Kafka clients are sent to; empty: to its listener.
    pub(crate) kafka_advertise: String,
    /// Nodes that are asked to let this one in while it belongs to no cluster.
    pub(crate) join: Addresses,
    /// The same on every node of the cluster.
    pub(crate) secret: Hidden,
    /// Instead: the file that holds it.
    pub(crate) secret_file: PathBuf,
    /// Replicas of a shard are spread over zones.
    pub(crate) zone: String,
    /// Of a new cluster: copies of what is written, once there are as many nodes.
    pub(crate) replication: u32,
    /// Of a new cluster: its Raft groups.
    pub(crate) shards: u32,
    /// Bytes of segments that are fetched from other nodes in a second, to have what this one misses; 0: as fast as it goes.
    pub(crate) fetch_rate: Bytes,
    pub(crate) tls: ClusterTls,
}

/// `[cluster.tls]`: all of it, or nothing.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ClusterTls {
    /// The authority that signed every node's certificate, PEM.
    pub(crate) ca: PathBuf,
    /// This node's certificate, PEM.
    pub(crate) cert: PathBuf,
    /// Its private key, PEM.
    pub(crate) key: PathBuf,
    /// The name that every node's certificate carries; empty: the host of its address.
    pub(crate) server_name: String,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            node_id: 0,
            listen: String::new(),
            advertise: String::new(),
            grpc_advertise: String::new(),
            http_advertise: String::new(),
            kafka_advertise: String::new(),
            join: Addresses::default(),
            secret: Hidden::default(),
            secret_file: PathBuf::new(),
            zone: String::new(),
            replication: 3,
            shards: 4,
            fetch_rate: Bytes(256 << 20),
            tls: ClusterTls::default(),
        }
    }
}

impl Cluster {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// [`Failure::Usage`], naming the key, the value and what is allowed.
    pub(super) fn validate(&self) -> Result<(), Failure> {
        let (least, most) = (u64::from(*REPLICATION.start()), u64::from(*REPLICATION.end()));
        bounded("cluster.replication", self.replication.into(), least, most)?;
        bounded("cluster.shards", self.shards.into(), 1, 256)?;
        bounded("cluster.fetch_rate", self.fetch_rate.0, 0, 1 << 40)?;
        bounded("cluster.join, its length,", self.join.0.len() as u64, 0, MAX_SEEDS as u64)?;
        bounded("cluster.zone, its length,", self.zone.len() as u64, 0, MAX_ZONE_BYTES as u64)?;
        let told = [
            ("cluster.advertise", &self.advertise),
            ("cluster.grpc_advertise", &self.grpc_advertise),
            ("cluster.http_advertise", &self.http_advertise),
            ("cluster.kafka_advertise", &self.kafka_advertise),
        ];
        told.into_iter().filter(|(_, address)| !address.is_empty()).try_for_each(|(key, text)| reachable(key, text))?;
        self.join.0.iter().try_for_each(|seed| reachable("cluster.join", seed))?;
        let transport = self.transport()?;
        match self.listen() {
            Some(listen) => self.check_listener(listen, transport.guards()),
            None => Ok(()),
        }
    }

    /// Where other nodes are listened to, if anywhere.
    pub(crate) fn listen(&self) -> Option<&str> {
        match self.listen.as_str() {
            "" if self.join.0.is_empty() => None,
            "" => Some(DEFAULT_LISTEN),
            listen => Some(listen),
        }
    }

    fn check_listener(&self, listen: &str, guarded: bool) -> Result<(), Failure> {
        let resolved = listen.to_socket_addrs().ok().and_then(|mut found| found.next());
        let ip = resolved.map(|address| address.ip()).ok_or_else(|| {
            Failure::Usage(format!("cluster.listen = \"{listen}\" is not an address and a port, such as 10.0.0.1:7071"))
        })?;
        if !ip.is_loopback() && !guarded {
            return Err(Failure::Usage(format!(
                "cluster.listen = \"{listen}\" would let anybody who reaches it join the cluster and read everything: set \
                 cluster.secret_file to a file with the same secret on every node (`openssl rand -hex 32` makes one), or \
                 [cluster.tls]"
            )));
        }
        if ip.is_unspecified() && self.advertise.is_empty() {
            return Err(Failure::Usage(format!(
                "cluster.listen = \"{listen}\" is every address of this machine: say with cluster.advertise at which of them \
                 the other nodes reach it"
            )));
        }
        Ok(())
    }

    /// What the broker is told, behind these listeners.
    ///
    /// # Errors
    /// [`Failure::Usage`] for a secret or certificates that cannot be read.
    pub(crate) fn options(&self, bound: &Bound) -> Result<ClusterOptions, Failure> {
        Ok(ClusterOptions {
            listen: self.listen().map(str::to_owned),
            advertise: self.advertise.clone(),
            grpc_address: self.advertised(&self.grpc_advertise, bound.grpc),
            http_address: self.advertised(&self.http_advertise, bound.http),
            kafka_address: bound.kafka.map(|kafka| self.advertised(&self.kafka_advertise, kafka)).unwrap_or_default(),
            // Those stand in `[kafka]`.
            kafka_listeners: BTreeMap::new(),
            join: self.join.0.clone(),
            node_id: NodeId(self.node_id),
            zone: self.zone.clone(),
            replication: self.replication,
            fetch_rate_bytes: self.fetch_rate.0,
            transport: self.transport()?,
        })
    }

    /// What clients are told of a listener: what was said, else its address, else its port on the host that the other nodes
    /// are told of.
    pub(super) fn advertised(&self, said: &str, listener: SocketAddr) -> String {
        if !said.is_empty() {
            return said.to_owned();
        }
        if !listener.ip().is_unspecified() {
            return listener.to_string();
        }
        match self.advertise.rsplit_once(':') {
            Some((host, _)) => format!("{host}:{}", listener.port()),
            None => String::new(),
        }
    }

    fn transport(&self) -> Result<TransportOptions, Failure> {
        Ok(TransportOptions { secret: self.read_secret()?, tls: self.tls.read()?, ..TransportOptions::default() })
    }

    fn read_secret(&self) -> Result<Option<Secret>, Failure> {
        let in_file = !self.secret_file.as_os_str().is_empty();
        let text = match (self.secret.0.is_empty(), in_file) {
            (true, false) => return Ok(None),
            (false, false) => self.secret.0.clone(),
            (true, true) => String::from_utf8(read("cluster.secret_file", &self.secret_file)?).map_err(|_| {
                Failure::Usage(format!("cluster.secret_file: {} is not text", self.secret_file.display()))
            })?,
            (false, true) => {
                return Err(Failure::Usage("give either cluster.secret or cluster.secret_file, not both".to_owned()));
            }
        };
        Ok(Some(Secret::new(&text)?))
    }
}

impl ClusterTls {
    fn read(&self) -> Result<Option<Tls>, Failure> {
        let files = [("cluster.tls.ca", &self.ca), ("cluster.tls.cert", &self.cert), ("cluster.tls.key", &self.key)];
        let missing = files.iter().filter(|(_, path)| path.as_os_str().is_empty()).map(|(key, _)| *key);
        let missing: Vec<_> = missing.collect();
        if missing.len() == files.len() {
            return Ok(None);
        }
        if !missing.is_empty() {
            return Err(Failure::Usage(format!("[cluster.tls] also needs {}", missing.join(" and "))));
        }
        let [authority, certificate, key] = files.map(|(key, path)| read(key, path));
        let server_name = (!self.server_name.is_empty()).then(|| self.server_name.clone());
        Ok(Some(Tls { authority: authority?.into(), certificate: certificate?.into(), key: key?.into(), server_name }))
    }
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::Usage(format!("{key}: cannot read {}: {error}", path.display())))
}

/// An address that somebody else is to connect to: any host, and a port.
pub(super) fn reachable(key: &str, text: &str) -> Result<(), Failure> {
    let host_and_port = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let wildcard = |host: &str| host.trim_matches(['[', ']']).parse().is_ok_and(|ip: IpAddr| ip.is_unspecified());
    match host_and_port {
        Some((host, port)) if !host.is_empty() && !host.contains('/') && port > 0 && !wildcard(host) => Ok(()),
        _ => Err(Failure::Usage(format!(
            "{key} = \"{text}\" is not an address that others can reach: write HOST:PORT, such as 10.0.0.1:7071"
        ))),
    }
}

#[cfg(test)]
mod tests;

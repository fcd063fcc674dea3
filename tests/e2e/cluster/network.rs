//! Where the nodes of a cluster are: all on loopback, or each in a network namespace of its own, between which packets can be
//! lost. The latter needs root.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::machine::{free_ports, system};

/// Tells the networks of one run apart.
static NEXT: AtomicU32 = AtomicU32::new(0);
/// As many networks as the third number of an address has values.
const NETWORKS: u32 = 256;

/// What connects the nodes of a cluster, and the test with them.
pub(super) struct Network(Option<Namespaces>);

struct Namespaces {
    /// Third number of all addresses, so that two networks do not mix.
    number: u32,
    nodes: Vec<u64>,
}

impl Network {
    pub(super) fn loopback() -> Self {
        Self(None)
    }

    /// A namespace for each of `nodes`, on one bridge.
    ///
    /// # Errors
    /// Why that cannot be had here.
    pub(super) fn namespaces(nodes: &[u64]) -> Result<Self, String> {
        let number = (std::process::id() + 17 * NEXT.fetch_add(1, Ordering::Relaxed)) % NETWORKS;
        let made = Namespaces { number, nodes: nodes.to_vec() };
        system("ip", &["link", "add", &made.bridge(), "type", "bridge"])?;
        // From here on, dropping it removes what was made.
        let network = Self(Some(made));
        let made = network.0.as_ref().expect("it was just made");
        system("ip", &["address", "add", &format!("10.213.{number}.254/24"), "dev", &made.bridge()])?;
        system("ip", &["link", "set", &made.bridge(), "up"])?;
        nodes.iter().try_for_each(|node| made.connect(*node))?;
        Ok(network)
    }

    pub(super) fn is_loopback(&self) -> bool {
        self.0.is_none()
    }

    /// The address of a node.
    pub(super) fn host(&self, node: u64) -> String {
        self.0.as_ref().map_or_else(|| "127.0.0.1".to_owned(), |made| made.address(node))
    }

    /// For gRPC, other nodes, HTTP and Kafka.
    pub(super) fn ports(&self) -> [u16; 4] {
        if self.is_loopback() { free_ports() } else { [7070, 7071, 8080, 9092] }
    }

    /// A command that runs where a node is.
    pub(super) fn command(&self, node: u64, program: &str) -> Command {
        let Some(made) = &self.0 else { return Command::new(program) };
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &made.namespace(node), program]);
        command
    }

    /// From now on, nothing that `from` sends arrives at `to`. The test reaches both.
    pub(super) fn cut(&self, from: u64, to: u64) {
        self.route("add", from, to);
    }

    pub(super) fn mend(&self, from: u64, to: u64) {
        self.route("del", from, to);
    }

    fn route(&self, change: &str, from: u64, to: u64) {
        let made = self.0.as_ref().expect("packets are only lost between namespaces");
        let (namespace, address) = (made.namespace(from), format!("{}/32", made.address(to)));
        system("ip", &["-n", &namespace, "route", change, "blackhole", &address]).unwrap();
    }
}

impl Namespaces {
    fn bridge(&self) -> String {
        format!("slbr{}", self.number)
    }

    fn namespace(&self, node: u64) -> String {
        format!("sl{}n{node}", self.number)
    }

    fn address(&self, node: u64) -> String {
        format!("10.213.{}.{node}", self.number)
    }

    fn connect(&self, node: u64) -> Result<(), String> {
        let (namespace, outside, inside) = (self.namespace(node), format!("slv{}x{node}", self.number), "eth0");
        system("ip", &["netns", "add", &namespace])?;
        system("ip", &["link", "add", &outside, "type", "veth", "peer", "name", inside, "netns", &namespace])?;
        system("ip", &["link", "set", &outside, "master", &self.bridge(), "up"])?;
        system("ip", &["-n", &namespace, "address", "add", &format!("{}/24", self.address(node)), "dev", inside])?;
        system("ip", &["-n", &namespace, "link", "set", inside, "up"])?;
        system("ip", &["-n", &namespace, "link", "set", "lo", "up"])
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // Whatever was not made cannot be removed either.
        for node in &self.nodes {
            let _ = system("ip", &["netns", "del", &self.namespace(*node)]);
        }
        let _ = system("ip", &["link", "del", &self.bridge()]);
    }
}

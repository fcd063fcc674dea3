//! Where the nodes of a cluster are: all on loopback, or each in a network namespace of its own on one bridge, between which
//! packets can be lost. The latter needs root.
//!
//! What nodes send each other can also go through a router of the harness, which delays, loses, doubles and reorders packets; the
//! harness itself reaches all nodes past it.
//!
//! A link is cut in one direction by telling the sender a hardware address for the receiver that nobody has. Packets vanish
//! without a word, as in a network, and connections stay: nobody is told that nothing arrives.

use std::process::Command;

use parking_lot::Mutex;

use super::machine::{free_ports, system};
use super::router::{self, Packets, Router, Weather};

/// As many networks as the third number of an address has values.
const NETWORKS: u32 = 256;
/// Nobody has it: locally administered, and not given out by the system.
const NOBODY: &str = "02:00:00:00:00:fe";

/// What connects the nodes of a cluster, and the harness with them. Dropping it removes it.
#[derive(Debug)]
pub(crate) struct Network(Option<Namespaces>);

#[derive(Debug)]
struct Namespaces {
    /// Third number of all addresses, so that two networks do not mix.
    number: u32,
    nodes: Mutex<Vec<u64>>,
    /// What nodes send each other goes through it, if there is one.
    router: Option<Router>,
}

impl Network {
    pub(crate) fn loopback() -> Self {
        Self(None)
    }

    /// An empty bridge for namespaces.
    ///
    /// # Errors
    /// Why that cannot be had here.
    pub(crate) fn namespaces() -> Result<Self, String> {
        Self::bridged(None)
    }

    /// The same with a router between the nodes, whose weather follows from a seed.
    ///
    /// # Errors
    /// Why that cannot be had here.
    pub(crate) fn routed(seed: u64) -> Result<Self, String> {
        Self::bridged(Some(Router::start(seed)))
    }

    fn bridged(mut router: Option<Router>) -> Result<Self, String> {
        let begin = std::process::id();
        // Another harness, or the rest of one that was killed, may have a number.
        let mut refused = String::new();
        for number in (begin..begin + NETWORKS).map(|number| number % NETWORKS) {
            match system("ip", &["link", "add", &bridge(number), "type", "bridge"]) {
                Ok(()) => {
                    // From here on, dropping it removes what was made.
                    let made = Namespaces { number, nodes: Mutex::default(), router: router.take() };
                    let network = Self(Some(made));
                    network.raise(number)?;
                    return Ok(network);
                }
                Err(why) if why.contains("exists") => refused = why,
                Err(why) => return Err(why),
            }
        }
        Err(refused)
    }

    fn raise(&self, number: u32) -> Result<(), String> {
        system("ip", &["address", "add", &format!("10.214.{number}.254/24"), "dev", &bridge(number)])?;
        system("ip", &["link", "set", &bridge(number), "up"])
    }

    /// Makes a place for a node, if places have to be made and it has none.
    ///
    /// # Errors
    /// Why that cannot be.
    pub(crate) fn connect(&self, node: u64) -> Result<(), String> {
        let Some(made) = &self.0 else { return Ok(()) };
        let mut nodes = made.nodes.lock();
        if nodes.contains(&node) {
            return Ok(());
        }
        nodes.push(node);
        made.connect(node)
    }

    pub(crate) fn is_loopback(&self) -> bool {
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

    /// From now on, nothing that `from` sends arrives at `to`. The harness reaches both.
    ///
    /// # Errors
    /// If there are no namespaces, or the system refuses.
    pub(crate) fn cut(&self, from: u64, to: u64) -> Result<(), String> {
        let made = self.0.as_ref().ok_or("packets are only lost between namespaces")?;
        let entry = ["neigh", "replace", &made.address(to), "lladdr", NOBODY, "dev", "eth0", "nud", "permanent"];
        system("ip", &[&["-n", &made.namespace(from)][..], &entry[..]].concat())
    }

    /// # Errors
    /// As [`Network::cut`].
    pub(crate) fn mend(&self, from: u64, to: u64) -> Result<(), String> {
        let made = self.0.as_ref().ok_or("packets are only lost between namespaces")?;
        system("ip", &["-n", &made.namespace(from), "neigh", "del", &made.address(to), "dev", "eth0"])
    }

    /// From now on this happens to what nodes send each other; the harness reaches them as ever.
    ///
    /// # Errors
    /// If there is no router between them.
    pub(crate) fn set_weather(&self, weather: Weather) -> Result<(), String> {
        self.router().map(|router| router.set(weather))
    }

    /// What became of packets between nodes so far.
    ///
    /// # Errors
    /// If there is no router between them.
    pub(crate) fn packets(&self) -> Result<Packets, String> {
        self.router().map(Router::packets)
    }

    fn router(&self) -> Result<&Router, String> {
        self.0
            .as_ref()
            .and_then(|made| made.router.as_ref())
            .ok_or_else(|| "there is no router between nodes".to_owned())
    }
}

fn bridge(number: u32) -> String {
    format!("sjbr{number}")
}

impl Namespaces {
    fn namespace(&self, node: u64) -> String {
        format!("sj{}n{node}", self.number)
    }

    fn address(&self, node: u64) -> String {
        format!("10.214.{}.{node}", self.number)
    }

    /// The end of a node's link that is not in its namespace.
    fn outside(&self, node: u64) -> String {
        format!("sjv{}x{node}", self.number)
    }

    fn connect(&self, node: u64) -> Result<(), String> {
        let (namespace, outside, inside) = (self.namespace(node), self.outside(node), "eth0");
        system("ip", &["netns", "add", &namespace])?;
        system("ip", &["link", "add", &outside, "type", "veth", "peer", "name", inside, "netns", &namespace])?;
        system("ip", &["link", "set", &outside, "master", &bridge(self.number), "up"])?;
        system("ip", &["-n", &namespace, "address", "add", &format!("{}/24", self.address(node)), "dev", inside])?;
        system("ip", &["-n", &namespace, "link", "set", inside, "up"])?;
        system("ip", &["-n", &namespace, "link", "set", "lo", "up"])?;
        self.router.as_ref().map_or(Ok(()), |router| self.route(router, node, &namespace))
    }

    /// What goes to other nodes takes the router's device. The harness is at the end of the network, outside of what that concerns.
    fn route(&self, router: &Router, node: u64, namespace: &str) -> Result<(), String> {
        let last = u8::try_from(node).map_err(|error| format!("node {node}: {error}"))?;
        router.add(last, namespace)?;
        system("ip", &["-n", namespace, "link", "set", router::DEVICE, "up"])?;
        let (nodes, address) = (format!("10.214.{}.0/25", self.number), self.address(node));
        system("ip", &["-n", namespace, "route", "add", &nodes, "dev", router::DEVICE, "src", &address])
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        self.router = None;
        // Whatever was not made cannot be removed either.
        for node in self.nodes.lock().iter() {
            // With its namespace it would go some time later, when the next network may want its name.
            let _ = system("ip", &["link", "del", &self.outside(*node)]);
            let _ = system("ip", &["netns", "del", &self.namespace(*node)]);
        }
        let _ = system("ip", &["link", "del", &bridge(self.number)]);
    }
}

//! A running node: broker, listeners, and a clean stop. A node that is to join a cluster serves before it has one, so that it
//! can say what it waits for, and be told to begin one.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use futures::future::select_all;
use stratalog_broker::{Broker, CONSENSUS_CALL_LOG_TARGETS, CONSENSUS_LOG_TARGET, ClusterOptions, Forming};
use stratalog_gateway::{Gateway, GatewayOptions, Kafka, Waiting, serve_grpc, serve_http};
use stratalog_proto::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::cli::Serve;
use crate::config::{Bound, LogFormat, Settings, load};
use crate::descriptors::raise_limit;
use crate::events;
use crate::failure::Failure;
use crate::memory;
use crate::output::{human_duration, say};
use crate::reach::check_kafka;

/// `stratalog serve`: runs until SIGTERM or SIGINT.
pub(crate) async fn run(flags: &Serve) -> Result<(), Failure> {
    let settings = load(flags)?;
    if flags.check {
        let text = toml::to_string(&settings).expect("settings are plain values");
        return say!("{text}");
    }
    start_log(&settings)?;
    memory::give_back_from_now_on();
    let mut node = Node::start(&settings, Ports::AsGiven).await?;
    if announce(&settings, &node).is_err() {
        tracing::warn!("nobody reads the standard output, where the addresses are told");
    }
    let outcome = tokio::select! {
        why = stop_signal() => why.map(|signal| tracing::info!(signal, "stopping")),
        failure = node.ended() => Err(failure),
    };
    node.stop().await;
    tracing::info!("stopped");
    outcome
}

fn announce(settings: &Settings, node: &Node) -> Result<(), Failure> {
    say!("stratalog {} serves {}", env!("CARGO_PKG_VERSION"), settings.data_dir.display())?;
    say!("  gRPC  http://{}", node.grpc)?;
    say!("  HTTP  http://{}", node.http)?;
    if let Some(kafka) = node.kafka {
        say!("  Kafka {kafka}")?;
    }
    for (name, kafka) in &node.kafka_listeners {
        say!("  Kafka {kafka} ({name})")?;
    }
    if let Some(peer) = node.forming.peer_address() {
        say!("  nodes {peer}")?;
    }
    if node.forming.is_formed() {
        return Ok(());
    }
    say!(
        "It belongs to no cluster yet. It joins that of {} by itself, once there is one;",
        settings.cluster.join.0.join(", ")
    )?;
    say!("to begin one with this node, once: stratalog cluster init --endpoint http://{}", node.grpc)
}

/// Starts the node's own log, on standard error.
///
/// # Errors
/// [`Failure::Usage`] for a level that does not parse.
pub(crate) fn start_log(settings: &Settings) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&settings.log.level)
        .map_err(|error| Failure::Usage(format!("log.level = \"{}\" is not a level: {error}", settings.log.level)))?;
    let filter = quiet_libraries(filter, &settings.log.level);
    let log = tracing_subscriber::fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
    let log = match settings.log.format {
        LogFormat::Text => log.with_filter(filter).boxed(),
        LogFormat::Json => log.json().with_filter(filter).boxed(),
    };
    tracing_subscriber::registry().with(log).with(events::layer()).init();
    Ok(())
}

/// Consensus tells every step of an election as information, and warns of each heartbeat that a node which is away does not
/// answer; unless it is asked for, only its errors are wanted, and of those not the ones that a stop brings with it.
fn quiet_libraries(filter: EnvFilter, level: &str) -> EnvFilter {
    let asked_for = [CONSENSUS_LOG_TARGET, "debug", "trace"].iter().any(|word| level.contains(word));
    if asked_for {
        return filter;
    }
    let of_calls = CONSENSUS_CALL_LOG_TARGETS.iter().map(|target| format!("{target}=off"));
    let directives = of_calls.chain([format!("{CONSENSUS_LOG_TARGET}=error")]);
    directives.fold(filter, |filter, directive| filter.add_directive(directive.parse().expect("it is well formed")))
}

/// Whether a port that is in use is an error.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ports {
    /// Exactly the ports of the settings.
    AsGiven,
    /// A free port where the given one is in use.
    AnyIfTaken,
}

/// A node that serves.
pub(crate) struct Node {
    /// Where gRPC listens.
    pub(crate) grpc: SocketAddr,
    /// Where HTTP listens.
    pub(crate) http: SocketAddr,
    /// Where Kafka clients are listened to, if anywhere.
    pub(crate) kafka: Option<SocketAddr>,
    /// … and by listeners that have names.
    kafka_listeners: BTreeMap<String, SocketAddr>,
    forming: Arc<Forming>,
    broker: Stage,
    stopping: watch::Sender<bool>,
    listeners: Vec<Listener>,
}

/// The task of a listener.
struct Listener {
    what: &'static str,
    task: JoinHandle<()>,
}

impl Listener {
    fn start(what: &'static str, serving: impl Future<Output = std::io::Result<()>> + Send + 'static) -> Self {
        Self { what, task: tokio::spawn(report(what, serving)) }
    }
}

/// How far the broker is.
enum Stage {
    /// The node belongs to no cluster yet, or has just begun to.
    Waiting(JoinHandle<Result<Arc<Broker>, Error>>),
    Serving(Arc<Broker>),
    /// It did not start.
    Failed,
}

impl Node {
    /// Binds the listeners, recovers the data directory and serves.
    ///
    /// # Errors
    /// An address or a data directory that is in use, or data that does not recover.
    pub(crate) async fn start(settings: &Settings, ports: Ports) -> Result<Self, Failure> {
        // A node that cannot raise it works with what it has.
        raise_limit().unwrap_or_else(|error| tracing::warn!(%error, "going on with the limit as it is"));
        let grpc = bind("gRPC", settings.grpc_addr()?, ports).await?;
        let http = bind("HTTP", settings.http_addr()?, ports).await?;
        let kafka = KafkaListeners::bind(settings, ports).await?;
        let (unnamed, named) = kafka.local()?;
        let bound = Bound { grpc: local(&grpc)?, http: local(&http)?, kafka: unnamed, kafka_listeners: named };
        let started = Instant::now();
        let options = settings.broker_options(&bound)?;
        let told = options.cluster.clone();
        let forming = Forming::start(options).await?;
        let (gateway, broker) = open(&forming, settings).await?;
        tracing::info!(
            data = %settings.data_dir.display(), grpc = %bound.grpc, http = %bound.http,
            kafka = bound.kafka.map(tracing::field::display), took = human_duration(started.elapsed()), "serving"
        );
        let (stopping, stop) = watch::channel(false);
        let mut listeners = vec![
            Listener::start("gRPC", serve_grpc(gateway.clone(), grpc, stopped(stop.clone()))),
            Listener::start("HTTP", serve_http(gateway.clone(), http, stopped(stop.clone()))),
        ];
        let node = Kafka::new(gateway, settings.kafka.options());
        for (name, listener) in kafka.0 {
            check_address(&told, name.as_deref());
            listeners.push(Listener::start("Kafka", node.clone().serve(name, listener, stopped(stop.clone()))));
        }
        let Bound { grpc, http, kafka, kafka_listeners } = bound;
        Ok(Self { grpc, http, kafka, kafka_listeners, forming, broker, stopping, listeners })
    }

    /// Resolves with the reason why the node cannot go on.
    async fn ended(&mut self) -> Failure {
        let (tasks, names): (Vec<_>, Vec<_>) =
            self.listeners.iter_mut().map(|listener| (&mut listener.task, listener.what)).unzip();
        tokio::select! {
            (_, at, _) = select_all(tasks) => {
                Failure::Refused(format!("the {} listener ended; its error was logged", names[at]))
            }
            failure = self.broker.failed() => failure,
        }
    }

    /// Lets running requests end, then stops the broker.
    pub(crate) async fn stop(self) {
        // No receiver is left only if both listeners have ended already.
        let _ = self.stopping.send(true);
        for listener in self.listeners {
            if !listener.task.is_finished() {
                let _ = listener.task.await;
            }
        }
        if let Some(broker) = self.broker.into_broker().await {
            broker.stop().await;
        }
    }
}

impl Stage {
    /// Resolves if the broker does not start.
    async fn failed(&mut self) -> Failure {
        if let Stage::Waiting(formed) = self {
            let failure = match formed.await {
                Ok(Ok(broker)) => {
                    *self = Stage::Serving(broker);
                    return std::future::pending().await;
                }
                Ok(Err(error)) => error.into(),
                Err(panic) => Failure::Refused(format!("the start of the node ended early: {panic}")),
            };
            *self = Stage::Failed;
            return failure;
        }
        std::future::pending().await
    }

    /// The broker, if it started.
    async fn into_broker(self) -> Option<Arc<Broker>> {
        match self {
            Stage::Waiting(formed) => {
                formed.abort();
                formed.await.ok()?.ok()
            }
            Stage::Serving(broker) => Some(broker),
            Stage::Failed => None,
        }
    }
}

/// Where Kafka clients are listened to: without a name, and by names.
struct KafkaListeners(Vec<(Option<String>, TcpListener)>);

impl KafkaListeners {
    async fn bind(settings: &Settings, ports: Ports) -> Result<Self, Failure> {
        let unnamed = settings.kafka_addr()?.map(|address| (None, address));
        let named = settings.kafka_addrs()?.into_iter().map(|(name, address)| (Some(name), address));
        let mut listeners = Vec::new();
        for (name, address) in unnamed.into_iter().chain(named) {
            listeners.push((name, bind("Kafka", address, ports).await?));
        }
        Ok(Self(listeners))
    }

    /// Where they are bound.
    fn local(&self) -> Result<(Option<SocketAddr>, BTreeMap<String, SocketAddr>), Failure> {
        let (mut unnamed, mut named) = (None, BTreeMap::new());
        for (name, listener) in &self.0 {
            let address = local(listener)?;
            match name {
                None => unnamed = Some(address),
                Some(name) => drop(named.insert(name.clone(), address)),
            }
        }
        Ok((unnamed, named))
    }
}

/// Says in the log if the address that clients of a listener are sent to is not reached.
fn check_address(told: &ClusterOptions, name: Option<&str>) {
    let (address, key) = match name {
        None => (Some(&told.kafka_address), "cluster.kafka_advertise".to_owned()),
        Some(name) => (told.kafka_listeners.get(name), format!("kafka.listeners.{name}.advertise")),
    };
    if let Some(address) = address.filter(|address| !address.is_empty()) {
        tokio::spawn(check_kafka(address.clone(), key));
    }
}

/// Starts the broker, or waits for a cluster behind doors that are open already.
async fn open(forming: &Arc<Forming>, settings: &Settings) -> Result<(Gateway, Stage), Failure> {
    let options = GatewayOptions { max_body_bytes: settings.http.max_body.0 as usize, ..GatewayOptions::default() };
    if forming.is_formed() {
        let broker = forming.formed().await?;
        return Ok((Gateway::new(Arc::clone(&broker), options), Stage::Serving(broker)));
    }
    let gateway = Gateway::waiting(Arc::new(WaitsForCluster(Arc::clone(forming))), options);
    let (front, forming) = (gateway.clone(), Arc::clone(forming));
    let formed = tokio::spawn(async move {
        let broker = forming.formed().await?;
        front.open(Arc::clone(&broker));
        tracing::info!("the node belongs to a cluster, and serves");
        Ok(broker)
    });
    Ok((gateway, Stage::Waiting(formed)))
}

/// What the gateway tells of a node that belongs to no cluster, and can do with it.
struct WaitsForCluster(Arc<Forming>);

#[async_trait]
impl Waiting for WaitsForCluster {
    async fn init(&self, shards: u32, replication: u32, alone: bool) -> Result<(), Error> {
        self.0.init(shards, replication, alone).await
    }

    fn waits_for(&self) -> String {
        self.0.problem().unwrap_or_else(|| "it asks the nodes of cluster.join to let it in".to_owned())
    }
}

/// Resolves when the operating system asks the process to end.
///
/// # Errors
/// If signals cannot be received at all.
pub(crate) async fn stop_signal() -> Result<&'static str, Failure> {
    let install = |kind| signal(kind).map_err(|error| Failure::io("listen for", "signals", &error));
    let (mut terminate, mut interrupt) = (install(SignalKind::terminate())?, install(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}

async fn bind(what: &str, address: SocketAddr, ports: Ports) -> Result<TcpListener, Failure> {
    match TcpListener::bind(address).await {
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && ports == Ports::AnyIfTaken => {
            let any = SocketAddr::new(address.ip(), 0);
            TcpListener::bind(any).await.map_err(|error| Failure::io("listen on", any, &error))
        }
        Err(error) => {
            let message = format!(
                "cannot listen on {address} for {what}: {error}; is another node running? --grpc, --http and --kafka choose other addresses"
            );
            Err(Failure::Refused(message))
        }
        Ok(listener) => Ok(listener),
    }
}

fn local(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(|error| Failure::io("read the address of", "a listener", &error))
}

async fn report(what: &'static str, serving: impl Future<Output = std::io::Result<()>>) {
    if let Err(error) = serving.await {
        tracing::error!(%error, "the {what} listener failed");
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the node itself is gone, which is a stop too.
    let _ = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Written {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn written(level: &str) -> String {
        let (filter, written) = (quiet_libraries(EnvFilter::new(level), level), Written::default());
        let log = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(written.clone()).with_filter(filter);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(log), || {
            tracing::error!(target: CONSENSUS_CALL_LOG_TARGETS[0], "a call failed");
            tracing::error!(target: CONSENSUS_LOG_TARGET, "a group failed");
            tracing::warn!(target: CONSENSUS_LOG_TARGET, "no heartbeat");
            tracing::info!(target: "stratalog_broker", "serving");
        });
        String::from_utf8(written.0.lock().clone()).unwrap()
    }

    #[test]
    fn consensus_tells_its_errors_and_more_only_if_it_is_asked() {
        let told = written("info");
        assert!(told.contains("a group failed") && told.contains("serving"), "{told}");
        assert!(!told.contains("a call failed") && !told.contains("no heartbeat"), "{told}");
        let told = written(&format!("info,{CONSENSUS_LOG_TARGET}=warn"));
        assert!(told.contains("a call failed") && told.contains("no heartbeat"), "{told}");
    }
}

//! The connections that a node has, one a lane and node, made when they are needed.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt, Shared};
use parking_lot::Mutex;
use stratalog_proto::NodeId;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::{Connection, DialError, Dialer};
use crate::handshake::Expected;
use crate::quiet::Quiet;
use crate::{AddressBook, CallError, Identity, Lane};

type Dialled = Result<Arc<Connection>, DialError>;
type Dialling = Shared<BoxFuture<'static, Dialled>>;

/// All connections to other nodes.
pub(crate) struct Links {
    dialer: Dialer,
    book: Arc<dyn AddressBook>,
    state: Mutex<State>,
    /// Changes when the book is to be looked at again for who was removed.
    rechecks: watch::Sender<()>,
    quiet: Quiet,
    /// Where connections live.
    runtime: Handle,
}

struct State {
    me: Arc<Identity>,
    links: HashMap<(NodeId, Lane), Link>,
    /// Why nodes were not reached last.
    problems: HashMap<NodeId, String>,
    /// Numbers the attempts, so that one which began before the identity changed is told from later ones.
    attempts: u64,
}

enum Link {
    /// Everybody who needs it waits for the same attempt.
    Dialling {
        attempt: u64,
        done: Dialling,
    },
    Up {
        connection: Arc<Connection>,
        since: Instant,
        pause: Duration,
    },
    /// Nobody tries before `until`; `pause` is what led to it.
    Down {
        until: Instant,
        pause: Duration,
        why: DialError,
    },
}

/// What is to be done for somebody who needs a connection.
enum Next {
    Use(Arc<Connection>),
    Wait(Dialling),
    Fail(String),
}

impl Links {
    /// Connections live in the tokio runtime in which this is called, whoever asks for them.
    ///
    /// # Panics
    /// Outside of one.
    pub(crate) fn new(me: Identity, dialer: Dialer, book: Arc<dyn AddressBook>) -> Arc<Self> {
        let state = State { me: Arc::new(me), links: HashMap::new(), problems: HashMap::new(), attempts: 0 };
        let rechecks = watch::Sender::new(());
        let runtime = Handle::current();
        Arc::new(Self { dialer, book, state: Mutex::new(state), rechecks, quiet: Quiet::default(), runtime })
    }

    pub(crate) fn me(&self) -> Arc<Identity> {
        self.state.lock().me.clone()
    }

    /// Connections that introduced this node as somebody else are used no longer.
    pub(crate) fn identify(&self, me: Identity) {
        let mut state = self.state.lock();
        if *state.me == me {
            return;
        }
        state.me = Arc::new(me);
        // The old connections are closed outside of the lock, once whoever uses them is done.
        let old = mem::take(&mut state.links);
        drop(state);
        drop(old);
    }

    /// Gives up the connections of nodes that were removed: those that this node made, and, by the watch, those that they
    /// made.
    pub(crate) fn recheck(&self) {
        let mut state = self.state.lock();
        let gone: Vec<_> = state.links.extract_if(|(node, _), _| self.book.is_removed(*node)).collect();
        state.problems.retain(|node, _| !self.book.is_removed(*node));
        drop(state);
        // Closed outside of the lock, once whoever uses them is done.
        drop(gone);
        self.rechecks.send_replace(());
    }

    /// Changes with every [`recheck`](Self::recheck).
    pub(crate) fn rechecks(&self) -> watch::Receiver<()> {
        self.rechecks.subscribe()
    }

    pub(crate) fn problem(&self, node: NodeId) -> Option<String> {
        let mut state = self.state.lock();
        state.note_losses(node);
        state.problems.get(&node).cloned()
    }

    pub(crate) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// The connection to a node, made if there is none. Fails at once in the pause after an attempt that failed.
    pub(crate) async fn get(self: Arc<Self>, node: NodeId, lane: Lane) -> Result<Arc<Connection>, CallError> {
        match self.next(node, lane) {
            Next::Use(connection) => Ok(connection),
            Next::Wait(dialling) => dialling.await.map_err(|error| CallError::NotSent(format!("node {node}: {error}"))),
            Next::Fail(words) => Err(CallError::NotSent(words)),
        }
    }

    fn next(self: &Arc<Self>, node: NodeId, lane: Lane) -> Next {
        let now = Instant::now();
        let mut state = self.state.lock();
        if node == state.me.node {
            return Next::Fail(format!("node {node} is this node itself"));
        }
        let pause = match state.links.get(&(node, lane)) {
            Some(Link::Dialling { done, .. }) => return Next::Wait(done.clone()),
            Some(Link::Up { connection, .. }) if !connection.is_closed() => return Next::Use(connection.clone()),
            Some(Link::Down { until, why, .. }) if now < *until => {
                return Next::Fail(format!("node {node}: {why}"));
            }
            Some(Link::Down { pause, .. }) => *pause,
            // One that does not last is tried again as one that was not made.
            Some(Link::Up { since, pause, .. }) if since.elapsed() < *pause => *pause,
            Some(Link::Up { .. }) | None => Duration::ZERO,
        };
        state.note_losses(node);
        let Some(address) = self.book.address(node) else {
            return Next::Fail(format!("node {node} is not known here: it has no address"));
        };
        Next::Wait(self.dial(&mut state, node, lane, address, pause))
    }

    /// Begins an attempt, in a task of its own: whoever waits for it may go.
    fn dial(
        self: &Arc<Self>,
        state: &mut State,
        node: NodeId,
        lane: Lane,
        address: String,
        pause: Duration,
    ) -> Dialling {
        state.attempts += 1;
        let (attempt, me, links) = (state.attempts, state.me.clone(), self.clone());
        let expected = Expected::Node { node, incarnation: self.book.incarnation(node) };
        let task = self.runtime.spawn(async move {
            let dialled = links.dialer.dial(&address, &me, expected).await.map(Arc::new);
            links.dialled(node, lane, attempt, pause, &dialled);
            dialled
        });
        let stopped = |_| Err(DialError::Unreachable("the attempt was given up".into()));
        let done = task.map(move |done| done.unwrap_or_else(stopped)).boxed().shared();
        state.links.insert((node, lane), Link::Dialling { attempt, done: done.clone() });
        done
    }

    /// Notes how an attempt ended.
    fn dialled(&self, node: NodeId, lane: Lane, attempt: u64, pause: Duration, dialled: &Dialled) {
        let mut state = self.state.lock();
        let current = match state.links.get(&(node, lane)) {
            Some(Link::Dialling { attempt: current, .. }) => *current == attempt,
            _ => false,
        };
        if !current {
            return;
        }
        let pause = self.longer(pause);
        let link = match dialled {
            Ok(connection) => {
                state.let_go_of_lost(node);
                state.problems.remove(&node);
                Link::Up { connection: connection.clone(), since: Instant::now(), pause }
            }
            Err(why) => {
                state.problems.insert(node, why.to_string());
                Link::Down { until: Instant::now() + jitter(pause), pause, why: why.clone() }
            }
        };
        state.links.insert((node, lane), link);
        drop(state);
        match dialled {
            Err(why) if !why.is_a_wait() && self.quiet.may_tell(&node.to_string(), Instant::now()) => {
                tracing::warn!(node = node.0, "a node was not reached: {why}");
            }
            _ => {}
        }
    }

    fn longer(&self, pause: Duration) -> Duration {
        let options = &self.dialer.options;
        (pause * 2).clamp(options.backoff_min, options.backoff_max.max(options.backoff_min))
    }
}

impl State {
    /// A connection that was lost since somebody looked is a problem until the node is reached again.
    fn note_losses(&mut self, node: NodeId) {
        let lost =
            [Lane::Control, Lane::Data, Lane::Bulk].into_iter().find_map(|lane| match self.links.get(&(node, lane)) {
                Some(Link::Up { connection, .. }) => connection.problem(),
                _ => None,
            });
        if let Some(lost) = lost {
            self.problems.entry(node).or_insert(lost);
        }
    }

    /// The node is reached again: what was lost before is no problem any more, on whichever lane it was. One that did not last is
    /// tried again as one that was not made.
    fn let_go_of_lost(&mut self, node: NodeId) {
        for lane in [Lane::Control, Lane::Data, Lane::Bulk] {
            let Some(Link::Up { connection, since, pause }) = self.links.get(&(node, lane)) else { continue };
            let Some(why) = connection.problem() else { continue };
            let pause = if since.elapsed() < *pause { *pause } else { Duration::ZERO };
            let down = Link::Down { until: Instant::now(), pause, why: DialError::Unreachable(why) };
            self.links.insert((node, lane), down);
        }
    }
}

/// Three quarters to all of the pause, so that nodes do not come all at once.
fn jitter(pause: Duration) -> Duration {
    pause.mul_f64(0.75 + 0.25 * fastrand::f64())
}

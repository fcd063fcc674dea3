//! One request on its way to whoever leads a shard.

use std::time::Duration;

use stratalog_proto::{Code, Error, NodeId, ShardId};
use stratalog_transport::CallError;
use tokio::time::Instant;

use super::Router;

/// The pause before a leader is looked for again: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(160);

/// Where a shard is led.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Leader {
    /// On this node.
    Here,
    /// On another one.
    At(NodeId),
}

/// Why an attempt has no answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Missed {
    /// It was certainly not done, and whoever leads by now may do it.
    NotDone {
        /// What happened.
        why: String,
        /// Who leads, as far as the asked node knows.
        leader: Option<NodeId>,
    },
    /// Whether it was done is not known.
    Unknown(String),
    /// This is the answer, wherever it is asked.
    Refused(Error),
}

impl Missed {
    /// Why a call has no answer.
    pub(crate) fn of_call(error: CallError) -> Self {
        match error {
            CallError::NotSent(why) => Missed::NotDone { why, leader: None },
            CallError::Unknown(why) => Missed::Unknown(why),
            CallError::Refused(error) => Missed::from(error),
        }
    }

    /// Whether whoever asked may ask again.
    pub(crate) fn is_retriable(&self) -> bool {
        !matches!(self, Missed::Refused(error) if !error.code.is_retriable())
    }

    /// Whether the leader has refused it, and may take it later.
    pub(crate) fn is_refused_for_now(&self) -> bool {
        matches!(self, Missed::Refused(error) if error.code.is_retriable())
    }

    /// As the error of whoever asked, if nobody is asked again.
    pub(crate) fn into_error(self, shard: ShardId) -> Error {
        match self {
            Missed::NotDone { why, .. } => Error::new(
                Code::NotLeader,
                format!("shard {shard} has no leader that answers; nothing was done: {why}"),
            ),
            Missed::Unknown(why) => {
                let message =
                    format!("a request to the leader of shard {shard} has no answer, and may take effect: {why}");
                Error::new(Code::Timeout, message)
            }
            Missed::Refused(error) => error,
        }
    }
}

impl From<Error> for Missed {
    /// A node that does not lead the shard, is stopping, or belongs to no cluster has done nothing.
    fn from(error: Error) -> Self {
        match error.code {
            Code::NotLeader | Code::Unavailable | Code::NotFormed => {
                Missed::NotDone { why: error.message, leader: None }
            }
            _ => Missed::Refused(error),
        }
    }
}

/// Finds the leader of a shard for one request, again and again until there is an answer or the time is over.
///
/// ```ignore
/// let mut tries = router.tries(shard, patience, true);
/// loop {
///     let leader = tries.leader().await?;
///     let answer = ask(leader).await;
///     if let Some(answer) = tries.settle(leader, answer).await {
///         return answer;
///     }
/// }
/// ```
pub(crate) struct Tries<'a> {
    router: &'a Router,
    shard: ShardId,
    begun: Instant,
    patience: Duration,
    repeatable: bool,
    /// Who was asked last and is not the leader, or does not answer.
    doubted: Option<NodeId>,
    pause: Duration,
    /// What the last attempt came to.
    why: String,
}

impl<'a> Tries<'a> {
    pub(super) fn new(router: &'a Router, shard: ShardId, patience: Duration, repeatable: bool) -> Self {
        Self {
            router,
            shard,
            begun: Instant::now(),
            patience,
            repeatable,
            doubted: None,
            pause: FIRST_PAUSE,
            why: "no node says that it leads it".to_owned(),
        }
    }

    /// Time that is left.
    pub(crate) fn left(&self) -> Duration {
        self.patience.saturating_sub(self.begun.elapsed())
    }

    /// Waits until somebody is known to lead the shard.
    ///
    /// # Errors
    /// [`Code::NotLeader`]: nobody did in time, and the request was not done. [`Code::Unavailable`]: this node stops.
    pub(crate) async fn leader(&mut self) -> Result<Leader, Error> {
        loop {
            if let Some(leader) = self.find().await {
                return Ok(leader);
            }
            self.rest().await?;
        }
    }

    /// What an attempt came to: the answer, or `None` if it is to be tried again, at once or after a pause.
    pub(crate) async fn settle<T>(&mut self, asked: Leader, answer: Result<T, Missed>) -> Option<Result<T, Error>> {
        let missed = match answer {
            Ok(answer) => return Some(Ok(answer)),
            Err(missed) => missed,
        };
        let (why, hint) = match missed {
            Missed::NotDone { why, leader } => (why, leader),
            Missed::Unknown(why) if self.repeatable => (why, None),
            Missed::Refused(error) if self.repeatable && error.code == Code::Timeout => (error.message, None),
            other => return Some(Err(other.into_error(self.shard))),
        };
        self.why = why;
        let hint = hint.filter(|hint| Leader::At(*hint) != asked && *hint != self.router.links.me());
        if let Leader::At(node) = asked {
            self.router.links.note_leader(self.shard, hint);
            self.doubted = Some(node);
        }
        self.rest().await.err().map(Err)
    }

    /// Who is to be asked: whoever is known to lead, unless that was just tried in vain.
    async fn find(&mut self) -> Option<Leader> {
        let doubted = self.doubted.take();
        match self.router.known_leader(self.shard) {
            Some(Leader::At(node)) if Some(node) == doubted => {}
            Some(leader) => return Some(leader),
            None => {}
        }
        self.router.ask_replicas(self.shard).await.map(Leader::At)
    }

    /// Pauses, longer each time.
    async fn rest(&mut self) -> Result<(), Error> {
        let left = self.left();
        if left.is_zero() {
            return Err(Missed::NotDone { why: self.why.clone(), leader: None }.into_error(self.shard));
        }
        tokio::select! {
            () = tokio::time::sleep(self.pause.min(left)) => {}
            () = self.router.stopping.cancelled() => {
                return Err(Error::new(Code::Unavailable, "the node is stopping; nothing was done, send it again later"));
            }
        }
        self.pause = LONGEST_PAUSE.min(2 * self.pause);
        Ok(())
    }
}

//! Copies of shards for a backup: what `CopyShard` answers. `docs/adr/a-backup-is-a-copy-that-names-its-files.md`.
//!
//! A shard is copied where it is led. Whoever asks another node is passed on to there, once; each question has one answer, so
//! that whoever reads slowly holds up nobody on the connection between the nodes.

mod copy;
mod held;
mod remote;

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use stratalog_proto::v1::copy_ask::Ask;
use stratalog_proto::v1::{CopyAnswer, CopyAsk};
use stratalog_proto::{Code, Error, ShardId};

use crate::broker::Broker;
use crate::cluster::route::{Leader, Missed};
use held::HeldShard;
use remote::RemoteShard;

pub(crate) use copy::MAX_COPIES;
pub(crate) use remote::serve;

/// Questions about a shard, the first of which opens it.
pub type CopyAsks = BoxStream<'static, Result<CopyAsk, Error>>;
/// An answer to each. The first error ends them.
pub type CopyAnswers = BoxStream<'static, Result<CopyAnswer, Error>>;

/// How long one waits until the shard has a leader that can be copied.
const OPEN_WAIT: Duration = Duration::from_secs(30);

/// A copy that nobody asks about for so long is closed: it holds files that were dropped meanwhile, and a permit.
const IDLE: Duration = Duration::from_secs(30 * 60);

/// A shard that is open, here or on another node.
enum Opened {
    Here(Box<HeldShard>),
    There(Box<RemoteShard>),
}

impl Broker {
    /// Answers questions about a shard, wherever it is led. What it is stays as it is until the answers are dropped.
    pub fn copy_shard(self: &Arc<Self>, asks: CopyAsks) -> CopyAnswers {
        let broker = Arc::clone(self);
        let answers = async move {
            let (shard, asks) = first(asks).await?;
            let (opened, head) = broker.open_copy(shard).await?;
            Ok::<CopyAnswers, Error>(stream::iter([Ok(head)]).chain(answers(opened, asks)).boxed())
        };
        stream::once(answers).map(flat).flatten().boxed()
    }

    async fn open_copy(self: &Arc<Self>, shard: ShardId) -> Result<(Opened, CopyAnswer), Error> {
        let mut tries = self.router().tries(shard, OPEN_WAIT, true);
        loop {
            let leader = tries.leader().await?;
            let opened = match leader {
                Leader::Here => {
                    let held = HeldShard::open(self, shard).await.map_err(Missed::from);
                    held.map(|(held, head)| (Opened::Here(Box::new(held)), head))
                }
                Leader::At(node) => {
                    let remote = RemoteShard::open(self.nodes(), node, shard).await;
                    remote.map(|(remote, head)| (Opened::There(Box::new(remote)), head))
                }
            };
            if let Some(opened) = tries.settle(leader, opened).await {
                return opened;
            }
        }
    }
}

impl Opened {
    async fn answer(&mut self, ask: Ask) -> Result<CopyAnswer, Error> {
        match self {
            Opened::Here(shard) => shard.answer(ask).await,
            Opened::There(shard) => shard.answer(ask).await,
        }
    }
}

/// The shard that the first question opens, and those behind it.
async fn first(mut asks: CopyAsks) -> Result<(ShardId, CopyAsks), Error> {
    match asks.next().await.transpose()?.and_then(|first| first.ask) {
        Some(Ask::Open(shard)) => Ok((ShardId(shard), asks)),
        _ => Err(Error::new(Code::InvalidRequest, "the first question about a shard opens it")),
    }
}

fn answers(opened: Opened, asks: CopyAsks) -> CopyAnswers {
    let answers = stream::unfold(Some((opened, asks)), |open| async move {
        let (mut opened, mut asks) = open?;
        let answer = match tokio::time::timeout(IDLE, asks.next()).await {
            Ok(asked) => match asked? {
                Ok(CopyAsk { ask: Some(ask) }) => opened.answer(ask).await,
                Ok(CopyAsk { ask: None }) => Err(Error::new(Code::InvalidRequest, "a question asks for nothing known")),
                Err(error) => Err(error),
            },
            Err(_) => Err(Error::new(Code::Timeout, format!("nothing was asked about an open copy for {IDLE:?}"))),
        };
        let open = answer.is_ok().then_some((opened, asks));
        Some((answer, open))
    });
    answers.boxed()
}

fn flat(answers: Result<CopyAnswers, Error>) -> CopyAnswers {
    answers.unwrap_or_else(|error| stream::iter([Err(error)]).boxed())
}

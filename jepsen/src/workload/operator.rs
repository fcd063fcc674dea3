//! Operators: each is bound to a node, and creates, changes, deletes and reads topics that all of them share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stratalog_client::{Client, ClientError};
use stratalog_proto::Code;

use super::{ANSWER_WITHIN, Shared, did_nothing, told};
use crate::history::{Line, MetaChange, MetaOp, MetaSeen, Outcome, Process};

const EVERY: Duration = Duration::from_millis(500);
/// A topic is given up after so many operations: an order of too many takes too long to find.
const OPERATIONS: u64 = 60;
/// Settings are retentions of so many seconds and more: nothing is ever dropped by them.
const FIRST_SETTING: u64 = 1_000_000;
const SECOND_NS: u64 = 1_000_000_000;
/// When all is over, nodes may take so long to agree.
const AGREE_WITHIN: Duration = Duration::from_secs(20);
/// So many of the last topics are read then.
const READ_LAST: u64 = 16;

/// Topics of operators: one is in use, those before it were given up.
#[derive(Debug)]
pub(super) struct Keys {
    seed: u64,
    /// Operations so far.
    used: AtomicU64,
    settings: AtomicU64,
}

impl Keys {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, used: AtomicU64::new(0), settings: AtomicU64::new(FIRST_SETTING) }
    }

    fn name(&self, epoch: u64) -> String {
        format!("operated-{}-{epoch}", self.seed)
    }

    fn next(&self) -> String {
        self.name(self.used.fetch_add(1, Ordering::SeqCst) / OPERATIONS)
    }

    /// A setting that no other change makes.
    fn setting(&self) -> u64 {
        self.settings.fetch_add(1, Ordering::SeqCst)
    }
}

pub(super) async fn run(shared: Arc<Shared>, process: Process, client: Client) {
    let mut random = shared.random(process.process);
    while !shared.is_over() {
        let key = shared.metadata.next();
        let change = match random.u32(..10) {
            0..3 => MetaChange::Create(shared.metadata.setting()),
            3..6 => MetaChange::Alter(shared.metadata.setting()),
            6..7 => MetaChange::Delete,
            _ => MetaChange::Read,
        };
        operate(&shared, &process, &client, &key, change).await;
        shared.sleep(EVERY).await;
    }
}

async fn operate(
    shared: &Shared,
    process: &Process,
    client: &Client,
    key: &str,
    change: MetaChange,
) -> Option<MetaSeen> {
    let asked = tokio::time::timeout(ANSWER_WITHIN, ask(client, key, change));
    let (at, answer) = shared.timed(asked).await;
    let outcome = match answer {
        Ok(Ok(seen)) => Outcome::Ok(seen),
        Ok(Err(error)) => failed(change, &error),
        Err(_) => Outcome::Info(format!("no answer within {ANSWER_WITHIN:?}")),
    };
    let seen = outcome.ok().copied();
    shared.note(&Line::Meta(MetaOp { process: process.process, at, key: key.to_owned(), change, outcome }));
    seen
}

async fn ask(client: &Client, key: &str, change: MetaChange) -> Result<MetaSeen, ClientError> {
    let setting = |value: u64| [("retention".to_owned(), format!("{value}s"))];
    match change {
        MetaChange::Create(value) => client.create_topic(key, 1, &setting(value)).await.map(|_| MetaSeen::Done),
        MetaChange::Alter(value) => client.alter_topic(key, &setting(value)).await.map(|_| MetaSeen::Done),
        MetaChange::Delete => client.delete_topic(key).await.map(|()| MetaSeen::Done),
        MetaChange::Read => {
            let config = client.describe_topic(key).await?.topic.and_then(|topic| topic.config);
            Ok(MetaSeen::Setting(config.map_or(0, |config| config.retention_ns / SECOND_NS)))
        }
    }
}

/// Some refusals are answers.
fn failed(change: MetaChange, error: &ClientError) -> Outcome<MetaSeen> {
    match error.code() {
        Code::TopicExists if matches!(change, MetaChange::Create(_)) => Outcome::Ok(MetaSeen::Exists),
        Code::UnknownTopic if !matches!(change, MetaChange::Create(_)) => Outcome::Ok(MetaSeen::Absent),
        code if did_nothing(code) || change == MetaChange::Read => Outcome::Fail(told(error)),
        _ => Outcome::Info(told(error)),
    }
}

/// Reads the last topics at every node, once the nodes agree, or have had the time to.
pub(super) async fn read_last(shared: &Shared, processes: &[(Process, Client)]) {
    let last = shared.metadata.used.load(Ordering::SeqCst) / OPERATIONS;
    for epoch in last.saturating_sub(READ_LAST - 1)..=last {
        let key = shared.metadata.name(epoch);
        wait_until_agreed(&key, processes).await;
        for (process, client) in processes {
            operate(shared, process, client, &key, MetaChange::Read).await;
        }
    }
}

async fn wait_until_agreed(key: &str, processes: &[(Process, Client)]) {
    let agreed = async {
        loop {
            let mut answers = Vec::new();
            for (_, client) in processes {
                answers.push(ask(client, key, MetaChange::Read).await.map_err(|error| error.code()));
            }
            if answers.windows(2).all(|pair| pair[0] == pair[1]) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    // Where they do not agree, what is read next shows it.
    let _ = tokio::time::timeout(AGREE_WITHIN, agreed).await;
}

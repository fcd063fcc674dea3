//! Back-pressure: a produce waits while rows cannot keep up.

use std::time::Duration;

use stratalog_proto::{Code, Error, ShardId, TopicId};
use tokio::time::Instant;

use super::options::RowsOptions;
use super::shard_rows::ShardRows;
use super::usage::Usage;

/// How often the lag, which changes with time alone, is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Returns when the rows of the shard have room for another batch of the topic.
///
/// # Errors
/// [`Code::Overloaded`] when there is none after `throttle_wait`, saying which limit it is.
pub(super) async fn admit(
    shard: &ShardRows,
    topic: TopicId,
    usage: &Usage,
    options: &RowsOptions,
) -> Result<(), Error> {
    if obstacle(shard, topic, usage, options).is_none() {
        return Ok(());
    }
    let deadline = Instant::now() + options.throttle_wait;
    let mut changes = usage.watch();
    while let Some(why) = obstacle(shard, topic, usage, options) {
        if Instant::now() >= deadline {
            return Err(overloaded(shard.log.id(), topic, &why));
        }
        let _ = tokio::time::timeout(LOOK_AGAIN, changes.changed()).await;
    }
    Ok(())
}

/// The limit that a further batch would go over, if any.
fn obstacle(shard: &ShardRows, topic: TopicId, usage: &Usage, options: &RowsOptions) -> Option<String> {
    let node_bytes = usage.bytes();
    if node_bytes > options.tail_budget_bytes {
        let limit = options.tail_budget_bytes;
        return Some(format!("all unsealed rows take {node_bytes} bytes, {limit} are allowed"));
    }
    let lag = shard.progress.lag();
    if lag > options.max_lag {
        return Some(format!("its rows are {} ms behind its log", lag.as_millis()));
    }
    // No topic can be over its limit while all of them together are not: spares the tail's lock.
    if node_bytes <= options.topic_tail_bytes {
        return None;
    }
    let bytes = shard.tail.topic_bytes(topic);
    let limit = options.topic_tail_bytes;
    (bytes > limit).then(|| format!("the topic's unsealed rows take {bytes} bytes, {limit} are allowed"))
}

fn overloaded(shard: ShardId, topic: TopicId, why: &str) -> Error {
    let message = format!("topic {topic} takes no records in shard {shard} for now: {why}; send it again later");
    Error::new(Code::Overloaded, message)
}

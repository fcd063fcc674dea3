//! The tail when this node begins to lead: it is made again from the log, and nobody gets an answer from a part of it.

use std::collections::BTreeSet;
use std::time::Instant;

use stratalog_proto::{Code, Error, RaftIndex, TopicId};
use stratalog_query::TopicInfo;

use super::log::RowLog;
use super::tail::Tail;

/// What a shard has to make again before its topics show everything that they showed before.
pub(super) struct Rebuild {
    /// What was applied when it began.
    target: RaftIndex,
    /// The topics that had anything unsealed then; all others are whole at once.
    unsealed: BTreeSet<TopicId>,
}

impl Rebuild {
    /// What there is in the log now.
    pub(super) fn of(log: &dyn RowLog) -> Self {
        let target = log.applied();
        let unsealed = log
            .topics()
            .into_iter()
            .filter(|topic| log.offsets_through(topic.id, topic.row_frontier) != log.offsets_through(topic.id, target));
        Self { target, unsealed: unsealed.map(|topic| topic.id).collect() }
    }

    /// Whether every topic shows what was applied when it began.
    ///
    /// # Errors
    /// [`Code::Unavailable`], saying how far it is.
    pub(super) fn check(&self, log: &dyn RowLog, tail: &Tail) -> Result<(), Error> {
        let (shard, at, target) = (log.id(), tail.materialized(), self.target);
        if self.unsealed.is_empty() || at >= target {
            return Ok(());
        }
        let message = format!("the rows of shard {shard} are made again: it has come to index {at} of {target}");
        Err(Error::new(Code::Unavailable, message))
    }

    /// Returns when the topic shows everything that was applied when it began.
    ///
    /// # Errors
    /// [`Code::Unavailable`] when it does not at the deadline: rows that were shown before would be missing in an answer.
    pub(super) async fn wait(
        &self,
        log: &dyn RowLog,
        tail: &Tail,
        topic: &TopicInfo,
        deadline: Instant,
    ) -> Result<(), Error> {
        if !self.unsealed.contains(&topic.id) {
            return Ok(());
        }
        let mut materialized = tail.watch_materialized();
        let rebuilt = materialized.wait_for(|index| *index >= self.target);
        if matches!(tokio::time::timeout_at(deadline.into(), rebuilt).await, Ok(Ok(_))) {
            return Ok(());
        }
        let (shard, at, target) = (log.id(), tail.materialized(), self.target);
        let message = format!(
            "topic `{}` cannot be read yet: the node has just begun to lead and makes the rows again that were not sealed; \
             in shard {shard} it has come to index {at} of {target}; ask again in a moment",
            topic.name
        );
        Err(Error::new(Code::Unavailable, message))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use stratalog_proto::Term;
    use stratalog_proto::config::TopicConfig;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::rows::materializer::Materializer;
    use crate::rows::options::RowsOptions;
    use crate::rows::replica::Replica;
    use crate::rows::shard_rows::ShardRows;
    use crate::rows::testing::{AloneCopies, MemLog, topic};
    use crate::rows::usage::Usage;

    fn materializer(shard: &ShardRows, usage: Arc<Usage>) -> Materializer {
        Materializer {
            log: shard.log.clone(),
            tail: shard.tail.clone(),
            usage,
            progress: shard.progress.clone(),
            options: RowsOptions { pull_bytes: 1, ..RowsOptions::default() },
            stop: CancellationToken::new(),
        }
    }

    async fn wait(shard: &ShardRows, topic: &TopicInfo, time: Duration) -> Result<(), Error> {
        shard.rebuild.wait(&*shard.log, &shard.tail, topic, Instant::now() + time).await
    }

    #[tokio::test]
    async fn s1_a_topic_is_not_read_before_its_unsealed_rows_are_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let log = MemLog::new(dir.path());
        let (logs, quiet) = (topic("logs", 1, TopicConfig::default()), topic("quiet", 1, TopicConfig::default()));
        log.create(&logs);
        log.create(&quiet);
        log.produce(&logs, 0, &[r#"{"a":1}"#]);
        log.produce(&logs, 0, &[r#"{"a":2}"#]);
        let usage = Arc::new(Usage::default());
        let replica = Replica::open(log.clone(), Arc::new(AloneCopies), CancellationToken::new()).await.unwrap();
        let shard = ShardRows::new(&replica, Term(1), usage.clone());
        let materializer = materializer(&shard, usage);

        wait(&shard, &quiet, Duration::ZERO).await.expect("a topic without rows is whole at once");
        materializer.pull();
        let error = wait(&shard, &logs, Duration::from_millis(5)).await.unwrap_err();
        assert_eq!(error.code, Code::Unavailable);
        assert!(error.code.is_retriable() && error.message.contains("to index 3 of 4"), "{error}");

        let waiting = wait(&shard, &logs, Duration::from_secs(30));
        let pulling = tokio::task::spawn_blocking(move || materializer.pull());
        let (rebuilt, pulled) = tokio::join!(waiting, pulling);
        rebuilt.unwrap();
        pulled.unwrap();
        log.produce(&logs, 0, &[r#"{"a":3}"#]);
        wait(&shard, &logs, Duration::ZERO).await.expect("what came after the start is no part of it");
    }
}

//! Retention from time to time.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use futures::future::join_all;
use stratalog_proto::{Error, ShardId};
use stratalog_query::TopicInfo;
use tokio_util::sync::CancellationToken;

use super::carry_out::{Gone, no_clock};
use super::plan::due;
use crate::outcome::is_overtaken;
use crate::rows::runtime::Rows;
use crate::trouble::Trouble;

/// The present by which rows of each shard are too old.
pub(in crate::rows) struct Clocks(BTreeMap<ShardId, i64>);

impl Clocks {
    /// One present for all of these shards.
    #[cfg(test)]
    pub(in crate::rows) fn all(shards: impl IntoIterator<Item = ShardId>, now_ns: i64) -> Self {
        Self(shards.into_iter().map(|shard| (shard, now_ns)).collect())
    }

    /// Where it is not known what time it is, nothing is too old.
    fn of(&self, shard: ShardId) -> i64 {
        self.0.get(&shard).copied().unwrap_or(i64::MIN)
    }
}

/// Shards that this node leads, of which it is not known what time it is.
#[derive(Default)]
struct Timeless(BTreeMap<ShardId, Trouble>);

impl Timeless {
    /// What is new since the last time: a shard without a clock is an error once, and fine once when that is over. What is
    /// not led here any more is forgotten.
    fn news(&mut self, led: &BTreeMap<ShardId, Option<i64>>) -> Vec<(ShardId, Result<(), Error>)> {
        self.0.retain(|shard, _| led.contains_key(shard));
        let mut news = Vec::new();
        for (shard, clock) in led {
            let trouble = self.0.entry(*shard).or_default();
            let now = clock.map(drop).ok_or_else(|| no_clock(*shard));
            let is_news = match &now {
                Ok(()) => trouble.is_over(),
                Err(error) => trouble.failed(error),
            };
            if is_news {
                news.push((*shard, now));
            }
        }
        news
    }
}

/// Applies retention, and checks S1, from time to time.
pub(in crate::rows) async fn retain(rows: Weak<Rows>, interval: Duration, stop: CancellationToken) {
    let mut timeless = Timeless::default();
    loop {
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = stop.cancelled() => return,
        }
        let Some(rows) = rows.upgrade() else { return };
        rows.audit();
        let topics = rows.directory.topics();
        rows.schemas.retain(&topics.iter().map(|topic| topic.id).collect());
        let clocks = match topics.iter().any(|topic| topic.config.retention_ns.is_some()) {
            true => rows.clocks(&mut timeless).await,
            false => Clocks(BTreeMap::new()),
        };
        for topic in topics {
            let gone = rows.drop_due(&topic, &clocks).await;
            let (segments, log_bytes, log_starts) = (gone.segments.len(), gone.log_bytes, gone.log_starts.len());
            if segments > 0 || log_starts > 0 {
                tracing::info!(
                    topic = topic.name,
                    segments,
                    log_bytes,
                    log_starts,
                    "dropped what retention no longer keeps"
                );
            }
        }
    }
}

impl Rows {
    /// What time it is for each shard that this node leads.
    async fn clocks(&self, timeless: &mut Timeless) -> Clocks {
        let asked = self.replicas.led().into_iter().map(|shard| async move {
            let id = shard.log.id();
            (id, shard.copies.clock_ns(id).await)
        });
        let told: BTreeMap<ShardId, Option<i64>> = join_all(asked).await.into_iter().collect();
        for (shard, now) in timeless.news(&told) {
            match now {
                Ok(()) => {
                    tracing::info!(%shard, "it is known again what time it is; rows are dropped by their time again")
                }
                Err(error) => tracing::warn!(%shard, %error, "nothing is dropped by its time; trying again"),
            }
        }
        Clocks(told.into_iter().filter_map(|(shard, clock)| Some((shard, clock?))).collect())
    }

    /// Drops what is due by the settings of a topic, in every shard that this node leads. What fails is tried again.
    pub(in crate::rows) async fn drop_due(&self, topic: &TopicInfo, clocks: &Clocks) -> Gone {
        let mut gone = Gone::default();
        if topic.config.retention_ns.is_none() && topic.config.retention_bytes.is_none() {
            return gone;
        }
        for shard in self.shards_of(topic) {
            let plan = due(topic, shard.log.id(), &shard.log.extent(topic.id), clocks.of(shard.log.id()));
            if let Err(error) = gone.carry_out(&shard, topic, &plan).await {
                let (shard, topic) = (shard.log.id(), &topic.name);
                match is_overtaken(&error) {
                    true => tracing::debug!(%shard, topic, %error, "another replica applies retention"),
                    false => tracing::warn!(%shard, topic, %error, "cannot apply retention; trying again"),
                }
            }
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_shard_without_a_clock_is_told_of_once_until_that_is_over() {
        let (shard, other) = (ShardId(1), ShardId(2));
        let mut timeless = Timeless::default();
        let mut news = |clocks: &[(ShardId, Option<i64>)]| {
            let news = timeless.news(&clocks.iter().copied().collect());
            news.into_iter().map(|(shard, now)| (shard, now.is_ok())).collect::<Vec<_>>()
        };
        assert_eq!(news(&[(shard, Some(5)), (other, Some(5))]), []);
        assert_eq!(news(&[(shard, None), (other, Some(5))]), [(shard, false)]);
        assert_eq!(news(&[(shard, None), (other, Some(5))]), []);
        assert_eq!(news(&[(shard, Some(6)), (other, Some(6))]), [(shard, true)]);
        assert_eq!(news(&[(shard, None)]), [(shard, false)]);
        assert_eq!(news(&[]), [], "it is led elsewhere");
        assert_eq!(news(&[(shard, Some(7))]), []);
    }
}

//! A network in which packets between nodes come late, not at all, twice and out of order.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Chaos, fault};
use crate::cluster::{Packets, WHOLE_WITHIN, Weather};
use crate::failure::Failure;
use crate::history::{Line, Terms, When};

/// 100 ms each way, and one packet of ten lost.
const STORM: Weather = Weather { delay_us: 100_000, lost: 100, doubled: 20, reordered: 50, later_us: 20_000 };
/// Elections are counted by the minute.
const LASTS: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Leaders that have not changed for so long stay where they are: a new cluster spreads them first.
const STEADY_FOR: Duration = Duration::from_secs(10);

impl Chaos<'_> {
    /// A minute of bad weather between all nodes; clients reach them as ever.
    pub(super) async fn bad_network(&mut self) -> Result<(), Failure> {
        self.wait_steady().await?;
        let before = self.cluster.network().packets().map_err(Failure)?;
        let began = self.now();
        self.cluster.network().set_weather(STORM).map_err(Failure)?;
        let until = Instant::now() + LASTS;
        while Instant::now() < until {
            tokio::time::sleep(LOOK_EVERY).await;
            self.look_at_terms().await;
            self.watch_for_ends()?;
        }
        let ended = self.now();
        self.cluster.network().set_weather(Weather::default()).map_err(Failure)?;
        let after = self.cluster.network().packets().map_err(Failure)?;
        let since = |of: fn(&Packets) -> u64| of(&after) - of(&before);
        let detail = format!(
            "{} packets, {} lost, {} twice, {} out of order",
            since(|packets| packets.sent),
            since(|packets| packets.lost + packets.crowded_out),
            since(|packets| packets.doubled),
            since(|packets| packets.reordered)
        );
        // Terms that came up in bad weather are told in good weather, too.
        while self.look_at_terms().await.is_none() {
            self.watch_for_ends()?;
        }
        let partitions = self.all_partitions();
        self.note(fault("bad-network", &self.cluster.numbers(), When(began, ended), partitions, detail));
        self.wait_whole().await?;
        self.sleep_ms(1_000..3_000).await;
        Ok(())
    }

    /// Notes the highest term of each shard that any node tells of; `None` if none does.
    async fn look_at_terms(&self) -> Option<BTreeMap<u32, u64>> {
        let since = self.now();
        let asked = self.cluster.numbers().into_iter().filter(|number| self.cluster.is_running(*number));
        let told = futures::future::join_all(asked.map(|number| self.cluster.status_of(number))).await;
        let mut terms = BTreeMap::new();
        for shard in told.into_iter().flatten().flat_map(|status| status.shards) {
            let highest = terms.entry(shard.shard).or_insert(shard.term);
            *highest = shard.term.max(*highest);
        }
        if terms.is_empty() {
            return None;
        }
        self.shared.note(&Line::Terms(Terms { at: When(since, self.now()), terms: terms.clone() }));
        Some(terms)
    }

    /// Waits until leaders have stayed where they are for a while.
    async fn wait_steady(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + WHOLE_WITHIN;
        let (mut last, mut since) = (None, Instant::now());
        while since.elapsed() < STEADY_FOR {
            let now = self.look_at_terms().await;
            if now.is_none() || now != last {
                (last, since) = (now, Instant::now());
            }
            if Instant::now() >= deadline {
                return Err(Failure(format!(
                    "leaders were elected again and again for {WHOLE_WITHIN:?} in good weather"
                )));
            }
            self.watch_for_ends()?;
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }
}

//! Clocks that step, and logs that are slow or fail.

use std::time::{Duration, Instant};

use super::{Chaos, fault};
use crate::cluster::Levers;
use crate::failure::Failure;
use crate::history::When;

pub(crate) const ENDS_AT_ONCE: &str = "a node whose log cannot be made durable ends within a second";

const HOUR_NS: i64 = 3_600_000_000_000;
const STROBE_EVERY: Duration = Duration::from_millis(20);
const LOOK_EVERY: Duration = Duration::from_millis(5);
const ENDS_WITHIN: Duration = Duration::from_secs(1);
/// How much longer each sync takes.
const SLOW_US: [i64; 3] = [50_000, 300_000, 2_000_000];

impl Chaos<'_> {
    /// The clock of a leader is an hour ahead, then one is an hour behind, then one jumps between both. Whoever believed it would
    /// drop what is not too old.
    pub(super) async fn move_clocks(&mut self, round: usize) -> Result<(), Failure> {
        let kind = ["clock-ahead", "clock-behind", "clock-strobe"][round % 3];
        let (node, partitions) = self.some_leader().await?;
        let began = self.now();
        match kind {
            "clock-ahead" => self.levers(node)?.set_clock(HOUR_NS).map_err(Failure)?,
            "clock-behind" => self.levers(node)?.set_clock(-HOUR_NS).map_err(Failure)?,
            _ => self.strobe(node).await?,
        }
        self.sleep_ms(2_000..4_000).await;
        let kept = self.keep_what_is_not_old().await;
        self.sleep_ms(500..2_000).await;
        let ended = self.now();
        self.levers(node)?.set_clock(0).map_err(Failure)?;
        let detail = format!("it led partitions {partitions:?}; retention: {kept}");
        self.note(fault(kind, &[node], When(began, ended), partitions, detail));
        self.wait_whole().await?;
        self.sleep_ms(500..2_000).await;
        Ok(())
    }

    async fn strobe(&mut self, node: u64) -> Result<(), Failure> {
        let until = Instant::now() + Duration::from_secs(4);
        while Instant::now() < until {
            let off = self.random.i64(-HOUR_NS..HOUR_NS);
            self.levers(node)?.set_clock(off).map_err(Failure)?;
            tokio::time::sleep(STROBE_EVERY).await;
        }
        Ok(())
    }

    /// Has retention carried out, and says what came of it: what is gone shows in the log starts.
    async fn keep_what_is_not_old(&self) -> String {
        let topic = &self.shared.load.topic;
        let asked = async {
            let answer = self.cluster.client().await?.apply_retention(topic, false).await?;
            Ok::<_, Failure>(format!("{} segments dropped", answer.dropped.len()))
        };
        match tokio::time::timeout(2 * super::ANSWERS_WITHIN, asked).await {
            Ok(Ok(told)) => told,
            Ok(Err(why)) => why.to_string(),
            Err(_) => "no answer".to_owned(),
        }
    }

    /// A sync of a leader's log fails, once.
    pub(super) async fn fail_sync(&mut self) -> Result<(), Failure> {
        let (node, partitions) = self.some_leader().await?;
        let began = self.now();
        self.levers(node)?.fail_syncs(1).map_err(Failure)?;
        let asked = Instant::now();
        let ended = loop {
            if let Some(words) = self.cluster.ended(node)? {
                break Some(words);
            }
            if asked.elapsed() >= 5 * ENDS_WITHIN {
                break None;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        let took = asked.elapsed();
        self.levers(node)?.fail_syncs(0).map_err(Failure)?;
        let told = ended.as_ref().map_or("it did not end", |words| words.as_str());
        self.probe(
            ENDS_AT_ONCE,
            began,
            ended.is_some() && took <= ENDS_WITHIN,
            format!("node {node}, {took:?}: {told}"),
        );
        self.sleep_ms(500..2_000).await;
        let at = When(began, self.now());
        if ended.is_some() {
            self.cluster.launch(node)?;
            self.note(fault("sync-error", &[node], at, partitions, format!("it ended within {took:?}: {told}")));
        }
        self.wait_whole().await?;
        self.sleep_ms(1_000..3_000).await;
        Ok(())
    }

    /// Each sync of a leader takes long.
    pub(super) async fn slow_disk(&mut self, round: usize) -> Result<(), Failure> {
        let by_us = SLOW_US[round % SLOW_US.len()];
        let (node, partitions) = self.some_leader().await?;
        let began = self.now();
        self.levers(node)?.delay_syncs(by_us).map_err(Failure)?;
        self.sleep_ms(6_000..10_000).await;
        let ended = self.now();
        self.levers(node)?.delay_syncs(0).map_err(Failure)?;
        let detail = format!("each sync took {} ms longer; it led partitions {partitions:?}", by_us / 1_000);
        self.note(fault("slow-disk", &[node], When(began, ended), partitions, detail));
        self.wait_whole().await?;
        self.sleep_ms(1_000..3_000).await;
        Ok(())
    }

    fn levers(&self, node: u64) -> Result<&Levers, Failure> {
        let levers = self.cluster.node(node)?.levers.as_ref();
        levers.ok_or_else(|| Failure(format!("node {node} has no levers")))
    }
}

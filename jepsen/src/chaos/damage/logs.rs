//! Logs that are damaged where no other node is there to help, or not at once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::files::{Target, Wound};
use super::harm::Harm;
use super::{Came, Chaos, aside, fault};
use crate::cluster::Started;
use crate::failure::Failure;
use crate::history::When;

/// Nobody waits longer for a record to be acknowledged before a node is killed.
const ACKED_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_micros(50);

impl Chaos<'_> {
    /// All nodes stop, and two bits flip in each file of their logs. What they do not need was damaged, too; where something is
    /// that they need, no node may begin with less than it had. If most of them lack something, what they had is put back.
    pub(in crate::chaos) async fn damage_all_logs(&mut self) -> Result<(), Failure> {
        let all = self.cluster.numbers();
        let began = self.now();
        all.iter().try_for_each(|node| self.cluster.kill(*node))?;
        let mut wounds = BTreeMap::new();
        for node in &all {
            wounds.insert(*node, self.inflict(*node, Target::Lane, Harm::Flips, &Default::default())?);
        }
        let (mut lacking, mut refused) = (Vec::new(), Vec::new());
        for (node, wounds) in &wounds {
            match self.start_damaged(*node, wounds).await? {
                Came::Whole => {}
                Came::SetAside => lacking.push(*node),
                Came::PutBack => refused.push(*node),
            }
        }
        let needs_copies = lacking.len() > (all.len() - 1) / 2;
        if needs_copies {
            // Time to elect a leader, for those who may not.
            self.sleep_ms(5_000..8_000).await;
            all.iter().try_for_each(|node| self.cluster.kill(*node))?;
            for node in &lacking {
                aside::put_back(&self.cluster.node(*node)?.data, &wounds[node])?;
            }
            all.iter().try_for_each(|node| self.cluster.launch(*node))?;
        }
        let ended = self.now();
        let files: usize = wounds.values().map(Vec::len).sum();
        let put_back = if needs_copies { "until it was put back" } else { "and got it from the others" };
        let detail = format!(
            "{files} files; nodes {lacking:?} lacked something {put_back}; nodes {refused:?} did not start before"
        );
        self.note(fault("flip-all-lanes", &all, When(began, ended), self.all_partitions(), detail));
        self.wait_whole().await?;
        all.iter().try_for_each(|node| aside::clear(&self.cluster.node(*node)?.data))?;
        self.rest_since(began).await;
        Ok(())
    }

    /// A minority stands still while the others acknowledge. One of those loses the end of its log, as a medium may that said that it
    /// was durable, and is killed once more before anybody can tell it; the rest stands still. The two that are left cannot
    /// know what was acknowledged, and may not go on by themselves.
    pub(in crate::chaos) async fn forget_the_end(&mut self) -> Result<(), Failure> {
        let mut nodes = self.cluster.numbers();
        self.random.shuffle(&mut nodes);
        let (behind, others) = nodes.split_at((nodes.len().max(1) - 1) / 2);
        let (forgets, rest) = others.split_first().ok_or_else(|| Failure::new("there are too few nodes"))?;
        let began = self.now();
        behind.iter().try_for_each(|node| self.cluster.halt(*node))?;
        self.sleep_ms(3_000..5_000).await;
        tokio::task::block_in_place(|| self.kill_after_ack(*forgets))?;
        rest.iter().try_for_each(|node| self.cluster.halt(*node))?;
        let wound = self.lose_end(*forgets)?;
        let forgot = match (&wound, self.cluster.try_launch(*forgets).await?) {
            (Some(_), Started::Serves) => self.kill_and_start(*forgets)?,
            (None, Started::Serves) => false,
            (_, Started::Refused(_)) => self.put_back(*forgets, wound.as_ref())?,
        };
        behind.iter().try_for_each(|node| self.cluster.resume(*node))?;
        self.sleep_ms(6_000..10_000).await;
        let ended = self.now();
        rest.iter().try_for_each(|node| self.cluster.resume(*node))?;
        let how =
            wound.map_or_else(|| "nothing was lost".to_owned(), |wound| format!("{} {}", wound.name(), wound.how));
        let detail = format!("{behind:?} halted, then {forgets} killed and {rest:?} halted; {how}");
        if forgot {
            self.note(fault("forget-end", &nodes, When(began, ended), self.all_partitions(), detail));
        } else {
            eprintln!("  it forgot nothing, or did not start until that was put back: {detail}");
        }
        self.wait_whole().await?;
        self.sleep_ms(1_000..3_000).await;
        Ok(())
    }

    /// Kills a node in the moment in which a record is acknowledged: mostly that one is the last in its log.
    fn kill_after_ack(&mut self, node: u64) -> Result<(), Failure> {
        let acked = || self.shared.known.lock().acked;
        let (before, deadline) = (acked(), Instant::now() + ACKED_WITHIN);
        while acked() == before && Instant::now() < deadline {
            std::thread::sleep(LOOK_EVERY);
        }
        self.cluster.kill(node)
    }

    /// The last write of the log loses its end. It is in the last file that has one; a file behind that is prepared, and empty.
    fn lose_end(&mut self, node: u64) -> Result<Option<Wound>, Failure> {
        for path in Target::Lane.files(&self.cluster.node(node)?.data).into_iter().rev() {
            let wound = Wound::inflict(path, Harm::EndLost, &[], &mut self.random)?;
            if wound.is_some() {
                return Ok(wound);
            }
        }
        Ok(None)
    }

    /// Whether it goes on without what was lost: it does.
    fn kill_and_start(&mut self, node: u64) -> Result<bool, Failure> {
        self.cluster.kill(node)?;
        self.cluster.launch(node).map(|()| true)
    }

    /// The same: it does not.
    fn put_back(&mut self, node: u64, wound: Option<&Wound>) -> Result<bool, Failure> {
        wound.map_or(Ok(()), Wound::mend)?;
        self.cluster.launch(node).map(|()| false)
    }
}

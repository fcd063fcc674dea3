//! More than the cluster can take.

mod flood;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{CALM, Chaos, fault};
use crate::failure::Failure;
use crate::history::{Micros, When};
use flood::Flood;

pub(crate) const THROTTLED: &str = "what a cluster cannot take waits, or is refused, to be sent again later";
pub(crate) const WITHIN_MEMORY: &str = "a node keeps within the memory that it is given";

/// For each number of clients.
const MEASURED_FOR: Duration = Duration::from_secs(3);
const TIMES: f64 = 5.0;
/// Of what is asked for; if more is taken, that was not too much.
const MOST_TAKEN: f64 = 0.5;
/// Of the run, at most half, and this is the most and the least.
const LONGEST: Duration = Duration::from_secs(300);
const SHORTEST: Duration = Duration::from_secs(20);
/// How long sends take is judged 30 s later, by what comes then.
const AFTERWARDS: Duration = Duration::from_secs(45);
const RETAIN_EVERY: Duration = Duration::from_secs(3);
const PARTITIONS: u32 = 12;
/// So much of the flood is kept on disk.
const SETTINGS: [(&str, &str); 1] = [("retention.bytes", "64MiB")];

impl Chaos<'_> {
    /// Finds out what the cluster takes, and asks five times as much of it, for up to five minutes.
    pub(super) async fn overload(&mut self) -> Result<(), Failure> {
        tokio::time::sleep(CALM).await;
        let client = self.cluster.client().await?;
        let settings = SETTINGS.map(|(key, value)| (key.to_owned(), value.to_owned()));
        // It is there from the second time on.
        let _ = client.create_topic(flood::TOPIC, PARTITIONS, &settings).await;
        let numbers = self.cluster.numbers();
        let nodes = numbers.iter().map(|number| Ok(self.cluster.node(*number)?.http.clone()));
        let flood = Flood::new(nodes.collect::<Result<_, Failure>>()?);
        let time = (self.until.saturating_duration_since(Instant::now()) / 2).clamp(SHORTEST, LONGEST);
        let began = self.now();
        let capacity = flood.capacity(MEASURED_FOR).await;
        let before = flood.answers.accepted.load(Ordering::SeqCst);
        let pouring = tokio::spawn(Arc::clone(&flood).pour(TIMES * capacity, time));
        while !pouring.is_finished() {
            // What is refused is asked for again.
            let _ = tokio::time::timeout(RETAIN_EVERY, client.apply_retention(flood::TOPIC, false)).await;
            self.watch_for_ends()?;
            tokio::time::sleep(RETAIN_EVERY).await;
        }
        pouring.await.map_err(|error| Failure(format!("a client of the harness failed: {error}")))?;
        let ended = self.now();
        self.tell_of_flood(&flood, (capacity, before), time, When(began, ended));
        self.probe_memory(began)?;
        tokio::time::sleep(AFTERWARDS).await;
        self.wait_whole().await
    }

    /// `before`: what was accepted while it was measured what the cluster takes.
    fn tell_of_flood(&mut self, flood: &Flood, (capacity, before): (f64, u64), time: Duration, at: When) {
        let count = |of: &AtomicU64| of.load(Ordering::SeqCst);
        let answers = &flood.answers;
        let (wanted, held_back, wrong) = (count(&answers.wanted), count(&answers.held_back), count(&answers.wrong));
        let (accepted, refused, unknown) =
            (count(&answers.accepted) - before, count(&answers.refused), count(&answers.unknown));
        let detail = format!(
            "{capacity:.0} requests of {} bytes a second are taken; {wanted} were wanted in {} s, of which {held_back} had no \
             free connection; {accepted} accepted, {refused} refused, {unknown} unknown, {wrong} otherwise {:?}",
            flood.request_bytes(),
            time.as_secs(),
            answers.examples.lock()
        );
        self.probe(THROTTLED, at.0, wrong == 0, detail.clone());
        // A harness that does not manage to ask so often proves nothing, nor does a cluster that could take most of it after
        // all: what it takes was measured while the machine did something else.
        let is_asked = wanted as f64 >= 0.9 * TIMES * capacity * time.as_secs_f64();
        if capacity > 0.0 && is_asked && accepted as f64 <= MOST_TAKEN * wanted as f64 {
            let (numbers, partitions) = (self.cluster.numbers(), self.all_partitions());
            self.note(fault("overload", &numbers, at, partitions, detail));
        }
    }

    /// Looks at what each node had at most since it started.
    pub(super) fn probe_memory(&self, since: Micros) -> Result<(), Failure> {
        let Some(limit) = self.cluster.memory_limit() else { return Ok(()) };
        let mut peaks = Vec::new();
        for number in self.cluster.numbers() {
            peaks.push((number, self.cluster.node(number)?.peak_memory_bytes()?));
        }
        let held = peaks.iter().all(|(_, peak)| *peak <= limit);
        let in_mib: Vec<String> =
            peaks.iter().map(|(number, peak)| format!("node {number} {} MiB", peak >> 20)).collect();
        let detail = format!("at most in use: {}; the limit is {} MiB", in_mib.join(", "), limit >> 20);
        eprintln!("  {detail}");
        self.probe(WITHIN_MEMORY, since, held, detail);
        Ok(())
    }
}

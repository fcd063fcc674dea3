//! Scrub: a node reads its segments again, slowly, to find what the medium has lost before somebody needs it (L5).
//!
//! A pass reads every replay segment and every column segment of all replicas of the node, whether they lead or follow, at
//! a bounded rate, and compares the bytes of each file with the BLAKE3 in the manifest. What is damaged stays where it is,
//! and what is whole of it is still read, until a copy of another replica takes its place: that is the work of those who
//! fetch what is missing ([`crate::pull`]), whom a scrub only tells. What nobody else has stays, and whoever reads it hears
//! which offsets are lost.

mod options;
mod pass;
mod segment;

use std::sync::Weak;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

pub use options::ScrubOptions;

use crate::broker::Broker;
use pass::Pass;

/// How long a start is left alone, which has enough to read.
const FIRST_PAUSE: Duration = Duration::from_secs(600);

/// Scrubs the segments of a node, one pass after the other, until it stops; ends between two reads.
pub(crate) async fn scrub(broker: Weak<Broker>, stop: CancellationToken) {
    let Some(options) = broker.upgrade().map(|node| node.options().scrub.clone()) else { return };
    if options.rate_bytes == 0 || options.every.is_zero() {
        return;
    }
    let mut pause = options.every.min(FIRST_PAUSE);
    loop {
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
        let began = Instant::now();
        let Some(pass) = Pass::new(&broker, &stop) else { return };
        let Some(found) = pass.run().await else { return };
        let (files, bytes, damaged) = (found.files, found.bytes, found.damaged);
        tracing::info!(files, bytes, damaged, took = ?began.elapsed(), "a scrub has read all segments of the node");
        pause = options.every.saturating_sub(began.elapsed());
    }
}

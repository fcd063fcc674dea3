//! What keeps the log short.

use std::collections::HashMap;
use std::sync::Arc;

use stratalog_proto::entry::Command;
use stratalog_proto::{Error, RaftIndex, SegmentId, internal};
use stratalog_storage::{ErasedOffsets, RecMeta};

use super::run::Run;
use crate::replay::{Range, Repacking, build, choose, repack};

impl Run {
    pub(super) fn roll(&mut self, at: usize) -> Result<(), Error> {
        let replica = &self.node.replicas[at];
        let Some(applied) = replica.solo.next().checked_sub(1).filter(|_| replica.proposed.is_none()) else {
            return Ok(());
        };
        let after = replica.machine.read(|state| state.replay_frontier());
        let through = replica.solo.log().cut(after, RaftIndex(applied), self.dice.below(40_000));
        if through <= after {
            return Ok(());
        }
        let placed = replica.machine.read(|state| state.batches_between(after, through));
        let metas = build(&replica.recs, replica.solo.log(), Range { after, through }, placed)?;
        let segments = metas.iter().map(internal::RecMeta::from).collect();
        let roll = internal::Roll { expect: after.0, next: through.0, segments };
        self.note(format_args!("shard {at}, {after} to {through}"));
        self.propose_segments(at, metas, Command::Roll(roll))
    }

    pub(super) fn repack(&mut self, at: usize) -> Result<(), Error> {
        let replica = &self.node.replicas[at];
        let (manifest, starts) = replica.machine.read(|state| {
            let partitions =
                state.topics().flat_map(|(topic, of)| of.partitions().map(move |(p, state)| (topic, p, state)));
            let starts: HashMap<_, _> = partitions.map(|(topic, p, state)| ((topic, p), state.log_start())).collect();
            (state.manifest().clone(), starts)
        });
        let chosen = choose(manifest.recs(), &starts).filter(|_| replica.proposed.is_none());
        let Some(Repacking { from, keep }) = chosen.filter(|chosen| replica.recs.has(chosen.from.id)) else {
            return Ok(());
        };
        let built = repack(&replica.recs, &from, SegmentId::new(), &keep, &ErasedOffsets::default())?;
        let metas: Vec<RecMeta> = built.into_iter().collect();
        let add = metas.first().map(internal::RecMeta::from);
        self.note(format_args!("shard {at}, {} partitions are kept", keep.len()));
        self.propose_segments(
            at,
            metas,
            Command::Repack(internal::Repack { remove: from.id.to_bytes(), add, erased: Vec::new() }),
        )
    }

    /// Proposes segments that are built; they are known before they count. Now and then another replica has built them: this
    /// one has to make the same once it hears of them.
    fn propose_segments(&mut self, at: usize, metas: Vec<RecMeta>, command: Command) -> Result<(), Error> {
        let elsewhere = self.dice.chance(1, 3);
        let recs = Arc::clone(&self.node.replicas[at].recs);
        let metas: Vec<Arc<RecMeta>> = metas.into_iter().map(Arc::new).collect();
        for meta in &metas {
            if elsewhere {
                recs.discard(meta);
            } else {
                recs.adopt(Arc::clone(meta));
            }
        }
        let index = self.submit(at, &[command])?;
        if elsewhere {
            self.note("built elsewhere");
        } else {
            self.node.replicas[at].proposed = Some((index, metas));
        }
        Ok(())
    }

    pub(super) fn snapshot(&mut self, at: usize) -> Result<(), Error> {
        let replica = &self.node.replicas[at];
        let frontier = replica.machine.read(|state| state.replay_frontier());
        if frontier <= replica.solo.log().snapshot_frontier() || replica.recs.is_waiting() {
            return Ok(());
        }
        let taken = self.runtime.block_on(replica.solo.snapshot())?;
        replica.solo.log().release(taken.frontier);
        self.node.release();
        self.note(format_args!("shard {at} at {}, frontier {}", taken.at, taken.frontier));
        Ok(())
    }
}

//! What has to be true of a node whenever it serves.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use stratalog_proto::{Code, Error, Offset, RaftIndex, TopicPartition};
use stratalog_storage::inspect::{Depth, Severity, verify};
use stratalog_storage::{Io, RecMeta, rec_file_name};

use super::node::{Replica, data_dir};
use super::run::Run;
use crate::shard::Source;

impl Run {
    /// All of a shard that is applied: its state, its log, and every record.
    pub(super) fn check(&self, at: usize) -> Result<(), Error> {
        let (replica, model) = (&self.node.replicas[at], &self.models[at]);
        if replica.solo.next() != model.next() {
            return Ok(());
        }
        let found = replica.machine.read(|state| (state.digest(), *state == *model.state()));
        assert_eq!(found, (model.state().digest(), true), "A1: the state of shard {at} is not what it was");
        let retained = replica.solo.log().retained();
        for index in retained.first.0..replica.solo.end() {
            let payload = replica.solo.log().payload(RaftIndex(index))?;
            assert_eq!(payload.as_ref(), model.payload(index), "L1: entry {index} of shard {at} is another one");
        }
        for tp in model.accepted().keys() {
            if let Some((start, _)) = replica.bounds(*tp) {
                self.check_reads(at, *tp, start)?;
            }
        }
        Ok(())
    }

    /// Reads a partition from an offset to its end.
    pub(super) fn check_reads(&self, at: usize, tp: TopicPartition, from: Offset) -> Result<(), Error> {
        let (replica, model) = (&self.node.replicas[at], &self.models[at]);
        let Some((_, end)) = replica.bounds(tp) else { return Ok(()) };
        let acknowledged = model.accepted().get(&tp).and_then(|of| of.last()).map_or(Offset(0), |last| last.next);
        assert_eq!(end, acknowledged, "L3: the high watermark of {tp:?} is what was acknowledged");
        let beyond = replica.machine.read(|state| Source::of(state, tp, end).is_some());
        assert!(!beyond, "L3: something can be read at the high watermark {end} of {tp:?}");
        let mut next = from;
        while next < end {
            let batches = match replica.read(tp, next) {
                Ok(batches) => batches.unwrap_or_else(|| panic!("L1: offset {next} of {tp:?} is gone")),
                // It is rolled, and made again before anything else may go.
                Err(error) if error.code == Code::Unavailable && replica.recs.is_waiting() => return Ok(()),
                Err(error) => return Err(error),
            };
            assert!(!batches.is_empty(), "L1: a read of {tp:?} at {next} gave nothing");
            for batch in batches {
                let expected = model.batch_with(tp, next).expect("the offset is below the high watermark");
                let place = (expected.index, expected.base);
                assert_eq!(
                    batch, expected.bytes,
                    "L1: the batch of {tp:?} at {next}, of entry and base offset {place:?}"
                );
                next = expected.next;
            }
        }
        Ok(())
    }

    /// The replay segments of a shard: exactly those of its manifest are on the disk (S2), and what is in them in the order
    /// of the log is what was accepted.
    pub(super) fn check_segments(&self, at: usize) -> Result<(), Error> {
        let replica = &self.node.replicas[at];
        let manifest = replica.machine.read(|state| state.manifest().clone());
        let named: BTreeSet<String> = manifest.recs().iter().map(|meta| rec_file_name(meta.id)).collect();
        let listed = self.disk.list(replica.recs.dir()).expect("the directory is there");
        let listed: BTreeSet<String> = listed.into_iter().filter(|name| name.contains(".rec")).collect();
        assert_eq!(listed, named, "S2: the replay segments of shard {at} are those of its manifest");
        manifest.recs().iter().try_for_each(|meta| self.check_segment(at, meta))
    }

    fn check_segment(&self, at: usize, meta: &Arc<RecMeta>) -> Result<(), Error> {
        let mut last = None;
        for found in self.node.replicas[at].recs.reader(meta)?.ordered(meta.after)? {
            let found = found?;
            let place = (found.index, found.at);
            assert!(last < Some(place) && found.index <= meta.through, "a batch of {} is out of order", meta.id);
            last = Some(place);
            let tp = TopicPartition { topic: found.topic, partition: found.partition };
            // A topic that is gone may still lie in a segment with others.
            let Some(expected) = self.models[at].batch_with(tp, found.base_offset) else { continue };
            assert_eq!(found.index, expected.index, "L1: the batch of {tp:?} at {} in {}", found.base_offset, meta.id);
            assert_eq!(found.batch, expected.bytes, "L1: the batch of {tp:?} at {} in {}", found.base_offset, meta.id);
        }
        Ok(())
    }

    /// A look at the directory from outside finds it whole.
    pub(super) fn inspect(&mut self) {
        let io: Arc<dyn Io> = Arc::new(self.disk.after_kill());
        let report = verify(&io, data_dir(), Depth::Deep).expect("the directory can be listed");
        let column_file = |path: &Path| path.extension().is_some_and(|extension| extension == "col");
        let bad: Vec<_> = report.findings.iter().filter(|finding| finding.severity != Severity::Note).collect();
        let bad: Vec<_> = bad.into_iter().filter(|finding| !column_file(&finding.path)).collect();
        assert!(bad.is_empty(), "L5: the directory is not whole: {bad:#?}");
    }
}

impl Replica {
    /// Log start and high watermark of a partition that is here.
    pub(super) fn bounds(&self, tp: TopicPartition) -> Option<(Offset, Offset)> {
        self.machine.read(|state| {
            let partition = state.partition(tp.topic, tp.partition)?;
            Some((partition.log_start(), partition.high_watermark()))
        })
    }
}

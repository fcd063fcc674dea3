//! The answer to a fetch.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::BrokerId;
use stratalog_broker::FetchedBatches;
use stratalog_proto::{Code, PartitionId};

use super::gather::{Found, Outcome, Read};
use super::session::Session;
use super::{Named, Partition, Request, Topic};
use crate::kafka::errors;
use crate::kafka::wire::Writer;

/// A batch says in these bytes how many follow them.
const LENGTH_AT: std::ops::Range<usize> = 8..12;

/// The tagged field that says where a log and what a client has of it go apart.
const DIVERGING_EPOCH: u8 = 0;

/// An answer with nothing but an error.
pub(super) fn refusal(request: &Request, error: ResponseError) -> Vec<Bytes> {
    let mut writer = begin(request, error.code(), 0, 0);
    writer.count(0);
    writer.tags();
    writer.finish()
}

/// `found`: of each topic of the session, which remembers what its client is told.
pub(super) fn write(request: &Request, max_bytes: usize, session: &mut Session, found: &[Found]) -> Vec<Bytes> {
    let (turn, only_news) = (session.turn, session.only_news);
    let is_told = |topic: &Topic, found: &Found, partition: &Partition| {
        !only_news || Told::of(partition, found, matches!(topic.name, Named::Id(_))).is_news_to(partition)
    };
    let count = |(topic, found): (&Topic, &Found)| {
        topic.partitions.iter().filter(|partition| is_told(topic, found, partition)).count()
    };
    let counts: Vec<usize> = session.topics.iter().zip(found).map(count).collect();
    let mut writer = begin(request, 0, session.id, 80 * counts.iter().sum::<usize>());
    let mut room = Room { left: max_bytes, is_first: true };
    writer.count(counts.iter().filter(|count| !only_news || **count > 0).count());
    for at in from_turn(turn, counts.len()).filter(|at| !only_news || counts[*at] > 0) {
        let Topic { name, partitions } = &mut session.topics[at];
        match name {
            Named::Name(name) => writer.text(name),
            Named::Id(id) => writer.uuid(*id),
        }
        writer.count(counts[at]);
        for place in from_turn(turn, partitions.len()) {
            let partition = &mut partitions[place];
            let told = Told::of(partition, &found[at], matches!(name, Named::Id(_)));
            if !only_news || told.is_news_to(partition) {
                partition.told = told.to_remember();
                write_partition(&mut writer, request.version, partition, told, &mut room);
            }
        }
        writer.tags();
    }
    if session.id != 0 && !room.is_first {
        session.turn = turn.wrapping_add(1);
    }
    writer.tags();
    writer.finish()
}

/// So many places, from one of them on.
fn from_turn(turn: usize, places: usize) -> impl Iterator<Item = usize> {
    let first = turn.checked_rem(places).unwrap_or(0);
    (first..places).chain(0..first)
}

fn begin(request: &Request, error: i16, session: i32, capacity: usize) -> Writer {
    let mut writer = Writer::new(request.is_flexible(), 32 + capacity);
    // Nobody is throttled.
    writer.i32(0);
    if request.version >= 7 {
        writer.i16(error);
        writer.i32(session);
    }
    writer
}

/// What the answer may still hold.
struct Room {
    left: usize,
    /// Whether there are no records in it yet.
    is_first: bool,
}

/// What a client is told of a partition.
struct Told<'a> {
    error: i16,
    high_watermark: i64,
    log_start: i64,
    batches: &'a [FetchedBatches],
    /// Where the log and what the client has go apart: an epoch, and where it ends.
    diverges: Option<(i32, i64)>,
    /// A replica that the client should rather read.
    nearer: Option<BrokerId>,
}

const NO_REPLICA: BrokerId = BrokerId(-1);

impl<'a> Told<'a> {
    fn error(error: ResponseError) -> Self {
        Self { error: error.code(), high_watermark: -1, log_start: -1, batches: &[], diverges: None, nearer: None }
    }

    fn of(asked: &Partition, found: &'a Found, by_id: bool) -> Self {
        let (partitions, read) = match found {
            Found::Topic { partitions, read } => (*partitions, read),
            Found::Not(error) if by_id && error.code == Code::UnknownTopic => {
                return Self::error(ResponseError::UnknownTopicId);
            }
            Found::Not(error) => {
                return Self { error: errors::of_fetch(error.code), ..Self::error(ResponseError::UnknownServerError) };
            }
        };
        let index = u32::try_from(asked.index).ok().filter(|index| *index < partitions);
        let Some(index) = index else { return Self::error(ResponseError::UnknownTopicOrPartition) };
        if asked.offset < 0 {
            return Self::error(ResponseError::OffsetOutOfRange);
        }
        match read.binary_search_by_key(&PartitionId(index), |partition| partition.partition) {
            Ok(at) => Self::partition(&read[at]),
            // The node stops.
            Err(_) => Self::error(ResponseError::NotLeaderOrFollower),
        }
    }

    /// High watermark and log start; after an error both are news again.
    fn to_remember(&self) -> (i64, i64) {
        if self.error == 0 { (self.high_watermark, self.log_start) } else { (-1, -1) }
    }

    /// Whether there is something that its client does not know. An error is told again and again.
    fn is_news_to(&self, asked: &Partition) -> bool {
        let changes = (self.high_watermark, self.log_start) != asked.told;
        let says_more = self.diverges.is_some() || self.nearer.is_some();
        self.error != 0 || !self.batches.is_empty() || says_more || changes
    }

    fn partition(found: &'a Read) -> Self {
        let (high_watermark, log_start) = (found.high_watermark, found.log_start);
        let told = Self { error: 0, high_watermark, log_start, batches: &[], diverges: None, nearer: None };
        match &found.outcome {
            Outcome::Batches(batches) => Self { batches, ..told },
            Outcome::Refused(error) => Self { error: *error, ..told },
            Outcome::Nearer(node) => Self { nearer: Some(*node), ..told },
            Outcome::Diverges { epoch, end } => Self { diverges: Some((*epoch, *end)), ..told },
        }
    }
}

fn write_partition(writer: &mut Writer, version: i16, asked: &Partition, told: Told<'_>, room: &mut Room) {
    writer.i32(asked.index);
    writer.i16(told.error);
    writer.i64(told.high_watermark);
    // The last stable offset: without transactions it is the same.
    writer.i64(told.high_watermark);
    if version >= 5 {
        writer.i64(told.log_start);
    }
    // Aborted transactions.
    writer.null_list();
    if version >= 11 {
        writer.i32(told.nearer.unwrap_or(NO_REPLICA).0);
    }
    // The first batch of an answer is there however large it is: else the client would never get on.
    let pieces = up_to(told.batches, asked.max_bytes.min(room.left), room.is_first);
    let bytes: usize = pieces.iter().map(Bytes::len).sum();
    room.left = room.left.saturating_sub(bytes);
    room.is_first &= bytes == 0;
    writer.pieces(pieces.into_iter(), bytes);
    match told.diverges {
        Some((epoch, end)) => {
            let field = [&epoch.to_be_bytes()[..], &end.to_be_bytes(), &[0]].concat();
            writer.tagged(DIVERGING_EPOCH, &field);
        }
        None => writer.tags(),
    }
}

/// The bytes of whole batches, together at most so many; `at_least_one`: but for the first.
fn up_to(batches: &[FetchedBatches], max_bytes: usize, at_least_one: bool) -> Vec<Bytes> {
    let mut pieces = Vec::with_capacity(2 * batches.len());
    let mut left = max_bytes;
    for several in batches {
        if several.bytes() <= left {
            left -= several.bytes();
            pieces.extend([several.head.clone(), several.body.clone()]);
            continue;
        }
        let is_first = pieces.is_empty() && at_least_one;
        let cut = whole_batches(several, left, is_first).saturating_sub(several.head.len());
        if cut > 0 {
            pieces.extend([several.head.clone(), several.body.slice(..cut)]);
        }
        break;
    }
    pieces
}

/// Bytes of the leading batches that take at most `max_bytes`, and at least of the first if that has to be there.
fn whole_batches(several: &FetchedBatches, max_bytes: usize, at_least_one: bool) -> usize {
    let mut end = 0;
    while end < several.bytes() {
        let length = LENGTH_AT.map(|at| byte(several, end + at)).fold(0, |length, byte| length << 8 | byte as usize);
        let next = end + LENGTH_AT.end + length;
        if next > several.bytes() || next > max_bytes && !(end == 0 && at_least_one) {
            break;
        }
        end = next;
    }
    end
}

fn byte(several: &FetchedBatches, at: usize) -> u8 {
    let in_head = several.head.get(at);
    let in_body = || several.body.get(at - several.head.len());
    in_head.or_else(in_body).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A batch of so many bytes, as far as lengths go.
    fn batch(bytes: usize) -> Vec<u8> {
        let mut batch = vec![7; bytes];
        batch[LENGTH_AT].copy_from_slice(&((bytes - 12) as u32).to_be_bytes());
        batch
    }

    fn cut(parts: &[(&[usize], usize)], max_bytes: usize, at_least_one: bool) -> usize {
        let several = |(batches, head): &(&[usize], usize)| {
            let bytes: Bytes = batches.iter().flat_map(|bytes| batch(*bytes)).collect::<Vec<_>>().into();
            FetchedBatches { head: bytes.slice(..*head), body: bytes.slice(*head..) }
        };
        let batches: Vec<_> = parts.iter().map(several).collect();
        up_to(&batches, max_bytes, at_least_one).iter().map(Bytes::len).sum()
    }

    #[test]
    fn answers_are_cut_between_batches_and_begin_with_a_whole_one() {
        let parts: &[(&[usize], usize)] = &[(&[100, 50, 70], 0), (&[80], 61), (&[90, 20], 0)];
        assert_eq!(cut(parts, 1_000, false), 410);
        assert_eq!(cut(parts, 410, false), 410);
        assert_eq!(cut(parts, 409, false), 390);
        assert_eq!(cut(parts, 389, false), 300);
        assert_eq!(cut(parts, 299, false), 220);
        assert_eq!(cut(parts, 160, false), 150);
        assert_eq!(cut(parts, 99, false), 0);
        assert_eq!(cut(parts, 99, true), 100);
        assert_eq!(cut(&[(&[80], 61)], 1, true), 80, "with a header apart");
        assert_eq!(cut(&[(&[80], 61)], 1, false), 0);
    }
}

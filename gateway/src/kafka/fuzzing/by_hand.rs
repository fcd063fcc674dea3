//! Produce and Fetch, which are read by hand: the library reads the same out of them.

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, FetchRequest, ProduceRequest};
use kafka_protocol::protocol::{Decodable, StrBytes};
use stratalog_mutation::{Decoder, Pieces};
use stratalog_proto::batch::Batch;

use super::samples::{self, FETCH_VERSIONS, PRODUCE_VERSIONS, frame};
use crate::kafka::requests::api::{Asked, Request};
use crate::kafka::requests::fetch::{self, MAX_BYTES, Named};
use crate::kafka::requests::produce;

/// The version (u8), and the body of a Produce. What it takes is what records decompress to, and the codecs for it.
pub const PRODUCE: Decoder =
    Decoder { name: "kafka_produce", samples: produces, run: read_produce, words: &[], memory_bytes: 24 << 20 };

/// The version (u8), and the body of a Fetch.
pub const FETCH: Decoder =
    Decoder { name: "kafka_fetch", samples: fetches, run: read_fetch, words: &[], memory_bytes: 1 << 20 };

/// What the records of a batch may decompress to here.
const MAX_CONTENT_BYTES: usize = 1 << 20;
/// Batches of one request that are looked into.
const MAX_BATCHES: usize = 8;

fn produces() -> Vec<Vec<u8>> {
    PRODUCE_VERSIONS.map(|version| [&[version as u8][..], &samples::produce(version)].concat()).collect()
}

fn fetches() -> Vec<Vec<u8>> {
    FETCH_VERSIONS.map(|version| [&[version as u8][..], &samples::fetch(version)].concat()).collect()
}

/// The request of this kind that the bytes are, if there is such a version.
fn request(key: ApiKey, bytes: &[u8]) -> Option<Request> {
    let mut pieces = Pieces(bytes);
    let version = i16::from(pieces.byte());
    match Request::read(frame(key, version, pieces.rest())) {
        Ok(Asked::Known(request)) => Some(request),
        _ => None,
    }
}

fn read_produce(bytes: &[u8]) -> bool {
    let Some(request) = request(ApiKey::Produce, bytes) else { return false };
    let Ok(asked) = produce::read(&request) else { return false };
    let partitions = || asked.topics.iter().flat_map(|topic| &topic.partitions);
    let body = request.body.as_ptr_range();
    for records in partitions().filter_map(|partition| partition.records.as_ref()) {
        let is_slice = records.is_empty() || body.contains(&records.as_ptr());
        assert!(is_slice, "records are not copied");
    }
    partitions().take(MAX_BATCHES).filter_map(|partition| produce::one_batch(partition).ok()).for_each(look_into);
    if PRODUCE_VERSIONS.contains(&request.version) {
        let known = ProduceRequest::decode(&mut request.body.clone(), request.version);
        known.is_ok_and(|known| is_same_produce(&asked, &known))
    } else {
        true
    }
}

/// As a broker does: a batch is refused, or its records are bounded.
fn look_into(records: Bytes) {
    let _ = Batch::parse(records.clone()).map(|batch| batch.check_dense());
    // A fuzzer finds no right checksum.
    let Ok(batch) = Batch::parse_trusted(records) else { return };
    let Ok(records) = batch.records(MAX_CONTENT_BYTES) else { return };
    let content: usize = records.map_while(Result::ok).filter_map(|record| record.value.map(|value| value.len())).sum();
    assert!(content <= MAX_CONTENT_BYTES, "X1: a batch holds {content} bytes");
}

fn is_same_produce(asked: &produce::Asked, known: &ProduceRequest) -> bool {
    assert_eq!((asked.acks, asked.is_transactional), (known.acks, known.transactional_id.is_some()));
    let ours = asked.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |of| (&topic.name, of)));
    let ours: Vec<_> = ours.map(|(name, of)| (name, of.index, of.records.as_ref())).collect();
    let theirs = known.topic_data.iter().flat_map(|topic| topic.partition_data.iter().map(move |of| (&topic.name, of)));
    let theirs: Vec<_> = theirs.map(|(name, of)| (&name.0, of.index, of.records.as_ref())).collect();
    assert_eq!(ours, theirs);
    true
}

fn read_fetch(bytes: &[u8]) -> bool {
    let Some(request) = request(ApiKey::Fetch, bytes) else { return false };
    let bound = fetch::most_bytes(&request);
    let Ok(asked) = fetch::read(&request) else { return false };
    assert_eq!(bound, asked.limits.max_bytes, "X1: what is counted before is what is asked for");
    assert!(bound <= MAX_BYTES);
    let known = FetchRequest::decode(&mut request.body.clone(), request.version);
    known.is_ok_and(|known| is_same_fetch(&asked, &known))
}

fn is_same_fetch(asked: &fetch::Asked, known: &FetchRequest) -> bool {
    assert_eq!((asked.session, asked.epoch), (known.session_id, known.session_epoch));
    let named = |name: &str, id: uuid::Uuid| {
        if asked.by_id { Named::Id(id.as_u128()) } else { Named::Name(StrBytes::from_string(name.to_owned())) }
    };
    let ours = asked
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(move |of| (topic.name.clone(), of.index, of.offset)));
    let theirs = known.topics.iter().flat_map(|topic| {
        let name = named(&topic.topic, topic.topic_id);
        topic.partitions.iter().map(move |of| (name.clone(), of.partition, of.fetch_offset))
    });
    assert_eq!(ours.collect::<Vec<_>>(), theirs.collect::<Vec<_>>());
    let ours = asked.forgotten.iter().map(|topic| (topic.name.clone(), topic.partitions.clone()));
    let theirs = known.forgotten_topics_data.iter().map(|of| (named(&of.topic, of.topic_id), of.partitions.clone()));
    assert_eq!(ours.collect::<Vec<_>>(), theirs.collect::<Vec<_>>());
    true
}

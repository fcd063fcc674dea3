//! Requests as clients send them: each kind in each version that is answered.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{ApiKey, FetchRequest, ProduceRequest, RequestHeader, TopicName, TransactionalId};
use kafka_protocol::protocol::{Encodable, StrBytes};
use stratalog_proto::ProducerId;
use stratalog_proto::batch::{BatchBuilder, Compression};
use uuid::Uuid;

use crate::kafka::requests::api::{APIS, Api};
use crate::kafka::requests::frames::Frame;
use crate::kafka::requests::shape::{Field, Kind};

/// The versions of Produce that the library knows.
pub(super) const PRODUCE_VERSIONS: std::ops::RangeInclusive<i16> = 3..=12;
pub(super) const FETCH_VERSIONS: std::ops::RangeInclusive<i16> = 4..=17;

/// A request with its header, as the library writes both.
pub(super) fn request(key: ApiKey, version: i16, body: &[u8]) -> Vec<u8> {
    let header = RequestHeader::default()
        .with_request_api_key(key as i16)
        .with_request_api_version(version)
        .with_correlation_id(7)
        .with_client_id(Some(StrBytes::from_static_str("c")));
    let mut written = BytesMut::new();
    header.encode(&mut written, key.request_header_version(version)).expect("a header can be written");
    written.extend_from_slice(body);
    written.into()
}

pub(super) fn frame(key: ApiKey, version: i16, body: &[u8]) -> Frame {
    Frame { bytes: request(key, version, body).into(), place: None }
}

/// All of them, without their lengths.
pub(super) fn requests() -> Vec<Vec<u8>> {
    APIS.iter().flat_map(requests_of).collect()
}

fn requests_of(api: &Api) -> Vec<Vec<u8>> {
    let of = |version, body: Vec<u8>| request(api.key, version, &body);
    match api.key {
        ApiKey::Produce => PRODUCE_VERSIONS.map(|version| of(version, produce(version))).collect(),
        ApiKey::Fetch => FETCH_VERSIONS.map(|version| of(version, fetch(version))).collect(),
        key => {
            let body = |version, elements| {
                let flexible = key.request_header_version(version) >= 2;
                let mut written = Written { bytes: Vec::new(), version, flexible, elements };
                written.structure(api.shape);
                written.bytes
            };
            let each = (api.oldest..=api.newest).map(|version| of(version, body(version, 2)));
            each.chain([of(api.newest, body(api.newest, 0))]).collect()
        }
    }
}

/// What a shape says, with something in every field.
struct Written {
    bytes: Vec<u8>,
    version: i16,
    flexible: bool,
    /// Of each list. Structures have a tagged field that nobody knows where these are none.
    elements: u8,
}

impl Written {
    fn structure(&mut self, fields: &[Field]) {
        let version = self.version;
        for field in fields.iter().filter(|field| field.is_of(version)) {
            self.value(&field.kind);
        }
        if self.flexible {
            // Of number 1,000, with two bytes.
            let tags: &[u8] = if self.elements == 0 { &[1, 0xe8, 0x07, 2, b'x', b'y'] } else { &[0] };
            self.bytes.extend_from_slice(tags);
        }
    }

    fn value(&mut self, kind: &Kind) {
        match kind {
            Kind::Bool | Kind::I8 => self.bytes.push(1),
            Kind::I16 => self.bytes.extend([0, 3]),
            Kind::I32 => self.bytes.extend([0, 0, 0, 5]),
            Kind::I64 => self.bytes.extend([0, 0, 0, 0, 0, 0, 0, 9]),
            Kind::Uuid => self.bytes.extend([0xab; 16]),
            Kind::Text => {
                self.length(3, false);
                self.bytes.extend(b"abc");
            }
            Kind::Bytes => {
                self.length(4, true);
                self.bytes.extend([0, 1, 2, 0xff]);
            }
            Kind::List(element) => {
                self.length(self.elements, true);
                (0..self.elements).for_each(|_| self.value(element));
            }
            Kind::Struct(fields) => self.structure(fields),
        }
    }

    fn length(&mut self, length: u8, wide: bool) {
        match (self.flexible, wide) {
            (true, _) => self.bytes.push(length + 1),
            (false, true) => self.bytes.extend([0, 0, 0, length]),
            (false, false) => self.bytes.extend([0, length]),
        }
    }
}

fn batch(codec: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(codec).producer(ProducerId(11), 0, 0);
    for number in 0..4 {
        let value = format!("value {number} ").repeat(12);
        builder.push(1_700_000_000_000 + number, Some(b"key"), Some(value.as_bytes()), &[("source", Some(&b"x"[..]))]);
    }
    builder.finish()
}

/// The body of a Produce: each codec, nothing, and two batches where one may be.
pub(super) fn produce(version: i16) -> Vec<u8> {
    let partition = |(index, records)| PartitionProduceData::default().with_index(index).with_records(records);
    let two = [batch(Compression::None), batch(Compression::None)].concat();
    let records = Compression::ALL.into_iter().map(|codec| Some(batch(codec))).chain([None, Some(two.into())]);
    let topic = |name, partitions| {
        TopicProduceData::default()
            .with_name(TopicName(StrBytes::from_static_str(name)))
            .with_partition_data(partitions)
    };
    let asked = ProduceRequest::default()
        .with_transactional_id((version % 2 == 0).then(|| TransactionalId(StrBytes::from_static_str("t"))))
        .with_acks(-1)
        .with_timeout_ms(1_000)
        .with_topic_data(vec![topic("logs", (0..).zip(records).map(partition).collect()), topic("none", Vec::new())]);
    written(&asked, version)
}

/// The body of a Fetch that goes on with a session.
pub(super) fn fetch(version: i16) -> Vec<u8> {
    let by_id = version >= 13;
    let name = || if by_id { TopicName::default() } else { TopicName(StrBytes::from_static_str("logs")) };
    let id = if by_id { Uuid::from_u128(7) } else { Uuid::nil() };
    let partition = |index| {
        let asked = FetchPartition::default().with_partition(index).with_fetch_offset(40 + i64::from(index));
        asked.with_partition_max_bytes(1 << 20)
    };
    let topic = FetchTopic::default().with_topic(name()).with_topic_id(id);
    let asked = FetchRequest::default()
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_topics(vec![topic.with_partitions((0..3).map(partition).collect())]);
    if version < 7 {
        return written(&asked, version);
    }
    let forgotten = ForgottenTopic::default().with_topic(name()).with_topic_id(id).with_partitions(vec![3, 4]);
    written(&asked.with_session_id(9).with_session_epoch(2).with_forgotten_topics_data(vec![forgotten]), version)
}

pub(super) fn written(asked: &impl Encodable, version: i16) -> Vec<u8> {
    let mut written = BytesMut::new();
    asked.encode(&mut written, version).expect("the library can say it");
    written.into()
}

//! The requests that are answered, with their versions. Nothing is announced that is not built.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use tokio::sync::OwnedSemaphorePermit;

use super::frames::Frame;
use super::shape::{Field, check};
use super::shapes;
use super::wire::{Malformed, Reader};

/// A kind of request.
pub(in crate::kafka) struct Api {
    pub(in crate::kafka) key: ApiKey,
    /// As Kafka names it.
    pub(in crate::kafka) name: &'static str,
    /// As announced.
    pub(in crate::kafka) oldest: i16,
    pub(in crate::kafka) newest: i16,
    /// What its body is made of, before the library decodes it.
    pub(in crate::kafka) shape: &'static [Field],
}

const fn api(key: ApiKey, name: &'static str, oldest: i16, newest: i16, shape: &'static [Field]) -> Api {
    Api { key, name, oldest, newest, shape }
}

/// In the order of their keys. Of Produce the versions 0 to 2, which have older record formats, are refused: they are
/// announced because librdkafka compresses nothing otherwise. Produce and Fetch are read by hand.
pub(in crate::kafka) const APIS: &[Api] = &[
    api(ApiKey::Produce, "Produce", 0, 12, &[]),
    api(ApiKey::Fetch, "Fetch", 4, 17, &[]),
    api(ApiKey::ListOffsets, "ListOffsets", 1, 8, shapes::LIST_OFFSETS),
    api(ApiKey::Metadata, "Metadata", 0, 12, shapes::METADATA),
    api(ApiKey::OffsetCommit, "OffsetCommit", 2, 9, shapes::OFFSET_COMMIT),
    api(ApiKey::OffsetFetch, "OffsetFetch", 1, 9, shapes::OFFSET_FETCH),
    api(ApiKey::FindCoordinator, "FindCoordinator", 0, 4, shapes::FIND_COORDINATOR),
    api(ApiKey::JoinGroup, "JoinGroup", 0, 9, shapes::JOIN_GROUP),
    api(ApiKey::Heartbeat, "Heartbeat", 0, 4, shapes::HEARTBEAT),
    api(ApiKey::LeaveGroup, "LeaveGroup", 0, 5, shapes::LEAVE_GROUP),
    api(ApiKey::SyncGroup, "SyncGroup", 0, 5, shapes::SYNC_GROUP),
    api(ApiKey::DescribeGroups, "DescribeGroups", 0, 5, shapes::DESCRIBE_GROUPS),
    api(ApiKey::ListGroups, "ListGroups", 0, 5, shapes::LIST_GROUPS),
    api(ApiKey::SaslHandshake, "SaslHandshake", 0, 1, shapes::SASL_HANDSHAKE),
    api(ApiKey::ApiVersions, "ApiVersions", 0, 4, shapes::API_VERSIONS),
    api(ApiKey::CreateTopics, "CreateTopics", 2, 7, shapes::CREATE_TOPICS),
    api(ApiKey::DeleteTopics, "DeleteTopics", 1, 6, shapes::DELETE_TOPICS),
    api(ApiKey::DeleteRecords, "DeleteRecords", 0, 2, shapes::DELETE_RECORDS),
    api(ApiKey::InitProducerId, "InitProducerId", 0, 4, shapes::INIT_PRODUCER_ID),
    api(ApiKey::OffsetForLeaderEpoch, "OffsetForLeaderEpoch", 2, 4, shapes::OFFSET_FOR_LEADER_EPOCH),
    api(ApiKey::DescribeConfigs, "DescribeConfigs", 1, 4, shapes::DESCRIBE_CONFIGS),
    api(ApiKey::AlterConfigs, "AlterConfigs", 0, 2, shapes::ALTER_CONFIGS),
    api(ApiKey::DescribeLogDirs, "DescribeLogDirs", 1, 4, shapes::DESCRIBE_LOG_DIRS),
    api(ApiKey::CreatePartitions, "CreatePartitions", 0, 3, shapes::CREATE_PARTITIONS),
    api(ApiKey::DeleteGroups, "DeleteGroups", 0, 2, shapes::DELETE_GROUPS),
    api(ApiKey::ElectLeaders, "ElectLeaders", 0, 2, shapes::ELECT_LEADERS),
    api(ApiKey::IncrementalAlterConfigs, "IncrementalAlterConfigs", 0, 1, shapes::INCREMENTAL_ALTER_CONFIGS),
    api(
        ApiKey::AlterPartitionReassignments,
        "AlterPartitionReassignments",
        0,
        0,
        shapes::ALTER_PARTITION_REASSIGNMENTS,
    ),
    api(ApiKey::ListPartitionReassignments, "ListPartitionReassignments", 0, 0, shapes::LIST_PARTITION_REASSIGNMENTS),
    api(ApiKey::OffsetDelete, "OffsetDelete", 0, 0, shapes::OFFSET_DELETE),
    api(ApiKey::DescribeCluster, "DescribeCluster", 0, 1, shapes::DESCRIBE_CLUSTER),
    api(ApiKey::DescribeProducers, "DescribeProducers", 0, 0, shapes::DESCRIBE_PRODUCERS),
];

/// A request, up to its body.
#[derive(Debug)]
pub(in crate::kafka) struct Request {
    pub(in crate::kafka) key: ApiKey,
    pub(in crate::kafka) version: i16,
    pub(in crate::kafka) correlation: i32,
    /// What the client calls itself; may be empty.
    pub(in crate::kafka) client: StrBytes,
    pub(in crate::kafka) body: Bytes,
    /// Of the frame in the budget of large ones; the memory counts until this is dropped.
    place: Option<OwnedSemaphorePermit>,
    shape: &'static [Field],
}

/// What a frame holds.
#[derive(Debug)]
pub(in crate::kafka) enum Asked {
    Known(Request),
    /// ApiVersions of a version that is not known: the client is told which are.
    NewerVersions {
        correlation: i32,
    },
}

impl Request {
    /// Reads the header of a request.
    ///
    /// # Errors
    /// What is wrong; the connection cannot go on.
    pub(in crate::kafka) fn read(frame: Frame) -> Result<Asked, Malformed> {
        let Frame { bytes, place } = frame;
        let mut reader = Reader::new(bytes, false);
        let (key, version, correlation) = (reader.i16()?, reader.i16()?, reader.i32()?);
        let known = APIS.iter().find(|api| api.key as i16 == key);
        let Some(api) = known else {
            return Err(Malformed::new(format!("requests with key {key} are not answered")));
        };
        if !(api.oldest..=api.newest).contains(&version) {
            if api.key == ApiKey::ApiVersions {
                return Ok(Asked::NewerVersions { correlation });
            }
            let (key, oldest, newest) = (api.key, api.oldest, api.newest);
            let what =
                format!("{key:?} has the versions {oldest} to {newest} here, and this one is of version {version}");
            return Err(Malformed::new(what));
        }
        let client = reader.nullable_text()?.unwrap_or_default();
        let mut body = reader.rest();
        if is_flexible(api.key, version) {
            let mut tags = Reader::new(body, true);
            tags.tags()?;
            body = tags.rest();
        }
        Ok(Asked::Known(Self { key: api.key, version, correlation, client, body, place, shape: api.shape }))
    }

    /// Gives its memory back. For what waits long, once all that it needs is copied.
    pub(in crate::kafka) fn let_go(&mut self) {
        (self.client, self.body, self.place) = (StrBytes::default(), Bytes::new(), None);
    }

    pub(in crate::kafka) fn is_flexible(&self) -> bool {
        is_flexible(self.key, self.version)
    }

    /// The body, decoded by the library once its shape is checked.
    ///
    /// # Errors
    /// What is wrong; the connection cannot go on.
    pub(in crate::kafka) fn decode<T: Decodable>(&self) -> Result<T, Malformed> {
        check(&self.body, self.shape, self.version, self.is_flexible())?;
        T::decode(&mut self.body.clone(), self.version).map_err(|error| Malformed::new(error.to_string()))
    }

    /// The body of a response, encoded by the library.
    ///
    /// # Errors
    /// A response that its version cannot say, which is a defect.
    pub(in crate::kafka) fn encode(&self, response: &impl Encodable) -> Result<Vec<Bytes>, Malformed> {
        let mut body = BytesMut::new();
        let encoded = response.encode(&mut body, self.version);
        encoded.map_err(|error| Malformed::new(format!("the answer cannot be written: {error}")))?;
        Ok(vec![body.freeze()])
    }
}

fn is_flexible(key: ApiKey, version: i16) -> bool {
    key.request_header_version(version) >= 2
}

/// A response with its length and its header before it.
pub(in crate::kafka) fn framed(key: ApiKey, version: i16, correlation: i32, mut body: Vec<Bytes>) -> Vec<Bytes> {
    // Header version 0 has no tagged fields: that of ApiVersions never has.
    let tags: &[u8] = if key.response_header_version(version) >= 1 { &[0] } else { &[] };
    let bytes = 4 + tags.len() + body.iter().map(Bytes::len).sum::<usize>();
    let mut head = Vec::with_capacity(9);
    head.extend_from_slice(&(bytes as u32).to_be_bytes());
    head.extend_from_slice(&correlation.to_be_bytes());
    head.extend_from_slice(tags);
    body.insert(0, head.into());
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(key: i16, version: i16, rest: &[u8]) -> Frame {
        let head = [&key.to_be_bytes()[..], &version.to_be_bytes(), &7_i32.to_be_bytes(), &[0, 1, b'c']];
        Frame { bytes: [&head.concat()[..], rest].concat().into(), place: None }
    }

    #[test]
    fn what_is_announced_the_library_can_say() {
        for api in APIS {
            let known = api.key.valid_versions();
            assert!(api.newest <= known.max, "{:?}", api.key);
            assert!(api.oldest >= known.min || api.key == ApiKey::Produce, "{:?}", api.key);
        }
        assert!(APIS.is_sorted_by_key(|api| api.key as i16));
    }

    #[test]
    fn headers_are_read_in_both_forms() {
        for (version, rest) in [(1, &b"body"[..]), (9, &b"\x00body"[..])] {
            let Ok(Asked::Known(request)) = Request::read(frame(3, version, rest)) else { panic!("{version}") };
            assert_eq!((request.key, request.version, request.correlation), (ApiKey::Metadata, version, 7));
            assert_eq!((&*request.client, &request.body[..]), ("c", &b"body"[..]));
        }
    }

    #[test]
    fn what_is_not_announced_is_refused_by_name() {
        let refused = |key, version| Request::read(frame(key, version, b"")).unwrap_err().0;
        assert!(refused(999, 0).contains("999"));
        assert!(refused(3, 99).contains("Metadata") && refused(3, 99).contains("99"));
        assert!(matches!(Request::read(frame(18, 99, b"")), Ok(Asked::NewerVersions { correlation: 7 })));
        assert!(Request::read(Frame { bytes: Bytes::from_static(b"\x00\x03\x00"), place: None }).is_err());
    }
}

//! The requests that are answered, with their versions. Nothing is announced that is not built.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use tokio::sync::OwnedSemaphorePermit;

use super::frames::Frame;
use super::shape::{Field, check};
use super::wire::{Malformed, Reader};

/// A kind of request.
pub(super) struct Api {
    pub(super) key: ApiKey,
    /// As Kafka names it.
    pub(super) name: &'static str,
    /// As announced.
    pub(super) oldest: i16,
    pub(super) newest: i16,
}

const fn api(key: ApiKey, name: &'static str, oldest: i16, newest: i16) -> Api {
    Api { key, name, oldest, newest }
}

/// In the order of their keys. Of Produce the versions 0 to 2, which have older record formats, are refused: they are
/// announced because librdkafka compresses nothing otherwise.
pub(super) const APIS: &[Api] = &[
    api(ApiKey::Produce, "Produce", 0, 12),
    api(ApiKey::Fetch, "Fetch", 4, 17),
    api(ApiKey::ListOffsets, "ListOffsets", 1, 8),
    api(ApiKey::Metadata, "Metadata", 0, 12),
    api(ApiKey::OffsetCommit, "OffsetCommit", 2, 9),
    api(ApiKey::OffsetFetch, "OffsetFetch", 1, 9),
    api(ApiKey::FindCoordinator, "FindCoordinator", 0, 4),
    api(ApiKey::JoinGroup, "JoinGroup", 0, 9),
    api(ApiKey::Heartbeat, "Heartbeat", 0, 4),
    api(ApiKey::LeaveGroup, "LeaveGroup", 0, 5),
    api(ApiKey::SyncGroup, "SyncGroup", 0, 5),
    api(ApiKey::DescribeGroups, "DescribeGroups", 0, 5),
    api(ApiKey::ListGroups, "ListGroups", 0, 5),
    api(ApiKey::ApiVersions, "ApiVersions", 0, 4),
    api(ApiKey::CreateTopics, "CreateTopics", 2, 7),
    api(ApiKey::DeleteTopics, "DeleteTopics", 1, 6),
    api(ApiKey::DeleteRecords, "DeleteRecords", 0, 2),
    api(ApiKey::InitProducerId, "InitProducerId", 0, 4),
    api(ApiKey::OffsetForLeaderEpoch, "OffsetForLeaderEpoch", 2, 4),
    api(ApiKey::DescribeConfigs, "DescribeConfigs", 1, 4),
    api(ApiKey::AlterConfigs, "AlterConfigs", 0, 2),
    api(ApiKey::DescribeLogDirs, "DescribeLogDirs", 1, 4),
    api(ApiKey::CreatePartitions, "CreatePartitions", 0, 3),
    api(ApiKey::DeleteGroups, "DeleteGroups", 0, 2),
    api(ApiKey::ElectLeaders, "ElectLeaders", 0, 2),
    api(ApiKey::IncrementalAlterConfigs, "IncrementalAlterConfigs", 0, 1),
    api(ApiKey::AlterPartitionReassignments, "AlterPartitionReassignments", 0, 0),
    api(ApiKey::ListPartitionReassignments, "ListPartitionReassignments", 0, 0),
    api(ApiKey::OffsetDelete, "OffsetDelete", 0, 0),
    api(ApiKey::DescribeCluster, "DescribeCluster", 0, 1),
    api(ApiKey::DescribeProducers, "DescribeProducers", 0, 0),
];

/// A request, up to its body.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) key: ApiKey,
    pub(super) version: i16,
    pub(super) correlation: i32,
    /// What the client calls itself; may be empty.
    pub(super) client: StrBytes,
    pub(super) body: Bytes,
    /// Of the frame in the budget of large ones; the memory counts until this is dropped.
    place: Option<OwnedSemaphorePermit>,
}

/// What a frame holds.
#[derive(Debug)]
pub(super) enum Asked {
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
    pub(super) fn read(frame: Frame) -> Result<Asked, Malformed> {
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
        Ok(Asked::Known(Self { key: api.key, version, correlation, client, body, place }))
    }

    /// Gives its memory back. For what waits long, once all that it needs is copied.
    pub(super) fn let_go(&mut self) {
        (self.client, self.body, self.place) = (StrBytes::default(), Bytes::new(), None);
    }

    pub(super) fn is_flexible(&self) -> bool {
        is_flexible(self.key, self.version)
    }

    /// The body, decoded by the library once its shape is checked.
    ///
    /// # Errors
    /// What is wrong; the connection cannot go on.
    pub(super) fn decode<T: Decodable>(&self, shape: &[Field]) -> Result<T, Malformed> {
        check(&self.body, shape, self.version, self.is_flexible())?;
        T::decode(&mut self.body.clone(), self.version).map_err(|error| Malformed::new(error.to_string()))
    }

    /// The body of a response, encoded by the library.
    ///
    /// # Errors
    /// A response that its version cannot say, which is a defect.
    pub(super) fn encode(&self, response: &impl Encodable) -> Result<Vec<Bytes>, Malformed> {
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
pub(super) fn framed(key: ApiKey, version: i16, correlation: i32, mut body: Vec<Bytes>) -> Vec<Bytes> {
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

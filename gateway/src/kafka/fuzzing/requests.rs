//! Requests: their headers, and the body of each kind in each version.

use std::fmt::Debug;

use bytes::{Buf, Bytes};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable};
use stratalog_mutation::Decoder;

use super::samples::{frame, requests, written};
use crate::kafka::requests::api::{Asked, Request};
use crate::kafka::requests::frames::Frame;
use crate::kafka::requests::{fetch, produce};

/// A request without its length: whatever its first two bytes name, in the version that the next two name. Of a list of fifty
/// thousand empty elements the library makes as many structures.
pub const REQUESTS: Decoder =
    Decoder { name: "kafka_requests", samples: requests, run: read, words: &[], memory_bytes: 1 << 20 };

fn read(bytes: &[u8]) -> bool {
    let frame = Frame { bytes: Bytes::copy_from_slice(bytes), place: None };
    match Request::read(frame) {
        Err(_) => false,
        Ok(Asked::NewerVersions { .. }) => true,
        Ok(Asked::Known(request)) => body(&request),
    }
}

macro_rules! bodies {
    ($request:ident: $($key:ident as $type:ty,)*) => {
        match $request.key {
            ApiKey::Produce => produce::read($request).is_ok(),
            ApiKey::Fetch => fetch::most_bytes($request) <= fetch::MAX_BYTES && fetch::read($request).is_ok(),
            $(ApiKey::$key => again::<$type>($request),)*
            key => panic!("{key:?} is announced and not tried here"),
        }
    };
}

/// Whether the body is what its version says.
fn body(request: &Request) -> bool {
    bodies! { request:
        ListOffsets as ListOffsetsRequest,
        Metadata as MetadataRequest,
        OffsetCommit as OffsetCommitRequest,
        OffsetFetch as OffsetFetchRequest,
        FindCoordinator as FindCoordinatorRequest,
        JoinGroup as JoinGroupRequest,
        Heartbeat as HeartbeatRequest,
        LeaveGroup as LeaveGroupRequest,
        SyncGroup as SyncGroupRequest,
        DescribeGroups as DescribeGroupsRequest,
        ListGroups as ListGroupsRequest,
        SaslHandshake as SaslHandshakeRequest,
        ApiVersions as ApiVersionsRequest,
        CreateTopics as CreateTopicsRequest,
        DeleteTopics as DeleteTopicsRequest,
        DeleteRecords as DeleteRecordsRequest,
        InitProducerId as InitProducerIdRequest,
        OffsetForLeaderEpoch as OffsetForLeaderEpochRequest,
        DescribeConfigs as DescribeConfigsRequest,
        AlterConfigs as AlterConfigsRequest,
        DescribeLogDirs as DescribeLogDirsRequest,
        CreatePartitions as CreatePartitionsRequest,
        DeleteGroups as DeleteGroupsRequest,
        ElectLeaders as ElectLeadersRequest,
        IncrementalAlterConfigs as IncrementalAlterConfigsRequest,
        AlterPartitionReassignments as AlterPartitionReassignmentsRequest,
        ListPartitionReassignments as ListPartitionReassignmentsRequest,
        OffsetDelete as OffsetDeleteRequest,
        DescribeCluster as DescribeClusterRequest,
        DescribeProducers as DescribeProducersRequest,
    }
}

/// What is read is the same once the library has written it: its shape is the one that the library knows.
fn again<T: Decodable + Encodable + PartialEq + Debug>(request: &Request) -> bool {
    let Ok(asked) = request.decode::<T>() else { return false };
    let body = written(&asked, request.version);
    let Ok(Asked::Known(same)) = Request::read(frame(request.key, request.version, &body)) else {
        panic!("{:?} has lost its header", request.key)
    };
    assert_eq!(same.decode::<T>().as_ref(), Ok(&asked), "{:?} of version {}", request.key, request.version);
    let mut rest = same.body.clone();
    T::decode(&mut rest, request.version).expect("it was decoded above");
    assert_eq!(rest.remaining(), 0, "the library reads all of it");
    true
}

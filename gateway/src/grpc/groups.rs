//! The service `Groups`.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use stratalog_broker::groups::{GroupStatus, ResetTo, assigned};
use stratalog_proto::v1::groups_server::Groups;
use stratalog_proto::v1::reset_offsets_request::To;
use stratalog_proto::v1::{self, GroupPartition};
use stratalog_proto::{Code, Error, Offset, PartitionId};
use stratalog_query::TopicInfo;
use tonic::{Request, Response, Status};

use super::Service;

/// By topic and partition.
type Partitions = BTreeMap<(String, u32), GroupPartition>;

#[tonic::async_trait]
impl Groups for Service {
    async fn list_groups(&self, _: Request<v1::ListGroupsRequest>) -> Result<Response<v1::ListGroupsResponse>, Status> {
        self.call("ListGroups", async {
            let groups = self.shared.broker.list_groups().await?.into_iter().map(|listed| v1::ListedGroup {
                group: listed.group,
                state: listed.state.to_string(),
                protocol_type: listed.protocol_type,
            });
            Ok(v1::ListGroupsResponse { groups: groups.collect() })
        })
        .await
    }

    async fn describe_group(
        &self,
        request: Request<v1::DescribeGroupRequest>,
    ) -> Result<Response<v1::DescribeGroupResponse>, Status> {
        let group = request.into_inner().group;
        self.call("DescribeGroup", async {
            let status = self.shared.broker.describe_group(&group).await?;
            let partitions = self.partitions(&status).await?;
            let described = status.described;
            let members = described.members.into_iter().map(|member| v1::GroupMember {
                member: member.member_id,
                instance: member.instance.unwrap_or_default(),
                client_id: member.client_id,
                host: member.host,
            });
            Ok(v1::DescribeGroupResponse {
                group,
                state: described.state.to_string(),
                protocol_type: described.protocol_type,
                protocol: described.protocol,
                generation: described.generation,
                members: members.collect(),
                partitions: partitions.into_values().collect(),
            })
        })
        .await
    }

    async fn reset_offsets(
        &self,
        request: Request<v1::ResetOffsetsRequest>,
    ) -> Result<Response<v1::ResetOffsetsResponse>, Status> {
        let v1::ResetOffsetsRequest { group, topic, to, dry_run } = request.into_inner();
        self.call("ResetOffsets", async {
            let to = match to {
                Some(To::Earliest(_)) => ResetTo::Earliest,
                Some(To::Latest(_)) => ResetTo::Latest,
                Some(To::Offset(offset)) => ResetTo::Offset(Offset(offset)),
                Some(To::TimeNs(ns)) => ResetTo::Time(ns),
                Some(To::ShiftBy(by)) => ResetTo::Shift(by),
                None => return Err(Error::new(Code::InvalidRequest, "a reset says where the group is to read on")),
            };
            let topic = Some(topic.as_str()).filter(|topic| !topic.is_empty());
            let reset = self.shared.broker.reset_group(&group, topic, to, dry_run).await?;
            let partitions = reset.into_iter().map(|reset| v1::ResetPartition {
                topic: reset.topic,
                partition: reset.partition.0,
                before: reset.before.map(|offset| offset.0),
                after: reset.after.0,
            });
            Ok(v1::ResetOffsetsResponse { partitions: partitions.collect() })
        })
        .await
    }

    async fn delete_group(
        &self,
        request: Request<v1::DeleteGroupRequest>,
    ) -> Result<Response<v1::DeleteGroupResponse>, Status> {
        let group = request.into_inner().group;
        self.call("DeleteGroup", async {
            self.shared.broker.delete_group(&group).await?;
            Ok(v1::DeleteGroupResponse {})
        })
        .await
    }
}

impl Service {
    /// The partitions that the group has committed, or that a member reads, as far as there still are such.
    async fn partitions(&self, status: &GroupStatus) -> Result<Partitions, Error> {
        let mut topics: BTreeMap<String, Arc<TopicInfo>> = BTreeMap::new();
        let mut found = Partitions::new();
        let mut ids = BTreeMap::new();
        for committed in &status.offsets {
            let topic = match ids.entry(committed.topic) {
                Entry::Occupied(found) => found.into_mut(),
                Entry::Vacant(unknown) => {
                    let topic = known(self.shared.broker.find_topic_by_id(committed.topic).await)?;
                    topics.extend(topic.iter().map(|topic| (topic.name.clone(), topic.clone())));
                    unknown.insert(topic)
                }
            };
            let Some(topic) = topic else { continue };
            let told = entry(&mut found, &topic.name, committed.partition);
            told.committed = Some(committed.offset.0);
            told.metadata = committed.metadata.clone().into_owned();
        }
        for member in &status.described.members {
            for (name, partitions) in assigned(&member.assignment) {
                for partition in partitions {
                    entry(&mut found, &name, partition).member.clone_from(&member.member_id);
                }
                if !topics.contains_key(&name) {
                    topics.extend(known(self.shared.broker.find_topic(&name).await)?.map(|topic| (name, topic)));
                }
            }
        }
        for name in topics.keys() {
            for info in known(self.shared.broker.partitions(name).await)?.unwrap_or_default() {
                if let Some(told) = found.get_mut(&(name.clone(), info.partition.0)) {
                    (told.log_start, told.high_watermark) = (info.log_start.0, info.high_watermark.0);
                }
            }
        }
        found.retain(|(name, partition), _| topics.get(name).is_some_and(|topic| *partition < topic.partitions));
        Ok(found)
    }
}

fn entry<'a>(found: &'a mut Partitions, topic: &str, partition: PartitionId) -> &'a mut GroupPartition {
    let new = || GroupPartition { topic: topic.to_owned(), partition: partition.0, ..GroupPartition::default() };
    found.entry((topic.to_owned(), partition.0)).or_insert_with(new)
}

/// `None` for a topic that there is no more.
fn known<T>(found: Result<T, Error>) -> Result<Option<T>, Error> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) if matches!(error.code, Code::UnknownTopic | Code::InvalidTopicName) => Ok(None),
        Err(error) => Err(error),
    }
}

//! DeleteTopics.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use stratalog_proto::{Code, Error, TopicId};

use super::api::Request;
use super::wire::Malformed;
use super::{Node, errors};

pub(super) async fn answer(node: &Node, request: &Request) -> Result<Vec<Bytes>, Malformed> {
    let asked: DeleteTopicsRequest = request.decode()?;
    let by_name = |name| DeleteTopicState::default().with_name(Some(name));
    let topics = asked.topics.into_iter().chain(asked.topic_names.into_iter().map(by_name));
    let mut responses = Vec::new();
    for topic in topics {
        responses.push(delete(node, topic, request.version).await);
    }
    request.encode(&DeleteTopicsResponse::default().with_responses(responses))
}

async fn delete(node: &Node, asked: DeleteTopicState, version: i16) -> DeletableTopicResult {
    let broker = &node.shared.broker;
    let named = match asked.name {
        Some(name) => Ok(name),
        None => {
            let found = broker.find_topic_by_id(TopicId(asked.topic_id)).await;
            found.map(|topic| TopicName(StrBytes::from_string(topic.name.clone())))
        }
    };
    let by_id = named.as_ref().is_err_and(|error| error.code == Code::UnknownTopic);
    let (name, deleted): (_, Result<(), Error>) = match named {
        Ok(name) => {
            let deleted = broker.delete_topic(&name).await;
            (Some(name), deleted)
        }
        Err(error) => (None, Err(error)),
    };
    let mut told = DeletableTopicResult::default().with_name(name);
    if version >= 6 {
        told = told.with_topic_id(asked.topic_id);
    }
    let Err(error) = deleted else { return told };
    if version >= 5 {
        told = told.with_error_message(Some(errors::message(&error)));
    }
    let unknown_id = ResponseError::UnknownTopicId.code();
    told.with_error_code(if by_id { unknown_id } else { errors::of_controller(error.code) })
}

//! Our codes as Kafka's.

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use stratalog_broker::groups::Refusal;
use stratalog_proto::{Code, Error};

/// The number that says to a Kafka client what this code says to ours.
pub(super) fn number(code: Code) -> i16 {
    response(code).code()
}

/// The same where no partition is asked, but whoever changes topics: any node, once the metadata has a leader.
pub(super) fn of_controller(code: Code) -> i16 {
    match response(code) {
        ResponseError::NotLeaderOrFollower => ResponseError::NotController.code(),
        other => other.code(),
    }
}

/// The same where a producer asks for its id. Java's gives up for good on all that is not one of two codes, and looks for a
/// coordinator on some.
pub(super) fn of_producer(code: Code) -> i16 {
    let response = response(code);
    let response = if code.is_retriable() { ResponseError::CoordinatorLoadInProgress } else { response };
    response.code()
}

/// The same where records are fetched. Java's consumer throws at codes that it does not expect there.
pub(super) fn of_fetch(code: Code) -> i16 {
    let response = match response(code) {
        expected @ (ResponseError::UnknownTopicOrPartition
        | ResponseError::OffsetOutOfRange
        | ResponseError::NotLeaderOrFollower
        | ResponseError::KafkaStorageError
        | ResponseError::UnknownServerError) => expected,
        ResponseError::CorruptMessage => ResponseError::KafkaStorageError,
        _ => ResponseError::NotLeaderOrFollower,
    };
    response.code()
}

/// The same of a group: whoever asks again looks for its coordinator first.
pub(super) fn of_group_code(code: Code) -> i16 {
    let response = match response(code) {
        ResponseError::NotLeaderOrFollower if code == Code::NotLeader => ResponseError::NotCoordinator,
        ResponseError::InvalidTopicException => ResponseError::UnknownTopicOrPartition,
        ResponseError::KafkaStorageError => ResponseError::CoordinatorNotAvailable,
        joins_again @ ResponseError::RebalanceInProgress => joins_again,
        _ if code.is_retriable() => ResponseError::CoordinatorNotAvailable,
        other => other,
    };
    response.code()
}

/// Why a group refused, by Kafka's number.
pub(super) fn of_group(refusal: &Refusal) -> i16 {
    let response = match refusal {
        Refusal::NotCoordinator => ResponseError::NotCoordinator,
        Refusal::Loading => ResponseError::CoordinatorLoadInProgress,
        Refusal::UnknownMember => ResponseError::UnknownMemberId,
        Refusal::IllegalGeneration => ResponseError::IllegalGeneration,
        Refusal::RebalanceInProgress => ResponseError::RebalanceInProgress,
        Refusal::FencedInstance => ResponseError::FencedInstanceId,
        Refusal::InconsistentProtocol => ResponseError::InconsistentGroupProtocol,
        Refusal::InvalidSessionTimeout => ResponseError::InvalidSessionTimeout,
        Refusal::InvalidGroup => ResponseError::InvalidGroupId,
        Refusal::MemberIdRequired(_) => ResponseError::MemberIdRequired,
        Refusal::GroupFull => ResponseError::GroupMaxSizeReached,
        Refusal::NonEmpty => ResponseError::NonEmptyGroup,
        Refusal::NotFound => ResponseError::GroupIdNotFound,
        Refusal::MetadataTooLarge => ResponseError::OffsetMetadataTooLarge,
        Refusal::UnknownTopicOrPartition => ResponseError::UnknownTopicOrPartition,
        Refusal::SubscribedToTopic => ResponseError::GroupSubscribedToTopic,
        Refusal::Other(error) => return of_group_code(error.code),
    };
    response.code()
}

/// The same where a coordinator is looked for: whoever asked has to ask again.
pub(super) fn of_coordinator(refusal: &Refusal) -> i16 {
    match refusal {
        Refusal::NotCoordinator | Refusal::Loading => ResponseError::CoordinatorNotAvailable.code(),
        other => of_group(other),
    }
}

/// The same of an answer that says nothing else.
pub(super) fn of_outcome(outcome: Result<(), Refusal>) -> i16 {
    outcome.map_or_else(|refusal| of_group(&refusal), |()| 0)
}

/// The same for a topic in metadata. Clients try again on one code only.
pub(super) fn of_topic(code: Code) -> ResponseError {
    match response(code) {
        known @ (ResponseError::UnknownTopicOrPartition | ResponseError::InvalidTopicException) => known,
        _ => ResponseError::LeaderNotAvailable,
    }
}

fn response(code: Code) -> ResponseError {
    match code {
        Code::UnknownTopic | Code::UnknownPartition => ResponseError::UnknownTopicOrPartition,
        Code::TopicExists => ResponseError::TopicAlreadyExists,
        Code::InvalidTopicName => ResponseError::InvalidTopicException,
        Code::OffsetOutOfRange => ResponseError::OffsetOutOfRange,
        Code::CorruptBatch => ResponseError::CorruptMessage,
        Code::MessageTooLarge => ResponseError::MessageTooLarge,
        Code::OutOfOrderSequence => ResponseError::OutOfOrderSequenceNumber,
        Code::ProducerFenced => ResponseError::InvalidProducerEpoch,
        Code::InvalidConfig => ResponseError::InvalidConfig,
        Code::NotBuilt => ResponseError::UnsupportedVersion,
        Code::QuorumAtRisk => ResponseError::PolicyViolation,
        Code::Unauthenticated => ResponseError::ClusterAuthorizationFailed,
        Code::UnknownMember => ResponseError::UnknownMemberId,
        Code::IllegalGeneration => ResponseError::IllegalGeneration,
        Code::RebalanceInProgress => ResponseError::RebalanceInProgress,
        Code::FencedInstance => ResponseError::FencedInstanceId,
        Code::GroupNotEmpty => ResponseError::NonEmptyGroup,
        Code::UnknownGroup => ResponseError::GroupIdNotFound,
        // Whatever may be tried again. That a topic's shard has no leader is the same as being asked in the wrong place.
        Code::NotLeader | Code::Unavailable | Code::NotFormed => ResponseError::NotLeaderOrFollower,
        Code::Timeout | Code::QueryDeadline => ResponseError::RequestTimedOut,
        Code::Conflict => ResponseError::ConcurrentTransactions,
        // Kafka's codes for a quota are new, and some clients give up on what they do not know; on this one none does.
        Code::Overloaded | Code::ProducerLimit => ResponseError::NotEnoughReplicas,
        Code::StorageFull | Code::Io | Code::CorruptData => ResponseError::KafkaStorageError,
        Code::InvalidRequest
        | Code::InvalidSql
        | Code::InvalidSearch
        | Code::UnknownNode
        | Code::WrongCluster
        | Code::Cancelled => ResponseError::InvalidRequest,
        Code::Internal | Code::QueryBudget | Code::NewerVersion => ResponseError::UnknownServerError,
    }
}

/// What an error says, for responses that have room for it.
pub(super) fn message(error: &Error) -> StrBytes {
    StrBytes::from_string(error.message.clone())
}

/// Why something was not done.
#[derive(Debug)]
pub(super) struct Refused {
    /// As Kafka numbers it.
    pub(super) number: i16,
    pub(super) message: StrBytes,
}

impl Refused {
    pub(super) fn new(error: ResponseError, message: &str) -> Self {
        Self { number: error.code(), message: StrBytes::from_string(message.to_owned()) }
    }
}

/// As to whoever changes topics.
impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { number: of_controller(error.code), message: message(&error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that gives up on a code that says "try again" loses records; one that tries again for ever hangs.
    #[test]
    fn what_may_be_tried_again_is_tried_again_by_kafka_clients_too() {
        for &code in Code::ALL {
            let response = response(code);
            let retriable = response.is_retriable() || response == ResponseError::ConcurrentTransactions;
            // Corrupt, because it may have happened on the way; unknown topics, because they may just have been created;
            // the disk, because another node may lead by then.
            let more = [Code::CorruptBatch, Code::UnknownTopic, Code::UnknownPartition, Code::Io, Code::CorruptData];
            // A consumer joins its group again, and does not ask the same.
            let less = code == Code::RebalanceInProgress;
            let ours = code.is_retriable() && !less || more.contains(&code) || code == Code::QueryDeadline;
            assert_eq!(retriable, ours, "{code:?} as {response:?}");
        }
    }

    #[test]
    fn who_expects_few_codes_gets_those() {
        for &code in Code::ALL {
            let of_producer = ResponseError::try_from_code(of_producer(code)).unwrap();
            assert_eq!(of_producer == ResponseError::CoordinatorLoadInProgress, code.is_retriable(), "{code:?}");
            assert!([-1, 1, 3, 6, 56].contains(&of_fetch(code)), "{code:?}");
            assert!([3, 5, 17].contains(&of_topic(code).code()), "{code:?}");
            let is_tried_again = [14, 15, 16, 27].contains(&of_group_code(code));
            let of_the_disk = matches!(code, Code::Io | Code::CorruptData);
            assert_eq!(is_tried_again, code.is_retriable() || of_the_disk, "{code:?}");
        }
    }
}

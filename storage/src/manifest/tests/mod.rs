mod merges;
mod replay;
mod seals;
mod state;

use uuid::Uuid;

use super::*;

const TOPIC: TopicId = TopicId(Uuid::from_u128(1));
const OTHER_TOPIC: TopicId = TopicId(Uuid::from_u128(2));

fn segment_id(number: u8) -> SegmentId {
    SegmentId(Uuid::from_u128(number.into()))
}

//! Becoming somebody that the log knows.

use stratalog_proto::{Code, ProducerId, v1};

use super::queue::Identity;
use crate::retry::ask;
use crate::{Client, ClientError};

/// A producer id that nobody else has.
pub(super) async fn new_identity(client: &Client) -> Result<Identity, ClientError> {
    // An id that is allocated twice over is only a number that is not used: trying again is harmless.
    let answer = ask!(reading, client, log.init_producer(v1::InitProducerRequest {}))?;
    let epoch = i16::try_from(answer.producer_epoch).ok().filter(|epoch| *epoch >= 0);
    match epoch.filter(|_| answer.producer_id >= 0) {
        Some(epoch) => Ok(Identity { id: ProducerId(answer.producer_id), epoch }),
        None => {
            let message = format!("the node gave producer id {}, epoch {}", answer.producer_id, answer.producer_epoch);
            Err(ClientError::new(Code::Internal, message))
        }
    }
}

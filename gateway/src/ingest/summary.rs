//! What became of the records of one request.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use stratalog_proto::{Code, Error, Offset, PartitionId, Token};

use super::Refused;
use crate::http::error_value;

/// Errors that a summary lists one by one; the counts are always of all.
const MAX_ERRORS: usize = 1_000;

/// What became of one batch.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) partition: PartitionId,
    /// The number in the request of each of its records.
    pub(crate) records: Vec<u32>,
    pub(crate) result: Result<(Offset, Token), Error>,
}

/// The results of a whole request.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    accepted: u64,
    rejected: u64,
    batches: Vec<Value>,
    /// The highest index of each shard.
    tokens: BTreeMap<u32, u64>,
    errors: Vec<(u32, Error)>,
    first_error: Option<Error>,
}

impl Summary {
    pub(crate) fn refused(&mut self, refused: Refused) {
        self.fail(&[refused.record], refused.error);
    }

    pub(crate) fn add(&mut self, outcome: Outcome) {
        match outcome.result {
            Err(error) => self.fail(&outcome.records, error),
            Ok((base_offset, token)) => {
                let records = outcome.records.len();
                self.accepted += records as u64;
                let index = self.tokens.entry(token.shard.0).or_default();
                *index = (*index).max(token.index.0);
                self.batches.push(json!({
                    "partition": outcome.partition.0, "base_offset": base_offset.0, "records": records,
                }));
            }
        }
    }

    fn fail(&mut self, records: &[u32], error: Error) {
        self.rejected += records.len() as u64;
        let room = MAX_ERRORS.saturating_sub(self.errors.len());
        self.errors.extend(records.iter().take(room).map(|&record| (record, error.clone())));
        self.first_error.get_or_insert(error);
    }

    /// The error that answers the whole request: the first one, if not a single record was accepted.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.first_error.clone().filter(|_| self.accepted == 0)
    }

    /// Whether some record was rejected.
    pub(crate) fn has_errors(&self) -> bool {
        self.rejected > 0
    }

    /// The body of the answer.
    pub(crate) fn to_json(&self) -> Value {
        let mut errors: Vec<&(u32, Error)> = self.errors.iter().collect();
        errors.sort_by_key(|(record, _)| *record);
        let errors: Vec<Value> = errors.into_iter().map(|(record, error)| record_error(*record, error)).collect();
        let tokens: Vec<Value> =
            self.tokens.iter().map(|(shard, index)| json!({"shard": shard, "index": index})).collect();
        json!({
            "accepted": self.accepted,
            "rejected": self.rejected,
            "batches": self.batches,
            "tokens": tokens,
            "errors": errors,
        })
    }
}

/// An error with the number of its record. A timeout leaves open whether the record was taken, and says so.
fn record_error(record: u32, error: &Error) -> Value {
    let mut value = error_value(error);
    value["record"] = json!(record);
    value["outcome"] = json!(if error.code == Code::Timeout { "unknown" } else { "failed" });
    value
}

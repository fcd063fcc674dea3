//! What is said to a client's process and what it answers, a line of JSON each. Bytes are text, a character of U+0000 to U+00FF
//! for each.

use serde::{Deserialize, Serialize};
use stratalog_client::{ConsumedRecord, OutRecord};
use stratalog_proto::{Offset, PartitionId};

use crate::history::{Outcome, Position};

/// One line to it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Command {
    /// A record of an idempotent producer; answered by `sent` with the same id, whenever that is.
    Send { id: u64, partition: u32, key: Option<String>, value: Option<String>, headers: Vec<(String, Option<String>)> },
    /// Begin there, and forget all other partitions: `assigned`.
    Assign { positions: Vec<(u32, At)> },
    /// Join the group: `subscribed`.
    Subscribe {},
    /// `records`, until one of them is done; between them whatever befalls a member.
    Poll { records: usize, ms: u64 },
    /// Go on after `losing`.
    Resume {},
    /// The next offsets to be read by the group: `committed`.
    Commit { offsets: Vec<(u32, u64)> },
    /// What the group has committed: `offsets`.
    Committed { partitions: Vec<u32> },
    /// Leave the group, and end: `losing`, perhaps, and `left`.
    Leave {},
    /// End.
    End {},
}

/// Where a partition is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum At {
    Offset(u64),
    Named(&'static str),
}

/// One line from it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum Answer {
    /// Its offset, if that is known.
    Sent {
        id: u64,
        outcome: Outcome<Option<u64>>,
    },
    Assigned {
        outcome: Outcome<()>,
    },
    Subscribed {},
    Records {
        records: Vec<Record>,
        done: bool,
        error: Option<String>,
    },
    /// Partitions that the member has from now on, and reads from where the group is.
    Gained {
        partitions: Vec<u32>,
    },
    /// Partitions that it has until `resume`: it may commit before.
    Losing {
        partitions: Vec<u32>,
    },
    /// Partitions that it does not have any more: others may.
    Lost {
        partitions: Vec<u32>,
    },
    /// Partition, and why its offset may not be committed. With an error nothing is known of any.
    Committed {
        offsets: Vec<(u32, Option<String>)>,
        error: Option<String>,
    },
    /// Partition, and the offset that is committed, if one is.
    Offsets {
        offsets: Vec<(u32, Option<u64>)>,
        error: Option<String>,
    },
    Left {},
}

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    partition: u32,
    offset: u64,
    timestamp_ms: i64,
    key: Option<String>,
    value: Option<String>,
    headers: Vec<(String, Option<String>)>,
}

impl Command {
    /// A record, to its partition.
    pub(crate) fn send(id: u64, partition: u32, record: &OutRecord) -> Self {
        let text = |bytes: &Option<_>| bytes.as_deref().map(to_text);
        let headers = record.headers.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        Self::Send { id, partition, key: text(&record.key), value: text(&record.value), headers }
    }

    /// The same place in some partitions.
    pub(crate) fn assign(partitions: &[u32], from: Position) -> Self {
        let at = match from {
            // Where every log begins as long as nothing is to be deleted.
            Position::Earliest => At::Offset(0),
            Position::Latest => At::Named("latest"),
            Position::Offset(offset) => At::Offset(offset),
        };
        Self::Assign { positions: partitions.iter().map(|partition| (*partition, at)).collect() }
    }
}

impl From<Record> for ConsumedRecord {
    fn from(record: Record) -> Self {
        let bytes = |text: Option<String>| text.map(|text| to_bytes(&text).into());
        Self {
            partition: PartitionId(record.partition),
            offset: Offset(record.offset),
            timestamp_ms: record.timestamp_ms,
            key: bytes(record.key),
            value: bytes(record.value),
            headers: record.headers.into_iter().map(|(name, value)| (name, bytes(value))).collect(),
            // Clients of Kafka's protocol do not tell.
            producer: None,
        }
    }
}

fn to_text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// What is above U+00FF stands for no byte: the client sends none.
fn to_bytes(text: &str) -> Vec<u8> {
    text.chars().map(|char| u8::try_from(u32::from(char)).unwrap_or(b'?')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back_as_it_was_sent() {
        let all: Vec<u8> = (0..=255).collect();
        let sent = OutRecord { headers: vec![("none".to_owned(), None)], ..OutRecord::keyed("7", all.clone()) };
        let Command::Send { key, value, headers, .. } = Command::send(1, 2, &sent) else { unreachable!("it sends") };
        let line = serde_json::json!({"records": {"done": true, "error": null, "records": [
            {"partition": 2, "offset": 5, "timestamp_ms": 9, "key": key, "value": value, "headers": headers}]}});
        let Answer::Records { mut records, .. } = serde_json::from_str(&line.to_string()).unwrap() else {
            unreachable!("records")
        };
        let read = ConsumedRecord::from(records.remove(0));
        assert_eq!((read.key, read.value.as_deref(), read.headers), (sent.key, Some(&all[..]), sent.headers));
    }

    #[test]
    fn lines_are_as_the_client_reads_and_writes_them() {
        let line = |command: &Command| serde_json::to_string(command).unwrap();
        assert_eq!(line(&Command::Resume {}), r#"{"resume":{}}"#);
        assert_eq!(
            line(&Command::assign(&[3, 4], Position::Latest)),
            r#"{"assign":{"positions":[[3,"latest"],[4,"latest"]]}}"#
        );
        assert_eq!(line(&Command::assign(&[3], Position::Offset(7))), r#"{"assign":{"positions":[[3,7]]}}"#);
        let read = |line: &str| serde_json::from_str::<Answer>(line).unwrap();
        assert_eq!(
            read(r#"{"sent":{"id":7,"outcome":{"info":"x"}}}"#),
            Answer::Sent { id: 7, outcome: Outcome::Info("x".to_owned()) }
        );
        assert_eq!(
            read(r#"{"sent":{"id":7,"outcome":{"ok":null}}}"#),
            Answer::Sent { id: 7, outcome: Outcome::Ok(None) }
        );
        assert_eq!(read(r#"{"assigned":{"outcome":{"ok":null}}}"#), Answer::Assigned { outcome: Outcome::Ok(()) });
        assert_eq!(
            read(r#"{"committed":{"offsets":[[1,null],[2,"no"]],"error":null}}"#),
            Answer::Committed { offsets: vec![(1, None), (2, Some("no".to_owned()))], error: None }
        );
    }
}

//! Records and the values that they stand for. All of a record follows from its value, so that whoever reads it can tell
//! whether it is what was sent.

use stratalog_client::{ConsumedRecord, OutRecord, ProducerEpoch};
use stratalog_proto::PartitionId;

use super::WORDS;
use crate::history::Run;

/// The record of a value.
pub(super) fn record(value: u64, partition: u32, padding: usize) -> OutRecord {
    let text = format!("the word{} of v{value}", value % WORDS);
    let padding = padded(value, padding);
    let body = format!("{{\"id\":{value},\"text\":\"{text}\",\"padding\":\"{padding}\"}}");
    let headers = vec![("value".to_owned(), Some(value.to_string().into())), ("none".to_owned(), None)];
    OutRecord { headers, partition: Some(PartitionId(partition)), ..OutRecord::keyed(value.to_string(), body) }
}

fn padded(value: u64, padding: usize) -> String {
    let mut random = fastrand::Rng::with_seed(value);
    (0..padding).map(|_| random.alphanumeric()).collect()
}

/// Values that were read, in runs of consecutive offsets, as they came. What is not as it was sent is told in the run; its value
/// is whatever its key says, or one that nobody sends.
pub(super) fn runs(records: &[ConsumedRecord], padding: usize) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for read in records {
        let (partition, offset) = (read.partition.0, read.offset.0);
        let goes_on = |run: &&mut Run| run.partition == partition && run.first + run.values.len() as u64 == offset;
        let run = match runs.last_mut().filter(goes_on) {
            Some(run) => run,
            None => {
                runs.push(Run { partition, first: offset, values: Vec::new(), altered: Vec::new() });
                let Some(run) = runs.last_mut() else { unreachable!("it was just added") };
                run
            }
        };
        let value = value_of(read);
        run.values.push(value.unwrap_or(NOBODYS));
        if let Some(how) = altered(read, value, padding) {
            run.altered.push((offset, how));
        }
    }
    runs
}

/// Stands for a key that is no value: no run sends so many records.
const NOBODYS: u64 = u32::MAX as u64;

fn value_of(read: &ConsumedRecord) -> Option<u64> {
    std::str::from_utf8(read.key.as_deref()?).ok()?.parse().ok()
}

/// How a record differs from what was sent with its value.
fn altered(read: &ConsumedRecord, value: Option<u64>, padding: usize) -> Option<String> {
    let Some(value) = value else { return Some(format!("the key is {:?}", read.key)) };
    let sent = record(value, read.partition.0, padding);
    if sent.key != read.key || sent.value != read.value {
        return Some(format!("value {value} was sent as {:?}, and is {:?}", sent.value, read.value));
    }
    (sent.headers != read.headers).then(|| format!("the headers of value {value} are {:?}", read.headers))
}

/// A checksum of everything that a replica says of a record.
pub(super) fn digest(read: &ConsumedRecord) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let mut part = |bytes: Option<&[u8]>| {
        hasher.update(&bytes.map_or(u64::MAX, |bytes| bytes.len() as u64).to_le_bytes());
        hasher.update(bytes.unwrap_or_default());
    };
    part(Some(&read.offset.0.to_le_bytes()));
    part(Some(&read.timestamp_ms.to_le_bytes()));
    part(read.key.as_deref());
    part(read.value.as_deref());
    for (name, value) in &read.headers {
        part(Some(name.as_bytes()));
        part(value.as_deref());
    }
    if let Some(ProducerEpoch { id, epoch }) = read.producer {
        part(Some(&id.0.to_le_bytes()));
        part(Some(&epoch.to_le_bytes()));
    }
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use stratalog_proto::{Offset, ProducerId};

    use super::*;

    fn consumed(value: u64, partition: u32, offset: u64) -> ConsumedRecord {
        let OutRecord { key, value, headers, .. } = record(value, partition, 10);
        ConsumedRecord {
            partition: PartitionId(partition),
            offset: Offset(offset),
            timestamp_ms: 5,
            key,
            value,
            headers,
            producer: Some(ProducerEpoch { id: ProducerId(1), epoch: 0 }),
        }
    }

    #[test]
    fn records_are_read_as_runs_of_their_values() {
        let records = [consumed(7, 0, 3), consumed(9, 0, 4), consumed(8, 1, 5), consumed(10, 1, 5), consumed(11, 1, 7)];
        let runs = runs(&records, 10);
        let found: Vec<_> = runs.iter().map(|run| (run.partition, run.first, run.values.clone())).collect();
        assert_eq!(found, [(0, 3, vec![7, 9]), (1, 5, vec![8]), (1, 5, vec![10]), (1, 7, vec![11])]);
        assert!(runs.iter().all(|run| run.altered.is_empty()));
    }

    #[test]
    fn what_is_not_as_it_was_sent_is_told() {
        let good = consumed(7, 0, 3);
        let other = consumed(8, 0, 3);
        let altered = [
            ConsumedRecord { key: None, ..good.clone() },
            ConsumedRecord { value: other.value, ..good.clone() },
            ConsumedRecord { headers: Vec::new(), ..good.clone() },
        ];
        for record in altered {
            assert_eq!(runs(std::slice::from_ref(&record), 10)[0].altered.len(), 1, "{record:?}");
            assert_ne!(digest(&record), digest(&good), "{record:?}");
        }
        assert_ne!(digest(&ConsumedRecord { timestamp_ms: 6, ..good.clone() }), digest(&good));
        assert_ne!(digest(&ConsumedRecord { producer: None, ..good.clone() }), digest(&good));
    }
}

//! What goes in.

use bytes::Bytes;
use stratalog_proto::PartitionId;
use stratalog_proto::batch::encoded_record_bytes;

/// A record to produce.
///
/// ```
/// use stratalog_client::OutRecord;
///
/// let unkeyed = OutRecord::new("a line of text");
/// let keyed = OutRecord { timestamp_ms: Some(1_700_000_000_000), ..OutRecord::keyed("user-7", "{}") };
/// assert_eq!(keyed.key.as_deref(), Some(&b"user-7"[..]));
/// # assert_eq!(unkeyed.key, None);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutRecord {
    /// Records of one key go to one partition.
    pub key: Option<Bytes>,
    /// `None` is Kafka's null.
    pub value: Option<Bytes>,
    /// Milliseconds since the epoch; `None` is now.
    pub timestamp_ms: Option<i64>,
    /// In order; keys may repeat.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// `None`: by the key, or for a record without one, wherever the producer is filling a batch.
    pub partition: Option<PartitionId>,
}

impl OutRecord {
    /// A record without a key.
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self { value: Some(value.into()), ..Self::default() }
    }

    /// A record with a key.
    pub fn keyed(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { key: Some(key.into()), ..Self::new(value) }
    }

    pub(super) fn header_slices(&self) -> Vec<(&str, Option<&[u8]>)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect()
    }

    /// The most bytes that the record takes in a batch.
    pub(super) fn encoded_bytes(&self) -> usize {
        encoded_record_bytes(self.key.as_deref(), self.value.as_deref(), &self.header_slices())
    }
}

//! The bytes that leave.

use bytes::Bytes;
use stratalog_proto::batch::Batch;

use super::queue::{Body, Departure, Stamp};

/// The bytes of a batch with the sequence numbers that it has now.
pub(super) fn seal(departure: Departure) -> Bytes {
    match (departure.body, departure.stamp) {
        (Body::Open(builder), None) => builder.finish(),
        (Body::Open(builder), Some(Stamp { identity, sequence })) => {
            builder.producer(identity.id, identity.epoch, sequence).finish()
        }
        (Body::Sealed(bytes), Some(stamp)) => restamped(bytes, stamp),
        (Body::Sealed(bytes), None) => bytes,
        (Body::Away, _) => unreachable!("a batch that is with the sender does not leave again before it is kept"),
    }
}

fn restamped(bytes: Bytes, Stamp { identity, sequence }: Stamp) -> Bytes {
    let batch = Batch::parse_trusted(bytes).expect("a batch that was sealed here is well formed");
    let header = batch.header();
    let same =
        (header.producer_id, header.producer_epoch, header.base_sequence) == (identity.id.0, identity.epoch, sequence);
    if same { batch.bytes().clone() } else { batch.with_producer(identity.id, identity.epoch, sequence) }
}

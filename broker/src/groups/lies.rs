//! X1: what members of a group say to each other, of which we read the topics and the partitions. Also a target of `fuzz/`.

use bytes::Bytes;
use stratalog_mutation::{Decoder, Pieces};

use super::consumer::{assigned, subscribed};

/// Which it is (u8: even for a subscription), and its bytes.
pub const MEMBERS: Decoder =
    Decoder { name: "kafka_members", samples: members, run: read_member, words: &["logs"], memory_bytes: 1 << 16 };

fn members() -> Vec<Vec<u8>> {
    let number = |number: i32| number.to_be_bytes();
    let text = |text: &str| [&(text.len() as i16).to_be_bytes()[..], text.as_bytes()].concat();
    // Of version 3: topics, what the assignor wants, partitions that are owned, a generation and a rack.
    let subscription = [
        vec![0, 0, 3],
        number(2).to_vec(),
        text("logs"),
        text("metrics"),
        [&number(3)[..], b"any"].concat(),
        number(1).to_vec(),
        text("logs"),
        [number(2), number(0), number(7), number(12)].concat(),
        text("rack"),
    ];
    let assignment = [
        vec![1, 0, 1],
        number(2).to_vec(),
        text("logs"),
        [number(3), number(0), number(1), number(2)].concat(),
        text("metrics"),
        number(0).to_vec(),
        number(-1).to_vec(),
    ];
    vec![subscription.concat(), assignment.concat(), [vec![0, 0, 0], number(0).to_vec()].concat()]
}

fn read_member(bytes: &[u8]) -> bool {
    let mut pieces = Pieces(bytes);
    let is_subscription = pieces.byte() % 2 == 0;
    let said = Bytes::copy_from_slice(pieces.rest());
    if is_subscription {
        let topics = subscribed(&said);
        let bytes: usize = topics.iter().flatten().map(|topic| 2 + topic.len()).sum();
        assert!(bytes <= said.len(), "each name lies in what was said");
        topics.is_some()
    } else {
        let topics = assigned(&said);
        let bytes: usize = topics.iter().map(|(topic, partitions)| 2 + topic.len() + 4 + 4 * partitions.len()).sum();
        assert!(bytes <= said.len(), "each name and each partition lies in what was said");
        !topics.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x1_members_that_lie() {
        MEMBERS.check();
    }
}

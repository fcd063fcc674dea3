//! What members of groups of consumers say to each other, as far as others care. It is theirs, and may be anything (X1).

use bytes::{Buf, Bytes};
use stratalog_proto::PartitionId;

/// The topics that a consumer reads, by what it says of itself; `None` if that cannot be read.
pub fn subscribed(metadata: &Bytes) -> Option<Vec<String>> {
    let mut bytes = metadata.clone();
    // The version: later ones have more behind this.
    bytes.try_get_i16().ok()?;
    list(&mut bytes, text)
}

/// The partitions that are assigned to a consumer, by topic; none if that cannot be read.
pub fn assigned(assignment: &Bytes) -> Vec<(String, Vec<PartitionId>)> {
    let mut bytes = assignment.clone();
    if bytes.try_get_i16().is_err() {
        return Vec::new();
    }
    let partition = |bytes: &mut Bytes| u32::try_from(bytes.try_get_i32().ok()?).ok().map(PartitionId);
    list(&mut bytes, |bytes| Some((text(bytes)?, list(bytes, partition)?))).unwrap_or_default()
}

/// Memory is taken as the elements come, not for as many as are claimed.
fn list<T>(bytes: &mut Bytes, element: impl Fn(&mut Bytes) -> Option<T>) -> Option<Vec<T>> {
    let count = usize::try_from(bytes.try_get_i32().ok()?).ok()?;
    if count > bytes.len() {
        return None;
    }
    let mut elements = Vec::new();
    for _ in 0..count {
        elements.push(element(bytes)?);
    }
    Some(elements)
}

fn text(bytes: &mut Bytes) -> Option<String> {
    let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
    if length > bytes.len() {
        return None;
    }
    String::from_utf8(bytes.split_to(length).to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(parts: &[&[u8]]) -> Bytes {
        parts.concat().into()
    }

    #[test]
    fn subscriptions_and_assignments_are_read_whatever_lies_behind() {
        let two: &[u8] = &[0, 0, 0, 2];
        let subscription = written(&[&[0, 3], two, &[0, 1, b'a', 0, 2, b'b', b'c'], &[0xff; 12]]);
        assert_eq!(subscribed(&subscription), Some(vec!["a".to_owned(), "bc".to_owned()]));
        let assignment = written(&[
            &[0, 0],
            &[0, 0, 0, 1],
            &[0, 1, b'a'],
            two,
            &7_i32.to_be_bytes(),
            &0_i32.to_be_bytes(),
            &[0xff; 4],
        ]);
        assert_eq!(assigned(&assignment), [("a".to_owned(), vec![PartitionId(7), PartitionId(0)])]);
    }

    #[test]
    fn x1_what_lies_is_nothing() {
        let many: &[u8] = &[0x7f, 0xff, 0xff, 0xff];
        let lies = [
            written(&[]),
            written(&[&[0]]),
            written(&[&[0, 0], many]),
            written(&[&[0, 0], &[0xff; 4]]),
            written(&[&[0, 0], &[0, 0, 0, 1], &[0x7f, 0xff, b'a']]),
            written(&[&[0, 0], &[0, 0, 0, 1], &[0xff, 0xff, b'a']]),
            written(&[&[0, 0], &[0, 0, 0, 1], &[0, 1, 0xff]]),
            written(&[&[0, 0], &[0, 0, 0, 1], &[0, 1, b'a'], many]),
        ];
        for lie in &lies {
            assert!(assigned(lie).is_empty(), "{lie:?}");
        }
        for lie in &lies[..7] {
            assert_eq!(subscribed(lie), None, "{lie:?}");
        }
    }
}

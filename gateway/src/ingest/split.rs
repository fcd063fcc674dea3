//! Cuts a body into records. Each record is a slice of the body, byte for byte as it was sent.

use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;
use stratalog_proto::{Code, Error};

/// Records of one request. Past it, the bookkeeping of tiny records would outweigh the body.
pub(super) const MAX_RECORDS: u32 = 1_000_000;

/// How a body holds records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// One JSON object, or an array whose elements are the records.
    Json,
    /// Lines, JSON or not. What of them is a record the topic says, and the caller asks it.
    Lines,
    /// The whole body is one record.
    Whole,
}

/// Calls `each` with every record of `body`, in order; of [`Shape::Lines`] with every line, without its line feed.
///
/// # Errors
/// [`Code::InvalidRequest`] for a body that is not of this shape, with line and column, or an array of more than
/// [`MAX_RECORDS`]. `each` may have been called by then.
pub(crate) fn for_each_record(shape: Shape, body: &Bytes, each: &mut dyn FnMut(Bytes)) -> Result<(), Error> {
    match shape {
        Shape::Json => json_records(body, each),
        Shape::Lines => {
            body.split_inclusive(|&byte| byte == b'\n')
                .for_each(|line| each(body.slice_ref(line.strip_suffix(b"\n").unwrap_or(line))));
            Ok(())
        }
        Shape::Whole => {
            each(body.clone());
            Ok(())
        }
    }
}

fn json_records(body: &Bytes, each: &mut dyn FnMut(Bytes)) -> Result<(), Error> {
    let invalid = |error: serde_json::Error| Error::new(Code::InvalidRequest, format!("the body is not JSON: {error}"));
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{') => {
            let object: &RawValue = serde_json::from_slice(body).map_err(invalid)?;
            each(body.slice_ref(object.get().as_bytes()));
            Ok(())
        }
        Some(b'[') => {
            let mut deserializer = serde_json::Deserializer::from_slice(body);
            Elements { body, each }.deserialize(&mut deserializer).map_err(invalid)?;
            deserializer.end().map_err(invalid)
        }
        _ => {
            let message =
                "a JSON body is an object or an array of records; for lines, send application/x-ndjson or text/plain";
            Err(Error::new(Code::InvalidRequest, message))
        }
    }
}

/// Walks an array without holding its elements.
struct Elements<'a> {
    body: &'a Bytes,
    each: &'a mut dyn FnMut(Bytes),
}

impl<'de> DeserializeSeed<'de> for Elements<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let mut count = 0;
        while let Some(element) = elements.next_element::<&'de RawValue>()? {
            count += 1;
            if count > MAX_RECORDS {
                return Err(A::Error::custom(too_many()));
            }
            (self.each)(self.body.slice_ref(element.get().as_bytes()));
        }
        Ok(())
    }
}

pub(super) fn too_many() -> String {
    format!("one request takes at most {MAX_RECORDS} records; send them in parts")
}

//! Kafka's encoding, field by field: for the two requests whose records must not be copied, and for looking at the others
//! before anybody takes memory for what they claim (X1).

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::StrBytes;

/// Elements that all lists of a request may have together: each becomes a structure, and maybe a piece of work.
const MAX_ELEMENTS: usize = 50_000;

/// Tagged fields that one structure may have.
const MAX_TAGS: u32 = 64;

/// A request that is not what its version says it is.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::kafka) struct Malformed(pub(in crate::kafka) String);

impl Malformed {
    pub(in crate::kafka) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

type Read<T> = Result<T, Malformed>;

/// Reads a request in the order of its fields. Texts and records are slices of it.
#[derive(Clone)]
pub(in crate::kafka) struct Reader {
    bytes: Bytes,
    /// Whether lengths are compact, and structures end with tagged fields.
    flexible: bool,
    /// Of all its lists so far.
    elements: usize,
}

macro_rules! numbers {
    ($($name:ident -> $type:ty, $try_get:ident;)*) => {
        $(pub(in crate::kafka) fn $name(&mut self) -> Read<$type> {
            self.bytes.$try_get().map_err(|_| too_short())
        })*
    };
}

impl Reader {
    pub(in crate::kafka) fn new(bytes: Bytes, flexible: bool) -> Self {
        Self { bytes, flexible, elements: 0 }
    }

    numbers! {
        i8 -> i8, try_get_i8;
        i16 -> i16, try_get_i16;
        i32 -> i32, try_get_i32;
        i64 -> i64, try_get_i64;
        uuid -> u128, try_get_u128;
    }

    /// A number of at most five bytes, seven bits each, the lowest first.
    pub(in crate::kafka) fn varint(&mut self) -> Read<u32> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.bytes.try_get_u8().map_err(|_| too_short())?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed::new("a number takes more than 32 bits"))
    }

    /// A length; `None` for null.
    fn length(&mut self, wide: bool) -> Read<Option<usize>> {
        let length = match (self.flexible, wide) {
            (true, _) => i64::from(self.varint()?) - 1,
            (false, true) => i64::from(self.i32()?),
            (false, false) => i64::from(self.i16()?),
        };
        match length {
            -1 => Ok(None),
            length if length < 0 => Err(Malformed::new(format!("a length is {length}"))),
            length => Ok(Some(length as usize)),
        }
    }

    fn slice(&mut self, length: usize) -> Read<Bytes> {
        if length > self.bytes.len() {
            return Err(Malformed::new(format!("a field claims {length} bytes, and {} are left", self.bytes.len())));
        }
        Ok(self.bytes.split_to(length))
    }

    pub(in crate::kafka) fn nullable_text(&mut self) -> Read<Option<StrBytes>> {
        let Some(length) = self.length(false)? else { return Ok(None) };
        let text = StrBytes::from_utf8(self.slice(length)?);
        text.map(Some).map_err(|error| Malformed::new(format!("a text is not UTF-8: {error}")))
    }

    pub(in crate::kafka) fn text(&mut self) -> Read<StrBytes> {
        self.nullable_text()?.ok_or_else(|| Malformed::new("a text is null that must not be"))
    }

    /// Bytes, not copied; `None` for null.
    pub(in crate::kafka) fn nullable_bytes(&mut self) -> Read<Option<Bytes>> {
        let Some(length) = self.length(true)? else { return Ok(None) };
        self.slice(length).map(Some)
    }

    /// How many elements a list claims, each of at least `least` bytes; `None` for null.
    pub(in crate::kafka) fn nullable_count(&mut self, least: usize) -> Read<Option<usize>> {
        let Some(count) = self.length(true)? else { return Ok(None) };
        let left = self.bytes.len();
        if count > left / least.max(1) {
            return Err(Malformed::new(format!("a list claims {count} elements, and {left} bytes are left")));
        }
        self.elements += count;
        if self.elements > MAX_ELEMENTS {
            return Err(Malformed::new(format!("its lists claim more than {MAX_ELEMENTS} elements together")));
        }
        Ok(Some(count))
    }

    /// A list, element by element. Null is an empty one.
    pub(in crate::kafka) fn list<T>(
        &mut self,
        least: usize,
        mut element: impl FnMut(&mut Self) -> Read<T>,
    ) -> Read<Vec<T>> {
        let count = self.nullable_count(least)?.unwrap_or(0);
        (0..count).map(|_| element(self)).collect()
    }

    /// The tagged fields at the end of a structure, which nobody needs.
    pub(in crate::kafka) fn tags(&mut self) -> Read<()> {
        if !self.flexible {
            return Ok(());
        }
        let count = self.varint()?;
        if count > MAX_TAGS {
            return Err(Malformed::new(format!("a structure claims {count} tagged fields; {MAX_TAGS} are allowed")));
        }
        for _ in 0..count {
            let tag = self.varint()?;
            if i32::try_from(tag).is_err() {
                return Err(Malformed::new(format!(
                    "a tagged field has the number {tag}; {} is the highest",
                    i32::MAX
                )));
            }
            let length = self.varint()? as usize;
            self.slice(length)?;
        }
        Ok(())
    }

    /// What was not read yet.
    pub(in crate::kafka) fn rest(self) -> Bytes {
        self.bytes
    }

    /// A request has nothing behind its last field.
    pub(in crate::kafka) fn end(self) -> Read<()> {
        match self.bytes.len() {
            0 => Ok(()),
            left => Err(Malformed::new(format!("{left} bytes lie behind its last field"))),
        }
    }
}

fn too_short() -> Malformed {
    Malformed::new("it ends in the middle of a field")
}

/// Writes a response; records are put between its fields without being copied.
pub(in crate::kafka) struct Writer {
    chunks: Vec<Bytes>,
    open: BytesMut,
    flexible: bool,
}

impl Writer {
    pub(in crate::kafka) fn new(flexible: bool, capacity: usize) -> Self {
        Self { chunks: Vec::new(), open: BytesMut::with_capacity(capacity), flexible }
    }

    pub(in crate::kafka) fn i16(&mut self, value: i16) {
        self.open.put_i16(value);
    }

    pub(in crate::kafka) fn i32(&mut self, value: i32) {
        self.open.put_i32(value);
    }

    pub(in crate::kafka) fn i64(&mut self, value: i64) {
        self.open.put_i64(value);
    }

    pub(in crate::kafka) fn uuid(&mut self, value: u128) {
        self.open.put_u128(value);
    }

    fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.open.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.open.put_u8(value as u8);
    }

    fn length(&mut self, length: Option<usize>, wide: bool) {
        match (self.flexible, wide) {
            (true, _) => self.varint(length.map_or(0, |length| length as u32 + 1)),
            (false, true) => self.open.put_i32(length.map_or(-1, |length| length as i32)),
            (false, false) => self.open.put_i16(length.map_or(-1, |length| length as i16)),
        }
    }

    pub(in crate::kafka) fn text(&mut self, text: &str) {
        self.nullable_text(Some(text));
    }

    /// Texts longer than a short can say are cut.
    pub(in crate::kafka) fn nullable_text(&mut self, text: Option<&str>) {
        let text = text.map(|text| &text[..text.floor_char_boundary(text.len().min(i16::MAX as usize))]);
        self.length(text.map(str::len), false);
        self.open.put_slice(text.unwrap_or_default().as_bytes());
    }

    pub(in crate::kafka) fn count(&mut self, count: usize) {
        self.length(Some(count), true);
    }

    pub(in crate::kafka) fn null_list(&mut self) {
        self.length(None, true);
    }

    /// Bytes that lie in pieces, as they are.
    pub(in crate::kafka) fn pieces(&mut self, pieces: impl Iterator<Item = Bytes>, bytes: usize) {
        self.length(Some(bytes), true);
        self.chunks.push(self.open.split().freeze());
        self.chunks.extend(pieces.filter(|piece| !piece.is_empty()));
    }

    /// No tagged fields.
    pub(in crate::kafka) fn tags(&mut self) {
        if self.flexible {
            self.open.put_u8(0);
        }
    }

    /// One tagged field. Only where there are tagged fields.
    pub(in crate::kafka) fn tagged(&mut self, tag: u8, field: &[u8]) {
        assert!(self.flexible && tag < 0x80, "a tagged field needs a form that has them");
        self.open.put_slice(&[1, tag]);
        self.varint(field.len() as u32);
        self.open.put_slice(field);
    }

    pub(in crate::kafka) fn finish(mut self) -> Vec<Bytes> {
        if !self.open.is_empty() {
            self.chunks.push(self.open.freeze());
        }
        self.chunks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &'static [u8], flexible: bool) -> Reader {
        Reader::new(Bytes::from_static(bytes), flexible)
    }

    #[test]
    fn what_is_written_is_read_again() {
        for flexible in [false, true] {
            let mut writer = Writer::new(flexible, 0);
            writer.text("tëxt");
            writer.nullable_text(None);
            writer.count(2);
            writer.i16(7);
            writer.i16(8);
            writer.pieces([Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"c")].into_iter(), 3);
            writer.i64(-1);
            writer.tags();
            let mut reader = Reader::new(writer.finish().concat().into(), flexible);
            assert_eq!(&*reader.text().unwrap(), "tëxt");
            assert_eq!(reader.nullable_text(), Ok(None));
            assert_eq!(reader.list(2, Reader::i16), Ok(vec![7, 8]));
            assert_eq!(reader.nullable_bytes(), Ok(Some(Bytes::from_static(b"abc"))));
            assert_eq!(reader.i64(), Ok(-1));
            reader.tags().unwrap();
            reader.end().unwrap();
        }
    }

    #[test]
    fn x1_lengths_and_counts_that_lie_are_refused_before_memory_is_taken() {
        assert!(reader(&[0x7f, 0xff, 0xff, 0xff, 0], false).nullable_count(1).is_err());
        assert!(reader(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0], true).nullable_count(1).is_err());
        assert!(
            reader(&[0, 0, 0, 2, 1, 1, 1], false).nullable_count(2).is_err(),
            "two of two bytes do not fit into three"
        );
        assert!(reader(&[0xff, 0xfe, 1], false).text().is_err(), "a negative length");
        assert!(reader(&[0, 9, b'x'], false).text().is_err());
        assert!(reader(&[0, 1, 0xff], false).text().is_err(), "not UTF-8");
        assert!(reader(&[65, 0, 0], true).tags().is_err(), "too many tagged fields");
        assert!(reader(&[1, 0, 9, 0], true).tags().is_err(), "a tagged field without its bytes");
        assert!(reader(&[1, 0xff, 0xff, 0xff, 0xff, 0x07, 0], true).tags().is_ok(), "the highest number");
        assert!(
            reader(&[1, 0x80, 0x80, 0x80, 0x80, 0x08, 0], true).tags().is_err(),
            "others read it as a negative one"
        );
    }

    #[test]
    fn numbers_have_at_most_32_bits() {
        assert_eq!(reader(&[0xff, 0xff, 0xff, 0xff, 0x0f], true).varint(), Ok(u32::MAX));
        assert!(reader(&[0xff, 0xff, 0xff, 0xff, 0x1f], true).varint().is_err());
        assert!(reader(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00], true).varint().is_err());
        assert!(reader(&[0x80], true).varint().is_err());
    }

    #[test]
    fn texts_that_are_too_long_are_cut_between_characters() {
        let long = "ä".repeat(20_000);
        let mut writer = Writer::new(false, 0);
        writer.text(&long);
        let mut reader = Reader::new(writer.finish().concat().into(), false);
        assert_eq!(reader.text().unwrap().len(), 32_766);
    }
}

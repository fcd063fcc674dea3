//! What requests are made of, so that they can be looked at before the library decodes them: it takes memory for as many
//! elements as a list claims (X1).

use bytes::Bytes;

use super::wire::{Malformed, Reader};

/// A type of Kafka's protocol.
#[derive(Debug)]
pub(in crate::kafka) enum Kind {
    Bool,
    I8,
    I16,
    I32,
    I64,
    Uuid,
    Text,
    Bytes,
    List(&'static Kind),
    Struct(&'static [Field]),
}

/// A field of a structure, in the versions that have it.
#[derive(Debug)]
pub(in crate::kafka) struct Field {
    pub(in crate::kafka) kind: Kind,
    since: i16,
    until: i16,
}

impl Field {
    /// Whether this version has it.
    pub(in crate::kafka) fn is_of(&self, version: i16) -> bool {
        (self.since..=self.until).contains(&version)
    }
}

/// In all versions.
pub(super) const fn always(kind: Kind) -> Field {
    between(kind, 0, i16::MAX)
}

pub(super) const fn since(kind: Kind, since: i16) -> Field {
    between(kind, since, i16::MAX)
}

pub(super) const fn until(kind: Kind, until: i16) -> Field {
    between(kind, 0, until)
}

pub(super) const fn between(kind: Kind, since: i16, until: i16) -> Field {
    Field { kind, since, until }
}

/// Checks that a request of this version has this shape, and that its lists have the elements that they claim.
///
/// Bytes behind the last field are let be, as by Kafka: librdkafka leaves three there when it asks for all topics in Metadata
/// from version 9 on, since it keeps room for a count of four bytes and writes null in one.
///
/// # Errors
/// What is wrong.
pub(super) fn check(request: &Bytes, shape: &[Field], version: i16, flexible: bool) -> Result<(), Malformed> {
    let mut walk = Walk { reader: Reader::new(request.clone(), flexible), version };
    walk.structure(shape)
}

struct Walk {
    reader: Reader,
    version: i16,
}

impl Walk {
    fn structure(&mut self, fields: &[Field]) -> Result<(), Malformed> {
        let version = self.version;
        for field in fields.iter().filter(|field| field.is_of(version)) {
            self.value(&field.kind)?;
        }
        self.reader.tags()
    }

    fn value(&mut self, kind: &Kind) -> Result<(), Malformed> {
        let reader = &mut self.reader;
        match kind {
            Kind::Bool | Kind::I8 => reader.i8().map(drop),
            Kind::I16 => reader.i16().map(drop),
            Kind::I32 => reader.i32().map(drop),
            Kind::I64 => reader.i64().map(drop),
            Kind::Uuid => reader.uuid().map(drop),
            Kind::Text => reader.nullable_text().map(drop),
            Kind::Bytes => reader.nullable_bytes().map(drop),
            Kind::List(element) => {
                let count = reader.nullable_count(1)?.unwrap_or(0);
                (0..count).try_for_each(|_| self.value(element))
            }
            Kind::Struct(fields) => self.structure(fields),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPICS: &[Field] = &[
        always(Kind::List(&Kind::Struct(&[always(Kind::Text), since(Kind::List(&Kind::I32), 2)]))),
        until(Kind::Bool, 1),
    ];

    fn checked(request: &'static [u8], version: i16) -> Result<(), Malformed> {
        check(&Bytes::from_static(request), TOPICS, version, version >= 3)
    }

    #[test]
    fn fields_are_those_of_the_version() {
        checked(&[0, 0, 0, 1, 0, 1, b'a', 1], 1).unwrap();
        checked(&[0, 0, 0, 1, 0, 1, b'a', 0, 0, 0, 1, 0, 0, 0, 9], 2).unwrap();
        checked(&[2, 2, b'a', 2, 0, 0, 0, 9, 0, 0], 3).unwrap();
        assert!(checked(&[0, 0, 0, 1, 0, 1, b'a', 1], 2).is_err());
        checked(&[0, 0, 0, 0, 1, 7], 1).unwrap();
    }

    #[test]
    fn x1_lists_have_the_elements_that_they_claim() {
        for (count, version) in [([0x7f, 0xff, 0xff, 0xff], 1), ([0, 0, 0, 2], 1), ([0xff, 0xff, 0xff, 0xfe], 1)] {
            let request = [&count[..], &[0, 1, b'a', 1]].concat();
            assert!(check(&request.into(), TOPICS, version, false).is_err(), "{count:?}");
        }
        let many: Vec<u8> = [&250_000_i32.to_be_bytes()[..], &[0; 500_001]].concat();
        assert!(check(&many.into(), TOPICS, 1, false).unwrap_err().0.contains("50000"));
    }
}

//! Sorted dictionaries: a text column with few distinct values keeps each once in the segment, and bit-packed codes in
//! its granules. Codes are in the order of the texts.

use std::collections::HashMap;

use arrow::array::{Array, StringArray, UInt32Array};
use arrow::buffer::NullBuffer;
use arrow::compute::take;

use super::bitpack::{pack, unpack, width_of};
use super::strings;
use crate::container::{Cursor, Malformed};

/// The most values in a dictionary.
const MAX_VALUES: usize = 1 << 16;
/// The longest value in a dictionary, in bytes: bounds what one granule of codes can stand for.
const MAX_VALUE_BYTES: usize = 4 << 10;
/// The most bytes of all values of a dictionary: it is read whole.
const MAX_TOTAL_BYTES: usize = 1 << 20;
/// A dictionary is worth it if a value comes that often on average.
const ROWS_PER_VALUE: usize = 8;
/// So few values are always worth a dictionary.
const FEW_VALUES: usize = 16;

/// A column's distinct texts, ascending.
#[derive(Clone, Debug)]
pub(crate) struct Dictionary {
    values: StringArray,
}

impl Dictionary {
    /// That of a whole column, cut in two on the way.
    #[cfg(test)]
    pub(crate) fn build(column: &StringArray) -> Option<(Self, Vec<u32>)> {
        let mut builder = DictionaryBuilder::new(column.len());
        let half = column.len() / 2;
        let halves = [column.slice(0, half), column.slice(half, column.len() - half)];
        halves.iter().all(|half| builder.add(half)).then(|| builder.finish())
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// Appends the values.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        strings::encode(&self.values, out);
    }

    /// Reads a dictionary of `len` values.
    pub(crate) fn decode(bytes: &[u8], len: usize) -> Result<Self, Malformed> {
        if len > MAX_VALUES {
            return Err(Malformed("a dictionary has over 65,536 values"));
        }
        let mut cursor = Cursor::new(bytes);
        let values = strings::decode(&mut cursor, len, None)?;
        cursor.finish()?;
        if values.offsets().lengths().any(|len| len > MAX_VALUE_BYTES) {
            return Err(Malformed("a dictionary has a value of over 4 KiB"));
        }
        Ok(Self { values })
    }

    /// Appends the codes of a granule.
    pub(super) fn encode_codes(codes: &[u32], out: &mut Vec<u8>) {
        let width = width_of(codes.iter().copied().max().unwrap_or(0).into());
        out.push(width as u8);
        pack(codes.iter().map(|&code| code.into()), width, out);
    }

    /// Reads `n` codes and gives the texts that they stand for; `n` is the caller's to bound.
    pub(super) fn decode_codes(
        &self,
        cursor: &mut Cursor<'_>,
        n: usize,
        nulls: Option<NullBuffer>,
    ) -> Result<StringArray, Malformed> {
        let width = cursor.u8()?;
        if width > 16 {
            return Err(Malformed("a code is wider than a dictionary is long"));
        }
        let codes = unpack(cursor, n, width.into(), |code| code as u32)?;
        if codes.iter().any(|&code| code as usize >= self.values.len()) {
            return Err(Malformed("a code is beyond the end of its dictionary"));
        }
        let texts = take(&self.values, &UInt32Array::new(codes.into(), nulls), None);
        let texts = texts.map_err(|_| Malformed("codes stand for more than 2 GiB of text"))?;
        Ok(texts.as_any().downcast_ref::<StringArray>().expect("taken from a StringArray").clone())
    }
}

/// Makes the dictionary of a column that comes granule by granule.
pub(crate) struct DictionaryBuilder {
    limit: usize,
    numbers: HashMap<Box<str>, u32>,
    distinct: Vec<Box<str>>,
    codes: Vec<u32>,
    total_bytes: usize,
}

impl DictionaryBuilder {
    /// For a column of so many rows.
    pub(crate) fn new(rows: usize) -> Self {
        let limit = (rows / ROWS_PER_VALUE).clamp(FEW_VALUES, MAX_VALUES);
        Self { limit, numbers: HashMap::new(), distinct: Vec::new(), codes: Vec::with_capacity(rows), total_bytes: 0 }
    }

    /// Numbers the distinct texts in the order in which they come; false once they are too many or too long.
    pub(crate) fn add(&mut self, granule: &StringArray) -> bool {
        let mut last: Option<(&str, u32)> = None;
        for text in granule {
            let Some(text) = text else {
                self.codes.push(0);
                continue;
            };
            // Sorted and clustered rows repeat: a comparison is cheaper than a hash.
            let code = match last.filter(|(before, _)| *before == text) {
                Some((_, code)) => code,
                None => match self.number(text) {
                    Some(code) => code,
                    None => return false,
                },
            };
            self.codes.push(code);
            last = Some((text, code));
        }
        true
    }

    fn number(&mut self, text: &str) -> Option<u32> {
        if let Some(known) = self.numbers.get(text) {
            return Some(*known);
        }
        self.total_bytes += text.len();
        if self.distinct.len() == self.limit || text.len() > MAX_VALUE_BYTES || self.total_bytes > MAX_TOTAL_BYTES {
            return None;
        }
        let number = self.distinct.len() as u32;
        self.distinct.push(text.into());
        self.numbers.insert(text.into(), number);
        Some(number)
    }

    /// The dictionary and the code of each row, 0 for nulls.
    pub(crate) fn finish(self) -> (Dictionary, Vec<u32>) {
        let Self { distinct, mut codes, .. } = self;
        let mut order: Vec<u32> = (0..distinct.len() as u32).collect();
        order.sort_unstable_by_key(|&number| &distinct[number as usize]);
        let mut rank = vec![0; order.len()];
        order.iter().enumerate().for_each(|(code, &number)| rank[number as usize] = code as u32);
        codes.iter_mut().filter(|_| !rank.is_empty()).for_each(|code| *code = rank[*code as usize]);
        let values = StringArray::from_iter_values(order.iter().map(|&number| &distinct[number as usize]));
        (Dictionary { values }, codes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn codes_ascend_with_their_texts() {
        let column = StringArray::from(vec![Some("warn"), None, Some("error"), Some("warn"), Some("info")]);
        let (dictionary, codes) = Dictionary::build(&column).unwrap();
        assert_eq!(dictionary.values, StringArray::from(vec!["error", "info", "warn"]));
        assert_eq!([codes[0], codes[2], codes[3], codes[4]], [2, 0, 2, 1]);
    }

    #[test]
    fn long_and_many_texts_get_none() {
        let many: StringArray = (0..1_000).map(|i| Some(i.to_string())).collect();
        assert!(Dictionary::build(&many).is_none());
        let long = StringArray::from(vec!["x".repeat(MAX_VALUE_BYTES + 1)]);
        assert!(Dictionary::build(&long).is_none());
    }

    #[test]
    fn a_code_beyond_the_end_is_an_error() {
        let (dictionary, _) = Dictionary::build(&StringArray::from(vec!["a", "b", "c"])).unwrap();
        let mut out = Vec::new();
        Dictionary::encode_codes(&[0, 3], &mut out);
        assert!(dictionary.decode_codes(&mut Cursor::new(&out), 2, None).is_err());
    }

    proptest! {
        #[test]
        fn any_column_of_few_texts_round_trips(
            column in proptest::collection::vec(proptest::option::of("[a-cä]{0,2}"), 1..200),
        ) {
            let column = StringArray::from(column);
            let Some((dictionary, codes)) = Dictionary::build(&column) else { return Ok(()) };
            let (mut values, mut packed) = (Vec::new(), Vec::new());
            dictionary.encode(&mut values);
            Dictionary::encode_codes(&codes, &mut packed);
            let read = Dictionary::decode(&values, dictionary.len()).unwrap();
            if dictionary.len() > 0 {
                let nulls = column.nulls().cloned();
                prop_assert_eq!(read.decode_codes(&mut Cursor::new(&packed), column.len(), nulls).unwrap(), column);
            }
        }

        #[test]
        fn x1_garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100), n in 0_usize..200) {
            let _ = Dictionary::decode(&bytes, n);
            let (dictionary, _) = Dictionary::build(&StringArray::from(vec!["a", "b", "c"])).unwrap();
            let _ = dictionary.decode_codes(&mut Cursor::new(&bytes), n, None);
        }
    }
}

//! A row as Tantivy's document. Documents have to own their text, so each row is copied into one buffer that is reused.

use std::iter;
use std::ops::Range;
use std::slice;
use std::sync::Arc;

use tantivy::schema::document::{ReferenceValue, ReferenceValueLeaf, Value};
use tantivy::schema::{Document, Field};

#[derive(Default)]
pub(super) struct RowText {
    text: String,
    values: Vec<(Field, Range<usize>)>,
}

impl RowText {
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.values.clear();
    }

    pub(super) fn push(&mut self, field: Field, text: &str) {
        let start = self.text.len();
        self.text.push_str(text);
        self.values.push((field, start..self.text.len()));
    }

    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }
}

pub(super) struct Row(pub(super) Arc<RowText>);

impl Document for Row {
    type Value<'a> = Text<'a>;
    type FieldsValuesIter<'a> = Values<'a>;

    fn iter_fields_and_values(&self) -> Values<'_> {
        Values { text: &self.0.text, values: self.0.values.iter() }
    }
}

pub(super) struct Values<'a> {
    text: &'a str,
    values: slice::Iter<'a, (Field, Range<usize>)>,
}

impl<'a> Iterator for Values<'a> {
    type Item = (Field, Text<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (field, range) = self.values.next()?;
        Some((*field, Text(&self.text[range.clone()])))
    }
}

#[derive(Clone, Debug)]
pub(super) struct Text<'a>(&'a str);

impl<'a> Value<'a> for Text<'a> {
    type ArrayIter = iter::Empty<Self>;
    type ObjectIter = iter::Empty<(&'a str, Self)>;

    fn as_value(&self) -> ReferenceValue<'a, Self> {
        ReferenceValue::Leaf(ReferenceValueLeaf::Str(self.0))
    }
}

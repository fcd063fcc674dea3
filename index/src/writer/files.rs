//! The files of Tantivy's that hold an index: words and rows through its own serializers, in its order.

use tantivy::TantivyDocument;
use tantivy::directory::{Directory, RamDirectory, TerminatingWrite};
use tantivy::fastfield::FastFieldsWriter;
use tantivy::fieldnorm::FieldNormsSerializer;
use tantivy::index::{Index, Segment, SegmentComponent};
use tantivy::postings::InvertedIndexSerializer;
use tantivy::schema::{Field, Schema};
use tantivy::tokenizer::TokenizerManager;

use super::column::ColumnWriter;
use super::{schema, settings};
use crate::blob::Component;

/// The files of an index of `rows` rows, in the order of [`Component::ALL`].
///
/// # Errors
/// What Tantivy reports.
pub(super) fn write(columns: &[ColumnWriter], rows: u32) -> tantivy::Result<[Vec<u8>; Component::ALL.len()]> {
    let directory = RamDirectory::create();
    let schema = schema(columns.len());
    let index = Index::create(directory.clone(), schema.clone(), settings())?;
    let segment = index.new_segment();
    write_words(&segment, columns)?;
    write_nothing(&segment, &schema, rows)?;
    let mut files = [const { Vec::new() }; Component::ALL.len()];
    for (component, file) in Component::ALL.into_iter().zip(&mut files) {
        let path = segment.relative_path(segment_component(component));
        *file = directory.open_read(&path)?.read_bytes()?.to_vec();
    }
    Ok(files)
}

fn write_words(segment: &Segment, columns: &[ColumnWriter]) -> tantivy::Result<()> {
    let mut serializer = InvertedIndexSerializer::open(segment)?;
    for (number, column) in (0..).zip(columns).filter(|(_, column)| !column.terms.is_empty()) {
        let mut field = serializer.new_field(Field::from_field_id(number), column.tokens, None)?;
        for id in column.terms.sorted() {
            field.new_term_without_freq(column.terms.word(id))?;
            column.terms.for_each_row(id, |row| field.write_doc(row, 0, &[]));
            field.close_term()?;
        }
        field.close()?;
    }
    Ok(serializer.close()?)
}

/// The files that are empty, but that the reader looks at.
fn write_nothing(segment: &Segment, schema: &Schema, rows: u32) -> tantivy::Result<()> {
    FieldNormsSerializer::from_write(segment.open_write(SegmentComponent::FieldNorms)?)?.close()?;
    let mut fast_fields = FastFieldsWriter::from_schema_and_tokenizer_manager(schema, TokenizerManager::new())?;
    let empty = TantivyDocument::default();
    for _ in 0..rows {
        fast_fields.add_document(&empty)?;
    }
    let mut out = segment.open_write(SegmentComponent::FastFields)?;
    fast_fields.serialize(&mut out, None)?;
    Ok(out.terminate()?)
}

fn segment_component(component: Component) -> SegmentComponent {
    match component {
        Component::Terms => SegmentComponent::Terms,
        Component::Postings => SegmentComponent::Postings,
        Component::Positions => SegmentComponent::Positions,
        Component::FastFields => SegmentComponent::FastFields,
        Component::FieldNorms => SegmentComponent::FieldNorms,
    }
}

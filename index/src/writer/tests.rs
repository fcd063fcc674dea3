//! What is written against Tantivy's own writer, which shares only the analyzer and the serializers with it.

use proptest::prelude::*;
use tantivy::directory::{Directory, RamDirectory};
use tantivy::index::{Index, SegmentComponent};
use tantivy::schema::Field;
use tantivy::tokenizer::{TextAnalyzer, TokenizerManager};
use tantivy::{SingleSegmentIndexWriter, TantivyDocument};

use super::*;

type Row = Vec<(usize, String)>;

/// The files that Tantivy writes for the same rows.
fn by_tantivy(columns: usize, rows: &[Row]) -> Vec<Vec<u8>> {
    let tokenizers = TokenizerManager::new();
    tokenizers.register(TOKENIZER, TextAnalyzer::builder(V1::default()).build());
    let directory = RamDirectory::create();
    let builder = Index::builder().schema(schema(columns)).tokenizers(tokenizers).settings(settings());
    let mut writer: SingleSegmentIndexWriter =
        builder.single_segment_index_writer(directory.clone(), 16 << 20).expect("Tantivy makes a writer");
    for row in rows {
        let mut document = TantivyDocument::default();
        row.iter().for_each(|(column, text)| document.add_text(Field::from_field_id(*column as u32), text));
        writer.add_document(document).expect("Tantivy adds a document");
    }
    let index = writer.finalize().expect("Tantivy finishes");
    let metas = index.searchable_segment_metas().expect("it has a segment");
    let components = [
        SegmentComponent::Terms,
        SegmentComponent::Postings,
        SegmentComponent::Positions,
        SegmentComponent::FastFields,
        SegmentComponent::FieldNorms,
    ];
    let read = |component| {
        let path = metas[0].relative_path(component);
        directory.open_read(&path).expect("it is there").read_bytes().expect("it reads").to_vec()
    };
    components.into_iter().map(read).collect()
}

fn by_us(columns: usize, rows: &[Row]) -> Vec<Vec<u8>> {
    let mut writer = TextIndexWriter::new(&vec![String::new(); columns], MIN_BUDGET_BYTES).expect("few columns");
    for row in rows {
        let mut values = row.iter().map(|(column, text)| (*column, text.as_str()));
        writer.add_row(&mut values).expect("it fits the budget");
    }
    files::write(&writer.columns, writer.rows).expect("it is written").into()
}

#[test]
fn an_index_without_words_is_what_tantivy_writes() {
    for rows in [vec![], vec![vec![]; 3], vec![vec![(0, "-- ..".to_owned())]]] {
        assert!(by_us(2, &rows) == by_tantivy(2, &rows), "{rows:?}");
    }
}

#[test]
fn columns_of_few_and_of_many_texts_are_what_tantivy_writes() {
    let row = |n: usize| {
        vec![
            (0, format!("host-{}.example", n % 3)),
            (2, format!("request {n} of user-{} took {}ms", n * 7_919, n % 100)),
        ]
    };
    let rows: Vec<Row> = (0..5_000).map(row).collect();
    assert!(by_us(3, &rows) == by_tantivy(3, &rows));
}

proptest! {
    #[test]
    fn any_rows_are_what_tantivy_writes(
        rows in proptest::collection::vec(proptest::collection::vec((0_usize..3, "[a-cA-C0-1 .\u{e9}\u{6f22}-]{0,12}"), 0..4), 0..40),
    ) {
        prop_assert!(by_us(3, &rows) == by_tantivy(3, &rows));
    }
}

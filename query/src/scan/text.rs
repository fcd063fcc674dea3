//! What a segment's text index says of the leaves of a scan.

use std::collections::BTreeSet;
use std::sync::Arc;

use stratalog_index::{ANALYZER_VERSION, Hits, IndexError, TextIndex};
use stratalog_storage::SegmentHandle;
use stratalog_storage::col::ColReader;

use super::ScanTable;
use super::filter::{Filters, LeafColumn};

/// The hits of each leaf of a scan in one segment; `None` where the text has to be looked at.
pub(super) fn leaf_hits(
    table: &ScanTable,
    filters: &Filters,
    segment: &Arc<SegmentHandle>,
    reader: &ColReader,
) -> Vec<Option<Hits>> {
    let nothing = || vec![None; filters.leaves.len()];
    if filters.leaves.is_empty() || segment.meta.analyzer_version != ANALYZER_VERSION {
        return nothing();
    }
    let Some(section) = reader.text() else { return nothing() };
    let hits = table.indexes.open(segment, section, reader.rows()).and_then(|index| {
        let leaves = filters.leaves.iter().map(|leaf| hits(table, leaf, &index, reader));
        leaves.collect::<Result<Vec<_>, _>>()
    });
    hits.unwrap_or_else(|error| {
        // The columns have everything the index knows: the answer stays exact, it only takes longer (L5: reported).
        let path = segment.path().display();
        tracing::error!(segment = %path, %error, "L5: a text index cannot be read; scanning its segment instead");
        nothing()
    })
}

/// The hits of one leaf, if the index covers every column that could have it.
fn hits(
    table: &ScanTable,
    leaf: &LeafColumn,
    index: &TextIndex,
    reader: &ColReader,
) -> Result<Option<Hits>, IndexError> {
    let names = leaf.columns.iter().map(|column| table.schema.field(*column).name().as_str());
    let present: BTreeSet<&str> = names.filter(|name| reader.schema().index_of(name).is_ok()).collect();
    let indexed: BTreeSet<&str> = index.fields().iter().map(|field| field.as_ref()).collect();
    if !present.is_subset(&indexed) {
        return Ok(None);
    }
    if present == indexed {
        return index.leaf(None, &leaf.leaf).map(Some);
    }
    let mut any = Hits::none();
    for field in present {
        any = any.or(&index.leaf(Some(field), &leaf.leaf)?);
    }
    Ok(Some(any))
}

//! Segment files that are on their way out.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use stratalog_proto::{Code, Error};
use stratalog_storage::col::segment_file_name;
use stratalog_storage::rec_file_name;

use super::blocking;
use crate::shard::Shard;

/// The names of segment files of a shard that its manifest does not name: replaced and still read, not finished, or about
/// to be named.
///
/// # Errors
/// [`Code::Io`] if the directory cannot be listed.
pub(super) async fn unnamed(shard: &Arc<Shard>) -> Result<BTreeSet<String>, Error> {
    let of = Arc::clone(shard);
    let listed = blocking(move || {
        let dir = of.segments_dir();
        let failed = |error| Error::new(Code::Io, format!("cannot list the segments in {}: {error}", dir.display()));
        of.io().list(dir).map_err(failed)
    });
    let listed = listed.await?;
    // Read behind the list: what was named meanwhile counts as named.
    let named: HashSet<String> = shard.read(|state| {
        let manifest = state.manifest();
        let recs = manifest.recs().iter().map(|meta| rec_file_name(meta.id));
        recs.chain(manifest.segment_ids().map(segment_file_name)).collect()
    });
    Ok(listed.into_iter().filter(|name| is_segment(name) && !named.contains(name)).collect())
}

fn is_segment(name: &str) -> bool {
    [".col", ".rec"].iter().any(|kind| name.ends_with(kind) || name.contains(&format!("{kind}.")))
}

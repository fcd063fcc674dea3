//! The decoder of this room, as a fuzz target and for a short run of mutations in every test run.

use stratalog_mutation::Decoder;
use uuid::Uuid;

use crate::manifest::head;
use crate::{Blob, Hash, Manifest, Part, Point, Segment, names};

/// The JSON of a backup's manifest, under a hash that is right for it.
pub const MANIFEST: Decoder =
    Decoder { name: "backup_manifest", samples: manifests, run: read_manifest, words: WORDS, memory_bytes: 1 << 20 };

const WORDS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "null",
    "-1",
    "1e999",
    "18446744073709551615",
    "\"shard\": 1025,",
    "\"segments\": [",
    "../",
    "\\u0000",
    ".rec",
];

fn blob(bytes: u64) -> Blob {
    Blob { bytes, blake3: Hash([bytes as u8; 32]) }
}

fn part(shard: u32, segments: &[&str]) -> Part {
    let segment = |(number, name): (usize, &&str)| {
        let Blob { bytes, blake3 } = blob(number as u64 + 1);
        Segment { name: format!("{}.{name}", Uuid::from_u128(number as u128)), bytes, blake3 }
    };
    let (at, frontier) = (Point { term: 3, index: 90 }, Point { term: 2, index: 70 });
    let segments = segments.iter().enumerate().map(segment).collect();
    Part { shard, at, frontier, state: blob(5), log: blob(9), segments }
}

fn manifests() -> Vec<Vec<u8>> {
    let small = Manifest {
        id: "20260131T120000000Z".to_owned(),
        cluster: Uuid::from_u128(7),
        feature_level: 1,
        began_ms: 1_700_000_000_000,
        metadata: part(0, &[]),
        shards: vec![part(1, &[])],
    };
    let large = Manifest { shards: vec![part(1, &["rec", "col"]), part(2, &["col"])], ..small.clone() };
    [small, large].iter().map(|manifest| serde_json::to_vec(manifest).expect("it is JSON")).collect()
}

fn read_manifest(json: &[u8]) -> bool {
    let _ = Manifest::decode(json);
    let Ok(manifest) = Manifest::decode(&[head(json).as_bytes(), json].concat()) else { return false };
    let written = manifest.encode().expect("what was read can be written");
    assert_eq!(Manifest::decode(&written).as_ref(), Ok(&manifest), "what was written is read again");
    let _ = manifest.bytes();
    for part in manifest.parts() {
        let below = [names::state(&manifest.id, part.shard), names::log(&manifest.id, part.shard)];
        assert!(below.iter().all(|path| path.parts().count() == 3), "X1: no name leads elsewhere");
    }
    true
}

#[cfg(test)]
mod tests {
    use stratalog_mutation::Meter;

    use super::*;

    #[global_allocator]
    static METER: Meter = Meter;

    #[test]
    fn x1_manifests_that_lie() {
        MANIFEST.check();
    }
}

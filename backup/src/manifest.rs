//! What a backup is made of.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use stratalog_proto::{Code, Error};
use uuid::Uuid;

use crate::blob::{Blob, Hash};
use crate::names::is_id;

/// The first word of a manifest.
const MAGIC: &str = "SLG-BACKUP";
const FORMAT: u32 = 1;
/// The most bytes of one: about a million segments.
pub(crate) const MAX_MANIFEST_BYTES: u64 = 256 << 20;
/// The most shards of a cluster.
const MAX_SHARDS: usize = 1_024;
/// The most bytes of a state.
const MAX_STATE_BYTES: u64 = 1 << 30;

/// Everything that a backup consists of.
///
/// As bytes: `SLG-BACKUP 1 HASH`, a line feed, and JSON, of whose bytes the hash is the BLAKE3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Its name at the target. Later ones sort behind it.
    pub id: String,
    /// The cluster that was copied.
    pub cluster: Uuid,
    /// What may be in the states and in the log.
    pub feature_level: u32,
    /// When it began, in milliseconds since the epoch.
    pub began_ms: i64,
    /// Shard 0, copied after all others.
    pub metadata: Part,
    /// The others: 1, 2, …
    pub shards: Vec<Part>,
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its number.
    pub shard: u32,
    /// The last entry that is applied in the state.
    pub at: Point,
    /// The state needs the entries above this one.
    pub frontier: Point,
    /// The state.
    pub state: Blob,
    /// Those entries.
    pub log: Blob,
    /// What the manifest in the state names.
    pub segments: Vec<Segment>,
}

/// An entry of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Point {
    /// Its term.
    pub term: u64,
    /// Its index.
    pub index: u64,
}

/// The file of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// As in the node's directory.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Of all of it; its name at the target.
    pub blake3: Hash,
}

impl Manifest {
    /// As it is stored.
    ///
    /// # Errors
    /// [`Code::Internal`] for one that [`Manifest::decode`] would refuse.
    pub(crate) fn encode(&self) -> Result<Bytes, Error> {
        let wrong =
            |what: String| Error::new(Code::Internal, format!("backup {} cannot be written down: {what}", self.id));
        self.check().map_err(wrong)?;
        let json = serde_json::to_vec_pretty(self).map_err(|error| wrong(error.to_string()))?;
        let head = head(&json);
        if (head.len() + json.len()) as u64 > MAX_MANIFEST_BYTES {
            return Err(wrong("it has too many segments".to_owned()));
        }
        Ok([head.into_bytes(), json].concat().into())
    }

    /// Reads one back.
    ///
    /// # Errors
    /// [`Code::CorruptData`] for bytes that fail their checksum, or contradict themselves; [`Code::NewerVersion`].
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let corrupt = |what: String| Error::new(Code::CorruptData, what);
        let end = bytes.iter().take(128).position(|byte| *byte == b'\n');
        let end = end.ok_or_else(|| corrupt("it does not begin with a line of its own".to_owned()))?;
        let head = String::from_utf8_lossy(&bytes[..end]);
        let words: Vec<&str> = head.split(' ').collect();
        let [MAGIC, format, hash] = words[..] else {
            return Err(corrupt(format!("it does not begin with {MAGIC}")));
        };
        if format != FORMAT.to_string() {
            let message = format!("it has format {format}, and this version of Stratalog knows {FORMAT}");
            return Err(Error::new(Code::NewerVersion, message));
        }
        let json = &bytes[end + 1..];
        if Hash::parse(hash) != Some(blake3::hash(json).into()) {
            return Err(corrupt("it fails its checksum".to_owned()));
        }
        let manifest: Self = serde_json::from_slice(json).map_err(|error| corrupt(error.to_string()))?;
        manifest.check().map(|()| manifest).map_err(corrupt)
    }

    /// All shards, the metadata first.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        std::iter::once(&self.metadata).chain(&self.shards)
    }

    /// Bytes of all objects; what several shards share counts as often.
    pub fn bytes(&self) -> u64 {
        let sizes = self.parts().map(|part| {
            let segments = part.segments.iter().map(|segment| segment.bytes);
            segments.fold(part.state.bytes.saturating_add(part.log.bytes), u64::saturating_add)
        });
        sizes.fold(0, u64::saturating_add)
    }

    fn check(&self) -> Result<(), String> {
        if !is_id(&self.id) {
            return Err("its id is none".to_owned());
        }
        if self.metadata.shard != 0 || !self.metadata.segments.is_empty() {
            return Err("its metadata is that of another shard".to_owned());
        }
        let numbers = self.shards.iter().map(|part| part.shard);
        if !(1..=MAX_SHARDS).contains(&self.shards.len()) || !numbers.eq(1..=self.shards.len() as u32) {
            return Err(format!("its shards are not 1 to {}", self.shards.len()));
        }
        let wrong = |part: &Part| part.objection().map(|what| format!("shard {}: {what}", part.shard));
        self.parts().find_map(wrong).map_or(Ok(()), Err)
    }
}

impl Part {
    /// What contradicts itself here.
    fn objection(&self) -> Option<&'static str> {
        let Self { at, frontier, .. } = self;
        let wrong = [
            (frontier.term > at.term || frontier.index > at.index, "its frontier is above its state"),
            (self.state.bytes > MAX_STATE_BYTES, "its state is longer than a state can be"),
            ((frontier.index == at.index) != (self.log.bytes == 0), "its log is not what the state needs"),
            (
                !self.segments.iter().all(|segment| is_segment_name(&segment.name)),
                "a file has another name than a segment",
            ),
        ];
        wrong.into_iter().find_map(|(is_wrong, what)| is_wrong.then_some(what))
    }
}

/// The line in front of the JSON of a manifest.
pub(crate) fn head(json: &[u8]) -> String {
    format!("{MAGIC} {FORMAT} {}\n", Hash::from(blake3::hash(json)))
}

/// `ID.rec` or `ID.col`, and nothing that leads elsewhere.
fn is_segment_name(name: &str) -> bool {
    let id = name.strip_suffix(".rec").or_else(|| name.strip_suffix(".col"));
    id.is_some_and(|id| id.parse::<Uuid>().is_ok())
}

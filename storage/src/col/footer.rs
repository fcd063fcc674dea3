//! The footer: everything of a file but its rows and its text index, and the checksums of its blocks. It is read whole
//! when a file is opened.

use std::ops::Range;

use stratalog_proto::{Offset, PartitionId, SegmentId, ShardId, TimeBucket, TopicId};

use super::directory::ColumnEntry;
use super::format::{GRANULE_ROWS, MAX_CELLS, MAX_COLUMNS, MAX_RANGES, MAX_ROWS};
use crate::container::{Cursor, Malformed, Sections};
use crate::segment::{OffsetRange, SegmentKind, SegmentMeta};

const SECTION_COLUMNS: u32 = 1;
const SECTION_TEXT: u32 = 2;

/// What a footer says.
#[derive(Clone, Debug)]
pub(super) struct Footer {
    pub(super) shard: ShardId,
    /// Its `bytes` and `blake3` are 0 here: a file cannot hold its own hash.
    pub(super) meta: SegmentMeta,
    /// Where the chunks of the columns are.
    pub(super) columns_section: Range<u64>,
    /// Where the text index is.
    pub(super) text_section: Option<Range<u64>>,
    pub(super) columns: Vec<ColumnEntry>,
}

impl Footer {
    pub(super) fn rows(&self) -> u32 {
        self.meta.rows as u32
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode_meta(&mut out);
        self.sections().encode(&mut out);
        put_u32(&mut out, self.columns.len() as u32);
        self.columns.iter().for_each(|column| column.encode(&mut out));
        out
    }

    fn encode_meta(&self, out: &mut Vec<u8>) {
        let meta = &self.meta;
        out.extend_from_slice(meta.id.as_bytes());
        out.extend_from_slice(meta.topic.as_bytes());
        put_u32(out, self.shard.0);
        put_u32(out, meta.kind.tag());
        let times =
            [meta.bucket.start_ns, meta.bucket.end_ns, meta.min_time_ns, meta.max_time_ns, meta.max_ingested_ns];
        times.iter().for_each(|time| out.extend_from_slice(&time.to_le_bytes()));
        put_u32(out, meta.rows as u32);
        put_u32(out, meta.dead_rows as u32);
        put_u32(out, GRANULE_ROWS);
        put_u32(out, meta.analyzer_version);
        put_u32(out, meta.ranges.len() as u32);
        for range in &meta.ranges {
            put_u32(out, range.partition.0);
            out.extend_from_slice(&range.first.0.to_le_bytes());
            out.extend_from_slice(&range.next.0.to_le_bytes());
        }
    }

    fn sections(&self) -> Sections {
        let columns = (SECTION_COLUMNS, self.columns_section.clone());
        let text = self.text_section.clone().map(|text| (SECTION_TEXT, text));
        Sections::new([columns].into_iter().chain(text))
    }

    /// Reads the footer of a file whose blocks end at `blocks_end`, and checks that it does not contradict itself (S3).
    pub(super) fn decode(bytes: &[u8], blocks_end: u64) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(bytes);
        let (shard, meta) = decode_meta(&mut cursor)?;
        let sections = Sections::decode(&mut cursor, blocks_end)?;
        let columns_section = sections.get(SECTION_COLUMNS).ok_or(Malformed("there is no section of columns"))?;
        let text_section = sections.get(SECTION_TEXT);
        let columns = decode_columns(&mut cursor, meta.rows as u32, &columns_section)?;
        cursor.finish()?;
        Ok(Self { shard, meta, columns_section, text_section, columns })
    }
}

fn decode_meta(cursor: &mut Cursor<'_>) -> Result<(ShardId, SegmentMeta), Malformed> {
    let id = SegmentId::from_slice(cursor.take(16)?).expect("16 bytes");
    let topic = TopicId::from_slice(cursor.take(16)?).expect("16 bytes");
    let shard = ShardId(cursor.u32()?);
    let kind = SegmentKind::from_tag(cursor.u32()?).ok_or(Malformed("the segment is of an unknown kind"))?;
    let bucket = TimeBucket { start_ns: cursor.i64()?, end_ns: cursor.i64()? };
    let (min_time_ns, max_time_ns, max_ingested_ns) = (cursor.i64()?, cursor.i64()?, cursor.i64()?);
    let (rows, dead_rows, granule_rows) = (cursor.u32()?, cursor.u32()?, cursor.u32()?);
    if rows > MAX_ROWS || granule_rows != GRANULE_ROWS {
        return Err(Malformed("the segment has too many rows, or granules of another size"));
    }
    let meta = SegmentMeta {
        id,
        topic,
        kind,
        bucket,
        min_time_ns,
        max_time_ns,
        max_ingested_ns,
        rows: rows.into(),
        dead_rows: dead_rows.into(),
        bytes: 0,
        analyzer_version: cursor.u32()?,
        ranges: decode_ranges(cursor)?,
        blake3: [0; 32],
    };
    meta.contradiction().map_or(Ok((shard, meta)), |what| Err(Malformed(what)))
}

fn decode_ranges(cursor: &mut Cursor<'_>) -> Result<Vec<OffsetRange>, Malformed> {
    const RANGE_BYTES: usize = 20;
    let count = cursor.count(MAX_RANGES.min(cursor.remaining() / RANGE_BYTES))?;
    let mut range = || {
        let partition = PartitionId(cursor.u32()?);
        Ok(OffsetRange { partition, first: Offset(cursor.u64()?), next: Offset(cursor.u64()?) })
    };
    (0..count).map(|_| range()).collect()
}

fn decode_columns(cursor: &mut Cursor<'_>, rows: u32, section: &Range<u64>) -> Result<Vec<ColumnEntry>, Malformed> {
    let granules = rows.div_ceil(GRANULE_ROWS) as usize;
    let count = cursor.count(MAX_COLUMNS.min(MAX_CELLS / granules))?;
    let columns: Vec<ColumnEntry> =
        (0..count).map(|_| ColumnEntry::decode(cursor, rows, section)).collect::<Result<_, _>>()?;
    let mut names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(Malformed("two columns have the same name"));
    }
    Ok(columns)
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

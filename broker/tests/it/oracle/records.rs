//! Records of every kind, and the row that each has to become.

use std::collections::BTreeMap;

use bytes::Bytes;
use stratalog_proto::batch::{BatchBuilder, Compression};
use stratalog_storage::simulation::Dice;

use super::fields;
use super::json::{Json, write};
use super::value::{Cell, Type, Value, types};

/// Partitions of the topics.
pub(super) const PARTITIONS: u32 = 3;
/// 2026-01-31T20:00:00Z: most event times are within hours of it.
pub(super) const NOON_NS: i64 = 1_769_889_600_000_000_000;

/// A record, and what is known of its row.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) partition: u32,
    pub(super) offset: u64,
    /// `_time`.
    pub(super) time_ns: i64,
    /// `_timestamp`.
    pub(super) timestamp_ms: i64,
    key: Option<Vec<u8>>,
    headers: Vec<(&'static str, Option<Vec<u8>>)>,
    value: Option<Vec<u8>>,
    pub(super) is_dead: bool,
    pub(super) cells: BTreeMap<String, Cell>,
}

/// All records of a run, in the order in which they are produced, and the columns of their rows.
#[derive(Debug)]
pub(super) struct World {
    pub(super) records: Vec<Record>,
    pub(super) types: BTreeMap<String, Type>,
}

impl World {
    pub(super) fn generate(dice: &mut Dice, count: usize) -> Self {
        let mut ends = [0; PARTITIONS as usize];
        let records = (0..count).map(|_| {
            let partition = dice.below(u64::from(PARTITIONS)) as u32;
            let offset = ends[partition as usize];
            ends[partition as usize] += 1;
            record(dice, partition, offset)
        });
        let records: Vec<Record> = records.collect();
        let types = types(records.iter().map(|record| &record.cells));
        Self { records, types }
    }

    /// Offsets that a partition has.
    pub(super) fn end(&self, partition: u32) -> u64 {
        self.records.iter().filter(|record| record.partition == partition).count() as u64
    }

    /// The columns of text that a word without a column looks in.
    pub(super) fn text_columns(&self) -> impl Iterator<Item = &str> {
        self.types.iter().filter(|(_, kind)| **kind == Type::Text).map(|(name, _)| name.as_str())
    }

    /// What a column of a row holds.
    pub(super) fn value(&self, record: &Record, column: &str) -> Value {
        match (column, self.types.get(column)) {
            ("_time", _) => Value::Int(record.time_ns),
            ("_timestamp", _) => Value::Int(record.timestamp_ms * 1_000_000),
            ("_partition", _) => Value::Int(i64::from(record.partition)),
            ("_offset", _) => Value::Int(record.offset as i64),
            ("_key", _) => record.key.as_deref().map_or(Value::Null, |key| Value::Text(escaped(key))),
            ("_headers", _) => record.headers_text(),
            ("_raw", _) => match &record.value {
                Some(value) => Value::Text(String::from_utf8_lossy(value).into_owned()),
                None => Value::Null,
            },
            (_, Some(kind)) => record.cells.get(column).map_or(Value::Null, |cell| cell.read_as(*kind)),
            (_, None) => panic!("no row has a column {column}"),
        }
    }
}

impl Record {
    /// Its partition and offset.
    pub(super) fn place(&self) -> (u32, u64) {
        (self.partition, self.offset)
    }

    fn headers_text(&self) -> Value {
        if self.headers.is_empty() {
            return Value::Null;
        }
        let quoted = |bytes: &[u8]| serde_json::to_string(&escaped(bytes)).expect("a text is JSON");
        let member = |(name, value): &(&str, Option<Vec<u8>>)| {
            format!("{}:{}", quoted(name.as_bytes()), value.as_deref().map_or("null".to_owned(), quoted))
        };
        Value::Text(format!("{{{}}}", self.headers.iter().map(member).collect::<Vec<_>>().join(",")))
    }
}

/// Runs of records of one partition, as batches, in the order in which they are to be produced.
pub(super) fn batches<'a>(records: &[&'a Record], dice: &mut Dice) -> Vec<(u32, Bytes, &'a Record)> {
    let mut batches = Vec::new();
    let mut waiting: BTreeMap<u32, Vec<&Record>> = BTreeMap::new();
    for record in records {
        let of = waiting.entry(record.partition).or_default();
        of.push(record);
        if dice.chance(1, 12) {
            batches.extend(batch(std::mem::take(of), dice));
        }
    }
    batches.extend(waiting.into_values().filter_map(|of| batch(of, dice)));
    batches
}

fn batch<'a>(records: Vec<&'a Record>, dice: &mut Dice) -> Option<(u32, Bytes, &'a Record)> {
    let first = *records.first()?;
    let codecs = [Compression::None, Compression::Lz4, Compression::Zstd, Compression::Gzip, Compression::Snappy];
    let mut builder = BatchBuilder::new(*dice.pick(&codecs)?);
    for record in &records {
        let headers: Vec<_> = record.headers.iter().map(|(name, value)| (*name, value.as_deref())).collect();
        builder.push(record.timestamp_ms, record.key.as_deref(), record.value.as_deref(), &headers);
    }
    Some((first.partition, builder.finish(), first))
}

fn record(dice: &mut Dice, partition: u32, offset: u64) -> Record {
    let time_ns = fields::time_ns(dice);
    let timestamp_ms = NOON_NS / 1_000_000 + dice.below(3_600_000) as i64;
    let key = (!dice.chance(1, 3)).then(|| match dice.below(8) {
        0 => b"k\xff\xfe".to_vec(),
        n => format!("key-{n}").into_bytes(),
    });
    let headers = match dice.below(6) {
        0 => vec![("trace", Some(b"4bf9".to_vec())), ("empty", None)],
        1 => vec![("quote\"d", Some("größe \u{1}".as_bytes().to_vec()))],
        _ => Vec::new(),
    };
    let record = Record {
        partition,
        offset,
        time_ns,
        timestamp_ms,
        key,
        headers,
        value: None,
        is_dead: false,
        cells: BTreeMap::new(),
    };
    if dice.chance(1, 14) { dead(record, dice) } else { alive(record, dice) }
}

fn alive(record: Record, dice: &mut Dice) -> Record {
    let mut object = fields::fields(dice);
    let at = dice.below(object.len() as u64 + 1) as usize;
    object.insert(at, ("ts".to_owned(), fields::spelled_time(record.time_ns, dice)));
    let (text, cells) = write(&object, dice);
    Record { value: Some(text.into_bytes()), cells, ..record }
}

/// A record whose value becomes no row of its own: its time is the record's.
fn dead(record: Record, dice: &mut Dice) -> Record {
    let whole = alive(record.clone(), dice).value.expect("it has a value");
    let whole = whole.trim_ascii();
    let value = match dice.below(9) {
        0 => None,
        1 => Some(whole[..whole.len() - 1 - dice.below(whole.len() as u64 / 2) as usize].to_vec()),
        2 => Some([whole, b" x"].concat()),
        3 => Some(b"[1,2]".to_vec()),
        4 => Some(Vec::new()),
        5 => Some([&whole[..whole.len() - 1], b",\"bad\":\"\xff\"}"].concat()),
        6 => Some(b"{\"message\":\"disk full\"}".to_vec()),
        7 => Some(b"{\"ts\":\"soon\",\"n\":1}".to_vec()),
        _ => Some(b"{\"ts\":\"9999-01-01T00:00:00Z\",\"n\":1,\"new\":true}".to_vec()),
    };
    Record { value, is_dead: true, time_ns: record.timestamp_ms * 1_000_000, cells: BTreeMap::new(), ..record }
}

/// Bytes as text; those that are not UTF-8 are written `\xNN`.
fn escaped(bytes: &[u8]) -> String {
    let chunks = bytes.utf8_chunks();
    chunks
        .map(|chunk| {
            let invalid: String = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")).collect();
            format!("{}{invalid}", chunk.valid())
        })
        .collect()
}

/// A field that is no object, for the generator of fields.
pub(super) fn scalar(dice: &mut Dice) -> Json {
    match dice.below(5) {
        0 => Json::Bool(dice.chance(1, 2)),
        1 => Json::int(dice.below(50) as i64 - 5),
        2 => Json::Number(fields::edge_number(dice).to_owned()),
        3 => Json::Null,
        _ => Json::text(fields::message(dice)),
    }
}

//! `stratalog produce`: lines to records.

mod lines;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use indicatif::ProgressBar;
use serde_json::Value;
use stratalog_broker::{Multiline, RecordLines, joined_limit};
use stratalog_client::{Delivery, OutRecord, Producer, ProducerOptions, SendError};
use stratalog_proto::config::{Format, TopicConfig};
use stratalog_proto::{PartitionId, v1};
use tokio::sync::mpsc;

use crate::cli::{Global, OutputFormat, Produce};
use crate::failure::Failure;
use crate::output::{human_bytes, human_count, human_duration, print_object};
use crate::progress::{Latencies, Unit, bar};

/// Records that may be sent and not yet acknowledged; the producer bounds their bytes.
const IN_FLIGHT: usize = 64 << 10;
/// How long a record waits for its next line while nothing comes.
const NEXT_LINE_WAIT: Duration = Duration::from_secs(1);
/// Room that a joined value leaves for a key that is found in it.
const MAX_FOUND_KEY_BYTES: usize = 1_024;

pub(super) async fn run(global: &Global, command: &Produce) -> Result<(), Failure> {
    let client = global.client().await?;
    let config = client.describe_topic(&command.topic).await?.topic.and_then(|t| t.config).unwrap_or_default();
    let compression = command.compression.parse().map_err(|error| Failure::Usage(format!("{error}")))?;
    let options = ProducerOptions { compression, ..ProducerOptions::default() };
    let files = if command.files.is_empty() { vec![PathBuf::from("-")] } else { command.files.clone() };
    let run = Run {
        producer: client.producer(&command.topic, options).await?,
        lines: record_lines(&config, command.key_field.is_some())?,
        key_field: command.key_field.clone(),
        partition: command.partition.map(PartitionId),
        progress: bar(total_bytes(&files), Unit::Bytes),
    };
    let totals = run.all(files).await?;
    totals.print(global.format())
}

struct Run {
    producer: Producer,
    key_field: Option<String>,
    partition: Option<PartitionId>,
    lines: RecordLines,
    progress: ProgressBar,
}

impl Run {
    async fn all(mut self, files: Vec<PathBuf>) -> Result<Totals, Failure> {
        let started = Instant::now();
        let (blocks_in, mut blocks) = mpsc::channel(4);
        let reader = tokio::task::spawn_blocking(move || read_all(&files, &blocks_in));
        let (sent, deliveries) = mpsc::channel(IN_FLIGHT);
        let acks = tokio::spawn(collect(deliveries));
        let mut totals = Totals::default();
        while let Some(records) = self.next_records(&mut blocks).await {
            for record in records {
                totals.bytes += record.len() as u64;
                let delivery = self.producer.send(self.record(record)).await.map_err(send_failure)?;
                // The collector ends early only on a failed delivery, which it then returns.
                if sent.send(delivery).await.is_err() {
                    break;
                }
            }
            if sent.is_closed() {
                break;
            }
        }
        totals.blank = self.lines.skipped();
        drop(sent);
        let flushed = self.producer.close().await;
        totals.latencies = acks.await.expect("the collector does not panic")?;
        flushed.map_err(send_failure)?;
        drop(blocks);
        reader.await.expect("the reader does not panic")?;
        self.progress.finish_and_clear();
        totals.seconds = started.elapsed().as_secs_f64();
        Ok(totals)
    }

    /// The records of the next block of lines. A record whose next line does not come, as at the end of a log that is still
    /// being written, is given as it is after a while. `None` at the end.
    async fn next_records(&mut self, blocks: &mut mpsc::Receiver<Vec<Bytes>>) -> Option<Vec<Bytes>> {
        let block = match tokio::time::timeout(NEXT_LINE_WAIT, blocks.recv()).await {
            Ok(block) => block,
            Err(_) if self.lines.is_open() => return Some(self.lines.finish().into_iter().collect()),
            Err(_) => blocks.recv().await,
        };
        let Some(block) = block else {
            return self.lines.finish().map(|last| vec![last]);
        };
        self.progress.inc(block.iter().map(|line| line.len() as u64 + 1).sum());
        Some(block.into_iter().filter_map(|line| self.lines.push(line)).collect())
    }

    fn record(&self, line: Bytes) -> OutRecord {
        let key = self.key_field.as_deref().and_then(|field| json_field(&line, field));
        OutRecord { key: key.map(Bytes::from), value: Some(line), partition: self.partition, ..OutRecord::default() }
    }
}

/// What makes records of lines as the topic says.
fn record_lines(config: &v1::TopicConfig, has_key_field: bool) -> Result<RecordLines, Failure> {
    let multiline =
        Some(&config.multiline).filter(|setting| !setting.is_empty()).map(|setting| Multiline::new(setting));
    let multiline = multiline.transpose().map_err(|error| Failure::Refused(error.to_string()))?;
    let max_batch_bytes = (config.max_message_bytes as usize).min(lines::MAX_LINE_BYTES);
    let key = if has_key_field { MAX_FOUND_KEY_BYTES.min(max_batch_bytes / 8) } else { 0 };
    Ok(RecordLines::new(format(config), multiline, joined_limit(max_batch_bytes, key)))
}

/// The topic's format; of one that this version does not know, every line is a record.
fn format(config: &v1::TopicConfig) -> Format {
    let mut settings = TopicConfig::default();
    settings.set("format", &config.format).map_or(Format::Raw, |()| settings.format)
}

fn read_all(files: &[PathBuf], blocks: &mpsc::Sender<Vec<Bytes>>) -> Result<(), Failure> {
    for file in files {
        let mut lines = lines::open(file)?;
        while let Some(block) = lines.next_block()? {
            if blocks.blocking_send(block).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

async fn collect(mut deliveries: mpsc::Receiver<Delivery>) -> Result<Latencies, Failure> {
    let mut latencies = Latencies::default();
    while let Some(delivery) = deliveries.recv().await {
        latencies.add(delivery.await.map_err(send_failure)?.latency);
    }
    Ok(latencies)
}

#[derive(Default)]
struct Totals {
    bytes: u64,
    blank: u64,
    seconds: f64,
    latencies: Latencies,
}

impl Totals {
    fn print(mut self, format: OutputFormat) -> Result<(), Failure> {
        let records = self.latencies.len() as u64;
        let (p50, p99) = self.latencies.p50_p99();
        let seconds = self.seconds.max(1e-9);
        if format != OutputFormat::Table {
            let fields = vec![
                ("records", Value::from(records)),
                ("bytes", self.bytes.into()),
                ("blank_lines", self.blank.into()),
                ("elapsed_ms", ((seconds * 1e3) as u64).into()),
                ("ack_p50_us", (p50.as_micros() as u64).into()),
                ("ack_p99_us", (p99.as_micros() as u64).into()),
            ];
            return print_object(format, &fields);
        }
        let mut out = std::io::stdout();
        writeln!(
            out,
            "{} records, {} in {seconds:.2} s: {} records/s, {}/s · acknowledged after p50 {}, p99 {}",
            human_count(records),
            human_bytes(self.bytes),
            human_count((records as f64 / seconds) as u64),
            human_bytes((self.bytes as f64 / seconds) as u64),
            human_duration(p50),
            human_duration(p99),
        )?;
        if self.blank > 0 {
            writeln!(out, "{} blank lines were skipped", human_count(self.blank))?;
        }
        Ok(())
    }
}

/// The value of a JSON field, by name or by dotted path, as a key: text as it is, everything else as JSON. `None` where
/// the line is not JSON or has no such field.
fn json_field(line: &[u8], field: &str) -> Option<String> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let found = value.get(field).or_else(|| field.split('.').try_fold(&value, |value, part| value.get(part)))?;
    match found {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}

fn send_failure(error: SendError) -> Failure {
    match error {
        SendError::Failed { .. } => Failure::Refused(format!("the record was not written: {error}")),
        SendError::Unknown { .. } => Failure::Unknown(format!("whether the record was written is unknown: {error}")),
    }
}

/// The size of everything that is read, if all of it are files.
fn total_bytes(files: &[PathBuf]) -> Option<u64> {
    files.iter().map(|file| size(file)).sum()
}

fn size(file: &Path) -> Option<u64> {
    std::fs::metadata(file).ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_field_takes_names_and_paths() {
        let line = br#"{"a":{"b":7},"a.c":"dotted","n":null}"#;
        assert_eq!(json_field(line, "a.b").as_deref(), Some("7"));
        assert_eq!(json_field(line, "a.c").as_deref(), Some("dotted"));
        assert_eq!(json_field(line, "n"), None);
        assert_eq!(json_field(b"not json", "a"), None);
    }
}

//! `stratalog consume`: replay.

use std::io::{BufWriter, StdoutLock, Write};

use serde_json::{Map, Value, json};
use stratalog_client::{ConsumedRecord, ConsumerOptions, Start, Stop};
use stratalog_proto::{Offset, PartitionId};

use crate::cli::{Consume, Global, OutputFormat};
use crate::failure::Failure;
use crate::output::Listing;
use crate::times::{format_time_ns, parse_time_ns};

pub(super) async fn run(global: &Global, command: &Consume) -> Result<(), Failure> {
    if command.follow && matches!(global.output, Some(OutputFormat::Table | OutputFormat::Json)) {
        return Err(Failure::Usage(
            "--follow never ends, so it prints values, --output ndjson or --output csv".to_owned(),
        ));
    }
    let options = ConsumerOptions {
        start: start(&command.from)?,
        partitions: command.partition.map(|p| vec![PartitionId(p)]),
        stop: if command.follow { Stop::Never } else { Stop::AtEnd },
        from_follower: command.from_follower,
        zone: command.zone.clone(),
        ..ConsumerOptions::default()
    };
    let mut consumer = global.client().await?.consumer(&command.topic, options).await?;
    let mut printer = Printer::new(global.output);
    let mut left = command.count.unwrap_or(u64::MAX);
    while left > 0 {
        let Some(records) = consumer.next().await? else { break };
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(records.len());
        for record in &records[..wanted] {
            printer.print(record)?;
        }
        left -= wanted as u64;
        printer.flush()?;
    }
    printer.finish()
}

fn start(from: &str) -> Result<Start, Failure> {
    match from {
        "earliest" => Ok(Start::Earliest),
        "latest" => Ok(Start::Latest),
        _ => match from.parse() {
            Ok(offset) => Ok(Start::Offset(Offset(offset))),
            Err(_) => parse_time_ns(from).map(Start::Time).map_err(|_| {
                Failure::Usage(format!("--from {from}: write earliest, latest, an offset, or a time such as -1h"))
            }),
        },
    }
}

/// Prints records one by one, in the form that was asked for.
struct Printer {
    out: BufWriter<StdoutLock<'static>>,
    form: Form,
}

enum Form {
    /// Each value and a line feed: the bytes that were produced.
    Values,
    Ndjson,
    /// Collected, since the widths of a table and the end of a JSON array are known only at the end.
    Listing(OutputFormat, Listing),
}

const COLUMNS: [&str; 6] = ["partition", "offset", "timestamp", "key", "value", "headers"];

impl Printer {
    fn new(output: Option<OutputFormat>) -> Self {
        let form = match output {
            None => Form::Values,
            Some(OutputFormat::Ndjson) => Form::Ndjson,
            Some(format) => Form::Listing(format, Listing::new(&COLUMNS)),
        };
        Self { out: BufWriter::with_capacity(64 << 10, std::io::stdout().lock()), form }
    }

    fn print(&mut self, record: &ConsumedRecord) -> Result<(), Failure> {
        match &mut self.form {
            Form::Values => {
                self.out.write_all(record.value.as_deref().unwrap_or_default())?;
                self.out.write_all(b"\n")?;
            }
            Form::Ndjson => {
                let pairs = COLUMNS.map(str::to_owned).into_iter().zip(fields(record));
                serde_json::to_writer(&mut self.out, &Map::from_iter(pairs)).map_err(std::io::Error::from)?;
                self.out.write_all(b"\n")?;
            }
            Form::Listing(_, listing) => listing.push(fields(record)),
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }

    fn finish(mut self) -> Result<(), Failure> {
        self.flush()?;
        drop(self.out);
        match self.form {
            Form::Listing(format, listing) => listing.print(format),
            Form::Values | Form::Ndjson => Ok(()),
        }
    }
}

fn fields(record: &ConsumedRecord) -> Vec<Value> {
    let timestamp = record.timestamp_ms.checked_mul(1_000_000).map(format_time_ns);
    let headers = record.headers.iter().map(|(name, value)| json!([name, value.as_deref().map(text)]));
    vec![
        record.partition.0.into(),
        record.offset.0.into(),
        timestamp.map_or(Value::Null, Value::from),
        record.key.as_deref().map_or(Value::Null, text),
        record.value.as_deref().map_or(Value::Null, text),
        headers.collect(),
    ]
}

/// Bytes as text; what is not UTF-8 is shown with replacement characters (the default output has the bytes themselves).
fn text(bytes: &[u8]) -> Value {
    String::from_utf8_lossy(bytes).into()
}

//! The steps of the tour, each printed as it happens and checked.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use serde_json::Value;
use stratalog_client::{Client, ConsumerOptions, Delivery, OutRecord, ProducerOptions, QueryOptions, Start, Stop};
use stratalog_proto::{Token, v1};
use tokio::sync::mpsc;

use super::generate::marked;
use super::source::Source;
use crate::cli::OutputFormat;
use crate::commands::{print_answer, stats_line};
use crate::failure::Failure;
use crate::output::{human_bytes, human_count, human_duration, row_objects, say};
use crate::progress::{Latencies, Unit, bar};
use crate::times::{format_time_ns, now_ns, parse_time_ns};

const TOPIC: &str = "quickstart";
const PARTITIONS: u32 = 4;
const BUCKET_NS: i64 = 3_600_000_000_000;
const IN_FLIGHT: usize = 16 << 10;
/// A record that is not visible after this long is not visible.
const FRESH_WITHIN: Duration = Duration::from_secs(10);

/// A client on its way through the main job.
pub(super) struct Tour {
    client: Client,
    source: Source,
    topic: String,
    written: Tally,
    tokens: Vec<Token>,
    step: u32,
}

/// Count and checksum of records. The sum does not depend on their order, but covers each one's partition, offset and
/// bytes, so that it agrees only if every record is where it was acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    records: u64,
    bytes: u64,
    checksum: u64,
}

impl Tally {
    fn add(&mut self, partition: u32, offset: u64, value: &[u8]) {
        let mut hasher = DefaultHasher::new();
        (partition, offset, value).hash(&mut hasher);
        self.checksum = self.checksum.wrapping_add(hasher.finish());
        self.records += 1;
        self.bytes += value.len() as u64;
    }
}

impl Tour {
    /// Connects.
    pub(super) async fn begin(endpoint: &str, source: Source) -> Result<Self, Failure> {
        let client = Client::connect(endpoint).await?;
        let topic = TOPIC.to_owned();
        Ok(Self { client, source, topic, written: Tally::default(), tokens: Vec::new(), step: 0 })
    }

    /// The topic that was used.
    pub(super) fn into_topic(self) -> String {
        self.topic
    }

    fn heading(&mut self, text: &str) -> Result<(), Failure> {
        self.step += 1;
        say!("\n{}. {text}", self.step)
    }

    /// A topic of its own: a name that an earlier run left in the same data directory is not touched.
    pub(super) async fn create_topic(&mut self) -> Result<(), Failure> {
        let taken: Vec<String> = self.client.topics().await?.into_iter().map(|topic| topic.name).collect();
        let free = std::iter::once(TOPIC.to_owned()).chain((2u32..).map(|n| format!("{TOPIC}_{n}")));
        self.topic = free.into_iter().find(|name| !taken.contains(name)).expect("there are more names than topics");
        self.heading(&format!("Create the topic {}: {PARTITIONS} partitions, one-hour buckets, JSON", self.topic))?;
        if !taken.is_empty() {
            say!("   topics of earlier runs are kept: {}", taken.join(", "))?;
        }
        let mut settings = vec![("format".to_owned(), "json".to_owned()), ("bucket".to_owned(), "1h".to_owned())];
        if let Some(field) = self.source.time_field() {
            settings.push(("time.field".to_owned(), field.to_owned()));
        }
        self.client.create_topic(&self.topic, PARTITIONS, &settings).await?;
        Ok(())
    }

    /// Produces every record through the SDK and waits for every acknowledgement.
    pub(super) async fn produce(&mut self) -> Result<(), Failure> {
        let what = match self.source.count() {
            Some(count) => format!("{} generated log and click events, six hours of them", human_count(count)),
            None => "your records".to_owned(),
        };
        self.heading(&format!("Produce {what}; each is acknowledged when it is fsynced"))?;
        let started = Instant::now();
        let producer = self.client.producer(&self.topic, ProducerOptions::default()).await?;
        let (sent, acked) = mpsc::channel(IN_FLIGHT);
        let collector = tokio::spawn(collect(acked, bar(self.source.count(), Unit::Records)));
        for record in self.source.records()? {
            let record = record?;
            let out = OutRecord { key: record.key, value: Some(record.value.clone()), ..OutRecord::default() };
            let delivery = producer.send(out).await.map_err(not_written)?;
            if sent.send((delivery, record.value)).await.is_err() {
                break;
            }
        }
        drop(sent);
        let (written, mut latencies) = collector.await.expect("the collector does not panic")?;
        self.tokens = producer.tokens();
        producer.close().await.map_err(not_written)?;
        let (p50, p99) = latencies.p50_p99();
        let seconds = started.elapsed().as_secs_f64();
        say!(
            "   {} records, {} in {seconds:.2} s: {} records/s, {}/s · acknowledged after p50 {}, p99 {}",
            human_count(written.records),
            human_bytes(written.bytes),
            human_count((written.records as f64 / seconds) as u64),
            human_bytes((written.bytes as f64 / seconds) as u64),
            human_duration(p50),
            human_duration(p99),
        )?;
        if written.records == 0 {
            return Err(Failure::Refused("there was no record to produce".to_owned()));
        }
        self.written = written;
        Ok(())
    }

    /// Reads everything back from offset 0 and compares count and checksum.
    pub(super) async fn replay(&mut self) -> Result<(), Failure> {
        self.heading("Replay all of them from offset 0 and compare count and checksum")?;
        let started = Instant::now();
        let options = ConsumerOptions { start: Start::Earliest, stop: Stop::AtEnd, ..ConsumerOptions::default() };
        let mut consumer = self.client.consumer(&self.topic, options).await?;
        let progress = bar(Some(self.written.records), Unit::Records);
        let mut read = Tally::default();
        while let Some(records) = consumer.next().await? {
            for record in &records {
                read.add(record.partition.0, record.offset.0, record.value.as_deref().unwrap_or_default());
            }
            progress.inc(records.len() as u64);
        }
        progress.finish_and_clear();
        if read != self.written {
            let message = format!("the replay is not what was written: wrote {:?}, read {read:?}", self.written);
            return Err(Failure::Refused(message));
        }
        let seconds = started.elapsed().as_secs_f64();
        say!(
            "   {} records, {} in {seconds:.2} s: {}/s · every one at its offset, checksum {:016x} agrees",
            human_count(read.records),
            human_bytes(read.bytes),
            human_bytes((read.bytes as f64 / seconds) as u64),
            read.checksum,
        )?;
        Ok(())
    }

    /// Three aggregations.
    pub(super) async fn sql(&mut self) -> Result<(), Failure> {
        self.heading("Ask with SQL; the same records, no second system")?;
        let topic = self.topic.clone();
        let count = self.value(&format!("SELECT count(*) FROM {topic}")).await?;
        if count.as_u64() != Some(self.written.records) {
            let message = format!("SQL counts {count} rows, {} records were written", self.written.records);
            return Err(Failure::Refused(message));
        }
        let queries = match self.source {
            Source::Generated { end_ns, .. } => generated_queries(&topic, end_ns),
            Source::File { .. } => self.queries_for_any_data().await?,
        };
        for query in queries {
            say!("   {query}")?;
            print_answer(OutputFormat::Table, self.client.sql(&query, &self.options()).await?).await?;
        }
        Ok(())
    }

    async fn queries_for_any_data(&self) -> Result<Vec<String>, Failure> {
        let topic = &self.topic;
        let mut sample = self.client.sql(&format!("SELECT * FROM {topic} LIMIT 1"), &self.options()).await?;
        let schema = sample.schema().await?;
        let text = schema
            .fields()
            .iter()
            .find(|field| !field.name().starts_with('_') && *field.data_type() == arrow::datatypes::DataType::Utf8);
        let mut queries = vec![
            format!("SELECT count(*) AS rows, min(_time) AS first, max(_time) AS last FROM {topic}"),
            format!(
                "SELECT date_trunc('hour', _time) AS hour, count(*) AS rows FROM {topic} GROUP BY hour ORDER BY rows DESC LIMIT 5"
            ),
        ];
        queries.extend(text.map(|field| {
            let name = field.name().replace('"', "\"\"");
            format!("SELECT \"{name}\", count(*) AS rows FROM {topic} GROUP BY \"{name}\" ORDER BY rows DESC LIMIT 5")
        }));
        Ok(queries)
    }

    /// Two searches.
    pub(super) async fn search(&mut self) -> Result<(), Failure> {
        self.heading("Search the text of the same records")?;
        let queries = match self.source {
            Source::Generated { .. } => ["level:error \"connection reset by peer\"", "declined NOT service:mail"],
            Source::File { .. } => ["error", "error OR warn OR fail*"],
        };
        for query in queries {
            say!("   {query}")?;
            let request = v1::SearchRequest {
                topic: self.topic.clone(),
                query: query.to_owned(),
                limit: 3,
                tokens: self.wire_tokens(),
                ..v1::SearchRequest::default()
            };
            let mut answer = self.client.search(request).await?;
            while let Some(batch) = answer.next().await? {
                for hit in row_objects(&batch)? {
                    say!("     {}", one_line(&hit))?;
                }
            }
            if let Some(stats) = answer.stats() {
                say!("   {}", stats_line(stats))?;
            }
        }
        Ok(())
    }

    /// One more record: how soon do SQL and search see it?
    pub(super) async fn freshness(&mut self) -> Result<(), Failure> {
        self.heading("Produce one more record: how soon is it visible?")?;
        let word = format!("mark{}", uuid::Uuid::new_v4().simple());
        let value = marked(&word, self.source.time_field().unwrap_or("ts"), &format_time_ns(now_ns()));
        let producer = self.client.producer(&self.topic, ProducerOptions::default()).await?;
        let record = OutRecord { value: Some(value.to_string().into()), ..OutRecord::default() };
        let delivery = producer.send(record).await.map_err(not_written)?;
        producer.flush().await.map_err(not_written)?;
        let ack = delivery.await.map_err(not_written)?;
        let acked = Instant::now();
        let (words, place) =
            (format!("MATCH('{word}')"), format!("_partition = {} AND _offset = {}", ack.partition, ack.offset));
        let (by_search, by_sql) = tokio::try_join!(self.until_seen(&words, acked), self.until_seen(&place, acked))?;
        say!(
            "   acknowledged after {}; then SQL had it {} and search {} later, query included",
            human_duration(ack.latency),
            human_duration(by_sql),
            human_duration(by_search),
        )?;
        producer.close().await.map_err(not_written)
    }

    async fn until_seen(&self, predicate: &str, acked: Instant) -> Result<Duration, Failure> {
        let query = format!("SELECT count(*) FROM {} WHERE {predicate}", self.topic);
        while acked.elapsed() < FRESH_WITHIN {
            if self.value(&query).await?.as_u64() == Some(1) {
                return Ok(acked.elapsed());
            }
        }
        Err(Failure::Refused(format!("an acknowledged record was not visible within {FRESH_WITHIN:?}: {query}")))
    }

    /// Drops the two oldest hours.
    pub(super) async fn drop_oldest(&mut self) -> Result<(), Failure> {
        let oldest = self.value(&format!("SELECT min(_time) FROM {}", self.topic)).await?;
        let oldest_ns = parse_time_ns(oldest.as_str().unwrap_or_default())?;
        let before_ns = oldest_ns.div_euclid(BUCKET_NS) * BUCKET_NS + 2 * BUCKET_NS;
        self.heading(&format!("Drop the two oldest hours, everything before {}", format_time_ns(before_ns)))?;
        let dropped = self.client.drop_before(&self.topic, before_ns, false).await?;
        let (segments, rows) = (dropped.dropped.len(), human_count(dropped.rows));
        let elapsed = Duration::from_micros(dropped.elapsed_us);
        say!("   {segments} segments, {rows} rows, {} in {}", human_bytes(dropped.bytes), human_duration(elapsed))?;
        let old = format!("SELECT count(*) FROM {} WHERE _time < '{}'", self.topic, format_time_ns(before_ns));
        let left = self.value(&old).await?;
        if left.as_u64() != Some(0) {
            return Err(Failure::Refused(format!("{left} rows are left from before the drop's time")));
        }
        let now = self.value(&format!("SELECT count(*) FROM {}", self.topic)).await?;
        say!("   SQL and search now see {} rows", human_count(now.as_u64().unwrap_or(0)))?;
        Ok(())
    }

    /// The one value of a query of one row and one column.
    async fn value(&self, query: &str) -> Result<Value, Failure> {
        let mut answer = self.client.sql(query, &self.options()).await?;
        let mut value = Value::Null;
        while let Some(batch) = answer.next().await? {
            let row = row_objects(&batch)?.into_iter().next();
            let first = row.and_then(|row| row.as_object().and_then(|row| row.values().next().cloned()));
            value = first.unwrap_or(value);
        }
        Ok(value)
    }

    /// Queries wait until they see all that this tour has written.
    fn options(&self) -> QueryOptions {
        QueryOptions { tokens: self.tokens.clone(), ..QueryOptions::default() }
    }

    fn wire_tokens(&self) -> Vec<v1::Token> {
        self.tokens.iter().map(|token| v1::Token { shard: token.shard.0, index: token.index.0 }).collect()
    }
}

/// The last one asks for the newest hour alone: segments of the others are not read.
fn generated_queries(topic: &str, end_ns: i64) -> Vec<String> {
    let since = format_time_ns(end_ns - BUCKET_NS);
    vec![
        format!(
            "SELECT service, count(*) AS errors, avg(latency_ms) AS avg_ms FROM {topic} WHERE level = 'error' GROUP BY service ORDER BY errors DESC LIMIT 5"
        ),
        format!(
            "SELECT date_trunc('hour', _time) AS hour, count(*) AS events, sum(price_usd) AS revenue FROM {topic} GROUP BY hour ORDER BY hour"
        ),
        format!(
            "SELECT ad.slot, country, count(*) AS clicks, avg(price_usd) AS avg_price FROM {topic} WHERE kind = 'click' AND _time >= '{since}' GROUP BY ad.slot, country ORDER BY clicks DESC LIMIT 5"
        ),
    ]
}

async fn collect(
    mut acked: mpsc::Receiver<(Delivery, bytes::Bytes)>,
    progress: indicatif::ProgressBar,
) -> Result<(Tally, Latencies), Failure> {
    let mut written = Tally::default();
    let mut latencies = Latencies::default();
    while let Some((delivery, value)) = acked.recv().await {
        let ack = delivery.await.map_err(not_written)?;
        written.add(ack.partition.0, ack.offset.0, &value);
        latencies.add(ack.latency);
        progress.inc(1);
    }
    progress.finish_and_clear();
    Ok((written, latencies))
}

fn not_written(error: stratalog_client::SendError) -> Failure {
    Failure::Refused(format!("a record was not written: {error}"))
}

/// A hit without its empty columns, in at most 160 characters.
fn one_line(hit: &Value) -> String {
    let fields = hit.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let text = Value::Object(fields.map(|(key, value)| (key.clone(), value.clone())).collect()).to_string();
    match text.char_indices().nth(160) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_sees_a_moved_or_changed_record_but_no_order() {
        let tally = |records: &[(u32, u64, &[u8])]| {
            let mut tally = Tally::default();
            records.iter().for_each(|(partition, offset, value)| tally.add(*partition, *offset, value));
            tally
        };
        let right = tally(&[(0, 0, b"a"), (1, 0, b"b")]);
        assert_eq!(right, tally(&[(1, 0, b"b"), (0, 0, b"a")]));
        assert_ne!(right, tally(&[(0, 0, b"b"), (1, 0, b"a")]));
        assert_ne!(right, tally(&[(0, 1, b"a"), (1, 0, b"b")]));
    }
}

//! Producing, and consuming from partitions.

use std::error::Error;
use std::io::BufRead;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Message, Offset, TopicPartitionList};
use serde_json::{Value, json};

use crate::{Args, Outcome, decode, tell, tell_message};

const PATIENCE: Duration = Duration::from_secs(30);

struct Record {
    partition: i32,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: OwnedHeaders,
}

fn parse(line: &str) -> Result<Record, Box<dyn Error>> {
    let record: Value = serde_json::from_str(line)?;
    let mut headers = OwnedHeaders::new();
    for header in record["headers"].as_array().ok_or("headers are a list")? {
        let value = decode(&header[1])?;
        headers = headers.insert(Header { key: header[0].as_str().ok_or("a header has a name")?, value: value.as_deref() });
    }
    let number = |name: &str| record[name].as_i64().ok_or_else(|| format!("{name} is a number"));
    Ok(Record {
        partition: i32::try_from(number("partition")?)?,
        timestamp: number("timestamp")?,
        key: decode(&record["key"])?,
        value: decode(&record["value"])?,
        headers,
    })
}

pub async fn produce(args: &Args) -> Outcome {
    let mut config = args.config()?;
    config.set("compression.type", args.text("codec")?).set("enable.idempotence", args.text("idempotent")?);
    config.set("linger.ms", "50").set("message.timeout.ms", args.timeout().as_millis().to_string());
    let producer: FutureProducer = config.create()?;
    let records: Vec<Record> = std::io::stdin().lock().lines().map(|line| parse(&line?)).collect::<Result<_, _>>()?;
    let mut sent = Vec::new();
    for record in &records {
        let mut it = FutureRecord::to(args.text("topic")?).partition(record.partition).timestamp(record.timestamp);
        it.headers = Some(record.headers.clone());
        it.key = record.key.as_deref();
        it.payload = record.value.as_deref();
        sent.push(producer.send_result(it).map_err(|(error, _)| error)?);
    }
    for delivery in sent {
        let delivery = delivery.await?.map_err(|(error, _)| error)?;
        tell(&json!({"partition": delivery.partition, "offset": delivery.offset}));
    }
    Ok(())
}

fn consumer(args: &Args) -> Result<BaseConsumer, Box<dyn Error>> {
    let mut config = args.config()?;
    config.set("group.id", "none").set("enable.auto.commit", "false").set("auto.offset.reset", "error");
    Ok(config.create()?)
}

pub fn consume(args: &Args) -> Outcome {
    let consumer = consumer(args)?;
    let topic = args.text("topic")?;
    let from = args.text("from")?;
    let mut starts = TopicPartitionList::new();
    for partition in args.numbers("partitions")? {
        let start = match from.strip_prefix("time:") {
            Some(ms) => at_time(&consumer, topic, partition as i32, ms.parse()?)?.map_or(Offset::End, Offset::Offset),
            None if from == "beginning" => Offset::Beginning,
            None => Offset::Offset(from.parse()?),
        };
        starts.add_partition_offset(topic, partition as i32, start)?;
    }
    consumer.assign(&starts)?;
    let until = Instant::now() + args.timeout();
    let mut left = args.number("count")?;
    let mut seek = args.get("seek");
    while left > 0 {
        if Instant::now() > until {
            return Err(format!("{left} records are missing").into());
        }
        let Some(message) = consumer.poll(Duration::from_millis(200)) else { continue };
        let message = match message {
            Ok(message) => message,
            Err(error) => {
                // librdkafka recovers, or records stay away.
                eprintln!("consuming goes on after {error}");
                continue;
            }
        };
        if let Some(to) = seek.take() {
            consumer.seek(topic, message.partition(), Offset::Offset(to.parse()?), PATIENCE)?;
            continue;
        }
        tell_message(&message, None);
        left -= 1;
    }
    Ok(())
}

/// The first offset that is not before a time; `None` if there is none.
fn at_time(consumer: &BaseConsumer, topic: &str, partition: i32, ms: i64) -> Result<Option<i64>, Box<dyn Error>> {
    let mut asked = TopicPartitionList::new();
    asked.add_partition_offset(topic, partition, Offset::Offset(ms))?;
    let found = consumer.offsets_for_times(asked, PATIENCE)?;
    let found = found.find_partition(topic, partition).ok_or("the partition is not answered")?;
    found.error()?;
    Ok(match found.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    })
}

pub fn offsets(args: &Args) -> Outcome {
    let consumer = consumer(args)?;
    let topic = args.text("topic")?;
    for partition in args.numbers("partitions")? {
        let partition = partition as i32;
        let (beginning, end) = consumer.fetch_watermarks(topic, partition, PATIENCE)?;
        let times = args.numbers("times")?.into_iter();
        let at = times.map(|ms| at_time(&consumer, topic, partition, ms)).collect::<Result<Vec<_>, _>>()?;
        tell(&json!({"partition": partition, "beginning": beginning, "end": end, "at": at}));
    }
    Ok(())
}

//! Aggregations over rows of three nodes, against the same rows on one: few rows, where what a part costs counts, and many.

use std::ops::Range;
use std::time::{Duration, Instant};

use stratalog_bench_log::{Failure, Goal, Report};
use stratalog_client::{Client, OutRecord, ProducerOptions, QueryOptions};

use crate::cluster::{Cluster, Site};
use crate::load::ms;

const TOPIC: &str = "rows";
const PARTITIONS: u32 = 12;
const SHARDS: u32 = 12;
const FEW: u64 = 1_000_000;
const MANY: u64 = 10_000_000;
const RUNS: usize = 9;
const QUERIES: [(&str, &str); 3] = [
    ("group by 100 keys", "SELECT k, count(*), sum(v), max(v) FROM rows GROUP BY k"),
    ("filter and group", "SELECT k, avg(v) FROM rows WHERE v > 900 GROUP BY k"),
    ("top 10", "SELECT v, k FROM rows ORDER BY v DESC LIMIT 10"),
];

pub(crate) async fn run(site: &Site) -> Result<(), Failure> {
    let report = Report::new("query");
    let one = measure(site, 1).await?;
    let three = measure(site, 3).await?;
    for ((rows, name, one), (_, _, three)) in one.into_iter().zip(three) {
        let name = format!("{name} of {}M rows", rows / 1_000_000);
        report.figure(&format!("{name}, 1 node"), ms(one), "ms");
        report.figure(&format!("{name}, 3 nodes"), ms(three), "ms");
        let (name, times) = (format!("{name}, 3 nodes of 1"), three.as_secs_f64() / one.as_secs_f64());
        match rows {
            MANY => report.goal(&name, times, "times", Goal::AtMost(1.0)),
            _ => report.figure(&name, times, "times"),
        }
    }
    Ok(())
}

/// The median time of each query, of few rows and then of many.
async fn measure(site: &Site, nodes: usize) -> Result<Vec<(u64, &'static str, Duration)>, Failure> {
    let cluster = Cluster::start(site, nodes, SHARDS).await?;
    let client = cluster.client().await?;
    client.create_topic(TOPIC, PARTITIONS, &[]).await?;
    let (mut random, mut written, mut medians) = (fastrand::Rng::with_seed(1), 0, Vec::new());
    for rows in [FEW, MANY] {
        let options = write(&client, written..rows, &mut random).await?;
        written = rows;
        client.seal_topic(TOPIC).await?;
        for (name, sql) in QUERIES {
            let mut times = Vec::new();
            for _ in 0..RUNS {
                times.push(ask(&client, sql, &options).await?);
            }
            times.sort_unstable();
            medians.push((rows, name, times[RUNS / 2]));
        }
    }
    Ok(medians)
}

/// Produces rows; what shows all of them to a query.
async fn write(client: &Client, rows: Range<u64>, random: &mut fastrand::Rng) -> Result<QueryOptions, Failure> {
    let producer = client.producer(TOPIC, ProducerOptions::default()).await?;
    for number in rows {
        let value = format!("{{\"k\":\"key{}\",\"v\":{},\"n\":{number}}}", random.u32(..100), random.u32(..1_000));
        drop(producer.send(OutRecord::new(value)).await?);
    }
    producer.flush().await?;
    let options = QueryOptions { tokens: producer.tokens(), ..QueryOptions::default() };
    producer.close().await?;
    Ok(options)
}

async fn ask(client: &Client, sql: &str, options: &QueryOptions) -> Result<Duration, Failure> {
    let started = Instant::now();
    client.sql(sql, options).await?.collect().await?;
    Ok(started.elapsed())
}

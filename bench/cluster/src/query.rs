//! An aggregation over rows of three nodes, against the same rows on one.

use std::time::{Duration, Instant};

use stratalog_bench_log::{Failure, Goal, Report};
use stratalog_client::{Client, OutRecord, ProducerOptions, QueryOptions};

use crate::cluster::{Cluster, Site};
use crate::load::ms;

const TOPIC: &str = "rows";
const PARTITIONS: u32 = 12;
const SHARDS: u32 = 12;
const ROWS: u64 = 1_000_000;
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
    for ((name, _), (one, three)) in QUERIES.iter().zip(one.into_iter().zip(three)) {
        report.figure(&format!("{name}, 1 node"), ms(one), "ms");
        report.figure(&format!("{name}, 3 nodes"), ms(three), "ms");
        let times = three.as_secs_f64() / one.as_secs_f64();
        report.goal(&format!("{name}, 3 nodes of 1"), times, "times", Goal::AtMost(1.0));
    }
    Ok(())
}

/// The median time of each query.
async fn measure(site: &Site, nodes: usize) -> Result<Vec<Duration>, Failure> {
    let cluster = Cluster::start(site, nodes, SHARDS).await?;
    let client = cluster.client().await?;
    client.create_topic(TOPIC, PARTITIONS, &[]).await?;
    let producer = client.producer(TOPIC, ProducerOptions::default()).await?;
    let mut random = fastrand::Rng::with_seed(1);
    for number in 0..ROWS {
        let value = format!("{{\"k\":\"key{}\",\"v\":{},\"n\":{number}}}", random.u32(..100), random.u32(..1_000));
        drop(producer.send(OutRecord::new(value)).await?);
    }
    producer.flush().await?;
    let options = QueryOptions { tokens: producer.tokens(), ..QueryOptions::default() };
    producer.close().await?;
    client.seal_topic(TOPIC).await?;
    let mut medians = Vec::new();
    for (_, sql) in QUERIES {
        let mut times = Vec::new();
        for _ in 0..RUNS {
            times.push(ask(&client, sql, &options).await?);
        }
        times.sort_unstable();
        medians.push(times[RUNS / 2]);
    }
    Ok(medians)
}

async fn ask(client: &Client, sql: &str, options: &QueryOptions) -> Result<Duration, Failure> {
    let started = Instant::now();
    client.sql(sql, options).await?.collect().await?;
    Ok(started.elapsed())
}

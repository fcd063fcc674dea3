//! A leader that stood still and wakes up believes that it leads. What it is asked before it hears otherwise shows at least what
//! was acknowledged elsewhere meanwhile, or is an error.

use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures::future::join_all;
use stratalog_client::{Client, ClientError, ConsumerOptions, QueryOptions, Stop};
use stratalog_proto::Token;

use super::ledger::Ledger;
use super::nodes::Cluster;
use super::{alone, rounds};

const TOPIC: &str = "stale";
/// Questions of each kind that wait for the node when it wakes up.
const QUESTIONS: usize = 4;
/// Questions reach the process that stands still.
const ON_THE_WAY: Duration = Duration::from_millis(300);
/// Some are asked when it has been awake for so long.
const AWAKE_FOR: [Duration; 4] =
    [Duration::from_millis(0), Duration::from_millis(50), Duration::from_millis(300), Duration::from_secs(2)];

/// What was acknowledged before a question was asked.
#[derive(Clone, Debug)]
struct Known {
    records: usize,
    tokens: Vec<Token>,
}

#[test]
fn q1_a_leader_that_wakes_up_answers_nothing_old() {
    let _alone = alone();
    let cluster = Cluster::start(3);
    let ledger = Ledger::begin(&cluster, TOPIC, 2);
    for round in 0..rounds(2) {
        ledger.wait_for(&cluster, 300);
        let sleeper = cluster.leader_of(1 + (round % 4) as u32);
        let client = cluster.client_of(sleeper);
        // Its connection is there before it sleeps.
        cluster.runtime.block_on(client.describe_topic(TOPIC)).expect("the topic is there");
        cluster.halt(sleeper);
        ledger.wait_for_each(&cluster, 20);
        let known = || {
            let (records, tokens) = ledger.known();
            Known { records, tokens }
        };
        let (early, asked) = (known(), client.clone());
        let early = cluster.runtime.spawn(async move { ask_all(asked, early).await });
        std::thread::sleep(ON_THE_WAY);
        cluster.resume(sleeper);
        for awake in AWAKE_FOR {
            std::thread::sleep(awake);
            cluster.runtime.block_on(ask_all(client.clone(), known()));
        }
        cluster.runtime.block_on(early).expect("no answer was old");
        cluster.wait_whole();
    }
    ledger.check(&cluster);
}

/// Several questions of each kind at once.
async fn ask_all(client: Client, known: Known) {
    join_all((0..QUESTIONS).map(|_| async {
        tokio::join!(ask_with_tokens(&client, &known), ask_without(&client, &known), ask_the_log(&client, &known))
    }))
    .await;
}

async fn ask_with_tokens(client: &Client, known: &Known) {
    let options = QueryOptions { tokens: known.tokens.clone(), ..QueryOptions::default() };
    if let Ok((records, _)) = counted(client, &options).await {
        assert!(records >= known.records, "Q1: {records} rows with the tokens of {known:?}");
    }
}

/// Rows that are applied may take a moment to show, which the answer says. Those that are not applied would be missing
/// without a word.
async fn ask_without(client: &Client, known: &Known) {
    let Ok((_, fences)) = counted(client, &QueryOptions::default()).await else { return };
    for token in &known.tokens {
        let applied = fences.iter().find(|(shard, _)| *shard == token.shard.0).map(|(_, applied)| *applied);
        assert!(applied >= Some(token.index.0), "Q1: shard {} was at {applied:?}, {known:?}", token.shard);
    }
}

async fn ask_the_log(client: &Client, known: &Known) {
    let options = ConsumerOptions { stop: Stop::AtEnd, ..ConsumerOptions::default() };
    let Ok(mut consumer) = client.consumer(TOPIC, options).await else { return };
    let mut records = 0;
    loop {
        match consumer.next().await {
            Ok(Some(more)) => records += more.len(),
            Ok(None) => break,
            Err(_) => return,
        }
    }
    assert!(records >= known.records, "{records} records up to the end, {known:?}");
}

/// The rows that a query counts, and what was applied in each shard when it was asked: visible or not.
async fn counted(client: &Client, options: &QueryOptions) -> Result<(usize, Vec<(u32, u64)>), ClientError> {
    let answer = client.sql(&format!("SELECT count(*) FROM {TOPIC}"), options).await?;
    let (_, batches, stats) = answer.collect().await?;
    let count = batches[0].column(0).as_primitive::<Int64Type>().value(0);
    let fences = stats.fences.iter().map(|fence| (fence.shard, fence.index + fence.lag));
    Ok((count as usize, fences.collect()))
}

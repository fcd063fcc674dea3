//! What a producer without idempotence sends ahead, and in which order it gets into the log.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::{ApiKey, FetchResponse, ProduceResponse};
use stratalog_broker::BrokerOptions;
use stratalog_proto::batch::Compression;
use uuid::Uuid;

use super::client::Client;
use super::log::{batch, fetch, produce, values};
use super::three::Three;

/// Sent at once, and a moment later.
const FIRST: usize = 100;
const ALL: usize = 120;
const NOT_ENOUGH_REPLICAS: i16 = 19;
/// As long as clients wait before they send again.
const BACKOFF: Duration = Duration::from_millis(100);

/// A node that soon has no room for a batch, and does not wait until it has.
fn hasty(options: &mut BrokerOptions) {
    options.produce_buffer_bytes = 64 << 10;
    options.produce_wait = Duration::from_millis(1);
}

fn numbered(number: usize) -> Bytes {
    batch(&[&format!(r#"{{"n":{number},"x":"{}"}}"#, "x".repeat(16 << 10))], Compression::None)
}

async fn send(client: &mut Client, numbers: &[usize]) {
    for number in numbers {
        client.send(ApiKey::Produce, 9, &produce("events", -1, &[(0, numbered(*number))])).await;
    }
}

/// The errors of the last so many batches, in their order.
async fn hear(client: &mut Client, count: usize) -> Vec<i16> {
    let mut told = Vec::new();
    for back in (0..count as i32).rev() {
        let answer: ProduceResponse = client.receive(ApiKey::Produce, 9, back).await;
        told.push(answer.responses[0].partition_responses[0].error_code);
    }
    told
}

/// The numbers of what is refused: all from the first of them on.
fn refused(sent: &[usize], told: &[i16]) -> Vec<usize> {
    let taken = told.iter().take_while(|error| **error == 0).count();
    assert!(told[taken..].iter().all(|error| *error == NOT_ENOUGH_REPLICAS), "nothing overtakes: {told:?}");
    sent[taken..].to_vec()
}

async fn read(client: &mut Client) -> Vec<usize> {
    let mut numbers = Vec::new();
    while numbers.len() < ALL {
        let request = fetch(11, "events", Uuid::nil(), &[(0, numbers.len() as i64)]);
        let told: FetchResponse = client.ask(ApiKey::Fetch, 11, &request).await;
        let records = told.responses[0].partitions[0].records.clone().expect("there are more");
        let number = |(_, value): (i64, String)| {
            value.strip_prefix(r#"{"n":"#).unwrap().split(',').next().unwrap().parse::<usize>().unwrap()
        };
        numbers.extend(values(&records).into_iter().map(number));
    }
    numbers
}

/// A client at a place counts from the leader.
async fn keeps_the_order(place: usize, is_hasty: impl Fn(usize) -> bool, leads: usize) {
    let three = Three::start_with(|place, options| {
        if is_hasty(place) {
            hasty(options)
        }
    })
    .await;
    three.transfer(leads).await;
    assert_eq!(three.lead().await.0, leads);
    let mut client = three.client(place).await;
    // No answer is told before that of this one, which waits for more than there will be, until all is sent on a busy machine, too.
    let waits = fetch(11, "events", Uuid::nil(), &[(0, 0)]).with_max_wait_ms(8_000).with_min_bytes(40 << 20);
    client.send(ApiKey::Fetch, 11, &waits).await;
    let mut left: Vec<usize> = (0..ALL).collect();
    send(&mut client, &left[..FIRST]).await;
    // By then there is room again.
    tokio::time::sleep(Duration::from_millis(700)).await;
    send(&mut client, &left[FIRST..]).await;
    let _: FetchResponse = client.receive(ApiKey::Fetch, 11, ALL as i32).await;
    let told = hear(&mut client, ALL).await;
    left = refused(&left, &told);
    assert!(left.len() > ALL - FIRST, "some of the first found no room, and none behind them was taken: {told:?}");
    let until = Instant::now() + Duration::from_secs(60);
    while !left.is_empty() {
        assert!(Instant::now() < until, "{left:?}");
        tokio::time::sleep(BACKOFF).await;
        send(&mut client, &left).await;
        let told = hear(&mut client, left.len()).await;
        left = refused(&left, &told);
    }
    assert_eq!(read(&mut client).await, (0..ALL).collect::<Vec<_>>());
    three.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_behind_a_batch_that_the_leader_refused_is_refused_too() {
    keeps_the_order(0, |_| true, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_behind_a_batch_that_another_node_refused_is_refused_too() {
    keeps_the_order(1, |place| place == 1, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_passed_on_behind_a_batch_that_the_leader_refused_is_refused_too() {
    keeps_the_order(1, |place| place == 0, 0).await;
}

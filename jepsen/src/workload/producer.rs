//! Producers: a record after the other, each with a value of its own, at an even rate.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use stratalog_client::{Client, Compression, Delivery, Producer, ProducerOptions, SendError};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::Shared;
use super::record::record;
use crate::failure::Failure;
use crate::history::{Line, Micros, Outcome, Process, SendOp, When};

/// A record may take as long as most faults last; what takes longer is unknown.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);
/// One that may only go to a node that may be cut off is given up sooner.
const PINNED_DEADLINE: Duration = Duration::from_secs(4);
const PINNED_A_SECOND: u32 = 5;
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// A record on its way.
struct Flight {
    invoked: Micros,
    partition: u32,
    value: u64,
    delivery: Delivery,
}

pub(super) async fn run(shared: Arc<Shared>, process: Process, client: Client) {
    let pinned = process.node.is_some();
    let rate = if pinned { PINNED_A_SECOND } else { shared.load.records_a_second };
    let Some(producer) = producer(&shared, &client, pinned).await else { return };
    let (flights, landing) = mpsc::unbounded_channel();
    let noting = tokio::spawn(note(Arc::clone(&shared), process.process, landing));
    let mut random = shared.random(process.process);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !shared.is_over() {
        ticks.tick().await;
        let partition = random.u32(..shared.load.partitions);
        let value = shared.next_value();
        let invoked = shared.history.now();
        match producer.send(record(value, partition, shared.load.padding)).await {
            Ok(delivery) => {
                // The other side is held until this one is dropped.
                let _ = flights.send(Flight { invoked, partition, value, delivery });
            }
            Err(error) => noted(&shared, process.process, (invoked, partition, value), Err(error)),
        }
    }
    drop(flights);
    // What is not acknowledged by its deadline is noted as unknown.
    let _ = noting.await;
}

/// Nodes may be down when it begins.
async fn producer(shared: &Shared, client: &Client, pinned: bool) -> Option<Producer> {
    let deadline = if pinned { PINNED_DEADLINE } else { DEADLINE };
    let (linger, compression) = (Duration::from_millis(2), Compression::None);
    let options = ProducerOptions { deadline, linger, compression, ..ProducerOptions::default() };
    while !shared.is_over() {
        match client.producer(&shared.load.topic, options.clone()).await {
            Ok(producer) => return Some(producer),
            Err(_) => shared.sleep(TRY_AGAIN).await,
        }
    }
    None
}

/// Each outcome when it comes: one that takes long holds up no other.
async fn note(shared: Arc<Shared>, process: u32, mut landing: mpsc::UnboundedReceiver<Flight>) {
    let mut open = FuturesUnordered::new();
    let mut more = true;
    while more || !open.is_empty() {
        tokio::select! {
            flight = landing.recv(), if more => match flight {
                Some(Flight { invoked, partition, value, delivery }) => {
                    open.push(async move { ((invoked, partition, value), delivery.await) });
                }
                None => more = false,
            },
            Some((send, outcome)) = open.next(), if !open.is_empty() => noted(&shared, process, send, outcome),
        }
    }
}

fn noted(shared: &Shared, process: u32, send: (Micros, u32, u64), outcome: Result<stratalog_client::Ack, SendError>) {
    let (invoked, partition, value) = send;
    let at = When(invoked, shared.history.now());
    let ack = outcome.as_ref().ok().copied();
    let outcome = match outcome {
        Ok(ack) => Outcome::Ok(ack.offset.0),
        Err(SendError::Failed { code, message }) => Outcome::Fail(format!("{code}: {message}")),
        Err(SendError::Unknown { message }) => Outcome::Info(message),
    };
    shared.note(&Line::Send(SendOp { process, at, partition, value, outcome, placeless: false }));
    // Only now does anybody expect to see it.
    if let Some(ack) = ack {
        shared.known.lock().acked(value, &ack);
    }
}

/// Sends one record to each partition and waits for them all: they come behind everything that was sent before.
///
/// # Errors
/// If one of them is not acknowledged by a cluster that is whole.
pub(super) async fn send_last(shared: &Shared, process: u32, client: &Client) -> Result<(), Failure> {
    let options = ProducerOptions { deadline: DEADLINE, ..ProducerOptions::default() };
    let producer = client.producer(&shared.load.topic, options).await?;
    for partition in 0..shared.load.partitions {
        let (value, invoked) = (shared.next_value(), shared.history.now());
        let outcome = match producer.send(record(value, partition, shared.load.padding)).await {
            Ok(delivery) => delivery.await,
            Err(error) => Err(error),
        };
        let refused = outcome.as_ref().err().map(ToString::to_string);
        noted(shared, process, (invoked, partition, value), outcome);
        if let Some(why) = refused {
            return Err(Failure(format!("the last record of partition {partition} was not acknowledged: {why}")));
        }
    }
    Ok(())
}

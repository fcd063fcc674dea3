//! Finding the first of several addresses at which a node answers.
//!
//! A process that hangs, or was stopped, still has its connections accepted by the system: only an answer shows that
//! somebody is there.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, header};
use tonic::transport::{Channel, Endpoint};

use crate::error::root_cause;

/// How long an address may take before the next one is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);
/// How long it may take in all.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// What a node is asked to see that it answers: gRPC's usual question. Any answer will do, "no such method" as well.
const QUESTION: &str = "/grpc.health.v1.Health/Check";

/// An address as in `http://127.0.0.1:7070`, and how to connect to it.
pub(crate) type Address = (String, Endpoint);

/// The first node that answers, by its place, and the connection to it. Each address is tried once those before it have
/// failed or had their head start; what is still being tried then is given up.
///
/// # Errors
/// Why each of them does not answer, in their order.
pub(crate) async fn first_to_answer(addresses: &[Address]) -> Result<(usize, Channel), Vec<String>> {
    if let [(address, endpoint)] = addresses {
        // There is nobody else to ask: the first call shows whether it answers.
        let connected = endpoint.connect().await;
        return connected.map(|channel| (0, channel)).map_err(|error| vec![told(address, &error)]);
    }
    let (mut tries, mut failures) = (FuturesUnordered::new(), BTreeMap::new());
    let mut untried = addresses.iter().enumerate();
    loop {
        match untried.next() {
            Some((at, address)) => tries.push(async move { (at, answering(address).await) }),
            None if tries.is_empty() => return Err(failures.into_values().collect()),
            None => {}
        }
        let tried = match untried.len() {
            0 => tries.next().await,
            _ => timeout(HEAD_START, tries.next()).await.unwrap_or(None),
        };
        match tried {
            Some((at, Ok(channel))) => return Ok((at, channel)),
            Some((at, Err(why))) => drop(failures.insert(at, why)),
            None => {}
        }
    }
}

/// A connection to a node that answers.
async fn answering((address, endpoint): &Address) -> Result<Channel, String> {
    let asked = async {
        let mut channel = endpoint.connect().await?;
        let question = Request::post(QUESTION).header(header::CONTENT_TYPE, "application/grpc");
        let question = question.body(Body::empty()).expect("a request without anything unusual");
        poll_fn(|context| channel.poll_ready(context)).await?;
        channel.call(question).await?;
        Ok(channel)
    };
    match timeout(ANSWER_WITHIN, asked).await {
        Ok(asked) => asked.map_err(|error: tonic::transport::Error| told(address, &error)),
        Err(_) => Err(format!("{address}: it takes connections and does not answer")),
    }
}

fn told(address: &str, error: &tonic::transport::Error) -> String {
    format!("{address}: {}", root_cause(error).unwrap_or_else(|| error.to_string()))
}

//! Trying again, and elsewhere.

use std::time::{Duration, Instant};

use stratalog_proto::Code;

use crate::error::is_certainly_not_done;
use crate::nodes::Node;
use crate::{Client, ClientError};

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(1);
/// Attempts with one node, before its failure is the caller's.
const ATTEMPTS: u32 = 4;
/// How long several nodes are asked in turn: a new leader is found in a fraction of it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one of several nodes may take to answer what is only read.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A call of one method of a service, by [`reading`] or [`changing`], of whichever node can answer.
macro_rules! ask {
    ($how:ident, $client:expr, $service:ident.$method:ident($request:expr)) => {{
        let request = $request;
        let call = |node: $crate::nodes::Node| {
            let request = request.clone();
            async move { node.$service().$method(request).await }
        };
        $crate::retry::$how($client, call).await
    }};
}

pub(crate) use ask;

/// How long to wait after so many failures in a row: doubles from 20 ms to a second.
pub(crate) fn backoff(failures: u32) -> Duration {
    FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST)
}

/// Whether another node, or the same one later, may answer what this one did not.
pub(crate) fn is_of_the_node(error: &ClientError) -> bool {
    matches!(error.code(), Code::Unavailable | Code::NotLeader | Code::NotFormed)
}

/// Failures of one call, and what follows from them.
#[derive(Debug)]
pub(crate) struct Attempts {
    nodes: u32,
    failures: u32,
    first: Option<Instant>,
}

impl Attempts {
    /// None yet.
    pub(crate) fn new(client: &Client) -> Self {
        Self { nodes: client.node_count() as u32, failures: 0, first: None }
    }

    /// Turns away from the node that failed, and waits for the next attempt.
    ///
    /// # Errors
    /// The failure itself, if there is to be no other attempt.
    pub(crate) async fn again(&mut self, client: &Client, node: &Node, error: ClientError) -> Result<(), ClientError> {
        let wait = self.wait(error.code(), Instant::now());
        client.leave(node);
        let Some(wait) = wait else { return Err(error) };
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// How long to wait; `None`: that was the last attempt.
    fn wait(&mut self, failure: Code, now: Instant) -> Option<Duration> {
        self.failures += 1;
        let since = *self.first.get_or_insert(now);
        let go_on = match failure {
            // It is not formed by asking: one that is may be among the others.
            Code::NotFormed => self.failures < self.nodes,
            _ if self.nodes == 1 => self.failures < ATTEMPTS,
            _ => now.duration_since(since) < PATIENCE,
        };
        // The nodes that were not asked yet are not made to wait for.
        go_on.then(|| backoff(self.failures.div_ceil(self.nodes)))
    }
}

/// Runs a call that changes nothing, again where no node answered.
///
/// # Errors
/// The last failure.
pub(crate) async fn reading<T, F>(client: &Client, call: impl Fn(Node) -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
{
    let mut attempts = Attempts::new(client);
    loop {
        let node = client.node();
        let error = match answer_in_time(client, &node, call(node.clone())).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if !is_of_the_node(&error) {
            return Err(error);
        }
        attempts.again(client, &node, error).await?;
    }
}

async fn answer_in_time<T>(
    client: &Client,
    node: &Node,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, ClientError> {
    if client.node_count() == 1 {
        return Ok(call.await?.into_inner());
    }
    let late = |_| {
        let message = format!("{} did not answer in {ANSWER_WITHIN:?}", node.address());
        ClientError::new(Code::Unavailable, message)
    };
    Ok(tokio::time::timeout(ANSWER_WITHIN, call).await.map_err(late)??.into_inner())
}

/// Runs a call that changes something: again only where the failed one certainly did nothing.
///
/// # Errors
/// The last failure.
pub(crate) async fn changing<T, F>(client: &Client, call: impl Fn(Node) -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
{
    let mut attempts = Attempts::new(client);
    loop {
        let node = client.node();
        let status = match call(node.clone()).await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) => status,
        };
        let not_done = is_certainly_not_done(&status);
        let error = ClientError::from(status);
        if !not_done {
            if is_of_the_node(&error) {
                client.leave(&node);
            }
            return Err(error);
        }
        attempts.again(client, &node, error).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempts(nodes: u32) -> Attempts {
        Attempts { nodes, failures: 0, first: None }
    }

    #[test]
    fn backoff_doubles_up_to_a_second() {
        assert_eq!(backoff(1), FIRST);
        assert_eq!(backoff(2), 2 * FIRST);
        assert_eq!(backoff(u32::MAX), LONGEST);
    }

    #[test]
    fn one_node_is_asked_a_few_times() {
        let (mut attempts, now) = (attempts(1), Instant::now());
        let waits = [(); 4].map(|()| attempts.wait(Code::Unavailable, now));
        assert_eq!(waits, [Some(FIRST), Some(2 * FIRST), Some(4 * FIRST), None]);
    }

    #[test]
    fn several_nodes_are_asked_in_turn_until_patience_ends() {
        let (mut attempts, now) = (attempts(3), Instant::now());
        let waits = [(); 4].map(|()| attempts.wait(Code::Unavailable, now));
        assert_eq!(waits, [Some(FIRST), Some(FIRST), Some(FIRST), Some(2 * FIRST)]);
        assert!(attempts.wait(Code::NotLeader, now + PATIENCE / 2).is_some());
        assert_eq!(attempts.wait(Code::NotLeader, now + PATIENCE), None);
    }

    #[test]
    fn nobody_waits_for_a_cluster_that_is_not_formed() {
        let now = Instant::now();
        assert_eq!(attempts(1).wait(Code::NotFormed, now), None);
        let mut attempts = attempts(3);
        let waits = [(); 3].map(|()| attempts.wait(Code::NotFormed, now).is_some());
        assert_eq!(waits, [true, true, false]);
    }
}

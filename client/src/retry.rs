//! Trying again.

use std::time::Duration;

use stratalog_proto::Code;

use crate::ClientError;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(1);
/// Attempts of a call that changes nothing, before its failure is the caller's.
const READ_ATTEMPTS: u32 = 4;

/// How long to wait after so many failures in a row: doubles from 20 ms to a second.
pub(crate) fn backoff(failures: u32) -> Duration {
    FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST)
}

/// Runs a call that changes nothing, a few times if no node was reached.
pub(crate) async fn reading<T, F>(mut call: impl FnMut() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
{
    let mut failures = 0;
    loop {
        let error = match call().await {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) => ClientError::from(status),
        };
        failures += 1;
        if failures == READ_ATTEMPTS || !matches!(error.code(), Code::Unavailable | Code::NotLeader) {
            return Err(error);
        }
        tokio::time::sleep(backoff(failures)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_a_second() {
        assert_eq!(backoff(1), FIRST);
        assert_eq!(backoff(2), 2 * FIRST);
        assert_eq!(backoff(u32::MAX), LONGEST);
    }
}

//! Whether Kafka clients reach this node where they are sent to: they connect to any node, are told the addresses of all, and go on there.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PATIENCE: Duration = Duration::from_secs(5);
/// ApiVersions of version 0, as the third request of a client without a name.
const ASKED: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 3, 0xff, 0xff];
/// The number of the request and no error, behind the length.
const ANSWERED: [u8; 6] = [0, 0, 0, 3, 0, 0];

/// Says so if nobody answers there who speaks Kafka. Other networks see other things: what answers here may still not be reached
/// by clients. `key` is the setting that says where they are sent to.
pub(crate) async fn check_kafka(address: String, key: String) {
    if let Err(why) = answers(&address).await {
        tracing::warn!(
            "Kafka clients are sent to {address}, and from here {why}. Unless that is forwarded to this node where they are, as \
             the port of a container, they will connect and then hang: set {key} to an address at which they reach it"
        );
    }
}

/// # Errors
/// What is wrong there, behind "and from here".
async fn answers(address: &str) -> Result<(), String> {
    let asked = async {
        let mut socket = TcpStream::connect(address).await.map_err(|error| format!("it was not reached: {error}"))?;
        let mut answer = [0; 10];
        let answered = async {
            socket.write_all(&ASKED).await?;
            socket.read_exact(&mut answer).await
        };
        match answered.await {
            Ok(_) if answer[4..] != ANSWERED => Err("somebody speaks another protocol".to_owned()),
            // It was reached. A node that belongs to no cluster yet ends connections.
            Ok(_) | Err(_) => Ok(()),
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(format!("nobody answered within {PATIENCE:?}")))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// An address where one client is told this.
    async fn says(what: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket.read_exact(&mut [0; ASKED.len()]).await.unwrap();
            socket.write_all(what).await.unwrap();
        });
        address
    }

    #[tokio::test]
    async fn what_is_wrong_at_an_address_is_named() {
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
        let cases = [
            (nobody, "not reached"),
            ("no-such-host.invalid:9092".to_owned(), "not reached"),
            (says(b"HTTP/1.1 400 Bad Request\r\n").await, "another protocol"),
        ];
        for (address, word) in cases {
            let why = answers(&address).await.unwrap_err();
            assert!(why.contains(word), "{address}: {why}");
        }
        assert_eq!(answers(&says(&[0, 0, 0, 10, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0]).await).await, Ok(()));
        assert_eq!(answers(&says(b"").await).await, Ok(()), "a node that waits for its cluster");
    }
}

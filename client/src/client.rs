//! The connection.

use std::sync::Arc;
use std::time::Duration;

use stratalog_proto::Code;
use stratalog_proto::v1::log_client::LogClient;
use stratalog_proto::v1::query_client::QueryClient;
use stratalog_proto::v1::topics_client::TopicsClient;
use tonic::transport::{Channel, Endpoint};

use crate::ClientError;

/// The largest gRPC message sent or accepted: a fetch of several of the largest batches.
pub(crate) const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// How far a peer may run ahead of us on one stream, so that a fetch is not one round trip per 64 KiB.
const STREAM_WINDOW_BYTES: u32 = 8 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;
/// HTTP/2 frames that a node may send: each costs a buffer and a turn of the connection, so a fetch comes in a few.
const FRAME_BYTES: u32 = 256 << 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that went away without a word is noticed after at most the sum of these.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to a node. Clones share it; it is made again whenever it was lost.
///
/// ```no_run
/// # async fn example() -> Result<(), stratalog_client::ClientError> {
/// let client = stratalog_client::Client::connect("http://127.0.0.1:7070").await?;
/// for topic in client.topics().await? {
///     println!("{}: {} partitions", topic.name, topic.partitions);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    endpoint: Arc<str>,
    channel: Channel,
}

impl Client {
    /// Connects to `endpoint`, as in `http://127.0.0.1:7070`; the scheme may be left out.
    ///
    /// # Errors
    /// [`Code::InvalidRequest`] if it is no address; [`Code::Unavailable`] if nothing answers there.
    pub async fn connect(endpoint: &str) -> Result<Self, ClientError> {
        let address = if endpoint.contains("://") { endpoint.to_owned() } else { format!("http://{endpoint}") };
        if !address.starts_with("http://") {
            let message = format!("cannot connect to {endpoint}: write it as http://HOST:PORT");
            return Err(ClientError::new(Code::InvalidRequest, message));
        }
        let parsed = Endpoint::from_shared(address.clone()).map_err(|error| {
            ClientError::new(
                Code::InvalidRequest,
                format!("`{endpoint}` is not an address such as 127.0.0.1:7070: {error}"),
            )
        })?;
        let connected = configured(parsed).connect().await.map_err(ClientError::from);
        let channel = connected.map_err(|error| {
            let message = format!(
                "cannot reach {address}: {}; is a node running there, and is this its gRPC port?",
                error.message()
            );
            ClientError::new(Code::Unavailable, message)
        })?;
        Ok(Self { endpoint: address.into(), channel })
    }

    /// The address that was connected to.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) fn topics_service(&self) -> TopicsClient<Channel> {
        TopicsClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(crate) fn log_service(&self) -> LogClient<Channel> {
        LogClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    pub(crate) fn query_service(&self) -> QueryClient<Channel> {
        QueryClient::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES)
    }
}

fn configured(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
}

//! A client that says one thing after the other.

use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) struct Client {
    pub(crate) socket: TcpStream,
    correlation: i32,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { socket: TcpStream::connect(address).await.unwrap(), correlation: 0 }
    }

    /// Sends a request without waiting for its answer.
    pub(crate) async fn send(&mut self, key: ApiKey, version: i16, request: &impl Encodable) {
        self.correlation += 1;
        let header = RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("tests")));
        let mut frame = BytesMut::new();
        header.encode(&mut frame, key.request_header_version(version)).unwrap();
        request.encode(&mut frame, version).unwrap();
        self.send_frame(&frame).await;
    }

    pub(crate) async fn send_frame(&mut self, frame: &[u8]) {
        self.socket.write_all(&(frame.len() as u32).to_be_bytes()).await.unwrap();
        self.socket.write_all(frame).await.unwrap();
    }

    /// The next answer, which has to be that to the request sent `back` requests ago.
    pub(crate) async fn receive<T: Decodable>(&mut self, key: ApiKey, version: i16, back: i32) -> T {
        let mut frame = self.receive_frame().await.expect("there is an answer");
        let header = ResponseHeader::decode(&mut frame, key.response_header_version(version)).unwrap();
        assert_eq!(header.correlation_id, self.correlation - back);
        let answer = T::decode(&mut frame, version).unwrap();
        assert_eq!(frame.remaining(), 0, "{key:?} of version {version} has nothing behind it");
        answer
    }

    /// `None` once the connection has ended.
    pub(crate) async fn receive_frame(&mut self) -> Option<Bytes> {
        let length = self.socket.read_u32().await.ok()?;
        let mut frame = vec![0; length as usize];
        self.socket.read_exact(&mut frame).await.ok()?;
        Some(frame.into())
    }

    pub(crate) async fn ask<T: Decodable>(&mut self, key: ApiKey, version: i16, request: &impl Encodable) -> T {
        self.send(key, version, request).await;
        self.receive(key, version, 0).await
    }
}

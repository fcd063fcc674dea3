//! Bytes that are no requests: of other protocols, with lengths that lie, nested without end, or a thousand times as long once they
//! are decompressed.

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where such records may go.
pub(super) const TOPIC: &str = "garbage";
/// A node that waits for the rest of a message ends that itself.
const ANSWERED_WITHIN: Duration = Duration::from_secs(15);
const BOMB_BYTES: usize = 256 << 20;
const NESTED: usize = 1 << 20;
/// A log takes whatever a record has. Its row tells what is wrong with it.
const NESTED_RECORD: &str = "a record of nested JSON";

/// What came of it.
pub(super) struct Sent {
    pub(super) messages: usize,
    /// Messages that were accepted, or not answered in time.
    pub(super) troubles: Vec<String>,
}

/// Sends everything to these ports, each message on a connection of its own.
pub(super) async fn send_all(ports: &[(&'static str, String)], random: &mut fastrand::Rng) -> Sent {
    let mut sent = Sent { messages: 0, troubles: Vec::new() };
    for (port, address) in ports {
        let mut messages = strangers(random);
        if *port == "http" {
            messages.extend(requests());
        }
        let asked = messages.into_iter().map(|(what, message)| async move { (what, answer(address, &message).await) });
        for (what, answer) in futures::future::join_all(asked).await {
            sent.messages += 1;
            let trouble = match answer {
                Err(why) => Some(why),
                Ok(answer) if what == NESTED_RECORD => answer.is_empty().then(|| "no answer".to_owned()),
                Ok(answer) => answer.starts_with("HTTP/1.1 2").then(|| format!("it was accepted: {answer}")),
            };
            sent.troubles.extend(trouble.map(|trouble| format!("{what} on {port}: {trouble}")));
        }
    }
    sent
}

/// The first line of the answer, which may be empty; the other side has ended the connection then, or answered.
async fn answer(address: &str, message: &[u8]) -> Result<String, String> {
    let asking = async {
        let mut stream = TcpStream::connect(address).await.map_err(|error| format!("nobody listens: {error}"))?;
        let (mut read, mut write) = stream.split();
        let mut answer = Vec::new();
        let mut some = [0; 1024];
        // Whoever refuses a message need not read all of it.
        let _ = write.write_all(message).await;
        while answer.len() < 4_096 && !answer.starts_with(b"HTTP/1.1") {
            match read.read(&mut some).await {
                Ok(0) | Err(_) => break,
                Ok(count) => answer.extend_from_slice(&some[..count]),
            }
        }
        Ok(String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned())
    };
    tokio::time::timeout(ANSWERED_WITHIN, asking).await.map_err(|_| "no answer, and no end".to_owned())?
}

/// What no port here speaks.
fn strangers(random: &mut fastrand::Rng) -> Vec<(&'static str, Vec<u8>)> {
    let noise: Vec<u8> = (0..64 << 10).map(|_| random.u8(..)).collect();
    let tls = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".iter().copied().chain(noise[..505].to_vec()).collect();
    let preface = |rest: &[u8]| [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", rest].concat();
    vec![
        ("TLS", tls),
        ("noise", noise),
        ("a length of 2^31 - 1", [&0x7fff_ffff_u32.to_be_bytes()[..], &[0; 64]].concat()),
        ("a length of -1", [&[0xff; 8][..], &[0; 64]].concat()),
        ("a little length of 2^31 - 1", [&0x7fff_ffff_u32.to_le_bytes()[..], &[0; 64]].concat()),
        ("zeroes", vec![0; 4_096]),
        ("an HTTP/2 frame of 16 MiB", preface(b"\xff\xff\xff\0\0\0\0\0\x01")),
        ("HTTP/2 headers without a stream", preface(b"\0\0\0\x04\0\0\0\0\0\0\0\x01\x01\x05\0\0\0\0\xff")),
        ("a method without end", vec![b'A'; 1 << 20]),
    ]
}

/// Requests of HTTP whose bodies are not what they say.
fn requests() -> Vec<(&'static str, Vec<u8>)> {
    let head =
        |path: &str, headers: &str| format!("POST {path} HTTP/1.1\r\nhost: stratalog\r\n{headers}\r\n").into_bytes();
    let records = format!("/v1/topics/{TOPIC}/records");
    let with_body = |path: &str, headers: &str, body: &[u8]| {
        let headers = format!("{headers}content-length: {}\r\n", body.len());
        [head(path, &headers), body.to_vec()].concat()
    };
    let nested = [vec![b'['; NESTED], vec![b']'; NESTED]].concat();
    let ndjson = "content-type: application/x-ndjson\r\n";
    vec![
        ("a body of 2^63 - 1 bytes", head(&records, "content-length: 9223372036854775807\r\n")),
        ("a body of -1 bytes", head(&records, "content-length: -1\r\n")),
        (
            "a chunk of 2^64 - 1 bytes",
            [head(&records, "transfer-encoding: chunked\r\n"), b"ffffffffffffffff\r\n".to_vec()].concat(),
        ),
        ("a gzip bomb", with_body(&records, &format!("{ndjson}content-encoding: gzip\r\n"), &bomb())),
        (NESTED_RECORD, with_body(&records, ndjson, &nested)),
        ("nested JSON", with_body("/v1/sql", "content-type: application/json\r\n", &nested)),
        ("a thousand headers", head(&records, &"x: y\r\n".repeat(1_000))),
        ("a path out of the directory", head("/v1/topics/..%2f..%2fetc/records", "content-length: 0\r\n")),
        ("a name with a line end", head("/v1/topics/a%0d%0ab/records", "content-length: 0\r\n")),
    ]
}

fn bomb() -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let zeroes = vec![b'0'; 1 << 20];
    (0..BOMB_BYTES >> 20).for_each(|_| encoder.write_all(&zeroes).expect("memory takes everything"));
    encoder.finish().expect("memory takes everything")
}

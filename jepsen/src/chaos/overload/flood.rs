//! Clients that produce over HTTP and have no manners: they ask as often as they like, and again at once when they are refused.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// The topic that is flooded.
pub(super) const TOPIC: &str = "flood";
/// Of one request, in records of a kilobyte.
const RECORDS: usize = 64;
const RECORD_BYTES: usize = 1_000;
/// As many ask at once, at first, to find out what the cluster takes; then twice as many, as long as so many times more is taken.
const FIRST_CLIENTS: usize = 32;
const WORTH_MORE: f64 = 1.1;
/// As many wait for answers at most: those beyond find no connection.
const OPEN: usize = 4_096;
const TICK: Duration = Duration::from_millis(5);
/// Longer than a node takes to refuse what it has no room for, or to give up what is on its way.
const ANSWERS_WITHIN: Duration = Duration::from_secs(45);
const MAX_HEAD_LINES: usize = 64;
const MAX_BODY_BYTES: usize = 1 << 20;
/// Answers that are told.
const EXAMPLES: usize = 5;

/// What came of requests.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Requests that were to be made, and those among them for which there was no connection.
    pub(super) wanted: AtomicU64,
    pub(super) held_back: AtomicU64,
    pub(super) accepted: AtomicU64,
    /// To be sent again later.
    pub(super) refused: AtomicU64,
    /// Accepted in part, or it is not known.
    pub(super) unknown: AtomicU64,
    pub(super) wrong: AtomicU64,
    /// Of the last kind.
    pub(super) examples: Mutex<Vec<String>>,
}

/// How one request ended.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Accepted,
    Refused,
    Unknown,
    Wrong(String),
}

pub(super) struct Flood {
    nodes: Vec<String>,
    request: Vec<u8>,
    idle: Mutex<VecDeque<BufReader<TcpStream>>>,
    next: AtomicUsize,
    open: AtomicUsize,
    pub(super) answers: Answers,
}

impl Flood {
    /// `nodes`: where HTTP is listened to.
    pub(super) fn new(nodes: Vec<String>) -> Arc<Self> {
        let line = format!("{{\"padding\":\"{}\"}}\n", "x".repeat(RECORD_BYTES));
        let body = line.repeat(RECORDS);
        let head = format!(
            "POST /v1/topics/{TOPIC}/records HTTP/1.1\r\nhost: stratalog\r\ncontent-type: application/x-ndjson\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        let (idle, next, open) = (Mutex::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self {
            nodes,
            request: [head, body].concat().into_bytes(),
            idle,
            next,
            open,
            answers: Answers::default(),
        })
    }

    /// Bytes of one request.
    pub(super) fn request_bytes(&self) -> usize {
        self.request.len()
    }

    /// How many requests the cluster accepts in a second, of as many clients as it takes to have it accept no more. Each waits for its
    /// answer, and so many of them ask for `time`.
    pub(super) async fn capacity(self: &Arc<Self>, time: Duration) -> f64 {
        let (mut clients, mut most) = (FIRST_CLIENTS, 0.0);
        while clients < OPEN {
            let taken = self.taken_of(clients, time).await;
            if taken < WORTH_MORE * most {
                return taken.max(most);
            }
            (clients, most) = (clients * 2, taken);
        }
        most
    }

    async fn taken_of(self: &Arc<Self>, count: usize, time: Duration) -> f64 {
        let (began, accepted) = (Instant::now(), self.answers.accepted.load(Ordering::SeqCst));
        let mut clients = JoinSet::new();
        for _ in 0..count {
            let flood = Arc::clone(self);
            clients.spawn(async move {
                while began.elapsed() < time {
                    flood.ask().await;
                }
            });
        }
        while clients.join_next().await.is_some() {}
        (self.answers.accepted.load(Ordering::SeqCst) - accepted) as f64 / began.elapsed().as_secs_f64()
    }

    /// Asks so many times a second, whatever comes of it, and waits for all answers in the end.
    pub(super) async fn pour(self: Arc<Self>, a_second: f64, time: Duration) {
        let (began, mut clients, mut wanted) = (Instant::now(), JoinSet::new(), 0_u64);
        while began.elapsed() < time {
            let due = (began.elapsed().as_secs_f64() * a_second) as u64;
            for _ in wanted..due {
                self.answers.wanted.fetch_add(1, Ordering::SeqCst);
                if self.open.load(Ordering::SeqCst) >= OPEN {
                    self.answers.held_back.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                self.open.fetch_add(1, Ordering::SeqCst);
                let flood = Arc::clone(&self);
                clients.spawn(async move {
                    flood.ask().await;
                    flood.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
            wanted = due.max(wanted);
            while clients.try_join_next().is_some() {}
            tokio::time::sleep(TICK).await;
        }
        while clients.join_next().await.is_some() {}
    }

    async fn ask(&self) {
        let answer = tokio::time::timeout(ANSWERS_WITHIN, self.try_ask()).await;
        let answers = &self.answers;
        let (count, wrong) = match answer {
            Ok(Ok(Answer::Accepted)) => (&answers.accepted, None),
            Ok(Ok(Answer::Refused)) => (&answers.refused, None),
            Ok(Ok(Answer::Unknown)) => (&answers.unknown, None),
            Ok(Ok(Answer::Wrong(told))) => (&answers.wrong, Some(told)),
            Ok(Err(error)) => (&answers.wrong, Some(error.to_string())),
            Err(_) => (&answers.wrong, Some(format!("no answer within {ANSWERS_WITHIN:?}"))),
        };
        count.fetch_add(1, Ordering::SeqCst);
        if let Some(told) = wrong {
            let mut examples = answers.examples.lock();
            if examples.len() < EXAMPLES {
                examples.push(told);
            }
        }
    }

    async fn try_ask(&self) -> std::io::Result<Answer> {
        let idle = self.idle.lock().pop_front();
        if let Some(idle) = idle
            && let Ok(answer) = self.ask_on(idle).await
        {
            return Ok(answer);
        }
        // A node closes what was idle for long: that is no answer.
        let node = &self.nodes[self.next.fetch_add(1, Ordering::SeqCst) % self.nodes.len()];
        self.ask_on(BufReader::new(TcpStream::connect(node).await?)).await
    }

    async fn ask_on(&self, mut connection: BufReader<TcpStream>) -> std::io::Result<Answer> {
        connection.get_mut().write_all(&self.request).await?;
        let (answer, goes_on) = read_answer(&mut connection).await?;
        if goes_on {
            self.idle.lock().push_back(connection);
        }
        Ok(answer)
    }
}

/// Reads an answer to its end, and says whether the connection may be used again.
async fn read_answer(connection: &mut BufReader<TcpStream>) -> std::io::Result<(Answer, bool)> {
    let (mut first, mut length, mut goes_on) = (String::new(), 0, true);
    if connection.read_line(&mut first).await? == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    for _ in 0..MAX_HEAD_LINES {
        let mut line = String::new();
        connection.read_line(&mut line).await?;
        let line = line.trim().to_ascii_lowercase();
        match line.split_once(':') {
            Some(("content-length", value)) => length = value.trim().parse().unwrap_or(0),
            Some(("connection", value)) => goes_on = value.trim() != "close",
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length.min(MAX_BODY_BYTES)];
    connection.read_exact(&mut body).await?;
    Ok((told(&first, &body), goes_on && length <= MAX_BODY_BYTES))
}

/// What an answer says, by its first line.
fn told(first: &str, body: &[u8]) -> Answer {
    match first.split_whitespace().nth(1).and_then(|status| status.parse().ok()) {
        Some(200) => Answer::Accepted,
        Some(429 | 503) => Answer::Refused,
        // Accepted in part, and too late to know.
        Some(207 | 504) => Answer::Unknown,
        _ => Answer::Wrong(format!("{}: {}", first.trim(), String::from_utf8_lossy(&body[..body.len().min(300)]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        assert_eq!(told("HTTP/1.1 200 OK\r\n", b""), Answer::Accepted);
        assert_eq!(told("HTTP/1.1 429 Too Many Requests\r\n", b""), Answer::Refused);
        assert_eq!(told("HTTP/1.1 503 Service Unavailable\r\n", b""), Answer::Refused);
        assert_eq!(told("HTTP/1.1 504 Gateway Timeout\r\n", b""), Answer::Unknown);
        assert!(matches!(told("HTTP/1.1 500 Internal\r\n", b"{}"), Answer::Wrong(what) if what.contains("500")));
        assert!(matches!(told("", b""), Answer::Wrong(_)));
    }
}

//! A node in a process of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;

/// A running node; dropping it kills it, as `kill -9` does.
pub struct Node {
    child: Child,
    grpc: String,
    http: String,
    data: PathBuf,
}

impl Node {
    /// Starts `binary` on `data`, on ports of its own, and waits until it serves.
    ///
    /// # Errors
    /// The binary is not there, or ends before it serves.
    pub fn start(binary: &Path, data: &Path) -> Result<Self, Failure> {
        Self::start_with(binary, data, &[])
    }

    /// As [`start`](Self::start), with settings of its own: pairs such as `("STRATALOG_ROWS__SEAL_AGE", "1h")`.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(binary: &Path, data: &Path, settings: &[(&str, &str)]) -> Result<Self, Failure> {
        Self::start_at(binary, data, ["127.0.0.1:0"; 2], settings)
    }

    /// As [`start_with`](Self::start_with), at these addresses for gRPC and HTTP.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_at(
        binary: &Path,
        data: &Path,
        [grpc, http]: [&str; 2],
        settings: &[(&str, &str)],
    ) -> Result<Self, Failure> {
        let mut child = Command::new(binary)
            .args(["serve", "--grpc", grpc, "--http", http, "--data"])
            .arg(data)
            .env("STRATALOG_LOG__LEVEL", "warn")
            .env("STRATALOG_KAFKA__LISTEN", "127.0.0.1:0")
            .envs(settings.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::io("start (built with `cargo build --release`?)", binary, &error))?;
        let output = BufReader::new(child.stdout.take().expect("stdout is piped"));
        // Greeting, gRPC, HTTP: all three are read, so that the node can write them.
        let lines: Vec<String> = output.lines().map_while(Result::ok).take(3).collect();
        let address = |what| {
            let found = lines.iter().find_map(|line| line.trim().strip_prefix(what).map(|rest| rest.trim().to_owned()));
            found.ok_or_else(|| Failure(format!("{} ended before it served", binary.display())))
        };
        Ok(Self { grpc: address("gRPC")?, http: address("HTTP")?, child, data: data.to_owned() })
    }

    /// Where it serves gRPC.
    pub fn endpoint(&self) -> &str {
        &self.grpc
    }

    /// Its data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The sum of a metric over its labels.
    ///
    /// # Errors
    /// The node does not answer, or has no such metric.
    pub fn metric(&self, name: &str) -> Result<f64, Failure> {
        let host = self.http.trim_start_matches("http://").trim_end_matches('/');
        let mut stream = TcpStream::connect(host)?;
        write!(stream, "GET /metrics HTTP/1.0\r\nHost: {host}\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix([' ', '{'])?.rsplit(' ').next()?.parse().ok();
        let values: Vec<f64> = answer.lines().filter_map(value).collect();
        if values.is_empty() {
            return Err(Failure(format!("the node has no metric {name}")));
        }
        Ok(values.iter().sum())
    }

    /// Bytes that the process has caused to be written to the disk.
    ///
    /// # Errors
    /// The process has ended.
    pub fn written_bytes(&self) -> Result<u64, Failure> {
        self.figure("io", "write_bytes:").map_err(Failure::from)
    }

    /// Memory of the process, in bytes: now, and at the most.
    ///
    /// # Errors
    /// The process has ended.
    pub fn memory_bytes(&self) -> Result<(u64, u64), Failure> {
        Ok((self.figure("status", "VmRSS:")? << 10, self.figure("status", "VmHWM:")? << 10))
    }

    /// Processor time of the process, in user and in system mode.
    ///
    /// # Errors
    /// The process has ended.
    pub fn cpu(&self) -> Result<Duration, Failure> {
        cpu_of(self.child.id())
    }

    /// Processor time of the threads that there are now, by their name: what each stage of the work takes.
    ///
    /// # Errors
    /// The process has ended.
    pub fn cpu_by_thread(&self) -> Result<BTreeMap<String, Duration>, Failure> {
        let mut times = BTreeMap::new();
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let task = task?.path();
            // A thread that ends meanwhile is not counted.
            let (Ok(name), Ok(stat)) = (fs::read_to_string(task.join("comm")), fs::read_to_string(task.join("stat")))
            else {
                continue;
            };
            *times.entry(name.trim().to_owned()).or_default() += cpu_in(&stat);
        }
        Ok(times)
    }

    /// Waits until the process has written nothing for a second: what it does in the background is done.
    ///
    /// # Errors
    /// It still writes after `limit`.
    pub fn settle(&self, limit: Duration) -> Result<(), Failure> {
        let deadline = Instant::now() + limit;
        let mut before = self.written_bytes()?;
        while Instant::now() < deadline {
            std::thread::sleep(Duration::from_secs(1));
            let now = self.written_bytes()?;
            if now == before {
                return Ok(());
            }
            before = now;
        }
        Err(Failure(format!("the node still writes after {limit:?} of rest")))
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// The process cannot be waited for.
    pub fn kill(mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn figure(&self, file: &str, key: &str) -> std::io::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.child.id()))?;
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        let value = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        value.ok_or_else(|| std::io::Error::other(format!("/proc/PID/{file} has no number behind {key}")))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended already; there is nothing to be done about an error here.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of a process, in user and in system mode.
pub(crate) fn cpu_of(process: u32) -> Result<Duration, Failure> {
    Ok(cpu_in(&fs::read_to_string(format!("/proc/{process}/stat"))?))
}

/// The same, of the text of a `stat` file.
fn cpu_in(stat: &str) -> Duration {
    // The name of the program, in parentheses, may hold blanks; the times are the 12th and 13th fields after it.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    // Linux counts in hundredths of a second for every program.
    Duration::from_millis(ticks * 10)
}

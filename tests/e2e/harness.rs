//! Starts nodes and runs commands of the real binary.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_stratalog");
/// For commands that start a node by themselves.
pub(crate) const ANY_PORTS: [&str; 6] = ["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--kafka", "127.0.0.1:0"];
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// The root of the checkout.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("node/ lies in the repository").to_owned()
}

/// A node in a process of its own, on ports of its own. Dropping it kills it.
pub(crate) struct Node {
    child: Child,
    pub(crate) grpc: String,
    pub(crate) http: String,
    /// Empty where Kafka clients are not listened to, as in earlier releases.
    pub(crate) kafka: String,
}

impl Node {
    /// Starts a node on `data` and waits until it serves.
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// Starts a node with further arguments.
    pub(crate) fn start_with(data: &Path, arguments: &[&str]) -> Self {
        Self::start_of(Path::new(BINARY), data, arguments)
    }

    /// Starts a node of another binary.
    pub(crate) fn start_of(binary: &Path, data: &Path, arguments: &[&str]) -> Self {
        let speaks_kafka = binary == Path::new(BINARY) && !arguments.contains(&"--kafka");
        let mut child = Command::new(binary)
            .args(["serve", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(if speaks_kafka { &["--kafka", "127.0.0.1:0"][..] } else { &[] })
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let mut address = |what: &str| loop {
            let line = lines.next().expect("the node ended before it served").expect("its output is text");
            if let Some((name, address)) = line.trim().split_once(' ')
                && name == what
            {
                return address.trim().to_owned();
            }
        };
        let grpc = address("gRPC");
        let http = address("HTTP");
        let kafka = if speaks_kafka { address("Kafka") } else { String::new() };
        Self { child, grpc, http, kafka }
    }

    /// Runs a client command against this node.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        self.run_with(arguments, b"")
    }

    /// Runs a client command with this standard input.
    pub(crate) fn run_with(&self, arguments: &[&str], input: &[u8]) -> Ran {
        run(&[&["--endpoint", &self.grpc], arguments].concat(), input)
    }

    /// Starts a client command and leaves it running.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        Command::new(BINARY)
            .args(["--endpoint", &self.grpc])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts")
    }

    /// The JSON that a command prints.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        self.run(&[arguments, &["--output", "json"]].concat()).json()
    }

    /// The rows of a SQL query.
    pub(crate) fn sql(&self, query: &str) -> Vec<Value> {
        match self.json(&["sql", query]) {
            Value::Array(rows) => rows,
            other => panic!("{other} is no array of rows"),
        }
    }

    /// The only value of a SQL query with one row and one column.
    pub(crate) fn value(&self, query: &str) -> Value {
        let rows = self.sql(query);
        let row = rows.first().and_then(Value::as_object).unwrap_or_else(|| panic!("{query} gave no row"));
        row.values().next().expect("a row has a column").clone()
    }

    /// Asks the process to end, and waits until it has.
    pub(crate) fn stop(mut self) {
        self.signal("-TERM");
        let deadline = Instant::now() + STOP_WITHIN;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                assert!(status.success(), "the node ended with {status}");
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the node did not stop within {STOP_WITHIN:?}");
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("the child can be killed");
        self.child.wait().expect("the child can be waited for");
    }

    /// Waits until the process has ended by itself.
    pub(crate) fn ended_within(mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the node did not end by itself within {limit:?}");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // It has already ended where `stop` or `kill` was called.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The same, if the command succeeded.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// The JSON that it printed, if it succeeded.
    pub(crate) fn json(self) -> Value {
        let ran = self.ok();
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error} in {}", ran.stdout))
    }

    /// The error that it printed, if it ended with this code.
    pub(crate) fn failed(mut self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        let error = self.stderr.find("error: ").unwrap_or_else(|| panic!("no error is told: {self:?}"));
        self.stderr.split_off(error)
    }
}

/// Runs the binary to its end.
pub(crate) fn run(arguments: &[&str], input: &[u8]) -> Ran {
    run_of(Path::new(BINARY), arguments, input)
}

/// Runs another binary to its end.
pub(crate) fn run_of(binary: &Path, arguments: &[&str], input: &[u8]) -> Ran {
    let mut child = Command::new(binary)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let input = input.to_owned();
    // From a thread of its own: a command that prints before it has read everything must not wait for us.
    let writer = std::thread::spawn(move || {
        // A command that ends without reading its input is not at fault.
        let _ = stdin.write_all(&input);
    });
    let output: Output = child.wait_with_output().expect("the child can be waited for");
    writer.join().expect("the writer does not panic");
    Ran {
        code: output.status.code().expect("the command was not killed"),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs the binary while nobody reads its standard output.
pub(crate) fn run_unread(arguments: &[&str]) -> Ran {
    let mut child = Command::new(BINARY)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("the child can be waited for");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Ran { code: output.status.code().expect("the command was not killed"), stdout: String::new(), stderr }
}

/// An empty directory that goes with the test.
pub(crate) fn data_dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory can be made")
}

//! Clusters that one command starts on this machine.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::alone;
use crate::harness::{BINARY, data_dir, run};

const STOP_WITHIN: Duration = Duration::from_secs(60);

#[test]
fn dev_starts_three_nodes_stops_them_together_and_goes_on_with_their_data() {
    let _alone = alone();
    let data = data_dir();
    let arguments = ["dev", "--nodes", "3", "--data", data.path().to_str().unwrap()];

    let first = Dev::start(&arguments);
    assert_eq!(first.endpoints.split(',').count(), 3, "{}", first.endpoints);
    let (status, _) = first.json(&["cluster", "status", "--output", "json"]);
    assert_eq!(status["nodes"].as_array().map(Vec::len), Some(3), "{status}");
    first.run(&["topic", "create", "events", "--partitions", "3"], b"");
    first.run(&["produce", "events"], b"{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n");
    first.stop();

    let second = Dev::start(&arguments);
    let (rows, shown) = second.json(&["sql", "SELECT sum(n) AS n FROM events", "--output", "json"]);
    assert_eq!(rows[0]["n"], 6, "{shown}");
    second.stop();
}

#[test]
fn quickstart_does_the_main_job_on_three_nodes() {
    let _alone = alone();
    let data = data_dir();
    let path = data.path().to_str().unwrap();
    let shown = run(&["quickstart", "--exit", "--nodes", "3", "--events", "2000", "--data", path], b"").ok().stdout;
    assert!(shown.contains("3 nodes start here"), "{shown}");
    assert!(shown.contains("2,000 records") && shown.contains("agrees"), "{shown}");
}

/// `stratalog dev`, which has said where its nodes are.
struct Dev {
    child: Child,
    endpoints: String,
}

impl Dev {
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(BINARY)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let mut lines = lines.map(|line| line.expect("its output is text"));
        let endpoints = lines.find_map(|line| Some(line.trim().strip_prefix("export STRATALOG_ENDPOINT=")?.to_owned()));
        let endpoints = endpoints.expect("it ended before the cluster was ready");
        // What it says further is read, so that it never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, endpoints }
    }

    fn run(&self, arguments: &[&str], input: &[u8]) -> String {
        run(&[&["--endpoint", &self.endpoints], arguments].concat(), input).ok().stdout
    }

    fn json(&self, arguments: &[&str]) -> (Value, String) {
        let shown = self.run(arguments, b"");
        (serde_json::from_str(&shown).unwrap_or_else(|error| panic!("{error} in {shown}")), shown)
    }

    /// As Ctrl-C; only that the nodes do not get the signal, and have to be told.
    fn stop(mut self) {
        let told = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        assert!(told.expect("kill runs").success());
        let deadline = Instant::now() + STOP_WITHIN;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("the child can be waited for") {
                assert!(status.success(), "it ended with {status}");
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("it did not stop within {STOP_WITHIN:?}");
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It has already ended where `stop` was called.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

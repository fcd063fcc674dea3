//! Lines of a file and lines over HTTP become the same records.

use reqwest::blocking::Client;
use serde_json::Value;

use crate::harness::{Node, data_dir};

/// Bodies of lines, with all kinds of ends and blanks.
const BODIES: [&str; 7] = [
    "a=1\nb=2\n",
    "a=1\r\n\r\nb=2\r\n",
    "\n\n a=1 \n  \t \n\nb=2",
    "a=1\r\r\n\r",
    "  \r\n\t\n",
    "\n",
    "{\n  \"a\": 1\n\n}\r\n\r\n  \n{}",
];

/// A topic for each format, and two whose lines are joined.
const TOPICS: [(&str, &str, Option<&str>); 6] = [
    ("json", "json", None),
    ("logfmt", "logfmt", None),
    ("text", "text", None),
    ("raw", "raw", None),
    ("objects", "json", Some(r"^\{")),
    ("joined", "text", Some(r"^\S")),
];

#[test]
fn lines_become_the_same_records_by_command_and_over_http() {
    let data = data_dir();
    let node = Node::start(data.path());
    for (name, format, multiline) in TOPICS {
        for edge in ["cli", "http"] {
            let topic = format!("{edge}-{name}");
            let create = ["topic", "create", &topic, "--format", format, "--partitions", "1"];
            let multiline = multiline.map(|setting| vec!["--multiline", setting]).unwrap_or_default();
            node.run(&[&create[..], &multiline].concat()).ok();
        }
        for body in BODIES {
            node.run_with(&["produce", &format!("cli-{name}")], body.as_bytes()).ok();
            let url = format!("{}/v1/topics/http-{name}/records", node.http);
            let sent = Client::new().post(url).header("content-type", "text/plain").body(body).send().unwrap();
            assert!(sent.status().is_success(), "{name} {body:?}: {}", sent.text().unwrap());
            assert_eq!(values(&node, &format!("cli-{name}")), values(&node, &format!("http-{name}")), "{body:?}");
        }
    }
    let count = |name: &str| values(&node, name).len();
    assert_eq!([count("cli-text"), count("cli-logfmt"), count("cli-raw")], [15, 11, 23]);
    node.stop();
}

fn values(node: &Node, topic: &str) -> Vec<Value> {
    let records = node.run(&["consume", topic, "--output", "json"]).ok().stdout;
    let records: Vec<Value> = serde_json::from_str(&records).unwrap();
    records.iter().map(|record| record["value"].clone()).collect()
}

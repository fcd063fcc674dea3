//! Answers of tools that know nothing of this project.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

/// What `jq` says of JSON lines; `None` where it is not installed. The filter sees them as one array.
pub(super) fn jq(filter: &str, lines: &[String]) -> Option<Value> {
    let out = run("jq", &["--slurp", "--compact-output", filter], lines)?;
    Some(serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error} in what jq says: {out}")))
}

/// How many lines `grep` finds; `None` where it is not installed.
pub(super) fn grep(arguments: &[&str], lines: &[String]) -> Option<usize> {
    let out = run("grep", &[&["--count"], arguments].concat(), lines)?;
    Some(out.trim().parse().unwrap_or_else(|error| panic!("{error} in what grep says: {out}")))
}

fn run(tool: &str, arguments: &[&str], lines: &[String]) -> Option<String> {
    let mut command = Command::new(tool);
    let child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
    let Ok(mut child) = child else {
        eprintln!("not compared with {tool}: it is not installed");
        return None;
    };
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let text = lines.join("\n") + "\n";
    // From a thread of its own: a tool that prints before it has read everything must not wait for us.
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()).expect("the tool reads its input"));
    let output = child.wait_with_output().expect("the tool can be waited for");
    writer.join().expect("the writer does not panic");
    Some(String::from_utf8(output.stdout).expect("the tool prints text"))
}

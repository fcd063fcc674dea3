//! One node as a process: started, listened to, stopped.

use std::io::{self, IsTerminal, Write};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use super::LocalNode;
use crate::failure::Failure;

/// How long a node may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(60);
/// The longest line of a node's that is shown whole.
const MAX_LINE_BYTES: usize = 16 << 10;
/// Of the names in front of lines, in the terminal's words.
const COLOURS: [&str; 6] = ["36", "33", "32", "35", "34", "31"];

/// A node that was started, and whose lines are shown with its name in front.
pub(super) struct Process {
    name: String,
    child: Child,
    listeners: [JoinHandle<()>; 2],
}

impl Process {
    /// Starts the node number `at`, which chooses its colour.
    ///
    /// # Errors
    /// If no process can be started.
    pub(super) fn start(node: &LocalNode, at: usize) -> Result<Self, Failure> {
        let failed = |error: &io::Error| Failure::io("start", &node.name, error);
        let binary = std::env::current_exe().map_err(|error| failed(&error))?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--config").arg(&node.config);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl-C is told to a whole group: here it is ours to pass on, once.
        command.process_group(0);
        end_with_parent(&mut command);
        let mut child = command.spawn().map_err(|error| failed(&error))?;
        let prefix = prefix(&node.name, at);
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        let listeners = [tokio::spawn(show(stdout, prefix.clone())), tokio::spawn(show(stderr, prefix))];
        Ok(Self { name: node.name.clone(), child, listeners })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Resolves when the process ends, with how it did, after its last line was shown.
    pub(super) async fn ended(&mut self) -> String {
        let status = self.child.wait().await;
        for listener in &mut self.listeners {
            // It ends with the pipe, and is not cancelled before.
            let _ = listener.await;
        }
        match status {
            Ok(status) => told(status),
            Err(error) => error.to_string(),
        }
    }

    /// Asks it to stop, and waits until it has.
    pub(super) async fn stop(mut self) {
        self.terminate();
        if tokio::time::timeout(STOP_WITHIN, self.ended()).await.is_err() {
            eprintln!("{} did not stop in {STOP_WITHIN:?}, and is killed", self.name);
            // It fails only if the process has ended meanwhile.
            let _ = self.child.kill().await;
        }
    }

    fn terminate(&self) {
        let Some(id) = self.child.id().and_then(|id| libc::pid_t::try_from(id).ok()) else { return };
        // SAFETY: the call reads its arguments only. The child was not waited for yet, so the id is still its own.
        unsafe { libc::kill(id, libc::SIGTERM) };
    }
}

/// A node does not outlive the command that started it, even if that is killed. The system looks at the thread that starts
/// the process, so this has to be the main one.
#[cfg(target_os = "linux")]
fn end_with_parent(command: &mut Command) {
    // SAFETY: between fork and exec only this call is made, which is safe there.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
}

/// Elsewhere they have to be stopped by hand then.
#[cfg(not(target_os = "linux"))]
fn end_with_parent(_command: &mut Command) {}

fn told(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

fn prefix(name: &str, at: usize) -> String {
    match io::stderr().is_terminal() {
        true => format!("\x1b[{}m{name} |\x1b[0m ", COLOURS[at % COLOURS.len()]),
        false => format!("{name} | "),
    }
}

/// Writes each line to standard error as a whole, so that lines of several nodes do not mix.
async fn show(from: impl AsyncRead + Unpin, prefix: String) {
    let mut reader = BufReader::new(from);
    let mut line = prefix.clone().into_bytes();
    loop {
        let (taken, ended) = match reader.fill_buf().await {
            Ok(bytes) if !bytes.is_empty() => match bytes.iter().position(|byte| *byte == b'\n') {
                Some(end) => (take(&mut line, &bytes[..=end]), true),
                None => (take(&mut line, bytes), false),
            },
            // Nothing comes any more.
            _ => break,
        };
        reader.consume(taken);
        if ended || line.len() > MAX_LINE_BYTES {
            write_line(&mut line);
            line.extend_from_slice(prefix.as_bytes());
        }
    }
    if line.len() > prefix.len() {
        write_line(&mut line);
    }
}

fn take(line: &mut Vec<u8>, bytes: &[u8]) -> usize {
    line.extend_from_slice(bytes);
    bytes.len()
}

fn write_line(line: &mut Vec<u8>) {
    if line.last() != Some(&b'\n') {
        line.push(b'\n');
    }
    // Nobody may read it any more; the node runs on.
    let _ = io::stderr().write_all(line);
    line.clear();
}

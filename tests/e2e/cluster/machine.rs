//! What tests ask of this machine: ports, processes, commands of the system.

use std::net::TcpListener;
use std::process::{Child, Command, ExitStatus};
use std::sync::Mutex;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Ports that were given out. A node listens on its own only a while after it was given them, and not while it is down.
static GIVEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());

/// Ports of this machine that nobody listens on, and that nobody else gets from here. They lie below those that the system gives
/// to connections: one of these may be taken before the node listens on it.
pub(super) fn free_ports() -> [u16; 4] {
    let mut given = GIVEN.lock().expect("nobody panics with it");
    [(); 4].map(|()| {
        loop {
            let port = fastrand::u16(10_000..32_000);
            if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
                given.push(port);
                return port;
            }
        }
    })
}

/// Waits until a process has ended.
pub(super) fn ended_within(child: &mut Child, within: Duration) -> Option<ExitStatus> {
    let deadline = Instant::now() + within;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("the child can be waited for") {
            return Some(status);
        }
        sleep(Duration::from_millis(10));
    }
    None
}

/// A command of the system, for what a test needs root for.
pub(super) fn system(program: &str, arguments: &[&str]) -> Result<(), String> {
    let ran = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if ran.status.success() {
        return Ok(());
    }
    Err(format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&ran.stderr).trim()))
}

//! A network device whose packets a process reads and writes (`/dev/net/tun`), in the network namespace of a node.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const DEVICE: &str = "/dev/net/tun";
/// The device's numbers, where nobody has made it yet.
const MAJOR: u32 = 10;
const MINOR: u32 = 200;
const NAME_BYTES: usize = 16;

/// As `struct ifreq` in `linux/if.h`, of which the first number of the union is used.
#[repr(C)]
struct Request {
    name: [u8; NAME_BYTES],
    flags: libc::c_short,
    rest: [u8; 22],
}

/// Makes a device of this name in a namespace of `ip netns`. It goes with the file.
///
/// # Errors
/// Why that cannot be had here.
pub(super) fn make(namespace: &str, name: &str) -> Result<File, String> {
    make_device_file()?;
    let (namespace, name) = (namespace.to_owned(), name.to_owned());
    // A thread of its own goes to the namespace: all others stay where they are.
    let made = std::thread::spawn(move || {
        enter(&namespace).map_err(|error| format!("namespace {namespace}: {error}"))?;
        attach(&name).map_err(|error| format!("{DEVICE}: {error}"))
    });
    made.join().map_err(|_| format!("{DEVICE}: the thread that opens it panicked"))?
}

fn make_device_file() -> Result<(), String> {
    let path = Path::new(DEVICE);
    if path.exists() {
        return Ok(());
    }
    let tried = |error: io::Error| format!("{DEVICE} is not there, and cannot be made: {error}");
    path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(tried)?;
    let text = CString::new(DEVICE).map_err(|error| error.to_string())?;
    // SAFETY: the text ends with a zero and lives longer than the call, which only reads it.
    let made = unsafe { libc::mknod(text.as_ptr(), libc::S_IFCHR | 0o600, libc::makedev(MAJOR, MINOR)) };
    if made == 0 { Ok(()) } else { Err(tried(io::Error::last_os_error())) }
}

fn enter(namespace: &str) -> io::Result<()> {
    let file = File::open(Path::new("/run/netns").join(namespace))?;
    // SAFETY: the call takes numbers only; the file is open until it returns.
    let entered = unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) };
    if entered == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn attach(name: &str) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(DEVICE)?;
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    let mut request = Request { name: [0; NAME_BYTES], flags, rest: [0; 22] };
    // The last byte stays zero.
    request.name.iter_mut().take(NAME_BYTES - 1).zip(name.bytes()).for_each(|(to, from)| *to = from);
    // SAFETY: the request has the size and the layout that this call reads and writes, and lives longer than it.
    let attached = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if attached == 0 { Ok(file) } else { Err(io::Error::last_os_error()) }
}

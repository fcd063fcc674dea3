//! A router in user space, for machines whose system cannot delay or lose packets by itself (netem): what nodes send each other goes
//! through devices that one thread reads and writes.

mod tun;
mod weather;

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use weather::Queue;

pub(crate) use weather::{Packets, Weather};

/// The device's name where a node is.
pub(super) const DEVICE: &str = "tun0";
/// A device was added, or the router is to stop: it is noticed within this.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Longer than any packet of such a device.
const MAX_PACKET_BYTES: usize = 65_536;
/// Packets that are read from one device before others have their turn.
const AT_ONCE: usize = 64;
/// In an IPv4 packet.
const DESTINATION: std::ops::Range<usize> = 16..20;

/// The last number of a node's address, and the packet.
type Addressed = (u8, Vec<u8>);

/// Carries packets between the nodes that were added. Dropping it ends that, and their devices go.
pub(super) struct Router {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// By the last number of the node's address.
    devices: Mutex<Vec<(u8, Arc<File>)>>,
    weather: Mutex<Weather>,
    packets: Mutex<Packets>,
    stop: AtomicBool,
}

impl Router {
    pub(super) fn start(seed: u64) -> Self {
        let shared = Arc::new(Shared {
            devices: Mutex::default(),
            weather: Mutex::default(),
            packets: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || of_thread.route(seed));
        Self { shared, thread: Some(thread) }
    }

    /// Makes a device for a node in its namespace; its address and its routes are up to the caller.
    ///
    /// # Errors
    /// Why that cannot be had here.
    pub(super) fn add(&self, node: u8, namespace: &str) -> Result<(), String> {
        let device = tun::make(namespace, DEVICE)?;
        self.shared.devices.lock().push((node, Arc::new(device)));
        Ok(())
    }

    pub(super) fn set(&self, weather: Weather) {
        *self.shared.weather.lock() = weather;
    }

    /// What became of packets so far.
    pub(super) fn packets(&self) -> Packets {
        *self.shared.packets.lock()
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        // A thread that panicked has told why, and routes nothing any more.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("packets", &self.packets()).finish_non_exhaustive()
    }
}

impl Shared {
    fn route(&self, seed: u64) {
        let (began, mut queue) = (Instant::now(), Queue::<Addressed>::new(seed));
        let now_us = || began.elapsed().as_micros() as u64;
        while !self.stop.load(Ordering::SeqCst) {
            let devices = self.devices.lock().clone();
            let due_us = queue.next_us().map(|due_us| due_us.saturating_sub(now_us()));
            wait(&devices, due_us.map_or(LOOK_EVERY, Duration::from_micros).min(LOOK_EVERY));
            let weather = *self.weather.lock();
            for (_, device) in &devices {
                read(device, |packet| queue.send(&weather, now_us(), packet));
            }
            while let Some((to, packet)) = queue.arrived(now_us()) {
                deliver(&devices, to, &packet);
            }
            *self.packets.lock() = queue.packets;
        }
    }
}

/// Until a device has a packet, but not longer than this.
fn wait(devices: &[(u8, Arc<File>)], at_most: Duration) {
    let readable = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut polled: Vec<libc::pollfd> = devices.iter().map(|(_, device)| readable(device.as_raw_fd())).collect();
    // Rounded up: what is due in half a millisecond is not waited for in a circle.
    let ms = at_most.as_micros().div_ceil(1_000) as libc::c_int;
    // SAFETY: the call reads and writes the entries of the list, which lives longer than it; their files are open. Whether it was
    // interrupted, or nothing came, makes no difference: all devices are read without waiting.
    unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, ms) };
}

/// Gives out what a device has, a packet at a time.
fn read(mut device: &File, mut take: impl FnMut(Addressed)) {
    let mut buffer = [0; MAX_PACKET_BYTES];
    for _ in 0..AT_ONCE {
        // Nothing is there, or the device is not up yet.
        let Ok(bytes) = device.read(&mut buffer) else { return };
        if let Some(to) = destination(&buffer[..bytes]) {
            take((to, buffer[..bytes].to_vec()));
        }
    }
}

/// The last number of the address that an IPv4 packet is for; `None` if it is something else.
fn destination(packet: &[u8]) -> Option<u8> {
    let is_ipv4 = packet.first()? >> 4 == 4;
    packet.get(DESTINATION).filter(|_| is_ipv4)?.last().copied()
}

fn deliver(devices: &[(u8, Arc<File>)], to: u8, packet: &[u8]) {
    if let Some((_, device)) = devices.iter().find(|(node, _)| *node == to) {
        // A device whose buffer is full loses packets, as any does.
        let _ = (&**device).write(packet);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_says_for_whom_it_is() {
        let mut packet = [0; 20];
        packet[0] = 0x45;
        packet[16..20].copy_from_slice(&[10, 214, 7, 3]);
        assert_eq!(destination(&packet), Some(3));
        assert_eq!(destination(&packet[..19]), None, "too short");
        packet[0] = 0x60;
        assert_eq!(destination(&packet), None, "IPv6");
        assert_eq!(destination(&[]), None);
    }
}

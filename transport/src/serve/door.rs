//! Who may be in the handshake: so many in all, and of one place fewer, so that one stranger cannot keep nodes away.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

/// Counts who is in the handshake.
#[derive(Debug)]
pub(super) struct Door {
    most: usize,
    most_of_one: usize,
    inside: Mutex<HashMap<IpAddr, usize>>,
}

/// A place in the handshake, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Entered {
    door: Arc<Door>,
    place: IpAddr,
}

impl Door {
    pub(super) fn new(most: usize, most_of_one: usize) -> Arc<Self> {
        Arc::new(Self { most, most_of_one, inside: Mutex::default() })
    }

    /// Lets one in that comes from this address.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn enter(self: &Arc<Self>, from: IpAddr) -> Result<Entered, &'static str> {
        let place = place(from);
        let mut inside = self.inside.lock();
        if inside.values().sum::<usize>() >= self.most {
            return Err("too many connections are in their handshake");
        }
        let here = inside.entry(place).or_default();
        if *here >= self.most_of_one {
            return Err("too many connections of this address are in their handshake");
        }
        *here += 1;
        Ok(Entered { door: Arc::clone(self), place })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut inside = self.door.inside.lock();
        if let Some(here) = inside.get_mut(&self.place) {
            *here -= 1;
            if *here == 0 {
                inside.remove(&self.place);
            }
        }
    }
}

/// What counts as one place: an address of version 4, or a network of version 6, of which one machine has all addresses.
fn place(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        version_4 => version_4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x1_one_place_does_not_take_all_of_the_room() {
        let door = Door::new(4, 2);
        let enter = |text: &str| door.enter(text.parse().unwrap());
        let stranger = [enter("10.0.0.9").unwrap(), enter("::ffff:10.0.0.9").unwrap()];
        enter("10.0.0.9").unwrap_err();
        let node = enter("10.0.0.1").unwrap();
        let other = [enter("2001:db8::1").unwrap()];
        enter("10.0.0.2").unwrap_err();
        drop(stranger);
        let more = enter("2001:db8::2").unwrap();
        enter("2001:db8::3").unwrap_err();
        enter("2001:db8:0:1::3").unwrap();
        drop((node, other, more));
        assert!(door.inside.lock().is_empty());
    }
}

//! What a bad network does to packets: they come late, not at all, twice, or behind those that were sent after them. Pure: the times
//! come from the caller, everything random from a seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Of a thousand packets, or of time.
const THOUSAND: u32 = 1_000;
/// Packets that are on their way at most; those beyond are lost, as in a router whose memory is full.
const MAX_WAITING: usize = 16_384;

/// What happens to packets in each direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weather {
    /// How long each packet takes, in microseconds.
    pub(crate) delay_us: u64,
    /// Of a thousand packets, so many are lost …
    pub(crate) lost: u32,
    /// … so many come twice …
    pub(crate) doubled: u32,
    /// … and so many come later than others, by up to `later_us`: behind those that were sent after them.
    pub(crate) reordered: u32,
    pub(crate) later_us: u64,
}

/// What became of packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Packets {
    pub(crate) sent: u64,
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) reordered: u64,
    /// Lost because too many were on their way.
    pub(crate) crowded_out: u64,
}

/// A packet on its way: when it is due, and the how manyth it is, so that those that are due together keep their order.
type Waiting<T> = Reverse<(u64, u64, T)>;

/// Packets on their way.
#[derive(Debug)]
pub(super) struct Queue<T> {
    random: fastrand::Rng,
    waiting: BinaryHeap<Waiting<T>>,
    number: u64,
    pub(super) packets: Packets,
}

impl<T: Ord + Clone> Queue<T> {
    pub(super) fn new(seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { random, waiting: BinaryHeap::new(), number: 0, packets: Packets::default() }
    }

    /// A packet was sent at `now_us`.
    pub(super) fn send(&mut self, weather: &Weather, now_us: u64, packet: T) {
        self.packets.sent += 1;
        if self.happens(weather.lost) {
            self.packets.lost += 1;
            return;
        }
        if self.happens(weather.doubled) {
            self.packets.doubled += 1;
            self.put(weather, now_us, packet.clone());
        }
        self.put(weather, now_us, packet);
    }

    fn put(&mut self, weather: &Weather, now_us: u64, packet: T) {
        if self.waiting.len() >= MAX_WAITING {
            self.packets.crowded_out += 1;
            return;
        }
        let mut due_us = now_us + weather.delay_us;
        if self.happens(weather.reordered) {
            self.packets.reordered += 1;
            due_us += self.random.u64(..=weather.later_us);
        }
        self.number += 1;
        self.waiting.push(Reverse((due_us, self.number, packet)));
    }

    /// The next packet that has arrived by `now_us`.
    pub(super) fn arrived(&mut self, now_us: u64) -> Option<T> {
        let Reverse((due_us, ..)) = self.waiting.peek()?;
        if *due_us > now_us {
            return None;
        }
        self.waiting.pop().map(|Reverse((_, _, packet))| packet)
    }

    /// When the next packet arrives.
    pub(super) fn next_us(&self) -> Option<u64> {
        self.waiting.peek().map(|Reverse((due_us, ..))| *due_us)
    }

    fn happens(&mut self, of_a_thousand: u32) -> bool {
        of_a_thousand > 0 && self.random.u32(..THOUSAND) < of_a_thousand
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORM: Weather = Weather { delay_us: 100_000, lost: 100, doubled: 20, reordered: 50, later_us: 20_000 };

    /// Sends so many packets, one each millisecond, and says when which arrived.
    fn arrivals(weather: Weather, seed: u64, count: u64) -> (Vec<(u64, u64)>, Packets) {
        let (mut queue, mut arrived) = (Queue::new(seed), Vec::new());
        for packet in 0..count {
            queue.send(&weather, packet * 1_000, packet);
        }
        while let Some(at) = queue.next_us() {
            assert!(at == 0 || queue.arrived(at - 1).is_none(), "nothing comes before its time");
            arrived.extend(queue.arrived(at).map(|packet| (at, packet)));
        }
        (arrived, queue.packets)
    }

    #[test]
    fn without_weather_packets_arrive_at_once_and_in_order() {
        let (arrived, packets) = arrivals(Weather::default(), 1, 100);
        assert_eq!(arrived, (0..100).map(|packet| (packet * 1_000, packet)).collect::<Vec<_>>());
        assert_eq!(packets, Packets { sent: 100, ..Packets::default() });
    }

    #[test]
    fn packets_come_late_not_at_all_twice_and_out_of_order_as_often_as_they_are_to() {
        let (arrived, packets) = arrivals(STORM, 2, 10_000);
        assert!((900..1_100).contains(&packets.lost), "{packets:?}");
        assert!((140..220).contains(&packets.doubled), "{packets:?}");
        assert!((400..520).contains(&packets.reordered), "{packets:?}");
        assert_eq!(arrived.len() as u64, packets.sent - packets.lost + packets.doubled);
        let late = |(at, packet): &(u64, u64)| at - packet * 1_000;
        assert!(arrived.iter().all(|arrival| (100_000..=120_000).contains(&late(arrival))));
        assert!(arrived.windows(2).any(|pair| pair[0].1 > pair[1].1), "some come behind later ones");
    }

    #[test]
    fn the_same_seed_is_the_same_weather() {
        assert_eq!(arrivals(STORM, 3, 1_000), arrivals(STORM, 3, 1_000));
        assert_ne!(arrivals(STORM, 3, 1_000), arrivals(STORM, 4, 1_000));
    }

    #[test]
    fn what_is_on_its_way_is_bounded() {
        let mut queue = Queue::new(5);
        let slow = Weather { delay_us: 1_000_000_000, ..Weather::default() };
        (0..MAX_WAITING as u64 + 7).for_each(|packet| queue.send(&slow, 0, packet));
        assert_eq!((queue.waiting.len(), queue.packets.crowded_out), (MAX_WAITING, 7));
    }
}

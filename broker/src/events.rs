//! What happened on the node and is worth to know: the last so many, in memory.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use stratalog_query::EventInfo;

/// Events that are kept.
const KEPT: usize = 1_000;
/// The longest message that is kept, in bytes.
const MAX_MESSAGE_BYTES: usize = 1_000;

/// A ring of events. `system.events` shows it.
#[derive(Debug, Default)]
pub struct Events(Mutex<VecDeque<EventInfo>>);

impl Events {
    /// Notes an event, now; the oldest gives way to it.
    pub fn record(&self, level: &str, source: &str, mut message: String) {
        if message.len() > MAX_MESSAGE_BYTES {
            message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
            message.push('…');
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time_ns = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
        let event = EventInfo { time_ns, level: level.to_owned(), source: source.to_owned(), message };
        let mut events = self.0.lock();
        if events.len() == KEPT {
            events.pop_front();
        }
        events.push_back(event);
    }

    /// The newest first.
    pub fn list(&self) -> Vec<EventInfo> {
        self.0.lock().iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_events_are_kept_and_their_length_is_bounded() {
        let events = Events::default();
        (0..=KEPT).for_each(|n| events.record("warn", "test", n.to_string()));
        events.record("error", "test", "ü".repeat(MAX_MESSAGE_BYTES));
        let list = events.list();
        assert_eq!(list.len(), KEPT);
        assert!(list[0].message.len() <= MAX_MESSAGE_BYTES + 3);
        assert_eq!((list[1].message.as_str(), list[KEPT - 1].message.as_str()), ("1000", "2"));
    }
}

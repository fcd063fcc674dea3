//! Generated sample data: the logs of a web shop's services and the clicks on its advertisements, in time order. The
//! same seed gives the same events.

use chrono::{DateTime, SecondsFormat};
use fastrand::Rng;
use serde_json::{Value, json};

const SEED: u64 = 0x57AA_7A10;
const SERVICES: [&str; 8] = ["checkout", "payment", "cart", "catalog", "search", "shipping", "login", "mail"];
const COUNTRIES: [&str; 6] = ["DE", "FR", "US", "JP", "BR", "IN"];
const SLOTS: [&str; 3] = ["top", "side", "footer"];

/// Events spread evenly over `[start_ns, end_ns)`.
pub(super) struct Events {
    rng: Rng,
    next: u64,
    count: u64,
    start_ns: i64,
    end_ns: i64,
}

/// One event.
pub(super) struct Event {
    /// Its key: the service, or the user who clicked.
    pub(super) key: String,
    /// One JSON object; its time is in the field `ts`.
    pub(super) value: String,
}

impl Events {
    /// `count` events.
    pub(super) fn new(count: u64, start_ns: i64, end_ns: i64) -> Self {
        Self { rng: Rng::with_seed(SEED), next: 0, count, start_ns, end_ns }
    }

    fn time_ns(&self) -> i64 {
        let span = (self.end_ns - self.start_ns) as i128;
        self.start_ns + (span * i128::from(self.next) / i128::from(self.count)) as i64
    }

    fn click(&mut self, ts: &str) -> Event {
        let user = format!("u-{:05}", self.rng.u32(..20_000));
        let value = json!({
            "ts": ts,
            "kind": "click",
            "user_id": user,
            "campaign": format!("spring-{:02}", self.rng.u32(1..=24)),
            "country": pick(&mut self.rng, &COUNTRIES),
            "price_usd": f64::from(self.rng.u32(1..400)) / 100.0,
            "ad": { "slot": pick(&mut self.rng, &SLOTS), "id": self.rng.u32(1..5_000) },
        });
        Event { key: user, value: value.to_string() }
    }

    fn log(&mut self, ts: &str) -> Event {
        let service = *pick(&mut self.rng, &SERVICES);
        let latency_ms = (self.rng.f64().powi(4) * 2_000_000.0).round() / 1_000.0;
        let (level, status, message) = self.outcome(service);
        let value = json!({
            "ts": ts,
            "kind": "log",
            "service": service,
            "level": level,
            "status": status,
            "latency_ms": latency_ms,
            "trace_id": format!("{:016x}", self.rng.u64(..)),
            "message": message,
        });
        Event { key: service.to_owned(), value: value.to_string() }
    }

    fn outcome(&mut self, service: &str) -> (&'static str, u32, String) {
        let order = self.rng.u32(100_000..999_999);
        match self.rng.u32(..1_000) {
            0..4 => {
                ("error", 502, format!("connection reset by peer while calling {}", pick(&mut self.rng, &SERVICES)))
            }
            4..12 => ("error", 500, format!("payment declined for order-{order}: insufficient funds")),
            12..60 => ("warn", 200, format!("{service} was slow: retry 1 of 3 for order-{order}")),
            60..400 => ("info", 200, format!("order-{order} accepted by {service}")),
            _ => ("info", 200, format!("GET /api/v1/{service}/items/{order} 200 OK")),
        }
    }
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        if self.next == self.count {
            return None;
        }
        let ts = DateTime::from_timestamp_nanos(self.time_ns()).to_rfc3339_opts(SecondsFormat::Micros, true);
        self.next += 1;
        Some(if self.rng.u32(..4) == 0 { self.click(&ts) } else { self.log(&ts) })
    }
}

/// The record that is produced last, to see how soon it is visible; `word` occurs in no other.
pub(super) fn marked(word: &str, time_field: &str, time: &str) -> Value {
    json!({
        time_field: time, "kind": "log", "service": "quickstart", "level": "info", "status": 200, "latency_ms": 0.1,
        "message": format!("fresh record {word}"),
    })
}

fn pick<'a, T>(rng: &mut Rng, from: &'a [T]) -> &'a T {
    &from[rng.usize(..from.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_same_each_time_and_cover_the_span() {
        let all = |_| Events::new(100, 0, 3_600_000_000_000).map(|event| event.value).collect::<Vec<_>>();
        assert_eq!(all(0), all(1));
        let events = all(0);
        assert_eq!(events.len(), 100);
        assert!(events[0].contains("1970-01-01T00:00:00") && events[99].contains("1970-01-01T00:59:24"));
    }
}

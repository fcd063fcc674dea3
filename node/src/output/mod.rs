//! What a command prints: rows of a query as they stream in, or a listing that the command made itself.

/// `println!` that returns an error where the reader of the output has left, instead of panicking.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write;
        writeln!(std::io::stdout(), $($text)*).map_err($crate::failure::Failure::from)
    }};
}

mod batches;
mod listing;

pub(crate) use batches::{RowPrinter, row_objects};
pub(crate) use say;

pub(crate) use listing::{Fields, Listing, RowStream, print_object};

/// Bytes with a binary unit, for people.
pub(crate) fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A count with thousands set apart, for people.
pub(crate) fn human_count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A duration with the unit that suits it, for people.
pub(crate) fn human_duration(duration: std::time::Duration) -> String {
    let us = duration.as_secs_f64() * 1e6;
    match us {
        us if us < 1_000.0 => format!("{us:.0} µs"),
        us if us < 1_000_000.0 => format!("{:.1} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// An empty table in the house's look.
fn new_table() -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_preset("     ──            ");
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_for_people() {
        assert_eq!(human_count(1_234_567), "1,234,567");
        assert_eq!(human_count(12), "12");
        assert_eq!(human_bytes(1_536), "1.5 KiB");
        assert_eq!(human_duration(std::time::Duration::from_micros(1_500)), "1.5 ms");
    }
}

//! Sizes as people write them: `64MiB`.

/// What [`parse_bytes`] accepts, for error messages.
pub const BYTES_FORM: &str = "write a number of bytes, or a number with KiB, MiB, GiB or TiB, as in 64MiB";

const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// Reads `1048576`, `64MiB`, `10 GiB`; `None` for anything else.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let with_unit = UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)));
    let (number, unit) = with_unit.unwrap_or((text, 1));
    number.trim().parse::<u64>().ok()?.checked_mul(unit)
}

/// Writes a size with the largest unit that divides it, as [`parse_bytes`] reads it.
pub fn format_bytes(bytes: u64) -> String {
    let whole = UNITS.iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    whole.map_or_else(|| bytes.to_string(), |(name, unit)| format!("{}{name}", bytes / unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_bytes("64MiB"), Some(64 << 20));
        assert_eq!(parse_bytes("10"), Some(10));
        for text in ["", "MiB", "1.5GiB", "-1", "1e3", "99999999999999GiB"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_are_written_as_they_are_read() {
        for bytes in [0, 1, 1_023, 1 << 10, 3 << 20, (1 << 30) + 1, 5 << 40, u64::MAX] {
            assert_eq!(parse_bytes(&format_bytes(bytes)), Some(bytes));
        }
        assert_eq!(format_bytes(10 << 30), "10GiB");
    }
}

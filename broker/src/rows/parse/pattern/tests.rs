use super::*;

/// The most bytes of a value for a pattern.
fn max_value_bytes(pattern: &str) -> usize {
    Pattern::new(pattern).unwrap().max_value_bytes
}

#[test]
fn each_known_pattern_compiles_and_takes_long_values() {
    for name in known::names() {
        assert!(max_value_bytes(&format!("%{{{name}:x}}")) >= 64 << 10, "{name}");
    }
    for whole in ["^%{COMBINEDAPACHELOG}", "^%{NGINXACCESS}$"] {
        assert!(max_value_bytes(whole) >= 64 << 10, "{whole}");
    }
    for whole in ["%{JAVALOG}", "%{LOG4J}", "^%{SYSLOGLINE}"] {
        assert!(max_value_bytes(whole) >= 256 << 10, "{whole}");
    }
    assert!(max_value_bytes("^(?<level>[A-Z]+) (?<what>.*)") >= 2 << 20);
}

#[test]
fn x1_the_largest_pattern_takes_16_kib() {
    assert_eq!(max_value_bytes("(?<a>(?:[a-z]{1,50} ?){1,60}z)"), 16 << 10);
}

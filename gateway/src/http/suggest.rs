//! "Did you mean": a suggestion for each unknown field of a request.

/// Edit distance, relative to the length, up to which a name is worth suggesting.
const LIKENESS: f64 = 0.6;
/// Longer than every name there is. What was sent may be as long as a body, and may look like a list of names itself; to
/// compare two texts takes memory for the product of their lengths (X1).
const MAX_NAME_BYTES: usize = 64;
/// More than any request has.
const MAX_NAMES: usize = 64;

/// Appends the nearest known name to a serde message such as ``unknown field `limt`, expected one of `limit`, `from` ``.
/// Any other message is returned as it is.
pub(crate) fn with_suggestion(message: &str) -> String {
    match suggestion(message) {
        Some(name) => format!("{message}; did you mean `{name}`?"),
        None => message.to_owned(),
    }
}

fn suggestion(message: &str) -> Option<&str> {
    let (_, rest) = message.split_once("unknown field `").or_else(|| message.split_once("unknown variant `"))?;
    let (unknown, rest) = rest.split_once('`').filter(|(unknown, _)| unknown.len() <= MAX_NAME_BYTES)?;
    let (_, expected) = rest.split_once("expected ")?;
    // Every second piece between backticks is a name.
    let names = expected.split('`').skip(1).step_by(2).take(MAX_NAMES).filter(|name| name.len() <= MAX_NAME_BYTES);
    let scored = names.map(|name| (strsim::normalized_damerau_levenshtein(unknown, name), name));
    let (score, name) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (score >= LIKENESS).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_field_is_suggested() {
        let message = "unknown field `timeout`, expected one of `sql`, `timeout_ms`, `tokens` at line 1 column 10";
        assert!(with_suggestion(message).ends_with("did you mean `timeout_ms`?"));
        let one = "unknown field `sqll`, expected `sql`";
        assert!(with_suggestion(one).ends_with("did you mean `sql`?"));
    }

    #[test]
    fn x1_a_name_as_long_as_a_body_is_not_compared() {
        let long = "x".repeat(1 << 20);
        let of_its_own = format!("unknown field `xxxx` expected `{long}`, expected `sql`");
        for message in [of_its_own, format!("unknown field `{long}`, expected `sql`")] {
            let (found, held) = stratalog_mutation::peak_of(|| suggestion(&message).map(str::len));
            assert!(found.is_none() && held < 64 << 10, "{held} bytes were held");
        }
    }

    #[test]
    fn nothing_alike_suggests_nothing() {
        for message in
            ["unknown field `zzz`, expected one of `sql`, `tokens`", "EOF at line 1", "unknown field `x`", ""]
        {
            assert_eq!(with_suggestion(message), message);
        }
    }
}

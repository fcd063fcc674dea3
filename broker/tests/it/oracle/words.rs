//! What a word is, and which texts have it: written from `docs/SEARCH.md` alone.

/// What is looked for in one text.
#[derive(Clone, Debug)]
pub(super) enum Wanted {
    /// These parts, next to each other and in this order.
    Parts(String),
    /// The same, and the last part goes on.
    Open(String),
}

impl Wanted {
    /// Whether the text has it.
    pub(super) fn is_in(&self, text: &str) -> bool {
        let (words, wanted, open) = match self {
            Wanted::Parts(wanted) => (parts(text), parts(wanted), false),
            Wanted::Open(wanted) => (parts(text), open_parts(wanted), true),
        };
        if wanted.is_empty() {
            return false;
        }
        words.windows(wanted.len()).any(|run| {
            let (last, before) = (run.len() - 1, &run[..run.len() - 1]);
            let ends = if open { run[last].starts_with(&wanted[last]) } else { run[last] == wanted[last] };
            ends && before == &wanted[..last]
        })
    }
}

/// After punctuation, the star stands for at least one more part.
fn open_parts(text: &str) -> Vec<String> {
    let mut wanted = parts(text);
    if !text.chars().next_back().is_some_and(is_part) {
        wanted.push(String::new());
    }
    wanted
}

/// The parts of a text: runs of letters and digits in lower case, and each ideograph or kana alone.
fn parts(text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut run = String::new();
    for c in text.chars() {
        if is_part(c) && !stands_alone(c) {
            run.extend(c.to_lowercase());
            continue;
        }
        parts.extend((!run.is_empty()).then(|| std::mem::take(&mut run)));
        if stands_alone(c) {
            parts.push(c.to_string());
        }
    }
    parts.extend((!run.is_empty()).then_some(run));
    parts
}

fn is_part(c: char) -> bool {
    c.is_alphanumeric() || ('\u{300}'..='\u{36f}').contains(&c)
}

fn stands_alone(c: char) -> bool {
    is_part(c) && (('\u{3040}'..='\u{30ff}').contains(&c) || ('\u{4e00}'..='\u{9fff}').contains(&c))
}

#[test]
fn parts_are_those_of_the_examples() {
    let cases: &[(&str, &[&str])] = &[
        ("Disk FULL, retry=3", &["disk", "full", "retry", "3"]),
        ("from 10.0.0.1.", &["from", "10", "0", "0", "1"]),
        ("连接error", &["连", "接", "error"]),
        ("--", &[]),
    ];
    for (text, expected) in cases {
        assert_eq!(parts(text), *expected, "{text}");
    }
    assert!(Wanted::Open("web-".to_owned()).is_in("web-1") && !Wanted::Open("web-".to_owned()).is_in("the web"));
}

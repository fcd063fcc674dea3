//! One word of a query: its characters, which of them are escaped, and what the unescaped ones ask for.

use super::ast::{Leaf, ParseError};
use super::parse::{Parser, error};

/// Characters that end a word wherever it stands, besides white space.
const ENDS: &[char] = &['(', ')', '"'];

/// Whether a column's name may have this character without an escape.
pub(super) fn in_name(c: char, first: bool) -> bool {
    c.is_alphabetic() || "_@$".contains(c) || !first && (c.is_alphanumeric() || ".-/#".contains(c))
}

struct Char {
    at: usize,
    c: char,
    escaped: bool,
}

pub(super) struct Word {
    chars: Vec<Char>,
}

impl Word {
    /// Reads the word at the parser's position, up to white space, a parenthesis, a quote or one of `also`.
    pub(super) fn read(parser: &mut Parser<'_>, also: &[char]) -> Result<Word, ParseError> {
        let mut chars = Vec::new();
        let mut rest = parser.rest().char_indices();
        let mut length = 0;
        while let Some((i, c)) = rest.next() {
            if c.is_whitespace() || ENDS.contains(&c) || also.contains(&c) {
                break;
            }
            let at = parser.at + i;
            let (c, escaped) = match (c, rest.clone().next()) {
                ('\\', None) => {
                    return Err(error(at, "a backslash at the end escapes nothing; write \\\\ for a backslash"));
                }
                ('\\', Some((_, escaped))) => {
                    rest.next();
                    (escaped, true)
                }
                _ => (c, false),
            };
            chars.push(Char { at, c, escaped });
            length = parser.rest().len() - rest.as_str().len();
        }
        parser.at += length;
        Ok(Word { chars })
    }

    /// The name and its length with the colon, when `text` starts with `name:`.
    ///
    /// Times, addresses, URLs and paths of code keep their colons: a name does not start with a digit, and neither `::`
    /// nor `://` ends one.
    pub(super) fn field_name(text: &str) -> Option<(String, usize)> {
        let mut name = String::new();
        let mut chars = text.char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                ':' => {
                    let value = &text[i + 1..];
                    let is_name = !name.is_empty() && !value.starts_with(':') && !value.starts_with("//");
                    return is_name.then_some((name, i + 1));
                }
                '\\' => name.push(chars.next()?.1),
                _ if in_name(c, name.is_empty()) => name.push(c),
                _ => return None,
            }
        }
        None
    }

    /// The characters, without the escapes.
    pub(super) fn text(&self) -> String {
        self.chars.iter().map(|char| char.c).collect()
    }

    /// Whether the word is a bare `*`.
    pub(super) fn is_star(&self) -> bool {
        matches!(self.chars.as_slice(), [Char { c: '*', escaped: false, .. }])
    }

    /// The word as text, which asks for nothing.
    pub(super) fn literal(&self) -> Result<String, ParseError> {
        match self.leaf()? {
            Leaf::Term(text) => Ok(text),
            Leaf::Prefix(_) | Leaf::Phrase(_) => {
                Err(error(self.end(), "wildcards in column names are not supported; name the column"))
            }
        }
    }

    /// The word as a term or a prefix.
    pub(super) fn leaf(&self) -> Result<Leaf, ParseError> {
        self.no_regex()?;
        self.no_modifier()?;
        let open = self.chars.last().is_some_and(|last| last.c == '*' && !last.escaped);
        let closed = self.chars.len() - usize::from(open);
        if let Some(wild) = self.chars[..closed].iter().find(|char| !char.escaped && matches!(char.c, '*' | '?')) {
            let message = format!(
                "the wildcard '{0}' is supported only as a '*' at the end of a word; write \\{0} to search for the text",
                wild.c
            );
            return Err(error(wild.at, message));
        }
        let text = self.chars[..closed].iter().map(|char| char.c).collect();
        Ok(if open { Leaf::Prefix(text) } else { Leaf::Term(text) })
    }

    fn end(&self) -> usize {
        self.chars.last().map_or(0, |last| last.at)
    }

    fn is_plain(&self, i: usize, c: char) -> bool {
        self.chars.get(i).is_some_and(|char| char.c == c && !char.escaped)
    }

    /// Refuses `/…/`. A path starts with a slash and does not end with one, and stays a word.
    fn no_regex(&self) -> Result<(), ParseError> {
        let last = self.chars.len().saturating_sub(1);
        match last > 0 && self.is_plain(0, '/') && self.is_plain(last, '/') {
            true => Err(error(
                self.chars[0].at,
                "regular expressions are not supported; quote the text to search for a path, or use SQL's ~ operator",
            )),
            false => Ok(()),
        }
    }

    /// Refuses `word~`, `word~2` and `word^4`.
    fn no_modifier(&self) -> Result<(), ParseError> {
        let number = |char: &Char| char.c.is_ascii_digit() || char.c == '.';
        let Some(i) = self.chars.iter().rposition(|char| !number(char)) else { return Ok(()) };
        let bare = i + 1 == self.chars.len();
        let message = match self.chars[i] {
            Char { c: '~', escaped: false, .. } if i > 0 => {
                "fuzzy search (~) is not supported; write \\~ to search for the text"
            }
            Char { c: '^', escaped: false, .. } if i > 0 && !bare => {
                "boosts (^) are not supported: answers are ordered by time; write \\^ to search for the text"
            }
            _ => return Ok(()),
        };
        Err(error(self.chars[i].at, message))
    }
}

//! Walking a text: its parts and wholes, as byte ranges, without copying.

use std::ops::Range;

use super::JOINERS;

/// A token's place in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A run of part characters, or one ideograph.
    Part(Range<usize>),
    /// Parts and the joiners between them. Comes after its parts.
    Whole(Range<usize>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Separator,
    Joiner,
    Part,
    /// A part by itself.
    Ideograph,
}

/// Classes of the ASCII characters; the rest are classified by [`class_of`].
const ASCII: [Class; 128] = {
    let mut table = [Class::Separator; 128];
    let mut byte = 0;
    while byte < 128 {
        if (byte as u8).is_ascii_alphanumeric() {
            table[byte] = Class::Part;
        }
        byte += 1;
    }
    let mut i = 0;
    while i < JOINERS.len() {
        table[JOINERS[i] as usize] = Class::Joiner;
        i += 1;
    }
    table
};

/// Whether a word goes on through this character: all but separators.
pub(crate) fn is_word_char(c: char) -> bool {
    class_of(c) != Class::Separator
}

fn class_of(c: char) -> Class {
    match c {
        '\0'..='\x7f' => ASCII[c as usize],
        // Combining diacritics: a decomposed `é` is one letter, not the end of a word.
        '\u{300}'..='\u{36f}' => Class::Part,
        '\u{3040}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' if c.is_alphanumeric() => Class::Ideograph,
        '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}'
            if c.is_alphanumeric() =>
        {
            Class::Ideograph
        }
        _ if c.is_alphanumeric() => Class::Part,
        _ => Class::Separator,
    }
}

/// The word that the walk is inside of.
#[derive(Clone, Copy)]
struct Word {
    start: usize,
    /// End of its last part so far.
    end: usize,
    /// Whether a joiner lies between two of its parts.
    joined: bool,
}

/// Iterator over the pieces of a text.
pub(crate) struct Pieces<'a> {
    text: &'a str,
    at: usize,
    word: Option<Word>,
}

impl<'a> Pieces<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0, word: None }
    }

    /// Class and width of the character at `self.at`; `None` at the end of the text.
    #[inline]
    fn look(&self) -> Option<(Class, usize)> {
        let byte = *self.text.as_bytes().get(self.at)?;
        if byte < 0x80 {
            return Some((ASCII[byte as usize], 1));
        }
        let c = self.text[self.at..].chars().next()?;
        Some((class_of(c), c.len_utf8()))
    }

    /// Takes the run of part characters at `self.at`.
    #[inline]
    fn run(&mut self) -> Range<usize> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        loop {
            while self.at < bytes.len() && bytes[self.at] < 0x80 && ASCII[bytes[self.at] as usize] == Class::Part {
                self.at += 1;
            }
            match self.look() {
                Some((Class::Part, width)) => self.at += width,
                _ => return start..self.at,
            }
        }
    }

    /// Adds a part to the word it stands in.
    #[inline]
    fn part(&mut self, range: Range<usize>) -> Piece {
        self.word = Some(match self.word {
            None => Word { start: range.start, end: range.end, joined: false },
            Some(word) => Word { end: range.end, joined: word.joined || range.start > word.end, ..word },
        });
        Piece::Part(range)
    }
}

impl Iterator for Pieces<'_> {
    type Item = Piece;

    #[inline]
    fn next(&mut self) -> Option<Piece> {
        loop {
            let looked = self.look();
            match looked {
                Some((Class::Part, _)) => {
                    let range = self.run();
                    return Some(self.part(range));
                }
                Some((Class::Ideograph, width)) => {
                    let range = self.at..self.at + width;
                    self.at = range.end;
                    return Some(self.part(range));
                }
                Some((Class::Joiner, width)) => self.at += width,
                Some((Class::Separator, _)) | None => {
                    self.at += looked.map_or(0, |(_, width)| width);
                    if let Some(word) = self.word.take().filter(|word| word.joined) {
                        return Some(Piece::Whole(word.start..word.end));
                    }
                    looked?;
                }
            }
        }
    }
}

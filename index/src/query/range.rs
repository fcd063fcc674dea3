//! `field:[low TO high]`, with `{` and `}` for an end that does not belong to it and `*` for one that is open.

use super::ast::{CompareOp, ParseError, Query};
use super::parse::{Parser, error};
use super::word::Word;

impl Parser<'_> {
    /// Reads the range at the parser's position.
    pub(super) fn range(&mut self, field: &str) -> Result<Query, ParseError> {
        let open = self.at;
        let above = if self.take("[") { CompareOp::GreaterOrEqual } else { CompareOp::Greater };
        self.at = open + 1;
        let low = self.bound()?;
        self.skip_space();
        if !self.take("TO") {
            return Err(error(self.at, "a range is written [low TO high], with * for an open end"));
        }
        let high = self.bound()?;
        self.skip_space();
        let below = match () {
            () if self.take("]") => CompareOp::LessOrEqual,
            () if self.take("}") => CompareOp::Less,
            () => return Err(error(open, "this range is not closed; it ends with ] or }")),
        };
        let compare = |op, value| Query::Compare { field: field.to_owned(), op, value };
        Ok(match (low, high) {
            (None, None) => Query::Exists { field: field.to_owned() },
            (Some(low), None) => compare(above, low),
            (None, Some(high)) => compare(below, high),
            (Some(low), Some(high)) => Query::And(vec![compare(above, low), compare(below, high)]),
        })
    }

    /// One end of a range; `None` for an open one.
    fn bound(&mut self) -> Result<Option<String>, ParseError> {
        self.skip_space();
        if self.rest().starts_with('"') {
            return self.quoted().map(Some);
        }
        let start = self.at;
        let word = Word::read(self, &[']', '}'])?;
        match word.text() {
            _ if word.is_star() => Ok(None),
            text if text.is_empty() || text == "TO" => {
                Err(error(start, "an end of the range is missing; write * for an open end"))
            }
            text => Ok(Some(text)),
        }
    }
}

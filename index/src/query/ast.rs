//! What a search query means.

use std::fmt;

use stratalog_proto::{Code, Error};

/// A search query. Parsing flattens nothing away: `And` and `Or` have at least two members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// Every row.
    All,
    /// Text that a column has to contain.
    Leaf {
        /// `None`: any text column.
        field: Option<String>,
        /// What it has to contain.
        leaf: Leaf,
    },
    /// A comparison with a column's value, by the column's type. A range is two of them.
    Compare {
        /// The column.
        field: String,
        /// How.
        op: CompareOp,
        /// The value as it was written.
        value: String,
    },
    /// The column is not null.
    Exists {
        /// The column.
        field: String,
    },
    /// All of them.
    And(Vec<Query>),
    /// At least one of them.
    Or(Vec<Query>),
    /// Not this.
    Not(Box<Query>),
}

/// Text to find. Words are compared by their parts: adjacent, in order, whatever the punctuation between them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Leaf {
    /// One word as it was written, without its escapes.
    Term(String),
    /// The text between quotes.
    Phrase(String),
    /// The word before `*`.
    Prefix(String),
}

/// How a value compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompareOp {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl CompareOp {
    /// As it is written in a query.
    pub fn symbol(self) -> &'static str {
        match self {
            CompareOp::Less => "<",
            CompareOp::LessOrEqual => "<=",
            CompareOp::Greater => ">",
            CompareOp::GreaterOrEqual => ">=",
        }
    }
}

impl fmt::Display for CompareOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.symbol())
    }
}

/// Why a query was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the search query is not understood at byte {position}: {message}")]
pub struct ParseError {
    /// Where in the query, in bytes from its start.
    pub position: usize,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl From<ParseError> for Error {
    fn from(error: ParseError) -> Self {
        Error::new(Code::InvalidSearch, error.to_string())
    }
}

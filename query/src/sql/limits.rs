//! Bounds on a statement, checked on its tokens before a parser recurses over them (X1).
//!
//! Parser, planner and optimizer recurse over expressions. The parser counts its own recursion, but a chain such as
//! `a + b + c …` nests to the left without it, so chains are counted here.

use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use stratalog_proto::{Code, Error};

/// The longest statement, in bytes.
pub(super) const MAX_SQL_BYTES: usize = 256 << 10;
/// How deep parentheses and subqueries may nest, as the parser counts.
pub(super) const MAX_NESTING: usize = 100;
/// How many operators may depend on each other: those of the open parentheses, each since its last comma.
const MAX_CHAIN: usize = 1_000;
/// The most joins and set operations.
const MAX_JOINS: usize = 64;

/// Refuses text that is too long to look at.
pub(super) fn check_length(sql: &str) -> Result<(), Error> {
    if sql.len() <= MAX_SQL_BYTES {
        return Ok(());
    }
    Err(too_much(&format!("the statement has {} bytes; the most is {MAX_SQL_BYTES}", sql.len())))
}

/// Refuses operators that nest deeper, or more joins and set operations, than planning can take.
pub(super) fn check_tokens(tokens: &[TokenWithSpan]) -> Result<(), Error> {
    let mut open = vec![0_usize];
    let (mut chain, mut joins) = (0_usize, 0_usize);
    for TokenWithSpan { token, span } in tokens {
        match token {
            Token::LParen | Token::LBracket | Token::LBrace => open.push(0),
            Token::RParen | Token::RBracket | Token::RBrace if open.len() > 1 => chain -= open.pop().unwrap_or(0),
            Token::Comma | Token::SemiColon => chain -= open.last_mut().map_or(0, std::mem::take),
            token if is_join(token) => joins += 1,
            token if is_operator(token) => {
                chain += 1;
                if let Some(last) = open.last_mut() {
                    *last += 1;
                }
            }
            _ => {}
        }
        if chain > MAX_CHAIN || joins > MAX_JOINS {
            let what = if joins > MAX_JOINS {
                format!("more than {MAX_JOINS} joins and set operations")
            } else {
                format!("more than {MAX_CHAIN} operators in one expression; a long list of values goes in `IN (…)`")
            };
            let at = span.start;
            return Err(too_much(&format!("line {}, column {}: {what}", at.line, at.column)));
        }
    }
    Ok(())
}

fn is_join(token: &Token) -> bool {
    let Token::Word(word) = token else { return false };
    matches!(word.keyword, Keyword::JOIN | Keyword::UNION | Keyword::INTERSECT | Keyword::EXCEPT)
}

fn is_operator(token: &Token) -> bool {
    match token {
        Token::Word(word) => matches!(
            word.keyword,
            Keyword::AND
                | Keyword::OR
                | Keyword::NOT
                | Keyword::IS
                | Keyword::IN
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::SIMILAR
                | Keyword::BETWEEN
                | Keyword::COLLATE
                | Keyword::AT
        ),
        Token::Number(..) | Token::Whitespace(_) | Token::Period | Token::EOF | Token::Placeholder(_) => false,
        // One too many, without its opening counterpart.
        Token::RParen | Token::RBracket | Token::RBrace => false,
        token => !is_text(token),
    }
}

fn is_text(token: &Token) -> bool {
    matches!(
        token,
        Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::HexStringLiteral(_)
    )
}

fn too_much(what: &str) -> Error {
    Error::new(Code::InvalidSql, format!("statement refused: {what}"))
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
    use datafusion::sql::sqlparser::tokenizer::Tokenizer;

    use super::*;

    fn check(sql: &str) -> Result<(), Error> {
        check_tokens(&Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize_with_location().unwrap())
    }

    #[test]
    fn chains_count_across_parentheses_but_not_across_commas() {
        let half = "+1".repeat(MAX_CHAIN / 2);
        check(&format!("SELECT 1{half}, (1{half})")).unwrap();
        check(&format!("SELECT 1{half}{half}")).unwrap();
        check(&format!("SELECT 1{half}+(1{half})")).unwrap_err();
        check(&format!("SELECT f(1{half}{half}), 1{half}{half})")).unwrap();
    }

    #[test]
    fn a_refusal_names_the_place() {
        let error = check(&format!("SELECT 1\n{}", "+1".repeat(MAX_CHAIN + 1))).unwrap_err();
        assert!(error.message.contains("line 2, column 2001"), "{error}");
    }
}

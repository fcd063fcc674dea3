//! PostgreSQL's dialect with a bound on the parser's work.
//!
//! Where a word can begin a special form or be a name, the parser tries one after the other; nested, that doubles at
//! every level. Each try begins with a prefix, so that counting prefixes bounds all of them (X1).

use std::any::TypeId;
use std::cell::Cell;

use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::dialect::{Dialect, PostgreSqlDialect, Precedence};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};

/// How often each token may begin an expression; without going back it is at most once.
const PREFIXES_A_TOKEN: usize = 16;

/// PostgreSQL's dialect, for statements that read.
#[derive(Debug)]
pub(super) struct BoundedDialect {
    postgres: PostgreSqlDialect,
    prefixes_left: Cell<usize>,
}

impl BoundedDialect {
    /// For a statement of so many tokens.
    pub(super) fn new(tokens: usize) -> Self {
        Self { postgres: PostgreSqlDialect {}, prefixes_left: Cell::new((tokens + 64) * PREFIXES_A_TOKEN) }
    }
}

/// What is as in PostgreSQL: its own methods that a query can meet.
macro_rules! as_in_postgres {
    ($($name:ident($($arg:ident: $type:ty),*) -> $result:ty;)*) => {
        $(fn $name(&self, $($arg: $type),*) -> $result {
            self.postgres.$name($($arg),*)
        })*
    };
}

impl Dialect for BoundedDialect {
    fn dialect(&self) -> TypeId {
        TypeId::of::<PostgreSqlDialect>()
    }

    fn parse_prefix(&self, _: &mut Parser<'_>) -> Option<Result<Expr, ParserError>> {
        match self.prefixes_left.get().checked_sub(1) {
            None => Some(Err(ParserError::RecursionLimitExceeded)),
            Some(left) => {
                self.prefixes_left.set(left);
                None
            }
        }
    }

    as_in_postgres! {
        identifier_quote_style(identifier: &str) -> Option<char>;
        is_delimited_identifier_start(ch: char) -> bool;
        is_identifier_start(ch: char) -> bool;
        is_identifier_part(ch: char) -> bool;
        is_custom_operator_part(ch: char) -> bool;
        is_reserved_for_identifier(keyword: Keyword) -> bool;
        get_next_precedence(parser: &Parser<'_>) -> Option<Result<u8, ParserError>>;
        prec_value(precedence: Precedence) -> u8;
        supports_unicode_string_literal() -> bool;
        supports_filter_during_aggregation() -> bool;
        supports_group_by_expr() -> bool;
        allow_extract_custom() -> bool;
        allow_extract_single_quotes() -> bool;
        supports_explain_with_utility_options() -> bool;
        supports_factorial_operator() -> bool;
        supports_bitwise_shift_operators() -> bool;
        supports_named_fn_args_with_colon_operator() -> bool;
        supports_named_fn_args_with_expr_name() -> bool;
        supports_empty_projections() -> bool;
        supports_nested_comments() -> bool;
        supports_string_escape_constant() -> bool;
        supports_numeric_literal_underscores() -> bool;
        supports_array_typedef_with_brackets() -> bool;
        supports_geometric_types() -> bool;
        supports_notnull_operator() -> bool;
        supports_interval_options() -> bool;
        supports_select_wildcard_with_alias() -> bool;
        supports_comma_separated_trim() -> bool;
        supports_xml_expressions() -> bool;
        supports_set_names() -> bool;
        supports_create_index_with_clause() -> bool;
        supports_insert_table_alias() -> bool;
    }
}

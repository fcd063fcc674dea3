//! The analyzer as Tantivy's token stream: one token, reused, so that indexing takes no memory per token.

use tantivy::tokenizer::{Token, TokenStream, Tokenizer};

use super::{Fit, MAX_TOKEN_BYTES, Piece, Pieces, fold_into};

/// The name that the index's schema knows the analyzer by.
pub(crate) const TOKENIZER: &str = "stratalog-v1";

/// Analyzer v1 for Tantivy.
#[derive(Clone, Default)]
pub(crate) struct V1 {
    token: Token,
}

impl Tokenizer for V1 {
    type TokenStream<'a> = Tokens<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Tokens<'a> {
        Tokens { pieces: Pieces::new(text), text, token: &mut self.token }
    }
}

/// The tokens of one text. Positions and offsets stay unset: the index records documents only.
pub(crate) struct Tokens<'a> {
    pieces: Pieces<'a>,
    text: &'a str,
    token: &'a mut Token,
}

impl TokenStream for Tokens<'_> {
    #[inline]
    fn advance(&mut self) -> bool {
        for piece in self.pieces.by_ref() {
            self.token.position = 0;
            self.token.text.clear();
            match piece {
                Piece::Part(range) => {
                    fold_into(&self.text[range], MAX_TOKEN_BYTES, &mut self.token.text);
                    return true;
                }
                Piece::Whole(range) => {
                    if fold_into(&self.text[range], MAX_TOKEN_BYTES, &mut self.token.text) == Fit::Entire {
                        return true;
                    }
                }
            }
        }
        false
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}

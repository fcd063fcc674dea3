use tantivy::tokenizer::{TokenStream, Tokenizer};

use super::*;

fn tokens(text: &str) -> Vec<String> {
    let mut analyzer = V1::default();
    let mut stream = analyzer.token_stream(text);
    let mut tokens = Vec::new();
    while let Some(token) = stream.next() {
        tokens.push(token.text.clone());
    }
    tokens
}

#[test]
fn words_are_split_at_punctuation_and_lowercased() {
    assert_eq!(tokens("Disk FULL, (retry=3)"), ["disk", "full", "retry", "3"]);
    assert_eq!(tokens(""), [""; 0]);
    assert_eq!(tokens(" --- ... "), [""; 0]);
}

#[test]
fn joined_words_are_kept_whole_beside_their_parts() {
    assert_eq!(tokens("from 10.0.0.1."), ["from", "10", "0", "0", "1", "10.0.0.1"]);
    assert_eq!(tokens("GET /api/v1/Users/"), ["get", "api", "v1", "users", "api/v1/users"]);
    assert_eq!(tokens("user_id=A-1"), ["user", "id", "user_id", "a", "1", "a-1"]);
    assert_eq!(tokens("a@b.c"), ["a", "b", "c", "a@b.c"]);
}

#[test]
fn a_single_part_with_joiners_around_is_no_whole() {
    assert_eq!(tokens("--force -v #tag $HOME"), ["force", "v", "tag", "home"]);
}

#[test]
fn letters_of_any_script_are_words() {
    assert_eq!(tokens("Größe ΌΧΙ e\u{301}te\u{301}"), ["größe", "όχι", "e\u{301}te\u{301}"]);
    assert_eq!(tokens("İK"), ["i\u{307}k"]);
}

#[test]
fn ideographs_and_kana_are_words_by_themselves() {
    assert_eq!(tokens("连接error失败"), ["连", "接", "error", "失", "败"]);
    assert_eq!(tokens("エラー"), ["エ", "ラ", "ー"]);
}

#[test]
fn long_parts_are_cut_at_a_character_and_long_wholes_left_out() {
    let long = "é".repeat(200);
    assert_eq!(tokens(&long), ["é".repeat(127)]);
    let joined = format!("{}.b", "a".repeat(300));
    assert_eq!(tokens(&joined), ["a".repeat(255), "b".to_owned()]);
    let fits = format!("{}.b", "a".repeat(253));
    assert_eq!(tokens(&fits).last(), Some(&fits));
}

/// Wholes are compared after folding, parts are found before: folding may not turn one class into another.
#[test]
fn folding_keeps_the_class_of_every_character() {
    let is_part = |c: char| Pieces::new(&c.to_string()).next().is_some();
    for c in '\0'..=char::MAX {
        for lower in c.to_lowercase() {
            assert_eq!(is_part(c), is_part(lower), "{c:?} folds to {lower:?}");
            assert_eq!(is_word_char(c), is_word_char(lower), "{c:?} folds to {lower:?}");
        }
    }
}

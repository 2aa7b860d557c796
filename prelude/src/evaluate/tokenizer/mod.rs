//! Words as the caption metrics count them: caption → Penn Treebank tokens in lower case, punctuation left out.
//!
//! The field's scores are made with the Java tokenizer of Stanford CoreNLP 3.4.1 (`-preserveLines -lowerCase`) and its
//! output without 17 punctuation marks. This is a tokenizer of our own in its manner: at each place all `rules` are tried,
//! the longest wins, what must follow counted in. [`CaptionTokenizer::DIFFERENCES`] names where the two are known to part.

mod abbreviations;
mod characters;
mod rules;

use characters::Kind;

/// What the caption metrics do not count. Brackets are written `-lrb-` after lowering and so are counted, as in the reference.
const PUNCTUATION: [&str; 13] = [
    "''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";",
];

/// The tokenizer of the caption metrics.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// assert_eq!(CaptionTokenizer::tokenize("A cat isn't here, it's away."), "a cat is n't here it 's away");
/// assert_eq!(CaptionTokenizer::all("Two cats."), ["two", "cats", "."]);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CaptionTokenizer;

impl CaptionTokenizer {
    /// Where this tokenizer is known to part from the reference: what is written, the reference's tokens, ours. Besides, the
    /// reference takes a line separator (U+2028) inside a caption for the end of the caption, so that every later caption of its
    /// file belongs to another picture; and of letters it knows those of Unicode as of 2014, others it leaves out.
    pub const DIFFERENCES: [(&str, &str, &str); 4] = [
        (
            "vitamin c. The end",
            "vitamin c the end",
            "vitamin c. the end",
        ),
        ("he can`t", "he ca n`t", "he can t"),
        (
            "at AT&T., the shop",
            "at at&t. the shop",
            "at at&t the shop",
        ),
        ("didn'tü", "did n'tü", "did n't ü"),
    ];

    /// The tokens that metrics count, joined by single spaces.
    pub fn tokenize(caption: &str) -> String {
        let mut tokens = Self::all(caption);
        tokens.retain(|token| !PUNCTUATION.contains(&token.as_str()));
        tokens.join(" ")
    }

    /// All tokens in lower case, punctuation among them.
    pub fn all(caption: &str) -> Vec<String> {
        let text: Vec<char> = caption.chars().collect();
        let mut tokens = Vec::new();
        let mut at = 0;
        while at < text.len() {
            if let Some(length) = plain_word(&text[at..]) {
                tokens.push(
                    text[at..at + length]
                        .iter()
                        .collect::<String>()
                        .to_lowercase(),
                );
                at += length;
                continue;
            }
            match characters::kind(text[at]) {
                Kind::Space | Kind::Dropped => at += 1,
                _ => {
                    let found = rules::longest(&text, at);
                    tokens.extend(found.token.map(|token| spelled(&token)));
                    at += found.taken;
                }
            }
        }
        tokens
    }
}

/// A caption's tokens joined by spaces; one that is `tokenized` already stays as it is.
pub(super) fn prepared(caption: &str, tokenized: bool) -> String {
    match tokenized {
        true => caption.to_string(),
        false => CaptionTokenizer::tokenize(caption),
    }
}

/// A word of small and capital letters between white space needs no rules: most words are such.
fn plain_word(text: &[char]) -> Option<usize> {
    let length = text.iter().take_while(|c| c.is_ascii_alphabetic()).count();
    let ends = text.get(length).is_none_or(|c| matches!(c, ' ' | '\n'));
    (length > 0 && ends && !rules::is_split(&text[..length])).then_some(length)
}

/// A token as it is written in the end: lower case, soft hyphens left out.
fn spelled(token: &str) -> String {
    let lower = token.to_lowercase();
    match lower.as_str() {
        "\u{ad}" => "-".to_string(),
        _ => lower.replace('\u{ad}', ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contractions_are_split_and_punctuation_is_left_out() {
        for (caption, tokens) in [
            (
                "A man's dog doesn't bark; it won't.",
                "a man 's dog does n't bark it wo n't",
            ),
            ("", ""),
            (" \n", ""),
            ("'. \"", ""),
            (
                "two-thirds of a well-known T-shirt's sleeve",
                "two-thirds of a well-known t-shirt 's sleeve",
            ),
            (
                "The U.S. flag at 3:30p.m. on Elm St.",
                "the u.s. flag at 3:30 p.m. on elm st.",
            ),
            (
                "(a) cat/dog, $5.00 & 50%",
                "-lrb- a -rrb- cat/dog $ 5.00 & 50 %",
            ),
        ] {
            assert_eq!(CaptionTokenizer::tokenize(caption), tokens, "{caption}");
        }
    }
}

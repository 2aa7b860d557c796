//! What Python's Jinja has and minijinja has not, written in minijinja's words before a template is compiled.
//!
//! - `{% generation %}…{% endgeneration %}`, which marks the model's own words for training, becomes `{% with %}`: both have a
//!   scope of their own.
//! - `a ~ b` writes both sides as Python writes them (`None`, `True`): each becomes `a|string`.
//! - `a + b` passes both sides through `fits`, a filter that refuses texts without end.
//! - `{% for x in none %}` is an error: the list becomes `list|each`, a filter that refuses `none`.
//! - `{a: b}` becomes `dict_of(a, b)`, which keeps the order of the keys.
//! - `"%s" % a` becomes `"%s"|format(a)`.
//! - `list[::-1]` becomes `list|reverse`, which takes an empty list.

use std::ops::Range;

/// The template in minijinja's words; lines stay where they are.
pub fn rewrite(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = next_tag(rest) {
        let (before, tag) = rest.split_at(at);
        text += before;
        let Some(length) = tag_length(tag) else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(length);
        rest = after;
        if tag.starts_with("{#") {
            text += tag;
            continue;
        }
        let word =
            tag[2..tag.len() - 2].trim_matches(|c: char| c.is_whitespace() || "+-".contains(c));
        match word {
            "generation" | "endgeneration" if tag.starts_with("{%") => {
                text += &tag.replacen("generation", "with", 1);
            }
            "raw" if tag.starts_with("{%") => {
                text += tag;
                let end = end_of_raw(rest);
                text += &rest[..end];
                rest = &rest[end..];
            }
            _ => text += &expression(tag),
        }
    }
    text + rest
}

/// Where the next tag begins; what is behind that is not looked at, so that many tags take no longer than their text.
fn next_tag(text: &str) -> Option<usize> {
    let mut braces = text.match_indices('{').map(|(at, _)| at);
    braces.find(|at| text[at + 1..].starts_with(['%', '#', '{']))
}

/// The length of the tag that a text begins with, its closing included.
fn tag_length(tag: &str) -> Option<usize> {
    let close = match &tag[..2] {
        "{#" => return tag.find("#}").map(|at| at + 2),
        "{%" => "%}",
        _ => "}}",
    };
    let bytes = tag.as_bytes();
    let (mut at, mut depth) = (2, 0usize);
    while at < bytes.len() {
        if depth == 0 && tag.as_bytes()[at..].starts_with(close.as_bytes()) {
            return Some(at + 2);
        }
        match bytes[at] {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            quote @ (b'"' | b'\'') => at = end_of_string(bytes, at, quote),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The place of a string's closing quote.
fn end_of_string(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at.min(bytes.len())
}

/// Where `{% endraw %}` begins.
fn end_of_raw(text: &str) -> usize {
    text.match_indices("{%")
        .find(|(at, _)| {
            let word =
                text[at + 2..].trim_start_matches(|c: char| c.is_whitespace() || "+-".contains(c));
            word.starts_with("endraw")
        })
        .map_or(text.len(), |(at, _)| at)
}

/// One tag with its operators rewritten.
fn expression(tag: &str) -> String {
    let tokens = tokens(tag);
    let word = |at: usize| tokens.get(at).map_or("", |token| &tag[token.clone()]);
    let first = usize::from(["-", "+"].contains(&word(0)));
    let is_loop = tag.starts_with("{%") && word(first) == "for";
    let percent = tag[2..tag.len() - 2].contains('%');
    if !is_loop
        && !percent
        && !["~", "::", "+"].iter().any(|sign| tag.contains(sign))
        && !tag[2..].contains('{')
    {
        return tag.to_string();
    }
    // What to put in place of which bytes.
    let mut edits: Vec<(Range<usize>, &str)> = Vec::new();
    let behind = |at: usize| tokens[at].end..tokens[at].end;
    if is_loop && let Some(start) = (0..tokens.len()).find(|at| word(*at) == "in") {
        let end = operand(start + 1, &word);
        let last = ["-", "+"].contains(&word(end)) && end + 1 == tokens.len();
        if end > start + 1 && (last || ["", "if", "recursive"].contains(&word(end))) {
            edits.push((behind(end.min(tokens.len()) - 1), "|each"));
        }
    }
    let mut open = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let instead = match (word(at), open.last()) {
            ("(" | "[", _) => {
                open.push(word(at));
                continue;
            }
            ("{", _) => {
                open.push("{");
                "dict_of("
            }
            ("}", _) => {
                open.pop();
                ")"
            }
            (":", Some(&"{")) => ",",
            (")" | "]", _) => {
                open.pop();
                continue;
            }
            _ => continue,
        };
        edits.push((token.clone(), instead));
    }
    for at in 0..tokens.len() {
        let reversed = ["[", ":", ":", "-", "1", "]"];
        if (0..6).all(|i| word(at + i) == reversed[i]) && !["[", ".", "("].contains(&word(at + 6)) {
            edits.push((tokens[at].start..tokens[at + 5].end, "|reverse"));
        }
        if word(at) == "%" && at > 0 && is_string(word(at - 1)) {
            let end = operand(at + 1, &word);
            edits.push((tokens[at].clone(), "|format"));
            // Brackets around several values are there already.
            if end > at + 1 && end <= tokens.len() && word(at + 1) != "(" {
                edits.push((tokens[at + 1].start..tokens[at + 1].start, "("));
                edits.push((behind(end - 1), ")"));
            }
        }
        if word(at) == "+" && at > 0 && at + 1 < tokens.len() && ends_operand(word(at - 1)) {
            edits.push((behind(at - 1), "|fits"));
            let end = operand(at + 1, &word);
            if end > at + 1 && end <= tokens.len() {
                edits.push((behind(end - 1), "|fits"));
            }
        }
        if word(at) != "~" || at == 0 {
            continue;
        }
        if !is_string(word(at - 1)) {
            edits.push((behind(at - 1), "|string"));
        }
        let end = operand(at + 1, &word);
        let multiplied = ["*", "/", "%"].contains(&word(end));
        let is_text = end == at + 2 && is_string(word(at + 1));
        if end > at + 1 && !multiplied && !is_text && word(end) != "~" {
            edits.push((behind(end - 1), "|string"));
        }
    }
    // What is put before a place comes before what replaces it.
    edits.sort_by_key(|(place, _)| (place.start, place.end));
    let mut text = String::new();
    let mut done = 0;
    for (place, instead) in edits {
        text += tag.get(done..place.start).unwrap_or_default();
        text += instead;
        done = place.end;
    }
    text + &tag[done..]
}

/// Whether an operator may follow.
fn ends_operand(word: &str) -> bool {
    let last = word.chars().next_back();
    let name = last
        .is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | ')' | ']' | '}' | '"' | '\''));
    name && ![
        "in", "is", "not", "and", "or", "if", "else", "set", "return",
    ]
    .contains(&word)
}

fn is_string(word: &str) -> bool {
    word.starts_with(['"', '\''])
}

/// The token behind the operand that begins at `at`: a name, a literal or brackets, with what is called, picked or filtered.
fn operand<'a>(mut at: usize, word: &impl Fn(usize) -> &'a str) -> usize {
    while word(at) == "-" {
        at += 1;
    }
    at = match word(at) {
        "(" | "[" | "{" => closing(at, word),
        _ => at,
    } + 1;
    loop {
        at = match word(at) {
            "." | "|" => at + 2,
            "(" | "[" => closing(at, word) + 1,
            _ => return at,
        };
    }
}

/// The bracket that closes the one at `at`; the last token if none does.
fn closing<'a>(at: usize, word: &impl Fn(usize) -> &'a str) -> usize {
    let mut depth = 0usize;
    let mut end = at;
    loop {
        match word(end) {
            "" => return end.saturating_sub(1),
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return end;
        }
        end += 1;
    }
}

/// Names, numbers, strings and single signs of a tag, blanks left out.
fn tokens(tag: &str) -> Vec<Range<usize>> {
    let bytes = tag.as_bytes();
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
    let mut tokens = Vec::new();
    let mut at = 2;
    let end = tag.len() - 2;
    while at < end {
        let start = at;
        at += 1;
        match bytes[start] {
            byte if byte.is_ascii_whitespace() => continue,
            quote @ (b'"' | b'\'') => at = (end_of_string(bytes, start, quote) + 1).min(end),
            byte if is_word(byte) => {
                let number = byte.is_ascii_digit();
                let more = |at: usize| {
                    is_word(bytes[at])
                        || (number && bytes[at] == b'.' && bytes[at + 1].is_ascii_digit())
                };
                while at < end && more(at) {
                    at += 1;
                }
            }
            _ => {}
        }
        tokens.push(start..at);
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::rewrite;

    #[test]
    fn only_what_minijinja_lacks_is_rewritten() {
        for (source, expected) in [
            ("{{ a }} ~ b", "{{ a }} ~ b"),
            ("{{ 'a ~ b' ~ c }}", "{{ 'a ~ b' ~ c|string }}"),
            (
                "{{ a.b[0] ~ '}}' ~ f(x ~ y)|trim }}",
                "{{ a.b[0]|string ~ '}}' ~ f(x|string ~ y|string)|trim|string }}",
            ),
            (
                "{%- set x = a ~ (b if c else d) -%}",
                "{%- set x = a|string ~ (b if c else d)|string -%}",
            ),
            (
                "{{ x ~ -1.5 if y else z }}",
                "{{ x|string ~ -1.5|string if y else z }}",
            ),
            ("{{ '%s' % a.b[0] }}", "{{ '%s' |format (a.b[0]) }}"),
            (
                "{{ '%s %d' % (a, b) }}{{ 5 % 2 }}",
                "{{ '%s %d' |format (a, b) }}{{ 5 % 2 }}",
            ),
            ("{% for m in ms[::-1] %}", "{% for m in ms|reverse|each %}"),
            (
                "{%- for a, b in x.items() if b -%}",
                "{%- for a, b in x.items()|each if b -%}",
            ),
            (
                "{% for a in b + c %}{{ loop.index + 1 }}{{+ a +}}",
                "{% for a in b|fits + c|fits %}{{ loop.index|fits + 1|fits }}{{+ a +}}",
            ),
            (
                "{{ (ms[::-1])[0] ~ ms[::-1] }}",
                "{{ (ms|reverse)[0]|string ~ ms|reverse|string }}",
            ),
            (
                "{%- generation -%}a{% endgeneration %}",
                "{%- with -%}a{% endwith %}",
            ),
            (
                "{# {% generation %} #}{% raw %}{% generation %}{{ a ~ b }}{% endraw %}",
                "{# {% generation %} #}{% raw %}{% generation %}{{ a ~ b }}{% endraw %}",
            ),
            (
                "{{ {'a': {'b': c ~ d}}[1:] ~ {} }}",
                "{{ dict_of('a', dict_of('b', c|string ~ d|string))[1:]|string ~ dict_of()|string }}",
            ),
            ("{{ 'unclosed ~", "{{ 'unclosed ~"),
        ] {
            assert_eq!(rewrite(source), expected);
        }
    }
}

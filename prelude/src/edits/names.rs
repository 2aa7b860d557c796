//! Patterns of names, and the names that a wrong one may have meant.

use crate::headless::nearest::distance;

/// How many near names a message has.
const NEAREST: usize = 3;

/// Whether `name` is what `pattern` says; `*` in it stands for anything.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else {
        return rest.is_empty(); // no star
    };
    for part in between {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The names that are fewest letters away.
pub(super) fn nearest(word: &str, names: &[String]) -> Vec<String> {
    let mut ranked: Vec<(usize, usize, &String)> = names
        .iter()
        .enumerate()
        .map(|(at, name)| (distance(word, name), at, name))
        .collect();
    ranked.sort();
    let near = ranked.into_iter().take(NEAREST);
    near.map(|(_, _, name)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything_and_nothing_else_does() {
        for (pattern, name, is) in [
            ("llm/layers[*]/heads", "llm/layers[12]/heads", true),
            ("llm/layers[*]/heads", "llm/layers[12]/mlp", false),
            ("*", "logits", true),
            ("logits", "logits", true),
            ("logits", "logits2", false),
            ("logit*s", "logits", true),
            ("a*a", "a", false),
            ("*/layers[1]/*", "llm/layers[1]/mlp", true),
            ("*/layers[1]/*", "llm/layers[11]/mlp", false),
            ("", "logits", false),
        ] {
            assert_eq!(matches(pattern, name), is, "{pattern} {name}");
        }
    }

    #[test]
    fn the_nearest_names_come_first() {
        let names: Vec<String> = (0..4).map(|i| format!("llm/hidden_states[{i}]")).collect();
        assert_eq!(nearest("llm/hidden_state[2]", &names)[0], names[2]);
        assert_eq!(nearest("x", &[]), Vec::<String>::new());
    }
}

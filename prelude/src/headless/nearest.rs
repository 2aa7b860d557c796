//! Which known name a misspelled one was meant to be: the fewest letters to change, add, leave out or swap.

/// The nearest of the known names, if it is near.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let word = plain(word);
    let ranked = |name: &&&str| (distance(&word, &plain(name)), name.len());
    let is_slip = |name: &&&str| {
        let longest = word.chars().count().max(name.chars().count());
        distance(&word, &plain(name)) <= longest.div_ceil(3)
    };
    // `rate` is far from `learning_rate` letter by letter, and a part of it.
    let is_part = |name: &&&str| {
        word.len().min(name.len()) > 3
            && (plain(name).contains(&word) || word.contains(&plain(name)))
    };
    let slip = known.iter().filter(is_slip).min_by_key(ranked);
    let part = || known.iter().filter(is_part).min_by_key(ranked);
    slip.or_else(part).copied()
}

/// Damerau's and Levenshtein's, of neighbours swapped once at most.
pub(crate) fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut rows = vec![(0..=other.len()).collect::<Vec<usize>>()];
    for (i, a) in one.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let change = rows[i][j] + usize::from(a != b);
            let mut least = change.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && one[i - 1] == *b && *a == other[j - 1] {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[one.len()][other.len()]
}

/// What serde says of a name that there is not, with the one that was meant: "unknown field `stepz`, expected one of `steps`, …".
pub(super) fn with_suggestion(message: &str) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let unknown = message.contains("unknown field") || message.contains("unknown variant");
    match quoted.split_first() {
        Some((word, known)) if unknown => match nearest(word, known) {
            Some(meant) => format!("{message}; did you mean `{meant}`?"),
            None => message.to_owned(),
        },
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_understood_and_strangers_are_not() {
        let known = ["learning_rate", "steps", "batch_size", "seed"];
        for (word, meant) in [
            ("lerning_rate", Some("learning_rate")),
            ("learning-rate", Some("learning_rate")),
            ("LearningRate", Some("learning_rate")),
            ("stpes", Some("steps")),
            ("batchsize", Some("batch_size")),
            ("rate", Some("learning_rate")),
            ("colour", None),
        ] {
            assert_eq!(nearest(word, &known), meant, "{word}");
        }
        assert_eq!(nearest("a_wrong_word", &["r"]), None); // a letter is a part of many words
        assert_eq!(nearest("x", &[]), None);
        assert_eq!(distance("ab", "ba"), 1);
    }

    #[test]
    fn a_message_of_serde_gets_the_name_that_was_meant() {
        let said = with_suggestion("unknown field `stepz`, expected one of `steps`, `seed`");
        assert!(said.ends_with("did you mean `steps`?"), "{said}");
        assert_eq!(
            with_suggestion("invalid type: string \"a\""),
            "invalid type: string \"a\""
        );
    }
}

//! The most frequent caption: what a model says that knows the captions and looks at no picture.

use std::collections::BTreeMap;

use super::tokenizer::CaptionTokenizer;

/// The caption that stands there most often, capitals and punctuation aside. Of several (in COCO hardly a caption stands there
/// twice) the one whose words are most frequent on average, and of those the first.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::evaluate::most_frequent;
///
/// let captions = ["a red square", "a blue circle", "a red square"];
/// assert_eq!(most_frequent(captions).as_deref(), Some("a red square")); // what one would say unseen
/// ```
pub fn most_frequent<'a>(captions: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let captions: Vec<(&str, String)> = captions
        .into_iter()
        .map(|caption| (caption, CaptionTokenizer::tokenize(caption)))
        .filter(|(_, tokens)| !tokens.is_empty())
        .collect();
    let (mut whole, mut words) = (
        BTreeMap::<&str, usize>::new(),
        BTreeMap::<&str, usize>::new(),
    );
    for (_, tokens) in &captions {
        *whole.entry(tokens).or_default() += 1;
        for word in tokens.split(' ') {
            *words.entry(word).or_default() += 1;
        }
    }
    let usual = |tokens: &str| {
        let counts = tokens.split(' ').map(|word| words[word] as f64);
        counts.sum::<f64>() / tokens.split(' ').count() as f64
    };
    let mut best: Option<(&str, (usize, f64))> = None;
    for (caption, tokens) in &captions {
        let rank = (whole[tokens.as_str()], usual(tokens));
        if best.is_none_or(|(_, best)| rank > best) {
            best = Some((caption, rank));
        }
    }
    best.map(|(caption, _)| caption.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_captions_win_then_usual_words() {
        assert_eq!(
            most_frequent(["a b", "dog", "Dog!"]).as_deref(),
            Some("dog")
        );
        assert_eq!(
            most_frequent(["x y", "a dog", "a cat", "a dog runs"]).as_deref(),
            Some("a dog")
        );
        assert_eq!(most_frequent(["", "."]), None);
    }
}

//! Runs of one to four words and how often each stands in a caption: what BLEU and CIDEr-D count.

use std::collections::BTreeMap;

/// Longest run.
pub(super) const LONGEST: usize = 4;

/// How often each run stands in a caption, by length.
pub(super) struct Counts<'a> {
    /// Words of the caption.
    pub words: usize,
    /// Runs of length 1 to 4.
    pub of: [BTreeMap<&'a [&'a str], usize>; LONGEST],
}

/// The words of a caption that is tokenised already.
pub(super) fn words(caption: &str) -> Vec<&str> {
    caption.split_whitespace().collect()
}

/// Counts the runs of words.
pub(super) fn count<'a>(words: &'a [&'a str]) -> Counts<'a> {
    let mut counts = Counts {
        words: words.len(),
        of: Default::default(),
    };
    for (length, of) in (1..).zip(&mut counts.of) {
        for run in words.windows(length) {
            *of.entry(run).or_default() += 1;
        }
    }
    counts
}

//! Infilling: a caption with a gap in it, and the words that belong there, as CodeLlama is trained.
//!
//! ```text
//! PSM   start │ input │ end │ query │ <PRE> prefix <SUF> suffix <MID> │ middle <EOT>
//! SPM   start │ input │ end │ query │ <PRE> <SUF> suffix <MID> prefix │ middle <EOT>
//! ```
//! The blog's random prefix is the case of no suffix and a middle of one token. The marks are text, or tokens of their own where the
//! tokenizer has them (see `VlmSettings::new_tokens`).

use crate::display::facts::shown_by_fields;
use crate::vlm::prompt::Prompt;
use crate::vlm::{Vlm, VlmInput};
use crate::{Error, Result};
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// In which order prefix and suffix are read.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let image = Image::filled(80, 80, [200, 30, 40])?;
/// let gap = Infilling { order: GapOrder::Spm, ..Infilling::default() };
/// let prompt = vlm.infilling_prompt(&image, &gap, ["a", "red", "square"])?;
/// display(&prompt); // what stands behind the gap comes first
/// assert_eq!(vlm.llm_processor.decode(&prompt.answer_ids())?, "red");
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GapOrder {
    /// Prefix, suffix, middle.
    #[default]
    Psm,
    /// Suffix, prefix, middle: the middle goes on where the prefix ends.
    Spm,
}

/// How a gap is written.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let image = Image::filled(80, 80, [200, 30, 40])?;
/// let prompt = vlm.infilling_prompt(&image, &Infilling::default(), ["a", "", "square"])?;
/// let word = vlm.generate(&prompt)?.max_new_tokens(3).run()?; // what stands between "a" and "square"?
/// assert!(!word.ids.is_empty());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Infilling {
    /// Prefix or suffix first.
    pub order: GapOrder,
    /// Stands before the prefix.
    pub prefix_mark: String,
    /// Stands before the suffix.
    pub suffix_mark: String,
    /// Stands before the middle.
    pub middle_mark: String,
    /// Ends the middle; `None`: the model's end-of-sequence token, at which generation stops.
    pub end_mark: Option<String>,
}

impl Default for Infilling {
    /// CodeLlama's marks.
    fn default() -> Self {
        Self {
            order: GapOrder::Psm,
            prefix_mark: "<PRE>".into(),
            suffix_mark: "<SUF>".into(),
            middle_mark: "<MID>".into(),
            end_mark: None,
        }
    }
}

shown_by_fields!(Infilling, GapOrder);

impl Infilling {
    /// The marks as [`VlmSettings::new_tokens`](crate::vlm::VlmSettings::new_tokens), so that each becomes one token that trains.
    pub fn new_tokens(&self) -> Vec<String> {
        let marks = [&self.prefix_mark, &self.suffix_mark, &self.middle_mark];
        marks.into_iter().chain(&self.end_mark).cloned().collect()
    }

    /// A caption cut into prefix, middle and suffix, between words, at two places drawn from `rng`; the middle has a word at least.
    ///
    /// # Errors
    /// For a caption without words.
    pub fn cut<'a>(&self, caption: &'a str, rng: &mut ChaCha8Rng) -> Result<[&'a str; 3]> {
        let caption = caption.trim();
        let place = |word: &str| word.as_ptr() as usize - caption.as_ptr() as usize;
        let starts: Vec<usize> = caption.split_whitespace().map(place).collect();
        if caption.is_empty() {
            return Err(Error::Input(
                "a caption without words has no gap to fill".into(),
            ));
        }
        let from = rng.random_range(0..starts.len());
        let to = rng.random_range(from + 1..=starts.len());
        let end = starts.get(to).copied().unwrap_or(caption.len());
        Ok([
            &caption[..starts[from]],
            &caption[starts[from]..end],
            &caption[end..],
        ]
        .map(str::trim))
    }
}

impl Vlm {
    /// An input and its caption with a gap: `middle` is the target; an empty one is left to the model.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let image = Image::filled(64, 64, [200, 30, 40])?;
    /// let gap = Infilling::default();
    /// let learnt = vlm.infilling_prompt(&image, &gap, ["a", "red", "square"])?;
    /// let loss = vlm.full_sequence_loss_of(&learnt)?.value()?;
    /// let asked = vlm.infilling_prompt(&image, &gap, ["a", "", "square"])?;
    /// let word = vlm.generate(&asked)?.max_new_tokens(3).run()?;
    /// # assert!(loss > 0.0 && !word.ids.is_empty());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// For an input that can't be prepared, or when the tokenizer refuses.
    pub fn infilling_prompt(
        &self,
        input: &dyn VlmInput,
        form: &Infilling,
        [prefix, middle, suffix]: [&str; 3],
    ) -> Result<Prompt> {
        let encode = |text: &str| self.given_ids(text);
        let (before, behind) = (encode(prefix)?, encode(suffix)?);
        let [pre, suf, mid] =
            [&form.prefix_mark, &form.suffix_mark, &form.middle_mark].map(|mark| encode(mark));
        let (pre, suf, mid) = (pre?, suf?, mid?);
        let given = match form.order {
            GapOrder::Psm => [pre, before, suf, behind, mid].concat(),
            GapOrder::Spm => [pre, suf, behind, mid, before].concat(),
        };
        let mut target = encode(middle)?;
        if !target.is_empty() {
            match &form.end_mark {
                Some(mark) => target.extend(encode(mark)?),
                None => target.extend(self.llm_processor.eos_id()),
            }
        }
        let prompt = self.open_prompt(input)?;
        Ok(prompt.text(&given).target(&target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn a_cut_caption_is_the_caption_and_its_middle_has_words() -> Result<()> {
        let form = Infilling::default();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let parts = form.cut("a small red  circle", &mut rng)?;
            assert!(!parts[1].is_empty());
            assert_eq!(
                parts.join(" ").split_whitespace().collect::<Vec<_>>(),
                ["a", "small", "red", "circle"]
            );
            seen.insert(parts);
        }
        assert!(seen.len() >= 10, "{seen:?}");
        assert_eq!(form.cut("word", &mut rng)?, ["", "word", ""]);
        assert!(form.cut("  ", &mut rng).is_err());
        Ok(())
    }
}

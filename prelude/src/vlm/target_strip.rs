//! Which tokens of a sample carry loss, as a strip: what the language model reads, with the targets marked.

use super::loss::no_target;
use super::prompt::Prompt;
use super::query::Query;
use super::{Vlm, VlmInput};
use crate::Result;
use crate::display::TokenStrip;

impl Vlm {
    /// The sequence of one input (or an open [`Prompt`]) and a caption, its caption parted into tokens that are given, tokens that
    /// are targets (each is predicted from all before it), and tokens behind them.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let strip = vlm.target_strip(&Image::filled(80, 80, [200, 30, 40])?, "a red square")?;
    /// display(&strip); // tokens that are given, and those that the loss asks for
    /// assert!(strip.render().plain().contains("red"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Vlm::full_sequence_loss`].
    pub fn target_strip(&self, input: &dyn VlmInput, caption: &str) -> Result<TokenStrip> {
        let prompt = self.answered(input, &Query::Vector, &self.caption_ids(caption)?)?;
        self.sequence(std::slice::from_ref(&prompt))?.strip(0)
    }

    /// Refuses prompts that have nothing to learn from: those without a token that carries loss. Each has a name for the
    /// message.
    ///
    /// # Errors
    /// [`Error::NoTarget`] with all of them.
    pub(crate) fn check_targets<'a>(
        &self,
        samples: impl IntoIterator<Item = (String, &'a Prompt)>,
    ) -> Result<()> {
        let mut without = Vec::new();
        for (name, prompt) in samples {
            if !prompt.target_places().is_empty() {
                continue;
            }
            let ids = prompt.answer_ids();
            let tokens = if ids.len() == 1 { "token" } else { "tokens" };
            without.push(match ids.len() {
                0 => format!("{name}, whose caption is empty"),
                length => {
                    let words = self.llm_processor.decode(&ids)?;
                    format!("{name}, whose caption is {words:?} ({length} {tokens})")
                }
            });
        }
        match without.is_empty() {
            true => Ok(()),
            false => Err(no_target(without)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use crate::display::Render;
    use crate::train::Example;
    use crate::vision::Image;
    use crate::vlm::{BosPlacement, Targets, VlmSettings};
    use candle_core::Device;

    fn model(targets: Targets, bos: BosPlacement) -> Result<Vlm> {
        let settings = VlmSettings {
            targets,
            bos,
            ..VlmSettings::tiny()
        };
        Vlm::tiny(&Device::Cpu)?.with_settings(settings, 0)
    }

    #[test]
    fn the_strip_marks_what_carries_loss() -> Result<()> {
        for (targets, given, words) in [(Targets::AllAndEos, 0, 4), (Targets::Middle, 1, 1)] {
            let vlm = model(targets, BosPlacement::Once)?;
            let input = Image::filled(32, 32, [9; 3])?.prepare(&vlm)?;
            let length = vlm.caption_ids("two red circles")?.len();
            let plain = vlm.target_strip(&input, "two red circles")?.render();
            let plain = plain.plain().to_owned();
            assert!(
                plain.contains(&format!("target {}", vlm.target_range(length).len())),
                "{plain}"
            );
            assert_eq!(plain.contains("| prefix 1"), given == 1, "{plain}");
            assert!(length >= words, "{length}");
        }
        Ok(())
    }

    #[test]
    fn samples_without_a_target_are_named() -> Result<()> {
        let vlm = model(Targets::Middle, BosPlacement::Once)?;
        let input = Image::filled(32, 32, [9; 3])?;
        let mut samples = Vec::new();
        for (name, caption) in [
            ("a", "red"),
            ("b", "two red circles"),
            ("c", " "),
            ("d", "red"),
        ] {
            let example = Example::new(&input, caption);
            samples.push((name.to_string(), example.prompt(&vlm, Some(0))?));
        }
        let named = samples.iter().map(|(name, prompt)| (name.clone(), prompt));
        let error = vlm.check_targets(named).unwrap_err();
        let Error::NoTarget { samples, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(samples.len(), 3, "{error}");
        assert!(
            error
                .to_string()
                .contains("d, whose caption is \"red\" (1 token)"),
            "{error}"
        );
        Ok(())
    }
}

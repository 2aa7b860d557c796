//! Which tokens of a sample carry loss, as a strip: what the language model reads, with the targets marked.

use super::Vlm;
use super::concatenate::Query;
use crate::display::{SegmentKind, TokenStrip};
use crate::{Error, Result};
use candle_core::Tensor;

impl Vlm {
    /// The sequence of one prepared input `[1, ..]` and a caption, its caption parted into tokens that are given, tokens that
    /// are targets (each is predicted from all before it), and tokens behind them.
    ///
    /// # Errors
    /// As [`Vlm::full_sequence_loss`].
    pub fn target_strip(&self, input: &Tensor, caption: &str) -> Result<TokenStrip> {
        let ids = self.caption_ids(caption)?;
        let targets = self.target_range(ids.len());
        let image_tokens = self.image_tokens(input)?; // [1, P, D]
        let prompt = self.concatenate(&image_tokens, &Query::Vector, &[])?; // [1, T, D]
        let mut strip = prompt.strip(0)?;
        let embeddings = self.llm.embed_ids(&ids)?; // [1, p, D]
        for (kind, from, to) in [
            (SegmentKind::Prefix, 0, targets.start),
            (SegmentKind::Target, targets.start, targets.end),
            (SegmentKind::Text, targets.end, ids.len()),
        ] {
            if from < to {
                let words = ids[from..to].iter().map(|&id| self.llm_processor.token(id));
                strip = strip.embedded(kind, words, &embeddings.narrow(1, from, to - from)?)?;
            }
        }
        Ok(strip)
    }

    /// Refuses samples that have nothing to learn from: those without a token that carries loss. Each has a name for the
    /// message and a caption.
    ///
    /// # Errors
    /// [`Error::NoTarget`] with all of them.
    pub fn check_targets<'a>(
        &self,
        samples: impl IntoIterator<Item = (String, &'a str)>,
    ) -> Result<()> {
        let mut without = Vec::new();
        for (name, caption) in samples {
            if caption.trim().is_empty() {
                without.push(format!("{name}, whose caption is empty"));
                continue;
            }
            let length = self.caption_ids(caption)?.len();
            if self.target_range(length).is_empty() {
                let tokens = if length == 1 { "token" } else { "tokens" };
                without.push(format!(
                    "{name}, whose caption is {caption:?} ({length} {tokens})"
                ));
            }
        }
        match without.is_empty() {
            true => Ok(()),
            false => Err(Error::NoTarget {
                samples: without,
                hint: "leave it out or give it more words; with `Targets::AllAndEos` one token is enough, with \
                       `Targets::Middle`, the blog's range, the first and the last are never targets"
                    .into(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::display::Render;
    use crate::vision::Image;
    use crate::vlm::{BosPlacement, Targets, VlmInput, VlmSettings};
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
        let samples = [
            ("a", "red"),
            ("b", "two red circles"),
            ("c", " "),
            ("d", "red"),
        ];
        let error = vlm
            .check_targets(samples.map(|(name, caption)| (name.to_string(), caption)))
            .unwrap_err();
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

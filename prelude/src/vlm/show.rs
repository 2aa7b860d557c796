//! How models, settings, and what has not run yet show themselves.

use super::beam::Hypothesis;
use super::prompt::Prompt;
use super::{
    AdapterTraining, BaseModels, Beam, BeamSearch, BosPlacement, CaptionBatch, EarlyStopping,
    Generate, Generation, LossOutput, Preset, PromptStyle, PromptVectors, Query, Sampling,
    Sequence, Stopped, Targets, Vlm, VlmParts, VlmSettings,
};
use crate::display::facts::{debug_by_facts, debug_by_first_line, shown_by_facts, shown_by_fields};
use crate::display::{Facts, MimeBundle, Render, number};
use crate::nn::show;

impl Vlm {
    fn facts(&self) -> Facts {
        Facts::new(format!("Vlm, settings “{}”", self.settings.name))
            .fact("encoder", self.image_encoder.kind())
            .fact("parameters", show::parameters(&self.named_parameters()))
    }
}

debug_by_facts!(Vlm);

impl VlmParts {
    fn facts(&self) -> Facts {
        Facts::new("VlmParts: what a model is put together from")
            .fact("image_encoder", format!("{:?}", self.image_encoder))
            .fact("llm", format!("{:?}", self.llm))
            .fact(
                "llm_processor",
                format!("{} entries", self.llm_processor.vocab_size()),
            )
            .hint("Vlm::new(parts, VlmSettings::corrected(), 0)? puts them together")
    }
}

impl Generate {
    fn facts(&self) -> Facts {
        let pictures = self.pixel_values.dims().first().copied().unwrap_or(1);
        let how = match (self.beams.num_beams, self.sampling.temperature > 0.0) {
            (2.., _) => format!("the best of {} beams", self.beams.num_beams),
            (_, true) => format!(
                "drawn, temperature {}, top_k {}, top_p {}, seed {}",
                self.sampling.temperature, self.sampling.top_k, self.sampling.top_p, self.seed
            ),
            (_, false) => "greedy: the most probable token each time".into(),
        };
        let query = match &self.query {
            Query::Vector => "the model's own".to_owned(),
            other => format!("{other:?}"),
        };
        let mut stop: Vec<String> = self
            .stop_ids
            .iter()
            .map(|id| self.vlm.llm_processor.token(*id))
            .collect();
        stop.dedup();
        let penalty = self.sampling.repetition_penalty;
        let next = match pictures {
            1 => {
                "Nothing has been generated yet: call `.run()?`, or `.stream()?` to watch it being written."
            }
            _ => "Nothing has been generated yet: call `.run_all()?`.",
        };
        Facts::new("Generate: a generation, set up")
            .fact(
                "inputs",
                format!("{pictures}, {}", show::shape(&self.pixel_values)),
            )
            .fact("query", query)
            .fact("max_new_tokens", self.max_new_tokens)
            .fact("tokens", how)
            .fact_if("repetition_penalty", (penalty != 1.0).then_some(penalty))
            .fact(
                "stops at",
                if stop.is_empty() {
                    "no token".into()
                } else {
                    stop.join(" ")
                },
            )
            .fact(
                "cache",
                if self.cache {
                    "yes"
                } else {
                    "no: every token runs all again"
                },
            )
            .hint(next)
    }
}

impl CaptionBatch {
    fn facts(&self) -> Facts {
        let lengths: Vec<String> = self
            .caption_ids
            .iter()
            .map(|ids| ids.len().to_string())
            .collect();
        Facts::new("CaptionBatch: inputs with captions, for a loss")
            .fact("pixel_values", show::shape(&self.pixel_values))
            .fact("captions", number::count(self.caption_ids.len() as u64))
            .fact("tokens of each", lengths.join(", "))
            .fact("query", format!("{:?}", self.query))
            .hint("`vlm.full_sequence_loss_of(&batch)?` gives its loss")
    }
}

shown_by_facts!(VlmParts, Generate, CaptionBatch);
debug_by_first_line!(Generation, Sequence, LossOutput, Preset);
shown_by_fields!(
    VlmSettings,
    BaseModels,
    AdapterTraining,
    Targets,
    BosPlacement,
    PromptVectors,
    PromptStyle,
    Sampling,
    BeamSearch,
    EarlyStopping,
    Hypothesis,
    Query,
    Prompt,
    Stopped,
);

impl Render for Beam {
    fn render(&self) -> MimeBundle {
        MimeBundle::text(format!(
            "{} ({} tokens, score {})",
            self.text,
            self.ids.len(),
            number::float(self.score)
        ))
    }
}

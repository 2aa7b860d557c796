//! How models, settings, and what has not run yet show themselves.

use super::beam::Hypothesis;
use super::{
    AdapterTraining, BaseModels, Beam, BeamSearch, BosPlacement, CaptionBatch, EarlyStopping,
    Generate, Generation, InputPiece, LossOutput, Piece, Preset, Prompt, PromptPart, PromptStyle,
    PromptVectors, PromptWords, Query, Sampling, Seen, Segments, Sequence, Stopped, TargetPiece,
    Targets, Vlm, VlmParts, VlmSettings,
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
        let pictures = self.prompts.len();
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
            .fact("texts", pictures)
            .fact_if("reads", self.prompts.first().map(|prompt| prompt.reads()))
            .fact("query", query)
            .fact_if("prefix", (!self.prefix.is_empty()).then_some(&self.prefix))
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

impl InputPiece {
    fn facts(&self) -> Facts {
        let encoder = self.encoder.as_deref().unwrap_or("image_encoder");
        let facts = Facts::new(format!("InputPiece for {encoder}"));
        match &self.seen {
            Seen::Nothing => facts.hint("a place that `prompt.shown(&[input])?` fills"),
            Seen::Prepared(input) => facts.fact("prepared", show::shape(input)),
            Seen::Tiled(tiles) => facts.fact("tiles", tiles.count()),
            Seen::Embedded(tokens) => facts.fact("image tokens", show::shape(tokens)),
        }
    }
}

impl Seen {
    fn facts(&self) -> Facts {
        match self {
            Self::Nothing => Facts::new("Nothing"),
            Self::Prepared(input) => Facts::new("Prepared").fact("input", show::shape(input)),
            Self::Tiled(tiles) => Facts::new("Tiled").fact("tiles", tiles.count()),
            Self::Embedded(tokens) => Facts::new("Embedded").fact("tokens", show::shape(tokens)),
        }
    }
}

shown_by_facts!(VlmParts, Generate, CaptionBatch, InputPiece, Seen);
debug_by_first_line!(
    Generation, Sequence, Segments, LossOutput, Preset, Prompt, Piece
);
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
    PromptPart,
    PromptWords,
    TargetPiece,
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

//! How metrics and what they are made of show themselves.

use super::bootstrap::Interval;
use super::evaluation::Condition;
use super::metric::{Answered, Needs, Surprise, Unit};
use super::run::Evaluator;
use super::set::{EvaluationItem, PromptItem};
use super::{
    AttributeAccuracy, Bleu, Calibration, CaptionTokenizer, CiderD, ExactMatch, MeteorExact,
    Perplexity, RougeL, RoundedLoss, SetText, SetTexts, VqaAccuracy, YesNo,
};
use crate::display::facts::{debug_by_facts, debug_by_first_line, shown_by_facts, shown_by_fields};
use crate::display::html::escape;
use crate::display::{Facts, MimeBundle, Render};

shown_by_fields!(
    Interval,
    Condition,
    Answered,
    Needs,
    Surprise,
    Unit,
    AttributeAccuracy,
    Bleu,
    Calibration,
    CaptionTokenizer,
    CiderD,
    ExactMatch,
    MeteorExact,
    Perplexity,
    RoundedLoss,
    RougeL,
    VqaAccuracy,
    YesNo,
);

impl SetText {
    fn facts(&self) -> Facts {
        Facts::new(format!("Example {} of a set", self.position))
            .fact("text", &self.generation.text)
            .fact("tokens", self.generation.ids.len())
    }
}

impl Render for SetTexts {
    fn render(&self) -> MimeBundle {
        self.table().render()
    }
}

impl Evaluator {
    fn facts(&self) -> Facts {
        Facts::new("Evaluator")
            .fact("metrics", self.metric_names().join(", "))
            .fact(
                "baselines",
                if self.has_baselines() {
                    "blind, another picture, most frequent caption"
                } else {
                    "none"
                },
            )
            .hint("`.run(&vlm, &set)?` asks the model and scores its answers")
    }
}

impl EvaluationItem {
    fn facts(&self) -> Facts {
        Facts::new(format!("EvaluationItem: {}", self.image))
            .fact_if("query", self.query.as_ref())
            .fact("references", self.references.join(" | "))
    }
}

impl PromptItem {
    fn facts(&self) -> Facts {
        Facts::new("PromptItem")
            .fact("references", self.references.join(" | "))
            .fact("reads", self.prompt.reads())
    }
}

shown_by_facts!(Evaluator, SetText);
debug_by_first_line!(SetTexts);
debug_by_facts!(EvaluationItem, PromptItem);

impl Render for PromptItem {
    /// The prompt, then what is right.
    fn render(&self) -> MimeBundle {
        let right = format!("references: {}", self.references.join(" | "));
        self.prompt.strip().title(right).render()
    }
}

impl Render for EvaluationItem {
    /// The picture above what is asked and what is right.
    fn render(&self) -> MimeBundle {
        let facts = self.facts().render();
        let words = escape(facts.plain());
        let picture = self.image.to_html(self.image.shown_width());
        MimeBundle::text(facts.plain().to_string())
            .with_html(format!("<figure style=\"margin:0\">{picture}<figcaption style=\"white-space:pre-wrap\">{words}</figcaption></figure>"))
    }
}

//! How good are the answers? (model, held-out pictures) → what it says → figures with intervals, beside baselines.
//!
//! # Layout
//! - `metric`: what a metric is; one file each:
//!   - of captions: `bleu`, `rouge`, `cider`, `meteor` (its exact stage), by the words of `tokenizer`
//!   - of answers: `exact_match`, `vqa`, `yes_no`, `calibration`; any of them `by_kind` of question; of what the model expects: `perplexity`
//!   - `attributes`: for shapes pictures, colour, shape and count read from the caption and compared with the truth
//! - `answers`: for any set, the text compared with what its example says; `rounding`: the loss with rounded weights
//! - `set`: what a model is asked; `run`: asks, with the picture, blind and with another picture; `speak`: what it says;
//!   `shared`: by several ranks; `item`: what is read of one question; `others`: which other picture; `readable`: past the files that can't be read
//! - `written`: what a model writes about every example of a set, without a score
//! - `evaluation`: the table; `bootstrap`: the intervals; `frequent`: the baseline that looks at nothing;
//!   `show`: how all of this shows itself
//!
//! SPICE is not here, and METEOR only with its exact stage: SPICE makes graphs of captions with the Stanford parser, whose
//! models its package fetches from elsewhere.

mod answers;
mod attributes;
mod bleu;
mod bootstrap;
mod by_kind;
mod calibration;
mod cider;
mod evaluation;
mod exact_match;
mod frequent;
mod item;
mod meteor;
mod metric;
mod ngrams;
mod others;
mod perplexity;
mod readable;
mod rouge;
mod rounding;
mod run;
mod set;
mod shared;
mod show;
mod speak;
mod tokenizer;
mod vqa;
mod written;
mod yes_no;

pub use answers::{Answer, AnswerReport, answer_accuracy};
pub use attributes::{AttributeAccuracy, AttributeReport, Prediction, attribute_accuracy};
pub use bleu::Bleu;
pub use bootstrap::{Interval, not_above};
pub use by_kind::ByKind;
pub use calibration::{Calibration, Reliability};
pub use cider::CiderD;
pub use evaluation::{Condition, Evaluation, Row};
pub use exact_match::ExactMatch;
pub use frequent::most_frequent;
pub use meteor::MeteorExact;
pub use metric::{Answered, Metric, Needs, Score, Surprise, Unit};
pub use perplexity::Perplexity;
pub use rouge::RougeL;
pub use rounding::{RoundedLoss, RoundingCost, rounding_cost};
pub use run::{Evaluator, evaluate};
pub use set::{EvaluationItem, EvaluationSet, PromptItem};
pub use tokenizer::CaptionTokenizer;
pub use vqa::VqaAccuracy;
pub use written::{SetText, SetTexts, generate_set};
pub use yes_no::YesNo;

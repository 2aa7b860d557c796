//! What rounding the language model's weights costs: the loss over a set, as the model is and as GGUF files of each type have it.
//!
//! ```text
//! model ─ for each type: a copy with LoRA added in and its matrices rounded ─ every answer of the set ─▶ loss per token, and the difference
//! ```

use crate::display::facts::debug_by_first_line;
use crate::display::{Cell, MimeBundle, Progress, Render, Table};
use crate::language::GgufType;
use crate::train::TrainingSet;
use crate::train::unreadable::{self, LeftOut, Unreadable};
use crate::vlm::Vlm;
use crate::{Error, Result};
use candle_core::DType;

/// The loss with the weights in one form.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let set = vec![Example::new(&Image::filled(80, 80, [200, 30, 40])?, "a red square")];
/// let cost = rounding_cost(&vlm, &set, 1, &[GgufType::Q8_0])?;
/// assert_eq!(cost.rows[0].weights, None); // as the model has them
/// assert_eq!(cost.rows[1].weights, Some(GgufType::Q8_0));
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoundedLoss {
    /// How the matrices are stored; `None`: as the model has them now, LoRA beside them.
    pub weights: Option<GgufType>,
    /// Mean cross-entropy of a token, in nats.
    pub loss: f64,
}

/// The loss before rounding and after.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let set = vec![Example::new(&Image::filled(64, 64, [200, 30, 40])?, "a red square")];
/// let found: RoundingCost = rounding_cost(&vlm, &set, 1, &[GgufType::Q8_0])?;
/// assert_eq!(found.rows.len(), 2); // the weights as they are, then rounded
/// assert_eq!(found.cost(GgufType::Q8_0), Some(found.rows[1].loss - found.rows[0].loss));
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone)]
pub struct RoundingCost {
    /// The model as it is, then each type that was asked for.
    pub rows: Vec<RoundedLoss>,
    /// Tokens of the answers.
    pub tokens: usize,
    /// Examples that they are of.
    pub examples: usize,
    /// Examples that were left out because they can't be read.
    pub unreadable: Vec<Unreadable>,
}

impl RoundingCost {
    /// How much larger the loss is with a type than without rounding, in nats; `None` for a type that was not asked for.
    pub fn cost(&self, weights: GgufType) -> Option<f64> {
        let row = self.rows.iter().find(|row| row.weights == Some(weights))?;
        Some(row.loss - self.rows.first()?.loss)
    }
}

/// Measures the loss on the first `samples` examples of a set with the language model as it is, and as a GGUF file of each type has
/// it (see [`Decoder::rounded`](crate::language::Decoder::rounded)). Encoder and projector stay as they are. Shows progress.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let image = Image::filled(64, 64, [200, 30, 40])?;
/// let set = vec![Example::new(&image, "a red square")];
/// let cost = rounding_cost(&vlm, &set, 1, &[GgufType::Q8_0, GgufType::Q4_0])?;
/// assert!(cost.cost(GgufType::Q8_0).is_some_and(|nats| nats.abs() < 0.5));
/// # Ok(()) }
/// ```
///
/// # Errors
/// `Interrupted`; `Input` when there is nothing to measure or weights can't be rounded; whatever reading an example reports.
pub fn rounding_cost(
    vlm: &Vlm,
    set: &dyn TrainingSet,
    samples: usize,
    types: &[GgufType],
) -> Result<RoundingCost> {
    let samples = samples.min(set.len());
    if samples == 0 {
        return Err(Error::Input(
            "the loss over 0 examples: ask for at least 1".into(),
        ));
    }
    let kinds: Vec<Option<GgufType>> = [None]
        .into_iter()
        .chain(types.iter().copied().map(Some))
        .collect();
    let progress = Progress::new("loss of rounded weights", samples * kinds.len());
    let mut rows = Vec::with_capacity(kinds.len());
    let (mut tokens, mut examples, mut left_out) = (0, 0, LeftOut::default());
    for weights in kinds {
        let mut model = vlm.share();
        if let Some(weights) = weights {
            model.llm = vlm.llm.rounded(weights)?;
        }
        (tokens, examples, left_out) = (0, 0, LeftOut::default());
        let mut nats = 0.0;
        for position in 0..samples {
            progress.advance(1)?;
            let example = match set.example(&model, position) {
                Ok(example) => example,
                Err(error) => {
                    left_out.add((true, position), error, (unreadable::MOST, set.len()))?;
                    continue;
                }
            };
            examples += 1;
            for choice in 0..example.choices() {
                let prompt = example.prompt(&model, Some(choice))?;
                let loss = model.full_sequence_loss_of(&prompt)?;
                let each: Vec<f32> = loss.cross_entropy.to_dtype(DType::F32)?.to_vec1()?; // [N]
                nats += each.iter().map(|loss| f64::from(*loss)).sum::<f64>();
                tokens += each.len();
            }
        }
        if tokens == 0 {
            return Err(Error::Input(
                "no example of the set can be read, or none has an answer".into(),
            ));
        }
        rows.push(RoundedLoss {
            weights,
            loss: nats / tokens as f64,
        });
    }
    progress.finish("");
    Ok(RoundingCost {
        rows,
        tokens,
        examples,
        unreadable: left_out.list().to_vec(),
    })
}

impl Render for RoundingCost {
    fn render(&self) -> MimeBundle {
        let mut title = format!(
            "Rounding the language model's weights: {} tokens of {} examples",
            self.tokens, self.examples
        );
        if !self.unreadable.is_empty() {
            title.push_str(&format!(", {}", unreadable::words(self.unreadable.len())));
        }
        let mut table = Table::new(["weights", "loss", "difference", "perplexity"]).title(title);
        for row in &self.rows {
            let (name, difference) = match row.weights {
                None => ("as they are", String::new()),
                Some(kind) => (
                    kind.name(),
                    format!("{:+.4}", self.cost(kind).unwrap_or_default()),
                ),
            };
            table.push(vec![
                name.into(),
                Cell::figure(format!("{:.4}", row.loss)),
                Cell::figure(difference),
                Cell::figure(format!("{:.3}", row.loss.exp())),
            ]);
        }
        table
            .note("nats per token, each after all that stands before it")
            .render()
    }
}

debug_by_first_line!(RoundingCost);

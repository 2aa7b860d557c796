//! The most probable next tokens, with their probabilities as bars.

use candle_core::{DType, Device, Tensor};

use super::table::{Cell, Table};
use super::tokens::visible;
use super::{MimeBundle, Render, html, number};
use crate::error::{Error, Result};

/// One candidate for the next token.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let table = vlm.next_tokens(&Image::filled(80, 80, [200, 30, 40])?, "a red", 5)?;
/// let first = &table.top()[0];
/// assert_eq!(first.rank, 1);
/// assert!(first.probability >= table.top()[1].probability);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct NextToken {
    /// Place in the order of probability, from 1.
    pub rank: usize,
    /// The token's id.
    pub id: u32,
    /// Its text, as the tokenizer gives it.
    pub text: String,
    /// Its probability, 0 to 1.
    pub probability: f64,
    /// What the language model head said, before the softmax.
    pub logit: f64,
}

/// The top candidates for one position, and where the right one is.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let logits = Tensor::new(&[0f32, 2.0, 1.0], &Device::Cpu)?; // [V]
/// let words = ["red", "blue", "green"];
/// let table = NextTokenTable::from_logits(&logits, 2, Some(0), &|id| words[id as usize].to_string())?;
/// assert_eq!(table.top()[0].text, "blue");
/// assert_eq!(table.target().map(|target| target.rank), Some(3)); // "red" is the least likely
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct NextTokenTable {
    title: String,
    top: Vec<NextToken>,
    target: Option<NextToken>,
    vocabulary: usize,
}

impl NextTokenTable {
    /// The `k` most probable tokens for the logits of one position: `[V]`, or any shape with V values in all such as
    /// `[1, 1, V]`. `target`, where there is a right answer, is shown even if it is not among them. `text` gives a
    /// token's text.
    ///
    /// # Errors
    /// [`Error::Input`] if the logits are of no or of several positions, or if `target` is not in the vocabulary.
    pub fn from_logits(
        logits: &Tensor,
        k: usize,
        target: Option<u32>,
        text: &dyn Fn(u32) -> String,
    ) -> Result<Self> {
        let vocabulary = logits.dims().last().copied().unwrap_or(0);
        if vocabulary == 0 || logits.elem_count() != vocabulary {
            return Err(Error::Input(format!(
                "a next-token table shows one position, but the logits have shape {:?}: take one, such as logits.i((0, position))?",
                logits.dims(),
            )));
        }
        if let Some(target) = target.filter(|target| *target as usize >= vocabulary) {
            return Err(Error::Input(format!(
                "token {target} is not in a vocabulary of {vocabulary}"
            )));
        }
        let logits = logits.detach().to_device(&Device::Cpu)?.flatten_all()?; // [V]
        let logits = logits.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        // NaN sorts last, so that it never hides a real candidate.
        let key = |id: usize| {
            if logits[id].is_nan() {
                f32::NEG_INFINITY
            } else {
                logits[id]
            }
        };
        let mut order: Vec<usize> = (0..vocabulary).collect();
        order.sort_by(|a, b| key(*b).total_cmp(&key(*a)).then(a.cmp(b)));
        let largest = f64::from(key(order[0]));
        let total: f64 = (0..vocabulary)
            .map(|id| (f64::from(key(id)) - largest).exp())
            .sum();
        let candidate = |(index, id): (usize, &usize)| NextToken {
            rank: index + 1,
            id: *id as u32,
            text: text(*id as u32),
            probability: (f64::from(key(*id)) - largest).exp() / total,
            logit: f64::from(logits[*id]),
        };
        let is_target = |entry: &(usize, &usize)| Some(*entry.1 as u32) == target;
        Ok(Self {
            title: String::new(),
            top: order.iter().enumerate().take(k).map(candidate).collect(),
            target: order.iter().enumerate().find(is_target).map(candidate),
            vocabulary,
        })
    }

    /// Text above the table.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// The candidates, most probable first.
    pub fn top(&self) -> &[NextToken] {
        &self.top
    }

    /// The right answer, if one was given.
    pub fn target(&self) -> Option<&NextToken> {
        self.target.as_ref()
    }
}

impl Render for NextTokenTable {
    fn render(&self) -> MimeBundle {
        let mut table = Table::new(["rank", "token", "probability", "", "logit", "id"])
            .title(self.title.clone());
        let extra = self
            .target
            .iter()
            .filter(|target| self.top.iter().all(|entry| entry.id != target.id));
        for entry in self.top.iter().chain(extra) {
            let is_target = self
                .target
                .as_ref()
                .is_some_and(|target| target.id == entry.id);
            let shown = visible(&entry.text);
            let token = if is_target {
                Cell::good(format!("{shown} ✓ target"))
            } else {
                Cell::code(shown)
            };
            let color = if is_target { html::GREEN } else { "#1f77b4" };
            let filled = "█".repeat((entry.probability * 20.0).round() as usize);
            table.push(vec![
                entry.rank.into(),
                token,
                Cell::figure(number::percent(entry.probability)),
                Cell::with_html(filled, html::bar(entry.probability, 160, 11, color)),
                Cell::figure(number::float(entry.logit)),
                Cell::figure(entry.id.to_string()),
            ]);
        }
        let rest = 1.0 - self.top.iter().map(|entry| entry.probability).sum::<f64>();
        let others = self.vocabulary.saturating_sub(self.top.len());
        let note = format!(
            "{} for the other {} tokens",
            number::percent(rest.max(0.0)),
            number::count(others as u64)
        );
        table.note(note).render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(id: u32) -> String {
        format!("▁w{id}")
    }

    #[test]
    fn candidates_come_in_order_and_the_target_is_always_there() -> Result<()> {
        let logits =
            Tensor::new(&[0f32, 3.0, f32::NAN, 2.0, -1.0], &Device::Cpu)?.reshape((1, 1, 5))?;
        let table = NextTokenTable::from_logits(&logits, 2, Some(4), &word)?;
        assert_eq!(
            table.top().iter().map(|entry| entry.id).collect::<Vec<_>>(),
            [1, 3]
        );
        let sum = 1.0 + (-1f64).exp() + (-3f64).exp() + (-4f64).exp();
        assert!((table.top()[0].probability - 1.0 / sum).abs() < 1e-9);
        assert_eq!(table.target().map(|target| target.rank), Some(4));
        assert!(table.render().plain().contains("w4 ✓ target"));
        Ok(())
    }

    #[test]
    fn several_positions_are_refused() -> Result<()> {
        let logits = Tensor::zeros((1, 2, 5), DType::F32, &Device::Cpu)?;
        assert!(matches!(
            NextTokenTable::from_logits(&logits, 3, None, &word),
            Err(Error::Input(_))
        ));
        let one = Tensor::zeros(5, DType::BF16, &Device::Cpu)?;
        assert!(NextTokenTable::from_logits(&one, 9, Some(5), &word).is_err());
        assert_eq!(
            NextTokenTable::from_logits(&one, 9, None, &word)?
                .top()
                .len(),
            5
        );
        Ok(())
    }
}

//! The loss of every token of a caption, side by side for several pictures.
//!
//! A token whose loss falls when the right picture is shown is one that the model reads off the picture; a token whose
//! loss is the same under a black picture comes from the language alone.

use candle_core::{DType, Device, Tensor};

use crate::display::heat;
use crate::display::html::{self, escape};
use crate::display::tokens::visible;
use crate::display::{Cell, MimeBundle, Render, Table, number};
use crate::error::{Error, Result};
use crate::nn::log_softmax;

/// Tokens in one band of the map.
const BAND: usize = 14;

/// Cross-entropy of each target in nats: logits `[T, V]` (or `[1, T, V]`) and T targets → T losses.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let logits = Tensor::new(&[[0f32, 0.0], [9.0, 0.0]], &Device::Cpu)?; // [T 2, V 2]
/// let losses = token_losses(&logits, &[1, 0])?;
/// assert!((losses[0] - 2f32.ln()).abs() < 1e-6); // one of two alike
/// assert!(losses[1] < 0.001); // nearly sure, and right
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
///
/// # Errors
/// [`Error::Input`] if the numbers do not fit or a target is not in the vocabulary.
pub fn token_losses(logits: &Tensor, targets: &[u32]) -> Result<Vec<f32>> {
    let logits = match logits.dims() {
        [_, _] => logits.clone(),
        [1, _, _] => logits.squeeze(0)?,
        other => {
            return Err(Error::Input(format!(
                "token losses need logits of shape [T, V] or [1, T, V], got {other:?}"
            )));
        }
    }; // [T, V]
    let (tokens, vocabulary) = logits.dims2()?;
    if tokens != targets.len() {
        return Err(Error::Input(format!(
            "there are logits for {tokens} tokens but {} targets: the logits at a token say what comes after it",
            targets.len()
        )));
    }
    if let Some(target) = targets
        .iter()
        .find(|target| **target as usize >= vocabulary)
    {
        return Err(Error::Input(format!(
            "token {target} is not in a vocabulary of {vocabulary}"
        )));
    }
    if tokens == 0 {
        return Ok(Vec::new());
    }
    let logits = logits
        .detach()
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F32)?; // [T, V]
    let logits = log_softmax(&logits)?; // [T, V]
    let targets = Tensor::new(targets, &Device::Cpu)?.unsqueeze(1)?; // [T, 1]
    Ok(logits.gather(&targets, 1)?.squeeze(1)?.neg()?.to_vec1()?) // [T]
}

/// Losses by token (columns) and condition (rows).
///
/// ```
/// use glassbox_prelude::{display::Render, inspect::TokenLossMap};
/// # fn main() -> glassbox_prelude::Result<()> {
/// let map = TokenLossMap::new(["▁a", "▁red", "▁square"])
///     .row("its picture", vec![0.1, 0.2, 0.3])?
///     .row("black picture", vec![0.1, 2.5, 1.9])?;
/// assert!(map.render().plain().contains("black picture"));
/// # Ok(()) }
/// ```
#[derive(Clone, Default, PartialEq)]
pub struct TokenLossMap {
    tokens: Vec<String>,
    rows: Vec<(String, Vec<f32>)>,
}

impl TokenLossMap {
    /// A map of a caption's tokens, without rows.
    pub fn new<S: Into<String>>(tokens: impl IntoIterator<Item = S>) -> Self {
        Self {
            tokens: tokens.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds the losses under a condition, one per token, in nats.
    ///
    /// # Errors
    /// [`Error::Input`] if there are not as many losses as tokens.
    pub fn row(mut self, condition: impl Into<String>, losses: Vec<f32>) -> Result<Self> {
        if losses.len() != self.tokens.len() {
            return Err(Error::Input(format!(
                "{} losses for {} tokens: give one loss per token",
                losses.len(),
                self.tokens.len()
            )));
        }
        self.rows.push((condition.into(), losses));
        Ok(self)
    }

    /// Mean loss of each row.
    pub fn means(&self) -> Vec<(String, f64)> {
        let mean = |losses: &[f32]| {
            losses.iter().map(|loss| f64::from(*loss)).sum::<f64>() / losses.len() as f64
        };
        self.rows
            .iter()
            .map(|(condition, losses)| (condition.clone(), mean(losses)))
            .collect()
    }

    /// One band of columns: tokens as headings, a row per condition, and what the first condition gains over each other.
    fn band_html(&self, start: usize, limit: f32) -> String {
        let end = (start + BAND).min(self.tokens.len());
        let mut out = String::from(
            "<table style=\"border-collapse:collapse;table-layout:auto;margin:4px 0;font-size:12px\"><tbody><tr><th></th>",
        );
        for token in &self.tokens[start..end] {
            out.push_str(&format!(
                "<th style=\"padding:2px 6px;font-weight:400;text-align:center;font-family:{}\">{}</th>",
                html::MONO,
                escape(&visible(token))
            ));
        }
        out.push_str("</tr>");
        for (condition, losses) in &self.rows {
            out.push_str(&format!(
                "<tr><td style=\"padding:2px 8px 2px 0;text-align:left;white-space:nowrap\">{}</td>",
                escape(condition)
            ));
            for loss in &losses[start..end] {
                let color = heat::diverging(*loss, limit);
                out.push_str(&format!(
                    "<td title=\"probability {}\" style=\"background-color:{};color:{};padding:3px 7px;text-align:center\">{:.2}</td>",
                    number::percent(f64::from(-loss).exp()),
                    heat::css(color),
                    heat::text_on(color),
                    loss
                ));
            }
            out.push_str("</tr>");
        }
        out.push_str("</tbody></table>");
        out
    }
}

impl Render for TokenLossMap {
    fn render(&self) -> MimeBundle {
        let losses = self.rows.iter().flat_map(|(_, losses)| losses).copied();
        // Losses above 8 nats are all "no idea": without the cap one such token would make the others look alike.
        let limit = losses
            .filter(|loss| loss.is_finite())
            .fold(0.0, f32::max)
            .min(8.0);
        let means: Vec<String> = self
            .means()
            .iter()
            .map(|(condition, mean)| format!("{condition} {mean:.3}"))
            .collect();
        let summary = format!("loss by token in nats · mean: {}", means.join(", "));
        let bands: String = (0..self.tokens.len())
            .step_by(BAND)
            .map(|start| self.band_html(start, limit))
            .collect();
        let markup = format!(
            "<div style=\"font-family:{};font-size:13px;overflow-x:auto\"><div>{}</div>{bands}</div>",
            html::SANS,
            escape(&summary)
        );
        let mut table = Table::new(["token"])
            .headings(self.rows.iter().map(|(condition, _)| condition.clone()));
        for (index, token) in self.tokens.iter().enumerate() {
            let losses = self
                .rows
                .iter()
                .map(|(_, losses)| Cell::figure(format!("{:.2}", losses[index])));
            table.push(
                [Cell::text(visible(token))]
                    .into_iter()
                    .chain(losses)
                    .collect(),
            );
        }
        MimeBundle::text(format!("{summary}\n{}", table.render().plain())).with_html(markup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_cross_entropies() -> Result<()> {
        let logits = Tensor::new(&[[0f32, 0.0, 0.0], [0.0, 2.0, 0.0]], &Device::Cpu)?;
        let losses = token_losses(&logits, &[2, 1])?;
        let second = (2.0 + 2f64.exp()).ln() - 2.0;
        assert!(
            (f64::from(losses[0]) - 3f64.ln()).abs() < 1e-6
                && (f64::from(losses[1]) - second).abs() < 1e-6
        );
        assert_eq!(token_losses(&logits.unsqueeze(0)?, &[2, 1])?, losses);
        assert!(token_losses(&logits, &[2]).is_err() && token_losses(&logits, &[2, 3]).is_err());
        Ok(())
    }

    #[test]
    fn long_captions_take_several_bands() -> Result<()> {
        let tokens: Vec<String> = (0..30).map(|index| format!("<{index}>")).collect();
        let map = TokenLossMap::new(tokens).row("its <picture>", vec![f32::NAN; 30])?;
        let bundle = map.render();
        let html = bundle.html().unwrap_or_default();
        assert_eq!(html.matches("<table").count(), 3);
        assert!(!html.contains("<picture>") && !html.contains("<29>"));
        assert!(TokenLossMap::new(["a"]).row("b", vec![]).is_err());
        Ok(())
    }
}

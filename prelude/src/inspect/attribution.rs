//! Direct logit attribution: what the embeddings, each head and each MLP of a language model add to one logit.
//!
//! ```text
//! residual = embeddings + Σ heads + Σ MLPs ─ final norm, its scale as it was ─ LM head's row of the token ─► logit, a sum
//! ```
//! Exact, not an estimate: the parts sum to the logit, and the picture says how exactly. It is what they add directly; what they do
//! through later layers is in those layers' parts. After Elhage et al., 2021.

use super::answer::AskedAnswer;
use super::heat_table::HeatTable;
use crate::display::{MimeBundle, Render, number};
use crate::edits::{Activations, Site};
use crate::error::{Error, Result};
use crate::language::{Decoder, LlmInput, LogitsAt};
use crate::session::check_interrupt;
use crate::vlm::{Prompt, Vlm};
use candle_core::{D, DType, Tensor};

/// The parts of one logit.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let prompt = vlm.caption_prompt(&Image::filled(64, 64, [200, 30, 40])?, "a red square")?;
/// let parts: LogitAttribution = prompt_attribution(&vlm, &prompt, 1, None)?; // of the second token's logit
/// let (layer, head) = parts.strongest_head().unwrap();
/// println!("layer {layer}, head {head} adds {:.2}", parts.heads()[layer][head]);
/// assert_eq!(parts.mlp().len(), vlm.llm.layers.len());
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LogitAttribution {
    /// What the logit is of, in words.
    what: String,
    logit: f64,
    embeddings: f64,
    heads: Vec<Vec<f64>>,
    attention_bias: Vec<f64>,
    mlp: Vec<f64>,
    bias: f64,
}

impl LogitAttribution {
    /// Takes the logit of `token` behind the token at `place` apart; with `against`, the difference to that token's logit, which is what
    /// a choice between the two depends on. `input` is one sequence, read without a cache.
    ///
    /// # Errors
    /// For several sequences, a place or a token that there is not; and as [`Decoder::forward`].
    pub fn of(
        llm: &Decoder,
        input: &LlmInput,
        place: usize,
        token: u32,
        against: Option<u32>,
    ) -> Result<Self> {
        let names = [
            "llm/hidden_states[*]",
            "llm/layers[*]/heads",
            "llm/layers[*]/mlp",
        ];
        let input = input.clone().logits_at(LogitsAt::Chosen(vec![(0, place)]));
        let (output, seen) = Activations::read(&names, || llm.forward(&input))?;
        let batch = output.last_hidden_state.dim(0)?;
        if batch != 1 {
            return Err(Error::Input(format!(
                "a logit of one sequence is taken apart, got {batch}: give one"
            )));
        }
        let logits = output.logits()?; // [1, V]
        let vocabulary = logits.dim(1)?;
        if let Some(no) = std::iter::once(token)
            .chain(against)
            .find(|&id| id as usize >= vocabulary)
        {
            return Err(Error::Input(format!(
                "there is no token {no}: the model has {vocabulary}"
            )));
        }
        let row = |site: Site| -> Result<Tensor> {
            let at = seen.at(site.token(place))?; // [1, 1, W]
            Ok(at.squeeze(0)?)
        }; // [1, W]
        let depth = llm.layers.len();
        let mut parts = vec![row(Site::hidden_states("llm", 0))?.to_dtype(DType::F32)?]; // [1, D] each
        for (index, layer) in llm.layers.iter().enumerate() {
            check_interrupt()?;
            parts.push(layer.head_parts(&row(Site::heads("llm", index))?)?); // [H + 1, D]
            parts.push(row(Site::mlp("llm", index))?.to_dtype(DType::F32)?); // [1, D]
        }
        let parts = Tensor::cat(&parts, 0)?; // [N, D]
        let total = row(Site::hidden_states("llm", depth))?; // [1, D]
        let mut normed = llm.norm.frozen_at(&total, &parts)?; // [N, D]
        let nothing = normed.narrow(0, 0, 1)?.zeros_like()?; // [1, D]
        let bias = llm.norm.bias()?;
        let bias = bias.map_or_else(|| Ok(nothing.clone()), |bias| bias.unsqueeze(0))?; // [1, D]
        normed = Tensor::cat(&[&normed, &bias, &nothing], 0)?; // [N + 2, D]
        let columns = llm.lm_head(&normed.to_dtype(llm.dtype())?)?; // [N + 2, V]
        let wanted = |t: &Tensor| -> Result<Vec<f64>> {
            let column = |id: u32| {
                t.narrow(D::Minus1, id as usize, 1)?
                    .squeeze(D::Minus1)?
                    .to_dtype(DType::F64)
            };
            let column = match against {
                None => column(token)?,
                Some(other) => (column(token)? - column(other)?)?,
            }; // [N]
            Ok(column.to_vec1()?)
        };
        let values = wanted(&columns)?;
        let logit = wanted(logits)?.first().copied().unwrap_or_default();
        // The head's own bias is in every row: the last, of nothing, is that alone.
        let (head_bias, values) = match values.split_last() {
            Some((head_bias, values)) => (*head_bias, values),
            None => (0.0, &values[..]),
        };
        let mut values = values.iter().map(|value| value - head_bias);
        let mut next = || values.next().unwrap_or_default();
        let embeddings = next();
        let (mut heads, mut attention_bias, mut mlp) = (Vec::new(), Vec::new(), Vec::new());
        for layer in &llm.layers {
            heads.push((0..layer.self_attn.form().heads).map(|_| next()).collect());
            attention_bias.push(next());
            mlp.push(next());
        }
        let what = match against {
            None => format!("the logit of #{token}"),
            Some(other) => format!("the logit of #{token} over that of #{other}"),
        };
        Ok(Self {
            what,
            logit,
            embeddings,
            heads,
            attention_bias,
            mlp,
            bias: next() + head_bias,
        })
    }

    /// The logit, or the difference of two, that was taken apart.
    pub fn logit(&self) -> f64 {
        self.logit
    }

    /// The sum of all parts: [`LogitAttribution::logit`], but for rounding.
    pub fn sum(&self) -> f64 {
        let heads: f64 = self.heads.iter().flatten().sum();
        let (biases, mlps): (f64, f64) = (self.attention_bias.iter().sum(), self.mlp.iter().sum());
        self.embeddings + heads + biases + mlps + self.bias
    }

    /// By layer and head.
    pub fn heads(&self) -> &[Vec<f64>] {
        &self.heads
    }

    /// By layer.
    pub fn mlp(&self) -> &[f64] {
        &self.mlp
    }

    /// What the token's own embedding adds, past all layers.
    pub fn embeddings(&self) -> f64 {
        self.embeddings
    }

    /// Layer and head that add most, for or against.
    pub fn strongest_head(&self) -> Option<(usize, usize)> {
        HeatTable::strongest(&self.heads)
    }
}

/// [`LogitAttribution::of`] the target at `index` of a prompt's answers (0 is the first that carries loss): what makes the model say it.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let prompt = vlm.caption_prompt(&Image::filled(64, 64, [200, 30, 40])?, "a red square")?;
/// let parts = prompt_attribution(&vlm, &prompt, 1, None)?;
/// assert!((parts.sum() - parts.logit()).abs() < 1e-3);
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Error::NoTarget`], an index behind the last target, and as [`LogitAttribution::of`].
pub fn prompt_attribution(
    vlm: &Vlm,
    prompt: &Prompt,
    index: usize,
    against: Option<u32>,
) -> Result<LogitAttribution> {
    let answer = AskedAnswer::new(vlm, prompt)?;
    let (Some(&(_, place)), Some(&token)) = (answer.places.get(index), answer.targets.get(index))
    else {
        return Err(Error::Input(format!(
            "the prompt has {} targets, no number {index}",
            answer.targets.len()
        )));
    };
    let input = answer.sequence.input();
    let mut parts = LogitAttribution::of(&vlm.llm, &input, place, token, against)?;
    let word = |id: u32| vlm.llm_processor.token(id).replace('▁', " ");
    let read = answer.tokens();
    let behind = read.get(place).map(|word| word.replace('▁', " "));
    parts.what = match against {
        None => format!("the logit of “{}”", word(token).trim()),
        Some(other) => format!(
            "the logit of “{}” over that of “{}”",
            word(token).trim(),
            word(other).trim()
        ),
    };
    if let Some(behind) = behind {
        parts.what.push_str(&format!(" behind “{}”", behind.trim()));
    }
    Ok(parts)
}

impl Render for LogitAttribution {
    fn render(&self) -> MimeBundle {
        let heads = self.heads.iter().map(Vec::len).max().unwrap_or_default();
        let mut columns: Vec<String> = (0..heads).map(|head| format!("head {head}")).collect();
        columns.extend(["bias".to_owned(), "mlp".to_owned()]);
        let rows: Vec<String> = (0..self.heads.len())
            .map(|layer| format!("layer {layer}"))
            .collect();
        let values = self.heads.iter().zip(&self.attention_bias).zip(&self.mlp);
        let values: Vec<Vec<f64>> = values
            .map(|((heads, bias), mlp)| heads.iter().copied().chain([*bias, *mlp]).collect())
            .collect();
        let limit = values
            .iter()
            .flatten()
            .fold(0.0, |most: f64, value| most.max(value.abs()));
        let table = HeatTable {
            title: format!("direct logit attribution · {}", self.what),
            says: format!(
                "Each cell is what a head or an MLP adds directly to {}; with the embeddings ({}) and biases ({}) they sum to {}, the \
                 model gives {} (off by {:.1e}).",
                self.what,
                number::float(self.embeddings),
                number::float(self.bias),
                number::float(self.sum()),
                number::float(self.logit),
                (self.sum() - self.logit).abs()
            ),
            rows: &rows,
            columns: &columns,
            values: &values,
            limit,
            figure: |value| format!("{value:.2}"),
        };
        table.render()
    }
}

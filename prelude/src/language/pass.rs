//! What goes into a forward pass of a language model, and what comes out.
//!
//! ```text
//! ids or inputs_embeds, mask, positions, cache ─ LlmInput ─▶ Decoder::forward ─▶ LlmOutput: logits, hidden states, attentions
//! ```

use super::cache::KvCache;
use crate::nn::Visibility;
use crate::{Error, Result};
use candle_core::Tensor;
use std::sync::Arc;

/// Where logits are wanted: the LM head is the largest product of a forward pass, so only where needed.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let llm = Decoder::new_random(&DecoderConfig::new(100, 16, 32, 2, 2), 1, &Device::Cpu)?;
/// let ids = Tensor::new(&[[5u32, 6, 7]], &Device::Cpu)?;
/// let at = |places| llm.forward(&LlmInput::ids(&ids).logits_at(places));
/// assert_eq!(at(LogitsAt::Every)?.logits()?.dims(), [1, 3, 100]);
/// assert_eq!(at(LogitsAt::Chosen(vec![(0, 1)]))?.logits()?.dims(), [1, 100]); // of sequence 0, token 1
/// assert!(at(LogitsAt::Nowhere)?.logits().is_err());
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub enum LogitsAt {
    /// At every token: `[B, T, V]`.
    #[default]
    Every,
    /// At the last token: `[B, V]`.
    Last,
    /// At these (sequence, token) places: `[N, V]`.
    Chosen(Vec<(usize, usize)>),
    /// None at all.
    Nowhere,
}

/// What goes into a forward pass.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let llm = Decoder::new_random(&DecoderConfig::new(100, 16, 32, 2, 2), 1, &Device::Cpu)?;
/// let ids = Tensor::new(&[[5u32, 6, 7]], &Device::Cpu)?;
/// let embeds = llm.embed(&ids)?; // [1, 3, 16]: vectors can come from elsewhere, an image too
/// let output = llm.forward(&LlmInput::embeds(&embeds).logits_at(LogitsAt::Last).with_attentions())?;
/// assert_eq!(output.logits()?.dims(), [1, 100]);
/// assert_eq!(output.attentions[0].dims(), [1, 2, 3, 3]);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct LlmInput {
    pub(super) tokens: Tokens,
    pub(super) attention_mask: Option<Tensor>,
    pub(super) position_ids: Option<Vec<Vec<u32>>>,
    /// The cache itself, not a copy.
    pub(super) cache: Option<Arc<KvCache>>,
    pub(super) logits_at: LogitsAt,
    pub(super) hidden_states: bool,
    pub(super) attentions: bool,
    pub(super) visibility: Option<Visibility>,
}

#[derive(Clone)]
pub(super) enum Tokens {
    Ids(Tensor),
    Embeds(Tensor),
}

impl LlmInput {
    fn new(tokens: Tokens) -> Self {
        Self {
            tokens,
            attention_mask: None,
            position_ids: None,
            cache: None,
            logits_at: LogitsAt::Every,
            hidden_states: false,
            attentions: false,
            visibility: None,
        }
    }

    /// Token ids, `[B, T]`, any integer dtype.
    pub fn ids(ids: &Tensor) -> Self {
        Self::new(Tokens::Ids(ids.clone()))
    }

    /// Embeddings, `[B, T, D]`.
    pub fn embeds(inputs_embeds: &Tensor) -> Self {
        Self::new(Tokens::Embeds(inputs_embeds.clone()))
    }

    /// `[B, T]` (with a cache: `[B, cached + T]`), 0 for padding, on either side.
    pub fn attention_mask(mut self, mask: &Tensor) -> Self {
        self.attention_mask = Some(mask.clone());
        self
    }

    /// One list of T positions per sequence; without, 0, 1, 2, … behind what the cache holds.
    pub fn position_ids(mut self, positions: Vec<Vec<u32>>) -> Self {
        self.position_ids = Some(positions);
        self
    }

    /// Who sees whom, where that is more or less than everything before it: see [`AttentionRule`](crate::nn::AttentionRule).
    /// A cache remembers it for the tokens to come.
    pub fn visibility(mut self, visibility: &Visibility) -> Self {
        self.visibility = Some(visibility.clone());
        self
    }

    /// Goes on behind the tokens in `cache` and adds these to it.
    pub fn cache(mut self, cache: &KvCache) -> Self {
        self.cache = Some(Arc::new(cache.handle()));
        self
    }

    /// Where logits are wanted.
    pub fn logits_at(mut self, places: LogitsAt) -> Self {
        self.logits_at = places;
        self
    }

    /// Also give the hidden state after every layer.
    pub fn with_hidden_states(mut self) -> Self {
        self.hidden_states = true;
        self
    }

    /// Also give the attention probabilities of every layer.
    pub fn with_attentions(mut self) -> Self {
        self.attentions = true;
        self
    }
}

/// What comes out of a forward pass.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let llm = Decoder::new_random(&DecoderConfig::new(100, 16, 32, 2, 2), 1, &Device::Cpu)?;
/// let ids = Tensor::new(&[[5u32, 6, 7]], &Device::Cpu)?;
/// let output = llm.forward(&LlmInput::ids(&ids).with_hidden_states())?;
/// assert_eq!(output.logits()?.dims(), [1, 3, 100]);
/// assert_eq!(output.last_hidden_state.dims(), [1, 3, 16]);
/// assert_eq!(output.hidden_states.len(), 3); // the embeddings, then what each layer gives
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct LlmOutput {
    /// Shape by [`LogitsAt`]; `None` for [`LogitsAt::Nowhere`]. f32.
    pub logits: Option<Tensor>,
    /// After the final norm, `[B, T, D]`.
    pub last_hidden_state: Tensor,
    /// When asked for: the embeddings, then the output of each layer (before the final norm), `[B, T, D]` each.
    pub hidden_states: Vec<Tensor>,
    /// When asked for: per layer `[B, H, T, keys]`, f32.
    pub attentions: Vec<Tensor>,
}

impl LlmOutput {
    /// The logits.
    ///
    /// # Errors
    /// When none were asked for.
    pub fn logits(&self) -> Result<&Tensor> {
        self.logits
            .as_ref()
            .ok_or_else(|| Error::Input("no logits were asked for (LogitsAt::Nowhere)".into()))
    }
}

impl LlmOutput {
    /// The part that belongs to the last `tokens` tokens.
    pub(super) fn last_tokens(self, tokens: usize) -> Result<Self> {
        let tail = |t: &Tensor, dim: usize| -> Result<Tensor> {
            let length = t.dim(dim)?;
            Ok(t.narrow(dim, length - tokens, tokens)?)
        };
        let logits = match self.logits {
            Some(logits) if logits.rank() == 3 => Some(tail(&logits, 1)?),
            other => other,
        };
        Ok(Self {
            logits,
            last_hidden_state: tail(&self.last_hidden_state, 1)?,
            hidden_states: self
                .hidden_states
                .iter()
                .map(|t| tail(t, 1))
                .collect::<Result<_>>()?,
            attentions: self
                .attentions
                .iter()
                .map(|t| tail(t, 2))
                .collect::<Result<_>>()?,
        })
    }
}

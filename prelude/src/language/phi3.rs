//! Phi-3: token ids or `inputs_embeds` → hidden states → logits.
//!
//! ```text
//! ids ─ embed_tokens ─┐
//! inputs_embeds ──────┴─► L × (RMSNorm → attention → + → RMSNorm → SwiGLU MLP → +) ─► RMSNorm ─► lm_head at wanted places
//! ```
//! Weight names are those of <https://huggingface.co/microsoft/Phi-3-mini-4k-instruct>. Everything on the way has a
//! gradient; with a [`KvCache`] the pass is for generation and has none.

use super::cache::{KvCache, State};
use super::config::Phi3Config;
use crate::nn::checkpoint::save_safetensors;
use crate::nn::{
    Attention, Checkpoint, Embedding, Init, Linear, Network, Part, PartMut, RmsNorm, Rotary,
    TokenRows, attention, attention_probabilities, rotary_attention, shared, swiglu,
};
use crate::{Error, ReadOnly, Result};
use candle_core::{DType, Device, Tensor};
use std::path::Path;
use std::sync::Arc;

/// Ends the names of new tokens' rows.
const ROWS: &str = ".rows";

/// A Phi-3 language model. A clone trains on its own: see [`Weight`](crate::nn::Weight).
pub struct Phi3 {
    /// Sizes and settings, from which the layers were made.
    pub config: ReadOnly<Phi3Config>,
    /// `[V, D]`.
    pub embed_tokens: Embedding,
    /// The transformer layers.
    pub layers: Vec<Phi3Layer>,
    /// Before the LM head.
    pub norm: RmsNorm,
    /// `None` when the embedding table is the LM head.
    head: Option<Linear>,
    /// New tokens' rows of `head`; those of the embedding are in `embed_tokens`.
    head_rows: Option<TokenRows>,
}

/// One transformer layer.
#[derive(Clone)]
pub struct Phi3Layer {
    /// Before attention.
    pub input_layernorm: RmsNorm,
    /// Queries, keys and values side by side, `[D → (H + 2K)·d]`.
    pub qkv_proj: Linear,
    /// `[H·d → D]`.
    pub o_proj: Linear,
    /// Before the MLP.
    pub post_attention_layernorm: RmsNorm,
    /// Gate and up side by side, `[D → 2·I]`.
    pub gate_up_proj: Linear,
    /// `[I → D]`.
    pub down_proj: Linear,
}

/// Where logits are wanted: the LM head is the largest product of a forward pass, so only where needed.
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
#[derive(Clone)]
pub struct Phi3Input {
    pub(super) tokens: Tokens,
    pub(super) attention_mask: Option<Tensor>,
    position_ids: Option<Vec<Vec<u32>>>,
    /// The cache itself, not a copy.
    cache: Option<Arc<KvCache>>,
    pub(super) logits_at: LogitsAt,
    hidden_states: bool,
    attentions: bool,
}

#[derive(Clone)]
pub(super) enum Tokens {
    Ids(Tensor),
    Embeds(Tensor),
}

impl Phi3Input {
    fn new(tokens: Tokens) -> Self {
        Self {
            tokens,
            attention_mask: None,
            position_ids: None,
            cache: None,
            logits_at: LogitsAt::Every,
            hidden_states: false,
            attentions: false,
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
#[derive(Clone)]
pub struct Phi3Output {
    /// Shape by [`LogitsAt`]; `None` for [`LogitsAt::Nowhere`]. f32.
    pub logits: Option<Tensor>,
    /// After the final norm, `[B, T, D]`.
    pub last_hidden_state: Tensor,
    /// When asked for: the embeddings, then the output of each layer (before the final norm), `[B, T, D]` each.
    pub hidden_states: Vec<Tensor>,
    /// When asked for: per layer `[B, H, T, keys]`, f32.
    pub attentions: Vec<Tensor>,
}

impl Phi3Output {
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

impl Clone for Phi3 {
    fn clone(&self) -> Self {
        Self {
            config: self.config.again(),
            embed_tokens: self.embed_tokens.clone(),
            layers: self.layers.clone(),
            norm: self.norm.clone(),
            head: self.head.clone(),
            head_rows: self.head_rows.clone(),
        }
    }
}

impl Phi3 {
    /// Reads a Hugging Face folder: `config.json` and `model.safetensors` (or shards with an index).
    ///
    /// # Errors
    /// A file missing, damaged or of another architecture, a tensor missing or of another shape.
    pub fn load(dir: impl AsRef<Path>, dtype: DType, device: &Device) -> Result<Self> {
        let dir = dir.as_ref();
        let config = Phi3Config::from_file(dir.join("config.json"))?;
        let weights = Checkpoint::open(dir, dtype, device)?;
        let model = Self::from_checkpoint(&config, &weights)?;
        // Frequencies are computed, and a tied head is the embedding.
        weights.note_unread(dir, |name| {
            name.ends_with("rotary_emb.inv_freq")
                || (config.tie_word_embeddings && name == "lm_head.weight")
        });
        Ok(model)
    }

    /// A model with freshly drawn weights, in f32 and frozen: call [`Network::set_trainable`] to pretrain it.
    ///
    /// # Errors
    /// When the config contradicts itself.
    pub fn new_random(config: &Phi3Config, seed: u64, device: &Device) -> Result<Self> {
        Self::from_checkpoint(config, &Checkpoint::random(seed, DType::F32, device))
    }

    /// A model from named weights.
    ///
    /// # Errors
    /// When the config contradicts itself, or a tensor is missing or of another shape.
    pub fn from_checkpoint(config: &Phi3Config, weights: &Checkpoint) -> Result<Self> {
        config.validate()?;
        let (d, init) = (config.hidden_size, Init::Normal(config.initializer_range));
        let (query, key) = (
            config.num_attention_heads * config.head_dim(),
            config.kv_heads() * config.head_dim(),
        );
        let eps = config.rms_norm_eps;
        let linear = |name: String, sizes| Linear::load_with(weights, &name, sizes, false, init);
        let layers = (0..config.num_hidden_layers)
            .map(|i| {
                let at = format!("model.layers.{i}");
                Ok(Phi3Layer {
                    input_layernorm: RmsNorm::load(
                        weights,
                        &format!("{at}.input_layernorm"),
                        d,
                        eps,
                    )?,
                    qkv_proj: linear(format!("{at}.self_attn.qkv_proj"), (d, query + 2 * key))?,
                    o_proj: linear(format!("{at}.self_attn.o_proj"), (query, d))?,
                    post_attention_layernorm: RmsNorm::load(
                        weights,
                        &format!("{at}.post_attention_layernorm"),
                        d,
                        eps,
                    )?,
                    gate_up_proj: linear(
                        format!("{at}.mlp.gate_up_proj"),
                        (d, 2 * config.intermediate_size),
                    )?,
                    down_proj: linear(
                        format!("{at}.mlp.down_proj"),
                        (config.intermediate_size, d),
                    )?,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        let tied = config.tie_word_embeddings;
        Ok(Self {
            embed_tokens: Embedding::load(
                weights,
                "model.embed_tokens",
                config.vocab_size,
                d,
                init,
            )?,
            layers,
            norm: RmsNorm::load(weights, "model.norm", d, eps)?,
            head: (!tied)
                .then(|| linear("lm_head".into(), (d, config.vocab_size)))
                .transpose()?,
            head_rows: None,
            config: ReadOnly::new(config.clone()),
        })
    }

    /// Writes `config.json` and `model.safetensors` with Hugging Face's names. LoRA is not written (merge it first to
    /// have it in the weights); adapters are saved on their own.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        let io = |source| Error::Io {
            path: dir.into(),
            source,
        };
        std::fs::create_dir_all(dir).map_err(io)?;
        let rows: Vec<&TokenRows> = self.token_rows();
        let tensors = self
            .named_parameters()
            .into_iter()
            .filter(|p| !p.name.contains(".lora_") && !p.name.ends_with(ROWS))
            .map(|p| {
                // New tokens stand in the tables like any other.
                let of = p.name.strip_suffix(".weight").unwrap_or(&p.name);
                let own = rows
                    .iter()
                    .find(|r| r.weight.name() == format!("{of}{ROWS}"));
                let tensor = own.map_or(Ok(p.tensor.clone()), |own| own.in_table(&p.tensor))?;
                Ok((p.name, tensor))
            })
            .collect::<Result<Vec<_>>>()?;
        save_safetensors(&dir.join("model.safetensors"), &tensors)?;
        let path = dir.join("config.json");
        let json = |source| Error::Json {
            path: path.clone(),
            source,
        };
        let text = serde_json::to_string_pretty(&*self.config).map_err(json)?;
        std::fs::write(&path, text + "\n").map_err(|source| Error::Io { path, source })
    }

    /// Gives the tokens `ids` rows of their own in embedding table and LM head, which train while the tables stay as they
    /// are: see [`TokenRows`]. Each begins as the mean of the rows of the tokens in `like`, such as the pieces that the
    /// text was cut into before. Ids behind the tables enlarge `config.vocab_size`.
    ///
    /// # Errors
    /// When the model has such rows already, the ids are not ascending or leave a gap, or `like` names no token.
    pub fn add_tokens(&mut self, ids: &[u32], like: &[Vec<u32>]) -> Result<()> {
        if !self.token_rows().is_empty() {
            return Err(Error::Input(
                "the model has rows for new tokens already: add all tokens at once".into(),
            ));
        }
        let vocabulary = self.config.vocab_size;
        let rows = |name: &str, table: &Tensor| -> Result<TokenRows> {
            let mean = |ids: &Vec<u32>| -> Result<Tensor> {
                if ids.is_empty() || ids.iter().any(|&id| id as usize >= vocabulary) {
                    return Err(Error::Input(format!(
                        "a new token can't begin like the tokens {ids:?}: name some of the {vocabulary} that there are"
                    )));
                }
                let like = table.index_select(&Tensor::new(ids.as_slice(), table.device())?, 0)?; // [n, D]
                Ok(like.to_dtype(DType::F32)?.mean_keepdim(0)?) // [1, D]
            };
            let values = like.iter().map(mean).collect::<Result<Vec<_>>>()?;
            TokenRows::new(
                &format!("{name}{ROWS}"),
                ids,
                &Tensor::cat(&values, 0)?,
                vocabulary,
            )
        };
        let head_rows = self
            .head
            .as_ref()
            .map(|head| rows("lm_head", head.weight.tensor()));
        let embed_rows = rows("model.embed_tokens", self.embed_tokens.weight.tensor())?;
        self.head_rows = head_rows.transpose()?;
        self.config.change().vocab_size = embed_rows.vocabulary(vocabulary);
        self.embed_tokens.rows = Some(embed_rows);
        Ok(())
    }

    /// The rows of new tokens: of the embedding table, and of the LM head where that is another table.
    pub fn token_rows(&self) -> Vec<&TokenRows> {
        self.embed_tokens
            .rows
            .iter()
            .chain(&self.head_rows)
            .collect()
    }

    /// As [`Phi3::token_rows`], for changing them.
    pub fn token_rows_mut(&mut self) -> Vec<&mut TokenRows> {
        let rows = self.embed_tokens.rows.iter_mut();
        rows.chain(&mut self.head_rows).collect()
    }

    /// Dtype of the weights.
    pub fn dtype(&self) -> DType {
        self.embed_tokens.weight.tensor().dtype()
    }

    /// Device of the weights.
    pub fn device(&self) -> &Device {
        self.embed_tokens.weight.tensor().device()
    }

    /// An empty cache that fits this model.
    ///
    /// # Errors
    /// When the memory cannot be had.
    pub fn new_cache(&self, batch: usize, capacity: usize) -> Result<KvCache> {
        KvCache::new(&self.config, batch, capacity, self.dtype(), self.device())
    }

    /// Embeddings of token ids: `[B, T] → [B, T, D]`.
    ///
    /// # Errors
    /// When an id is outside the vocabulary.
    pub fn embed(&self, ids: &Tensor) -> Result<Tensor> {
        self.embed_tokens.forward(ids)
    }

    /// Embeddings of a list of token ids: `[1, T, D]`.
    ///
    /// # Errors
    /// When an id is outside the vocabulary.
    pub fn embed_ids(&self, ids: &[u32]) -> Result<Tensor> {
        if ids.is_empty() {
            return Ok(Tensor::zeros(
                (1, 0, self.config.hidden_size),
                self.dtype(),
                self.device(),
            )?);
        }
        self.embed(&Tensor::new(ids, self.device())?.unsqueeze(0)?)
    }

    /// Logits `[.., V]`, f32, from hidden states `[.., D]` after the final norm.
    ///
    /// # Errors
    /// When the last dimension is not D.
    pub fn lm_head(&self, hidden: &Tensor) -> Result<Tensor> {
        let (logits, rows) = match &self.head {
            Some(head) => (head.forward(hidden)?, &self.head_rows),
            None => {
                let table = &self.embed_tokens;
                let head = Linear::new("lm_head", shared(&table.weight), None);
                (head.forward(hidden)?, &table.rows)
            }
        };
        let logits = logits.to_dtype(DType::F32)?;
        match rows {
            None => Ok(logits),
            Some(rows) => rows.logits(hidden, &logits),
        }
    }

    /// The forward pass.
    ///
    /// # Errors
    /// Ids outside the vocabulary, embeddings of another width, an empty or too long sequence, a mask or positions that
    /// do not fit.
    pub fn forward(&self, input: &Phi3Input) -> Result<Phi3Output> {
        let embeds = match &input.tokens {
            Tokens::Ids(ids) if ids.rank() != 2 => {
                return Err(Error::Input(format!(
                    "token ids must be [batch, tokens], got shape {:?}",
                    ids.dims()
                )));
            }
            Tokens::Ids(ids) => self.embed(ids)?,
            Tokens::Embeds(embeds) => embeds.to_dtype(self.dtype())?,
        }; // [B, T, D]
        let (batch, tokens, width) = embeds.dims3()?;
        if width != self.config.hidden_size {
            return Err(Error::Input(format!(
                "inputs_embeds are {width} wide, the language model's hidden_size is {}: is this another model's projector?",
                self.config.hidden_size
            )));
        }
        if batch == 0 || tokens == 0 {
            return Err(Error::Input(format!(
                "an empty batch: {batch} sequences of {tokens} tokens, give at least one of each"
            )));
        }
        match &input.cache {
            None => {
                let positions = input
                    .position_ids
                    .clone()
                    .unwrap_or_else(|| vec![count_from(0, tokens)]);
                self.run(embeds, input, positions, None)
            }
            Some(cache) => {
                let mut state = cache.lock();
                cache.check(&state, batch, tokens, self.layers.len())?;
                self.run_cached(&embeds, input, &mut state)
            }
        }
    }

    fn run_cached(
        &self,
        embeds: &Tensor,
        input: &Phi3Input,
        state: &mut State,
    ) -> Result<Phi3Output> {
        let tokens = embeds.dim(1)?;
        let past = state.length;
        let positions = input
            .position_ids
            .clone()
            .unwrap_or_else(|| vec![count_from(past, tokens)]);
        let old = if state.positions.len() < positions.len() && past > 0 {
            vec![state.positions.first().cloned().unwrap_or_default(); positions.len()]
        } else if past == 0 {
            vec![Vec::new(); positions.len()]
        } else {
            state.positions.clone()
        };
        let all: Vec<Vec<u32>> = old
            .into_iter()
            .zip(positions.iter().cycle())
            .map(|(mut list, new)| {
                list.extend(new);
                list
            })
            .collect();
        let border = self.config.long_rope_border();
        let was_short = border.is_some_and(|border| past > 0 && highest(&state.positions) < border);
        if was_short && border.is_some_and(|border| highest(&all) >= border) {
            // Every angle changes here, so the keys in the cache are void: run the whole sequence again.
            let mut inputs = std::mem::take(&mut state.inputs);
            inputs.push(embeds.detach());
            let whole = Tensor::cat(&inputs, 1)?; // [B, past + T, D]
            state.length = 0;
            let output = self.run(whole, input, all.clone(), Some(state));
            if output.is_err() {
                // Interrupted, most likely: as if this had not been asked.
                inputs.pop();
                (state.inputs, state.length) = (inputs, past);
            }
            let output = output?;
            state.length = past + tokens;
            state.positions = all;
            return output.last_tokens(tokens);
        }
        let output = self.run(embeds.clone(), input, positions, Some(state))?;
        if border.is_some_and(|border| highest(&all) < border) {
            state.inputs.push(embeds.detach());
        }
        state.length = past + tokens;
        state.positions = all;
        Ok(output)
    }

    fn run(
        &self,
        embeds: Tensor,
        input: &Phi3Input,
        positions: Vec<Vec<u32>>,
        state: Option<&State>,
    ) -> Result<Phi3Output> {
        let (batch, tokens, _) = embeds.dims3()?;
        if positions.len() != 1 && positions.len() != batch {
            return Err(Error::Input(format!(
                "{} lists of position ids for {batch} sequences",
                positions.len()
            )));
        }
        let past = state.map_or(0, |state| state.length);
        let seen = state.map_or(0, |state| {
            if state.length > 0 {
                highest(&state.positions) + 1
            } else {
                0
            }
        });
        let length = seen.max(highest(&positions) + 1);
        let limit = self.config.max_position_embeddings;
        if length > limit {
            return Err(Error::Input(format!(
                "the sequence reaches position {length}, the model's context is {limit} tokens: shorten the text"
            )));
        }
        if let Some(mask) = &input.attention_mask
            && mask.dims() != [batch, past + tokens]
        {
            return Err(Error::Input(format!(
                "the attention mask has shape {:?}, {batch} sequences of {} tokens need [{batch}, {}]",
                mask.dims(),
                past + tokens,
                past + tokens
            )));
        }
        let (frequencies, scaling) = self.config.inverse_frequencies(length);
        let rotary = Rotary::new(&frequencies, &positions, scaling)?;
        let mask = input.attention_mask.as_ref();
        let mut hidden = embeds; // [B, T, D]
        let (mut hidden_states, mut attentions) = (Vec::new(), Vec::new());
        for (index, layer) in self.layers.iter().enumerate() {
            if input.hidden_states {
                hidden_states.push(hidden.clone());
            }
            let normed = layer.input_layernorm.forward(&hidden)?; // [B, T, D]
            let qkv = layer.qkv_proj.forward(&normed)?; // [B, T, (H + 2K)·d]
            if input.attentions {
                attentions.push(self.probabilities(
                    &qkv,
                    &rotary,
                    mask,
                    state.map(|state| (state, index)),
                )?);
            }
            let mixed = match state {
                None => rotary_attention(&self.form(), &qkv, &rotary, mask)?, // [B, T, H·d]
                Some(state) => {
                    let (q, k, v) = self.split(&qkv, &rotary)?;
                    let (keys, values) = state.append(index, &k, &v)?; // [B, past + T, K·d]
                    attention(&self.form(), &q, &keys, &values, mask)? // [B, T, H·d]
                }
            };
            hidden = (hidden + layer.o_proj.forward(&mixed)?)?; // [B, T, D]
            let normed = layer.post_attention_layernorm.forward(&hidden)?; // [B, T, D]
            let gated = swiglu(&layer.gate_up_proj.forward(&normed)?)?; // [B, T, I]
            hidden = (hidden + layer.down_proj.forward(&gated)?)?; // [B, T, D]
        }
        if input.hidden_states {
            hidden_states.push(hidden.clone());
        }
        let last_hidden_state = self.norm.forward(&hidden)?; // [B, T, D]
        let logits = self.logits(&last_hidden_state, &input.logits_at)?;
        Ok(Phi3Output {
            logits,
            last_hidden_state,
            hidden_states,
            attentions,
        })
    }

    fn logits(&self, hidden: &Tensor, places: &LogitsAt) -> Result<Option<Tensor>> {
        let (batch, tokens, width) = hidden.dims3()?;
        let rows = match places {
            LogitsAt::Nowhere => return Ok(None),
            LogitsAt::Every => return Ok(Some(self.lm_head(hidden)?)), // [B, T, V]
            LogitsAt::Last => hidden.narrow(1, tokens - 1, 1)?.squeeze(1)?, // [B, D]
            LogitsAt::Chosen(places) => {
                let flat = places
                    .iter()
                    .map(|&(b, t)| {
                        if b < batch && t < tokens {
                            Ok((b * tokens + t) as u32)
                        } else {
                            Err(Error::Input(format!(
                                "logits are wanted at sequence {b}, token {t}; there are {batch} sequences of {tokens} tokens"
                            )))
                        }
                    })
                    .collect::<Result<Vec<u32>>>()?;
                let flat = Tensor::new(flat, hidden.device())?; // [N]
                hidden
                    .reshape((batch * tokens, width))?
                    .index_select(&flat, 0)? // [N, D]
            }
        };
        Ok(Some(self.lm_head(&rows)?))
    }

    fn form(&self) -> Attention {
        Attention {
            sliding_window: self.config.sliding_window,
            ..Attention::causal(
                self.config.num_attention_heads,
                self.config.kv_heads(),
                self.config.head_dim(),
            )
        }
    }

    /// Turned queries `[B, T, H·d]`, turned keys and values `[B, T, K·d]`.
    fn split(&self, qkv: &Tensor, rotary: &Rotary) -> Result<(Tensor, Tensor, Tensor)> {
        let d = self.config.head_dim();
        let (query, key) = (
            self.config.num_attention_heads * d,
            self.config.kv_heads() * d,
        );
        let q = rotary.rotate(&qkv.narrow(2, 0, query)?, d)?;
        let k = rotary.rotate(&qkv.narrow(2, query, key)?, d)?;
        Ok((q, k, qkv.narrow(2, query + key, key)?))
    }

    fn probabilities(
        &self,
        qkv: &Tensor,
        rotary: &Rotary,
        mask: Option<&Tensor>,
        cached: Option<(&State, usize)>,
    ) -> Result<Tensor> {
        let (q, k, v) = self.split(&qkv.detach(), rotary)?;
        let keys = match cached {
            Some((state, layer)) => state.append(layer, &k, &v)?.0,
            None => k,
        };
        attention_probabilities(&self.form(), &q, &keys, mask)
    }
}

impl Phi3Output {
    /// The part that belongs to the last `tokens` tokens.
    fn last_tokens(self, tokens: usize) -> Result<Self> {
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

fn count_from(start: usize, tokens: usize) -> Vec<u32> {
    (start as u32..(start + tokens) as u32).collect()
}

fn highest(positions: &[Vec<u32>]) -> usize {
    positions.iter().flatten().max().map_or(0, |&p| p as usize)
}

impl Network for Phi3 {
    fn visit(&self, visitor: &mut dyn FnMut(Part<'_>)) {
        visitor(Part::Weight(&self.embed_tokens.weight));
        if let Some(rows) = &self.embed_tokens.rows {
            visitor(Part::Weight(&rows.weight));
        }
        for layer in &self.layers {
            visitor(Part::Weight(&layer.input_layernorm.weight));
            visitor(Part::Linear(&layer.qkv_proj));
            visitor(Part::Linear(&layer.o_proj));
            visitor(Part::Weight(&layer.post_attention_layernorm.weight));
            visitor(Part::Linear(&layer.gate_up_proj));
            visitor(Part::Linear(&layer.down_proj));
        }
        visitor(Part::Weight(&self.norm.weight));
        if let Some(head) = &self.head {
            visitor(Part::Linear(head));
        }
        if let Some(rows) = &self.head_rows {
            visitor(Part::Weight(&rows.weight));
        }
    }

    fn visit_mut(&mut self, visitor: &mut dyn FnMut(PartMut<'_>) -> Result<()>) -> Result<()> {
        visitor(PartMut::Weight(&mut self.embed_tokens.weight))?;
        if let Some(rows) = &mut self.embed_tokens.rows {
            visitor(PartMut::Weight(&mut rows.weight))?;
        }
        for layer in &mut self.layers {
            visitor(PartMut::Weight(&mut layer.input_layernorm.weight))?;
            visitor(PartMut::Linear(&mut layer.qkv_proj))?;
            visitor(PartMut::Linear(&mut layer.o_proj))?;
            visitor(PartMut::Weight(&mut layer.post_attention_layernorm.weight))?;
            visitor(PartMut::Linear(&mut layer.gate_up_proj))?;
            visitor(PartMut::Linear(&mut layer.down_proj))?;
        }
        visitor(PartMut::Weight(&mut self.norm.weight))?;
        if let Some(head) = &mut self.head {
            visitor(PartMut::Linear(head))?;
        }
        self.head_rows
            .as_mut()
            .map_or(Ok(()), |rows| visitor(PartMut::Weight(&mut rows.weight)))
    }
}

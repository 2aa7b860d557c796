//! The language model: token ids or `inputs_embeds` → hidden states → logits.
//!
//! ```text
//! ids ─ embed_tokens ─┐
//! inputs_embeds ──────┴─► L × DecoderLayer (norm → attention → + → norm → MLP → +) ─► norm ─► lm_head at wanted places
//! ```
//! One model for all families: what differs between them is in `families`, one file each. Weight names are Hugging Face's.
//! Everything on the way has a gradient; with a [`KvCache`] the pass is for generation and has none.

use super::cache::{KvCache, State};
use super::config::DecoderConfig;
use super::families::MODEL_TYPES;
use super::form::Form;
use super::layer::{DecoderLayer, Pass};
use super::norm::Norm;
use super::pass::{LlmInput, LlmOutput, LogitsAt, Tokens};
use super::rope::Rope;
use crate::edits::{self, Axes, activation_at};
use crate::hub;
use crate::nn::checkpoint::save_safetensors;
use crate::nn::{
    Checkpoint, Embedding, Init, Linear, LoraConfig, LoraTargets, Quantize, Rotary, TokenRows,
    Weight, dropout, recompute, shared,
};
use crate::{Error, ReadOnly, Result, notes};
use candle_core::{DType, Device, Tensor};
use std::path::Path;
use std::sync::Arc;

/// Ends the names of new tokens' rows.
pub(super) const ROWS: &str = ".rows";

/// A language model. A clone trains on its own: see [`Weight`](crate::nn::Weight).
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let llm = Decoder::new_random(&DecoderConfig::new(100, 16, 32, 2, 2), 1, &Device::Cpu)?;
/// let ids = Tensor::new(&[[5u32, 6, 7]], &Device::Cpu)?; // one sequence of three tokens
/// let logits = llm.forward(&LlmInput::ids(&ids))?.logits()?.clone();
/// assert_eq!(logits.dims(), [1, 3, 100]); // for each token, how likely each of 100 comes next
/// # Ok(()) }
/// ```
pub struct Decoder {
    /// Sizes and settings, from which the layers were made.
    pub config: ReadOnly<DecoderConfig>,
    /// `[V, D]`.
    pub embed_tokens: Embedding,
    /// The transformer layers.
    pub layers: Vec<DecoderLayer>,
    /// Before the LM head.
    pub norm: Norm,
    /// `None` when the embedding table is the LM head.
    head: Option<Linear>,
    /// New tokens' rows of `head`; those of the embedding are in `embed_tokens`.
    head_rows: Option<TokenRows>,
    /// What the config makes of the layers.
    form: Form,
}

impl Clone for Decoder {
    fn clone(&self) -> Self {
        Self {
            config: self.config.again(),
            embed_tokens: self.embed_tokens.clone(),
            layers: self.layers.clone(),
            norm: self.norm.clone(),
            head: self.head.clone(),
            head_rows: self.head_rows.clone(),
            form: self.form.clone(),
        }
    }
}

impl Decoder {
    /// Finds a model's folder, or a repository by its name in the cache as [`hub::resolve`] does, and loads it.
    ///
    /// # Errors
    /// When it is not there, and as [`Decoder::load`].
    pub fn from_pretrained(model: &str, dtype: DType, device: &Device) -> Result<Self> {
        if super::gguf::is_gguf(Path::new(model)) {
            return Self::load(model, dtype, device);
        }
        let options = hub::HubOptions::from_env().required(&["config.json"]);
        let folder = hub::resolve(model, &options.model_types(&MODEL_TYPES))?;
        Self::load(folder, dtype, device)
    }

    /// Reads a Hugging Face folder, `config.json` and `model.safetensors` (or shards with an index), or a GGUF file. The family is
    /// the one that the file names.
    ///
    /// # Errors
    /// A file missing, damaged or of a family that is not known; tensors missing, of another shape, or of no use for the model, listed.
    pub fn load(path: impl AsRef<Path>, dtype: DType, device: &Device) -> Result<Self> {
        let path = path.as_ref();
        if super::gguf::is_gguf(path) {
            return super::gguf::GgufFile::open(path)?.decoder(dtype, device);
        }
        let config = DecoderConfig::from_file(path.join("config.json"))?;
        let weights = Checkpoint::open(path, dtype, device)?;
        Self::from_whole_checkpoint(&config, &weights)
    }

    /// As [`Decoder::load`], its linear layers held in blocks: rounded as they are read, so that never more than one matrix is there in
    /// floats, or [as a GGUF file has them](Quantize::as_stored), embedding table and head included. `dtype` is that of everything else,
    /// and of what goes through the layers.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let folder = std::env::temp_dir().join(format!("to-quantize-{}", std::process::id()));
    /// Vlm::tiny(&Device::Cpu)?.llm.save(&folder)?; // or a model of Hugging Face's
    /// let llm = Decoder::load_quantized(&folder, BlockType::Q8_0, DType::F32, &Device::Cpu)?;
    /// assert!(llm.named_parameters().iter().any(|parameter| parameter.held_as() == "Q8_0"));
    /// # std::fs::remove_dir_all(folder).ok();
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Decoder::load`]; `Input` for a device that is no CPU, and for layers that can't be held so, by name.
    pub fn load_quantized(
        path: impl AsRef<Path>,
        how: impl Into<Quantize>,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let (path, how) = (path.as_ref(), how.into());
        if super::gguf::is_gguf(path) {
            return super::gguf::GgufFile::open(path)?.quantized_decoder(how, dtype, device);
        }
        let config = DecoderConfig::from_file(path.join("config.json"))?;
        let weights = Checkpoint::open(path, dtype, device)?.quantized(how);
        Self::from_whole_checkpoint(&config, &weights)
    }

    /// As [`Decoder::from_checkpoint`], from weights that must all be of use.
    pub(super) fn from_whole_checkpoint(
        config: &DecoderConfig,
        weights: &Checkpoint,
    ) -> Result<Self> {
        let model = Self::from_checkpoint(config, weights)?;
        // Frequencies are computed, and a tied head is the embedding.
        weights.check_all_read(|name| {
            name.ends_with("rotary_emb.inv_freq")
                || (config.tie_word_embeddings && name == "lm_head.weight")
        })?;
        Ok(model)
    }

    /// A model with freshly drawn weights, in f32 and frozen: call [`Network::set_trainable`](crate::nn::Network::set_trainable) to pretrain it.
    ///
    /// # Errors
    /// When the config contradicts itself.
    pub fn new_random(config: &DecoderConfig, seed: u64, device: &Device) -> Result<Self> {
        Self::from_checkpoint(config, &Checkpoint::random(seed, DType::F32, device))
    }

    /// A model from named weights.
    ///
    /// # Errors
    /// When the config contradicts itself, or a tensor is missing or of another shape.
    pub fn from_checkpoint(config: &DecoderConfig, weights: &Checkpoint) -> Result<Self> {
        config.validate()?;
        let form = config.form()?;
        weights.all_or_listed(|weights| Self::build(config, &form, weights))
    }

    fn build(config: &DecoderConfig, form: &Form, weights: &Checkpoint) -> Result<Self> {
        let (d, init) = (config.hidden_size, Init::Normal(config.initializer_range));
        let vocabulary = config.vocab_size;
        let head = |bias| Linear::load_with(weights, "lm_head", (d, vocabulary), bias, init);
        let layers = 0..config.num_hidden_layers;
        let layers = layers.map(|i| DecoderLayer::load(config, form, weights, i));
        Ok(Self {
            embed_tokens: Embedding::load(weights, "model.embed_tokens", vocabulary, d, init)?,
            layers: layers.collect::<Result<_>>()?,
            norm: Norm::load(form.norm, weights, form.final_norm, d, config.norm_eps)?,
            head: (!config.tie_word_embeddings)
                .then(|| head(form.head_bias))
                .transpose()?,
            head_rows: None,
            form: form.clone(),
            config: ReadOnly::new(config.clone()),
        })
    }

    /// Writes `config.json` and `model.safetensors` with Hugging Face's names. LoRA is not written (merge it first to
    /// have it in the weights); adapters are saved on their own. What is held in blocks is written as floats, and a note says so.
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
        let weights = self.saved_weights(false);
        let blocks = weights.iter().filter(|weight| weight.blocks().is_some());
        match blocks.count() {
            0 => {}
            count => notes::say(&format!(
                "{}: {count} matrices that are held in blocks are written as {}, as they were rounded; a GGUF file keeps blocks \
                 (`save_gguf`)",
                dir.display(),
                self.dtype().as_str()
            )),
        }
        let weights = weights.into_iter();
        let tensors = weights.map(|weight| Ok((weight.name.clone(), weight.values()?)));
        let tensors = tensors.collect::<Result<Vec<_>>>()?;
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
        let rows = |name: &str, table: &Weight| -> Result<TokenRows> {
            let mean = |ids: &Vec<u32>| -> Result<Tensor> {
                if ids.is_empty() || ids.iter().any(|&id| id as usize >= vocabulary) {
                    return Err(Error::Input(format!(
                        "a new token can't begin like the tokens {ids:?}: name some of the {vocabulary} that there are"
                    )));
                }
                let ids = Tensor::new(ids.as_slice(), table.tensor().device())?;
                let like = table.rows(&ids)?; // [n, D]
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
        let head_rows = self.head.as_ref().map(|head| rows("lm_head", &head.weight));
        let embed_rows = rows("model.embed_tokens", &self.embed_tokens.weight)?;
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

    /// As [`Decoder::token_rows`], for changing them.
    pub(crate) fn token_rows_mut(&mut self) -> Vec<&mut TokenRows> {
        let rows = self.embed_tokens.rows.iter_mut();
        rows.chain(&mut self.head_rows).collect()
    }

    /// A LoRA config with the names of layers as this family has them: where it names `qkv_proj`, a model with three matrices
    /// gets `q_proj`, `k_proj` and `v_proj`, and so on for `o_proj`, `gate_up_proj` and `down_proj`. What names layers of this
    /// model, or none of any, stays as it is.
    pub fn lora_for(&self, config: &LoraConfig) -> LoraConfig {
        let LoraTargets::Names(names) = &config.target_modules else {
            return config.clone();
        };
        let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_string();
        let parts: [(&str, &[&str]); 4] = [
            ("qkv_proj", self.form.qkv),
            ("o_proj", &[self.form.o_proj]),
            ("gate_up_proj", self.form.mlp_in),
            ("down_proj", &[self.form.mlp_out]),
        ];
        let mut ours: Vec<String> = Vec::new();
        for name in names {
            let part = parts.iter().find(|(phi3, _)| *phi3 == name.as_str());
            let own = part.map_or_else(
                || vec![name.clone()],
                |(_, own)| own.iter().map(|own| last(own)).collect(),
            );
            ours.extend(own);
        }
        LoraConfig {
            target_modules: ours.into(),
            ..config.clone()
        }
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
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let llm = Decoder::new_random(&DecoderConfig::new(100, 16, 32, 2, 2), 1, &Device::Cpu)?;
    /// let cache = llm.new_cache(2, 10)?; // two sequences of at most ten tokens
    /// assert_eq!((cache.batch(), cache.capacity(), cache.len()), (2, 10, 0));
    /// # Ok(()) }
    /// ```
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
        let rows = self.embed_tokens.forward(ids)?; // [B, T, D]
        match self.form.embedding_scale {
            None => Ok(rows),
            // Rounded to the weights' dtype first, as transformers does.
            Some(scale) => {
                let scale = Tensor::new(scale as f32, rows.device())?.to_dtype(rows.dtype())?;
                Ok(rows.broadcast_mul(&scale)?)
            }
        }
    }

    /// Embeddings of a list of token ids: `[1, T, D]`.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let llm = Decoder::new_random(&DecoderConfig::new(100, 16, 32, 2, 2), 1, &Device::Cpu)?;
    /// assert_eq!(llm.embed_ids(&[5, 6, 7])?.dims(), [1, 3, 16]);
    /// # Ok(()) }
    /// ```
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
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let llm = Decoder::new_random(&DecoderConfig::new(100, 16, 32, 2, 2), 1, &Device::Cpu)?;
    /// let ids = Tensor::new(&[[5u32, 6, 7], [8, 9, 10]], &Device::Cpu)?; // [B, T]
    /// assert_eq!(llm.forward(&LlmInput::ids(&ids))?.logits()?.dims(), [2, 3, 100]); // [B, T, V]
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Ids outside the vocabulary, embeddings of another width, an empty or too long sequence, a mask or positions that
    /// do not fit.
    pub fn forward(&self, input: &LlmInput) -> Result<LlmOutput> {
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
        let cached = |cache: &Arc<KvCache>| cache.lock().length;
        let past = input.cache.as_ref().map_or(0, cached);
        let embeds = activation_at("inputs_embeds", embeds, Axes::tokens(past))?; // [B, T, D]
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

    /// The length at which all rotary angles change, of models that have one.
    pub(crate) fn rope_border(&self) -> Option<usize> {
        self.form.ropes.iter().find_map(Rope::border)
    }

    fn run_cached(
        &self,
        embeds: &Tensor,
        input: &LlmInput,
        state: &mut State,
    ) -> Result<LlmOutput> {
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
        let border = self.rope_border();
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
            state.remember(&input.visibility);
            return output.last_tokens(tokens);
        }
        let output = self.run(embeds.clone(), input, positions, Some(state))?;
        if border.is_some_and(|border| highest(&all) < border) {
            state.inputs.push(embeds.detach());
        }
        state.length = past + tokens;
        state.positions = all;
        state.remember(&input.visibility);
        Ok(output)
    }

    fn run(
        &self,
        embeds: Tensor,
        input: &LlmInput,
        positions: Vec<Vec<u32>>,
        state: Option<&State>,
    ) -> Result<LlmOutput> {
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
        input
            .attention_mask
            .as_ref()
            .map_or(Ok(()), check_visible)?;
        let known = state.and_then(|state| state.visibility.as_ref());
        let visibility = input.visibility.as_ref().or(known);
        visibility.map_or(Ok(()), |sights| sights.check(batch, past + tokens))?;
        let rotary = self.form.ropes.iter().map(|rope| {
            let (frequencies, scaling) = rope.frequencies(length);
            Rotary::new(&frequencies, &positions, scaling)
        });
        let rotary = rotary.collect::<Result<Vec<_>>>()?;
        // The mask is read on the CPU, by every layer.
        let mask = input.attention_mask.as_ref();
        let mask = mask.map(|mask| mask.to_device(&Device::Cpu));
        let mask = mask.transpose()?; // [B, T]
        let pass = Pass {
            rotary: &rotary,
            mask: mask.as_ref(),
            visibility: visibility.filter(|sights| !sights.is_causal()),
            state,
            attentions: input.attentions,
        };
        let axes = Axes::tokens(past);
        let part = edits::within(|| "llm".to_owned());
        let mut hidden = embeds; // [B, T, D]
        let (mut hidden_states, mut attentions) = (Vec::new(), Vec::new());
        for (index, layer) in self.layers.iter().enumerate() {
            hidden = activation_at(format_args!("hidden_states[{index}]"), hidden, axes)?; // [B, T, D]
            if input.hidden_states {
                hidden_states.push(hidden.clone());
            }
            // What is computed again would be so without the edits.
            let again = recompute::is_on() && state.is_none() && !edits::are_on();
            let (next, probabilities) = match again {
                true => (layer.recomputed(&hidden, index, &pass)?, None),
                false => layer.forward(&hidden, index, &pass)?,
            }; // [B, T, D]
            hidden = next;
            attentions.extend(probabilities);
        }
        let last = self.layers.len();
        hidden = activation_at(format_args!("hidden_states[{last}]"), hidden, axes)?; // [B, T, D]
        drop(part);
        if input.hidden_states {
            hidden_states.push(hidden.clone());
        }
        let last_hidden_state = self.norm.forward(&hidden)?; // [B, T, D]
        let last_hidden_state = activation_at("last_hidden_state", last_hidden_state, axes)?; // [B, T, D]
        let logits = self.logits(&last_hidden_state, &input.logits_at)?;
        // Of chosen places there is no order of tokens left.
        let axes = match input.logits_at {
            LogitsAt::Every => axes,
            _ => Axes::rows(),
        };
        let logits = logits.map(|logits| activation_at("logits", logits, axes)); // [.., V]
        let logits = logits.transpose()?;
        Ok(LlmOutput {
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
                let _rows = dropout::chosen(&flat);
                let flat = Tensor::new(flat, hidden.device())?; // [N]
                let rows = hidden
                    .reshape((batch * tokens, width))?
                    .index_select(&flat, 0)?; // [N, D]
                return Ok(Some(self.lm_head(&rows)?)); // [N, V]
            }
        };
        Ok(Some(self.lm_head(&rows)?))
    }
}

/// A sequence whose mask hides all of its tokens has nothing to read.
fn check_visible(mask: &Tensor) -> Result<()> {
    let shown = mask.to_dtype(DType::F32)?.abs()?.sum(1)?.to_vec1::<f32>()?; // [B]
    let hidden: Vec<usize> = (0..shown.len()).filter(|&b| shown[b] == 0.0).collect();
    match hidden.is_empty() {
        true => Ok(()),
        false => Err(Error::NothingVisible { sequences: hidden }),
    }
}

fn count_from(start: usize, tokens: usize) -> Vec<u32> {
    (start as u32..(start + tokens) as u32).collect()
}

fn highest(positions: &[Vec<u32>]) -> usize {
    positions.iter().flatten().max().map_or(0, |&p| p as usize)
}

crate::parts!(Decoder {
    embed_tokens,
    layers,
    norm,
    head,
    head_rows
});

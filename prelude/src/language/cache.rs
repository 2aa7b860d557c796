//! Keys and values of the tokens that a model has seen, in memory that is laid out once.

use super::config::DecoderConfig;
use crate::nn::Visibility;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The cache of one batch of sequences. A clone has contents of its own, to go on in two ways from one place;
/// [`KvCache::reset`] empties it for the next picture.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let llm = Decoder::new_random(&DecoderConfig::new(100, 16, 32, 2, 2), 1, &Device::Cpu)?;
/// let cache = llm.new_cache(1, 10)?; // one sequence of at most 10 tokens
/// let ids = Tensor::new(&[[5u32, 6, 7]], &Device::Cpu)?;
/// llm.forward(&LlmInput::ids(&ids).cache(&cache))?;
/// assert_eq!(cache.len(), 3);
/// let next = Tensor::new(&[[8u32]], &Device::Cpu)?;
/// let logits = llm.forward(&LlmInput::ids(&next).cache(&cache))?.logits()?.clone();
/// assert_eq!((logits.dims(), cache.len()), (&[1, 1, 100][..], 4)); // only the new token was computed
/// # Ok(()) }
/// ```
pub struct KvCache {
    state: Arc<Mutex<State>>,
    capacity: usize,
}

#[derive(Clone)]
pub(crate) struct State {
    /// Per layer, `[B, capacity, K·d]`, keys already turned.
    pub keys: Vec<Tensor>,
    /// Per layer, `[B, capacity, K·d]`.
    pub values: Vec<Tensor>,
    /// Tokens in the cache.
    pub length: usize,
    /// Position ids of these tokens, per sequence (or one list for all).
    pub positions: Vec<Vec<u32>>,
    /// Input embeddings so far, `[B, T, D]` each: kept only by LongRoPE models up to the border where all angles change
    /// and everything must be computed again.
    pub inputs: Vec<Tensor>,
    /// Who sees whom, where that is more or less than everything before it.
    pub visibility: Option<Visibility>,
}

impl Clone for KvCache {
    /// # Panics
    /// When there is no memory for the copy: [`KvCache::copy`] gives the error instead.
    fn clone(&self) -> Self {
        self.copy()
            .unwrap_or_else(|error| panic!("no memory for a copy of the cache: {error}"))
    }
}

impl KvCache {
    /// A cache with the same contents, which grows on its own.
    ///
    /// # Errors
    /// When the memory cannot be had.
    pub fn copy(&self) -> Result<Self> {
        let mut state = self.lock().clone();
        // Keys and values are written in place; the inputs are not.
        for tensor in state.keys.iter_mut().chain(&mut state.values) {
            *tensor = tensor.copy()?;
        }
        Ok(Self {
            state: Arc::new(Mutex::new(state)),
            capacity: self.capacity,
        })
    }

    /// Another handle to the same contents.
    pub(super) fn handle(&self) -> Self {
        Self {
            state: self.state.clone(),
            capacity: self.capacity,
        }
    }

    /// Number of layers that it holds keys and values of.
    pub fn layers(&self) -> usize {
        self.lock().keys.len()
    }

    /// Number of sequences.
    pub fn batch(&self) -> usize {
        self.lock().keys.first().map_or(0, |keys| keys.dims()[0])
    }

    /// An empty cache for `batch` sequences of up to `capacity` tokens.
    ///
    /// # Errors
    /// When the memory cannot be had.
    pub fn new(
        config: &DecoderConfig,
        batch: usize,
        capacity: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let width = config.kv_heads() * config.head_dim();
        let buffers = || -> Result<Vec<Tensor>> {
            (0..config.num_hidden_layers)
                .map(|_| Ok(Tensor::zeros((batch, capacity, width), dtype, device)?))
                .collect()
        };
        let state = State {
            keys: buffers()?,
            values: buffers()?,
            length: 0,
            positions: Vec::new(),
            inputs: Vec::new(),
            visibility: None,
        };
        Ok(Self {
            state: Arc::new(Mutex::new(state)),
            capacity,
        })
    }

    /// Number of tokens in the cache.
    pub fn len(&self) -> usize {
        self.lock().length
    }

    /// Whether nothing is in the cache.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Most tokens that fit.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes that keys and values take.
    pub fn bytes(&self) -> usize {
        let state = self.lock();
        state
            .keys
            .iter()
            .chain(&state.values)
            .map(|t| t.elem_count() * t.dtype().size_in_bytes())
            .sum()
    }

    /// Forgets everything; the memory stays.
    pub fn reset(&self) {
        let mut state = self.lock();
        state.length = 0;
        state.positions.clear();
        state.inputs.clear();
        state.visibility = None;
    }

    /// Forgets everything behind the first `tokens` tokens; the memory stays.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let llm = Decoder::new_random(&DecoderConfig::new(100, 16, 32, 2, 2), 1, &Device::Cpu)?;
    /// let cache = llm.new_cache(1, 10)?;
    /// llm.forward(&LlmInput::ids(&Tensor::new(&[[5u32, 6, 7]], &Device::Cpu)?).cache(&cache))?;
    /// cache.truncate(2)?; // goes on behind 5, 6
    /// assert_eq!(cache.len(), 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Input` when it holds fewer.
    pub fn truncate(&self, tokens: usize) -> Result<()> {
        let mut state = self.lock();
        let Some(mut surplus) = state.length.checked_sub(tokens) else {
            return Err(Error::Input(format!(
                "the cache holds {} tokens, it can't be cut to {tokens}",
                state.length
            )));
        };
        state.length = tokens;
        for positions in &mut state.positions {
            positions.truncate(tokens);
        }
        while surplus > 0 {
            let Some(last) = state.inputs.pop() else {
                break; // kept by few models only
            };
            let held = last.dim(1)?;
            let left = held.saturating_sub(surplus);
            if left > 0 {
                state.inputs.push(last.narrow(1, 0, left)?);
            }
            surplus -= held - left;
        }
        Ok(())
    }

    /// Goes on with these rows of the batch, each as often as it is named: another order, fewer, or more.
    ///
    /// # Errors
    /// When there is no such row, or the memory cannot be had.
    pub fn select(&self, rows: &[usize]) -> Result<()> {
        let mut state = self.lock();
        let batch = state.keys.first().map_or(0, |keys| keys.dims()[0]);
        if let Some(row) = rows.iter().find(|&&row| row >= batch) {
            return Err(Error::Input(format!(
                "the cache holds {batch} sequences, there is no number {row}"
            )));
        }
        if rows.iter().copied().eq(0..batch) {
            return Ok(());
        }
        state.select(rows)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks that `tokens` more tokens of `batch` sequences for `layers` layers fit.
    pub(crate) fn check(
        &self,
        state: &State,
        batch: usize,
        tokens: usize,
        layers: usize,
    ) -> Result<()> {
        let (held, found) = (
            state.keys.first().map_or(0, |k| k.dims()[0]),
            state.keys.len(),
        );
        if held != batch || found != layers {
            return Err(Error::Input(format!(
                "the cache was made for {held} sequences and {found} layers, this call has {batch} and {layers}"
            )));
        }
        if state.length + tokens > self.capacity {
            return Err(Error::Input(format!(
                "the cache holds {} tokens and has room for {}: {tokens} more do not fit, make a larger one",
                state.length, self.capacity
            )));
        }
        Ok(())
    }
}

impl State {
    fn select(&mut self, rows: &[usize]) -> Result<()> {
        let wanted: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        let buffers = self.keys.iter_mut().chain(&mut self.values);
        for tensor in buffers.chain(&mut self.inputs) {
            let wanted = Tensor::new(wanted.as_slice(), tensor.device())?;
            *tensor = tensor.index_select(&wanted, 0)?;
        }
        self.visibility = self.visibility.take().map(|sights| sights.select(rows));
        if self.positions.len() > 1 {
            let positions = rows.iter().map(|&row| self.positions[row].clone());
            self.positions = positions.collect();
        }
        Ok(())
    }

    /// Keeps a rule that a pass has brought, for those behind it.
    pub fn remember(&mut self, visibility: &Option<Visibility>) {
        if let Some(sights) = visibility {
            self.visibility = Some(sights.clone());
        }
    }

    /// Appends keys and values `[B, T, K·d]` of one layer behind `length` and gives all of them, `[B, length + T, K·d]`.
    pub fn append(&self, layer: usize, keys: &Tensor, values: &Tensor) -> Result<(Tensor, Tensor)> {
        let total = self.length + keys.dim(1)?;
        self.keys[layer].slice_set(&keys.detach().contiguous()?, 1, self.length)?;
        self.values[layer].slice_set(&values.detach().contiguous()?, 1, self.length)?;
        Ok((
            self.keys[layer].narrow(1, 0, total)?,
            self.values[layer].narrow(1, 0, total)?,
        ))
    }
}

//! Sizes and masks of one call of attention: which keys a query sees.

use crate::nn::Attention;
use crate::{Error, Result};
use candle_core::{DType, Tensor};
use std::ops::Range;
use std::sync::Arc;

/// Sizes and masks of one call.
#[derive(Clone)]
pub(super) struct Geometry {
    pub form: Attention,
    pub batch: usize,
    pub queries: usize,
    pub keys: usize,
    /// `[B · Tk]`, 0 = hidden.
    pub key_mask: Option<Arc<Vec<u8>>>,
}

impl Geometry {
    pub(super) fn new(
        form: &Attention,
        batch: usize,
        queries: usize,
        keys: usize,
        key_mask: Option<&Tensor>,
    ) -> Result<Self> {
        let key_mask = match key_mask {
            None => None,
            Some(mask) if mask.dims() != [batch, keys] => {
                return Err(Error::Input(format!(
                    "the attention mask has shape {:?}, {batch} sequences of {keys} keys need [{batch}, {keys}]",
                    mask.dims()
                )));
            }
            Some(mask) => {
                let values = mask.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
                let bytes: Vec<u8> = values.iter().map(|&v| u8::from(v != 0.0)).collect();
                (!bytes.iter().all(|&b| b == 1)).then(|| Arc::new(bytes))
            }
        };
        Ok(Self {
            form: form.clone(),
            batch,
            queries,
            keys,
            key_mask,
        })
    }

    /// First key visible to query `i` and one past the last, padding and [`Geometry::holes`] aside. Neither falls from one
    /// query to the next.
    pub(super) fn visible(&self, batch: usize, i: usize) -> (usize, usize) {
        if !self.form.causal {
            return (0, self.keys);
        }
        let end = i + 1 + self.keys - self.queries;
        let start = self
            .form
            .sliding_window
            .map_or(0, |window| end.saturating_sub(window));
        match &self.form.visibility {
            None => (start, end),
            Some(visibility) => (
                start.max(visibility.start(batch, end - 1)),
                visibility.end(batch, end - 1).min(self.keys),
            ),
        }
    }

    /// Stretches of keys that query `i` does not see though they lie between its first and its last.
    pub(super) fn holes(&self, batch: usize, i: usize) -> &[Range<usize>] {
        match &self.form.visibility {
            None => &[],
            Some(visibility) => visibility.holes(batch, i + self.keys - self.queries),
        }
    }

    /// Whether no key is hidden from any query, as far as can be said without looking at each.
    pub(super) fn sees_all(&self) -> bool {
        let form = &self.form;
        let before = form.causal && self.queries > 1;
        self.key_mask.is_none()
            && !before
            && form.visibility.is_none()
            && form
                .sliding_window
                .is_none_or(|window| !form.causal || window >= self.keys)
    }

    /// 1 where a query does not see a key, `[B · Tq · Tk]`.
    pub(super) fn hidden(&self) -> Vec<u8> {
        let mut hidden = vec![1u8; self.batch * self.queries * self.keys];
        for (row, hidden) in hidden.chunks_exact_mut(self.keys.max(1)).enumerate() {
            let (batch, i) = (row / self.queries, row % self.queries);
            let (lo, hi) = self.visible(batch, i);
            for (j, hidden) in hidden[lo..hi].iter_mut().enumerate() {
                *hidden = u8::from(!self.sees(batch, lo + j));
            }
            for hole in self.holes(batch, i) {
                hidden[hole.clone()].fill(1);
            }
        }
        hidden
    }

    /// The keys that queries `rows` see between them.
    pub(super) fn span(&self, batch: usize, rows: &Range<usize>) -> (usize, usize) {
        (
            self.visible(batch, rows.start).0,
            self.visible(batch, rows.end - 1).1,
        )
    }

    fn sees(&self, batch: usize, key: usize) -> bool {
        self.key_mask
            .as_ref()
            .is_none_or(|mask| mask[batch * self.keys + key] != 0)
    }

    /// Floating-point operations of one product, to decide on threads.
    pub(super) fn work(&self) -> usize {
        self.batch * self.form.heads * self.queries * self.keys * self.form.head_dim
    }
}

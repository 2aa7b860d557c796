//! Scaled dot-product attention: bidirectional or causal, grouped queries, padding masks,
//! sliding window, a rule for inputs in the sequence ([`Visibility`]), and optionally rotary positions applied on the way in.
//!
//! Inputs and outputs keep the layout of the linear layers around them, `[B, T, heads · d]`, so nothing is transposed or
//! copied. Scores are computed for blocks of query rows and never kept: the backward pass computes them again.

use super::ops;
use super::rotary::Rotary;
use super::visibility::Visibility;
use crate::{Error, Result};
use candle_core::Tensor;

/// The form of an attention layer.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::nn::{Attention, attention_probabilities};
///
/// # fn main() -> Result<()> {
/// let form = Attention::causal(2, 2, 4); // two heads of four values
/// let q = Tensor::randn(0f32, 1.0, (1, 3, 8), &Device::Cpu)?; // [B, T, H·d]
/// let seen = attention_probabilities(&form, &q, &q, None)?; // [B, H, T, T]
/// assert_eq!(seen.i((0, 0, 0))?.to_vec1::<f32>()?, [1.0, 0.0, 0.0]); // the first token sees itself
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Values per head, d.
    pub head_dim: usize,
    /// Whether a query sees only keys up to its own position. With fewer queries than keys, the queries are the last.
    pub causal: bool,
    /// With `causal`: a query sees only the last this many keys, itself included.
    pub sliding_window: Option<usize>,
    /// With `causal`: what inputs in the sequences change of that, such as pictures whose tokens see each other.
    pub visibility: Option<Visibility>,
}

impl Attention {
    /// Every query sees every key, as in a ViT.
    pub fn bidirectional(heads: usize, head_dim: usize) -> Self {
        Self {
            heads,
            kv_heads: heads,
            head_dim,
            causal: false,
            sliding_window: None,
            visibility: None,
        }
    }

    /// Every query sees the keys up to its own position, as in a language model.
    pub fn causal(heads: usize, kv_heads: usize, head_dim: usize) -> Self {
        Self {
            heads,
            kv_heads,
            head_dim,
            causal: true,
            sliding_window: None,
            visibility: None,
        }
    }

    pub(super) fn check(
        &self,
        q: (usize, usize, usize),
        k: (usize, usize, usize),
        v: (usize, usize, usize),
    ) -> Result<()> {
        let (query, key) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        if self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            return Err(Error::Config(format!(
                "{} key/value heads do not divide {} query heads",
                self.kv_heads, self.heads
            )));
        }
        if q.2 != query || k.2 != key || v != k || q.0 != k.0 {
            return Err(Error::Input(format!(
                "attention with {} heads ({} for keys) of {} got q {q:?}, k {k:?}, v {v:?}",
                self.heads, self.kv_heads, self.head_dim
            )));
        }
        if self.causal && q.1 > k.1 {
            return Err(Error::Input(format!(
                "causal attention of {} queries over only {} keys",
                q.1, k.1
            )));
        }
        match &self.visibility {
            None => Ok(()),
            Some(_) if !self.causal => Err(Error::Config(
                "bidirectional attention has no rule for inputs: every query sees every key".into(),
            )),
            Some(visibility) => visibility.check(q.0, k.1),
        }
    }
}

/// `softmax(q kᵀ / √d) v`: q `[B, Tq, H·d]`, k and v `[B, Tk, K·d]` → `[B, Tq, H·d]`.
///
/// `key_mask`, `[B, Tk]`: 0 hides a key (padding). A query that sees nothing gives zeros.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::nn::{Attention, attention};
///
/// # fn main() -> Result<()> {
/// let form = Attention::bidirectional(2, 4); // two heads of four values
/// let q = Tensor::randn(0f32, 1.0, (1, 3, 8), &Device::Cpu)?;
/// let (k, v) = (q.clone(), Tensor::ones((1, 3, 8), DType::F32, &Device::Cpu)?);
/// let mean = attention(&form, &q, &k, &v, None)?; // of equal values, whatever the weights
/// assert!((mean - 1.0)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-6);
/// # Ok(()) }
/// ```
///
/// # Errors
/// When the shapes do not fit `form`.
pub fn attention(
    form: &Attention,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    key_mask: Option<&Tensor>,
) -> Result<Tensor> {
    form.check(q.dims3()?, k.dims3()?, v.dims3()?)?;
    ops::attention(form, q, k, v, key_mask)
}

/// Causal self-attention straight from a packed projection `qkv`, `[B, T, (H + 2K)·d]` (queries, keys, values side by
/// side), with `rotary` applied to queries and keys → `[B, T, H·d]`. `key_mask` as in [`attention`].
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::nn::{Attention, Rotary, rotary_attention};
///
/// # fn main() -> Result<()> {
/// let rotary = Rotary::new(&[1.0, 0.1], &[vec![0, 1, 2]], 1.0)?; // two angles for heads of four values
/// let qkv = Tensor::randn(0f32, 1.0, (1, 3, 3 * 8), &Device::Cpu)?; // queries, keys and values
/// let y = rotary_attention(&Attention::causal(2, 2, 4), &qkv, &rotary, None)?;
/// assert_eq!(y.dims(), [1, 3, 8]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// When the shapes do not fit `form` or the positions.
pub fn rotary_attention(
    form: &Attention,
    qkv: &Tensor,
    rotary: &Rotary,
    key_mask: Option<&Tensor>,
) -> Result<Tensor> {
    let (batch, tokens, width) = qkv.dims3()?;
    let (query, key) = (form.heads * form.head_dim, form.kv_heads * form.head_dim);
    if width != query + 2 * key {
        return Err(Error::Input(format!(
            "packed attention with {} heads ({} for keys) of {} takes width {}, got {width}",
            form.heads,
            form.kv_heads,
            form.head_dim,
            query + 2 * key
        )));
    }
    form.check(
        (batch, tokens, query),
        (batch, tokens, key),
        (batch, tokens, key),
    )?;
    rotary.check(batch, tokens, form.head_dim)?;
    ops::rotary_attention(form, qkv, rotary, key_mask)
}

/// What [`attention`] weighs the values with: `[B, H, Tq, Tk]`, f32, without gradient, for looking at.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::nn::{Attention, attention_probabilities};
///
/// # fn main() -> Result<()> {
/// let q = Tensor::randn(0f32, 1.0, (1, 3, 8), &Device::Cpu)?;
/// let seen = attention_probabilities(&Attention::bidirectional(2, 4), &q, &q, None)?;
/// assert_eq!(seen.dims(), [1, 2, 3, 3]);
/// let sums = seen.sum(3)?; // of each query
/// assert!((sums - 1.0)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-6);
/// # Ok(()) }
/// ```
///
/// # Errors
/// When the shapes do not fit `form`.
pub fn attention_probabilities(
    form: &Attention,
    q: &Tensor,
    k: &Tensor,
    key_mask: Option<&Tensor>,
) -> Result<Tensor> {
    form.check(q.dims3()?, k.dims3()?, k.dims3()?)?;
    ops::attention::probabilities(form, &q.detach(), &k.detach(), key_mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::ops::attention::composed;

    /// Query rows of a block of the fused form.
    const BLOCK: usize = 64;
    use crate::nn::testing::{assert_close, check_gradient, random};
    use candle_core::Device;

    fn check_form(
        form: &Attention,
        batch: usize,
        queries: usize,
        keys: usize,
        mask: Option<&Tensor>,
    ) -> Result<()> {
        let q = random(&[batch, queries, form.heads * form.head_dim], 1.0, 1);
        let k = random(&[batch, keys, form.kv_heads * form.head_dim], 1.0, 2);
        let v = random(&[batch, keys, form.kv_heads * form.head_dim], 1.0, 3);
        assert_close(
            &attention(form, &q, &k, &v, mask)?,
            &composed(form, &q, &k, &v, mask)?,
            2e-6,
        );
        check_gradient(
            &[q, k, v],
            |a| attention(form, &a[0], &a[1], &a[2], mask),
            |a| composed(form, &a[0], &a[1], &a[2], mask),
            4e-6,
        )
    }

    #[test]
    fn bidirectional_equals_the_composed_form() -> Result<()> {
        check_form(&Attention::bidirectional(2, 8), 2, 7, 7, None)
    }

    #[test]
    fn causal_grouped_with_padding_equals_the_composed_form() -> Result<()> {
        let mask = Tensor::new(
            &[[1u8, 1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1, 1]],
            &Device::Cpu,
        )?;
        check_form(&Attention::causal(4, 2, 8), 2, 7, 7, Some(&mask))
    }

    #[test]
    fn long_sequences_cross_block_borders() -> Result<()> {
        check_form(
            &Attention::causal(2, 1, 8),
            1,
            2 * BLOCK + 5,
            2 * BLOCK + 5,
            None,
        )
    }

    #[test]
    fn sliding_window_and_fewer_queries_than_keys_equal_the_composed_form() -> Result<()> {
        let form = Attention {
            sliding_window: Some(9),
            ..Attention::causal(2, 2, 4)
        };
        check_form(&form, 1, BLOCK + 3, BLOCK + 20, None)?;
        check_form(&form, 2, 1, 30, None)
    }

    #[test]
    fn strided_inputs_give_the_same_numbers() -> Result<()> {
        let form = Attention::causal(2, 2, 4);
        let packed = random(&[2, 5, 24], 1.0, 1);
        let part = |i: usize| packed.narrow(2, i * 8, 8);
        let strided = attention(&form, &part(0)?, &part(1)?, &part(2)?, None)?;
        let dense = attention(
            &form,
            &part(0)?.contiguous()?,
            &part(1)?.contiguous()?,
            &part(2)?.contiguous()?,
            None,
        )?;
        assert_close(&strided, &dense, 0.0);
        Ok(())
    }

    #[test]
    fn packed_with_rotary_equals_the_composed_form() -> Result<()> {
        let form = Attention {
            sliding_window: Some(4),
            ..Attention::causal(4, 2, 6)
        };
        let rotary = Rotary::new(&[1.0, 0.1], &[(0..9).collect(), (3..12).collect()], 1.1)?;
        let mask = Tensor::new(
            &[[0u8, 1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 1, 1]],
            &Device::Cpu,
        )?;
        let qkv = random(&[2, 9, 48], 1.0, 1);
        let reference = |qkv: &Tensor| -> Result<Tensor> {
            let q = rotary.rotate(&qkv.narrow(2, 0, 24)?, 6)?;
            let k = rotary.rotate(&qkv.narrow(2, 24, 12)?, 6)?;
            composed(&form, &q, &k, &qkv.narrow(2, 36, 12)?, Some(&mask))
        };
        assert_close(
            &rotary_attention(&form, &qkv, &rotary, Some(&mask))?,
            &reference(&qkv)?,
            2e-6,
        );
        check_gradient(
            &[qkv],
            |a| rotary_attention(&form, &a[0], &rotary, Some(&mask)),
            |a| reference(&a[0]),
            4e-6,
        )
    }

    #[test]
    fn probabilities_sum_to_one_over_visible_keys() -> Result<()> {
        let form = Attention::causal(2, 1, 4);
        let (q, k) = (random(&[1, 3, 8], 1.0, 1), random(&[1, 3, 4], 1.0, 2));
        let p = attention_probabilities(&form, &q, &k, None)?;
        assert_eq!(p.dims(), [1, 2, 3, 3]);
        let sums = p.sum(3)?.flatten_all()?.to_vec1::<f32>()?;
        assert!(sums.iter().all(|s| (s - 1.0).abs() < 1e-6));
        assert!(p.get(0)?.get(0)?.to_vec2::<f32>()?[0][1] == 0.0);
        Ok(())
    }

    #[test]
    fn shapes_that_do_not_fit_are_errors() {
        let form = Attention::causal(2, 1, 4);
        let (q, k) = (random(&[1, 3, 8], 1.0, 1), random(&[1, 2, 4], 1.0, 2));
        assert!(attention(&form, &q, &k, &k, None).is_err());
        assert!(attention(&form, &q, &random(&[1, 3, 8], 1.0, 1), &k, None).is_err());
    }
}

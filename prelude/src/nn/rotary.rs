//! Rotary position embedding: each pair `(x[i], x[i + R/2])` of a head's first R values is turned by an angle that grows
//! with the token's position (Hugging Face's "rotate half" layout). Angles and positions stay in f32 whatever the model.

use super::ops;
use crate::display::Facts;
use crate::display::facts::shown_by_facts;
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use std::sync::{Arc, OnceLock};

/// Cosines and sines for the positions of one forward pass. Cheap to clone.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::nn::Rotary;
///
/// # fn main() -> Result<()> {
/// let rotary = Rotary::new(&[1.0, 0.1], &[vec![0, 1, 2]], 1.0)?; // heads of four values at places 0, 1, 2
/// let x = Tensor::ones((1, 3, 4), DType::F32, &Device::Cpu)?;
/// let turned = rotary.rotate(&x, 4)?;
/// assert_eq!(turned.i((0, 0))?.to_vec1::<f32>()?, [1.0; 4]); // place 0 is not turned
/// assert_ne!(turned.i((0, 1))?.to_vec1::<f32>()?, [1.0; 4]);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Rotary(Arc<Table>);

struct Table {
    cos: Vec<f32>,
    sin: Vec<f32>,
    batch: usize,
    tokens: usize,
    half: usize,
    /// [`Rotary::tables`] where the first layer asked for them: the other layers copy nothing.
    on_device: OnceLock<(Tensor, Tensor)>,
}

shown_by_facts!(Rotary);

impl Rotary {
    fn facts(&self) -> Facts {
        let Table {
            batch,
            tokens,
            half,
            ..
        } = *self.0;
        Facts::new("Rotary: angles of positions")
            .fact("tokens", tokens)
            .fact("lists of positions", batch)
            .fact("values turned per head", 2 * half)
    }

    /// Angles `position · inverse_frequency` for `positions`, one list of equal length per sequence (or one list for
    /// all); `scaling` multiplies cosine and sine (LongRoPE's attention factor, else 1).
    ///
    /// # Errors
    /// When the lists differ in length or there is none.
    pub fn new(inverse_frequencies: &[f32], positions: &[Vec<u32>], scaling: f32) -> Result<Self> {
        let Some(tokens) = positions.first().map(Vec::len) else {
            return Err(Error::Input(
                "no position ids: give one list, or one per sequence".into(),
            ));
        };
        if positions.iter().any(|list| list.len() != tokens) {
            return Err(Error::Input(
                "position ids differ in number between the sequences of a batch".into(),
            ));
        }
        let angles: Vec<f32> = positions
            .iter()
            .flatten()
            .flat_map(|&position| inverse_frequencies.iter().map(move |f| f * position as f32))
            .collect();
        Ok(Self(Arc::new(Table {
            cos: angles.iter().map(|a| a.cos() * scaling).collect(),
            sin: angles.iter().map(|a| a.sin() * scaling).collect(),
            batch: positions.len(),
            tokens,
            half: inverse_frequencies.len(),
            on_device: OnceLock::new(),
        })))
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.0.tokens
    }

    /// Cosines and sines, `[B or 1, T, R/2]` each, in f32 on the CPU.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn tables(&self) -> Result<(Tensor, Tensor)> {
        let t = &self.0;
        let shape = (t.batch, t.tokens, t.half);
        let cos = Tensor::from_slice(&t.cos, shape, &Device::Cpu)?; // [B or 1, T, R/2]
        let sin = Tensor::from_slice(&t.sin, shape, &Device::Cpu)?; // [B or 1, T, R/2]
        Ok((cos, sin))
    }

    /// [`Rotary::tables`] on a device, copied there once.
    pub(crate) fn tables_on(&self, device: &Device) -> Result<(Tensor, Tensor)> {
        if let Some((cos, sin)) = self.0.on_device.get()
            && cos.device().same_device(device)
        {
            return Ok((cos.clone(), sin.clone()));
        }
        let (cos, sin) = self.tables()?;
        let tables = (cos.to_device(device)?, sin.to_device(device)?);
        // Where another device was first, this one copies each time.
        _ = self.0.on_device.set(tables.clone());
        Ok(tables)
    }

    /// Turns every head of `x`: `[B, T, H·d] → [B, T, H·d]`, differentiable.
    ///
    /// # Errors
    /// When the number of tokens or sequences does not fit the positions.
    pub fn rotate(&self, x: &Tensor, head_dim: usize) -> Result<Tensor> {
        let (batch, tokens, width) = x.dims3()?;
        self.check(batch, tokens, head_dim)?;
        if !width.is_multiple_of(head_dim) {
            return Err(Error::Input(format!(
                "width {width} is not a whole number of heads of {head_dim}"
            )));
        }
        ops::rotate(x, self, head_dim)
    }

    pub(crate) fn check(&self, batch: usize, tokens: usize, head_dim: usize) -> Result<()> {
        let t = &self.0;
        if t.tokens != tokens || (t.batch != 1 && t.batch != batch) || 2 * t.half > head_dim {
            return Err(Error::Input(format!(
                "positions for {} sequences of {} tokens (rotating {} values) do not fit {batch} sequences of {tokens} \
                 tokens with heads of {head_dim}",
                t.batch,
                t.tokens,
                2 * t.half
            )));
        }
        Ok(())
    }

    /// Turns the head `x` at token `row` of the flattened batch, forwards or back, in place.
    #[inline]
    pub(crate) fn turn(&self, head: &mut [f32], row: usize, inverse: bool) {
        let t = &self.0;
        let row = if t.batch == 1 { row % t.tokens } else { row };
        let (cos, sin) = (
            &t.cos[row * t.half..][..t.half],
            &t.sin[row * t.half..][..t.half],
        );
        let (a, rest) = head.split_at_mut(t.half);
        let sign = if inverse { -1.0 } else { 1.0 };
        for (((a, b), &c), &s) in a.iter_mut().zip(rest).zip(cos).zip(sin) {
            let s = s * sign;
            (*a, *b) = (*a * c - *b * s, *b * c + *a * s);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::{assert_close, check_gradient, random};

    #[test]
    fn equals_rotation_by_the_angle_and_has_the_inverse_as_gradient() -> Result<()> {
        // Two sequences with their own positions; heads of 6 of which 4 values turn.
        let rotary = Rotary::new(&[1.0, 0.1], &[vec![0, 1, 5], vec![2, 3, 4]], 1.0)?;
        let x = random(&[2, 3, 12], 1.0, 1);
        let composed = |x: &Tensor| -> Result<Tensor> {
            let (cos, sin) = rotary.tables()?;
            let (cos, sin) = (cos.unsqueeze(2)?, sin.unsqueeze(2)?);
            let h = x.reshape((2, 3, 2, 6))?;
            let (a, b) = (h.narrow(3, 0, 2)?, h.narrow(3, 2, 2)?);
            let out = [
                (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?,
                (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?,
                h.narrow(3, 4, 2)?,
            ];
            Ok(Tensor::cat(&out, 3)?.reshape((2, 3, 12))?)
        };
        assert_close(&rotary.rotate(&x, 6)?, &composed(&x)?, 1e-6);
        check_gradient(
            std::slice::from_ref(&x),
            |a| rotary.rotate(&a[0], 6),
            |a| composed(&a[0]),
            1e-6,
        )?;
        assert!(rotary.rotate(&x.narrow(1, 0, 2)?, 6).is_err());
        Ok(())
    }
}

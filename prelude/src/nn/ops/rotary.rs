//! Turning heads by rotary positions: fused in f32 on the CPU, composed elsewhere.

use super::kernels::{self, for_row_blocks};
use crate::Result;
use crate::nn::Rotary;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor};

/// `[B, T, H·d] → [B, T, H·d]`, each head of `head_dim` values turned.
///
/// # Errors
/// When a tensor operation fails.
pub(crate) fn rotate(x: &Tensor, rotary: &Rotary, head_dim: usize) -> Result<Tensor> {
    if !kernels::is_fast(x) {
        return composed(x, rotary, head_dim);
    }
    Ok(x.contiguous()?.apply_op1(Rotate {
        table: rotary.clone(),
        head_dim,
        inverse: false,
    })?)
}

fn composed(x: &Tensor, rotary: &Rotary, head_dim: usize) -> Result<Tensor> {
    let (batch, tokens, width) = x.dims3()?;
    let (cos, sin) = rotary.tables_on(x.device())?; // [B or 1, T, R/2]
    let half = cos.dim(2)?;
    let heads = x
        .reshape((batch, tokens, width / head_dim, head_dim))?
        .to_dtype(DType::F32)?; // [B, T, H, d]
    // One kernel, which turns whole heads and has no gradient.
    if 2 * half == head_dim && !x.track_op() {
        let (cos, sin) = match cos.dim(0)? {
            1 => (cos.squeeze(0)?, sin.squeeze(0)?), // [T, R/2]
            _ => (cos, sin),
        };
        let turned = candle_nn::rotary_emb::rope_thd(&heads.contiguous()?, &cos, &sin)?; // [B, T, H, d]
        return Ok(turned
            .reshape((batch, tokens, width))?
            .to_dtype(x.dtype())?);
    }
    let cos = cos.unsqueeze(2)?; // [B or 1, T, 1, R/2]
    let sin = sin.unsqueeze(2)?; // [B or 1, T, 1, R/2]
    let a = heads.narrow(3, 0, half)?; // [B, T, H, R/2]
    let b = heads.narrow(3, half, half)?; // [B, T, H, R/2]
    let turned_a = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let turned_b = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    let rest = heads.narrow(3, 2 * half, head_dim - 2 * half)?; // [B, T, H, d - R]
    Ok(Tensor::cat(&[turned_a, turned_b, rest], 3)?
        .reshape((batch, tokens, width))?
        .to_dtype(x.dtype())?)
}

struct Rotate {
    table: Rotary,
    head_dim: usize,
    inverse: bool,
}

impl CustomOp1 for Rotate {
    fn name(&self) -> &'static str {
        "rotary"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let mut y = kernels::values(storage, layout)?.to_vec();
        let (_, _, width) = layout.shape().dims3()?;
        for_row_blocks(&mut y, width, |first, rows| {
            for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                for head in row.chunks_exact_mut(self.head_dim) {
                    self.table.turn(head, first + i, self.inverse);
                }
            }
        });
        Ok(kernels::output(y, layout.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let back = Self {
            table: self.table.clone(),
            head_dim: self.head_dim,
            inverse: !self.inverse,
        };
        Ok(Some(dy.contiguous()?.detach().apply_op1(back)?))
    }
}

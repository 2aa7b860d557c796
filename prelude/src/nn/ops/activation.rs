//! GELU and SwiGLU, fused; other dtypes on the CPU go through f32, which is faster and closer.

use super::form::widened;
use super::kernels::{self, exp, for_row_blocks, normal_cdf, simd_fn};
use crate::Result;
use candle_core::{CpuStorage, CustomOp1, D, Layout, Shape, Tensor};

/// `x · Φ(x)`, any shape.
///
/// # Errors
/// When a tensor operation fails.
pub(crate) fn gelu(x: &Tensor) -> Result<Tensor> {
    if let Some(y) = widened(x, gelu)? {
        return Ok(y);
    }
    match kernels::is_fast(x) {
        true => Ok(x.contiguous()?.apply_op1(Gelu)?),
        false => Ok(x.gelu_erf()?),
    }
}

/// `[.., 2·I]`, gate first, → `silu(gate) · up`, `[.., I]`.
///
/// # Errors
/// When a tensor operation fails.
pub(crate) fn swiglu(gate_up: &Tensor) -> Result<Tensor> {
    if let Some(y) = widened(gate_up, swiglu)? {
        return Ok(y);
    }
    if kernels::is_fast(gate_up) {
        return Ok(gate_up.contiguous()?.apply_op1(SwiGlu)?);
    }
    let inner = gate_up.dim(D::Minus1)? / 2;
    let gate = gate_up.narrow(D::Minus1, 0, inner)?; // [.., I]
    let up = gate_up.narrow(D::Minus1, inner, inner)?; // [.., I]
    Ok((gate.silu()? * up)?)
}

simd_fn! {
    fn gelu_forward(y: &mut [f32], x: &[f32]) {
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x * normal_cdf(x);
        }
    }
}

simd_fn! {
    fn gelu_backward(dx: &mut [f32], x: &[f32], dy: &[f32]) {
        const INV_SQRT_2PI: f32 = 0.398_942_3;
        for ((dx, &x), &dy) in dx.iter_mut().zip(x).zip(dy) {
            *dx = dy * (normal_cdf(x) + x * INV_SQRT_2PI * exp(-0.5 * x * x));
        }
    }
}

struct Gelu;

impl CustomOp1 for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = kernels::values(storage, layout)?;
        let mut y = vec![0f32; x.len()];
        for_row_blocks(&mut y, 1, |first, y| {
            gelu_forward(y, &x[first..first + y.len()])
        });
        Ok(kernels::output(y, layout.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let mut dx = vec![0f32; x.elem_count()];
        kernels::with_values(x, |x| {
            kernels::with_values(&dy.contiguous()?, |dy| {
                for_row_blocks(&mut dx, 1, |first, dx| {
                    let range = first..first + dx.len();
                    gelu_backward(dx, &x[range.clone()], &dy[range]);
                });
                Ok(())
            })
        })?;
        Ok(Some(kernels::tensor(dx, x.shape().clone())?))
    }
}

simd_fn! {
    fn swiglu_row(y: &mut [f32], gate: &[f32], up: &[f32]) {
        for ((y, &g), &u) in y.iter_mut().zip(gate).zip(up) {
            *y = g / (1.0 + exp(-g)) * u;
        }
    }
}

simd_fn! {
    fn swiglu_row_backward(dgate: &mut [f32], dup: &mut [f32], gate: &[f32], up: &[f32], dy: &[f32]) {
        let n = dgate.len();
        let (dup, gate, up, dy) = (&mut dup[..n], &gate[..n], &up[..n], &dy[..n]);
        for i in 0..n {
            let sigmoid = 1.0 / (1.0 + exp(-gate[i]));
            let silu = gate[i] * sigmoid;
            dup[i] = dy[i] * silu;
            dgate[i] = dy[i] * up[i] * (sigmoid + silu * (1.0 - sigmoid));
        }
    }
}

struct SwiGlu;

impl CustomOp1 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let x = kernels::values(storage, layout)?;
        let mut dims = layout.dims().to_vec();
        let width = match dims.last_mut() {
            Some(last) => {
                *last /= 2;
                *last
            }
            None => candle_core::bail!("swiglu of a scalar"),
        };
        let mut y = vec![0f32; x.len() / 2];
        for_row_blocks(&mut y, width, |first, rows| {
            for (i, y) in rows.chunks_exact_mut(width).enumerate() {
                let (gate, up) = x[(first + i) * 2 * width..][..2 * width].split_at(width);
                swiglu_row(y, gate, up);
            }
        });
        Ok(kernels::output(y, dims))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let width = y.dim(D::Minus1)?;
        let mut dx = vec![0f32; x.elem_count()];
        kernels::with_values(x, |x| {
            kernels::with_values(&dy.contiguous()?, |dy| {
                for_row_blocks(&mut dx, 2 * width, |first, rows| {
                    for (i, dx) in rows.chunks_exact_mut(2 * width).enumerate() {
                        let (gate, up) = x[(first + i) * 2 * width..][..2 * width].split_at(width);
                        let (dgate, dup) = dx.split_at_mut(width);
                        swiglu_row_backward(
                            dgate,
                            dup,
                            gate,
                            up,
                            &dy[(first + i) * width..][..width],
                        );
                    }
                });
                Ok(())
            })
        })?;
        Ok(Some(kernels::tensor(dx, x.shape().clone())?))
    }
}

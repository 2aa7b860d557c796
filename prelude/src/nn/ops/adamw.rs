//! AdamW's step on f32 values on the CPU, in place: three passes, nothing allocated.

use super::kernels::{self, simd_fn};
use crate::Result;
use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Tensor};

/// The numbers of one step for one parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct AdamWStep {
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    /// Learning rate with the mean's correction in it.
    pub rate: f64,
    /// What weight decay leaves of a value.
    pub keep: f64,
    /// Root of the second moment's correction.
    pub root: f64,
}

/// `m ← β₁ m + (1 − β₁) g`, `v ← β₂ v + (1 − β₂) g²`, `w ← keep · w − rate · m / (√v / root + eps)`; all of one shape.
///
/// # Errors
/// When a tensor is not contiguous f32 on the CPU.
pub(crate) fn adamw(
    values: &Tensor,
    gradient: &Tensor,
    (mean, square): (&Tensor, &Tensor),
    step: &AdamWStep,
) -> Result<()> {
    let gradient = gradient.contiguous()?;
    mean.inplace_op2(
        &gradient,
        &Moment {
            beta: step.beta1,
            values: mean_values,
        },
    )?;
    square.inplace_op2(
        &gradient,
        &Moment {
            beta: step.beta2,
            values: square_values,
        },
    )?;
    let change = Change {
        rate: step.rate as f32,
        keep: step.keep as f32,
        root: step.root as f32,
        eps: step.eps as f32,
    };
    Ok(values.inplace_op3(mean, square, &change)?)
}

simd_fn! {
    /// `m ← β₁ m + (1 − β₁) g`.
    fn mean_values(mean: &mut [f32], gradient: &[f32], old: f32, new: f32) {
        for (m, &g) in mean.iter_mut().zip(gradient) {
            *m = *m * old + g * new;
        }
    }
}

simd_fn! {
    /// `v ← β₂ v + (1 − β₂) g²`.
    fn square_values(square: &mut [f32], gradient: &[f32], old: f32, new: f32) {
        for (s, &g) in square.iter_mut().zip(gradient) {
            *s = *s * old + g * g * new;
        }
    }
}

simd_fn! {
    fn change_values(
        values: &mut [f32],
        mean: &[f32],
        square: &[f32],
        rate: f32,
        keep: f32,
        root: f32,
        eps: f32,
    ) {
        for ((v, &m), &s) in values.iter_mut().zip(mean).zip(square) {
            *v = *v * keep - m / (s.sqrt() / root + eps) * rate;
        }
    }
}

/// A moment's step: β of the old one and 1 − β of what the gradient gives.
struct Moment {
    beta: f64,
    values: fn(&mut [f32], &[f32], f32, f32),
}

impl InplaceOp2 for Moment {
    fn name(&self) -> &'static str {
        "adamw_moment"
    }

    fn cpu_fwd(
        &self,
        moment: &mut CpuStorage,
        layout: &Layout,
        gradient: &CpuStorage,
        l: &Layout,
    ) -> candle_core::Result<()> {
        let gradient = kernels::values(gradient, l)?;
        // 1 − β in f64: in f32 it would be 2e-5 off for β₂ = 0.999.
        let (old, new) = (self.beta as f32, (1.0 - self.beta) as f32);
        kernels::for_row_blocks(kernels::values_mut(moment, layout)?, 1, |first, moment| {
            (self.values)(moment, &gradient[first..][..moment.len()], old, new);
        });
        Ok(())
    }
}

/// The parameter, from its moments.
struct Change {
    rate: f32,
    keep: f32,
    root: f32,
    eps: f32,
}

impl InplaceOp3 for Change {
    fn name(&self) -> &'static str {
        "adamw_change"
    }

    fn cpu_fwd(
        &self,
        values: &mut CpuStorage,
        layout: &Layout,
        mean: &CpuStorage,
        l1: &Layout,
        square: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<()> {
        let (mean, square) = (kernels::values(mean, l1)?, kernels::values(square, l2)?);
        kernels::for_row_blocks(kernels::values_mut(values, layout)?, 1, |first, values| {
            let range = first..first + values.len();
            let (mean, square) = (&mean[range.clone()], &square[range]);
            let Self {
                rate,
                keep,
                root,
                eps,
            } = *self;
            change_values(values, mean, square, rate, keep, root, eps);
        });
        Ok(())
    }
}

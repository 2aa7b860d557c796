//! LoRA's update fused, alone or with the frozen layer that carries it in one operation.

use super::affine::{Base, InputUpdate, Update, product, with_last};
use super::kernels::{self, Matrix, Term, fresh};
use crate::Result;
use crate::session::check_interrupt_in_pass;
use candle_core::{CpuStorage, CustomOp3, Layout, Shape, Tensor};
use std::sync::OnceLock;

/// `s · B A x`, with what `base` gives where there is one.
pub(super) fn low_rank(
    x: &Tensor,
    (a, b): (&Tensor, &Tensor),
    scale: f64,
    base: Option<Base>,
) -> Result<Tensor> {
    let update = LowRank {
        scale: scale as f32,
        base,
        narrow: OnceLock::new(),
    };
    Ok(x.apply_op3(a, b, update)?)
}

/// `base(x) + s · B A x` with the frozen base layer inside (or without base), arguments x, A, B.
struct LowRank {
    scale: f32,
    base: Option<Base>,
    /// `s · A x` of the forward pass, `[N, r]`, where the way back needs it: for the gradient of B.
    narrow: OnceLock<Vec<f32>>,
}

impl LowRank {
    /// `s · A x`, `[N, r]`.
    fn narrowed(&self, x: &[f32], a: &[f32], r: usize) -> Vec<f32> {
        let input = a.len() / r.max(1);
        let rows = x.len() / input.max(1);
        let term = Term {
            scale: self.scale,
            ..Term::new(Matrix::rows(x, input), Matrix::rows(a, input).t(), input)
        };
        // SAFETY: x has `rows` rows of `input` values, A has `r`.
        unsafe { fresh((rows, r), &[term], None) }
    }
}

impl CustomOp3 for LowRank {
    fn name(&self) -> &'static str {
        "lora"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (x, a, b) = (
            kernels::values(s1, l1)?,
            kernels::values(s2, l2)?,
            kernels::values(s3, l3)?,
        );
        let ((r, input), (output, _)) = (l2.shape().dims2()?, l3.shape().dims2()?);
        let rows = x.len() / input.max(1);
        let h = self.narrowed(x, a, r);
        let y = match &self.base {
            Some(base) => base.product(x, Some(Update { h: &h, b }))?,
            None => product(&h, b, None, None, (rows, r, output)),
        };
        _ = self.narrow.set(h);
        Ok(kernels::output(y, with_last(l1.dims(), output)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        a: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        check_interrupt_in_pass()?;
        let dy = dy.contiguous()?;
        let ((r, input), (output, _)) = (a.dims2()?, b.dims2()?);
        let rows = x.elem_count() / input.max(1);
        // [N, r], scaled
        let dh = kernels::with_values(&dy, |dy| {
            kernels::with_values(b, |b| {
                let term = Term {
                    scale: self.scale,
                    ..Term::new(Matrix::rows(dy, output), Matrix::rows(b, r), output)
                };
                // SAFETY: dy has `rows` rows of `output` values, B `output` rows of `r`.
                Ok(unsafe { fresh((rows, r), &[term], None) })
            })
        })?;
        let dx = if x.track_op() {
            let dx = kernels::with_values(a, |a| {
                kernels::with_values(&dy, |dy| {
                    let update = InputUpdate { dh: &dh, a };
                    match &self.base {
                        Some(base) => base.input_gradient(dy, Some(update)),
                        // SAFETY: `InputUpdate::term` checks the extents.
                        None => {
                            Ok(unsafe { fresh((rows, input), &[update.term(rows, input)], None) })
                        }
                    }
                })
            })?;
            Some(kernels::tensor(dx, x.shape().clone())?)
        } else {
            None
        };
        let da = if a.track_op() {
            let da = kernels::with_values(x, |x| {
                let term = Term::new(Matrix::rows(&dh, r).t(), Matrix::rows(x, input), rows);
                // SAFETY: dh has `rows` rows of `r` values, x as many of `input`.
                Ok(unsafe { fresh((r, input), &[term], None) })
            })?;
            Some(kernels::tensor(da, (r, input))?)
        } else {
            None
        };
        let db = if b.track_op() {
            let made;
            let h = match self.narrow.get() {
                Some(h) => h,
                None => {
                    made = kernels::with_values(x, |x| {
                        kernels::with_values(a, |a| Ok(self.narrowed(x, a, r)))
                    })?;
                    &made
                }
            };
            let db = kernels::with_values(&dy, |dy| {
                let term = Term::new(Matrix::rows(dy, output).t(), Matrix::rows(h, r), rows);
                // SAFETY: dy has `rows` rows of `output` values, h as many of `r`.
                Ok(unsafe { fresh((output, r), &[term], None) })
            })?;
            Some(kernels::tensor(db, (output, r))?)
        } else {
            None
        };
        Ok((dx, da, db))
    }
}

#[cfg(test)]
mod tests {
    use super::super::linear::{composed, linear_with_lora, lora};
    use super::*;
    use crate::nn::testing::{assert_close, check_gradient, random};

    /// Sizes that groups of rows and panels of columns do not divide, one row among them.
    #[test]
    fn layer_and_update_have_the_gradients_of_the_composed_form() -> Result<()> {
        for (rows, input, output, r) in [(1, 70, 101, 5), (9, 67, 131, 5), (21, 300, 49, 17)] {
            let (x, w) = (
                random(&[rows, input], 1.0, 1),
                random(&[output, input], 0.3, 2),
            );
            let (a, b) = (random(&[r, input], 0.3, 3), random(&[output, r], 0.3, 4));
            let bias = random(&[output], 1.0, 5);
            let update = |t: &[Tensor]| -> Result<Tensor> {
                Ok((composed(&composed(&t[0], &t[1], None)?, &t[2], None)? * 1.5)?)
            };
            let both = |t: &[Tensor]| -> Result<Tensor> {
                let layer = ((&w).into(), Some(&bias));
                let y = linear_with_lora(&t[0], layer, (&t[1], &t[2]), 1.5)?;
                Ok(y.expect("a frozen layer in f32"))
            };
            let want = |t: &[Tensor]| Ok((composed(&t[0], &w, Some(&bias))? + update(t)?)?);
            let inputs = [x, a, b];
            assert_close(&both(&inputs)?, &want(&inputs)?, 2e-6);
            check_gradient(&inputs, both, want, 4e-6)?;
            let alone = |t: &[Tensor]| lora(&t[0], (&t[1], &t[2]), 1.5);
            assert_close(&alone(&inputs)?, &update(&inputs)?, 2e-6);
            check_gradient(&inputs, alone, update, 4e-6)?;
        }
        Ok(())
    }
}

//! LoRA's update fused, alone or with the frozen layer that carries it in one operation.

use super::affine::{Base, with_last};
use super::kernels::{self, Matrix, matmul_into};
use crate::Result;
use crate::session::check_interrupt_in_pass;
use candle_core::{CpuStorage, CustomOp3, Layout, Shape, Tensor};

/// `s · B A x`, with what `base` gives where there is one.
pub(super) fn low_rank(
    x: &Tensor,
    (a, b): (&Tensor, &Tensor),
    scale: f64,
    base: Option<Base>,
) -> Result<Tensor> {
    let scale = scale as f32;
    Ok(x.apply_op3(a, b, LowRank { scale, base })?)
}

/// `base(x) + s · B A x` with the frozen base layer inside (or without base), arguments x, A, B.
struct LowRank {
    scale: f32,
    base: Option<Base>,
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
        let mut y = match &self.base {
            Some(base) => base.product(x)?,
            None => vec![0f32; rows * output],
        };
        let mut h = vec![0f32; rows * r]; // [N, r]
        matmul_into(
            &mut h,
            (rows, r, input),
            Matrix::rows(x, input),
            Matrix::rows(a, input).t(),
            self.scale,
            false,
        );
        matmul_into(
            &mut y,
            (rows, output, r),
            Matrix::rows(&h, r),
            Matrix::rows(b, r).t(),
            1.0,
            true,
        );
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
        let mut dh = vec![0f32; rows * r]; // [N, r], scaled
        kernels::with_values(&dy, |dy| {
            kernels::with_values(b, |b| {
                let (dy, b) = (Matrix::rows(dy, output), Matrix::rows(b, r));
                matmul_into(&mut dh, (rows, r, output), dy, b, self.scale, false);
                Ok(())
            })
        })?;
        let dx = if x.track_op() {
            let mut dx = match &self.base {
                Some(base) => kernels::with_values(&dy, |dy| base.input_gradient(dy))?,
                None => vec![0f32; rows * input],
            };
            kernels::with_values(a, |a| {
                matmul_into(
                    &mut dx,
                    (rows, input, r),
                    Matrix::rows(&dh, r),
                    Matrix::rows(a, input),
                    1.0,
                    true,
                );
                Ok(())
            })?;
            Some(kernels::tensor(dx, x.shape().clone())?)
        } else {
            None
        };
        let da = if a.track_op() {
            let mut da = vec![0f32; r * input];
            kernels::with_values(x, |x| {
                matmul_into(
                    &mut da,
                    (r, input, rows),
                    Matrix::rows(&dh, r).t(),
                    Matrix::rows(x, input),
                    1.0,
                    false,
                );
                Ok(())
            })?;
            Some(kernels::tensor(da, (r, input))?)
        } else {
            None
        };
        let db = if b.track_op() {
            let mut h = vec![0f32; rows * r];
            kernels::with_values(x, |x| {
                kernels::with_values(a, |a| {
                    let (x, a) = (Matrix::rows(x, input), Matrix::rows(a, input).t());
                    matmul_into(&mut h, (rows, r, input), x, a, self.scale, false);
                    Ok(())
                })
            })?;
            let mut db = vec![0f32; output * r];
            kernels::with_values(&dy, |dy| {
                matmul_into(
                    &mut db,
                    (output, r, rows),
                    Matrix::rows(dy, output).t(),
                    Matrix::rows(&h, r),
                    1.0,
                    false,
                );
                Ok(())
            })?;
            Some(kernels::tensor(db, (output, r))?)
        } else {
            None
        };
        Ok((dx, da, db))
    }
}

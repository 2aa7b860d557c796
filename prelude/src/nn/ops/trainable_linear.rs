//! A linear layer whose weight, bias or both train, fused.

use super::affine::{Base, Held, product, with_last};
use super::kernels::{self, Matrix, Term, fresh, sum_over_row_blocks};
use crate::Result;
use crate::session::check_interrupt_in_pass;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Shape, Tensor};

/// `x Wᵀ + b` with the gradients of all that trains.
pub(super) fn trainable(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    Ok(match bias {
        Some(bias) => x.apply_op3(weight, bias, TrainableWithBias)?,
        None => x.apply_op2(weight, Trainable)?,
    })
}

/// `dW = dyᵀ x`, `[out, in]`.
fn weight_gradient(x: &Tensor, weight: &Tensor, dy: &Tensor) -> candle_core::Result<Tensor> {
    let (output, input) = weight.dims2()?;
    let rows = x.elem_count() / input.max(1);
    let dw = kernels::with_values(x, |x| {
        kernels::with_values(dy, |dy| {
            let (dy, x) = (Matrix::rows(dy, output).t(), Matrix::rows(x, input));
            // SAFETY: x has `rows` rows of `input` values, dy as many of `output`.
            Ok(unsafe { fresh((output, input), &[Term::new(dy, x, rows)], None) })
        })
    })?;
    kernels::tensor(dw, (output, input))
}

/// `db = Σ dy` over the rows, `[out]`.
fn bias_gradient(bias: &Tensor, dy: &Tensor) -> candle_core::Result<Tensor> {
    let output = bias.elem_count();
    let db = kernels::with_values(dy, |dy| {
        Ok(sum_over_row_blocks(
            dy.len() / output.max(1),
            output,
            |rows, sum| {
                for row in dy[rows.start * output..rows.end * output].chunks_exact(output) {
                    for (s, d) in sum.iter_mut().zip(row) {
                        *s += d;
                    }
                }
            },
        ))
    })?;
    kernels::tensor(db, output)
}

fn trainable_forward(x: &[f32], weight: &[f32], bias: Option<&[f32]>, input: usize) -> Vec<f32> {
    let (rows, output) = (x.len() / input.max(1), weight.len() / input.max(1));
    product(x, weight, bias, None, (rows, input, output))
}

fn trainable_input_gradient(
    x: &Tensor,
    weight: &Tensor,
    dy: &Tensor,
) -> candle_core::Result<Option<Tensor>> {
    if !x.track_op() {
        return Ok(None);
    }
    let base = Base {
        weight: Held::Plain(weight.clone()),
        bias: None,
    };
    let dx = kernels::with_values(dy, |dy| base.input_gradient(dy, None))?;
    Ok(Some(kernels::tensor(dx, x.shape().clone())?))
}

/// A layer without bias whose weight trains.
struct Trainable;

impl CustomOp2 for Trainable {
    fn name(&self) -> &'static str {
        "trainable_linear"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (output, input) = l2.shape().dims2()?;
        let y = trainable_forward(
            kernels::values(s1, l1)?,
            kernels::values(s2, l2)?,
            None,
            input,
        );
        Ok(kernels::output(y, with_last(l1.dims(), output)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        check_interrupt_in_pass()?;
        let dy = dy.contiguous()?;
        Ok((
            trainable_input_gradient(x, weight, &dy)?,
            Some(weight_gradient(x, weight, &dy)?),
        ))
    }
}

/// A layer whose weight, bias or both train.
struct TrainableWithBias;

impl CustomOp3 for TrainableWithBias {
    fn name(&self) -> &'static str {
        "trainable_linear"
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
        let (output, input) = l2.shape().dims2()?;
        let bias = Some(kernels::values(s3, l3)?);
        let y = trainable_forward(
            kernels::values(s1, l1)?,
            kernels::values(s2, l2)?,
            bias,
            input,
        );
        Ok(kernels::output(y, with_last(l1.dims(), output)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        check_interrupt_in_pass()?;
        let dy = dy.contiguous()?;
        let dx = trainable_input_gradient(x, weight, &dy)?;
        let dw = weight
            .track_op()
            .then(|| weight_gradient(x, weight, &dy))
            .transpose()?;
        let db = bias
            .track_op()
            .then(|| bias_gradient(bias, &dy))
            .transpose()?;
        Ok((dx, dw, db))
    }
}

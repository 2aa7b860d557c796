//! What the norms share: rows of the width of a weight.

use super::kernels::{self, for_row_blocks};
use crate::Result;
use candle_core::{D, Tensor};

pub(super) fn check_width(what: &str, x: &Tensor, weight: &Tensor) -> Result<()> {
    let (found, wanted) = (x.dim(D::Minus1)?, weight.elem_count());
    if found != wanted {
        return Err(crate::Error::Input(format!(
            "{what} has {wanted} weights, the input's last dimension is {found} (shape {:?})",
            x.dims()
        )));
    }
    Ok(())
}

/// The gradient of a norm's input; `row` gives that of one row from its input, the weight and the output's gradient.
pub(super) fn input_gradient(
    x: &Tensor,
    w: &Tensor,
    dy: &Tensor,
    row: impl Fn(&mut [f32], &[f32], &[f32], &[f32]) + Sync,
) -> candle_core::Result<Tensor> {
    let mut dx = vec![0f32; x.elem_count()];
    kernels::with_values(x, |x| {
        kernels::with_values(w, |w| {
            kernels::with_values(dy, |dy| {
                for_row_blocks(&mut dx, w.len(), |first, rows| {
                    for (i, dx) in rows.chunks_exact_mut(w.len()).enumerate() {
                        let at = (first + i) * w.len();
                        row(dx, &x[at..], w, &dy[at..]);
                    }
                });
                Ok(())
            })
        })
    })?;
    kernels::tensor(dx, x.shape().clone())
}

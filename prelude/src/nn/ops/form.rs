//! The one place where an operation chooses its form: fused or composed of candle's own operations, with or without the
//! gradient of weights.

use crate::Result;
use candle_core::{DType, Tensor};
use std::cell::Cell;

/// How an operation is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    /// In one kernel: f32 on the CPU. Else in candle's own operations.
    pub fused: bool,
    /// Whether one of its weights gets a gradient.
    pub trains: bool,
}

impl Form {
    /// Of an operation on `x` with these weights.
    pub fn of(x: &Tensor, weights: &[&Tensor]) -> Self {
        Self {
            fused: is_fast(x) && weights.iter().all(|weight| is_fast(weight)),
            trains: weights.iter().any(|weight| weight.track_op()),
        }
    }
}

thread_local! {
    static COMPOSED_ONLY: Cell<bool> = const { Cell::new(false) };
}

/// Runs `f` with every operation of [`crate::nn`] in its composed form, the one that runs on a GPU and in other dtypes:
/// to compare the two on the CPU. The choice holds for the calling thread and ends with `f`.
pub fn with_composed_ops<R>(f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            COMPOSED_ONLY.set(self.0);
        }
    }
    let _restore = Restore(COMPOSED_ONLY.replace(true));
    f()
}

/// Whether a tensor takes the fused path: f32 on the CPU.
pub(crate) fn is_fast(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && tensor.dtype() == DType::F32 && !COMPOSED_ONLY.get()
}

/// Whether a composed operation may be one of candle's own kernels, which have no gradient and compute in f32 what is narrow: nothing is
/// differentiated, and it is no narrow tensor on the CPU, which keeps the reference's roundings.
pub(super) fn in_one_kernel(tensors: &[&Tensor]) -> bool {
    let fits = |tensor: &&Tensor| tensor.dtype() == DType::F32 || !tensor.device().is_cpu();
    tensors.iter().all(fits) && !tensors.iter().any(|tensor| tensor.track_op())
}

/// Whether a tensor is of a narrow dtype on the CPU, where the fused operations are worth a conversion to f32 and back: the
/// numbers are better and the time is a fraction of candle's.
pub(crate) fn is_narrow(tensor: &Tensor) -> bool {
    tensor.device().is_cpu()
        && matches!(tensor.dtype(), DType::BF16 | DType::F16)
        && !COMPOSED_ONLY.get()
}

/// `f` of a narrow tensor in f32, rounded back to its dtype; `None` for tensors that are not narrow.
///
/// # Errors
/// Those of `f`.
pub(crate) fn widened(
    x: &Tensor,
    f: impl FnOnce(&Tensor) -> Result<Tensor>,
) -> Result<Option<Tensor>> {
    if !is_narrow(x) {
        return Ok(None);
    }
    Ok(Some(f(&x.to_dtype(DType::F32)?)?.to_dtype(x.dtype())?))
}

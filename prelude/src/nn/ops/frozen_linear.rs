//! A linear layer whose weight does not train: only the gradient of its input is computed, in any dtype and on any device.

use super::affine::{Base, Held, with_last};
use super::half;
use super::kernels;
use crate::Result;
use crate::session::check_interrupt_in_pass;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CudaStorage, CustomOp1, Layout, Shape, Storage, Tensor};

/// `x Wᵀ + b` whose backward pass gives only the gradient of `x`.
pub(super) fn frozen(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    fast: bool,
) -> Result<Tensor> {
    let base = fast.then(|| Base {
        weight: Held::Plain(weight.clone()),
        bias: bias.cloned(),
    });
    let y = x.apply_op1(Frozen {
        weight: weight.clone(),
        base,
    })?;
    match bias {
        Some(bias) if !fast => Ok(y.broadcast_add(bias)?),
        _ => Ok(y),
    }
}

/// A frozen layer: the one operation of this module with a GPU path of its own, because candle's product would compute
/// the weight's gradient too.
struct Frozen {
    weight: Tensor,
    /// The layer in f32 on the CPU, where it is that.
    base: Option<Base>,
}

impl Frozen {
    /// The product through candle's storage, for other dtypes and devices.
    fn general<S: BackendStorage>(
        &self,
        x: &S,
        x_layout: &Layout,
        weight: &S,
    ) -> candle_core::Result<(S, Shape)> {
        let (output, input) = self.weight.dims2()?;
        let rows = x_layout.shape().elem_count() / input.max(1);
        let lhs = Layout::contiguous_with_offset((rows, input), x_layout.start_offset());
        let rhs = self.weight.layout().transpose(0, 1)?;
        let y = x.matmul(weight, (1, rows, output, input), &lhs, &rhs)?;
        Ok((y, with_last(x_layout.dims(), output).into()))
    }
}

impl CustomOp1 for Frozen {
    fn name(&self) -> &'static str {
        "frozen_linear"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        if let Some(base) = &self.base {
            let y = base.product(kernels::values(storage, layout)?, None)?;
            let (output, _) = self.weight.dims2()?;
            return Ok(kernels::output(y, with_last(layout.dims(), output)));
        }
        let (weight, weight_layout) = self.weight.storage_and_layout();
        match &*weight {
            Storage::Cpu(weight) => {
                if let (Some(x), Some(weight)) = (
                    half::values(storage, layout),
                    half::values(weight, weight_layout),
                ) {
                    let (output, input) = self.weight.dims2()?;
                    let y = half::product(x, weight, input)?;
                    let shape = with_last(layout.dims(), output).into();
                    return Ok((CpuStorage::BF16(y), shape));
                }
                self.general(storage, layout, weight)
            }
            _ => candle_core::bail!("the input is on the CPU, the weight is not"),
        }
    }

    fn cuda_fwd(
        &self,
        storage: &CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        let (weight, _) = self.weight.storage_and_layout();
        match &*weight {
            Storage::Cuda(weight) => self.general(storage, layout, weight),
            _ => candle_core::bail!("the input is on the GPU, the weight is not"),
        }
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        check_interrupt_in_pass()?;
        let dy = dy.contiguous()?;
        if let Some(base) = &self.base {
            let dx = kernels::with_values(&dy, |dy| base.input_gradient(dy, None))?;
            return Ok(Some(kernels::tensor(dx, x.shape().clone())?));
        }
        let (output, _) = self.weight.dims2()?;
        let rows = dy.elem_count() / output.max(1);
        Ok(Some(
            dy.reshape((rows, output))?
                .matmul(&self.weight.detach())?
                .reshape(x.shape())?,
        ))
    }
}

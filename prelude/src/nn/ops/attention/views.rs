//! Rows of heads in memory, for reading and for writing from several tasks.

use crate::nn::ops::kernels::{Matrix, Shared};
use candle_core::{CpuStorage, Layout, Storage, Tensor};

/// Rows of heads in memory: `[B, T, heads · d]` with free batch and token strides.
pub(super) struct View<'a> {
    pub data: &'a [f32],
    pub batch: usize,
    pub row: usize,
}

impl<'a> View<'a> {
    pub fn of(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<Self> {
        let CpuStorage::F32(data) = storage else {
            candle_core::bail!("fused attention needs f32")
        };
        match layout.stride() {
            [batch, row, 1] => Ok(Self {
                data: &data[layout.start_offset()..],
                batch: *batch,
                row: *row,
            }),
            other => {
                candle_core::bail!("fused attention needs contiguous rows, got strides {other:?}")
            }
        }
    }

    pub fn head(&self, batch: usize, row: usize, column: usize) -> Matrix {
        Matrix {
            ptr: self.data[batch * self.batch + row * self.row + column..].as_ptr(),
            row: self.row,
            column: 1,
        }
    }
}

/// As [`View`], for writing from several tasks.
pub(super) struct Target {
    pub data: Shared<f32>,
    pub batch: usize,
    pub row: usize,
}

impl Target {
    /// # Safety
    /// The position must lie within the memory that `data` points to.
    pub unsafe fn head(&self, batch: usize, row: usize, column: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        unsafe {
            self.data
                .get()
                .add(batch * self.batch + row * self.row + column)
        }
    }
}

pub(super) fn with_view<R>(
    tensor: &Tensor,
    f: impl FnOnce(&View) -> candle_core::Result<R>,
) -> candle_core::Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(&View::of(storage, layout)?),
        _ => candle_core::bail!("fused attention called off the CPU"),
    }
}

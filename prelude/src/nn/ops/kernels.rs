//! What the fused CPU operations share: access to f32 data, functions compiled for three kinds of CPU, row-parallel loops.
//!
//! Everything here works on plain `f32` slices in row-major order; shapes are the callers' business.

pub(crate) use super::arithmetic::{exp, lane_max, lane_sum, normal_cdf};
pub(crate) use super::form::is_fast;
pub(crate) use super::matrix::{After, Matrix, Shared, Term, fresh, gemm, matmul_into};
use candle_core::{CpuStorage, DType, Layout, Result, Shape, Storage, Tensor};
use rayon::prelude::*;

/// Rows are split between threads only when a pass touches at least this many values; below, waking a thread costs more.
const PARALLEL_VALUES: usize = 16 * 1024;

/// Compiles a function three times, for the baseline CPU, for AVX2+FMA and for AVX-512, and picks at run time.
macro_rules! simd_fn {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        pub(crate) fn $name($($arg: $ty),*) $(-> $ret)? {
            #[allow(clippy::too_many_arguments)]
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "avx2,fma")]
                fn wide($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
                fn wider($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                if $crate::nn::ops::kernels::has_avx512() {
                    // SAFETY: the CPU has just been found to have all of these.
                    return unsafe { wider($($arg),*) };
                }
                if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
                    // SAFETY: the CPU has just been found to have both features.
                    return unsafe { wide($($arg),*) };
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use simd_fn;

/// Whether the CPU has what [`simd_fn`] compiles its widest form for.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx512() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("avx512f")
        && has!("avx512vl")
        && has!("avx512dq")
        && has!("avx512bw")
        && has!("avx2")
        && has!("fma")
}

/// The f32 values of a contiguous CPU storage.
pub(crate) fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let CpuStorage::F32(data) = storage else {
        candle_core::bail!(
            "fused operation called on {:?}, it needs f32",
            storage_dtype(storage)
        )
    };
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&data[start..end]),
        None => candle_core::bail!("fused operation called on a tensor that is not contiguous"),
    }
}

/// As [`values`], to change them in place.
pub(crate) fn values_mut<'a>(
    storage: &'a mut CpuStorage,
    layout: &Layout,
) -> Result<&'a mut [f32]> {
    let dtype = storage_dtype(storage);
    match (storage, layout.contiguous_offsets()) {
        (CpuStorage::F32(data), Some((start, end))) => Ok(&mut data[start..end]),
        (_, None) => {
            candle_core::bail!("in-place operation called on a tensor that is not contiguous")
        }
        _ => candle_core::bail!("in-place operation called on {dtype:?}, it needs f32"),
    }
}

fn storage_dtype(storage: &CpuStorage) -> DType {
    candle_core::backend::BackendStorage::dtype(storage)
}

/// Runs `f` on the values of a contiguous f32 CPU tensor.
pub(crate) fn with_values<R>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> Result<R>) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(cpu) => f(values(cpu, layout)?),
        _ => candle_core::bail!("fused operation called on a tensor that is not on the CPU"),
    }
}

/// What a `CustomOp` returns for freshly computed values.
pub(crate) fn output(data: Vec<f32>, shape: impl Into<Shape>) -> (CpuStorage, Shape) {
    (CpuStorage::F32(data), shape.into())
}

/// A CPU tensor of freshly computed values.
pub(crate) fn tensor(data: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(data, shape, &candle_core::Device::Cpu)
}

/// Calls `f(first_row, rows)` on blocks of whole rows of `out`, on several threads when there is enough work.
pub(crate) fn for_row_blocks(out: &mut [f32], row: usize, f: impl Fn(usize, &mut [f32]) + Sync) {
    if row == 0 || out.is_empty() {
        return;
    }
    let rows = out.len() / row;
    let threads = rayon::current_num_threads();
    if threads == 1 || rows == 1 || out.len() < PARALLEL_VALUES {
        f(0, out);
        return;
    }
    let block = rows.div_ceil(threads * 2).max(1);
    out.par_chunks_mut(block * row)
        .enumerate()
        .for_each(|(index, chunk)| f(index * block, chunk));
}

/// The sum of what `f(rows, total)` adds to `total`, `width` values, for blocks of all rows.
pub(crate) fn sum_over_row_blocks(
    rows: usize,
    width: usize,
    f: impl Fn(std::ops::Range<usize>, &mut [f32]) + Sync + Send,
) -> Vec<f32> {
    let threads = rayon::current_num_threads();
    if threads == 1 || rows * width < PARALLEL_VALUES {
        let mut total = vec![0f32; width];
        f(0..rows, &mut total);
        return total;
    }
    let block = rows.div_ceil(threads).max(1);
    let partial: Vec<Vec<f32>> = (0..rows.div_ceil(block))
        .into_par_iter()
        .map(|index| {
            let mut sum = vec![0f32; width];
            f(index * block..((index + 1) * block).min(rows), &mut sum);
            sum
        })
        .collect();
    let mut partial = partial.into_iter();
    let mut total = partial.next().unwrap_or_else(|| vec![0f32; width]);
    for sum in partial {
        for (t, s) in total.iter_mut().zip(&sum) {
            *t += s;
        }
    }
    total
}

//! What the fused CPU operations share: access to f32 data, vectorised arithmetic, row-parallel loops, matrix products.
//!
//! Everything here works on plain `f32` slices in row-major order; shapes are the callers' business.

use candle_core::{CpuStorage, DType, Layout, Result, Shape, Storage, Tensor};
use rayon::prelude::*;
use std::cell::Cell;

/// Rows are split between threads only when a pass touches at least this many values; below, waking a thread costs more.
const PARALLEL_VALUES: usize = 16 * 1024;

/// Compiles a function twice, for the baseline CPU and for AVX2+FMA, and picks at run time.
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

/// Whether a tensor takes the fused path: f32 on the CPU. The one place where an operation chooses its form.
pub(crate) fn is_fast(tensor: &Tensor) -> bool {
    tensor.device().is_cpu() && tensor.dtype() == DType::F32 && !COMPOSED_ONLY.get()
}

/// Whether a tensor is of a narrow dtype on the CPU, where the fused operations are worth a conversion to f32 and back: the
/// numbers are better and the time is a fraction of candle's.
pub(crate) fn is_narrow(tensor: &Tensor) -> bool {
    tensor.device().is_cpu()
        && matches!(tensor.dtype(), DType::BF16 | DType::F16)
        && !COMPOSED_ONLY.get()
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

/// `e^x`, within 2 units in the last place; vectorises. Below −87.7, where f32 has only subnormal numbers, the result is 0;
/// NaN stays NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 · 2^23: adding it rounds to the nearest integer
    let x = if x < -88.0 { -88.0 } else { x }; // its power of two, 2^−127, is written as 0 below
    let x = if x > 88.37 { 88.37 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5e-1;
    let y = p * (r * r) + r + 1.0;
    let exponent = (shifted.to_bits() as i32).wrapping_sub(0x4B40_0000);
    y * f32::from_bits((exponent.wrapping_add(127) as u32) << 23)
}

/// The normal distribution function Φ(x) = ½ erfc(−x/√2), to about 2e-7, and to 2e-6 relative in the lower tail, where
/// ½ (1 + erf) would cancel to nothing; vectorises. The fit of erfc is that of Numerical Recipes.
#[inline(always)]
pub(crate) fn normal_cdf(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * z);
    let p = 0.170_872_77;
    let p = p * t + -0.822_152_23;
    let p = p * t + 1.488_515_9;
    let p = p * t + -1.135_204;
    let p = p * t + 0.278_868_07;
    let p = p * t + -0.186_288_06;
    let p = p * t + 0.096_784_18;
    let p = p * t + 0.374_091_96;
    let p = p * t + 1.000_023_7;
    let tail = 0.5 * t * exp(-z * z + (p * t - 1.265_512_2));
    if x < 0.0 { tail } else { 1.0 - tail }
}

const LANES: usize = 16;

/// Sum of `f(i)` over a row in sixteen independent lanes, so that it vectorises.
#[inline(always)]
pub(crate) fn lane_sum(len: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let whole = len / LANES * LANES;
    let mut i = 0;
    while i < whole {
        for (lane, acc) in lanes.iter_mut().enumerate() {
            *acc += f(i + lane);
        }
        i += LANES;
    }
    let mut total = 0f32;
    for acc in lanes {
        total += acc;
    }
    while i < len {
        total += f(i);
        i += 1;
    }
    total
}

/// Largest value of a row (−∞ for an empty one); NaN is passed over.
#[inline(always)]
pub(crate) fn lane_max(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (acc, &v) in lanes.iter_mut().zip(chunk) {
            *acc = if v > *acc { v } else { *acc };
        }
    }
    let mut best = f32::NEG_INFINITY;
    for &v in lanes.iter().chain(chunks.remainder()) {
        best = if v > best { v } else { best };
    }
    best
}

/// One side of a matrix product: a pointer with its row and column strides, in values.
#[derive(Clone, Copy)]
pub(crate) struct Matrix {
    pub ptr: *const f32,
    pub row: usize,
    pub column: usize,
}

impl Matrix {
    /// A row-major matrix with `columns` columns.
    pub fn rows(data: &[f32], columns: usize) -> Self {
        Self {
            ptr: data.as_ptr(),
            row: columns,
            column: 1,
        }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Self {
            ptr: self.ptr,
            row: self.column,
            column: self.row,
        }
    }
}

/// `dst[m, n] = (accumulate ? dst : 0) + scale · a[m, k] · b[k, n]`, `dst` with `dst_row` values from row to row.
///
/// # Safety
/// The three matrices must lie within memory that the caller owns for this call, `dst` exclusively.
#[allow(clippy::too_many_arguments)]
pub(crate) unsafe fn gemm(
    (m, n, k): (usize, usize, usize),
    dst: *mut f32,
    dst_row: usize,
    a: Matrix,
    b: Matrix,
    scale: f32,
    accumulate: bool,
    parallel: bool,
) {
    let parallelism = if parallel && rayon::current_num_threads() > 1 {
        gemm::Parallelism::Rayon(0)
    } else {
        gemm::Parallelism::None
    };
    // SAFETY: the caller guarantees the extents.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst,
            1,
            dst_row as isize,
            accumulate,
            a.ptr,
            a.column as isize,
            a.row as isize,
            b.ptr,
            b.column as isize,
            b.row as isize,
            1.0,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Dense product into a fresh or prefilled row-major `dst`, on all threads.
pub(crate) fn matmul_into(
    dst: &mut [f32],
    (m, n, k): (usize, usize, usize),
    a: Matrix,
    b: Matrix,
    scale: f32,
    accumulate: bool,
) {
    assert!(
        dst.len() >= m * n,
        "product of {m}x{n} into {} values",
        dst.len()
    );
    // SAFETY: `dst` holds m·n values, exclusively borrowed; `a` and `b` were made from slices by the callers in this
    // module tree with k as their inner extent, which each of them has checked against the shapes.
    unsafe {
        gemm(
            (m, n, k),
            dst.as_mut_ptr(),
            n,
            a,
            b,
            scale,
            accumulate,
            true,
        )
    }
}

/// A raw pointer that may cross threads: each task writes its own part.
#[derive(Clone, Copy)]
pub(crate) struct Shared<T>(pub *mut T);
// SAFETY: users of `Shared` write disjoint parts only.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The pointer (a method, so that closures capture the wrapper and not the raw pointer).
    pub fn get(&self) -> *mut T {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    simd_fn! {
        fn exp_all(x: &mut [f32]) {
            for v in x { *v = exp(*v); }
        }
    }

    #[test]
    fn exp_is_within_two_ulp() {
        let mut xs: Vec<f32> = (-8700..8800).map(|i| i as f32 / 100.0).collect();
        let want: Vec<f64> = xs.iter().map(|&x| f64::from(x).exp()).collect();
        exp_all(&mut xs);
        for (got, want) in xs.iter().zip(want) {
            assert!(
                ((f64::from(*got) - want) / want).abs() < 2.5e-7,
                "{got} {want}"
            );
        }
        assert_eq!([exp(f32::NEG_INFINITY), exp(-1e4), exp(-88.0)], [0.0; 3]);
        assert!(exp(-87.6) > 0.0 && exp(f32::NAN).is_nan());
    }

    #[test]
    fn normal_cdf_matches_known_values_far_into_the_tail() {
        for (x, want) in [
            (-6.0, 9.865_876e-10),
            (-5.0, 2.866_515_7e-7),
            (-4.0, 3.167_124_2e-5),
            (-3.0, 1.349_898e-3),
            (-1.0, 0.158_655_25),
            (0.0, 0.5),
            (0.5, 0.691_462_46),
            (2.0, 0.977_249_87),
            (9.0, 1.0),
        ] {
            let got = normal_cdf(x);
            assert!(
                (got - want).abs() < 3e-7 && (got / want - 1.0).abs() < 3e-6,
                "Φ({x}) = {got}"
            );
        }
        assert!(normal_cdf(f32::NAN).is_nan());
    }
}

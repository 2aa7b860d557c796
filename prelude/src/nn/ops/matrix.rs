//! Matrix products of the fused operations, on plain f32 memory with strides.

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

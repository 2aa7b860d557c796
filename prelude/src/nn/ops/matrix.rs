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

/// `scale · a[m, k] · b[k, n]`.
#[derive(Clone, Copy)]
pub(crate) struct Term {
    pub a: Matrix,
    pub b: Matrix,
    pub k: usize,
    pub scale: f32,
}

impl Term {
    /// `a · b` over `k`.
    pub fn new(a: Matrix, b: Matrix, k: usize) -> Self {
        Self {
            a,
            b,
            k,
            scale: 1.0,
        }
    }
}

/// What is done with a finished piece of a row: its row, its first column, its values.
pub(crate) type After<'a> = &'a (dyn Fn(usize, usize, &mut [f32]) + Sync);

/// `dst[m, n] = (add ? dst : 0) + Σ terms`, `dst` with `dst_row` values from row to row; then `after` on every piece of a row.
///
/// # Safety
/// The matrices must lie within memory that the caller owns for this call, `dst` exclusively; it need not be initialised
/// unless `add`.
pub(crate) unsafe fn sum_of_products(
    (m, n): (usize, usize),
    (dst, dst_row): (*mut f32, usize),
    terms: &[Term],
    add: bool,
    after: Option<After<'_>>,
    parallel: bool,
) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the caller's promise.
    if unsafe { super::product::product((m, n), (dst, dst_row), terms, add, after, parallel) } {
        return;
    }
    let mut add = add;
    for term in terms {
        // SAFETY: the caller's promise.
        unsafe { general((m, n), (dst, dst_row), term, add, parallel) };
        add = true;
    }
    if add && after.is_none() {
        return;
    }
    for row in 0..m {
        // SAFETY: `dst` has `m` rows of `n` values; where no term wrote them they are written here first.
        let values = unsafe {
            if !add {
                dst.add(row * dst_row).write_bytes(0, n);
            }
            std::slice::from_raw_parts_mut(dst.add(row * dst_row), n)
        };
        if let Some(after) = after {
            after(row, 0, values);
        }
    }
}

/// One term through the crate `gemm`, on any processor.
unsafe fn general(
    (m, n): (usize, usize),
    (dst, dst_row): (*mut f32, usize),
    term: &Term,
    add: bool,
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
            term.k,
            dst,
            1,
            dst_row as isize,
            add,
            term.a.ptr,
            term.a.column as isize,
            term.a.row as isize,
            term.b.ptr,
            term.b.column as isize,
            term.b.row as isize,
            1.0,
            term.scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// `dst[m, n] = (accumulate ? dst : 0) + scale · a[m, k] · b[k, n]`, `dst` with `dst_row` values from row to row.
///
/// # Safety
/// As [`sum_of_products`].
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
    let term = Term { a, b, k, scale };
    // SAFETY: the caller's promise.
    unsafe { sum_of_products((m, n), (dst, dst_row), &[term], accumulate, None, parallel) }
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

/// `Σ terms`, then `after`, as a fresh row-major matrix, on all threads.
///
/// # Safety
/// The matrices of `terms` have `m` rows, `n` columns and their `k` between.
pub(crate) unsafe fn fresh(
    (m, n): (usize, usize),
    terms: &[Term],
    after: Option<After<'_>>,
) -> Vec<f32> {
    let mut values = Vec::with_capacity(m * n);
    // SAFETY: there is room for m·n values, and all of them are written.
    unsafe {
        sum_of_products((m, n), (values.as_mut_ptr(), n), terms, false, after, true);
        values.set_len(m * n);
    }
    values
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

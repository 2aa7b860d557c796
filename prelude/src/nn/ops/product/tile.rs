//! The innermost loop of a product: a tile of the result in registers, for processors with AVX-512 and with AVX2.
//!
//! ```text
//! b  one row of up to three registers of the panel ─┐
//! a  up to eight values, each to all lanes ─────────┴─► tile += a · b, for each k; then into memory
//! ```

use super::pack::GROUP;
use std::arch::x86_64::*;

/// Registers that a panel's row fills.
const REGISTERS: usize = 3;

/// What kind of registers a product runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lanes {
    Sixteen,
    Eight,
}

impl Lanes {
    /// Of this processor; `None` where it has neither.
    pub fn here() -> Option<Self> {
        if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx2") {
            return Some(Self::Sixteen);
        }
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self::Eight)
    }

    pub fn count(self) -> usize {
        match self {
            Self::Sixteen => 16,
            Self::Eight => 8,
        }
    }

    /// Columns of a whole panel.
    pub fn panel(self) -> usize {
        REGISTERS * self.count()
    }

    /// `c[rows, columns] = (add ? c : 0) + a b` for up to [`GROUP`] rows and a panel's columns.
    ///
    /// # Safety
    /// This processor has these lanes; `a` holds `k` groups of [`GROUP`] values, `b` `k` rows of `columns` rounded up to whole
    /// registers, `c` `rows` rows of `columns` values, `c_row` from one to the next, for this call alone.
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn tile(
        self,
        (rows, columns, k): (usize, usize, usize),
        a: *const f32,
        b: *const f32,
        c: *mut f32,
        c_row: usize,
        add: bool,
    ) {
        let registers = columns.div_ceil(self.count());
        if registers * self.count() == columns {
            // SAFETY: the caller's promise.
            return unsafe { self.whole((rows, registers, k), a, b, c, c_row, add) };
        }
        let mut edge = [0f32; GROUP * REGISTERS * 16];
        let width = registers * self.count();
        // SAFETY: `edge` has room for a whole tile; what is copied from it lies in `c`.
        unsafe {
            self.whole((rows, registers, k), a, b, edge.as_mut_ptr(), width, false);
            for (row, values) in edge.chunks_exact(width).take(rows).enumerate() {
                let c = std::slice::from_raw_parts_mut(c.add(row * c_row), columns);
                for (c, value) in c.iter_mut().zip(values) {
                    *c = if add { *c + value } else { *value };
                }
            }
        }
    }

    /// As [`Self::tile`], of whole registers.
    #[allow(clippy::too_many_arguments)]
    unsafe fn whole(
        self,
        (rows, registers, k): (usize, usize, usize),
        a: *const f32,
        b: *const f32,
        c: *mut f32,
        c_row: usize,
        add: bool,
    ) {
        macro_rules! by_size {
            ($tile:ident, $($rows:literal)*) => {
                match (rows, registers) {
                    $(($rows, 3) => $tile::<$rows, 3>(k, a, b, c, c_row, add),
                    ($rows, 2) => $tile::<$rows, 2>(k, a, b, c, c_row, add),
                    ($rows, 1) => $tile::<$rows, 1>(k, a, b, c, c_row, add),)*
                    _ => unreachable!("a tile of {rows} rows and {registers} registers"),
                }
            };
        }
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::Sixteen => by_size!(sixteen, 1 2 3 4 5 6 7 8),
                Self::Eight => {
                    // Sixteen registers hold four rows: a group in two halves.
                    let first = rows.min(4);
                    self.half((first, registers, k), a, b, c, c_row, add);
                    if rows > 4 {
                        let (a, c) = (a.add(4), c.add(4 * c_row));
                        self.half((rows - 4, registers, k), a, b, c, c_row, add);
                    }
                }
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    unsafe fn half(
        self,
        (rows, registers, k): (usize, usize, usize),
        a: *const f32,
        b: *const f32,
        c: *mut f32,
        c_row: usize,
        add: bool,
    ) {
        macro_rules! by_size {
            ($($rows:literal)*) => {
                match (rows, registers) {
                    $(($rows, 3) => eight::<$rows, 3>(k, a, b, c, c_row, add),
                    ($rows, 2) => eight::<$rows, 2>(k, a, b, c, c_row, add),
                    ($rows, 1) => eight::<$rows, 1>(k, a, b, c, c_row, add),)*
                    _ => unreachable!("half a tile of {rows} rows and {registers} registers"),
                }
            };
        }
        // SAFETY: the caller's promise.
        unsafe { by_size!(1 2 3 4) }
    }
}

macro_rules! tile {
    ($name:ident, $features:literal, $lanes:literal, $zero:ident, $load:ident, $store:ident, $all:ident, $fma:ident, $sum:ident) => {
        #[target_feature(enable = $features)]
        unsafe fn $name<const ROWS: usize, const REGISTERS: usize>(
            k: usize,
            mut a: *const f32,
            mut b: *const f32,
            c: *mut f32,
            c_row: usize,
            add: bool,
        ) {
            // SAFETY: `Lanes::tile`'s promise on the extents.
            unsafe {
                let mut sums = [[$zero(); REGISTERS]; ROWS];
                for _ in 0..k {
                    let mut row = [$zero(); REGISTERS];
                    for (at, register) in row.iter_mut().enumerate() {
                        *register = $load(b.add(at * $lanes));
                    }
                    for (i, sums) in sums.iter_mut().enumerate() {
                        let value = $all(*a.add(i));
                        for (sum, register) in sums.iter_mut().zip(row) {
                            *sum = $fma(value, register, *sum);
                        }
                    }
                    a = a.add(GROUP);
                    b = b.add(REGISTERS * $lanes);
                }
                for (i, sums) in sums.into_iter().enumerate() {
                    for (at, sum) in sums.into_iter().enumerate() {
                        let c = c.add(i * c_row + at * $lanes);
                        let sum = if add { $sum($load(c), sum) } else { sum };
                        $store(c, sum);
                    }
                }
            }
        }
    };
}

tile!(
    sixteen,
    "avx512f",
    16,
    _mm512_setzero_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_set1_ps,
    _mm512_fmadd_ps,
    _mm512_add_ps
);
tile!(
    eight,
    "avx2,fma",
    8,
    _mm256_setzero_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_set1_ps,
    _mm256_fmadd_ps,
    _mm256_add_ps
);

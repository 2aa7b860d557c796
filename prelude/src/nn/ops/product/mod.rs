//! Products of f32 matrices on x86-64, with what follows them while the result is still in the cache.
//!
//! ```text
//! left sides, laid out in groups of 8 rows, once      ─┐
//! a panel of columns of the right side, k by k         ├─► tiles in registers ─► the panel's columns of the result ─► what follows
//! several products may add into one result (W x + B h) ┘
//! ```
//!
//! A task is one panel of columns, several where their rows lie side by side in memory, or some rows where there are few panels; threads take the next one as they are
//! free. The order of each sum is that of k, whatever the threads and the other rows.

mod pack;
mod tile;

use super::matrix::{After, Shared, Term};
use pack::{GROUP, Side, pack};
use rayon::prelude::*;
use std::cell::Cell;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use tile::Lanes;

/// Values of k that a panel is laid out for at a time: the fewer, the nearer the cache; the more, the seldomer a result is read
/// again to be added to. Measured beside 128, 192 and 256.
const DEEP: usize = 384;
/// Rows that share one layout of a panel, so that their left side for these k stays in the second cache meanwhile.
const ROWS: usize = 1024;
/// Panels that are laid out together where a row of theirs lies together in memory: it is then read in longer stretches.
const STRIP: usize = 4;
/// Rows of the right side that are laid out for all panels of a strip in turn.
const TURN: usize = 16;
/// Up to so many rows the right side is better read where it lies.
const FEW_ROWS: usize = 2;
/// Fewer multiplications than these are done before a second thread is awake.
const PARALLEL_WORK: usize = 1 << 20;
/// Scratch memory of a thread is kept up to so many values.
const KEPT: usize = 1 << 24;

thread_local! {
    static LEFT: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
    static RIGHT: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// Runs `f` with memory for `count` values of any content.
fn with_scratch<R>(
    place: &'static std::thread::LocalKey<Cell<Vec<f32>>>,
    count: usize,
    f: impl FnOnce(*mut f32) -> R,
) -> R {
    let mut memory = place.take();
    memory.reserve(count);
    let result = f(memory.as_mut_ptr());
    if memory.capacity() <= KEPT {
        place.set(memory);
    }
    result
}

/// `dst = (add ? dst : 0) + Σ terms`, then `after` on every piece of a row. `false`, with nothing done, where the processor
/// has no such registers, and for so few rows that laying out the right side would cost more than the product.
///
/// # Safety
/// The matrices lie within memory that the caller owns for this call, `dst` (`m` rows of `n` values, `dst_row` from one to
/// the next) exclusively; `dst` need not be initialised unless `add`.
pub(crate) unsafe fn product(
    (m, n): (usize, usize),
    (dst, dst_row): (*mut f32, usize),
    terms: &[Term],
    add: bool,
    after: Option<After<'_>>,
    parallel: bool,
) -> bool {
    match Lanes::here() {
        Some(lanes) if m > FEW_ROWS => {
            // SAFETY: the caller's promise.
            unsafe { product_in(lanes, (m, n), (dst, dst_row), terms, add, after, parallel) };
            true
        }
        _ => false,
    }
}

/// As [`product`], in these registers.
///
/// # Safety
/// As [`product`]; the processor has the registers.
unsafe fn product_in(
    lanes: Lanes,
    (m, n): (usize, usize),
    (dst, dst_row): (*mut f32, usize),
    terms: &[Term],
    add: bool,
    after: Option<After<'_>>,
    parallel: bool,
) {
    if m == 0 || n == 0 {
        return;
    }
    let threads = match parallel {
        true => rayon::current_num_threads(),
        false => 1,
    };
    let deep: usize = terms.iter().map(|term| term.k).sum();
    let groups = m.div_ceil(GROUP);
    with_scratch(&LEFT, groups * GROUP * deep, |left| {
        let work = Work {
            lanes,
            sizes: (m, n),
            dst: Shared(dst),
            dst_row,
            terms,
            add,
            after,
            left: Shared(left),
        };
        let many = threads > 1 && m * n * deep >= PARALLEL_WORK;
        let panels = n.div_ceil(lanes.panel());
        // Enough tasks that none waits long for the last one, each of some groups at least.
        let wanted = match many {
            true => (6 * threads).div_ceil(panels).min(groups.div_ceil(8)),
            false => 1,
        };
        let blocks = wanted.max(m.div_ceil(ROWS));
        let rows = groups.div_ceil(blocks) * GROUP;
        let blocks = m.div_ceil(rows);
        let side_by_side = terms.iter().all(|term| term.b.column == 1);
        let enough = if many { 4 * threads } else { 1 };
        let strip = match side_by_side {
            true => (panels * blocks / enough).clamp(1, STRIP),
            false => 1,
        };
        let tasks = panels.div_ceil(strip) * blocks;
        let part = match many {
            true => groups.div_ceil(4 * threads),
            false => groups,
        };
        let parts = groups.div_ceil(part);
        let [next_part, laid_out, next] = [(); 3].map(|()| AtomicUsize::new(0));
        // What each thread does: both halves without a meeting of the threads in between, which costs more than a small product.
        let take_all = || {
            loop {
                let at = next_part.fetch_add(1, Ordering::Relaxed);
                if at >= parts {
                    break;
                }
                for group in at * part..((at + 1) * part).min(groups) {
                    // SAFETY: no other thread has this group.
                    unsafe { work.lay_out(group) };
                }
                laid_out.fetch_add(1, Ordering::Release);
            }
            // The others are at their last parts: a matter of microseconds, unless they were put off the processor.
            let mut waited = 0u32;
            while laid_out.load(Ordering::Acquire) < parts {
                waited += 1;
                match waited < 1000 {
                    true => std::hint::spin_loop(),
                    false => std::thread::yield_now(),
                }
            }
            with_scratch(&RIGHT, strip * lanes.panel() * DEEP, |right| {
                loop {
                    let task = next.fetch_add(1, Ordering::Relaxed);
                    if task >= tasks {
                        return;
                    }
                    let first = task % blocks * rows;
                    // SAFETY: all left sides are laid out, and no other thread has this task.
                    let at = task / blocks * strip;
                    let mine = at..(at + strip).min(panels);
                    unsafe { work.strip(mine, first..(first + rows).min(m), right) };
                }
            });
        };
        match many {
            true => (0..threads.min(tasks))
                .into_par_iter()
                .with_max_len(1)
                .for_each(|_| take_all()),
            false => take_all(),
        }
    });
}

/// Where each stretch of k begins, and how long it is.
fn depths(k: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..k).step_by(DEEP).map(move |at| (at, DEEP.min(k - at)))
}

struct Work<'a> {
    lanes: Lanes,
    /// Rows and columns of the result.
    sizes: (usize, usize),
    dst: Shared<f32>,
    dst_row: usize,
    terms: &'a [Term],
    add: bool,
    after: Option<After<'a>>,
    /// The left sides: term by term, [`DEEP`] values of k at a time, group by group, k by k. What one panel reads lies together.
    left: Shared<f32>,
}

// SAFETY: the terms' pointers are only read; what is written, each task has for itself.
unsafe impl Sync for Work<'_> {}

impl Work<'_> {
    /// Where a term's left side has the group that begins at `row`, for the `deep` values of k from `k` on.
    fn left_of(&self, term: usize, row: usize, (k, deep): (usize, usize)) -> *mut f32 {
        let before: usize = self.terms[..term].iter().map(|term| term.k).sum();
        let whole = (before + k) * self.sizes.0.next_multiple_of(GROUP);
        self.left.get().wrapping_add(whole + row * deep)
    }

    /// Lays out one group of rows of every left side.
    unsafe fn lay_out(&self, group: usize) {
        let first = group * GROUP;
        let rows = GROUP.min(self.sizes.0 - first);
        for (at, term) in self.terms.iter().enumerate() {
            let side = Side {
                ptr: term.a.ptr,
                lane: term.a.row,
                deep: term.a.column,
            };
            for (k, deep) in depths(term.k) {
                let to = self.left_of(at, first, (k, deep));
                // SAFETY: `product`'s promise; the group's place in the scratch memory is its own.
                unsafe { pack(to, GROUP, side.from(first, k), (rows, deep), term.scale) };
            }
        }
    }

    /// First column of a panel, and how many it has: the last one may have fewer than others.
    fn columns(&self, panel: usize) -> (usize, usize) {
        let first = panel * self.lanes.panel();
        (first, self.lanes.panel().min(self.sizes.1 - first))
    }

    /// Rows `rows` of some panels of columns.
    unsafe fn strip(&self, panels: Range<usize>, rows: Range<usize>, right: *mut f32) {
        let mut add = self.add;
        // A panel's place in the scratch memory.
        let place =
            |panel: usize| right.wrapping_add((panel - panels.start) * self.lanes.panel() * DEEP);
        let width = |columns: usize| columns.next_multiple_of(self.lanes.count());
        // SAFETY: `product`'s promise; this task alone writes these rows and columns; `right` has room for the panels.
        unsafe {
            for (at, term) in self.terms.iter().enumerate() {
                let side = Side {
                    ptr: term.b.ptr,
                    lane: term.b.column,
                    deep: term.b.row,
                };
                for (k, deep) in depths(term.k) {
                    let turn = if panels.len() > 1 { TURN } else { deep };
                    for begin in (0..deep).step_by(turn) {
                        for panel in panels.clone() {
                            let (first, columns) = self.columns(panel);
                            let to = place(panel).add(begin * width(columns));
                            let from = side.from(first, k + begin);
                            let count = turn.min(deep - begin);
                            pack(to, width(columns), from, (columns, count), 1.0);
                        }
                    }
                    for panel in panels.clone() {
                        let (first, columns) = self.columns(panel);
                        for row in rows.clone().step_by(GROUP) {
                            let count = GROUP.min(rows.end - row);
                            let a = self.left_of(at, row, (k, deep));
                            let c = self.dst.get().add(row * self.dst_row + first);
                            let sizes = (count, columns, deep);
                            self.lanes
                                .tile(sizes, a, place(panel), c, self.dst_row, add);
                        }
                    }
                    add = true;
                }
            }
            if add && self.after.is_none() {
                return;
            }
            let (first, _) = self.columns(panels.start);
            let (last, columns) = self.columns(panels.end - 1);
            for row in rows {
                let c = self.dst.get().add(row * self.dst_row + first);
                let count = last + columns - first;
                if !add {
                    c.write_bytes(0, count);
                }
                if let Some(after) = self.after {
                    after(row, first, std::slice::from_raw_parts_mut(c, count));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::matrix::Matrix;
    use super::*;
    use crate::nn::testing::random;

    fn values(count: usize, seed: u64) -> Vec<f32> {
        let tensor = random(&[count], 1.0, seed);
        tensor.to_vec1().expect("values")
    }

    /// Values that the layouts of a side need.
    fn room(rows: usize, columns: usize) -> usize {
        (2 * rows + 3) * (columns + 3)
    }

    /// Ways in which a side of `rows` × `columns` may lie in memory: by rows, by columns, with values between.
    fn layouts(data: &[f32], rows: usize, columns: usize) -> [Matrix; 4] {
        assert!(data.len() >= room(rows, columns));
        [
            (columns, 1),
            (1, rows),
            (columns + 3, 1),
            (2 * columns + 1, 2),
        ]
        .map(|(row, column)| Matrix {
            ptr: data.as_ptr(),
            row,
            column,
        })
    }

    fn at(matrix: Matrix, row: usize, column: usize) -> f64 {
        // SAFETY: `layouts` has checked that the data reach so far.
        f64::from(unsafe { *matrix.ptr.add(row * matrix.row + column * matrix.column) })
    }

    /// All registers that this processor has.
    fn lanes() -> Vec<Lanes> {
        match Lanes::here() {
            Some(Lanes::Sixteen) => vec![Lanes::Sixteen, Lanes::Eight],
            Some(Lanes::Eight) => vec![Lanes::Eight],
            None => Vec::new(),
        }
    }

    /// The sum of the terms at one place, and the sum of the sizes of its parts.
    fn by_definition(terms: &[Term], row: usize, column: usize) -> (f64, f64) {
        let parts = terms.iter().flat_map(|term| {
            (0..term.k).map(|k| f64::from(term.scale) * at(term.a, row, k) * at(term.b, k, column))
        });
        parts.fold((0.0, 0.0), |(sum, size), part| {
            (sum + part, size + part.abs())
        })
    }

    #[test]
    fn products_are_those_of_the_definition() {
        for (m, n, k) in [
            (1, 1, 1),
            (3, 5, 2),
            (8, 48, 8),
            (9, 49, 17),
            (13, 95, DEEP + 3),
            (31, 24, 2 * DEEP),
            (70, 130, 40),
            (4, 7, 0),
        ] {
            let (left, right) = (values(room(m, k), 1), values(room(k, n), 2));
            let (thin, wide) = (values(room(m, 3), 3), values(room(3, n), 4));
            let before = values(m * (n + 2), 5);
            let after = |row: usize, first: usize, values: &mut [f32]| {
                for (at, value) in values.iter_mut().enumerate() {
                    *value += (row + 2 * (first + at)) as f32;
                }
            };
            for (case, lanes) in lanes()
                .into_iter()
                .flat_map(|l| (0..16).map(move |c| (c, l)))
            {
                let (way, other) = (case % 4, case / 4);
                let first = Term::new(layouts(&left, m, k)[way], layouts(&right, k, n)[other], k);
                let second = Term {
                    scale: -0.5,
                    ..Term::new(layouts(&thin, m, 3)[other], layouts(&wide, 3, n)[way], 3)
                };
                let terms = &[first, second][..1 + (way + other) % 2];
                let add = way % 2 == 0;
                let mut got = before.clone();
                let target = (got.as_mut_ptr(), n + 2);
                // SAFETY: the layouts lie within their data, the result within `got`.
                unsafe { product_in(lanes, (m, n), target, terms, add, Some(&after), true) };
                for (row, (got, before)) in got.chunks(n + 2).zip(before.chunks(n + 2)).enumerate()
                {
                    assert_eq!(got[n..], before[n..], "values between the rows");
                    for column in 0..n {
                        let (mut want, size) = by_definition(terms, row, column);
                        want += (row + 2 * column) as f64;
                        want += if add { f64::from(before[column]) } else { 0.0 };
                        let apart = (f64::from(got[column]) - want).abs();
                        assert!(
                            apart <= 5e-7 * (size + want.abs() + 1.0),
                            "{lanes:?}, {m}×{k}×{n}, case {case}, [{row}, {column}]: {} {want}",
                            got[column]
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_is_the_same_whatever_rows_and_threads_are_beside_it() {
        let (m, n, k) = (83, 197, DEEP + 65);
        let (a, b) = (values(m * k, 1), values(k * n, 2));
        for lanes in lanes() {
            let of = |first: usize, rows: usize, parallel: bool| {
                let mut y = vec![f32::NAN; rows * n];
                let term = Term::new(Matrix::rows(&a[first * k..], k), Matrix::rows(&b, n), k);
                let target = (y.as_mut_ptr(), n);
                // SAFETY: `a` has `rows` rows from the first on, `b` k rows of n values.
                unsafe { product_in(lanes, (rows, n), target, &[term], false, None, parallel) };
                y
            };
            let all = of(0, m, true);
            assert!(all == of(0, m, false));
            for (first, rows) in [(0, 1), (5, 3), (80, 3)] {
                assert!(all[first * n..(first + rows) * n] == of(first, rows, false)[..]);
            }
        }
    }
}

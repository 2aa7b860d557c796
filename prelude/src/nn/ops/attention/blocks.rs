//! Attention block by block of query rows: scores are held for one block and one head, never kept; the backward pass computes
//! them again.

use super::geometry::Geometry;
use super::views::{Target, View};
use crate::nn::ops::kernels::{Matrix, Shared, gemm, lane_sum, simd_fn};
use crate::nn::ops::softmax::softmax_row;
use rayon::prelude::*;
use std::ops::Range;

/// Query rows whose scores are held at a time, at least (and at most where queries see only what stands before them: the scores
/// of others are computed for nothing).
pub(super) const BLOCK: usize = 64;
/// Scores that are held at a time where all queries see all keys: they stay in the second cache.
const SCORES: usize = 64 * 1024;

impl Geometry {
    /// Rows of a block: all blocks of a head nearly alike, so that nothing is laid out for a handful of rows. The same for any batch
    /// and number of threads, so that sums are too; few heads are cut finer, to be work for all threads.
    fn block(&self) -> usize {
        let most = match self.form.causal || self.form.heads < 8 {
            true => BLOCK,
            false => (SCORES / self.keys.max(1)).clamp(BLOCK, 4 * BLOCK),
        };
        let blocks = self.queries.div_ceil(most).max(1);
        self.queries.div_ceil(blocks).next_multiple_of(8).max(8)
    }

    /// Attention probabilities of queries `rows` of one head into `scores`: `rows × (hi − lo)` values for keys `lo..hi`.
    fn block_probabilities(
        &self,
        (batch, head): (usize, usize),
        rows: Range<usize>,
        (lo, hi): (usize, usize),
        (q, k): (&View, &View),
        scores: &mut Vec<f32>,
    ) {
        let (d, n, m) = (self.form.head_dim, hi - lo, rows.len());
        let kv_head = head / (self.form.heads / self.form.kv_heads);
        scores.resize(m * n, 0.0);
        let (q, k) = (
            q.head(batch, rows.start, head * d),
            k.head(batch, lo, kv_head * d),
        );
        // SAFETY: `scores` holds m·n values; q has m rows and k n rows of d values from the given starts.
        unsafe {
            gemm(
                (m, n, d),
                scores.as_mut_ptr(),
                n,
                q,
                k.t(),
                super::scale(&self.form),
                false,
                false,
            )
        };
        for (row, i) in scores.chunks_exact_mut(n).zip(rows) {
            let (first, end) = self.visible(batch, i);
            row[..first - lo].fill(0.0);
            row[end - lo..].fill(0.0);
            let row = &mut row[first - lo..end - lo];
            for hole in self.holes(batch, i) {
                let (from, to) = (hole.start.max(first), hole.end.max(first));
                row[from - first..to - first].fill(f32::NEG_INFINITY);
            }
            match &self.key_mask {
                // A query sees at least itself, so that minus infinity becomes 0.
                None => _ = softmax_row(row),
                Some(mask) => {
                    let mask = &mask[batch * self.keys + first..batch * self.keys + end];
                    for (s, &m) in row.iter_mut().zip(mask) {
                        *s = if m == 0 { f32::NEG_INFINITY } else { *s };
                    }
                    softmax_row(row);
                    for (s, &m) in row.iter_mut().zip(mask) {
                        *s = if m == 0 { 0.0 } else { *s };
                    }
                }
            }
        }
    }

    /// `[B, Tq, H·d]`.
    pub(super) fn forward(&self, q: &View, k: &View, v: &View) -> Vec<f32> {
        let (d, heads) = (self.form.head_dim, self.form.heads);
        let width = heads * d;
        let mut out = vec![0f32; self.batch * self.queries * width];
        let target = Shared(out.as_mut_ptr());
        let size = self.block();
        let blocks = self.queries.div_ceil(size);
        let task = |scores: &mut Vec<f32>, index: usize| {
            let (batch, head, block) = (
                index / (heads * blocks),
                index / blocks % heads,
                index % blocks,
            );
            let rows = block * size..((block + 1) * size).min(self.queries);
            let (lo, hi) = self.span(batch, &rows);
            self.block_probabilities((batch, head), rows.clone(), (lo, hi), (q, k), scores);
            let v = v.head(batch, lo, head / (heads / self.form.kv_heads) * d);
            let at = (batch * self.queries + rows.start) * width + head * d;
            let p = Matrix::rows(scores, hi - lo);
            // SAFETY: each task writes its own rows and columns of `out`; v has hi − lo rows of d values.
            unsafe {
                gemm(
                    (rows.len(), d, hi - lo),
                    target.get().add(at),
                    width,
                    p,
                    v,
                    1.0,
                    false,
                    false,
                )
            };
        };
        let tasks = self.batch * heads * blocks;
        if self.work() < 128 * 1024 {
            let mut scores = Vec::new();
            (0..tasks).for_each(|index| task(&mut scores, index));
        } else {
            (0..tasks).into_par_iter().for_each_init(Vec::new, task);
        }
        out
    }

    /// Adds the gradients into `dq`, `dk`, `dv`, laid out as the given views.
    pub(super) fn backward(
        &self,
        [q, k, v]: [&View; 3],
        out: &[f32],
        dout: &[f32],
        [dq, dk, dv]: [&Target; 3],
    ) {
        let (d, heads, kv_heads) = (self.form.head_dim, self.form.heads, self.form.kv_heads);
        let (group, width) = (heads / kv_heads, heads * d);
        let rows_of = |data: &[f32], batch: usize, row: usize, head: usize| {
            let at = (batch * self.queries + row) * width + head * d;
            Matrix {
                ptr: data[at..].as_ptr(),
                row: width,
                column: 1,
            }
        };
        let size = self.block();
        let task = |(scores, dscores): &mut (Vec<f32>, Vec<f32>), index: usize| {
            let (batch, kv_head) = (index / kv_heads, index % kv_heads);
            for head in kv_head * group..(kv_head + 1) * group {
                for start in (0..self.queries).step_by(size) {
                    let rows = start..(start + size).min(self.queries);
                    let (lo, hi) = self.span(batch, &rows);
                    let (m, n) = (rows.len(), hi - lo);
                    self.block_probabilities((batch, head), rows.clone(), (lo, hi), (q, k), scores);
                    dscores.resize(m * n, 0.0);
                    let dy = rows_of(dout, batch, start, head);
                    let scale = super::scale(&self.form);
                    // SAFETY: scratch holds m·n values; this task alone touches this batch entry's rows of this key
                    // head in dk and dv and of its query heads in dq; the views have the rows and columns named.
                    unsafe {
                        let p = Matrix::rows(scores, n);
                        gemm(
                            (n, d, m),
                            dv.head(batch, lo, kv_head * d),
                            dv.row,
                            p.t(),
                            dy,
                            1.0,
                            true,
                            false,
                        );
                        let values = v.head(batch, lo, kv_head * d).t();
                        gemm(
                            (m, n, d),
                            dscores.as_mut_ptr(),
                            n,
                            dy,
                            values,
                            1.0,
                            false,
                            false,
                        );
                        for (r, i) in rows.enumerate() {
                            let at = (batch * self.queries + i) * width + head * d;
                            score_gradient(
                                &mut dscores[r * n..][..n],
                                &scores[r * n..][..n],
                                &dout[at..at + d],
                                &out[at..at + d],
                            );
                        }
                        let ds = Matrix::rows(dscores, n);
                        let keys = k.head(batch, lo, kv_head * d);
                        gemm(
                            (m, d, n),
                            dq.head(batch, start, head * d),
                            dq.row,
                            ds,
                            keys,
                            scale,
                            true,
                            false,
                        );
                        let queries = q.head(batch, start, head * d);
                        gemm(
                            (n, d, m),
                            dk.head(batch, lo, kv_head * d),
                            dk.row,
                            ds.t(),
                            queries,
                            scale,
                            true,
                            false,
                        );
                    }
                }
            }
        };
        let tasks = self.batch * kv_heads;
        if self.work() < 64 * 1024 {
            let mut scratch = Default::default();
            (0..tasks).for_each(|index| task(&mut scratch, index));
        } else {
            (0..tasks)
                .into_par_iter()
                .for_each_init(Default::default, task);
        }
    }
}

simd_fn! {
    /// `ds ← p ∘ (dp − Σ dy·y)` for one row, `ds` holding `dp`.
    fn score_gradient(ds: &mut [f32], p: &[f32], dy: &[f32], y: &[f32]) {
        let (n, d) = (ds.len(), dy.len());
        let (p, y) = (&p[..n], &y[..d]);
        let dot = lane_sum(d, |i| dy[i] * y[i]);
        for i in 0..n {
            ds[i] = p[i] * (ds[i] - dot);
        }
    }
}

//! Scaled dot-product attention with its own backward pass: bidirectional or causal, grouped queries, padding masks,
//! sliding window, and optionally rotary positions applied on the way in.
//!
//! Inputs and outputs keep the layout of the linear layers around them, `[B, T, heads · d]`, so nothing is transposed or
//! copied. Scores are computed for blocks of query rows and never kept: the backward pass computes them again.

use super::kernels::{self, Matrix, Shared, gemm, lane_sum, simd_fn};
use super::rotary::Rotary;
use super::softmax::softmax_row;
use crate::{Error, Result};
use candle_core::{CpuStorage, CustomOp1, CustomOp3, D, DType, Layout, Shape, Storage, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

/// Query rows whose scores are held at a time.
const BLOCK: usize = 64;

/// The form of an attention layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    /// Number of query heads.
    pub heads: usize,
    /// Number of key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Values per head, d.
    pub head_dim: usize,
    /// Whether a query sees only keys up to its own position. With fewer queries than keys, the queries are the last.
    pub causal: bool,
    /// With `causal`: a query sees only the last this many keys, itself included.
    pub sliding_window: Option<usize>,
}

impl Attention {
    /// Every query sees every key, as in a ViT.
    pub fn bidirectional(heads: usize, head_dim: usize) -> Self {
        Self {
            heads,
            kv_heads: heads,
            head_dim,
            causal: false,
            sliding_window: None,
        }
    }

    /// Every query sees the keys up to its own position, as in a language model.
    pub fn causal(heads: usize, kv_heads: usize, head_dim: usize) -> Self {
        Self {
            heads,
            kv_heads,
            head_dim,
            causal: true,
            sliding_window: None,
        }
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }

    fn check(
        &self,
        q: (usize, usize, usize),
        k: (usize, usize, usize),
        v: (usize, usize, usize),
    ) -> Result<()> {
        let (query, key) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        if self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            return Err(Error::Config(format!(
                "{} key/value heads do not divide {} query heads",
                self.kv_heads, self.heads
            )));
        }
        if q.2 != query || k.2 != key || v != k || q.0 != k.0 {
            return Err(Error::Input(format!(
                "attention with {} heads ({} for keys) of {} got q {q:?}, k {k:?}, v {v:?}",
                self.heads, self.kv_heads, self.head_dim
            )));
        }
        if self.causal && q.1 > k.1 {
            return Err(Error::Input(format!(
                "causal attention of {} queries over only {} keys",
                q.1, k.1
            )));
        }
        Ok(())
    }
}

/// `softmax(q kᵀ / √d) v`: q `[B, Tq, H·d]`, k and v `[B, Tk, K·d]` → `[B, Tq, H·d]`.
///
/// `key_mask`, `[B, Tk]`: 0 hides a key (padding). A query that sees nothing gives zeros.
///
/// # Errors
/// When the shapes do not fit `form`.
pub fn attention(
    form: &Attention,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    key_mask: Option<&Tensor>,
) -> Result<Tensor> {
    form.check(q.dims3()?, k.dims3()?, v.dims3()?)?;
    if kernels::is_narrow(q) {
        let [q32, k32, v32] = [q, k, v].map(|t| t.to_dtype(DType::F32));
        return Ok(attention(form, &q32?, &k32?, &v32?, key_mask)?.to_dtype(q.dtype())?);
    }
    if !(kernels::is_fast(q) && kernels::is_fast(k) && kernels::is_fast(v)) {
        return composed(form, q, k, v, key_mask);
    }
    let (batch, queries, _) = q.dims3()?;
    let geometry = Geometry::new(form, batch, queries, k.dim(1)?, key_mask)?;
    let (q, k, v) = (
        inner_contiguous(q)?,
        inner_contiguous(k)?,
        inner_contiguous(v)?,
    );
    Ok(q.apply_op3(&k, &v, Separate(geometry))?)
}

/// Causal self-attention straight from a packed projection `qkv`, `[B, T, (H + 2K)·d]` (queries, keys, values side by
/// side), with `rotary` applied to queries and keys → `[B, T, H·d]`. `key_mask` as in [`attention`].
///
/// # Errors
/// When the shapes do not fit `form` or the positions.
pub fn rotary_attention(
    form: &Attention,
    qkv: &Tensor,
    rotary: &Rotary,
    key_mask: Option<&Tensor>,
) -> Result<Tensor> {
    let (batch, tokens, width) = qkv.dims3()?;
    let (query, key) = (form.heads * form.head_dim, form.kv_heads * form.head_dim);
    if width != query + 2 * key {
        return Err(Error::Input(format!(
            "packed attention with {} heads ({} for keys) of {} takes width {}, got {width}",
            form.heads,
            form.kv_heads,
            form.head_dim,
            query + 2 * key
        )));
    }
    form.check(
        (batch, tokens, query),
        (batch, tokens, key),
        (batch, tokens, key),
    )?;
    rotary.check(batch, tokens, form.head_dim)?;
    if kernels::is_narrow(qkv) {
        let wide = rotary_attention(form, &qkv.to_dtype(DType::F32)?, rotary, key_mask)?;
        return Ok(wide.to_dtype(qkv.dtype())?);
    }
    if kernels::is_fast(qkv) {
        let geometry = Geometry::new(form, batch, tokens, tokens, key_mask)?;
        return Ok(qkv.contiguous()?.apply_op1(Packed {
            geometry,
            rotary: rotary.clone(),
        })?);
    }
    let q = rotary.rotate(&qkv.narrow(2, 0, query)?, form.head_dim)?; // [B, T, H·d]
    let k = rotary.rotate(&qkv.narrow(2, query, key)?, form.head_dim)?; // [B, T, K·d]
    let v = qkv.narrow(2, query + key, key)?; // [B, T, K·d]
    composed(form, &q, &k, &v, key_mask)
}

/// What [`attention`] weighs the values with: `[B, H, Tq, Tk]`, f32, without gradient, for looking at.
///
/// # Errors
/// When the shapes do not fit `form`.
pub fn attention_probabilities(
    form: &Attention,
    q: &Tensor,
    k: &Tensor,
    key_mask: Option<&Tensor>,
) -> Result<Tensor> {
    form.check(q.dims3()?, k.dims3()?, k.dims3()?)?;
    probabilities(form, &q.detach(), &k.detach(), key_mask)
}

/// `[B, H, Tq, Tk]` in f32, in candle's own operations.
fn probabilities(
    form: &Attention,
    q: &Tensor,
    k: &Tensor,
    key_mask: Option<&Tensor>,
) -> Result<Tensor> {
    let (batch, queries, _) = q.dims3()?;
    let keys = k.dim(1)?;
    let d = form.head_dim;
    let q = q
        .reshape((batch, queries, form.heads, d))?
        .transpose(1, 2)?
        .contiguous()?; // [B, H, Tq, d]
    let k = repeat_heads(form, k)?; // [B, H, Tk, d]
    let scores = (q.matmul(&k.t()?)?.to_dtype(DType::F32)? * f64::from(form.scale()))?; // [B, H, Tq, Tk]
    let geometry = Geometry::new(form, batch, queries, keys, key_mask)?;
    let hidden = Tensor::from_vec(
        geometry.hidden(),
        (batch, 1, queries, keys),
        &candle_core::Device::Cpu,
    )?;
    let hidden = hidden.to_device(q.device())?.broadcast_as(scores.shape())?; // [B, H, Tq, Tk]
    let low = Tensor::full(-1e30f32, scores.shape(), scores.device())?;
    let p = candle_nn::ops::softmax(&hidden.where_cond(&low, &scores)?, D::Minus1)?;
    Ok(hidden.where_cond(&p.zeros_like()?, &p)?)
}

/// k or v as `[B, H, Tk, d]`, each key head repeated for its group of query heads.
fn repeat_heads(form: &Attention, x: &Tensor) -> Result<Tensor> {
    let (batch, keys, _) = x.dims3()?;
    let (d, group) = (form.head_dim, form.heads / form.kv_heads);
    Ok(x.reshape((batch, keys, form.kv_heads, d))?
        .transpose(1, 2)? // [B, K, Tk, d]
        .unsqueeze(2)?
        .broadcast_as((batch, form.kv_heads, group, keys, d))?
        .reshape((batch, form.heads, keys, d))?)
}

fn composed(
    form: &Attention,
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    key_mask: Option<&Tensor>,
) -> Result<Tensor> {
    let (batch, queries, width) = q.dims3()?;
    let p = probabilities(form, q, k, key_mask)?.to_dtype(q.dtype())?; // [B, H, Tq, Tk]
    let y = p.matmul(&repeat_heads(form, v)?.contiguous()?)?; // [B, H, Tq, d]
    Ok(y.transpose(1, 2)?.reshape((batch, queries, width))?)
}

/// The tensor itself when its rows are contiguous (batch and token strides may be anything), else a copy.
fn inner_contiguous(x: &Tensor) -> candle_core::Result<Tensor> {
    if x.stride().last() == Some(&1) {
        Ok(x.clone())
    } else {
        x.contiguous()
    }
}

/// Sizes and masks of one call.
#[derive(Clone)]
struct Geometry {
    form: Attention,
    batch: usize,
    queries: usize,
    keys: usize,
    /// `[B · Tk]`, 0 = hidden.
    key_mask: Option<Arc<Vec<u8>>>,
}

impl Geometry {
    fn new(
        form: &Attention,
        batch: usize,
        queries: usize,
        keys: usize,
        key_mask: Option<&Tensor>,
    ) -> Result<Self> {
        let key_mask = match key_mask {
            None => None,
            Some(mask) if mask.dims() != [batch, keys] => {
                return Err(Error::Input(format!(
                    "the attention mask has shape {:?}, {batch} sequences of {keys} keys need [{batch}, {keys}]",
                    mask.dims()
                )));
            }
            Some(mask) => {
                let values = mask.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
                let bytes: Vec<u8> = values.iter().map(|&v| u8::from(v != 0.0)).collect();
                (!bytes.iter().all(|&b| b == 1)).then(|| Arc::new(bytes))
            }
        };
        Ok(Self {
            form: form.clone(),
            batch,
            queries,
            keys,
            key_mask,
        })
    }

    /// First key visible to query `i` and one past the last, padding aside.
    fn visible(&self, i: usize) -> (usize, usize) {
        if !self.form.causal {
            return (0, self.keys);
        }
        let end = i + 1 + self.keys - self.queries;
        (
            self.form
                .sliding_window
                .map_or(0, |window| end.saturating_sub(window)),
            end,
        )
    }

    /// 1 where a query does not see a key, `[B · Tq · Tk]`.
    fn hidden(&self) -> Vec<u8> {
        let mut hidden = vec![1u8; self.batch * self.queries * self.keys];
        for (row, hidden) in hidden.chunks_exact_mut(self.keys.max(1)).enumerate() {
            let (lo, hi) = self.visible(row % self.queries);
            for (j, hidden) in hidden[lo..hi].iter_mut().enumerate() {
                *hidden = u8::from(!self.sees(row / self.queries, lo + j));
            }
        }
        hidden
    }

    fn sees(&self, batch: usize, key: usize) -> bool {
        self.key_mask
            .as_ref()
            .is_none_or(|mask| mask[batch * self.keys + key] != 0)
    }

    /// Floating-point operations of one product, to decide on threads.
    fn work(&self) -> usize {
        self.batch * self.form.heads * self.queries * self.keys * self.form.head_dim
    }

    /// Attention probabilities of queries `rows` of one head into `scores`: `rows × (hi − lo)` values for keys `lo..hi`.
    fn block_probabilities(
        &self,
        (batch, head): (usize, usize),
        rows: std::ops::Range<usize>,
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
                self.form.scale(),
                false,
                false,
            )
        };
        for (row, i) in scores.chunks_exact_mut(n).zip(rows) {
            let (first, end) = self.visible(i);
            row[..first - lo].fill(0.0);
            row[end - lo..].fill(0.0);
            let row = &mut row[first - lo..end - lo];
            match &self.key_mask {
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
    fn forward(&self, q: &View, k: &View, v: &View) -> Vec<f32> {
        let (d, heads) = (self.form.head_dim, self.form.heads);
        let width = heads * d;
        let mut out = vec![0f32; self.batch * self.queries * width];
        let target = Shared(out.as_mut_ptr());
        let blocks = self.queries.div_ceil(BLOCK);
        let task = |scores: &mut Vec<f32>, index: usize| {
            let (batch, head, block) = (
                index / (heads * blocks),
                index / blocks % heads,
                index % blocks,
            );
            let rows = block * BLOCK..((block + 1) * BLOCK).min(self.queries);
            let (lo, hi) = (self.visible(rows.start).0, self.visible(rows.end - 1).1);
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
    fn backward(
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
        let task = |(scores, dscores): &mut (Vec<f32>, Vec<f32>), index: usize| {
            let (batch, kv_head) = (index / kv_heads, index % kv_heads);
            for head in kv_head * group..(kv_head + 1) * group {
                for start in (0..self.queries).step_by(BLOCK) {
                    let rows = start..(start + BLOCK).min(self.queries);
                    let (lo, hi) = (self.visible(rows.start).0, self.visible(rows.end - 1).1);
                    let (m, n) = (rows.len(), hi - lo);
                    self.block_probabilities((batch, head), rows.clone(), (lo, hi), (q, k), scores);
                    dscores.resize(m * n, 0.0);
                    let dy = rows_of(dout, batch, start, head);
                    let scale = self.form.scale();
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

/// Rows of heads in memory: `[B, T, heads · d]` with free batch and token strides.
struct View<'a> {
    data: &'a [f32],
    batch: usize,
    row: usize,
}

impl<'a> View<'a> {
    fn of(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<Self> {
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

    fn head(&self, batch: usize, row: usize, column: usize) -> Matrix {
        Matrix {
            ptr: self.data[batch * self.batch + row * self.row + column..].as_ptr(),
            row: self.row,
            column: 1,
        }
    }
}

/// As [`View`], for writing from several tasks.
struct Target {
    data: Shared<f32>,
    batch: usize,
    row: usize,
}

impl Target {
    /// # Safety
    /// The position must lie within the memory that `data` points to.
    unsafe fn head(&self, batch: usize, row: usize, column: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        unsafe {
            self.data
                .get()
                .add(batch * self.batch + row * self.row + column)
        }
    }
}

fn with_view<R>(
    tensor: &Tensor,
    f: impl FnOnce(&View) -> candle_core::Result<R>,
) -> candle_core::Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => f(&View::of(storage, layout)?),
        _ => candle_core::bail!("fused attention called off the CPU"),
    }
}

/// q, k and v as three tensors.
struct Separate(Geometry);

impl CustomOp3 for Separate {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let y = self
            .0
            .forward(&View::of(s1, l1)?, &View::of(s2, l2)?, &View::of(s3, l3)?);
        Ok(kernels::output(y, l1.shape().clone()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let mut gradients = [q, k, v].map(|t| vec![0f32; t.elem_count()]);
        let pointers = gradients
            .each_mut()
            .map(|gradient| Shared(gradient.as_mut_ptr()));
        let target = |data: Shared<f32>, t: &Tensor| Target {
            data,
            batch: t.dims()[1] * t.dims()[2],
            row: t.dims()[2],
        };
        let [dq, dk, dv] = [
            target(pointers[0], q),
            target(pointers[1], k),
            target(pointers[2], v),
        ];
        let targets = [&dq, &dk, &dv];
        with_view(q, |q| {
            with_view(k, |k| {
                with_view(v, |v| {
                    kernels::with_values(y, |y| {
                        kernels::with_values(&dy, |dy| {
                            self.0.backward([q, k, v], y, dy, targets);
                            Ok(())
                        })
                    })
                })
            })
        })?;
        let [dq, dk, dv] = gradients;
        let give = |t: &Tensor, g: Vec<f32>| {
            t.track_op()
                .then(|| kernels::tensor(g, t.shape().clone()))
                .transpose()
        };
        Ok((give(q, dq)?, give(k, dk)?, give(v, dv)?))
    }
}

/// q, k and v side by side in one tensor, queries and keys turned on the way in.
struct Packed {
    geometry: Geometry,
    rotary: Rotary,
}

impl Packed {
    fn width(&self) -> usize {
        (self.geometry.form.heads + 2 * self.geometry.form.kv_heads) * self.geometry.form.head_dim
    }

    /// Turns the query and key heads of every row of `data` in place.
    fn turn(&self, data: &mut [f32], inverse: bool) {
        let (d, width) = (self.geometry.form.head_dim, self.width());
        let turned = (self.geometry.form.heads + self.geometry.form.kv_heads) * d;
        kernels::for_row_blocks(data, width, |first, rows| {
            for (i, row) in rows.chunks_exact_mut(width).enumerate() {
                for head in row[..turned].chunks_exact_mut(d) {
                    self.rotary.turn(head, first + i, inverse);
                }
            }
        });
    }

    fn views<'a>(&self, data: &'a [f32]) -> [View<'a>; 3] {
        let form = &self.geometry.form;
        let (query, key) = (form.heads * form.head_dim, form.kv_heads * form.head_dim);
        let row = self.width();
        [0, query, query + key].map(|at| View {
            data: &data[at.min(data.len())..],
            batch: self.geometry.queries * row,
            row,
        })
    }
}

impl CustomOp1 for Packed {
    fn name(&self) -> &'static str {
        "rotary_attention"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let mut turned = kernels::values(storage, layout)?.to_vec(); // [B, T, (H + 2K)·d]
        self.turn(&mut turned, false);
        let [q, k, v] = self.views(&turned);
        let y = self.geometry.forward(&q, &k, &v);
        let form = &self.geometry.form;
        Ok(kernels::output(
            y,
            (
                self.geometry.batch,
                self.geometry.queries,
                form.heads * form.head_dim,
            ),
        ))
    }

    fn bwd(&self, qkv: &Tensor, y: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        let mut turned = kernels::with_values(qkv, |qkv| Ok(qkv.to_vec()))?; // [B, T, (H + 2K)·d]
        self.turn(&mut turned, false);
        let [q, k, v] = self.views(&turned);
        let mut gradient = vec![0f32; turned.len()]; // [B, T, (H + 2K)·d]
        let form = &self.geometry.form;
        let (query, key) = (form.heads * form.head_dim, form.kv_heads * form.head_dim);
        let base = Shared(gradient.as_mut_ptr());
        let [dq, dk, dv] = [0, query, query + key].map(|at| Target {
            data: Shared(base.get().wrapping_add(at)),
            batch: self.geometry.queries * self.width(),
            row: self.width(),
        });
        kernels::with_values(y, |y| {
            kernels::with_values(&dy.contiguous()?, |dy| {
                self.geometry.backward([&q, &k, &v], y, dy, [&dq, &dk, &dv]);
                Ok(())
            })
        })?;
        self.turn(&mut gradient, true);
        Ok(Some(kernels::tensor(gradient, qkv.shape().clone())?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::{assert_close, check_gradient, random};
    use candle_core::Device;

    fn check_form(
        form: &Attention,
        batch: usize,
        queries: usize,
        keys: usize,
        mask: Option<&Tensor>,
    ) -> Result<()> {
        let q = random(&[batch, queries, form.heads * form.head_dim], 1.0, 1);
        let k = random(&[batch, keys, form.kv_heads * form.head_dim], 1.0, 2);
        let v = random(&[batch, keys, form.kv_heads * form.head_dim], 1.0, 3);
        assert_close(
            &attention(form, &q, &k, &v, mask)?,
            &composed(form, &q, &k, &v, mask)?,
            2e-6,
        );
        check_gradient(
            &[q, k, v],
            |a| attention(form, &a[0], &a[1], &a[2], mask),
            |a| composed(form, &a[0], &a[1], &a[2], mask),
            4e-6,
        )
    }

    #[test]
    fn bidirectional_equals_the_composed_form() -> Result<()> {
        check_form(&Attention::bidirectional(2, 8), 2, 7, 7, None)
    }

    #[test]
    fn causal_grouped_with_padding_equals_the_composed_form() -> Result<()> {
        let mask = Tensor::new(
            &[[1u8, 1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1, 1]],
            &Device::Cpu,
        )?;
        check_form(&Attention::causal(4, 2, 8), 2, 7, 7, Some(&mask))
    }

    #[test]
    fn long_sequences_cross_block_borders() -> Result<()> {
        check_form(
            &Attention::causal(2, 1, 8),
            1,
            2 * BLOCK + 5,
            2 * BLOCK + 5,
            None,
        )
    }

    #[test]
    fn sliding_window_and_fewer_queries_than_keys_equal_the_composed_form() -> Result<()> {
        let form = Attention {
            sliding_window: Some(9),
            ..Attention::causal(2, 2, 4)
        };
        check_form(&form, 1, BLOCK + 3, BLOCK + 20, None)?;
        check_form(&form, 2, 1, 30, None)
    }

    #[test]
    fn strided_inputs_give_the_same_numbers() -> Result<()> {
        let form = Attention::causal(2, 2, 4);
        let packed = random(&[2, 5, 24], 1.0, 1);
        let part = |i: usize| packed.narrow(2, i * 8, 8);
        let strided = attention(&form, &part(0)?, &part(1)?, &part(2)?, None)?;
        let dense = attention(
            &form,
            &part(0)?.contiguous()?,
            &part(1)?.contiguous()?,
            &part(2)?.contiguous()?,
            None,
        )?;
        assert_close(&strided, &dense, 0.0);
        Ok(())
    }

    #[test]
    fn packed_with_rotary_equals_the_composed_form() -> Result<()> {
        let form = Attention {
            sliding_window: Some(4),
            ..Attention::causal(4, 2, 6)
        };
        let rotary = Rotary::new(&[1.0, 0.1], &[(0..9).collect(), (3..12).collect()], 1.1)?;
        let mask = Tensor::new(
            &[[0u8, 1, 1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 1, 1]],
            &Device::Cpu,
        )?;
        let qkv = random(&[2, 9, 48], 1.0, 1);
        let reference = |qkv: &Tensor| -> Result<Tensor> {
            let q = rotary.rotate(&qkv.narrow(2, 0, 24)?, 6)?;
            let k = rotary.rotate(&qkv.narrow(2, 24, 12)?, 6)?;
            composed(&form, &q, &k, &qkv.narrow(2, 36, 12)?, Some(&mask))
        };
        assert_close(
            &rotary_attention(&form, &qkv, &rotary, Some(&mask))?,
            &reference(&qkv)?,
            2e-6,
        );
        check_gradient(
            &[qkv],
            |a| rotary_attention(&form, &a[0], &rotary, Some(&mask)),
            |a| reference(&a[0]),
            4e-6,
        )
    }

    #[test]
    fn probabilities_sum_to_one_over_visible_keys() -> Result<()> {
        let form = Attention::causal(2, 1, 4);
        let (q, k) = (random(&[1, 3, 8], 1.0, 1), random(&[1, 3, 4], 1.0, 2));
        let p = attention_probabilities(&form, &q, &k, None)?;
        assert_eq!(p.dims(), [1, 2, 3, 3]);
        let sums = p.sum(3)?.flatten_all()?.to_vec1::<f32>()?;
        assert!(sums.iter().all(|s| (s - 1.0).abs() < 1e-6));
        assert!(p.get(0)?.get(0)?.to_vec2::<f32>()?[0][1] == 0.0);
        Ok(())
    }

    #[test]
    fn shapes_that_do_not_fit_are_errors() {
        let form = Attention::causal(2, 1, 4);
        let (q, k) = (random(&[1, 3, 8], 1.0, 1), random(&[1, 2, 4], 1.0, 2));
        assert!(attention(&form, &q, &k, &k, None).is_err());
        assert!(attention(&form, &q, &random(&[1, 3, 8], 1.0, 1), &k, None).is_err());
    }
}

//! Attention as one operation with its own backward pass: of q, k and v, or of a packed projection with rotary positions.

use super::geometry::Geometry;
use super::views::{Target, View, with_view};
use crate::nn::Rotary;
use crate::nn::ops::kernels::{self, Shared};
use candle_core::{CpuStorage, CustomOp1, CustomOp3, Layout, Shape, Tensor};

/// q, k and v as three tensors.
pub(super) struct Separate(pub Geometry);

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
pub(super) struct Packed {
    pub geometry: Geometry,
    pub rotary: Rotary,
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

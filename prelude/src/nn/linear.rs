//! The linear layer `y = x Wᵀ + b`: frozen (no weight gradient is computed), trainable, or frozen with LoRA.

use super::checkpoint::{Checkpoint, Init};
use super::half;
use super::kernels::{
    self, Matrix, for_row_blocks, lane_sum, matmul_into, simd_fn, sum_over_row_blocks,
};
use super::lora::{Lora, LoraConfig};
use super::parameter::{Parameter, Weight};
use crate::session::{check_interrupt, check_interrupt_in_pass};
use crate::{Error, Result};
use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, D, Layout, Shape, Storage, Tensor,
};

/// `y = x Wᵀ + b`, plus `s · B A x` when it carries LoRA.
#[derive(Clone)]
pub struct Linear {
    name: String,
    /// `[out, in]`.
    pub weight: Weight,
    /// `[out]`.
    pub bias: Option<Weight>,
    /// The low-rank update.
    pub lora: Option<Lora>,
    merged: bool,
}

impl Linear {
    /// A layer from its weights; `name` is the module path, e.g. `model.layers.0.mlp.down_proj`.
    pub fn new(name: impl Into<String>, weight: Weight, bias: Option<Weight>) -> Self {
        Self {
            name: name.into(),
            weight,
            bias,
            lora: None,
            merged: false,
        }
    }

    /// Reads `{name}.weight`, `[output, input]`, and `{name}.bias` when `bias`. A random checkpoint draws the weight
    /// normally with a standard deviation of 0.02, as Hugging Face's models do, and a zero bias.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load(
        checkpoint: &Checkpoint,
        name: &str,
        (input, output): (usize, usize),
        bias: bool,
    ) -> Result<Self> {
        Self::load_with(checkpoint, name, (input, output), bias, Init::Normal(0.02))
    }

    /// As [`Linear::load`], with another random draw of the weight.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn load_with(
        checkpoint: &Checkpoint,
        name: &str,
        (input, output): (usize, usize),
        bias: bool,
        init: Init,
    ) -> Result<Self> {
        let weight = checkpoint.weight(&format!("{name}.weight"), &[output, input], init)?;
        let bias = bias
            .then(|| checkpoint.weight(&format!("{name}.bias"), &[output], Init::Zeros))
            .transpose()?;
        Ok(Self::new(name, weight, bias))
    }

    /// Module path, as in the checkpoint without `.weight`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Width of the input.
    pub fn input(&self) -> usize {
        self.weight.tensor().dims()[1]
    }

    /// Width of the output.
    pub fn output(&self) -> usize {
        self.weight.tensor().dims()[0]
    }

    /// `[.., in] → [.., out]`.
    ///
    /// # Errors
    /// When the last dimension of `x` is not `in`; [`Error::Interrupted`] when the user asked to stop.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        // With a real model one step takes many seconds: this is the place that every network passes often.
        check_interrupt()?;
        let found = x.dim(D::Minus1)?;
        if found != self.input() {
            return Err(Error::Input(format!(
                "{} takes vectors of {}, the input's last dimension is {found} (shape {:?})",
                self.name,
                self.input(),
                x.dims()
            )));
        }
        let x = &x.contiguous()?;
        let weight = self.weight.tensor();
        let bias = self.bias.as_ref().map(Weight::tensor);
        let fast = kernels::is_fast(x) && kernels::is_fast(weight);
        let lora = self.lora.as_ref().filter(|_| !self.merged);
        let trains = weight.track_op() || bias.is_some_and(Tensor::track_op);
        if let Some(lora) = lora
            && fast
            && !trains
            && !lora.drops()
        {
            let base = Some(Base {
                weight: weight.clone(),
                bias: bias.cloned(),
            });
            return Ok(x.apply_op3(
                lora.a.tensor(),
                lora.b.tensor(),
                LowRank {
                    scale: lora.scale as f32,
                    base,
                },
            )?);
        }
        let y = match (trains, fast) {
            (false, _) => frozen(x, weight, bias)?,
            (true, true) => match bias {
                Some(bias) => x.apply_op3(weight, bias, TrainableWithBias)?,
                None => x.apply_op2(weight, Trainable)?,
            },
            (true, false) => composed(x, weight, bias)?,
        };
        let Some(lora) = lora else { return Ok(y) };
        let (a, b) = (lora.a.tensor(), lora.b.tensor());
        let dropped = lora.dropped(x)?; // [.., in]
        let update = if fast {
            dropped.apply_op3(
                a,
                b,
                LowRank {
                    scale: lora.scale as f32,
                    base: None,
                },
            )?
        } else {
            (composed(&composed(&dropped, a, None)?, b, None)? * lora.scale)?
        };
        Ok((y + update)?)
    }

    /// Makes weight, bias and LoRA trainable or frozen.
    ///
    /// # Errors
    /// When a weight cannot be copied into a variable.
    pub fn set_trainable(&mut self, trainable: bool) -> Result<()> {
        self.set_base_trainable(trainable)?;
        self.lora
            .as_mut()
            .map_or(Ok(()), |lora| lora.set_trainable(trainable))
    }

    /// Makes weight and bias trainable or frozen; LoRA keeps its own state.
    ///
    /// # Errors
    /// When a weight cannot be copied into a variable.
    pub fn set_base_trainable(&mut self, trainable: bool) -> Result<()> {
        self.weight.set_trainable(trainable)?;
        self.bias
            .as_mut()
            .map_or(Ok(()), |bias| bias.set_trainable(trainable))
    }

    /// Weight, bias and LoRA factors, by full name.
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut out = vec![self.weight.parameter()];
        out.extend(self.bias.as_ref().map(Weight::parameter));
        if let Some(lora) = &self.lora {
            out.extend([lora.a.parameter(), lora.b.parameter()]);
        }
        out
    }

    /// Attaches a fresh LoRA.
    ///
    /// # Errors
    /// When the layer has one already.
    pub fn add_lora(&mut self, config: &LoraConfig, seed: u64) -> Result<()> {
        if self.lora.is_some() {
            return Err(Error::Input(format!(
                "{} has LoRA already: remove or merge it first",
                self.name
            )));
        }
        let sizes = (self.input(), self.output());
        self.lora = Some(Lora::new(
            config,
            &self.name,
            sizes,
            self.weight.tensor(),
            seed,
        )?);
        Ok(())
    }

    /// Whether the update is part of the weight at the moment.
    pub fn is_merged(&self) -> bool {
        self.merged
    }

    /// Adds the update into the weight; `forward` then does no extra work. Nothing happens without LoRA.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn merge_lora(&mut self) -> Result<()> {
        if let (Some(lora), false) = (&self.lora, self.merged) {
            let weight = (self.weight.tensor().detach() + lora.delta()?)?;
            self.weight.set(&weight)?;
            self.merged = true;
        }
        Ok(())
    }

    /// Takes the update out of the weight again.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn unmerge_lora(&mut self) -> Result<()> {
        if let (Some(lora), true) = (&self.lora, self.merged) {
            let weight = (self.weight.tensor().detach() - lora.delta()?)?;
            self.weight.set(&weight)?;
            self.merged = false;
        }
        Ok(())
    }
}

/// `x Wᵀ + b` in candle's own operations.
fn composed(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (output, input) = weight.dims2()?;
    let rows = x.elem_count() / input.max(1);
    let y = x.reshape((rows, input))?.matmul(&weight.t()?)?; // [N, out]
    let y = match bias {
        Some(bias) => y.broadcast_add(bias)?,
        None => y,
    };
    Ok(y.reshape(with_last(x.dims(), output))?)
}

/// `x Wᵀ + b` whose backward pass gives only the gradient of `x`.
fn frozen(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let fast = kernels::is_fast(x) && kernels::is_fast(weight);
    let base = Base {
        weight: weight.clone(),
        bias: bias.filter(|_| fast).cloned(),
    };
    let y = x.apply_op1(Frozen { base, fast })?;
    match bias {
        Some(bias) if !fast => Ok(y.broadcast_add(bias)?),
        _ => Ok(y),
    }
}

fn with_last(dims: &[usize], last: usize) -> Vec<usize> {
    let mut dims = dims.to_vec();
    if let Some(end) = dims.last_mut() {
        *end = last;
    }
    dims
}

simd_fn! {
    /// `y[i] += W[first + i] · x` for the rows of `y`.
    fn matrix_vector(y: &mut [f32], weight: &[f32], x: &[f32]) {
        let k = x.len();
        for (y, row) in y.iter_mut().zip(weight.chunks_exact(k)) {
            *y += lane_sum(k, |i| row[i] * x[i]);
        }
    }
}

/// `x[M, in] Wᵀ + b`, `[M, out]`.
fn product(
    x: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    (rows, input, output): (usize, usize, usize),
) -> Vec<f32> {
    let mut y = vec![0f32; rows * output];
    if let Some(bias) = bias {
        for_row_blocks(&mut y, output, |_, block| {
            for row in block.chunks_exact_mut(output) {
                row.copy_from_slice(bias);
            }
        });
    }
    if rows == 1 && input > 0 {
        use rayon::prelude::*;
        if weight.len() < 64 * 1024 {
            matrix_vector(&mut y, weight, x);
            return y;
        }
        let block = output.div_ceil(rayon::current_num_threads()).max(16);
        y.par_chunks_mut(block)
            .zip(weight.par_chunks(block * input))
            .for_each(|(y, weight)| matrix_vector(y, weight, x));
        return y;
    }
    let (x, weight) = (Matrix::rows(x, input), Matrix::rows(weight, input).t());
    matmul_into(
        &mut y,
        (rows, output, input),
        x,
        weight,
        1.0,
        bias.is_some(),
    );
    y
}

/// The weights of a frozen layer.
struct Base {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Base {
    /// `x Wᵀ + b` for `rows` rows, CPU f32.
    fn product(&self, x: &[f32]) -> candle_core::Result<Vec<f32>> {
        let (output, input) = self.weight.dims2()?;
        let sizes = (x.len() / input.max(1), input, output);
        kernels::with_values(&self.weight, |weight| match &self.bias {
            Some(bias) => {
                kernels::with_values(bias, |bias| Ok(product(x, weight, Some(bias), sizes)))
            }
            None => Ok(product(x, weight, None, sizes)),
        })
    }

    /// `dy W` for `rows` rows, CPU f32.
    fn input_gradient(&self, dy: &[f32]) -> candle_core::Result<Vec<f32>> {
        let (output, input) = self.weight.dims2()?;
        let rows = dy.len() / output.max(1);
        let mut dx = vec![0f32; rows * input];
        kernels::with_values(&self.weight, |weight| {
            let (dy, weight) = (Matrix::rows(dy, output), Matrix::rows(weight, input));
            matmul_into(&mut dx, (rows, input, output), dy, weight, 1.0, false);
            Ok(())
        })?;
        Ok(dx)
    }
}

/// A frozen layer: the one operation of this module with a GPU path of its own, because candle's product would compute
/// the weight's gradient too.
struct Frozen {
    base: Base,
    fast: bool,
}

impl Frozen {
    /// The product through candle's storage, for other dtypes and devices.
    fn general<S: BackendStorage>(
        &self,
        x: &S,
        x_layout: &Layout,
        weight: &S,
    ) -> candle_core::Result<(S, Shape)> {
        let (output, input) = self.base.weight.dims2()?;
        let rows = x_layout.shape().elem_count() / input.max(1);
        let lhs = Layout::contiguous_with_offset((rows, input), x_layout.start_offset());
        let rhs = self.base.weight.layout().transpose(0, 1)?;
        let y = x.matmul(weight, (1, rows, output, input), &lhs, &rhs)?;
        Ok((y, with_last(x_layout.dims(), output).into()))
    }
}

impl CustomOp1 for Frozen {
    fn name(&self) -> &'static str {
        "frozen_linear"
    }

    fn cpu_fwd(
        &self,
        storage: &CpuStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        if self.fast {
            let y = self.base.product(kernels::values(storage, layout)?)?;
            let (output, _) = self.base.weight.dims2()?;
            return Ok(kernels::output(y, with_last(layout.dims(), output)));
        }
        let (weight, weight_layout) = self.base.weight.storage_and_layout();
        match &*weight {
            Storage::Cpu(weight) => {
                if let (Some(x), Some(weight)) = (
                    half::values(storage, layout),
                    half::values(weight, weight_layout),
                ) {
                    let (output, input) = self.base.weight.dims2()?;
                    let y = half::product(x, weight, input)?;
                    let shape = with_last(layout.dims(), output).into();
                    return Ok((CpuStorage::BF16(y), shape));
                }
                self.general(storage, layout, weight)
            }
            _ => candle_core::bail!("the input is on the CPU, the weight is not"),
        }
    }

    fn cuda_fwd(
        &self,
        storage: &CudaStorage,
        layout: &Layout,
    ) -> candle_core::Result<(CudaStorage, Shape)> {
        let (weight, _) = self.base.weight.storage_and_layout();
        match &*weight {
            Storage::Cuda(weight) => self.general(storage, layout, weight),
            _ => candle_core::bail!("the input is on the GPU, the weight is not"),
        }
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        check_interrupt_in_pass()?;
        let dy = dy.contiguous()?;
        if self.fast {
            let dx = kernels::with_values(&dy, |dy| self.base.input_gradient(dy))?;
            return Ok(Some(kernels::tensor(dx, x.shape().clone())?));
        }
        let (output, _) = self.base.weight.dims2()?;
        let rows = dy.elem_count() / output.max(1);
        Ok(Some(
            dy.reshape((rows, output))?
                .matmul(&self.base.weight.detach())?
                .reshape(x.shape())?,
        ))
    }
}

/// `dW = dyᵀ x`, `[out, in]`.
fn weight_gradient(x: &Tensor, weight: &Tensor, dy: &Tensor) -> candle_core::Result<Tensor> {
    let (output, input) = weight.dims2()?;
    let rows = x.elem_count() / input.max(1);
    let mut dw = vec![0f32; output * input];
    kernels::with_values(x, |x| {
        kernels::with_values(dy, |dy| {
            let (dy, x) = (Matrix::rows(dy, output).t(), Matrix::rows(x, input));
            matmul_into(&mut dw, (output, input, rows), dy, x, 1.0, false);
            Ok(())
        })
    })?;
    kernels::tensor(dw, (output, input))
}

/// `db = Σ dy` over the rows, `[out]`.
fn bias_gradient(bias: &Tensor, dy: &Tensor) -> candle_core::Result<Tensor> {
    let output = bias.elem_count();
    let db = kernels::with_values(dy, |dy| {
        Ok(sum_over_row_blocks(
            dy.len() / output.max(1),
            output,
            |rows, sum| {
                for row in dy[rows.start * output..rows.end * output].chunks_exact(output) {
                    for (s, d) in sum.iter_mut().zip(row) {
                        *s += d;
                    }
                }
            },
        ))
    })?;
    kernels::tensor(db, output)
}

fn trainable_forward(x: &[f32], weight: &[f32], bias: Option<&[f32]>, input: usize) -> Vec<f32> {
    let (rows, output) = (x.len() / input.max(1), weight.len() / input.max(1));
    product(x, weight, bias, (rows, input, output))
}

fn trainable_input_gradient(
    x: &Tensor,
    weight: &Tensor,
    dy: &Tensor,
) -> candle_core::Result<Option<Tensor>> {
    if !x.track_op() {
        return Ok(None);
    }
    let base = Base {
        weight: weight.clone(),
        bias: None,
    };
    let dx = kernels::with_values(dy, |dy| base.input_gradient(dy))?;
    Ok(Some(kernels::tensor(dx, x.shape().clone())?))
}

/// A layer without bias whose weight trains.
struct Trainable;

impl CustomOp2 for Trainable {
    fn name(&self) -> &'static str {
        "trainable_linear"
    }

    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (output, input) = l2.shape().dims2()?;
        let y = trainable_forward(
            kernels::values(s1, l1)?,
            kernels::values(s2, l2)?,
            None,
            input,
        );
        Ok(kernels::output(y, with_last(l1.dims(), output)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        check_interrupt_in_pass()?;
        let dy = dy.contiguous()?;
        Ok((
            trainable_input_gradient(x, weight, &dy)?,
            Some(weight_gradient(x, weight, &dy)?),
        ))
    }
}

/// A layer whose weight, bias or both train.
struct TrainableWithBias;

impl CustomOp3 for TrainableWithBias {
    fn name(&self) -> &'static str {
        "trainable_linear"
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
        let (output, input) = l2.shape().dims2()?;
        let bias = Some(kernels::values(s3, l3)?);
        let y = trainable_forward(
            kernels::values(s1, l1)?,
            kernels::values(s2, l2)?,
            bias,
            input,
        );
        Ok(kernels::output(y, with_last(l1.dims(), output)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        check_interrupt_in_pass()?;
        let dy = dy.contiguous()?;
        let dx = trainable_input_gradient(x, weight, &dy)?;
        let dw = weight
            .track_op()
            .then(|| weight_gradient(x, weight, &dy))
            .transpose()?;
        let db = bias
            .track_op()
            .then(|| bias_gradient(bias, &dy))
            .transpose()?;
        Ok((dx, dw, db))
    }
}

/// `base(x) + s · B A x` with the frozen base layer inside (or without base), arguments x, A, B.
struct LowRank {
    scale: f32,
    base: Option<Base>,
}

impl CustomOp3 for LowRank {
    fn name(&self) -> &'static str {
        "lora"
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
        let (x, a, b) = (
            kernels::values(s1, l1)?,
            kernels::values(s2, l2)?,
            kernels::values(s3, l3)?,
        );
        let ((r, input), (output, _)) = (l2.shape().dims2()?, l3.shape().dims2()?);
        let rows = x.len() / input.max(1);
        let mut y = match &self.base {
            Some(base) => base.product(x)?,
            None => vec![0f32; rows * output],
        };
        let mut h = vec![0f32; rows * r]; // [N, r]
        matmul_into(
            &mut h,
            (rows, r, input),
            Matrix::rows(x, input),
            Matrix::rows(a, input).t(),
            self.scale,
            false,
        );
        matmul_into(
            &mut y,
            (rows, output, r),
            Matrix::rows(&h, r),
            Matrix::rows(b, r).t(),
            1.0,
            true,
        );
        Ok(kernels::output(y, with_last(l1.dims(), output)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        a: &Tensor,
        b: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        check_interrupt_in_pass()?;
        let dy = dy.contiguous()?;
        let ((r, input), (output, _)) = (a.dims2()?, b.dims2()?);
        let rows = x.elem_count() / input.max(1);
        let mut dh = vec![0f32; rows * r]; // [N, r], scaled
        kernels::with_values(&dy, |dy| {
            kernels::with_values(b, |b| {
                let (dy, b) = (Matrix::rows(dy, output), Matrix::rows(b, r));
                matmul_into(&mut dh, (rows, r, output), dy, b, self.scale, false);
                Ok(())
            })
        })?;
        let dx = if x.track_op() {
            let mut dx = match &self.base {
                Some(base) => kernels::with_values(&dy, |dy| base.input_gradient(dy))?,
                None => vec![0f32; rows * input],
            };
            kernels::with_values(a, |a| {
                matmul_into(
                    &mut dx,
                    (rows, input, r),
                    Matrix::rows(&dh, r),
                    Matrix::rows(a, input),
                    1.0,
                    true,
                );
                Ok(())
            })?;
            Some(kernels::tensor(dx, x.shape().clone())?)
        } else {
            None
        };
        let da = if a.track_op() {
            let mut da = vec![0f32; r * input];
            kernels::with_values(x, |x| {
                matmul_into(
                    &mut da,
                    (r, input, rows),
                    Matrix::rows(&dh, r).t(),
                    Matrix::rows(x, input),
                    1.0,
                    false,
                );
                Ok(())
            })?;
            Some(kernels::tensor(da, (r, input))?)
        } else {
            None
        };
        let db = if b.track_op() {
            let mut h = vec![0f32; rows * r];
            kernels::with_values(x, |x| {
                kernels::with_values(a, |a| {
                    let (x, a) = (Matrix::rows(x, input), Matrix::rows(a, input).t());
                    matmul_into(&mut h, (rows, r, input), x, a, self.scale, false);
                    Ok(())
                })
            })?;
            let mut db = vec![0f32; output * r];
            kernels::with_values(&dy, |dy| {
                matmul_into(
                    &mut db,
                    (output, r, rows),
                    Matrix::rows(dy, output).t(),
                    Matrix::rows(&h, r),
                    1.0,
                    false,
                );
                Ok(())
            })?;
            Some(kernels::tensor(db, (output, r))?)
        } else {
            None
        };
        Ok((dx, da, db))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::{assert_close, check_gradient, random};
    use candle_core::Var;

    fn layer(weight: &Tensor, bias: Option<&Tensor>) -> Linear {
        let bias = bias.map(|b| Weight::frozen("l.bias", b.clone()));
        Linear::new("l", Weight::frozen("l.weight", weight.clone()), bias)
    }

    #[test]
    fn frozen_equals_the_composed_form_and_keeps_no_weight_gradient() -> Result<()> {
        let (x, w, b) = (
            random(&[2, 3, 9], 1.0, 1),
            random(&[7, 9], 1.0, 2),
            random(&[7], 1.0, 3),
        );
        let linear = layer(&w, Some(&b));
        assert_close(&linear.forward(&x)?, &composed(&x, &w, Some(&b))?, 1e-6);
        check_gradient(
            std::slice::from_ref(&x),
            |a| linear.forward(&a[0]),
            |a| composed(&a[0], &w, Some(&b)),
            2e-6,
        )?;
        let x = Var::from_tensor(&x)?;
        let grads = linear.forward(&x)?.sum_all()?.backward()?;
        assert!(grads.get(linear.weight.tensor()).is_none());
        assert!(grads.get(&x).is_some());
        Ok(())
    }

    #[test]
    fn one_row_takes_the_same_values_as_many() -> Result<()> {
        let (x, w) = (random(&[5, 300], 1.0, 1), random(&[400, 300], 1.0, 2));
        let linear = layer(&w, None);
        let all = linear.forward(&x)?;
        assert_close(
            &linear.forward(&x.narrow(0, 3, 1)?)?,
            &all.narrow(0, 3, 1)?,
            2e-6,
        );
        Ok(())
    }

    #[test]
    fn trainable_equals_the_composed_form() -> Result<()> {
        let (x, w, b) = (
            random(&[2, 3, 9], 1.0, 1),
            random(&[7, 9], 1.0, 2),
            random(&[7], 1.0, 3),
        );
        check_gradient(
            &[x.clone(), w.clone(), b],
            |a| layer(&a[1], Some(&a[2])).forward(&a[0]),
            |a| composed(&a[0], &a[1], Some(&a[2])),
            2e-6,
        )?;
        check_gradient(
            &[x, w],
            |a| layer(&a[1], None).forward(&a[0]),
            |a| composed(&a[0], &a[1], None),
            2e-6,
        )
    }

    #[test]
    fn lora_equals_the_composed_form_merges_and_unmerges() -> Result<()> {
        let (x, w, bias) = (
            random(&[2, 3, 9], 1.0, 1),
            random(&[7, 9], 1.0, 2),
            random(&[7], 1.0, 3),
        );
        let (a, b) = (random(&[4, 9], 1.0, 4), random(&[7, 4], 1.0, 5));
        let with = |x: &Tensor, a: &Tensor, b: &Tensor| -> Result<Tensor> {
            let mut linear = layer(&w, Some(&bias));
            linear.add_lora(&LoraConfig::new(4, 6.0, &["l"]), 0)?;
            let lora = linear.lora.as_mut().expect("just added");
            lora.a = Weight::frozen("a", a.clone());
            lora.b = Weight::frozen("b", b.clone());
            linear.forward(x)
        };
        let composed = |x: &Tensor, a: &Tensor, b: &Tensor| -> Result<Tensor> {
            let update = (composed(&composed(x, a, None)?, b, None)? * 1.5)?;
            Ok((composed(x, &w, Some(&bias))? + update)?)
        };
        assert_close(&with(&x, &a, &b)?, &composed(&x, &a, &b)?, 2e-6);
        check_gradient(
            &[x.clone(), a.clone(), b.clone()],
            |t| with(&t[0], &t[1], &t[2]),
            |t| composed(&t[0], &t[1], &t[2]),
            2e-6,
        )?;

        let mut linear = layer(&w, Some(&bias));
        linear.add_lora(&LoraConfig::new(4, 6.0, &["l"]), 0)?;
        let fresh = linear.forward(&x)?;
        assert_close(&fresh, &layer(&w, Some(&bias)).forward(&x)?, 0.0);
        let lora = linear.lora.as_mut().expect("just added");
        lora.a.set(&a)?;
        lora.b.set(&b)?;
        let want = linear.forward(&x)?;
        linear.merge_lora()?;
        assert_close(&linear.forward(&x)?, &want, 1e-5);
        linear.unmerge_lora()?;
        assert_close(linear.weight.tensor(), &w, 1e-5);
        assert!(
            linear
                .add_lora(&LoraConfig::new(4, 6.0, &["l"]), 0)
                .is_err()
        );
        Ok(())
    }

    #[test]
    fn dropout_zeroes_a_share_and_keeps_the_mean() -> Result<()> {
        let mut linear = layer(&random(&[1, 4], 1.0, 1), None);
        let config = LoraConfig {
            lora_dropout: 0.25,
            ..LoraConfig::new(2, 2.0, &["l"])
        };
        linear.add_lora(&config, 3)?;
        let lora = linear.lora.as_mut().expect("just added");
        lora.set_training(true);
        let ones = Tensor::ones(
            (200, 100),
            candle_core::DType::F32,
            &candle_core::Device::Cpu,
        )?;
        let dropped = lora.dropped(&ones)?.flatten_all()?.to_vec1::<f32>()?;
        let zeros = dropped.iter().filter(|v| **v == 0.0).count() as f32 / dropped.len() as f32;
        let mean = dropped.iter().sum::<f32>() / dropped.len() as f32;
        assert!((zeros - 0.25).abs() < 0.02, "{zeros}");
        assert!((mean - 1.0).abs() < 0.03, "{mean}");
        lora.set_training(false);
        assert_close(&lora.dropped(&ones)?, &ones, 0.0);
        Ok(())
    }

    #[test]
    fn a_wrong_width_names_the_layer() {
        let error = layer(&random(&[7, 9], 1.0, 1), None)
            .forward(&random(&[2, 8], 1.0, 2))
            .unwrap_err();
        assert!(
            error.to_string().starts_with("l takes vectors of 9"),
            "{error}"
        );
    }
}

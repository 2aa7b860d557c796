//! The linear layer `y = x Wᵀ + b`, plus `s · B A x` where it carries LoRA; how it is computed is said in `ops/linear.rs`.

use super::checkpoint::{Checkpoint, Init};
use super::lora::{Lora, LoraConfig};
use super::ops;
use super::parameter::{Parameter, Weight};
use crate::session::check_interrupt;
use crate::{Error, Result};
use candle_core::{D, Tensor};

/// `y = x Wᵀ + b`, plus `s · B A x` when it carries LoRA; with DoRA the rows of `W + s · B A` have lengths of their own.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let device = Device::Cpu;
/// let weight = Weight::frozen("fc.weight", Tensor::new(&[[1f32, 2.0], [0.0, 1.0]], &device)?);
/// let bias = Weight::frozen("fc.bias", Tensor::new(&[10f32, 20.0], &device)?);
/// let fc = Linear::new("fc", weight, Some(bias));
/// let x = Tensor::new(&[[3f32, 4.0]], &device)?; // [1, 2]
/// assert_eq!(fc.forward(&x)?.to_vec2::<f32>()?, [[3.0 + 8.0 + 10.0, 4.0 + 20.0]]);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Linear {
    name: String,
    /// `[out, in]`; when frozen it may be held in [`Blocks`](super::Blocks).
    pub weight: Weight,
    /// `[out]`.
    pub bias: Option<Weight>,
    /// The low-rank update.
    pub lora: Option<Lora>,
    merged: bool,
    /// While DoRA is merged: what the rows were multiplied by, `[out, 1]`.
    merged_scale: Option<Tensor>,
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
            merged_scale: None,
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
        let weight = checkpoint.matrix(&format!("{name}.weight"), &[output, input], init)?;
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
        let (weight, bias) = (self.weight.matrix(), self.bias.as_ref().map(Weight::tensor));
        let Some(lora) = self.lora.as_ref().filter(|_| !self.merged) else {
            return ops::linear(x, weight, bias); // W x + b
        };
        if let Some(y) = lora.fused_with(x, (weight, bias))? {
            return Ok(y); // the same sum in one operation
        }
        let y = ops::linear(x, weight, bias)?;
        let update = match lora.row_scale(&self.weight)? {
            None => lora.forward(x)?, // s · B A x
            Some(scale) => lora.dora(x, (&y, weight, bias), &scale)?,
        };
        ops::updated(&y, &update) // W x + b + update
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
            out.extend(lora.weights().map(Weight::parameter));
        }
        out
    }

    /// Attaches a fresh LoRA.
    ///
    /// # Errors
    /// When the layer has one already; for DoRA on a weight in blocks.
    pub fn add_lora(&mut self, config: &LoraConfig, seed: u64) -> Result<()> {
        if self.lora.is_some() {
            return Err(Error::Input(format!(
                "{} has LoRA already: remove or merge it first",
                self.name
            )));
        }
        if config.use_dora {
            Lora::check_dora(&self.weight)?;
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
    /// `Input` for a weight in blocks, which would be rounded again; when a tensor operation fails.
    pub fn merge_lora(&mut self) -> Result<()> {
        if let (Some(lora), false) = (&self.lora, self.merged) {
            if let Some(blocks) = self.weight.blocks() {
                return Err(Error::Input(format!(
                    "{}: LoRA can't be merged into {}, which would be rounded again: have floats first with `dequantize()?`, or keep \
                     the adapter beside the model",
                    self.name,
                    blocks.kind()
                )));
            }
            let delta = lora.delta()?; // [out, in]
            let weight = self.weight.tensor().detach().to_dtype(delta.dtype())?;
            let weight = (weight + delta)?;
            let scale = lora.row_scale(&self.weight)?;
            let scale = scale.map(|scale| scale.detach().unsqueeze(1)).transpose()?; // [out, 1]
            let weight = match &scale {
                Some(scale) => weight.broadcast_mul(scale)?,
                None => weight,
            };
            self.weight.set(&weight)?;
            (self.merged, self.merged_scale) = (true, scale);
        }
        Ok(())
    }

    /// Takes the update out of the weight again.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn unmerge_lora(&mut self) -> Result<()> {
        if let (Some(lora), true) = (&self.lora, self.merged) {
            let delta = lora.delta()?; // [out, in]
            let weight = self.weight.tensor().detach().to_dtype(delta.dtype())?;
            let weight = match &self.merged_scale {
                Some(scale) => weight.broadcast_div(scale)?,
                None => weight,
            };
            self.weight.set(&(weight - delta)?)?;
            (self.merged, self.merged_scale) = (false, None);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::ops::linear::composed;
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

//! AdamW with torch's numbers: parameters and their gradients → the parameters, changed in place.
//!
//! One parameter group, as in the blog: the same learning rate and weight decay for everything that trains. The state
//! is kept under parameter names, so that it survives a checkpoint and another process.

use std::collections::BTreeMap;

use candle_core::{CpuStorage, DType, Device, InplaceOp2, InplaceOp3, Layout, Tensor, Var};

use super::gradients::Gradients;
use crate::nn::Parameter;
use crate::nn::kernels::{self, simd_fn};
use crate::{Error, Result};

/// The settings of [`AdamW`]; the defaults are `torch.optim.AdamW`'s.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWConfig {
    /// Step size. A schedule scales it through [`AdamW::step_with_rate`].
    pub learning_rate: f64,
    /// Decay of the running mean of gradients.
    pub beta1: f64,
    /// Decay of the running mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay: each step scales every parameter by `1 − learning_rate · weight_decay`.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
        }
    }
}

impl AdamWConfig {
    fn validate(&self) -> Result<()> {
        let decays = [("beta1", self.beta1), ("beta2", self.beta2)];
        if let Some((name, value)) = decays
            .into_iter()
            .find(|(_, value)| !(0.0..1.0).contains(value))
        {
            return Err(Error::Config(format!(
                "AdamW: {name} is {value}, it must be at least 0 and below 1"
            )));
        }
        let sizes = [
            ("learning_rate", self.learning_rate),
            ("eps", self.eps),
            ("weight_decay", self.weight_decay),
        ];
        match sizes
            .into_iter()
            .find(|(_, value)| !value.is_finite() || *value < 0.0)
        {
            Some((name, value)) => Err(Error::Config(format!(
                "AdamW: {name} is {value}, it must not be negative"
            ))),
            None => Ok(()),
        }
    }
}

/// What AdamW remembers of one parameter.
#[derive(Debug, Clone)]
struct Moments {
    step: u64,
    mean: Tensor,   // shape of the parameter, f32
    square: Tensor, // shape of the parameter, f32
}

/// The numbers of one step for one parameter.
struct Update {
    beta1: f64,
    beta2: f64,
    eps: f64,
    /// Learning rate with the mean's correction in it.
    rate: f64,
    /// What weight decay leaves of a value.
    keep: f64,
    /// Root of the second moment's correction.
    root: f64,
}

impl Update {
    /// Three passes over the values, in f32 on the CPU; nothing is allocated.
    fn in_place(&self, var: &Var, gradient: &Tensor, moments: Moments) -> Result<Moments> {
        let gradient = gradient.contiguous()?;
        let mean = Moment {
            beta: self.beta1,
            values: mean_values,
        };
        let square = Moment {
            beta: self.beta2,
            values: square_values,
        };
        moments.mean.inplace_op2(&gradient, &mean)?;
        moments.square.inplace_op2(&gradient, &square)?;
        let values = var.as_tensor();
        values.inplace_op3(
            &moments.mean,
            &moments.square,
            &Change {
                rate: self.rate as f32,
                keep: self.keep as f32,
                root: self.root as f32,
                eps: self.eps as f32,
            },
        )?;
        Ok(moments)
    }

    /// The same in candle's own operations, for other dtypes and devices.
    fn composed(&self, var: &Var, gradient: &Tensor, old: Moments) -> Result<Moments> {
        let (beta1, beta2) = (self.beta1, self.beta2);
        let mean = ((old.mean * beta1)? + (gradient * (1.0 - beta1))?)?;
        let square = ((old.square * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
        let scale = ((square.sqrt()? / self.root)? + self.eps)?;
        let change = ((&mean / &scale)? * self.rate)?;
        let values = var.as_tensor().detach().to_dtype(DType::F32)?;
        let values = ((values * self.keep)? - change)?;
        var.set(&values.to_dtype(var.dtype())?)?;
        Ok(Moments {
            step: old.step,
            mean,
            square,
        })
    }
}

simd_fn! {
    /// `m ← β₁ m + (1 − β₁) g`.
    fn mean_values(mean: &mut [f32], gradient: &[f32], old: f32, new: f32) {
        for (m, &g) in mean.iter_mut().zip(gradient) {
            *m = *m * old + g * new;
        }
    }
}

simd_fn! {
    /// `v ← β₂ v + (1 − β₂) g²`.
    fn square_values(square: &mut [f32], gradient: &[f32], old: f32, new: f32) {
        for (s, &g) in square.iter_mut().zip(gradient) {
            *s = *s * old + g * g * new;
        }
    }
}

simd_fn! {
    fn change_values(
        values: &mut [f32],
        mean: &[f32],
        square: &[f32],
        rate: f32,
        keep: f32,
        root: f32,
        eps: f32,
    ) {
        for ((v, &m), &s) in values.iter_mut().zip(mean).zip(square) {
            *v = *v * keep - m / (s.sqrt() / root + eps) * rate;
        }
    }
}

/// A moment's step: β of the old one and 1 − β of what the gradient gives.
struct Moment {
    beta: f64,
    values: fn(&mut [f32], &[f32], f32, f32),
}

impl InplaceOp2 for Moment {
    fn name(&self) -> &'static str {
        "adamw_moment"
    }

    fn cpu_fwd(
        &self,
        moment: &mut CpuStorage,
        layout: &Layout,
        gradient: &CpuStorage,
        l: &Layout,
    ) -> candle_core::Result<()> {
        let gradient = kernels::values(gradient, l)?;
        // 1 − β in f64: in f32 it would be 2e-5 off for β₂ = 0.999.
        let (old, new) = (self.beta as f32, (1.0 - self.beta) as f32);
        kernels::for_row_blocks(kernels::values_mut(moment, layout)?, 1, |first, moment| {
            (self.values)(moment, &gradient[first..][..moment.len()], old, new);
        });
        Ok(())
    }
}

/// The parameter, from its moments.
struct Change {
    rate: f32,
    keep: f32,
    root: f32,
    eps: f32,
}

impl InplaceOp3 for Change {
    fn name(&self) -> &'static str {
        "adamw_change"
    }

    fn cpu_fwd(
        &self,
        values: &mut CpuStorage,
        layout: &Layout,
        mean: &CpuStorage,
        l1: &Layout,
        square: &CpuStorage,
        l2: &Layout,
    ) -> candle_core::Result<()> {
        let (mean, square) = (kernels::values(mean, l1)?, kernels::values(square, l2)?);
        kernels::for_row_blocks(kernels::values_mut(values, layout)?, 1, |first, values| {
            let range = first..first + values.len();
            let (mean, square) = (&mean[range.clone()], &square[range]);
            let Self {
                rate,
                keep,
                root,
                eps,
            } = *self;
            change_values(values, mean, square, rate, keep, root, eps);
        });
        Ok(())
    }
}

/// The optimizer and its state. Not `Clone`: a step changes the moments in place.
pub struct AdamW {
    config: AdamWConfig,
    moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// An optimizer that has seen nothing yet.
    ///
    /// # Errors
    /// When a setting is out of its range.
    pub fn new(config: AdamWConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            config,
            moments: BTreeMap::new(),
        })
    }

    /// The settings.
    pub fn config(&self) -> AdamWConfig {
        self.config
    }

    /// Parameters that it keeps moments of: those that it has moved.
    pub fn tracked(&self) -> usize {
        self.moments.len()
    }

    /// One step with the configured learning rate.
    ///
    /// # Errors
    /// As [`AdamW::step_with_rate`].
    pub fn step(&mut self, parameters: &[Parameter], gradients: &Gradients) -> Result<()> {
        self.step_with_rate(parameters, gradients, self.config.learning_rate)
    }

    /// One step with another learning rate than the configured one. As in torch, a parameter without a gradient is
    /// left alone (no decay, no step counted); frozen parameters are never touched.
    ///
    /// # Errors
    /// When the remembered state has another shape than the parameter (a checkpoint of another model).
    pub fn step_with_rate(
        &mut self,
        parameters: &[Parameter],
        gradients: &Gradients,
        rate: f64,
    ) -> Result<()> {
        let AdamWConfig {
            beta1,
            beta2,
            eps,
            weight_decay,
            ..
        } = self.config;
        for parameter in parameters {
            let (Some(var), Some(gradient)) = (&parameter.var, gradients.get(&parameter.name))
            else {
                continue;
            };
            let gradient = gradient.to_dtype(DType::F32)?;
            let old = match self.moments.remove(&parameter.name) {
                Some(moments) => moments,
                None => Moments {
                    step: 0,
                    mean: gradient.zeros_like()?,
                    square: gradient.zeros_like()?,
                },
            };
            if old.mean.dims() != gradient.dims() {
                return Err(Error::Input(format!(
                    "{}: the optimizer's state has shape {:?}, the parameter {:?}; start a new trainer for this model",
                    parameter.name,
                    old.mean.dims(),
                    gradient.dims()
                )));
            }
            let moments = Moments {
                step: old.step + 1,
                ..old
            };
            let update = Update {
                beta1,
                beta2,
                eps,
                rate: rate / (1.0 - beta1.powf(moments.step as f64)),
                keep: 1.0 - rate * weight_decay,
                root: (1.0 - beta2.powf(moments.step as f64)).sqrt(),
            };
            let moments = if kernels::is_fast(var) {
                update.in_place(var, &gradient, moments)?
            } else {
                update.composed(var, &gradient, moments)?
            };
            self.moments.insert(parameter.name.clone(), moments);
        }
        Ok(())
    }

    /// The state as named tensors for a checkpoint: `{parameter}.exp_avg`, `.exp_avg_sq` and `.step` (f64 scalar).
    ///
    /// # Errors
    /// When a tensor cannot be made.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = BTreeMap::new();
        for (name, moments) in &self.moments {
            // Copies: the next step changes the moments in place.
            state.insert(format!("{name}.exp_avg"), moments.mean.copy()?);
            state.insert(format!("{name}.exp_avg_sq"), moments.square.copy()?);
            state.insert(
                format!("{name}.step"),
                Tensor::new(moments.step as f64, &Device::Cpu)?,
            );
        }
        Ok(state)
    }

    /// Takes over a state that [`AdamW::state`] made.
    ///
    /// # Errors
    /// When one of the three tensors of a parameter is missing, naming it.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>, device: &Device) -> Result<()> {
        let mut moments = BTreeMap::new();
        for key in state.keys() {
            let Some(name) = key.strip_suffix(".exp_avg") else {
                continue;
            };
            let find = |part: &str| {
                let full = format!("{name}.{part}");
                state
                    .get(&full)
                    .ok_or_else(|| Error::Input(format!("optimizer state: {full} is missing")))
            };
            let step = find("step")?.to_dtype(DType::F64)?.to_scalar::<f64>()? as u64;
            let mean = find("exp_avg")?.to_device(device)?.copy()?;
            let square = find("exp_avg_sq")?.to_device(device)?.copy()?;
            moments.insert(name.to_string(), Moments { step, mean, square });
        }
        self.moments = moments;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;

    fn parameter(values: &[f32]) -> Result<Parameter> {
        let var = Var::new(values, &Device::Cpu)?;
        Ok(Parameter {
            name: "w".into(),
            tensor: var.as_tensor().clone(),
            var: Some(var),
        })
    }

    /// Three steps on `sum(w³)` against the paper's formulas in f64.
    #[test]
    fn three_steps_equal_the_formulas() -> Result<()> {
        let config = AdamWConfig {
            learning_rate: 0.1,
            weight_decay: 0.5,
            ..AdamWConfig::default()
        };
        let start = [1.0f32, -2.0, 0.5];
        let parameters = [parameter(&start)?];
        let mut adamw = AdamW::new(config)?;
        let mut expected = start.map(f64::from);
        let (mut m, mut v) = ([0.0; 3], [0.0; 3]);
        for t in 1..=3 {
            let w = &parameters[0].tensor;
            let loss = (w.sqr()? * w)?.sum_all()?;
            adamw.step(&parameters, &Gradients::of(&loss, &parameters)?)?;
            for i in 0..3 {
                let g = 3.0 * expected[i] * expected[i];
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.999 * v[i] + 0.001 * g * g;
                let (mh, vh) = (
                    m[i] / (1.0 - 0.9f64.powi(t)),
                    v[i] / (1.0 - 0.999f64.powi(t)),
                );
                expected[i] = expected[i] * (1.0 - 0.1 * 0.5) - 0.1 * mh / (vh.sqrt() + 1e-8);
            }
        }
        let found = parameters[0].tensor.to_vec1::<f32>()?;
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (f64::from(*found) - expected).abs() < 1e-6,
                "{found} is not {expected}"
            );
        }
        Ok(())
    }

    #[test]
    fn a_restored_state_goes_on_as_if_never_stopped() -> Result<()> {
        let run = |stop: bool| -> Result<Vec<f32>> {
            let parameters = [parameter(&[1.0, -1.0])?];
            let mut adamw = AdamW::new(AdamWConfig::default())?;
            for step in 0..6 {
                if stop && step == 3 {
                    let state = adamw.state()?;
                    adamw = AdamW::new(AdamWConfig::default())?;
                    adamw.load_state(&state, &Device::Cpu)?;
                }
                let loss = parameters[0].tensor.sqr()?.sum_all()?;
                adamw.step(&parameters, &Gradients::of(&loss, &parameters)?)?;
            }
            Ok(parameters[0].tensor.to_vec1()?)
        };
        assert_eq!(run(false)?, run(true)?);
        Ok(())
    }

    #[test]
    fn a_parameter_without_gradient_is_left_alone() -> Result<()> {
        let used = parameter(&[1.0])?;
        let unused = Parameter {
            name: "unused".into(),
            ..parameter(&[5.0])?
        };
        let loss = used.tensor.sqr()?.sum_all()?;
        let parameters = [used, unused];
        let gradients = Gradients::of(&loss, &parameters)?;
        assert_eq!(gradients.missing(&parameters), ["unused"]);
        AdamW::new(AdamWConfig::default())?.step(&parameters, &gradients)?;
        assert_eq!(parameters[1].tensor.to_vec1::<f32>()?, [5.0]);
        assert!(parameters[0].tensor.to_vec1::<f32>()?[0] < 1.0);
        Ok(())
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let error = AdamW::new(AdamWConfig {
            beta2: 1.0,
            ..AdamWConfig::default()
        })
        .map(|_| ())
        .unwrap_err();
        assert!(error.to_string().contains("beta2 is 1"), "{error}");
    }
}

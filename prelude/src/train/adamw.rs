//! AdamW with torch's numbers: parameters and their gradients → the parameters, changed in place.
//!
//! One learning rate and weight decay for everything that trains, as in the blog, or another for each parameter
//! ([`AdamW::step_by`]). The state is kept under parameter names, so that it survives a checkpoint and another process.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use super::gradients::Gradients;
use super::moved_together::{self, Waiting};
use crate::nn::Parameter;
use crate::nn::ops::{self, AdamWStep, kernels};
use crate::{Error, Result};

/// The settings of [`AdamW`]; the defaults are `torch.optim.AdamW`'s.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let config = AdamWConfig { learning_rate: 3e-4, ..AdamWConfig::default() };
/// assert_eq!((config.beta1, config.beta2, config.weight_decay), (0.9, 0.999, 0.01));
/// let refused = AdamW::new(AdamWConfig { beta2: 1.0, ..config });
/// assert!(refused.is_err_and(|error| error.to_string().contains("beta2 is 1")));
/// ```
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
    pub(super) fn validate(&self) -> Result<()> {
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

/// How far a step moves a parameter.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::candle_core::Var;
/// let weight = Var::new(&[1f32, -1.0], &Device::Cpu)?;
/// let parameters = [Parameter::new("w", &weight)];
/// let gradients = Gradients::of(&weight.as_tensor().sqr()?.sum_all()?, &parameters)?;
/// // The first step of AdamW moves each value by its rate: here by that of this parameter.
/// let rates = |_: &Parameter| Rates { rate: 0.5, weight_decay: 0.0 };
/// AdamW::new(AdamWConfig::default())?.step_by(&parameters, &gradients, &rates)?;
/// assert!((weight.to_vec1::<f32>()?[0] - 0.5).abs() < 1e-6);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rates {
    /// The learning rate.
    pub rate: f64,
    /// The decoupled weight decay.
    pub weight_decay: f64,
}

/// Refuses a remembered tensor of another shape than the parameter's gradient.
pub(super) fn check_shape(parameter: &Parameter, state: &Tensor, gradient: &Tensor) -> Result<()> {
    if state.dims() == gradient.dims() {
        return Ok(());
    }
    Err(Error::Input(format!(
        "{}: the optimizer's state has shape {:?}, the parameter {:?}; start a new trainer for this model",
        parameter.name,
        state.dims(),
        gradient.dims()
    )))
}

/// The tensor `{parameter}.{part}` of a saved state.
pub(super) fn saved_part<'a>(
    state: &'a BTreeMap<String, Tensor>,
    parameter: &str,
    part: &str,
) -> Result<&'a Tensor> {
    let full = format!("{parameter}.{part}");
    state
        .get(&full)
        .ok_or_else(|| Error::Input(format!("optimizer state: {full} is missing")))
}

/// What AdamW remembers of one parameter.
#[derive(Debug, Clone)]
pub(super) struct Moments {
    pub step: u64,
    pub mean: Tensor,   // shape of the parameter, f32
    pub square: Tensor, // shape of the parameter, f32
}

/// The optimizer and its state. Not `Clone`: a step changes the moments in place.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::candle_core::Var;
/// let weight = Var::new(&[3f32], &Device::Cpu)?;
/// let parameters = [Parameter::new("w", &weight)];
/// let mut adamw = AdamW::new(AdamWConfig { learning_rate: 0.1, ..AdamWConfig::default() })?;
/// for _ in 0..100 {
///     let loss = weight.as_tensor().sqr()?.sum_all()?; // lowest at 0
///     adamw.step(&parameters, &Gradients::of(&loss, &parameters)?)?;
/// }
/// assert!(weight.to_vec1::<f32>()?[0].abs() < 0.5);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
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
        let weight_decay = self.config.weight_decay;
        self.step_by(parameters, gradients, &|_| Rates { rate, weight_decay })
    }

    /// One step in which each parameter has a learning rate and a weight decay of its own, such as `projector` and LoRA.
    ///
    /// # Errors
    /// As [`AdamW::step_with_rate`].
    pub fn step_by(
        &mut self,
        parameters: &[Parameter],
        gradients: &Gradients,
        rates: &dyn Fn(&Parameter) -> Rates,
    ) -> Result<()> {
        let AdamWConfig {
            beta1, beta2, eps, ..
        } = self.config;
        let mut waiting = Vec::new();
        for parameter in parameters {
            let Rates { rate, weight_decay } = rates(parameter);
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
            check_shape(parameter, &old.mean, &gradient)?;
            let moments = Moments {
                step: old.step + 1,
                ..old
            };
            let update = AdamWStep {
                beta1,
                beta2,
                eps,
                rate: rate / (1.0 - beta1.powf(moments.step as f64)),
                keep: 1.0 - rate * weight_decay,
                root: (1.0 - beta2.powf(moments.step as f64)).sqrt(),
            };
            if kernels::is_fast(var) {
                let both = (&moments.mean, &moments.square);
                ops::adamw(var.as_tensor(), &gradient, both, &update)?;
                self.moments.insert(parameter.name.clone(), moments);
                continue;
            }
            waiting.push(Waiting {
                name: parameter.name.clone(),
                var: var.clone(),
                gradient,
                moments,
                update,
            });
        }
        self.moments.extend(moved_together::move_all(waiting)?);
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
            let find = |part: &str| saved_part(state, name, part);
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
        Ok(Parameter::new("w", &var))
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

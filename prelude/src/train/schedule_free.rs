//! Schedule-free AdamW (Defazio et al. 2024, arXiv 2405.15682), with the numbers of the package `schedulefree` 1.4: no schedule
//! has to know how long the run is, an average of the steps takes its place.
//!
//! ```text
//! z   where plain AdamW steps would lead          y = x moved towards z: where gradients are taken, what trains
//! x   the weighted average of all z               what is measured, saved and used
//! ```
//! The model holds y in a step and x otherwise: [`ScheduleFree::train`] and [`ScheduleFree::rest`] change between them, exactly.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use super::adamw::{AdamWConfig, Rates, check_shape, saved_part};
use super::gradients::Gradients;
use crate::nn::Parameter;
use crate::{Error, Result};

/// What is remembered of one parameter.
#[derive(Clone)]
struct State {
    step: u64,
    /// The highest learning rate so far, and the sum of the steps' weights, its square each.
    highest: f64,
    weights: f64,
    z: Tensor,      // shape of the parameter, f32
    square: Tensor, // shape of the parameter, f32
    /// y, while the model holds x.
    y: Option<Tensor>,
}

/// The optimizer and its state.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::candle_core::Var;
/// let weight = Var::new(&[3f32], &Device::Cpu)?;
/// let parameters = [Parameter::new("w", &weight)];
/// let mut optimizer = ScheduleFree::new(AdamWConfig::default())?;
/// let rates = |_: &Parameter| Rates { rate: 0.1, weight_decay: 0.0 };
/// for _ in 0..100 {
///     let loss = weight.as_tensor().sqr()?.sum_all()?; // lowest at 0
///     optimizer.step_by(&parameters, &Gradients::of(&loss, &parameters)?, &rates)?;
/// }
/// optimizer.rest(&parameters)?; // the average, which is what is used
/// assert!(weight.to_vec1::<f32>()?[0].abs() < 1.0);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
pub struct ScheduleFree {
    config: AdamWConfig,
    states: BTreeMap<String, State>,
}

impl ScheduleFree {
    /// An optimizer that has seen nothing yet. `beta1` says how far y lies from z towards x.
    ///
    /// # Errors
    /// `Config` when a setting is out of its range; `beta1` must be above 0.
    pub fn new(config: AdamWConfig) -> Result<Self> {
        config.validate()?;
        if config.beta1 <= 0.0 {
            return Err(Error::Config(
                "schedule-free AdamW: beta1 is 0, it must be above 0 and below 1 (0.9 is usual)"
                    .into(),
            ));
        }
        Ok(Self {
            config,
            states: BTreeMap::new(),
        })
    }

    /// The settings.
    pub fn config(&self) -> AdamWConfig {
        self.config
    }

    /// Parameters that it has moved.
    pub fn tracked(&self) -> usize {
        self.states.len()
    }

    /// One step; the model must hold y, as after [`ScheduleFree::train`] or before the first step. A parameter without a gradient
    /// is left alone.
    ///
    /// # Errors
    /// When the remembered state has another shape than the parameter.
    pub fn step_by(
        &mut self,
        parameters: &[Parameter],
        gradients: &Gradients,
        rates: &dyn Fn(&Parameter) -> Rates,
    ) -> Result<()> {
        let AdamWConfig {
            beta1, beta2, eps, ..
        } = self.config;
        for parameter in parameters {
            let (Some(var), Some(gradient)) = (&parameter.var, gradients.get(&parameter.name))
            else {
                continue;
            };
            let Rates { rate, weight_decay } = rates(parameter);
            let gradient = gradient.to_dtype(DType::F32)?;
            let y = var.as_tensor().detach().to_dtype(DType::F32)?;
            let old = match self.states.get(&parameter.name) {
                Some(state) => state.clone(),
                None => State {
                    step: 0,
                    highest: 0.0,
                    weights: 0.0,
                    z: y.copy()?,
                    square: gradient.zeros_like()?,
                    y: None,
                },
            };
            check_shape(parameter, &old.z, &gradient)?;
            let step = old.step + 1;
            let highest = old.highest.max(rate);
            let weight = highest * highest;
            let weights = old.weights + weight;
            let share = if weights > 0.0 { weight / weights } else { 0.0 };
            let correction = 1.0 - beta2.powf(step as f64);
            let square = ((old.square * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
            let scale = ((&square / correction)?.sqrt()? + eps)?;
            let direction = ((gradient / scale)? + (&y * weight_decay)?)?;
            // y goes towards the z of before, then on with the step.
            let y = (&y + ((&old.z - &y)? * share)?)?;
            let y = (y + (&direction * (rate * (beta1 * (1.0 - share) - 1.0)))?)?;
            let z = (old.z - (direction * rate)?)?;
            var.set(&y.to_dtype(var.dtype())?)?;
            let state = State {
                step,
                highest,
                weights,
                z,
                square,
                y: None,
            };
            self.states.insert(parameter.name.clone(), state);
        }
        Ok(())
    }

    /// Has the model hold x, the average: for measuring, saving and using it. Nothing happens where it does already.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn rest(&mut self, parameters: &[Parameter]) -> Result<()> {
        for parameter in parameters {
            let (Some(var), Some(state)) = (&parameter.var, self.states.get_mut(&parameter.name))
            else {
                continue;
            };
            if state.y.is_some() {
                continue;
            }
            let y = var.as_tensor().detach().copy()?;
            let wide = y.to_dtype(DType::F32)?;
            let x = (&wide + ((&state.z - &wide)? * (1.0 - 1.0 / self.config.beta1))?)?;
            var.set(&x.to_dtype(var.dtype())?)?;
            state.y = Some(y);
        }
        Ok(())
    }

    /// Has the model hold y again, for the next steps, to the bit as it was.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn train(&mut self, parameters: &[Parameter]) -> Result<()> {
        for parameter in parameters {
            let (Some(var), Some(state)) = (&parameter.var, self.states.get_mut(&parameter.name))
            else {
                continue;
            };
            if let Some(y) = state.y.take() {
                var.set(&y)?;
            }
        }
        Ok(())
    }

    /// The state as named tensors for a checkpoint, of a model that holds x: `{parameter}.z`, `.exp_avg_sq`, `.y`, and `.step`,
    /// `.lr_max`, `.weight_sum` (f64 scalars).
    ///
    /// # Errors
    /// `Input` when the model holds y.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = BTreeMap::new();
        for (name, state) in &self.states {
            let y = state.y.as_ref().ok_or_else(|| {
                Error::Input(
                    "schedule-free AdamW is saved while it rests: call `rest` first".into(),
                )
            })?;
            tensors.insert(format!("{name}.z"), state.z.clone());
            tensors.insert(format!("{name}.exp_avg_sq"), state.square.clone());
            tensors.insert(format!("{name}.y"), y.clone());
            for (part, value) in [
                ("step", state.step as f64),
                ("lr_max", state.highest),
                ("weight_sum", state.weights),
            ] {
                tensors.insert(format!("{name}.{part}"), Tensor::new(value, &Device::Cpu)?);
            }
        }
        Ok(tensors)
    }

    /// Takes over a state that [`ScheduleFree::state`] made, for a model that holds x.
    ///
    /// # Errors
    /// When a tensor of a parameter is missing, naming it.
    pub fn load_state(&mut self, saved: &BTreeMap<String, Tensor>, device: &Device) -> Result<()> {
        let mut states = BTreeMap::new();
        for key in saved.keys() {
            let Some(name) = key.strip_suffix(".z") else {
                continue;
            };
            let find = |part: &str| saved_part(saved, name, part);
            let number =
                |part: &str| -> Result<f64> { Ok(find(part)?.to_dtype(DType::F64)?.to_scalar()?) };
            let state = State {
                step: number("step")? as u64,
                highest: number("lr_max")?,
                weights: number("weight_sum")?,
                z: find("z")?.to_device(device)?,
                square: find("exp_avg_sq")?.to_device(device)?,
                y: Some(find("y")?.to_device(device)?),
            };
            states.insert(name.to_string(), state);
        }
        self.states = states;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Var;

    /// `schedulefree.AdamWScheduleFree` 1.4.1 under torch, f32, on `sum(w³)`: lr 0.1, weight decay 0.5, four steps, the
    /// rate of the second one halved. y after each step, then x (`scripts/fixtures/schedule_free.py`).
    const START: [f32; 3] = [1.0, -3.0, 0.5];
    const RATES: [f64; 4] = [0.1, 0.05, 0.1, 0.1];
    const EXPECTED_Y: [[f32; 3]; 4] = [
        [0.85, -2.95, 0.375],
        [0.815535, -2.936472, 0.350775],
        [0.756942, -2.913352, 0.309833],
        [0.696893, -2.888568, 0.269503],
    ];
    const EXPECTED_X: [f32; 3] = [0.713125, -2.895224, 0.280469];

    fn parameter() -> Result<Parameter> {
        let var = Var::new(&START, &Device::Cpu)?;
        Ok(Parameter::new("w", &var))
    }

    fn step(optimizer: &mut ScheduleFree, parameters: &[Parameter], rate: f64) -> Result<()> {
        let w = &parameters[0].tensor;
        let loss = (w.sqr()? * w)?.sum_all()?;
        let gradients = Gradients::of(&loss, parameters)?;
        let rates = Rates {
            rate,
            weight_decay: 0.5,
        };
        optimizer.step_by(parameters, &gradients, &|_| rates)
    }

    #[test]
    fn steps_equal_those_of_the_reference_package() -> Result<()> {
        let parameters = [parameter()?];
        let mut optimizer = ScheduleFree::new(AdamWConfig::default())?;
        for (rate, expected) in RATES.into_iter().zip(EXPECTED_Y) {
            step(&mut optimizer, &parameters, rate)?;
            close(&parameters[0].tensor.to_vec1()?, &expected);
        }
        let y = parameters[0].tensor.to_vec1::<f32>()?;
        optimizer.rest(&parameters)?;
        close(&parameters[0].tensor.to_vec1()?, &EXPECTED_X);
        optimizer.rest(&parameters)?; // it does already
        optimizer.train(&parameters)?;
        assert_eq!(parameters[0].tensor.to_vec1::<f32>()?, y, "to the bit");
        Ok(())
    }

    #[test]
    fn a_restored_state_goes_on_as_if_never_stopped() -> Result<()> {
        let run = |stop: bool| -> Result<Vec<f32>> {
            let mut parameters = [parameter()?];
            let mut optimizer = ScheduleFree::new(AdamWConfig::default())?;
            for at in 0..6 {
                if stop && at == 3 {
                    assert!(optimizer.state().is_err(), "it does not rest");
                    optimizer.rest(&parameters)?;
                    let (x, state) = (parameters[0].tensor.copy()?, optimizer.state()?);
                    let var = Var::from_tensor(&x)?;
                    parameters[0].tensor = var.as_tensor().clone();
                    parameters[0].var = Some(var);
                    optimizer = ScheduleFree::new(AdamWConfig::default())?;
                    optimizer.load_state(&state, &Device::Cpu)?;
                    optimizer.train(&parameters)?;
                }
                step(&mut optimizer, &parameters, 0.1)?;
            }
            Ok(parameters[0].tensor.to_vec1()?)
        };
        assert_eq!(run(false)?, run(true)?);
        Ok(())
    }

    fn close(found: &[f32], expected: &[f32]) {
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 2e-6, "{found} is not {expected}");
        }
    }
}

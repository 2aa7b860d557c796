//! Gradients by parameter name: a loss → one detached gradient for each trainable parameter.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use super::part::TrainedPart;
use crate::Result;
use crate::nn::{Parameter, recompute};

/// The gradients of one backward pass. Nothing of the forward graph is kept alive.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::candle_core::Var;
/// let used = Var::new(&[3f32, 4.0], &Device::Cpu)?;
/// let unused = Var::new(&[1f32], &Device::Cpu)?;
/// let parameters = [Parameter::new("used", &used), Parameter::new("unused", &unused)];
/// let loss = (used.as_tensor().sqr()?.sum_all()? / 2.0)?; // its gradient is the value itself
/// let mut gradients = Gradients::of(&loss, &parameters)?;
/// assert_eq!(gradients.missing(&parameters), ["unused"]);
/// assert_eq!(gradients.clip(1.0)?, 5.0); // the length before
/// assert!((gradients.norm()? - 1.0).abs() < 1e-6);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Gradients {
    by_name: BTreeMap<String, Tensor>,
}

impl Gradients {
    /// Runs the backward pass of `loss` (a scalar) and keeps the gradients of the trainable `parameters`.
    ///
    /// # Errors
    /// When the backward pass fails.
    pub fn of(loss: &Tensor, parameters: &[Parameter]) -> Result<Self> {
        // Weights in layers that were computed again have theirs on the side.
        let (store, mut inside) = recompute::collecting(|| loss.backward());
        let mut store = store?;
        let mut by_name = BTreeMap::new();
        for parameter in parameters {
            let Some(var) = &parameter.var else { continue };
            let own = store.remove(var).map(|gradient| gradient.detach());
            let gradient = match (own, inside.remove(&var.id())) {
                (Some(own), Some(inside)) => Some((own + inside)?),
                (own, inside) => own.or(inside),
            };
            by_name.extend(gradient.map(|gradient| (parameter.name.clone(), gradient)));
        }
        Ok(Self { by_name })
    }

    /// Adds those of another part of the same step.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn add(&mut self, other: Self) -> Result<()> {
        for (name, gradient) in other.by_name {
            let sum = match self.by_name.get(&name) {
                Some(own) => (own + gradient)?,
                None => gradient,
            };
            self.by_name.insert(name, sum);
        }
        Ok(())
    }

    /// Puts in a gradient.
    pub(crate) fn insert(&mut self, name: &str, gradient: Tensor) {
        self.by_name.insert(name.to_owned(), gradient);
    }

    /// Names and gradients, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Tensor)> {
        self.by_name.iter()
    }

    /// The gradient of the parameter of this name, in the parameter's shape.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.by_name.get(name)
    }

    /// Names of the trainable parameters that got no gradient: the loss does not depend on them.
    pub fn missing(&self, parameters: &[Parameter]) -> Vec<String> {
        let trainable = parameters
            .iter()
            .filter(|parameter| parameter.var.is_some());
        trainable
            .map(|parameter| parameter.name.clone())
            .filter(|name| !self.by_name.contains_key(name))
            .collect()
    }

    /// Length of all gradients taken as one vector.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn norm(&self) -> Result<f64> {
        let mut total = 0.0;
        for gradient in self.by_name.values() {
            let squares = gradient.to_dtype(DType::F32)?.sqr()?.sum_all()?; // scalar
            total += f64::from(squares.to_scalar::<f32>()?);
        }
        Ok(total.sqrt())
    }

    /// Length of the gradients of each part of the model: `projector`, `llm_lora` and so on.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn norms(&self, parameters: &[Parameter]) -> Result<BTreeMap<String, f64>> {
        let mut squares: BTreeMap<String, f64> = BTreeMap::new();
        for parameter in parameters {
            let Some(gradient) = self.by_name.get(&parameter.name) else {
                continue;
            };
            let own = gradient.to_dtype(DType::F32)?.sqr()?.sum_all()?; // scalar
            let part = TrainedPart::of(parameter).name().to_owned();
            *squares.entry(part).or_default() += f64::from(own.to_scalar::<f32>()?);
        }
        let parts = squares.into_iter();
        Ok(parts.map(|(part, square)| (part, square.sqrt())).collect())
    }

    /// Scales all gradients so that [`Gradients::norm`] is at most `max_norm`; returns the norm before.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn clip(&mut self, max_norm: f64) -> Result<f64> {
        let norm = self.norm()?;
        if norm > max_norm {
            for gradient in self.by_name.values_mut() {
                *gradient = (&*gradient * (max_norm / (norm + 1e-6)))?;
            }
        }
        Ok(norm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn clipping_keeps_the_direction() -> Result<()> {
        let var = Var::new(&[3f32, 4.0], &Device::Cpu)?;
        let parameters = [Parameter::new("w", &var)];
        let loss = (parameters[0].tensor.sqr()?.sum_all()? * 0.5)?; // gradient = w, norm 5
        let mut gradients = Gradients::of(&loss, &parameters)?;
        assert!((gradients.clip(10.0)? - 5.0).abs() < 1e-6);
        assert!((gradients.clip(1.0)? - 5.0).abs() < 1e-6);
        let clipped = gradients
            .get("w")
            .map(|g| g.to_vec1::<f32>())
            .transpose()?
            .unwrap_or_default();
        assert!(
            (clipped[0] - 0.6).abs() < 1e-5 && (clipped[1] - 0.8).abs() < 1e-5,
            "{clipped:?}"
        );
        Ok(())
    }
}

//! Gradients by parameter name: a loss → one detached gradient for each trainable parameter.

use std::collections::BTreeMap;

use candle_core::{DType, Tensor};

use crate::Result;
use crate::nn::Parameter;

/// The gradients of one backward pass. Nothing of the forward graph is kept alive.
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
        let mut store = loss.backward()?;
        let mut by_name = BTreeMap::new();
        for parameter in parameters {
            if let Some(gradient) = parameter.var.as_ref().and_then(|var| store.remove(var)) {
                by_name.insert(parameter.name.clone(), gradient.detach());
            }
        }
        Ok(Self { by_name })
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
        let parameters = [Parameter {
            name: "w".into(),
            tensor: var.as_tensor().clone(),
            var: Some(var),
        }];
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

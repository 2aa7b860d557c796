//! The singular values of what LoRA adds to each layer, s·B·A: how many directions the fine-tuning really uses.

use candle_core::{DType, Device, Tensor};

use super::eigen::{self, Square};
use crate::display::{Cell, LinePlot, MimeBundle, Render, Table, number};
use crate::error::Result;
use crate::nn::{Lora, Network, Part};
use crate::session::check_interrupt;

/// Lines that the plot shows; the table has all layers.
const MAX_LINES: usize = 8;

/// The update of one layer.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let spectrum = LoraSpectrum::of(&vlm.llm)?;
/// assert_eq!(spectrum.layers()[0].norm(), 0.0); // B begins as zeros: nothing is changed yet
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq)]
pub struct LayerSpectrum {
    /// The layer's name.
    pub name: String,
    /// Singular values of ΔW = s·B·A, in falling order, as many as the rank.
    pub singular_values: Vec<f64>,
    /// Length of the frozen weight as one vector.
    pub weight_norm: f64,
}

impl LayerSpectrum {
    /// Length of ΔW as one vector.
    pub fn norm(&self) -> f64 {
        self.singular_values
            .iter()
            .map(|value| value * value)
            .sum::<f64>()
            .sqrt()
    }

    /// How many directions carry it: exp of the entropy of the squared singular values' shares. Between 1 and the rank,
    /// 0 if ΔW is zero.
    pub fn effective_rank(&self) -> f64 {
        let total = self.norm().powi(2);
        if total == 0.0 {
            return 0.0;
        }
        let shares = self
            .singular_values
            .iter()
            .map(|value| value * value / total)
            .filter(|share| *share > 0.0);
        shares.map(|share| -share * share.ln()).sum::<f64>().exp()
    }
}

/// The singular values of every LoRA update of a model.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let set = vec![Example::new(&Image::filled(64, 64, [200, 30, 40])?, "a red square")];
/// Trainer::new(TrainerSettings { steps: 1, batch_size: 1, ..TrainerSettings::tour() })?.fit(&vlm, &set, &set)?;
/// let spectrum = LoraSpectrum::of(&vlm.llm)?; // shows itself as plot and table
/// let layer = &spectrum.layers()[0];
/// assert!(layer.effective_rank() <= layer.singular_values.len() as f64 + 1e-9);
/// assert!(layer.norm() < layer.weight_norm); // the update is small beside the weight
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Default, PartialEq)]
pub struct LoraSpectrum {
    layers: Vec<LayerSpectrum>,
}

impl LoraSpectrum {
    /// Looks at every linear layer of `model` that carries LoRA.
    ///
    /// # Errors
    /// When a tensor cannot be read, and [`crate::Error::Interrupted`].
    pub fn of(model: &dyn Network) -> Result<Self> {
        let mut layers = Vec::new();
        let mut outcome = Ok(());
        model.visit(&mut |part| {
            if let Part::Linear(linear) = part
                && let Some(lora) = &linear.lora
                && outcome.is_ok()
            {
                outcome = check_interrupt().and_then(|()| {
                    layers.push(LayerSpectrum {
                        name: linear.name().to_owned(),
                        singular_values: singular_values(lora)?,
                        weight_norm: frobenius(&linear.weight.values()?)?,
                    });
                    Ok(())
                });
            }
        });
        outcome.map(|()| Self { layers })
    }

    /// The layers, in the order of the forward pass.
    pub fn layers(&self) -> &[LayerSpectrum] {
        &self.layers
    }
}

fn frobenius(tensor: &Tensor) -> Result<f64> {
    let tensor = tensor
        .detach()
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F32)?; // any shape
    Ok(f64::from(tensor.sqr()?.sum_all()?.to_scalar::<f32>()?).sqrt())
}

/// Singular values of s·B·A without forming the product: with BᵀB = VΛVᵀ they are the roots of the eigenvalues of
/// √Λ Vᵀ (A Aᵀ) V √Λ, an r × r matrix.
fn singular_values(lora: &Lora) -> Result<Vec<f64>> {
    let a = lora
        .a
        .tensor()
        .detach()
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F64)?; // [r, in]
    let b = lora
        .b
        .tensor()
        .detach()
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F64)?; // [out, r]
    let left = square(&b.t()?.contiguous()?.matmul(&b)?)?; // [r, r]
    let right = square(&a.matmul(&a.t()?.contiguous()?)?)?; // [r, r]
    let (values, vectors) = eigen::symmetric(&left);
    let mut root = vectors.transposed(); // rows are eigenvectors
    for (row, value) in values.iter().enumerate() {
        for column in 0..root.size {
            root.values[row * root.size + column] *= value.max(0.0).sqrt();
        }
    }
    let (squares, _) = eigen::symmetric(&root.product(&right).product(&root.transposed()));
    Ok(squares
        .into_iter()
        .map(|square| square.max(0.0).sqrt() * lora.scale.abs())
        .collect())
}

fn square(tensor: &Tensor) -> Result<Square> {
    let (size, _) = tensor.dims2()?;
    Ok(Square {
        size,
        values: tensor.flatten_all()?.to_vec1()?,
    })
}

impl Render for LayerSpectrum {
    fn render(&self) -> MimeBundle {
        Self::render_all(&[self])
    }

    fn render_all(layers: &[&Self]) -> MimeBundle {
        let layers = layers.iter().map(|layer| (*layer).clone()).collect();
        LoraSpectrum { layers }.render()
    }
}

impl Render for LoraSpectrum {
    fn render(&self) -> MimeBundle {
        let mut table = Table::new([
            "layer",
            "rank",
            "effective rank",
            "largest",
            "‖ΔW‖",
            "‖W‖",
            "‖ΔW‖ / ‖W‖",
        ])
        .title("what LoRA adds");
        for layer in &self.layers {
            let norm = layer.norm();
            table.push(vec![
                Cell::code(layer.name.clone()),
                layer.singular_values.len().into(),
                Cell::figure(format!("{:.1}", layer.effective_rank())),
                layer.singular_values.first().copied().unwrap_or(0.0).into(),
                norm.into(),
                layer.weight_norm.into(),
                Cell::figure(number::percent(norm / layer.weight_norm)),
            ]);
        }
        if self.layers.is_empty() {
            return MimeBundle::text("no layer carries LoRA")
                .with_html("<div>no layer carries LoRA</div>");
        }
        let mut order: Vec<&LayerSpectrum> = self.layers.iter().collect();
        order.sort_by(|left, right| right.norm().total_cmp(&left.norm()));
        let mut plot = LinePlot::new("singular values of ΔW")
            .axes("index", "singular value")
            .size(640, 300);
        for layer in order.into_iter().take(MAX_LINES) {
            let points = layer
                .singular_values
                .iter()
                .enumerate()
                .map(|(index, value)| (index as f64 + 1.0, *value));
            plot = plot.line(short(&layer.name), points.collect());
        }
        let table = table.render();
        let markup = format!(
            "{}{}",
            plot.render().html().unwrap_or_default(),
            table.html().unwrap_or_default()
        );
        MimeBundle::text(table.plain().to_owned()).with_html(markup)
    }
}

/// `encoder.layer.3.output.dense` → `3.output.dense`: enough to tell layers apart in a legend.
fn short(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    parts[parts.len().saturating_sub(3)..].join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Linear, LoraConfig, Weight};

    struct One(Linear);

    crate::parts!(One { 0 });

    #[test]
    fn singular_values_are_those_of_the_product() -> Result<()> {
        let weight = Tensor::ones((3, 4), DType::F32, &Device::Cpu)?;
        let mut model = One(Linear::new(
            "layer.0.proj",
            Weight::frozen("layer.0.proj.weight", weight),
            None,
        ));
        assert_eq!(
            LoraSpectrum::of(&model)?.render().plain(),
            "no layer carries LoRA"
        );
        model.add_lora(&LoraConfig::new(2, 4.0, &["proj"]), 3)?;
        assert_eq!(LoraSpectrum::of(&model)?.layers()[0].effective_rank(), 0.0);
        if let Some(lora) = &mut model.0.lora {
            // ΔW = 2·B·A has the singular values 2·3·1 and 2·1·0.5 on orthogonal directions.
            lora.a.set(&Tensor::new(
                &[[1f32, 0.0, 0.0, 0.0], [0.0, 0.5, 0.0, 0.0]],
                &Device::Cpu,
            )?)?;
            lora.b.set(&Tensor::new(
                &[[0f32, 1.0], [3.0, 0.0], [0.0, 0.0]],
                &Device::Cpu,
            )?)?;
        }
        let spectrum = LoraSpectrum::of(&model)?;
        let found = &spectrum.layers()[0];
        assert!(
            (found.singular_values[0] - 6.0).abs() < 1e-9
                && (found.singular_values[1] - 1.0).abs() < 1e-9
        );
        assert!((found.weight_norm - 12f64.sqrt()).abs() < 1e-6);
        assert!(found.effective_rank() > 1.0 && found.effective_rank() < 2.0);
        assert!(
            spectrum
                .render()
                .html()
                .is_some_and(|html| html.contains("layer.0.proj"))
        );
        Ok(())
    }
}

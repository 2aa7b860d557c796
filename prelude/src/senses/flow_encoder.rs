//! An encoder of fields of flow: a Vision Transformer whose pictures have two channels, the velocity to the right and up.
//!
//! ```text
//! [B, 2, S, S] ─ patches ─ Vision Transformer ─► [B, 1 + (S/p)², D]
//! ```

use candle_core::{DType, Device, Tensor};

use super::flow::FlowField;
use crate::display::MimeBundle;
use crate::display::heat::Scale;
use crate::vision::{Modality, Positions, Stages, ViTConfig, VisionFeature, Vit};
use crate::{Error, Result};

/// A [`Vit`] of two channels.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let encoder = FlowEncoder::new_random((32, 8), 16, 2, 1, &Device::Cpu)?;
/// let (vortex, _) = FlowField::generated(1, 0)?;
/// let input = vortex.tensor(32, &Device::Cpu)?; // [1, 2, 32, 32]
/// assert_eq!(encoder.encode(&input)?.dims(), [1, encoder.positions().count(), 16]);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct FlowEncoder {
    /// The transformer.
    pub vit: Vit,
}

crate::parts!(FlowEncoder { vit });

impl FlowEncoder {
    /// An encoder with freshly drawn weights, f32, frozen until something trains them: fields of `side` places in patches of `patch`.
    ///
    /// # Errors
    /// When the patches do not fill the side, or four heads do not share `dim`.
    pub fn new_random(
        (side, patch): (usize, usize),
        dim: usize,
        layers: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        let config = ViTConfig {
            num_channels: 2,
            initializer_range: (dim.max(1) as f64).powf(-0.5),
            ..ViTConfig::new(side, patch, dim, 2 * dim, layers, 4)
        };
        let vit =
            Vit::new_random(&config, seed, device)?.with_feature(VisionFeature::LastHiddenState)?;
        Ok(Self { vit })
    }

    fn seen(&self, input: &Tensor) -> Result<FlowField> {
        let side = self.vit.config.image_size;
        if input.dims() != [1, 2, side, side] {
            return Err(self.shape(input));
        }
        let values = input
            .to_device(&Device::Cpu)?
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        let (u, v) = values.split_at(side * side);
        FlowField::new(
            format!("a field of {side} × {side} places"),
            (side, side),
            u.to_vec(),
            v.to_vec(),
        )
    }

    fn shape(&self, input: &Tensor) -> Error {
        let side = self.vit.config.image_size;
        Error::Input(format!(
            "fields are [B, 2, {side}, {side}], got {:?}: `field.tensor({side}, &device)?` makes one",
            input.dims()
        ))
    }

    fn checked(&self, input: &Tensor) -> Result<()> {
        let side = self.vit.config.image_size;
        match *input.dims() {
            [batch, 2, rows, columns] if batch > 0 && rows == side && columns == side => {}
            _ => return Err(self.shape(input)),
        }
        let values = input
            .detach()
            .to_device(&Device::Cpu)?
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(()),
            Some(at) => Err(Error::NotANumber {
                what: "a field".into(),
                place: format!("row {}, column {}", at / side % side, at % side),
                value: f64::from(values[at]),
            }),
        }
    }
}

impl Modality for FlowEncoder {
    fn encode(&self, input: &Tensor) -> Result<Tensor> {
        self.checked(input)?;
        self.vit.encode(input)
    }

    fn dim(&self) -> usize {
        self.vit.dim()
    }

    fn positions(&self) -> Positions {
        self.vit.positions()
    }

    fn input_axes(&self) -> &'static [&'static str] {
        &["B", "uv", "H", "W"]
    }

    fn render_input(&self, input: &Tensor) -> Result<MimeBundle> {
        let field = self.seen(input)?;
        Ok(field.drawn(&field.name, &[]))
    }

    fn render_positions(&self, input: &Tensor, title: &str, values: &[f32]) -> Result<MimeBundle> {
        self.render_positions_on(input, title, values, Scale::of(values))
    }

    fn render_positions_on(
        &self,
        input: &Tensor,
        title: &str,
        values: &[f32],
        scale: Scale,
    ) -> Result<MimeBundle> {
        let positions = self.positions();
        if values.len() != positions.count() {
            return Err(Error::Input(format!(
                "{} values are given for {} positions",
                values.len(),
                positions.count()
            )));
        }
        Ok(self
            .seen(input)?
            .drawn_on(title, &values[positions.special..], scale))
    }

    fn feature(&self) -> Option<VisionFeature> {
        None // what is behind the last norm
    }

    fn stages(&self, input: &Tensor) -> Result<Stages> {
        self.checked(input)?;
        self.vit.stages(input)
    }

    fn attentions(&self, input: &Tensor) -> Result<Vec<Tensor>> {
        self.checked(input)?;
        self.vit.attentions(input)
    }
}

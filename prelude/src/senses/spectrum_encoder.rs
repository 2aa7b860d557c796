//! An encoder of spectra: each peak is a token, or each patch of a curve.
//!
//! ```text
//! peaks [B, 1, P, 2] ─ waves of the position, intensity ─ linear ┐
//! curve [B, N] ─ patches of w values ─ linear ─ + places ────────┴─► L × transformer layer ─ LayerNorm ─► [B, P, D]
//! ```

use candle_core::{D, DType, Device, Tensor};

use super::message_passing::{EPS, linear};
use super::spectrum::{Spectrum, SpectrumKind};
use crate::display::MimeBundle;
use crate::display::heat::Scale;
use crate::nn::{Activation, Checkpoint, Init, LayerNorm, Linear, Weight};
use crate::vision::layer::{LayerNames, LayerShape};
use crate::vision::{Modality, Positions, Stages, VitLayer};
use crate::{Error, Result};

/// Waves into which a position is written, of lengths 2 to 2,000.
const WAVES: usize = 16;

/// What a [`SpectrumEncoder`] reads.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let reads = SpectrumReads::Curve { values: 64, patch: 16 };
/// let encoder = SpectrumEncoder::new_random(reads, 16, 2, 1, &Device::Cpu)?;
/// let (curve, _) = Spectrum::generated(SpectrumKind::Infrared, 1, 0)?;
/// assert_eq!(encoder.encode(&curve.curve_tensor(64, &Device::Cpu)?)?.dims(), [1, 4, 16]); // 4 patches
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpectrumReads {
    /// Peaks, as [`Spectrum::peaks_tensor`] makes them; any number.
    Peaks,
    /// A curve of so many values, as [`Spectrum::curve_tensor`] makes it, in patches of `patch`.
    Curve {
        /// N.
        values: usize,
        /// w, which divides N.
        patch: usize,
    },
}

/// A small transformer over the peaks or patches of a spectrum.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let encoder = SpectrumEncoder::new_random(SpectrumReads::Peaks, 16, 2, 1, &Device::Cpu)?;
/// let (alcohol, _) = Spectrum::generated(SpectrumKind::Mass, 1, 0)?;
/// let input = alcohol.peaks_tensor(8, &Device::Cpu)?;
/// let peaks = alcohol.points().len().min(8);
/// assert_eq!(encoder.encode(&input)?.dims(), [1, peaks, 16]); // a vector for each peak
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct SpectrumEncoder {
    /// What it reads.
    pub reads: SpectrumReads,
    /// From a peak's or patch's values to D.
    pub embedding: Linear,
    /// What stands where in a curve, `[1, P, D]`; peaks say it themselves.
    pub places: Option<Weight>,
    /// The transformer layers.
    pub layers: Vec<VitLayer>,
    /// After the last.
    pub norm: LayerNorm,
}

crate::parts!(SpectrumEncoder {
    embedding,
    places,
    layers,
    norm
});

const NAMES: LayerNames = LayerNames {
    norms: ["layernorm_before", "layernorm_after"],
    attention: [
        "attention.query",
        "attention.key",
        "attention.value",
        "attention.output",
    ],
    mlp: ["intermediate", "output"],
    scales: None,
};

impl SpectrumEncoder {
    /// An encoder with freshly drawn weights, f32, frozen until something trains them: D = `dim`, four heads.
    ///
    /// # Errors
    /// For a `dim` that is no multiple of 4, and a patch that does not divide the curve.
    pub fn new_random(
        reads: SpectrumReads,
        dim: usize,
        layers: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        if dim == 0 || !dim.is_multiple_of(4) {
            return Err(Error::Config(format!(
                "dim is {dim}: four heads share it, give a multiple of 4"
            )));
        }
        let weights = Checkpoint::random(seed, DType::F32, device);
        let (input, places) = match reads {
            SpectrumReads::Peaks => (2 * WAVES + 2, None),
            SpectrumReads::Curve { values, patch } => {
                if patch == 0 || values == 0 || !values.is_multiple_of(patch) {
                    return Err(Error::Config(format!(
                        "patches of {patch} do not divide a curve of {values} values"
                    )));
                }
                (
                    patch,
                    Some(weights.weight("places", &[1, values / patch, dim], Init::Normal(0.5))?),
                )
            }
        };
        let shape = LayerShape {
            hidden: dim,
            intermediate: 2 * dim,
            heads: 4,
            eps: EPS,
            qkv_bias: true,
            activation: Activation::Gelu,
            init: Init::Normal((dim as f64).powf(-0.5)),
        };
        let layer = |at: usize| {
            VitLayer::read(&shape, &weights, &NAMES, |part| {
                let name = format!("layers.{at}.{part}");
                (name.clone(), name)
            })
        };
        Ok(Self {
            reads,
            embedding: linear(&weights, "embedding", (input, dim))?,
            places,
            layers: (0..layers).map(layer).collect::<Result<_>>()?,
            norm: LayerNorm::load(&weights, "norm", dim, EPS)?,
        })
    }

    /// P of an input.
    fn count(&self, input: &Tensor) -> Result<usize> {
        match (self.reads, input.dims()) {
            (SpectrumReads::Peaks, [_, 1, 0, 2]) => Err(Error::NoPeaks {
                spectrum: "an input".into(),
            }),
            (SpectrumReads::Peaks, [_, 1, peaks, 2]) => Ok(*peaks),
            (SpectrumReads::Curve { values, patch }, [_, found]) if *found == values => {
                Ok(values / patch)
            }
            (SpectrumReads::Peaks, other) => Err(Error::Input(format!(
                "peaks are [B, 1, P, 2], got {other:?}: `spectrum.peaks_tensor(most, &device)?` makes them"
            ))),
            (SpectrumReads::Curve { values, .. }, other) => Err(Error::Input(format!(
                "the curve is [B, {values}], got {other:?}: `spectrum.curve_tensor({values}, &device)?` makes it"
            ))),
        }
    }

    fn embed(&self, input: &Tensor) -> Result<Tensor> {
        let count = self.count(input)?;
        let batch = input.dims()[0];
        let input = input
            .to_device(self.embedding.weight.tensor().device())?
            .to_dtype(DType::F32)?;
        let values = input
            .detach()
            .to_device(&Device::Cpu)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let place = at % (values.len() / batch.max(1)).max(1);
            return Err(Error::NotANumber {
                what: "a spectrum".into(),
                place: format!("value {place} of the input"),
                value: f64::from(values[at]),
            });
        }
        match self.reads {
            SpectrumReads::Peaks => {
                let input = input.squeeze(1)?; // [B, P, 2]
                let (at, intensity) = (input.narrow(2, 0, 1)?, input.narrow(2, 1, 1)?); // [B, P, 1] each
                let lengths =
                    (0..WAVES).map(|wave| 2.0 * 1000f32.powf(wave as f32 / (WAVES - 1) as f32));
                let turns: Vec<f32> = lengths
                    .map(|length| std::f32::consts::TAU / length)
                    .collect();
                let angles =
                    at.broadcast_mul(&Tensor::from_vec(turns, (1, 1, WAVES), input.device())?)?; // [B, P, W]
                let whole = Tensor::cat(
                    &[&angles.sin()?, &angles.cos()?, &(at * 1e-3)?, &intensity],
                    D::Minus1,
                )?; // [B, P, 2·W + 2]
                self.embedding.forward(&whole) // [B, P, D]
            }
            SpectrumReads::Curve { patch, .. } => {
                let embedded = self
                    .embedding
                    .forward(&input.reshape((batch, count, patch))?)?; // [B, P, D]
                Ok(match &self.places {
                    Some(places) => embedded.broadcast_add(places.tensor())?, // [B, P, D]
                    None => embedded,
                })
            }
        }
    }

    fn run(
        &self,
        input: &Tensor,
        mut maps: Option<&mut Vec<Tensor>>,
    ) -> Result<(Vec<Tensor>, Tensor)> {
        let mut states = vec![self.embed(input)?]; // [B, P, D]
        for layer in &self.layers {
            states.push(layer.run(&states[states.len() - 1], maps.as_deref_mut())?); // [B, P, D]
        }
        let last = self.norm.forward(&states[states.len() - 1])?; // [B, P, D]
        Ok((states, last))
    }

    /// A curve's tensor holds no wavenumbers: what is left is the number of each value.
    fn axis(&self, spectrum: &Spectrum) -> &'static str {
        match self.reads {
            SpectrumReads::Peaks => spectrum.axis(),
            SpectrumReads::Curve { .. } => "number of the value, from the lowest wavenumber",
        }
    }

    /// An input as a spectrum, and what stretch of it each position stands for.
    fn seen(&self, input: &Tensor) -> Result<(Spectrum, Vec<(f64, f64)>)> {
        let count = self.count(input)?;
        if input.dims()[0] != 1 {
            return Err(Error::Input(format!(
                "one spectrum is looked at, got {}: take one with narrow(0, b, 1)",
                input.dims()[0]
            )));
        }
        let values = input
            .to_device(&Device::Cpu)?
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        match self.reads {
            SpectrumReads::Peaks => {
                let points: Vec<(f64, f64)> = values
                    .chunks_exact(2)
                    .map(|peak| (f64::from(peak[0]), f64::from(peak[1]).powi(2)))
                    .collect();
                let stretches = points.iter().map(|(at, _)| (*at, *at)).collect();
                Ok((
                    Spectrum::new(format!("{count} peaks"), SpectrumKind::Mass, points)?,
                    stretches,
                ))
            }
            SpectrumReads::Curve { patch, .. } => {
                let points = values
                    .iter()
                    .enumerate()
                    .map(|(at, value)| (at as f64, f64::from(*value)))
                    .collect();
                let stretches = (0..count)
                    .map(|at| ((at * patch) as f64, ((at + 1) * patch - 1) as f64))
                    .collect();
                Ok((
                    Spectrum::new(
                        format!("a curve of {} values", values.len()),
                        SpectrumKind::Infrared,
                        points,
                    )?,
                    stretches,
                ))
            }
        }
    }
}

impl Modality for SpectrumEncoder {
    fn encode(&self, input: &Tensor) -> Result<Tensor> {
        Ok(self.run(input, None)?.1)
    }

    fn dim(&self) -> usize {
        self.embedding.output()
    }

    fn positions(&self) -> Positions {
        match self.reads {
            SpectrumReads::Peaks => Positions::of_the_input(),
            SpectrumReads::Curve { values, patch } => Positions::sequence(values / patch),
        }
    }

    fn positions_of(&self, input: &Tensor) -> Result<Positions> {
        Ok(Positions::sequence(self.count(input)?))
    }

    fn position_names(&self, input: &Tensor) -> Result<Vec<String>> {
        let (_, stretches) = self.seen(input)?;
        Ok(stretches
            .iter()
            .map(|(start, end)| {
                if start == end {
                    format!("{start}")
                } else {
                    format!("{start}–{end}")
                }
            })
            .collect())
    }

    fn input_axes(&self) -> &'static [&'static str] {
        match self.reads {
            SpectrumReads::Peaks => &["B", "1", "P", "2"],
            SpectrumReads::Curve { .. } => &["B", "N"],
        }
    }

    fn render_input(&self, input: &Tensor) -> Result<MimeBundle> {
        let (spectrum, _) = self.seen(input)?;
        Ok(spectrum.drawn(
            &spectrum.name,
            self.axis(&spectrum),
            &[],
            &[],
            Scale::of(&[]),
        ))
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
        let (spectrum, stretches) = self.seen(input)?;
        match values.len() == stretches.len() {
            true => Ok(spectrum.drawn(title, self.axis(&spectrum), &stretches, values, scale)),
            false => Err(Error::Input(format!(
                "{} values are given for {} positions",
                values.len(),
                stretches.len()
            ))),
        }
    }

    fn stages(&self, input: &Tensor) -> Result<Stages> {
        let (states, features) = self.run(input, None)?;
        let named = states.into_iter().enumerate();
        Ok(Stages {
            named: named
                .map(|(at, state)| (format!("hidden_states[{at}]"), state))
                .collect(),
            features,
        })
    }

    fn attentions(&self, input: &Tensor) -> Result<Vec<Tensor>> {
        let mut maps = Vec::new();
        self.run(input, Some(&mut maps))?;
        Ok(maps)
    }
}

//! The projector: the image encoder's hidden states → vectors that the language model takes for tokens.
//!
//! `[B, P, D_image] → [B, P, D_text]`. [`ProjectorKind`] names the forms there are; [`perceiver`] is the one with layers of
//! its own.

pub mod perceiver;

use crate::display::facts::{debug_by_facts, shown_by_fields};
use crate::display::{Facts, MimeBundle, Render};
use crate::nn::{Checkpoint, Init, Linear, Network, Part, PartMut, gelu, show};
use crate::vision::Positions;
use crate::{Error, ReadOnly, Result};
use candle_core::{DType, Device, Tensor};
use perceiver::{Perceiver, PerceiverConfig};
use serde::{Deserialize, Serialize};

/// The form of a projector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProjectorKind {
    /// One linear layer, `fc1`.
    Linear,
    /// `fc1` → GELU → `fc2`: the blog's and LLaVA's.
    #[default]
    Mlp2xGelu,
    /// Each square of `factor` × `factor` patches side by side as one token, then one linear layer, `fc1`: fewer, wider
    /// tokens. A class token in front is left out.
    PixelShuffle {
        /// Side of the square; divides the side of the patch grid.
        factor: usize,
    },
    /// Flamingo's: learned queries ask the patches in several layers of attention, then one linear layer, `fc1`. However
    /// many patches there are, `latents` tokens come out.
    PerceiverResampler {
        /// How many tokens come out.
        latents: usize,
        /// Layers of attention.
        layers: usize,
        /// Heads of each attention.
        heads: usize,
        /// Values per head.
        head_dim: usize,
    },
}

impl ProjectorKind {
    /// A perceiver resampler of Flamingo's size: 6 layers, 8 heads of 64 values. Flamingo has 64 latents.
    pub fn perceiver_resampler(latents: usize) -> Self {
        Self::PerceiverResampler {
            latents,
            layers: 6,
            heads: 8,
            head_dim: 64,
        }
    }
}

/// Form and widths of a projector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectorConfig {
    /// Its form.
    pub kind: ProjectorKind,
    /// Width of the image encoder's hidden states.
    pub input: usize,
    /// Width of the language model's embeddings.
    pub output: usize,
}

/// Maps image features into the language model's embedding space. A clone trains on its own: see
/// [`Weight`](crate::nn::Weight).
pub struct Projector {
    /// Form and widths, from which the layers were made.
    pub config: ReadOnly<ProjectorConfig>,
    /// `[D_image → D_text]`; for [`ProjectorKind::PixelShuffle`] `[factor² · D_image → D_text]`.
    pub fc1: Linear,
    /// `[D_text → D_text]`, for [`ProjectorKind::Mlp2xGelu`].
    pub fc2: Option<Linear>,
    /// In front of `fc1`, for [`ProjectorKind::PerceiverResampler`].
    pub perceiver: Option<Perceiver>,
}

impl Clone for Projector {
    fn clone(&self) -> Self {
        Self {
            config: self.config.again(),
            fc1: self.fc1.clone(),
            fc2: self.fc2.clone(),
            perceiver: self.perceiver.clone(),
        }
    }
}

impl Projector {
    /// A trainable projector with freshly drawn weights (uniform in ±1/√in, as torch draws linear layers).
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn new(config: ProjectorConfig, seed: u64, device: &Device) -> Result<Self> {
        let mut projector =
            Self::from_checkpoint(config, &Checkpoint::random(seed, DType::F32, device))?;
        projector.set_trainable(true)?;
        Ok(projector)
    }

    /// A frozen projector from weights named `fc1.weight`, `fc1.bias`, `fc2.weight`, `fc2.bias`, `perceiver.…`.
    ///
    /// # Errors
    /// When a tensor is missing or of another shape.
    pub fn from_checkpoint(config: ProjectorConfig, weights: &Checkpoint) -> Result<Self> {
        let (input, output) = (config.input, config.output);
        let layer = |name: &str, input: usize| {
            let init = Init::Uniform(1.0 / (input as f64).sqrt());
            Linear::load_with(weights, name, (input, output), true, init)
        };
        let squares = match config.kind {
            ProjectorKind::PixelShuffle { factor: 0 } => {
                return Err(Error::Config(
                    "the pixel-shuffle factor must be at least 1".into(),
                ));
            }
            ProjectorKind::PixelShuffle { factor } => factor * factor,
            _ => 1,
        };
        Ok(Self {
            config: ReadOnly::new(config),
            fc1: layer("fc1", squares * input)?,
            fc2: match config.kind {
                ProjectorKind::Mlp2xGelu => Some(layer("fc2", output)?),
                _ => None,
            },
            perceiver: match config.kind {
                ProjectorKind::PerceiverResampler {
                    latents,
                    layers,
                    heads,
                    head_dim,
                } => {
                    let config = PerceiverConfig {
                        dim: input,
                        latents,
                        layers,
                        heads,
                        head_dim,
                    };
                    Some(Perceiver::from_checkpoint(config, weights)?)
                }
                _ => None,
            },
        })
    }

    /// How the image tokens lie that come of an encoder's positions; `None` if they belong to no place, as the latents of a
    /// perceiver resampler do.
    ///
    /// # Errors
    /// When the projector's form does not fit the positions.
    pub fn positions(&self, encoder: Positions) -> Result<Option<Positions>> {
        match self.config.kind {
            ProjectorKind::Linear | ProjectorKind::Mlp2xGelu => Ok(Some(encoder)),
            ProjectorKind::PerceiverResampler { .. } => Ok(None),
            ProjectorKind::PixelShuffle { factor } => {
                let Positions {
                    special,
                    rows,
                    columns,
                } = encoder;
                if special > 1 || rows != columns || factor == 0 || !rows.is_multiple_of(factor) {
                    return Err(Error::Config(format!(
                        "pixel shuffle puts squares of {factor} × {factor} patches together: the encoder's {rows} × \
                         {columns} positions (and {special} special ones) are no square grid that {factor} divides, \
                         use another projector"
                    )));
                }
                Ok(Some(Positions {
                    special: 0,
                    rows: rows / factor,
                    columns: columns / factor,
                }))
            }
        }
    }

    /// `[B, P, D_image] → [B, P, D_text]`; P becomes P / factor² for [`ProjectorKind::PixelShuffle`], and the number of
    /// latents for [`ProjectorKind::PerceiverResampler`].
    ///
    /// # Errors
    /// When the hidden states have another width.
    pub fn forward(&self, hidden_states: &Tensor) -> Result<Tensor> {
        let found = hidden_states.dim(candle_core::D::Minus1)?;
        if found != self.config.input {
            return Err(Error::Input(format!(
                "the projector takes hidden states of width {}, the image encoder gives {found}",
                self.config.input
            )));
        }
        let hidden_states = match (self.config.kind, &self.perceiver) {
            (ProjectorKind::PixelShuffle { factor }, _) => &pixel_shuffle(hidden_states, factor)?, // [B, P / f², f²·D_image]
            (_, Some(perceiver)) => &perceiver.forward(hidden_states)?, // [B, N, D_image]
            _ => hidden_states,
        };
        let hidden = self.fc1.forward(hidden_states)?; // [B, P, D_text]
        match &self.fc2 {
            None => Ok(hidden),
            Some(fc2) => fc2.forward(&gelu(&hidden)?), // [B, P, D_text]
        }
    }
}

/// Squares of patches side by side: `[B, (1 +) g·g, D] → [B, (g/f)·(g/f), f²·D]`.
fn pixel_shuffle(hidden_states: &Tensor, factor: usize) -> Result<Tensor> {
    let (batch, positions, width) = hidden_states.dims3()?;
    let side = positions.isqrt();
    // One position more than a square: a class token, whose place is in front.
    let class = usize::from(side * side != positions);
    let side = (positions - class.min(positions)).isqrt();
    if side * side + class != positions || !side.is_multiple_of(factor) {
        return Err(Error::Input(format!(
            "{positions} positions are no square grid (with or without a class token) whose side {factor} divides"
        )));
    }
    let cells = side / factor;
    Ok(hidden_states
        .narrow(1, class, side * side)? // [B, g·g, D]
        .contiguous()?
        .reshape(&[batch, cells, factor, cells, factor, width][..])?
        .permute([0, 1, 3, 2, 4, 5])? // [B, g/f, g/f, f, f, D]
        .reshape((batch, cells * cells, factor * factor * width))?)
}

impl Network for Projector {
    fn visit(&self, visitor: &mut dyn FnMut(Part<'_>)) {
        if let Some(perceiver) = &self.perceiver {
            perceiver.visit(visitor);
        }
        visitor(Part::Linear(&self.fc1));
        if let Some(fc2) = &self.fc2 {
            visitor(Part::Linear(fc2));
        }
    }

    fn visit_mut(&mut self, visitor: &mut dyn FnMut(PartMut<'_>) -> Result<()>) -> Result<()> {
        if let Some(perceiver) = &mut self.perceiver {
            perceiver.visit_mut(visitor)?;
        }
        visitor(PartMut::Linear(&mut self.fc1))?;
        self.fc2
            .as_mut()
            .map_or(Ok(()), |fc2| visitor(PartMut::Linear(fc2)))
    }
}

impl Projector {
    fn title(&self) -> String {
        let ProjectorConfig {
            kind,
            input,
            output,
        } = *self.config;
        format!("Projector {kind:?}, {input} → {output}")
    }

    fn facts(&self) -> Facts {
        Facts::new(self.title()).fact("parameters", show::parameters(&self.named_parameters()))
    }
}

impl Render for Projector {
    fn render(&self) -> MimeBundle {
        show::network(self.title(), &self.named_parameters()).render()
    }
}

debug_by_facts!(Projector);
shown_by_fields!(ProjectorKind, ProjectorConfig);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::{assert_close, random};
    use candle_core::Var;

    fn projector(kind: ProjectorKind) -> Result<Projector> {
        Projector::new(
            ProjectorConfig {
                kind,
                input: 4,
                output: 6,
            },
            1,
            &Device::Cpu,
        )
    }

    #[test]
    fn kinds_give_the_language_models_width() -> Result<()> {
        let hidden = Tensor::ones((2, 17, 4), DType::F32, &Device::Cpu)?;
        assert_eq!(
            projector(ProjectorKind::Linear)?.forward(&hidden)?.dims(),
            [2, 17, 6]
        );
        assert_eq!(
            projector(ProjectorKind::Mlp2xGelu)?
                .forward(&hidden)?
                .dims(),
            [2, 17, 6]
        );
        let shuffled = projector(ProjectorKind::PixelShuffle { factor: 2 })?;
        assert_eq!(shuffled.forward(&hidden)?.dims(), [2, 4, 6]);
        assert_eq!(
            shuffled.forward(&hidden.narrow(1, 0, 16)?)?.dims(),
            [2, 4, 6]
        );
        assert!(matches!(
            shuffled.forward(&hidden.narrow(1, 0, 15)?),
            Err(Error::Input(_))
        ));
        assert!(
            projector(ProjectorKind::PixelShuffle { factor: 3 })?
                .forward(&hidden)
                .is_err()
        );
        assert!(projector(ProjectorKind::PixelShuffle { factor: 0 }).is_err());
        assert!(
            projector(ProjectorKind::Linear)?
                .forward(&hidden.narrow(2, 0, 3)?)
                .is_err()
        );
        Ok(())
    }

    fn fixture() -> Result<Checkpoint> {
        let file = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/projectors/perceiver.safetensors"
        );
        Checkpoint::open(file, DType::F32, &Device::Cpu)
    }

    /// The resampler of the fixture, with other sizes than its image tokens' number.
    fn resampler(weights: &Checkpoint) -> Result<Projector> {
        let kind = ProjectorKind::PerceiverResampler {
            latents: 5,
            layers: 2,
            heads: 3,
            head_dim: 8,
        };
        let config = ProjectorConfig {
            kind,
            input: 12,
            output: 10,
        };
        Projector::from_checkpoint(config, weights)
    }

    #[test]
    fn the_perceiver_resampler_is_open_flamingos() -> Result<()> {
        let weights = fixture()?;
        let input = weights.get("input", &[2, 7, 12], Init::Zeros)?;
        let want = weights.get("output", &[2, 5, 10], Init::Zeros)?;
        assert_close(&resampler(&weights)?.forward(&input)?, &want, 2e-6);
        Ok(())
    }

    #[test]
    fn the_perceiver_resampler_does_not_mind_the_order_of_patches() -> Result<()> {
        let weights = fixture()?;
        let projector = resampler(&weights)?;
        let input = weights.get("input", &[2, 7, 12], Init::Zeros)?;
        let order = Tensor::new(&[3u32, 6, 0, 1, 5, 2, 4], &Device::Cpu)?;
        let shuffled = projector.forward(&input.index_select(&order, 1)?)?;
        assert_close(&shuffled, &projector.forward(&input)?, 1e-6);
        // Fewer patches do as well, and give as many tokens.
        let fewer = projector.forward(&input.narrow(1, 0, 3)?)?;
        assert_eq!(fewer.dims(), [2, 5, 10]);
        Ok(())
    }

    #[test]
    fn every_weight_of_the_perceiver_resampler_gets_its_gradient() -> Result<()> {
        let weights = fixture()?;
        let mut projector = resampler(&weights)?;
        projector.set_trainable(true)?;
        let input = Var::from_tensor(&weights.get("input", &[2, 7, 12], Init::Zeros)?)?;
        let r = random(&[2, 5, 10], 1.0, 4);
        let loss =
            |input: &Tensor| -> Result<Tensor> { Ok((projector.forward(input)? * &r)?.sum_all()?) };
        let grads = loss(input.as_tensor())?.backward()?;
        let mut vars: Vec<(String, Var)> = projector
            .named_parameters()
            .into_iter()
            .filter_map(|parameter| Some((parameter.name, parameter.var?)))
            .collect();
        assert_eq!(vars.len(), 1 + 2 * (6 + 5) + 2 + 2);
        vars.push(("input".into(), input.clone()));
        for (name, var) in vars {
            let gradient = grads
                .get(&var)
                .unwrap_or_else(|| panic!("{name} has no gradient"));
            let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
            let (start, step) = (var.as_tensor().copy()?, 1e-2f32);
            let values = start.flatten_all()?.to_vec1::<f32>()?;
            let at = values.len() / 2;
            let nudged = |by: f32| -> Result<f32> {
                let mut values = values.clone();
                values[at] += by;
                var.set(&Tensor::from_vec(values, start.dims(), &Device::Cpu)?)?;
                Ok(loss(input.as_tensor())?.to_scalar::<f32>()?)
            };
            let numeric = (nudged(step)? - nudged(-step)?) / (2.0 * step);
            var.set(&start)?;
            let found = gradient[at];
            assert!(
                (numeric - found).abs() < 2e-2 * (1.0 + found.abs()),
                "{name}: finite difference {numeric}, gradient {found}"
            );
        }
        Ok(())
    }

    #[test]
    fn a_perceiver_resampler_of_no_size_is_refused() -> Result<()> {
        for (latents, layers, heads, head_dim) in
            [(0, 1, 1, 1), (1, 0, 1, 1), (1, 1, 0, 1), (1, 1, 1, 0)]
        {
            let kind = ProjectorKind::PerceiverResampler {
                latents,
                layers,
                heads,
                head_dim,
            };
            assert!(matches!(projector(kind), Err(Error::Config(_))));
        }
        let shown = projector(ProjectorKind::perceiver_resampler(3))?.render();
        assert!(
            shown.plain().contains("perceiver.layers.5 "),
            "{}",
            shown.plain()
        );
        Ok(())
    }

    #[test]
    fn pixel_shuffle_puts_neighbours_together() -> Result<()> {
        // A class token, then a 4×4 grid of patches numbered row by row.
        let numbers: Vec<f32> = std::iter::once(-1.0)
            .chain((0..16).map(|i| i as f32))
            .collect();
        let hidden = Tensor::from_vec(numbers, (1, 17, 1), &Device::Cpu)?;
        let shuffled = pixel_shuffle(&hidden, 2)?.squeeze(0)?.to_vec2::<f32>()?;
        assert_eq!(shuffled[0], [0.0, 1.0, 4.0, 5.0]);
        assert_eq!(shuffled[3], [10.0, 11.0, 14.0, 15.0]);
        Ok(())
    }
}

//! The projector: the encoder's hidden states → vectors that the language model takes for tokens.
//!
//! ```text
//! hidden states [B, P, D_image] ─ Projection::project ─► [B, N, D_text]
//! ```
//! A form is one file (or one cell) that implements [`Projection`], as an encoder implements
//! [`Modality`](crate::vision::Modality); [`ProjectorKind`] names those that are here: [`linear`], [`mlp`], [`pixel_shuffle`],
//! [`average_pool`] and [`perceiver`]; [`anyres`] is a published model's.

pub mod anyres;
pub mod average_pool;
pub mod linear;
pub mod mlp;
pub mod perceiver;
pub mod pixel_shuffle;

pub use anyres::AnyresMlp;
pub use average_pool::AveragePool;
pub use linear::LinearProjector;
pub use mlp::Mlp2x;
pub use perceiver::Resampler;
pub use pixel_shuffle::PixelShuffle;

use crate::display::facts::{debug_by_facts, shown_by_fields};
use crate::display::{Facts, MimeBundle, Render};
use crate::nn::{Checkpoint, Init, Linear, Network, show};
use crate::vision::{Positions, Tiles};
use crate::{Error, ReadOnly, Result};
use candle_core::{D, DType, Device, Tensor};
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::fmt::Debug;

/// What leads from an encoder's hidden states into the language model: the `projector` of a [`Vlm`](crate::vlm::Vlm), behind a
/// [`Projector`].
///
/// A projector of your own is a `Clone` type (clones share what is frozen and copy what trains) that lists its weights as a
/// [`Network`] and implements this trait:
///
/// ```
/// use glassbox_prelude::prelude::*;
///
/// /// One linear layer, and what is too long is cut to length 1.
/// #[derive(Clone, Debug)]
/// struct OnTheSphere {
///     fc: Linear,
/// }
///
/// parts!(OnTheSphere { fc });
///
/// impl Projection for OnTheSphere {
///     fn project(&self, hidden_states: &Tensor) -> Result<Tensor> {
///         let hidden = self.fc.forward(hidden_states)?; // [B, P, D]
///         let length = hidden.sqr()?.sum_keepdim(2)?.sqrt()?.maximum(1.0)?; // [B, P, 1]
///         Ok(hidden.broadcast_div(&length)?)
///     }
///     fn input(&self) -> usize {
///         self.fc.input()
///     }
///     fn output(&self) -> usize {
///         self.fc.output()
///     }
/// }
///
/// # fn main() -> Result<()> {
/// let device = Device::Cpu;
/// let mut vlm = Vlm::tiny(&device)?;
/// let sizes = (vlm.image_encoder.dim(), vlm.llm.config.hidden_size);
/// let own = |seed| -> Result<OnTheSphere> {
///     Ok(OnTheSphere { fc: Linear::load(&Checkpoint::random(seed, DType::F32, &device), "fc", sizes, true)? })
/// };
/// vlm.set_projector(own(1)?)?; // it trains, as any projector does
/// let image = Image::filled(64, 64, [200, 30, 40])?;
/// let written = vlm.generate(&image)?.max_new_tokens(4).run()?;
///
/// let folder = std::env::temp_dir().join(format!("own-projector-{}", std::process::id()));
/// vlm.save(&folder)?;
/// let preset = Preset::fine_tune(&folder)?.projector(own(2)?); // its weights are read from the folder
/// let again = Vlm::from_pretrained(&preset, &device)?;
/// assert_eq!(again.generate(&image)?.max_new_tokens(4).run()?.ids, written.ids);
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok(()) }
/// ```
pub trait Projection: Network + CloneProjection + Any + Debug + Send + Sync {
    /// `[B, P, D_image] → [B, N, D_text]`.
    ///
    /// # Errors
    /// When the hidden states have another shape than it takes.
    fn project(&self, hidden_states: &Tensor) -> Result<Tensor>;

    /// D_image, the width of the hidden states that it takes.
    fn input(&self) -> usize;

    /// D_text, the width of the vectors that it gives.
    fn output(&self) -> usize;

    /// How the vectors lie that come of an encoder's positions; `None`, as long as nothing else is said, if they belong to no
    /// place.
    ///
    /// # Errors
    /// When the form does not fit the positions.
    fn positions(&self, encoder: Positions) -> Result<Option<Positions>> {
        let _ = encoder;
        Ok(None)
    }

    /// Puts what it made of the tiles of a picture, `[N, P, D_text]`, together as one sequence, `[T, D_text]`.
    ///
    /// # Errors
    /// For a form that knows no tiles, and when they do not fit.
    fn join(&self, tokens: &Tensor, tiles: &Tiles) -> Result<Tensor> {
        let _ = tokens;
        Err(Error::Input(format!(
            "a picture in {} tiles should become one sequence, and the projector {} does not put tiles together: implement \
             `Projection::join`, or leave out the model's tiling",
            tiles.count(),
            self.kind()
        )))
    }

    /// What it is called in messages and saved fine-tunes: the name of its type.
    fn kind(&self) -> String {
        let path = std::any::type_name::<Self>();
        let path = path.split('<').next().unwrap_or(path);
        path.rsplit("::").next().unwrap_or(path).to_string()
    }
}

/// How a projector behind a trait object is cloned: every `Clone` type has it.
#[diagnostic::on_unimplemented(
    message = "a projector must be `Clone`, and `{Self}` is not",
    note = "put `#[derive(Clone, Debug)]` above it: clones of weights and layers share what is frozen and copy what trains"
)]
#[doc(hidden)]
pub trait CloneProjection {
    /// A clone, as [`Weight`](crate::nn::Weight) is cloned.
    fn clone_projection(&self) -> Box<dyn Projection>;
}

impl<P: Projection + Clone> CloneProjection for P {
    fn clone_projection(&self) -> Box<dyn Projection> {
        Box::new(self.clone())
    }
}

/// The form of a projector.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let kind = ProjectorKind::PixelShuffle { factor: 5 };
/// let settings = VlmSettings { projector: kind, ..VlmSettings::tiny() };
/// let vlm = Vlm::from_pretrained(&Preset::tiny().settings(settings), &Device::Cpu)?;
/// let image = Image::filled(80, 80, [200, 30, 40])?;
/// assert_eq!(vlm.embed_images(&[image])?.dims(), [1, 1, 128]); // 5 × 5 patches in one token
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProjectorKind {
    /// One linear layer, `fc1`.
    Linear,
    /// `fc1` → GELU → `fc2`: the blog's and LLaVA's.
    #[default]
    Mlp2xGelu,
    /// Each square of `factor` × `factor` patches side by side as one token, then one linear layer, `fc1`: fewer, wider
    /// tokens, as in Idefics3 and SmolVLM. A class token in front is left out.
    PixelShuffle {
        /// Side of the square; divides the side of the patch grid.
        factor: usize,
    },
    /// As [`ProjectorKind::PixelShuffle`], then `norm` → `fc1` → GELU → `fc2`, as in InternVL.
    PixelShuffleMlp {
        /// Side of the square; divides the side of the patch grid.
        factor: usize,
    },
    /// The mean of each square of `factor` × `factor` patches as one token, then one linear layer, `fc1`. A class token in front
    /// is left out.
    AveragePool {
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
    /// One of your own, given with [`Vlm::set_projector`](crate::vlm::Vlm::set_projector) or
    /// [`Preset::projector`](crate::vlm::Preset::projector).
    Own,
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
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let config = vlm.projector.config;
/// assert_eq!((config.kind, config.input, config.output), (ProjectorKind::Mlp2xGelu, 96, 128));
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectorConfig {
    /// Its form.
    pub kind: ProjectorKind,
    /// Width of the image encoder's hidden states.
    pub input: usize,
    /// Width of the language model's embeddings.
    pub output: usize,
}

/// A [`Projection`] of whatever form: one of [`ProjectorKind`], or your own. A clone trains on its own: see
/// [`Weight`](crate::nn::Weight).
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let mlp = vlm.projector.mlp()?; // its own type, to take it apart
/// assert_eq!(mlp.fc2.output(), vlm.llm.config.hidden_size);
/// assert!(vlm.projector.get::<Resampler>().is_none());
/// # Ok(()) }
/// ```
pub struct Projector {
    /// Form and widths, from which the layers were made.
    pub config: ReadOnly<ProjectorConfig>,
    form: Box<dyn Projection>,
}

impl Clone for Projector {
    fn clone(&self) -> Self {
        Self {
            config: self.config.again(),
            form: self.form.clone_projection(),
        }
    }
}

impl<P: Projection> From<P> for Projector {
    fn from(own: P) -> Self {
        let (input, output) = (own.input(), own.output());
        Self {
            config: ReadOnly::new(ProjectorConfig {
                kind: ProjectorKind::Own,
                input,
                output,
            }),
            form: Box::new(own),
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

    /// A frozen projector from weights named `fc1.weight`, `fc1.bias`, `fc2.weight`, `fc2.bias`, `norm.…`, `perceiver.…`.
    ///
    /// # Errors
    /// When a tensor is missing or of another shape; for [`ProjectorKind::Own`], which only its owner can make.
    pub fn from_checkpoint(config: ProjectorConfig, weights: &Checkpoint) -> Result<Self> {
        let ProjectorConfig {
            kind,
            input,
            output,
        } = config;
        let form: Box<dyn Projection> = match kind {
            ProjectorKind::Linear => Box::new(LinearProjector::load(weights, input, output)?),
            ProjectorKind::Mlp2xGelu => Box::new(Mlp2x::load(weights, input, output)?),
            ProjectorKind::PixelShuffle { factor } => {
                Box::new(PixelShuffle::load(weights, factor, input, output)?)
            }
            ProjectorKind::PixelShuffleMlp { factor } => {
                Box::new(PixelShuffle::load_mlp(weights, factor, input, output)?)
            }
            ProjectorKind::AveragePool { factor } => {
                Box::new(AveragePool::load(weights, factor, input, output)?)
            }
            ProjectorKind::PerceiverResampler {
                latents,
                layers,
                heads,
                head_dim,
            } => {
                let config = perceiver::PerceiverConfig {
                    dim: input,
                    latents,
                    layers,
                    heads,
                    head_dim,
                };
                Box::new(Resampler::load(weights, config, output)?)
            }
            ProjectorKind::Own => {
                return Err(Error::Config(
                    "the projector is one of your own: give it with `vlm.set_projector(own)?`, or with \
                     `Preset::projector(own)` where a model is loaded"
                        .into(),
                ));
            }
        };
        Ok(Self {
            config: ReadOnly::new(config),
            form,
        })
    }

    /// The same form with other weights, which train.
    pub(crate) fn with_weights(&self, weights: &Checkpoint) -> Result<Self> {
        let mut fresh = match self.config.kind {
            ProjectorKind::Own => {
                let mut own = self.clone();
                own.visit_mut(&mut |part| crate::vlm::save::read_part(part, "", weights))?;
                own
            }
            _ => Self::from_checkpoint(*self.config, weights)?,
        };
        fresh.set_trainable(true)?;
        Ok(fresh)
    }

    /// The projector as its own type.
    pub fn get<P: Projection>(&self) -> Option<&P> {
        let any: &dyn Any = &*self.form;
        any.downcast_ref()
    }

    /// As [`Projector::get`], for changing it.
    pub fn get_mut<P: Projection>(&mut self) -> Option<&mut P> {
        let any: &mut dyn Any = &mut *self.form;
        any.downcast_mut()
    }

    /// The blog's projector that it is, with its two layers.
    ///
    /// # Errors
    /// For another form.
    pub fn mlp(&self) -> Result<&Mlp2x> {
        self.get().ok_or_else(|| {
            Error::Config(format!(
                "this projector is a {}, not the blog's fc1 → GELU → fc2: use `projector.get::<{0}>()` for its own type",
                self.kind()
            ))
        })
    }

    /// The name of its type.
    pub fn kind(&self) -> String {
        self.form.kind()
    }

    /// How the image tokens lie that come of an encoder's positions; `None` if they belong to no place, as the latents of a
    /// perceiver resampler do.
    ///
    /// # Errors
    /// When the projector's form does not fit the positions.
    pub fn positions(&self, encoder: Positions) -> Result<Option<Positions>> {
        self.form.positions(encoder)
    }

    /// What became of the tiles of one picture, `[N, P, D_text]`, as one sequence, `[T, D_text]`.
    ///
    /// # Errors
    /// For a form that knows no tiles, and when they do not fit.
    pub fn join(&self, tokens: &Tensor, tiles: &Tiles) -> Result<Tensor> {
        self.form.join(tokens, tiles)
    }

    /// `[B, P, D_image] → [B, N, D_text]`, N by the form.
    ///
    /// # Errors
    /// When the hidden states have another width.
    pub fn forward(&self, hidden_states: &Tensor) -> Result<Tensor> {
        let found = hidden_states.dim(D::Minus1)?;
        if found != self.config.input {
            return Err(Error::Input(format!(
                "the projector takes hidden states of width {}, the image encoder gives {found}",
                self.config.input
            )));
        }
        self.form.project(hidden_states)
    }
}

/// A linear layer with bias, drawn as torch draws it where the weights are random.
fn layer(weights: &Checkpoint, name: &str, input: usize, output: usize) -> Result<Linear> {
    let init = Init::Uniform(1.0 / (input as f64).sqrt());
    Linear::load_with(weights, name, (input, output), true, init)
}

/// How squares of `factor` × `factor` of an encoder's positions lie.
fn squares(encoder: Positions, factor: usize, what: &str) -> Result<Option<Positions>> {
    let Positions {
        special,
        rows,
        columns,
    } = encoder;
    if special > 1 || rows != columns || factor == 0 || !rows.is_multiple_of(factor) {
        return Err(Error::Config(format!(
            "{what} puts squares of {factor} × {factor} patches together: the encoder's {rows} × \
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

crate::parts!(Projector { form });

impl Projector {
    fn title(&self) -> String {
        let ProjectorConfig {
            kind,
            input,
            output,
        } = *self.config;
        match kind {
            ProjectorKind::Own => format!("Projector {}, {input} → {output}", self.kind()),
            kind => format!("Projector {kind:?}, {input} → {output}"),
        }
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
    use super::pixel_shuffle::pixel_shuffle;
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

    fn connector() -> Result<Checkpoint> {
        let file = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/projectors/idefics3.safetensors"
        );
        Checkpoint::open(file, DType::F32, &Device::Cpu)
    }

    #[test]
    fn pixel_shuffle_is_the_connector_of_idefics3_and_smolvlm() -> Result<()> {
        let weights = connector()?;
        for factor in [2, 3] {
            let at = weights.below(&format!("factor{factor}."));
            let input = at.get("input", &[2, 36, 8], Init::Zeros)?;
            let want = at.get("output", &[2, 36 / (factor * factor), 10], Init::Zeros)?;
            let shuffled = PixelShuffle {
                fc1: Linear::load(&at, "proj", (8 * factor * factor, 10), false)?,
                norm: None,
                fc2: None,
                factor,
                input: 8,
            };
            assert_close(&Projector::from(shuffled).forward(&input)?, &want, 2e-6);
        }
        Ok(())
    }

    #[test]
    fn every_form_fits_its_grid_trains_and_says_how_its_tokens_lie() -> Result<()> {
        let grid = Positions {
            special: 1,
            rows: 4,
            columns: 4,
        };
        let hidden = random(&[2, 17, 4], 1.0, 3);
        for (kind, tokens) in [
            (ProjectorKind::Linear, 17),
            (ProjectorKind::Mlp2xGelu, 17),
            (ProjectorKind::PixelShuffle { factor: 2 }, 4),
            (ProjectorKind::PixelShuffleMlp { factor: 2 }, 4),
            (ProjectorKind::AveragePool { factor: 2 }, 4),
            (ProjectorKind::perceiver_resampler(3), 3),
        ] {
            let projector = projector(kind)?;
            let out = projector.forward(&hidden)?;
            assert_eq!(out.dims(), [2, tokens, 6], "{kind:?}");
            let places = projector
                .positions(grid)?
                .map(|positions| positions.count());
            let lie = !matches!(kind, ProjectorKind::PerceiverResampler { .. });
            assert_eq!(places, lie.then_some(tokens), "{kind:?}");
            let grads = out.sqr()?.sum_all()?.backward()?;
            for parameter in projector.named_parameters() {
                assert!(
                    grads.get(&parameter.tensor).is_some(),
                    "{kind:?} {}",
                    parameter.name
                );
            }
        }
        for kind in [
            ProjectorKind::PixelShuffleMlp { factor: 3 },
            ProjectorKind::AveragePool { factor: 3 },
        ] {
            assert!(projector(kind)?.positions(grid).is_err());
            assert!(projector(kind)?.forward(&hidden).is_err());
        }
        assert!(projector(ProjectorKind::AveragePool { factor: 0 }).is_err());
        assert!(projector(ProjectorKind::Own).is_err());
        Ok(())
    }

    /// A projector of one's own with a switch, as one with dropout has.
    #[derive(Clone, Debug)]
    struct Switched {
        fc: Linear,
        switch: std::sync::Arc<Switch>,
    }

    #[derive(Debug, Default)]
    struct Switch {
        on: std::sync::atomic::AtomicBool,
        back: std::sync::atomic::AtomicUsize,
    }

    impl Network for Switched {
        fn visit(&self, visitor: &mut dyn FnMut(crate::nn::Part<'_>)) {
            self.fc.visit(visitor);
        }

        fn visit_mut(
            &mut self,
            visitor: &mut dyn FnMut(crate::nn::PartMut<'_>) -> Result<()>,
        ) -> Result<()> {
            self.fc.visit_mut(visitor)
        }

        fn set_training(&self, training: bool) {
            let on = &self.switch.on;
            on.store(training, std::sync::atomic::Ordering::Relaxed);
        }

        fn take_back_draws(&self) {
            let back = &self.switch.back;
            back.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    impl Projection for Switched {
        fn project(&self, hidden_states: &Tensor) -> Result<Tensor> {
            self.fc.forward(hidden_states) // [B, P, D_text]
        }

        fn input(&self) -> usize {
            self.fc.input()
        }

        fn output(&self) -> usize {
            self.fc.output()
        }
    }

    #[test]
    fn a_projector_of_ones_own_is_switched_with_the_model() -> Result<()> {
        use std::sync::atomic::Ordering::Relaxed;
        let mut vlm = crate::vlm::Vlm::tiny(&Device::Cpu)?;
        let sizes = (vlm.image_encoder.dim(), vlm.llm.config.hidden_size);
        let weights = Checkpoint::random(1, DType::F32, &Device::Cpu);
        let switch = std::sync::Arc::new(Switch::default());
        vlm.set_projector(Switched {
            fc: Linear::load(&weights, "fc", sizes, true)?,
            switch: switch.clone(),
        })?;
        vlm.set_training(true);
        assert!(switch.on.load(Relaxed));
        vlm.take_back_draws();
        assert_eq!(switch.back.load(Relaxed), 1);
        vlm.set_training(false);
        assert!(!switch.on.load(Relaxed));
        Ok(())
    }

    #[test]
    fn an_average_pool_is_the_mean_of_each_square() -> Result<()> {
        let numbers: Vec<f32> = (0..16).map(|i| i as f32).collect();
        let hidden = Tensor::from_vec(numbers, (1, 16, 1), &Device::Cpu)?;
        let pooled = average_pool::pooled(&hidden, 2)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        assert_eq!(pooled, [2.5, 4.5, 10.5, 12.5]);
        Ok(())
    }
}

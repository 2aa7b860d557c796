//! Encoders besides the model's `image_encoder`, each under a name of its own with the projector that leads into the language
//! model: for prompts that show several kinds of things. `saved_encoders` writes and reads what a fine-tune changed of them.

use super::encoder::{self, new_projector};
use super::image_tokens;
use super::prompt::{InputPiece, Prompt, Seen};
use super::{AdapterTraining, Vlm};
use crate::display::Facts;
use crate::display::facts::shown_by_facts;
use crate::edits::within;
use crate::nn::{LoraConfig, Network, dropout, show};
use crate::projector::{Projector, ProjectorKind};
use crate::vision::{Encoder, Image, ImageProcessor};
use crate::{Error, Result};
use candle_core::{DType, Tensor};

/// An encoder with a name, its image processor and its projector.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let device = Device::Cpu;
/// let mut vlm = Vlm::tiny(&device)?;
/// let second = Vit::new_random(&ViTConfig::new(32, 8, 16, 32, 2, 2), 1, &device)?;
/// vlm.add_encoder("close-up", second, ProjectorKind::Linear, 1)?;
/// let named: &NamedEncoder = vlm.other_encoder("close-up")?;
/// let pixel_values = named.prepare(&Image::filled(80, 80, [200, 30, 40])?)?;
/// assert_eq!(pixel_values.dims(), [1, 3, 32, 32]);
/// assert_eq!(named.projector.config.output, 128);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct NamedEncoder {
    /// By which prompts call it.
    pub name: String,
    /// What it takes → hidden states.
    pub encoder: Encoder,
    /// Picture → pixel values, for an encoder of pictures.
    pub image_processor: ImageProcessor,
    /// Hidden states → vectors of the language model's width.
    pub projector: Projector,
}

impl NamedEncoder {
    /// A picture as this encoder takes it: pixel values, `[1, 3, H, W]`.
    ///
    /// # Errors
    /// For an encoder that takes no pictures.
    pub fn prepare(&self, image: &Image) -> Result<Tensor> {
        self.image_processor.preprocess(image)
    }

    fn facts(&self) -> Facts {
        let count = |network: &dyn Network| show::parameters(&network.named_parameters());
        Facts::new(format!(
            "NamedEncoder {:?}: {}",
            self.name,
            self.encoder.kind()
        ))
        .fact("parameters of the encoder", count(&self.encoder))
        .fact("parameters of the projector", count(&self.projector))
        .hint("`prompt.input_for(name, &prepared)` shows it something")
    }
}

shown_by_facts!(NamedEncoder);

impl Vlm {
    /// Gives the model one more encoder, under a name by which prompts call it, with a fresh projector of its width drawn from
    /// `seed`. It is frozen unless `settings.train_encoder`; the projector trains. [`Vlm::save`] keeps what trains of both.
    /// [`Preset::other_encoder`](super::Preset::other_encoder) gives one by the name of a folder or repository.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let device = Device::Cpu;
    /// let mut vlm = Vlm::tiny(&device)?;
    /// let second = Vit::new_random(&ViTConfig::new(32, 8, 16, 32, 1, 2), 1, &device)?;
    /// vlm.add_encoder("close-up", second, ProjectorKind::Linear, 0)?;
    /// let image = Image::filled(64, 64, [200, 30, 40])?;
    /// let near = vlm.other_encoder("close-up")?.prepare(&Image::filled(32, 32, [9; 3])?)?;
    /// let prompt = Prompt::new().input(&image.prepare(&vlm)?).input_for("close-up", &near);
    /// let written = vlm.generate(&prompt)?.max_new_tokens(4).run()?;
    /// assert!(written.ids.len() <= 4);
    /// assert!(vlm.generate(&Prompt::new().input_for("sound", &near))?.run().is_err());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the name is taken or empty, or the projector's form does not fit the encoder's positions.
    pub fn add_encoder(
        &mut self,
        name: &str,
        encoder: impl Into<Encoder>,
        projector: ProjectorKind,
        seed: u64,
    ) -> Result<()> {
        let encoder = encoder.into();
        let processor = ImageProcessor::of_encoder(&*encoder)?;
        self.add_encoder_with(name, (encoder, processor), projector, seed)
    }

    /// As [`Vlm::add_encoder`], with the image processor that lies beside the encoder.
    pub(super) fn add_encoder_with(
        &mut self,
        name: &str,
        (mut encoder, processor): (Encoder, ImageProcessor),
        projector: ProjectorKind,
        seed: u64,
    ) -> Result<()> {
        let taken = self.encoder_names().iter().any(|known| known == name);
        // Parameters are named by it, and so is the folder of its adapter.
        let unfit = |c: char| ['.', '/', '\\'].contains(&c) || c.is_control();
        if taken || name.is_empty() || name.contains(unfit) {
            return Err(Error::Input(format!(
                "an encoder can't be called {name:?}: take a name without dots and slashes that is none of {}",
                self.encoder_names().join(", ")
            )));
        }
        encoder.set_base_trainable(self.settings.train_encoder)?;
        encoder.set_lora_trainable(self.settings.adapters == AdapterTraining::Trained)?;
        self.other_encoders.push(NamedEncoder {
            name: name.to_owned(),
            image_processor: processor.with_rescaling(self.image_processor.config().rescaling)?,
            projector: new_projector(&encoder, projector, &self.llm, seed)?,
            encoder,
        });
        Ok(())
    }

    /// Puts fresh LoRA, drawn from `seed`, on an encoder that [`Vlm::add_encoder`] gave the model, and says on how many layers. It
    /// trains if the model's other LoRA does (`settings.adapters`), and [`Vlm::save`] keeps it.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let device = Device::Cpu;
    /// let mut vlm = Vlm::tiny(&device)?;
    /// let second = Vit::new_random(&ViTConfig::new(32, 8, 16, 32, 1, 2), 1, &device)?;
    /// vlm.add_encoder("close-up", second, ProjectorKind::Linear, 0)?;
    /// vlm.add_encoder_lora("close-up", &LoraConfig::new(4, 8.0, &["query", "value"]), 0)?;
    /// vlm.set_trainable("other_encoders.close-up.encoder.embeddings", true)?; // and a part of its own weights
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::NoSuchEncoder`]; for LoRA that is there already, or that names none of its layers.
    pub fn add_encoder_lora(
        &mut self,
        name: &str,
        config: &LoraConfig,
        seed: u64,
    ) -> Result<usize> {
        let train = self.settings.adapters == AdapterTraining::Trained;
        let other = self.other_encoder_mut(name)?;
        let layers = other.encoder.add_lora(config, seed);
        let layers = layers.map_err(|error| match error {
            Error::Input(message) => {
                Error::Input(format!("LoRA on the encoder {name:?}: {message}"))
            }
            error => error,
        })?;
        other.encoder.set_lora_trainable(train)?;
        Ok(layers)
    }

    /// Puts a projector of your own behind an encoder that [`Vlm::add_encoder`] gave the model; it trains.
    ///
    /// # Errors
    /// [`Error::NoSuchEncoder`]; when it does not lead from that encoder's width to the language model's.
    pub fn set_projector_for(&mut self, name: &str, own: impl Into<Projector>) -> Result<()> {
        let mut own = encoder::fitting(own.into(), &self.other_encoder(name)?.encoder, &self.llm)?;
        own.set_trainable(true)?;
        self.other_encoder_mut(name)?.projector = own;
        Ok(())
    }

    /// An encoder that [`Vlm::add_encoder`] gave the model.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let mut vlm = Vlm::tiny(&Device::Cpu)?;
    /// let second = Vit::new_random(&ViTConfig::new(32, 8, 16, 32, 2, 2), 1, &Device::Cpu)?;
    /// vlm.add_encoder("close-up", second, ProjectorKind::Linear, 1)?;
    /// assert_eq!(vlm.other_encoder("close-up")?.encoder.dim(), 16);
    /// assert!(vlm.other_encoder("far away").is_err());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::NoSuchEncoder`], with the names of those that there are.
    pub fn other_encoder(&self, name: &str) -> Result<&NamedEncoder> {
        let found = self.other_encoders.iter().find(|other| other.name == name);
        found.ok_or_else(|| Error::NoSuchEncoder {
            encoder: name.to_owned(),
            encoders: self.encoder_names(),
        })
    }

    pub(super) fn other_encoder_mut(&mut self, name: &str) -> Result<&mut NamedEncoder> {
        let encoders = self.encoder_names();
        let mut others = self.other_encoders.iter_mut();
        let found = others.find(|other| other.name == name);
        found.ok_or_else(|| Error::NoSuchEncoder {
            encoder: name.to_owned(),
            encoders,
        })
    }

    /// What the encoders are called: `image_encoder`, then the others.
    pub fn encoder_names(&self) -> Vec<String> {
        let others = self.other_encoders.iter().map(|other| other.name.clone());
        std::iter::once("image_encoder".to_owned())
            .chain(others)
            .collect()
    }

    /// Stage 1 for a batch of prompts: each input becomes the vectors that stand for it. Inputs of one encoder and one shape
    /// pass it together, in the order in which they are read.
    ///
    /// # Errors
    /// [`Error::NoSuchEncoder`]; [`Error::InputCount`] for a place that nothing was put into; and as [`Vlm::image_tokens`].
    pub fn embed_inputs(&self, prompts: &[Prompt]) -> Result<Vec<Prompt>> {
        if prompts.is_empty() {
            return Err(Error::Input(
                "a batch of no pictures: give at least one".into(),
            ));
        }
        for prompt in prompts {
            let places = prompt.inputs().count();
            let inputs = prompt
                .inputs()
                .filter(|input| !matches!(input.seen, Seen::Nothing))
                .count();
            if inputs < places {
                return Err(Error::InputCount { places, inputs });
            }
        }
        for (_, input) in prompts
            .iter()
            .flat_map(Prompt::inputs)
            .filter_map(InputPiece::prepared)
        {
            if input.dims().first() != Some(&1) {
                return Err(Error::Input(format!(
                    "a piece of a prompt is one input, [1, ..], got {:?}: give each input a piece of its own",
                    input.dims()
                )));
            }
        }
        let mut prompts = prompts.to_vec();
        let count = prompts.len();
        // Of each input its prompt and its number there, by which dropout draws for it.
        let mut waiting: Vec<((usize, usize), &mut InputPiece)> = Vec::new();
        for (b, prompt) in prompts.iter_mut().enumerate() {
            let inputs = prompt.inputs_mut().enumerate();
            waiting.extend(inputs.map(|(k, input)| ((b, k), input)));
        }
        let own = |inputs: &[(usize, usize)]| {
            dropout::rows(count, |seeds| {
                let key = |&(b, k): &(usize, usize)| dropout::key(!seeds[b], k);
                inputs.iter().map(key).collect()
            })
        };
        for (at, input) in &mut waiting {
            if let Seen::Tiled(tiles) = &input.seen {
                let _rows = own(&[*at]);
                input.seen = Seen::Embedded(self.joined_tiles(tiles)?); // [1, T, D]
            }
        }
        while let Some(kind) = waiting.iter().find_map(|(_, input)| input.prepared()) {
            let (encoder, shape) = (kind.0.map(ToOwned::to_owned), kind.1.dims().to_vec());
            let alike = |input: &InputPiece| {
                let prepared = input.prepared();
                prepared.is_some_and(|(name, tensor)| {
                    name == encoder.as_deref() && tensor.dims() == shape
                })
            };
            let together: Vec<((usize, usize), Tensor)> = waiting
                .iter()
                .filter(|(_, input)| alike(input))
                .filter_map(|(at, input)| Some((*at, input.prepared()?.1.clone())))
                .collect();
            let (whose, together): (Vec<_>, Vec<Tensor>) = together.into_iter().unzip();
            let _rows = own(&whose);
            let tokens = self.tokens_of(encoder.as_deref(), &Tensor::cat(&together, 0)?)?; // [N, P, D]
            let places = waiting.iter_mut().filter(|(_, input)| alike(input));
            for (at, (_, input)) in places.enumerate() {
                input.seen = Seen::Embedded(tokens.narrow(0, at, 1)?); // [1, P, D]
            }
        }
        Ok(prompts)
    }

    /// `[N, ..]` for an encoder → `[N, P, D]`.
    fn tokens_of(&self, encoder: Option<&str>, inputs: &Tensor) -> Result<Tensor> {
        let Some(name) = encoder else {
            return self.image_tokens(inputs);
        };
        let other = &self.other_encoder(name)?.encoder;
        let axes = other.input_axes().len();
        let hidden = match inputs.rank() {
            rank if rank != axes && rank == 3 => inputs.clone(),
            _ => image_tokens::encoded(other, encoder, inputs)?,
        }; // [N, P, D of the encoder]
        self.project_for(encoder, &hidden)
    }

    /// Hidden states of an encoder, `[N, P, D of the encoder]` → `[N, P, D]`, through its own projector.
    pub(crate) fn project_for(&self, encoder: Option<&str>, hidden: &Tensor) -> Result<Tensor> {
        let Some(name) = encoder else {
            return self.project(hidden);
        };
        let hidden = hidden.to_device(self.device())?.to_dtype(DType::F32)?;
        let _at = within(|| format!("other_encoders.{name}"));
        image_tokens::projected(&self.other_encoder(name)?.projector, hidden) // [N, P, D]
    }
}

impl InputPiece {
    /// The encoder that it waits for, and what that will read.
    fn prepared(&self) -> Option<(Option<&str>, &Tensor)> {
        match &self.seen {
            Seen::Prepared(input) => Some((self.encoder.as_deref(), input)),
            Seen::Nothing | Seen::Tiled(_) | Seen::Embedded(_) => None,
        }
    }

    /// The vectors that stand for it, `[1, P, D]`.
    pub(super) fn embedded(&self) -> Result<Tensor> {
        match &self.seen {
            Seen::Embedded(tokens) => match tokens.dims() {
                [1, _, _] => Ok(tokens.clone()),
                other => Err(Error::Input(format!(
                    "image tokens of one input have the shape [1, P, D], got {other:?}: take one of the batch, such as \
                     x.narrow(0, b, 1)?"
                ))),
            },
            Seen::Nothing | Seen::Prepared(_) | Seen::Tiled(_) => Err(Error::Input(
                "an input has not been through its encoder: use Vlm::embed_inputs".into(),
            )),
        }
    }
}

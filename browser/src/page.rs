//! One question about a picture: what stands in the sequence, what comes next, and where the model looks for it.

use glassbox_prelude::candle_core::safetensors::load_buffer;
use glassbox_prelude::image::RgbImage;
use glassbox_prelude::inspect::input_places;
use glassbox_prelude::prelude::*;
use serde::{Deserialize, Serialize};

/// What the tour's training made: projector, prompt vectors and LoRA of both halves, by name, in half precision.
/// `cargo run --release -p glassbox-browser --example train` makes it anew.
pub const TRAINED: &[u8] = include_bytes!("../trained.safetensors");
/// Pixels of a side: what the tour draws.
const SIZE: u32 = 128;
/// Candidates in the table.
const SHOWN: usize = 8;

/// What the page asks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Question {
    /// The tokens written so far.
    pub written: Vec<u32>,
    /// Patches that the model does not see, by number, row by row: they are grey.
    pub covered: Vec<usize>,
    /// A head of the language model that puts out zeros: layer and head.
    pub zeroed: Option<(usize, usize)>,
    /// Before training instead of after it.
    pub untrained: bool,
}

/// A token that may come next.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// Its number.
    pub id: u32,
    /// Its text, a blank before it as `▁`.
    pub text: String,
    /// 0 to 1.
    pub probability: f64,
    /// Whether the caption ends with it.
    pub ends: bool,
}

/// What the model answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// The text written so far.
    pub text: String,
    /// The sequence as the notebooks show it, HTML.
    pub strip: String,
    /// The most probable tokens, best first.
    pub top: Vec<Candidate>,
    /// How much the place from which the next token is predicted takes in of each image token: `[layers][heads][1 + patches]`, the class
    /// token first; what is missing to 1 goes to the words.
    pub attention: Vec<Vec<Vec<f32>>>,
    /// How many tokens the sequence has.
    pub tokens: usize,
}

/// The model before and after training, and the scenes it is asked about.
pub struct Page {
    untrained: Vlm,
    trained: Vlm,
    shapes: Shapes,
    /// Patches of a row.
    across: usize,
}

impl Page {
    /// Puts both models together.
    ///
    /// # Errors
    /// When the trained values are not those of the tiny model.
    pub fn new() -> Result<Page> {
        let device = Device::Cpu;
        let (untrained, trained) = (Vlm::tiny(&device)?, Vlm::tiny(&device)?);
        let mut values = load_buffer(TRAINED, &device)?;
        for parameter in trained.trainable_parameters() {
            let name = parameter.name.as_str();
            let (Some(var), Some(found)) = (&parameter.var, values.remove(name)) else {
                return Err(Error::Input(format!("the trained values have no {name}")));
            };
            var.set(&found.to_dtype(DType::F32)?)?;
        }
        if let Some(name) = values.keys().next() {
            return Err(Error::Input(format!(
                "the trained values have {name}, and the model has not"
            )));
        }
        trained.set_training(false);
        untrained.set_training(false);
        let shapes = Shapes::new(ShapesConfig {
            image_size: SIZE,
            ..ShapesConfig::default()
        })?;
        let blank = trained
            .image_processor
            .preprocess(&Image::filled(SIZE, SIZE, [255; 3])?)?; // [1, 3, H, W]
        let patches = trained.image_tokens(&blank)?.dim(1)? - 1; // without the class token
        Ok(Page {
            untrained,
            trained,
            shapes,
            across: patches.isqrt(),
        })
    }

    /// The trained model.
    pub fn trained(&self) -> &Vlm {
        &self.trained
    }

    /// Patches of a row.
    pub fn across(&self) -> usize {
        self.across
    }

    /// Width and height of a picture in pixels.
    pub fn size(&self) -> u32 {
        SIZE
    }

    /// The held-out scene with this number: RGBA, row by row.
    ///
    /// # Errors
    /// None for the config that is used here.
    pub fn scene(&self, number: u64) -> Result<Vec<u8>> {
        let picture = self.shapes.draw(&self.shapes.scene(Split::Val, number))?;
        let pixels = picture.rgb().pixels();
        Ok(pixels
            .flat_map(|pixel| [pixel[0], pixel[1], pixel[2], 255])
            .collect())
    }

    /// The right captions of the held-out scene with this number.
    pub fn captions(&self, number: u64) -> Vec<String> {
        self.shapes.captions(Split::Val, number)
    }

    /// One forward pass: what comes behind the words so far.
    ///
    /// # Errors
    /// For a picture of another size, patches and heads that there are not, and words beyond the context.
    pub fn step(&self, rgba: &[u8], question: &Question) -> Result<Step> {
        let vlm = if question.untrained {
            &self.untrained
        } else {
            &self.trained
        };
        let pixels = self.pixel_values(vlm, rgba, &question.covered)?; // [1, 3, H, W]
        let edits = match question.zeroed {
            None => Edits::new(),
            Some((layer, head)) => Edits::new().zero(Site::heads("llm", layer).head(head)),
        };
        edits.run(|| step(vlm, &pixels, &question.written))
    }

    /// The picture as the encoder gets it, patches greyed out.
    fn pixel_values(&self, vlm: &Vlm, rgba: &[u8], covered: &[usize]) -> Result<Tensor> {
        let rgb: Vec<u8> = rgba
            .chunks_exact(4)
            .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
            .collect();
        let picture = RgbImage::from_raw(SIZE, SIZE, rgb)
            .filter(|_| rgba.len() == (SIZE * SIZE * 4) as usize);
        let picture = picture.ok_or_else(|| {
            Error::Input(format!(
                "a picture has {SIZE} × {SIZE} pixels of four bytes, these are {} bytes",
                rgba.len()
            ))
        })?;
        let values = vlm.image_processor.preprocess(&Image::from_rgb(picture)?)?; // [1, 3, H, W]
        let (_, channels, height, width) = values.dims4()?;
        let (across, patch) = (self.across, width / self.across);
        let mut numbers = values.flatten_all()?.to_vec1::<f32>()?;
        for &number in covered {
            if number >= across * across {
                return Err(Error::Input(format!(
                    "there is no patch {number}: they are 0 to {}",
                    across * across - 1
                )));
            }
            let (top, left) = (number / across * patch, number % across * patch);
            for channel in 0..channels {
                for y in top..top + patch {
                    let row = (channel * height + y) * width + left;
                    numbers[row..row + patch].fill(0.0); // grey, since the values are centred
                }
            }
        }
        Ok(Tensor::from_vec(numbers, values.shape(), values.device())?)
    }
}

fn step(vlm: &Vlm, pixels: &Tensor, written: &[u32]) -> Result<Step> {
    let prompts = pixels.prompts(vlm)?.into_iter().take(1);
    let prompts: Vec<Prompt> = prompts.map(|prompt| prompt.prefix(written)).collect();
    let sequence = vlm.sequence(&prompts)?;
    let input = sequence.input().with_attentions();
    let output = vlm
        .llm
        .forward(&input.logits_at(LogitsAt::Chosen(sequence.last_places())))?;
    let table = NextTokenTable::from_logits(output.logits()?, SHOWN, None, &|id| {
        vlm.llm_processor.token(id)
    })?;
    let ends = vlm.llm_processor.eos_ids();
    let top = table.top().iter().map(|next| Candidate {
        id: next.id,
        text: next.text.clone(),
        probability: next.probability,
        ends: ends.contains(&next.id),
    });
    let places = input_places(&sequence);
    let Some(image) = places.first() else {
        return Err(Error::Input("the sequence has no image tokens".into()));
    };
    let mut attention = Vec::new();
    for layer in &output.attentions {
        let last = layer.dim(2)? - 1;
        let of_last = layer.i((0, .., last, image.clone()))?; // [heads, 1 + patches]
        attention.push(of_last.to_vec2::<f32>()?);
    }
    Ok(Step {
        text: vlm.llm_processor.decode(written)?,
        strip: sequence
            .strip(0)?
            .render()
            .get("text/html")
            .unwrap_or_default()
            .to_owned(),
        top: top.collect(),
        attention,
        tokens: sequence.lengths[0],
    })
}

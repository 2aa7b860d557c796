//! Steering: a direction in a model's activations, the difference of two means, added while it writes.
//!
//! ```text
//! mean of hidden states with something − mean without ─► direction [D] ─ × strength, added at a layer ─► another text
//! ```
//! After Turner et al., 2023, and Rimsky et al., 2024.

use crate::display::facts::debug_by_first_line;
use crate::display::{Cell, MimeBundle, Progress, Render, Table, number};
use crate::edits::{Activations, Edits, Site};
use crate::error::{Error, Result};
use crate::language::LogitsAt;
use crate::vlm::{Generate, Prompt, Vlm};
use candle_core::{DType, Tensor};

/// A direction, and where it belongs.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let with = Tensor::new(&[[[3f32, 4.0]]], &Device::Cpu)?; // [B 1, T 1, D 2]
/// let pass = |x: Tensor| Activations::read(&["x"], || activation("x", x)).map(|(_, read)| read);
/// let direction = Direction::of_means("x", &pass(with.clone())?, &pass(with.zeros_like()?)?)?;
/// assert_eq!(direction.length()?, 5.0);
/// let steered = direction.edits(2.0)?.run(|| activation("x", with.zeros_like()?))?;
/// assert_eq!(steered.flatten_all()?.to_vec1::<f32>()?, [6.0, 8.0]);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone)]
pub struct Direction {
    /// The activation that it is added to.
    pub name: String,
    /// `[D]`, f32.
    pub vector: Tensor,
}

impl Direction {
    /// The mean of an activation in some runs, less its mean in others.
    ///
    /// # Errors
    /// For an activation that one of them lacks, or of another width.
    pub fn of_means(name: &str, with: &Activations, without: &Activations) -> Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            vector: (with.mean(name)? - without.mean(name)?)?, // [D]
        })
    }

    /// Its length.
    ///
    /// # Errors
    /// When the values can't be read.
    pub fn length(&self) -> Result<f64> {
        let squares = self.vector.to_dtype(DType::F64)?.sqr()?.sum_all()?;
        Ok(squares.to_scalar::<f64>()?.sqrt())
    }

    /// Adds it `strength` times at every token; below 0 it is taken away.
    ///
    /// # Errors
    /// When the product can't be made.
    pub fn edits(&self, strength: f64) -> Result<Edits> {
        let step = (&self.vector * strength)?; // [D]
        Ok(match strength == 0.0 {
            true => Edits::new(),
            false => Edits::new().add(Site::new(&self.name), &step),
        })
    }
}

impl Render for Direction {
    fn render(&self) -> MimeBundle {
        let length = self
            .length()
            .map_or_else(|error| error.to_string(), number::float);
        let width = self.vector.elem_count();
        MimeBundle::text(format!(
            "a direction of {width} values in {}, length {length}",
            self.name
        ))
    }
}

/// The mean of what enters layer `layer` of the language model at the last token of the prompts in `with`, less the mean over those in
/// `without`. Let the prompts end where the word is about to be said: a caption's prompt ends with the end of the sequence.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let a = vlm.llm_processor.encode_plain("a")?; // behind it the colour is said
/// let prompt = |color| -> Result<Prompt> {
///     Ok(vlm.caption_prompt(&Image::filled(64, 64, color)?, "a")?.without_answer().prefix(&a))
/// };
/// let bluer = steering_direction(&vlm, 2, &[prompt([30, 80, 220])?], &[prompt([200, 30, 40])?])?;
/// let red = vlm.generate(&Image::filled(64, 64, [200, 30, 40])?)?.max_new_tokens(6);
/// let texts = steer(&red, &bluer, &[0.0, 1.0, 4.0])?; // shows what is written at each strength
/// # assert_eq!(texts.texts().len(), 3);
/// # Ok(()) }
/// ```
///
/// # Errors
/// For no prompts on one side, and as [`Vlm::sequence`].
pub fn steering_direction(
    vlm: &Vlm,
    layer: usize,
    with: &[Prompt],
    without: &[Prompt],
) -> Result<Direction> {
    let site = Site::hidden_states("llm", layer);
    let name = site.name().to_owned();
    let mean = |prompts: &[Prompt]| -> Result<Tensor> {
        if prompts.is_empty() {
            return Err(Error::Input(
                "a direction is the difference of two means: give at least one prompt for each"
                    .into(),
            ));
        }
        let mut last = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            let sequence = vlm.sequence(std::slice::from_ref(prompt))?; // [1, T, D]
            let input = sequence.input().logits_at(LogitsAt::Nowhere);
            let (_, seen) = Activations::read(&[&name], || vlm.llm.forward(&input))?;
            let token = sequence.lengths[0] - 1;
            last.push(seen.at(site.clone().token(token))?.flatten_all()?); // [D]
        }
        let last = Tensor::stack(&last, 0)?.to_dtype(DType::F32)?; // [N, D]
        Ok(last.mean(0)?) // [D]
    };
    Ok(Direction {
        vector: (mean(with)? - mean(without)?)?, // [D]
        name,
    })
}

/// What was written at each strength.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let prompt = |color| -> Result<Prompt> { Ok(vlm.caption_prompt(&Image::filled(64, 64, color)?, "a")?.without_answer()) };
/// let bluer = steering_direction(&vlm, 1, &[prompt([30, 80, 220])?], &[prompt([200, 30, 40])?])?;
/// let red = vlm.generate(&Image::filled(64, 64, [200, 30, 40])?)?.max_new_tokens(3);
/// let table: SteeringTable = steer(&red, &bluer, &[0.0, 2.0])?;
/// let strengths: Vec<f64> = table.texts().iter().map(|(strength, _)| *strength).collect();
/// assert_eq!(strengths, [0.0, 2.0]);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SteeringTable {
    name: String,
    length: f64,
    rows: Vec<(f64, String)>,
}

impl SteeringTable {
    /// Strength and text, in the order in which they were asked for.
    pub fn texts(&self) -> &[(f64, String)] {
        &self.rows
    }
}

/// Writes with the direction added at each of these strengths; 0 is the model as it is.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let site = Site::hidden_states("llm", 1);
/// let step = Tensor::ones(vlm.llm.config.hidden_size, DType::F32, &Device::Cpu)?;
/// let direction = Direction { name: site.name().into(), vector: step };
/// let generate = vlm.generate(&Image::filled(64, 64, [200, 30, 40])?)?.max_new_tokens(3);
/// let table = steer(&generate, &direction, &[0.0, -1.0])?; // shows what is written at each strength
/// assert_eq!(table.texts().len(), 2);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
///
/// # Errors
/// As [`Generate::run`], and for an activation that the model does not have.
pub fn steer(
    generate: &Generate,
    direction: &Direction,
    strengths: &[f64],
) -> Result<SteeringTable> {
    let bar = Progress::new("steering", strengths.len());
    let mut rows = Vec::with_capacity(strengths.len());
    for &strength in strengths {
        let edits = direction.edits(strength)?;
        rows.push((strength, edits.run(|| generate.clone().run())?.text));
        bar.step()?;
    }
    bar.finish("");
    Ok(SteeringTable {
        name: direction.name.clone(),
        length: direction.length()?,
        rows,
    })
}

impl Render for SteeringTable {
    fn render(&self) -> MimeBundle {
        let mut table = Table::new(["strength", "text"])
            .title("steering by a difference of means")
            .note(format!(
                "Each row is what the model writes when the direction (length {}) is added to {} at every token, that many times; 0 is \
                 the model as it is.",
                number::float(self.length),
                self.name
            ));
        for (strength, text) in &self.rows {
            let (strength, text) = (Cell::figure(number::float(*strength)), Cell::text(text));
            table = table.row([strength, text]);
        }
        table.render()
    }
}

debug_by_first_line!(Direction);

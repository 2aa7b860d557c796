//! Ablation: what a score loses when one head, or one image token, is taken out.
//!
//! score of a pass ─ again without head h of layer l, or without image token t ─► the difference, as a table or on the picture.

use super::answer::AskedAnswer;
use super::drawn;
use super::heat_table::HeatTable;
use super::patches::PatchHeat;
use crate::display::{MimeBundle, Progress, Render, number};
use crate::edits::{Activations, Edits, Site};
use crate::error::{Error, Result};
use crate::vlm::{Prompt, Vlm};
use candle_core::{D, Tensor};

/// What is put in the place of what is taken out.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let prompt = vlm.caption_prompt(&Image::filled(64, 64, [200, 30, 40])?, "a red square")?;
/// let zeros = image_token_ablation(&vlm, &prompt, 0, Ablation::Zero)?;
/// let mean = image_token_ablation(&vlm, &prompt, 0, Ablation::Mean)?; // what follows meets values of the usual size
/// assert_eq!(zeros.values().len(), mean.values().len());
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ablation {
    /// Zeros.
    Zero,
    /// Its mean over the tokens of the same pass: what follows meets values of the usual size, only without news.
    #[default]
    Mean,
}

/// What a score loses without each head.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let prompt = vlm.caption_prompt(&Image::filled(64, 64, [200, 30, 40])?, "a red square")?;
/// let table: HeadAblation = prompt_head_ablation(&vlm, &prompt, Ablation::Zero)?;
/// let (layer, head) = table.strongest().unwrap();
/// let strongest = table.lost()[layer][head].abs();
/// assert!(table.lost().iter().flatten().all(|lost| lost.abs() <= strongest));
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct HeadAblation {
    title: String,
    score: f64,
    by: Ablation,
    layers: Vec<String>,
    lost: Vec<Vec<f64>>,
}

impl HeadAblation {
    /// By layer and head: the score with the head less without it. Above 0 where the head helps.
    pub fn lost(&self) -> &[Vec<f64>] {
        &self.lost
    }

    /// The score with all heads.
    pub fn score(&self) -> f64 {
        self.score
    }

    /// Layer and head whose loss is largest by its size; `None` without any head.
    pub fn strongest(&self) -> Option<(usize, usize)> {
        HeatTable::strongest(&self.lost)
    }
}

/// Takes out one head after the other of `part` (`"llm"`, `"image_encoder"`, `"*"` for all) and asks `score`, which runs a pass of
/// any model: a decoder or a tower alone, or a whole model. Costs a pass for each head.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let pixels = vlm.image_processor.preprocess(&Image::filled(64, 64, [200, 30, 40])?)?;
/// // Any number that a pass gives: here the size of what the encoder makes of a picture.
/// let size = || Ok(f64::from(vlm.image_encoder.encode(&pixels)?.sqr()?.mean_all()?.to_scalar::<f32>()?));
/// let table = head_ablation("size of the features", "image_encoder", Ablation::Zero, &size)?;
/// # assert_eq!(table.lost().len(), 4); // layers
/// # Ok(()) }
/// ```
///
/// # Errors
/// Those of `score`; [`Error::NoSuchActivation`] if its pass has no heads; [`Error::Interrupted`].
pub fn head_ablation(
    what: &str,
    part: &str,
    by: Ablation,
    score: &dyn Fn() -> Result<f64>,
) -> Result<HeadAblation> {
    let pattern = format!("{part}/layers[*]/heads");
    let (base, seen) = Activations::read(&[&pattern], score)?;
    let names: Vec<&str> = seen.names().collect();
    let counts = names.iter().map(|name| seen.heads(name));
    let counts = counts.collect::<Result<Vec<usize>>>()?;
    let bar = Progress::new("head ablation", counts.iter().sum());
    let mut lost = Vec::with_capacity(names.len());
    for (name, &count) in names.iter().zip(&counts) {
        let mean = seen.mean(name)?; // [H·d]
        let width = mean.dim(0)? / count.max(1);
        let mut row = Vec::with_capacity(count);
        for head in 0..count {
            let site = Site::new(*name).head(head);
            let edits = match by {
                Ablation::Zero => Edits::new().zero(site),
                Ablation::Mean => Edits::new().replace(site, &mean.narrow(0, head * width, width)?),
            };
            row.push(base - edits.run(score)?);
            bar.step()?;
        }
        lost.push(row);
    }
    bar.finish("");
    let layer = |name: &&str| name.trim_end_matches("/heads").to_owned();
    Ok(HeadAblation {
        title: what.to_owned(),
        score: base,
        by,
        layers: names.iter().map(layer).collect(),
        lost,
    })
}

/// [`head_ablation`] of the language model: what the mean log-probability of a prompt's answer loses without each head.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let prompt = vlm.caption_prompt(&Image::filled(64, 64, [200, 30, 40])?, "a red square")?;
/// let table = prompt_head_ablation(&vlm, &prompt, Ablation::Mean)?;
/// assert_eq!(table.lost().len(), vlm.llm.layers.len());
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
///
/// # Errors
/// [`Error::NoTarget`] for a prompt without an answer, and as [`head_ablation`].
pub fn prompt_head_ablation(vlm: &Vlm, prompt: &Prompt, by: Ablation) -> Result<HeadAblation> {
    let answer = AskedAnswer::new(vlm, prompt)?;
    let what = format!("log-probability of “{}”", answer.words()?);
    head_ablation(&what, "llm", by, &|| answer.log_probability())
}

/// [`head_ablation`] of the image encoder: what the mean log-probability of a prompt's answer loses without each head.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let prompt = vlm.caption_prompt(&Image::filled(64, 64, [200, 30, 40])?, "a red square")?;
/// let table = encoder_head_ablation(&vlm, &prompt, Ablation::Mean)?;
/// assert!(table.score() < 0.0); // the mean log-probability with all heads
/// assert!(table.lost().iter().flatten().all(|lost| lost.is_finite()));
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
///
/// # Errors
/// As [`prompt_head_ablation`], and for an encoder that names no heads.
pub fn encoder_head_ablation(vlm: &Vlm, prompt: &Prompt, by: Ablation) -> Result<HeadAblation> {
    let what = format!(
        "log-probability of “{}”",
        AskedAnswer::new(vlm, prompt)?.words()?
    );
    head_ablation(&what, "image_encoder", by, &|| {
        AskedAnswer::new(vlm, prompt)?.log_probability()
    })
}

/// Which image tokens a prompt's answer needs: each token of the picture at `input` is replaced by the mean of all of them, or by zeros,
/// where the language model reads it. The number is the mean log-probability of the answer, with the token less without it. Of a picture
/// in tiles `input` is any of them, and all are looked at: the map has the tiles put together, with the whole in one tile beside it.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let prompt = vlm.caption_prompt(&Image::filled(64, 64, [200, 30, 40])?, "a red square")?;
/// let needed = image_token_ablation(&vlm, &prompt, 0, Ablation::Mean)?;
/// # assert!(!needed.values().is_empty());
/// # Ok(()) }
/// ```
///
/// # Errors
/// For an input that is no picture as pixel values, or whose tokens belong to no place in it; [`Error::NoTarget`];
/// [`Error::Interrupted`].
pub fn image_token_ablation(
    vlm: &Vlm,
    prompt: &Prompt,
    input: usize,
    by: Ablation,
) -> Result<PatchHeat> {
    let drawn = drawn::picture_with(vlm, prompt, input)?;
    if drawn.is_empty() {
        return Err(Error::Input(format!(
            "input {input} of the prompt is no picture as pixel values whose image tokens have a place in it: there is nothing to draw on"
        )));
    }
    let answer = AskedAnswer::new(vlm, prompt)?;
    let inputs = drawn::input_places(&answer.sequence);
    if input >= inputs.len() {
        return Err(Error::Input(format!(
            "the answer comes before input {input}: the picture has no say in it"
        )));
    }
    let places = drawn.iter().map(|drawn| drawn.places(&inputs));
    let places = places.collect::<Result<Vec<Vec<usize>>>>()?; // by map
    let width = answer.sequence.inputs_embeds.dim(D::Minus1)?;
    let all: Vec<u32> = places.iter().flatten().map(|&place| place as u32).collect();
    let count = all.len();
    let all = Tensor::new(all, answer.sequence.inputs_embeds.device())?;
    let embeds = answer.sequence.inputs_embeds.detach();
    let mean = embeds.index_select(&all, 1)?.mean(1)?.reshape(width)?; // [D]
    let other = match by {
        Ablation::Mean => mean,
        Ablation::Zero => mean.zeros_like()?,
    };
    let base = answer.log_probability()?;
    let bar = Progress::new("image-token ablation", count);
    let words = answer.words()?;
    let mut maps = Vec::with_capacity(drawn.len());
    for (drawn, places) in drawn.iter().zip(&places) {
        let mut lost = Vec::with_capacity(places.len());
        for &place in places {
            let edits = Edits::new().replace(Site::new("inputs_embeds").token(place), &other);
            lost.push((base - edits.run(|| answer.log_probability())?) as f32);
            bar.step()?;
        }
        let title = match maps.is_empty() {
            true => format!("which image tokens “{words}” needs"),
            false => drawn.name().to_owned(),
        };
        maps.push(PatchHeat::of_positions(
            title,
            &drawn.picture,
            drawn.positions,
            &lost,
        )?);
    }
    bar.finish("");
    let mut maps = maps.into_iter();
    let Some(first) = maps.next() else {
        return Err(Error::Input(format!("input {input} has no image token")));
    };
    let saying = first.saying(format!(
        "Each patch shows how many nats of the answer's mean log-probability ({}) are lost when its image token alone is {}; below 0 \
         the answer gets likelier.",
        number::float(base),
        by.words()
    ));
    Ok(saying.beside(maps))
}

impl Ablation {
    fn words(self) -> &'static str {
        match self {
            Self::Zero => "set to zero",
            Self::Mean => "replaced by the mean of all",
        }
    }
}

impl Render for HeadAblation {
    fn render(&self) -> MimeBundle {
        let heads = self.lost.iter().map(Vec::len).max().unwrap_or_default();
        let columns: Vec<String> = (0..heads).map(|head| format!("head {head}")).collect();
        let all = self.lost.iter().flatten();
        let limit = all.fold(0.0, |most: f64, lost| most.max(lost.abs()));
        let by = match self.by {
            Ablation::Zero => "set to zero",
            Ablation::Mean => "replaced by its mean over the tokens",
        };
        let table = HeatTable {
            title: format!("head ablation · {}", self.title),
            says: format!(
                "Each cell is what the {} ({}) loses when this head alone is {by}; red heads help, blue ones stand in the way.",
                self.title,
                number::float(self.score)
            ),
            rows: &self.layers,
            columns: &columns,
            values: &self.lost,
            limit,
            figure: |value| format!("{value:.3}"),
        };
        table.render()
    }
}

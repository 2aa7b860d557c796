//! Integrated gradients: how much each part of an input adds to a score, summed along the way from a baseline to it.
//!
//! ```text
//! baseline ─ steps ─► input     gradient at each step, mean × (input − baseline) = what each value adds
//!                               Σ = score(input) − score(baseline): completeness, which the picture shows
//! ```
//! After Sundararajan, Taly and Yan, 2017. The steps are midpoints of stretches, shorter ones where the sum misses what the score does: the
//! score along the way is known, so completeness says where to look closer. Of a linear score one step is exact.

use super::drawn;
use super::patches::PatchHeat;
use super::shown::ShownPicture;
use crate::display::facts::debug_by_first_line;
use crate::display::{MimeBundle, Progress, Render, number};
use crate::edits::{Activations, Axes, Edits, Site, activation_at};
use crate::error::{Error, Result};
use crate::vlm::{Prompt, Vlm};
use candle_core::{DType, Tensor, Var};

/// What each value of an activation adds to a score.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let input = Tensor::new(&[3f32, 4.0], &Device::Cpu)?;
/// let score = || Ok(activation("x", input.clone())?.sqr()?.sum_all()?);
/// let found: IntegratedGradients = integrated_gradients("x", None, 32, &score)?;
/// assert_eq!(found.scores(), (25.0, 0.0)); // the score, and that of the baseline of zeros
/// assert!((found.sum()? - 25.0).abs() < 1e-3); // what each value adds to it, together
/// assert!(found.map().is_none()); // no picture
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone)]
pub struct IntegratedGradients {
    site: String,
    /// What each value adds, of the activation's shape, f32.
    attributions: Tensor,
    score: f64,
    baseline: f64,
    steps: usize,
    map: Option<PatchHeat>,
}

impl IntegratedGradients {
    /// What each value adds, of the activation's shape, f32.
    pub fn attributions(&self) -> &Tensor {
        &self.attributions
    }

    /// The score of the input, and of the baseline.
    pub fn scores(&self) -> (f64, f64) {
        (self.score, self.baseline)
    }

    /// The sum of all that is added.
    ///
    /// # Errors
    /// When the values can't be read.
    pub fn sum(&self) -> Result<f64> {
        let sum = self.attributions.to_dtype(DType::F64)?.sum_all()?;
        Ok(sum.to_scalar::<f64>()?)
    }

    /// How far the sum is from the difference of the scores: what is left to more steps.
    ///
    /// # Errors
    /// When the values can't be read.
    pub fn gap(&self) -> Result<f64> {
        Ok(self.sum()? - (self.score - self.baseline))
    }

    /// By patch, on the picture, where it was asked of one; of a picture in tiles with that of the whole beside it.
    pub fn map(&self) -> Option<&PatchHeat> {
        self.map.as_ref()
    }

    fn says(&self) -> String {
        match (self.sum(), self.gap()) {
            (Ok(sum), Ok(gap)) => format!(
                "What is shown is how much each part of {} adds to the score on the way from the baseline ({}) to the input ({}); all \
                 of it sums to {}, off by {:.1e} from the difference after {} steps.",
                self.site,
                number::float(self.baseline),
                number::float(self.score),
                number::float(sum),
                gap.abs(),
                self.steps
            ),
            _ => "the values can't be read".to_owned(),
        }
    }
}

/// A stretch of the way: parts of it with their scores, what its middle's gradient says that each value adds on it, and how far that is
/// from what the score does there.
struct Stretch {
    start: (f64, f64),
    middle: (f64, f64),
    end: (f64, f64),
    added: Tensor,
    missed: f64,
}

/// Integrated gradients of a score with respect to any activation in its pass: `score` runs the pass and gives a scalar with gradient.
/// `baseline` has the activation's shape, or fewer axes; zeros unless given. Costs at most `steps` passes forth and back, and a few forth.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let weights = Tensor::new(&[[3f32, -1.0]], &Device::Cpu)?;
/// let input = Tensor::new(&[[2f32, 5.0]], &Device::Cpu)?;
/// let score = || Ok((activation("x", input.clone())? * &weights)?.sum_all()?);
/// let linear = integrated_gradients("x", None, 1, &score)?;
/// assert_eq!(linear.attributions().to_vec2::<f32>()?, [[6.0, -5.0]]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// Those of `score` and of the edits; for 0 steps, a score that is no scalar or to which the activation has no way;
/// [`Error::Interrupted`].
pub fn integrated_gradients(
    site: impl Into<Site>,
    baseline: Option<&Tensor>,
    steps: usize,
    score: &dyn Fn() -> Result<Tensor>,
) -> Result<IntegratedGradients> {
    let site = site.into();
    if steps == 0 {
        return Err(Error::Input(
            "integrated gradients need at least 1 step; 32 is usual".into(),
        ));
    }
    let number = |score: &Tensor| -> Result<f64> {
        match score.elem_count() {
            1 => Ok(score
                .detach()
                .to_dtype(DType::F64)?
                .flatten_all()?
                .to_vec1::<f64>()?[0]),
            _ => Err(Error::Input(format!(
                "the score has the shape {:?}, it must be one number: choose one logit, or take a mean",
                score.dims()
            ))),
        }
    };
    let (at_input, seen) = Activations::read(&[site.name()], score)?;
    let input = seen.at(&site)?.to_dtype(DType::F32)?.contiguous()?;
    let from = match baseline {
        None => input.zeros_like()?,
        Some(from) => {
            let from = from.to_device(input.device())?.to_dtype(DType::F32)?;
            let wide = from.broadcast_as(input.shape());
            wide.map_err(|_| Error::ActivationShape {
                name: site.to_string(),
                expected: input.dims().to_vec(),
                found: from.dims().to_vec(),
            })?
            .contiguous()?
        }
    };
    let way = (&input - &from)?;
    let at = |point: &Tensor| Edits::new().replace(&site, point).run(score);
    let at_input = number(&at_input)?;
    let at_baseline = number(&at(&from)?)?;
    let bar = Progress::new("integrated gradients", steps);
    let between = |start: (f64, f64), end: (f64, f64)| -> Result<Stretch> {
        let middle = (start.0 + end.0) / 2.0;
        let point = Var::from_tensor(&(&from + (&way * middle)?)?)?;
        let score = at(point.as_tensor())?;
        let at_middle = number(&score)?;
        let gradients = score.backward()?;
        let gradient = gradients.get(&point).ok_or_else(|| {
            Error::Input(format!(
                "no gradient of the score reaches {site}: is it used at all, or does the score come from numbers (`to_scalar`) instead \
                 of tensors?"
            ))
        })?;
        let added = ((&way * gradient.detach())? * (end.0 - start.0))?;
        let sum = added.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?;
        bar.step()?;
        Ok(Stretch {
            missed: (end.1 - start.1 - sum).abs(),
            start,
            middle: (middle, at_middle),
            end,
            added,
        })
    };
    // A few stretches alike, whose ends are scored too; then the one that misses most is cut in two, again and again.
    let even = (steps / 8).max(1);
    let mut start = (0.0, at_baseline);
    let mut stretches = Vec::new();
    for cut in 1..=even {
        let part = cut as f64 / even as f64;
        let there = match cut == even {
            true => at_input,
            false => number(&at(&(&from + (&way * part)?)?)?)?,
        };
        let end = (part, there);
        stretches.push(between(start, end)?);
        start = end;
    }
    let mut taken = even;
    while taken + 2 <= steps {
        let worst = (0..stretches.len())
            .max_by(|&a, &b| stretches[a].missed.total_cmp(&stretches[b].missed));
        let Some(worst) = worst else { break };
        let whole = stretches.swap_remove(worst);
        stretches.push(between(whole.start, whole.middle)?);
        stretches.push(between(whole.middle, whole.end)?);
        taken += 2;
    }
    bar.finish("");
    let mut sum = input.zeros_like()?;
    for stretch in &stretches {
        sum = (sum + &stretch.added)?;
    }
    Ok(IntegratedGradients {
        site: site.to_string(),
        attributions: sum,
        score: at_input,
        baseline: at_baseline,
        steps: taken,
        map: None,
    })
}

/// Integrated gradients of the mean log-probability of a prompt's answer with respect to the pixels of the picture at `input`, from pixel
/// values of 0 (the image processor's mean colour), summed by patch. Of a picture in tiles `input` is any of them: all of its tiles go
/// from 0 to what they are together, the attributions are `[N, C, H, W]`, and the map has the tiles put together, bars included, with
/// the whole beside it.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let prompt = vlm.caption_prompt(&Image::filled(64, 64, [200, 30, 40])?, "a red square")?;
/// let added = prompt_integrated_gradients(&vlm, &prompt, 0, 8)?;
/// let gap = added.gap()?; // how far the sum is from what it should be
/// # assert!(gap.is_finite());
/// # Ok(()) }
/// ```
///
/// # Errors
/// For an input that is no picture as pixel values; [`Error::NoTarget`]; and as [`integrated_gradients`].
pub fn prompt_integrated_gradients(
    vlm: &Vlm,
    prompt: &Prompt,
    input: usize,
    steps: usize,
) -> Result<IntegratedGradients> {
    let shown = ShownPicture::of(vlm, prompt, input)?;
    let encoder = match prompt.inputs().nth(input) {
        Some(piece) => drawn::stage_one(vlm, piece)?.0,
        None => &vlm.image_encoder,
    };
    let name = format!("picture {input}");
    let score = || {
        let pixels = activation_at(&name, shown.pixel_values.clone(), Axes::rows())?; // [N, C, H, W]
        let loss = vlm
            .full_sequence_loss_of(&shown.put(prompt, &pixels)?)?
            .loss;
        Ok(loss.neg()?)
    };
    let mut made = integrated_gradients(name.as_str(), None, steps, &score)?;
    let title = "what each patch adds to the answer";
    let map = shown.summed(title, &made.attributions, encoder.positions())?;
    let says = made.says();
    made.map = Some(map.saying(says));
    Ok(made)
}

impl Render for IntegratedGradients {
    fn render(&self) -> MimeBundle {
        if let Some(map) = &self.map {
            return map.render();
        }
        let seen = crate::display::TensorView::new(&self.attributions).render();
        let says = self.says();
        let plain = format!("{says}\n{}", seen.plain());
        let html = seen
            .html()
            .map(|html| format!("{}{html}", super::heat_table::says_html(&says, None)));
        match html {
            Some(html) => MimeBundle::text(plain).with_html(html),
            None => MimeBundle::text(plain),
        }
    }
}

debug_by_first_line!(IntegratedGradients);

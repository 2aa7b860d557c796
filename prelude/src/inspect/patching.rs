//! Activation patching: where in the model the difference between two pictures is carried.
//!
//! ```text
//! right prompt ─ activations kept ──────────┐ one layer, one token
//! wrong prompt, same words ─ again with ◄───┘ ─► how much of the right answer has come back
//! ```
//! After Meng et al., 2022 (causal tracing) and Wang et al., 2022.

use super::answer::AskedAnswer;
use super::heat_table::HeatTable;
use crate::display::{MimeBundle, Progress, Render, SegmentKind, number};
use crate::edits::{Activations, Edits, Site};
use crate::error::{Error, Result};
use crate::vlm::{Prompt, Vlm};
use std::ops::Range;

/// A difference of log-probabilities below this is none.
const NO_DIFFERENCE: f64 = 1e-6;

/// How much of the right answer comes back, by layer and token.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let prompt = |color| vlm.caption_prompt(&Image::filled(64, 64, color)?, "a");
/// let map: PatchingMap = patching_map(&vlm, &prompt([200, 30, 40])?, &prompt([30, 80, 220])?)?;
/// let (right, wrong) = map.scores(); // mean log-probability of the answer in both runs
/// assert!(right < 0.0 && wrong < 0.0);
/// assert_eq!(map.recovered()[0].len(), map.columns().len());
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct PatchingMap {
    answer: String,
    what: String,
    /// Mean log-probability of the answer in the right and in the wrong run.
    right: f64,
    wrong: f64,
    layers: Vec<String>,
    columns: Vec<String>,
    /// 0: as without the patch; 1: as in the right run.
    recovered: Vec<Vec<f64>>,
}

impl PatchingMap {
    /// By layer, then by column: 0 where the patch changes nothing, 1 where it brings the whole answer back. More than 1 and less than 0
    /// are possible.
    pub fn recovered(&self) -> &[Vec<f64>] {
        &self.recovered
    }

    /// What the columns are: tokens, and each picture as one.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Mean log-probability of the answer in the right and in the wrong run, in nats.
    pub fn scores(&self) -> (f64, f64) {
        (self.right, self.wrong)
    }
}

/// Patches what enters each layer of the language model (`llm/hidden_states[*]`), token by token, each picture as a whole, from the run
/// of `right` into the run of `wrong`: two prompts with the same words and the same answer, about two pictures. Costs a pass of the
/// language model for each cell.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let prompt = |color| vlm.caption_prompt(&Image::filled(64, 64, color)?, "a red square");
/// let map = patching_map(&vlm, &prompt([200, 30, 40])?, &prompt([30, 80, 220])?)?;
/// # assert_eq!(map.recovered().len(), vlm.llm.layers.len() + 1);
/// # Ok(()) }
/// ```
///
/// # Errors
/// For prompts of different lengths or answers, or without a target; if the pictures make no difference to the answer;
/// [`Error::Interrupted`].
pub fn patching_map(vlm: &Vlm, right: &Prompt, wrong: &Prompt) -> Result<PatchingMap> {
    patching_map_of(vlm, right, wrong, "llm/hidden_states[*]")
}

/// As [`patching_map`], of other activations of the language model: `"llm/layers[*]/attention"`, `"llm/layers[*]/mlp"`. Every name that
/// `what` stands for is a row.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let prompt = |color| vlm.caption_prompt(&Image::filled(64, 64, color)?, "a");
/// let map = patching_map_of(&vlm, &prompt([200, 30, 40])?, &prompt([30, 80, 220])?, "llm/layers[*]/mlp")?;
/// assert_eq!(map.recovered().len(), vlm.llm.layers.len()); // a row for each MLP
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
///
/// # Errors
/// As [`patching_map`], and for names that the language model does not have.
pub fn patching_map_of(
    vlm: &Vlm,
    right: &Prompt,
    wrong: &Prompt,
    what: &str,
) -> Result<PatchingMap> {
    let (right, wrong) = (AskedAnswer::new(vlm, right)?, AskedAnswer::new(vlm, wrong)?);
    if right.sequence.lengths != wrong.sequence.lengths || right.places != wrong.places {
        return Err(Error::Input(format!(
            "the prompts have {} and {} tokens: a patch goes to the same token, so give both the same words and pictures that become \
             equally many tokens",
            right.sequence.lengths[0], wrong.sequence.lengths[0]
        )));
    }
    if right.targets != wrong.targets {
        return Err(Error::Input(format!(
            "the prompts have the answers {:?} and {:?}: give both the right one",
            right.words()?,
            wrong.words()?
        )));
    }
    let (best, kept) = Activations::read(&[what], || right.log_probability())?;
    let worst = wrong.log_probability()?;
    if (best - worst).abs() < NO_DIFFERENCE {
        return Err(Error::Input(format!(
            "the answer {:?} is as likely in one run as in the other: there is nothing to bring back, take prompts whose pictures \
             differ in what the answer says",
            right.words()?
        )));
    }
    let columns = columns(&wrong);
    let names: Vec<&str> = kept.names().collect();
    let bar = Progress::new("activation patching", names.len() * columns.len());
    let mut recovered = Vec::with_capacity(names.len());
    for name in &names {
        let mut row = Vec::with_capacity(columns.len());
        for (_, tokens) in &columns {
            let site = Site::new(*name).tokens(tokens.clone());
            let score = Edits::new()
                .patch(site, &kept)
                .run(|| wrong.log_probability())?;
            row.push((score - worst) / (best - worst));
            bar.step()?;
        }
        recovered.push(row);
    }
    bar.finish("");
    Ok(PatchingMap {
        answer: right.words()?,
        what: what.to_owned(),
        right: best,
        wrong: worst,
        layers: names.into_iter().map(ToOwned::to_owned).collect(),
        columns: columns.into_iter().map(|(name, _)| name).collect(),
        recovered,
    })
}

/// Each token with its place; the tokens of a picture are one column.
fn columns(answer: &AskedAnswer) -> Vec<(String, Range<usize>)> {
    let mut columns: Vec<(String, Range<usize>)> = Vec::new();
    let (mut start, mut pictures) = (0, 0);
    for (kind, words) in answer.sequence.segments.first().into_iter().flatten() {
        let end = start + words.len();
        match kind {
            SegmentKind::Image => {
                columns.push((format!("picture {pictures} ({})", words.len()), start..end));
                pictures += 1;
            }
            _ => {
                let tokens = words.iter().zip(start..);
                columns.extend(tokens.map(|(word, at)| (word.clone(), at..at + 1)));
            }
        }
        start = end;
    }
    columns
}

impl Render for PatchingMap {
    fn render(&self) -> MimeBundle {
        let table = HeatTable {
            title: format!("activation patching · {}", self.what),
            says: format!(
                "Each cell is the share of the answer “{}” that comes back when this activation alone is taken from the run with the \
                 right picture: 0% is the wrong picture's run ({} nats), 100% the right one's ({} nats).",
                self.answer,
                number::float(self.wrong),
                number::float(self.right)
            ),
            rows: &self.layers,
            columns: &self.columns,
            values: &self.recovered,
            limit: 1.0,
            figure: |value| format!("{:.0}%", value * 100.0),
        };
        table.render()
    }
}

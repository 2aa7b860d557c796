//! Activations that were read in a pass, by name.

use super::names::nearest;
use super::point::{Axes, Heads};
use super::site::Site;
use crate::display::tensor::Statistics;
use crate::display::{Cell, MimeBundle, Render, Table, number};
use crate::{Error, Result};
use candle_core::{D, DType, Tensor};

/// Activations by name, in the order of the forward pass, without gradient. Cheap to clone.
///
/// Where a cache made several passes of one sequence (a generation), they are one behind the other: `[B, T, D]` over all of it, weights
/// of attention `[B, H, T, T]`.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let prompt = vlm.caption_prompt(&Image::filled(64, 64, [200, 30, 40])?, "a red square")?;
/// let (_, read) = Activations::read(&["llm/layers[*]/mlp"], || vlm.full_sequence_loss_of(&prompt))?;
/// assert_eq!(read.names().count(), vlm.llm.layers.len());
/// let first = read.at(Site::mlp("llm", 0).token(0))?; // of the first token
/// assert_eq!(first.elem_count(), vlm.llm.config.hidden_size);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Activations(Vec<Named>);

#[derive(Clone)]
struct Named {
    name: String,
    /// Of its first pass.
    axes: Axes,
    /// Of each pass: where its first token stands, where it has tokens, and the values.
    passes: Vec<(Option<usize>, Tensor)>,
}

impl Activations {
    /// Runs `pass` and reads the activations of these names: see [`Edits::read`](super::Edits::read). Clean runs that a patch comes
    /// from are read so.
    ///
    /// # Errors
    /// As [`Edits::read`](super::Edits::read).
    pub fn read<T>(names: &[&str], pass: impl FnOnce() -> Result<T>) -> Result<(T, Self)> {
        super::Edits::new().read(names, pass)
    }

    pub(super) fn push(&mut self, name: &str, axes: Axes, tensor: Tensor) {
        let tokens_from = axes.tokens_from;
        let known = self.0.iter_mut().find(|named| named.name == name);
        match known {
            Some(named) => named.passes.push((tokens_from, tensor)),
            None => self.0.push(Named {
                name: name.to_owned(),
                axes,
                passes: vec![(tokens_from, tensor)],
            }),
        }
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|named| named.name.as_str())
    }

    fn named(&self, name: &str) -> Result<&Named> {
        let found = self.0.iter().find(|named| named.name == name);
        found.ok_or_else(|| {
            let names: Vec<String> = self.names().map(ToOwned::to_owned).collect();
            Error::NoSuchActivation {
                name: name.to_owned(),
                nearest: nearest(name, &names),
            }
        })
    }

    /// The activation of this name.
    ///
    /// # Errors
    /// For a name that was not read; for several passes that do not continue each other: see [`Activations::passes`].
    pub fn get(&self, name: &str) -> Result<Tensor> {
        let named = self.named(name)?;
        if let [(_, only)] = named.passes.as_slice() {
            return Ok(only.clone());
        }
        let axis = named.axes.token_axis();
        let mut end = None;
        let continued = named.passes.iter().all(|(first, tensor)| {
            let goes_on = end.is_none() || *first == end;
            let tokens = tensor.dims().get(axis).copied();
            end = first.zip(tokens).map(|(first, tokens)| first + tokens);
            goes_on && end.is_some()
        });
        if !continued {
            return Err(Error::Input(format!(
                "{name} was computed {} times in what ran, not as one sequence that goes on: choose with `passes({name:?})?`, or \
                 read one pass at a time",
                named.passes.len()
            )));
        }
        let passes = named
            .passes
            .iter()
            .map(|(_, tensor)| match named.axes.heads {
                // Keys that came later have no weight.
                Heads::OwnAxis => {
                    let later = end
                        .unwrap_or_default()
                        .saturating_sub(tensor.dim(D::Minus1)?);
                    Ok(tensor.pad_with_zeros(D::Minus1, 0, later)?) // [B, H, Tq, T]
                }
                Heads::None | Heads::SideBySide(_) => Ok(tensor.clone()), // [B, Tq, W]
            });
        Ok(Tensor::cat(&passes.collect::<Result<Vec<_>>>()?, axis)?) // [B, T, W], weights [B, H, T, T]
    }

    /// The part of an activation that a site names, `[b, t, w]`.
    ///
    /// # Errors
    /// As [`Activations::get`], and [`Error::NotInPass`] for heads, tokens or rows that it does not have.
    pub fn at(&self, site: impl Into<Site>) -> Result<Tensor> {
        let site = site.into();
        let whole = self.get(&site.name)?;
        site.taken_from(&whole, self.named(&site.name)?.axes)
    }

    /// Its values in each pass.
    ///
    /// # Errors
    /// For a name that was not read.
    pub fn passes(&self, name: &str) -> Result<Vec<Tensor>> {
        let passes = self.named(name)?.passes.iter();
        Ok(passes.map(|(_, tensor)| tensor.clone()).collect())
    }

    /// How many heads stand side by side in it; 0 for what has none.
    ///
    /// # Errors
    /// For a name that was not read.
    pub fn heads(&self, name: &str) -> Result<usize> {
        let named = self.named(name)?;
        let Some((_, tensor)) = named.passes.first() else {
            return Ok(0);
        };
        Ok(match named.axes.heads {
            Heads::None => 0,
            Heads::SideBySide(width) => tensor.dim(D::Minus1)? / width.max(1),
            Heads::OwnAxis => tensor.dim(1)?,
        })
    }

    /// The mean over all but the last axis, `[width]`, f32: what a mean ablation replaces by, and what directions are made of.
    ///
    /// # Errors
    /// For a name that was not read, or an activation without values.
    pub fn mean(&self, name: &str) -> Result<Tensor> {
        let mut rows = Vec::new();
        let named = self.named(name)?;
        let joined = match named.axes.heads {
            Heads::OwnAxis => vec![(None, self.get(name)?)],
            Heads::None | Heads::SideBySide(_) => named.passes.clone(),
        };
        for (_, tensor) in &joined {
            let width = tensor.dim(D::Minus1)?;
            rows.push(tensor.reshape(((), width))?.to_dtype(DType::F32)?); // [N, width]
        }
        Ok(Tensor::cat(&rows, 0)?.mean(0)?)
    }

    /// Where the first token of an activation stands in its sequence; 0 for one without tokens.
    pub(super) fn first_token(&self, name: &str) -> Result<usize> {
        let first = self.named(name)?.passes.first();
        Ok(first.and_then(|(first, _)| *first).unwrap_or_default())
    }
}

impl Render for Activations {
    fn render(&self) -> MimeBundle {
        let mut table = Table::new(["activation", "shape", "min", "mean", "max", "std"]).title(
            format!("{} activations", number::count(self.0.len() as u64)),
        );
        for named in &self.0 {
            for (pass, (_, tensor)) in named.passes.iter().enumerate() {
                let name = match named.passes.len() {
                    1 => named.name.clone(),
                    _ => format!("{}, pass {pass}", named.name),
                };
                let mut row = vec![Cell::code(name), Cell::code(format!("{:?}", tensor.dims()))];
                match Statistics::of(tensor) {
                    Ok(seen) => row.extend(
                        [seen.min, seen.mean, seen.max, seen.std]
                            .map(|value| Cell::figure(number::short(value))),
                    ),
                    Err(error) => row.push(Cell::text(error.to_string())),
                }
                table.push(row);
            }
        }
        table.render()
    }
}

//! What an edit makes of an activation: the part that its site names is taken out, changed, and put back.
//!
//! ```text
//! [B, T, W] ─ rows, tokens, columns of the heads ─► [b, t, w] ─ change ─► [b, t, w] ─ back into place ─► [B, T, W]
//! ```
//! Everything has a gradient, and what is put back unchanged gives the same bits.

use super::activations::Activations;
use super::point::{Axes, Heads};
use super::site::{Site, Tokens, numbered};
use crate::{Error, Result};
use candle_core::Tensor;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A function of one's own.
type Map = Arc<dyn Fn(&Tensor) -> Result<Tensor> + Send + Sync>;

#[derive(Clone)]
pub(super) struct Edit {
    pub site: Site,
    pub change: Change,
}

#[derive(Clone)]
pub(super) enum Change {
    Scale(f64),
    Replace(Tensor),
    Add(Tensor),
    Patch(Activations),
    Map(Map),
}

/// The part of one activation that an edit is about: places along each axis, `None` for all of one.
pub(super) struct Part {
    axes: Vec<Option<Vec<usize>>>,
    /// Which of them is that of the tokens.
    token_axis: usize,
    /// Place in the sequence of the first token of this pass.
    first: usize,
    /// How many tokens the site names in all, over all passes; `None` where it names no list.
    asked: Option<Vec<usize>>,
}

impl Site {
    /// Which part of `tensor` this is; `None` if its tokens are in another pass.
    pub(super) fn part_of(&self, name: &str, tensor: &Tensor, axes: Axes) -> Result<Option<Part>> {
        let dims = tensor.dims();
        let not = |what: String, has: String| Error::NotInPass {
            name: name.to_owned(),
            what,
            has,
        };
        let mut part = Part {
            axes: vec![None; dims.len()],
            token_axis: axes.token_axis(),
            first: axes.tokens_from.unwrap_or_default(),
            asked: None,
        };
        if let Some(rows) = &self.rows {
            let batch = dims.first().copied().unwrap_or_default();
            let out: Vec<usize> = rows.iter().copied().filter(|&row| row >= batch).collect();
            if !out.is_empty() {
                return Err(not(numbered("row", &out), format!("its batch is {batch}")));
            }
            part.axes[0] = Some(rows.clone());
        }
        if self.tokens != Tokens::All {
            let (Some(first), Some(&count)) = (axes.tokens_from, dims.get(part.token_axis)) else {
                return Err(not(
                    "tokens to choose from".into(),
                    format!("its shape is {dims:?}"),
                ));
            };
            let here = first..first + count;
            let tokens: Vec<usize> = match &self.tokens {
                Tokens::All => here.collect(),
                Tokens::From(from) => here.filter(|token| token >= from).collect(),
                Tokens::At(tokens) => {
                    part.asked = Some(tokens.clone());
                    let tokens = tokens.iter().copied();
                    tokens.filter(|token| here.contains(token)).collect()
                }
            };
            if tokens.is_empty() {
                return Ok(None);
            }
            part.axes[part.token_axis] =
                Some(tokens.into_iter().map(|token| token - first).collect());
        }
        if let Some(heads) = &self.heads {
            let last = dims.len() - 1;
            let (axis, count, width) = match axes.heads {
                Heads::SideBySide(width) => (last, dims[last] / width.max(1), width),
                Heads::OwnAxis => (1, dims[1], 1),
                Heads::None => {
                    return Err(not(
                        "heads".into(),
                        "heads are told apart in queries, keys, values, attention_weights and heads of …/layers[i] only, before the \
                         output projection mixes them"
                            .into(),
                    ));
                }
            };
            let out: Vec<usize> = heads.iter().copied().filter(|&h| h >= count).collect();
            if !out.is_empty() || heads.is_empty() {
                let has = format!("it has {count}, 0 to {}", count.saturating_sub(1));
                return Err(not(numbered("head", &out), has));
            }
            let columns = heads.iter().flat_map(|h| h * width..(h + 1) * width);
            part.axes[axis] = Some(columns.collect());
        }
        if let Some(keys) = &self.keys {
            let last = dims.len() - 1;
            if axes.heads != Heads::OwnAxis {
                let only = "only …/layers[i]/attention_weights has them, [B, H, Tq, Tk]";
                return Err(not("keys to choose from".into(), only.into()));
            }
            let out: Vec<usize> = keys.iter().copied().filter(|&k| k >= dims[last]).collect();
            if !out.is_empty() || keys.is_empty() {
                let has = format!("it has {}", dims[last]);
                return Err(not(numbered("key", &out), has));
            }
            part.axes[last] = Some(keys.clone());
        }
        Ok(Some(part))
    }
}

impl Site {
    /// This part of a whole activation; all of its tokens must be there.
    pub(super) fn taken_from(&self, tensor: &Tensor, axes: Axes) -> Result<Tensor> {
        let part = self.part_of(&self.name, tensor, axes)?;
        let lacks = |what: String| Error::NotInPass {
            name: self.name.clone(),
            what,
            has: format!("its shape is {:?}", tensor.dims()),
        };
        let Some(part) = part else {
            return Err(lacks("such tokens".into()));
        };
        if let Tokens::At(tokens) = &self.tokens {
            let there: Vec<usize> = part.whole_tokens().collect();
            let left: Vec<usize> = tokens
                .iter()
                .copied()
                .filter(|t| !there.contains(t))
                .collect();
            if !left.is_empty() {
                return Err(lacks(numbered("token", &left)));
            }
        }
        part.of(tensor)
    }
}

impl Part {
    /// Its tokens as places in the sequence.
    pub(super) fn whole_tokens(&self) -> impl Iterator<Item = usize> + '_ {
        let tokens = self.axes.get(self.token_axis).and_then(Option::as_ref);
        tokens.into_iter().flatten().map(|token| token + self.first)
    }

    fn is_all(&self) -> bool {
        self.axes.iter().all(Option::is_none)
    }

    /// The part itself, of a tensor with these axes.
    fn of(&self, tensor: &Tensor) -> Result<Tensor> {
        let mut part = tensor.clone();
        for (axis, places) in self.axes.iter().enumerate() {
            if let Some(places) = places {
                part = taken(&part, axis, places)?;
            }
        }
        Ok(part)
    }

    /// `tensor` with `new` in the place of the part.
    fn put(&self, tensor: &Tensor, new: &Tensor) -> Result<Tensor> {
        let new = new.to_device(tensor.device())?.to_dtype(tensor.dtype())?;
        if self.is_all() {
            return Ok(new);
        }
        let dims = tensor.dims();
        let runs: Vec<Vec<(usize, Range<usize>)>> = self
            .axes
            .iter()
            .zip(dims)
            .map(|(places, &size)| match places {
                None => vec![(0, 0..size)],
                Some(places) => runs(places),
            })
            .collect();
        let mut whole = tensor.clone();
        let mut at = vec![0; runs.len()];
        loop {
            let boxed: Vec<&(usize, Range<usize>)> =
                runs.iter().zip(&at).map(|(runs, &i)| &runs[i]).collect();
            let mut piece = new.clone();
            for (axis, (start, range)) in boxed.iter().enumerate() {
                piece = piece.narrow(axis, *start, range.len())?;
            }
            let ranges: Vec<Range<usize>> = boxed.iter().map(|(_, range)| range.clone()).collect();
            whole = whole.slice_assign(&ranges, &piece.contiguous()?)?;
            // The next combination of runs.
            let Some(axis) = (0..runs.len()).rev().find(|&a| at[a] + 1 < runs[a].len()) else {
                return Ok(whole);
            };
            at[axis] += 1;
            at[axis + 1..].fill(0);
        }
    }
}

/// Neighbouring places together: where each run begins among the places, and what it covers.
fn runs(places: &[usize]) -> Vec<(usize, Range<usize>)> {
    let mut runs: Vec<(usize, Range<usize>)> = Vec::new();
    for (at, &place) in places.iter().enumerate() {
        match runs.last_mut() {
            Some((_, range)) if range.end == place => range.end += 1,
            _ => runs.push((at, place..place + 1)),
        }
    }
    runs
}

/// These places of an axis.
fn taken(tensor: &Tensor, axis: usize, places: &[usize]) -> Result<Tensor> {
    match runs(places).as_slice() {
        [(_, range)] => Ok(tensor.narrow(axis, range.start, range.len())?),
        _ => {
            let places: Vec<u32> = places.iter().map(|&place| place as u32).collect();
            let places = Tensor::new(places, tensor.device())?;
            Ok(tensor.contiguous()?.index_select(&places, axis)?)
        }
    }
}

impl Change {
    /// `tensor` with its part changed.
    pub(super) fn applied(&self, name: &str, tensor: &Tensor, part: &Part) -> Result<Tensor> {
        let there = part.of(tensor)?; // [b, t, w]
        let new = match self {
            Self::Scale(1.0) => return Ok(tensor.clone()),
            // Not a product: infinite values times 0 are not 0.
            Self::Scale(0.0) => there.zeros_like()?,
            Self::Scale(factor) => (&there * *factor)?,
            Self::Replace(values) => fitted(name, &there, values, part)?,
            Self::Add(values) => (&there + fitted(name, &there, values, part)?)?,
            Self::Patch(from) => {
                let other = from.get(name)?; // [B, T, W]
                let same = other.rank() == tensor.rank();
                let source = from.first_token(name)?;
                let moved = same.then(|| moved(part, source)).flatten();
                let moved = moved.filter(|moved| moved.lies_in(other.dims()));
                let taken = match moved {
                    Some(moved) => Some(moved.of(&other)?),
                    None => None,
                };
                match taken {
                    Some(taken) if taken.dims() == there.dims() => taken,
                    taken => {
                        let found = taken.as_ref().unwrap_or(&other);
                        return Err(shape(name, &there, found));
                    }
                }
            }
            Self::Map(change) => {
                let new = change(&there)?;
                if new.dims() != there.dims() {
                    return Err(shape(name, &there, &new));
                }
                new
            }
        };
        part.put(tensor, &new)
    }
}

/// The same part of an activation that begins with the sequence's token `source`.
fn moved(part: &Part, source: usize) -> Option<Part> {
    let mut axes = part.axes.clone();
    if let Some(Some(tokens)) = axes.get_mut(part.token_axis) {
        for token in tokens {
            *token = (*token + part.first).checked_sub(source)?;
        }
    }
    Some(Part {
        axes,
        token_axis: part.token_axis,
        first: source,
        asked: None,
    })
}

impl Part {
    fn lies_in(&self, dims: &[usize]) -> bool {
        let mut axes = self.axes.iter().zip(dims);
        axes.all(|(places, &size)| {
            let places = places.iter().flatten();
            places.max().is_none_or(|&last| last < size)
        })
    }
}

/// `values` as they stand at `there`, repeated along axes that they lack. Of values for all tokens that a site names, those of this
/// pass.
fn fitted(name: &str, there: &Tensor, values: &Tensor, part: &Part) -> Result<Tensor> {
    let values = values.to_device(there.device())?.to_dtype(there.dtype())?;
    let values = match &part.asked {
        // The tokens are the axis before the last.
        Some(asked) if values.rank() >= 2 && there.rank() == part.token_axis + 2 => {
            let axis = values.rank() - 2;
            let here: Vec<usize> = part.whole_tokens().collect();
            match values.dim(axis)? == asked.len() && here.len() < asked.len() {
                true => {
                    let places = here.iter().filter_map(|t| asked.binary_search(t).ok());
                    taken(&values, axis, &places.collect::<Vec<_>>())?
                }
                false => values,
            }
        }
        _ => values,
    };
    values
        .broadcast_as(there.shape())
        .map_err(|_| shape(name, there, &values))
}

fn shape(name: &str, there: &Tensor, found: &Tensor) -> Error {
    Error::ActivationShape {
        name: name.to_owned(),
        expected: there.dims().to_vec(),
        found: found.dims().to_vec(),
    }
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let site = &self.site;
        match &self.change {
            Change::Scale(0.0) => write!(f, "zero {site}"),
            Change::Scale(factor) => write!(f, "scale {site} by {factor}"),
            Change::Replace(values) => write!(f, "replace {site} by {:?}", values.dims()),
            Change::Add(values) => write!(f, "add {:?} to {site}", values.dims()),
            Change::Patch(_) => write!(f, "patch {site} from another run"),
            Change::Map(_) => write!(f, "change {site} by a function"),
        }
    }
}

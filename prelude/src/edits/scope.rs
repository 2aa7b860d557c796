//! The edits that hold in a pass, what they have met so far, and at its end whether all of them have met something.

use super::activations::Activations;
use super::change::Edit;
use super::names::{matches, nearest};
use super::point::{Asked, Axes, held};
use super::site::{Tokens, numbered};
use crate::{Error, Result};
use candle_core::Tensor;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

/// One [`super::Edits::run`].
pub(super) struct Scope {
    edits: Vec<Edit>,
    /// Patterns of what is to be read.
    wanted: Vec<String>,
    met: RefCell<Met>,
}

#[derive(Default)]
struct Met {
    /// Every name that came by, in order.
    names: Vec<String>,
    known: BTreeSet<String>,
    /// Of each edit, how it went.
    edits: Vec<MetSite>,
    read: Activations,
}

#[derive(Clone, Default)]
struct MetSite {
    /// The name came by, in passes over these tokens (first, last).
    passes: Vec<(usize, usize)>,
    named: bool,
    changed: bool,
    tokens: BTreeSet<usize>,
}

impl Scope {
    pub(super) fn new(edits: Vec<Edit>, wanted: &[&str]) -> Rc<Self> {
        let met = Met {
            edits: vec![MetSite::default(); edits.len()],
            ..Met::default()
        };
        Rc::new(Self {
            edits,
            wanted: wanted.iter().map(|&name| name.to_owned()).collect(),
            met: RefCell::new(met),
        })
    }

    pub(super) fn hold<T>(self: &Rc<Self>, pass: impl FnOnce() -> Result<T>) -> Result<T> {
        held(self.clone(), pass)
    }

    /// What is asked of the activation of this name, which the pass could compute.
    pub(super) fn asks(&self, name: &str) -> Asked {
        let mut met = self.met.borrow_mut();
        if met.known.insert(name.to_owned()) {
            met.names.push(name.to_owned());
        }
        let edited = |edit: &Edit| matches(&edit.site.name, name);
        if self.edits.iter().any(edited) {
            return Asked::Edited;
        }
        match self.wanted.iter().any(|pattern| matches(pattern, name)) {
            true => Asked::Read,
            false => Asked::No,
        }
    }

    /// An activation comes by.
    pub(super) fn meet(&self, name: &str, tensor: Tensor, axes: Axes) -> Result<Tensor> {
        let mut tensor = tensor;
        for (at, edit) in self.edits.iter().enumerate() {
            if !matches(&edit.site.name, name) {
                continue;
            }
            let part = edit.site.part_of(name, &tensor, axes)?;
            {
                let mut met = self.met.borrow_mut();
                let met = &mut met.edits[at];
                met.named = true;
                if let (Some(first), Some(&tokens)) =
                    (axes.tokens_from, tensor.dims().get(axes.token_axis()))
                {
                    met.passes.push((first, (first + tokens).saturating_sub(1)));
                }
                if let Some(part) = &part {
                    met.changed = true;
                    met.tokens.extend(part.whole_tokens());
                }
            }
            if let Some(part) = part {
                tensor = edit.change.applied(name, &tensor, &part)?;
            }
        }
        let mut met = self.met.borrow_mut();
        if met.known.insert(name.to_owned()) {
            met.names.push(name.to_owned());
        }
        if self.wanted.iter().any(|pattern| matches(pattern, name)) {
            met.read.push(name, axes, tensor.detach());
        }
        Ok(tensor)
    }

    /// What was read, if every edit and every name met something.
    pub(super) fn finish(&self) -> Result<Activations> {
        let met = self.met.borrow();
        let missing = |name: &str| Error::NoSuchActivation {
            name: name.to_owned(),
            nearest: nearest(name, &met.names),
        };
        for pattern in &self.wanted {
            if !met.names.iter().any(|name| matches(pattern, name)) {
                return Err(missing(pattern));
            }
        }
        for (edit, met) in self.edits.iter().zip(&met.edits) {
            if !met.named {
                return Err(missing(&edit.site.name));
            }
            let left: Vec<usize> = match &edit.site.tokens {
                Tokens::At(tokens) => {
                    let left = tokens.iter().copied();
                    left.filter(|token| !met.tokens.contains(token)).collect()
                }
                Tokens::From(_) | Tokens::All => Vec::new(),
            };
            let what = match (&edit.site.tokens, met.changed) {
                (Tokens::At(_), _) if !left.is_empty() => numbered("token", &left),
                (_, true) => continue,
                (Tokens::From(token), false) => format!("token from {token} on"),
                (_, false) => "part that the edit is about".to_owned(),
            };
            return Err(Error::NotInPass {
                name: edit.site.name.clone(),
                what,
                has: passes(&met.passes),
            });
        }
        Ok(met.read.clone())
    }
}

/// What tokens the passes were over.
fn passes(passes: &[(usize, usize)]) -> String {
    let mut spans = passes.iter().map(|(first, last)| match first == last {
        true => format!("token {first}"),
        false => format!("tokens {first} to {last}"),
    });
    let shown: Vec<String> = spans.by_ref().take(3).collect();
    let more = spans.count();
    let more = match more {
        0 => String::new(),
        more => format!(", … ({more} more)"),
    };
    match shown.is_empty() {
        true => "it has no tokens at all".to_owned(),
        false => format!(
            "it is computed for {}{more}; tokens before them that stand in a cache can't be edited any more",
            shown.join(", ")
        ),
    }
}

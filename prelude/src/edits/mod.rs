//! Interventions: a forward pass in which named activations are read, zeroed, scaled, replaced, patched from another run or changed
//! by a function of one's own.
//!
//! ```text
//! Edits: [site, change], … ─ run(pass) ─► inside of the pass every model calls `activation(name, tensor)` ─► the rest reads
//!     what comes back; what no pass has is an error with the nearest names
//! ```
//! Names are those of the stage trace. The edits hold for everything that the closure runs on this thread: a forward pass, a loss, a
//! whole generation. Without edits a pass runs the same operations as if this module were not there.
//!
//! Fused attention never has its weights, nor turned queries and keys: where they are to be read they are computed beside it, and where
//! they are to be changed the pass takes the form that has them, whose sums are rounded otherwise.
//!
//! # Layout
//! - `point`: where models call: [`activation`], and what a point has (tokens, heads)
//! - `site`: which part of which activation an edit is about: layer, heads, tokens, row of the batch
//! - `activations`: what was read, by name
//! - `change`: what an edit makes of a tensor; `scope`: the edits that hold, and what they have met; `names`: patterns and nearest names

mod activations;
mod change;
mod names;
pub(crate) mod point;
mod scope;
pub(crate) mod site;

pub use activations::Activations;
pub use point::activation;
pub(crate) use point::{Asked, Axes, activation_at, are_on, asked, within, within_encoder};
pub use site::Site;

use crate::Result;
use crate::display::facts::debug_by_first_line;
use crate::display::{MimeBundle, Render};
use candle_core::Tensor;
use change::{Change, Edit};
use scope::Scope;
use std::sync::Arc;

/// Edits that a list shows of itself.
const SHOWN: usize = 20;

/// Changes to named activations, in the order in which they are made. Cheap to clone.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let prompt = vlm.caption_prompt(&Image::filled(64, 64, [200, 30, 40])?, "a red square")?;
/// let without = Edits::new().zero(Site::heads("llm", 1).head(2)); // head 2 of the language model's layer 1
/// let loss = without.run(|| vlm.full_sequence_loss_of(&prompt))?;
/// # assert_ne!(loss.value()?, vlm.full_sequence_loss_of(&prompt)?.value()?);
///
/// let (_, seen) = Edits::new().read(&["llm/hidden_states[*]"], || vlm.full_sequence_loss_of(&prompt))?;
/// let layers = seen.names().count(); // the embeddings, then what each layer gives
/// # assert_eq!(layers, vlm.llm.layers.len() + 1);
///
/// let typo = Edits::new().zero("llm/hidden_state[1]").run(|| vlm.full_sequence_loss_of(&prompt));
/// # assert!(typo.is_err_and(|error| error.to_string().contains("llm/hidden_states[1]")));
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct Edits(Vec<Edit>);

impl Edits {
    /// None so far.
    pub fn new() -> Self {
        Self::default()
    }

    fn with(mut self, site: impl Into<Site>, change: Change) -> Self {
        self.0.push(Edit {
            site: site.into(),
            change,
        });
        self
    }

    /// Puts zeros there.
    pub fn zero(self, site: impl Into<Site>) -> Self {
        self.with(site, Change::Scale(0.0))
    }

    /// Multiplies what is there.
    pub fn scale(self, site: impl Into<Site>, factor: f64) -> Self {
        self.with(site, Change::Scale(factor))
    }

    /// Puts `values` there. Their shape is that of the part which the site names, `[B, tokens, width]`; where they have fewer axes,
    /// or 1 in one, they are repeated: one vector `[width]` stands at all tokens. A variable keeps its gradient.
    pub fn replace(self, site: impl Into<Site>, values: &Tensor) -> Self {
        self.with(site, Change::Replace(values.clone()))
    }

    /// Adds `values` to what is there: a direction `[width]`, say. Shapes as for [`Edits::replace`].
    pub fn add(self, site: impl Into<Site>, values: &Tensor) -> Self {
        self.with(site, Change::Add(values.clone()))
    }

    /// Puts there what stands at the same place of the same activation in another run.
    pub fn patch(self, site: impl Into<Site>, from: &Activations) -> Self {
        self.with(site, Change::Patch(from.clone()))
    }

    /// Puts there what `change` makes of what is there, of the same shape.
    pub fn map(
        self,
        site: impl Into<Site>,
        change: impl Fn(&Tensor) -> Result<Tensor> + Send + Sync + 'static,
    ) -> Self {
        self.with(site, Change::Map(Arc::new(change)))
    }

    /// Runs `pass` with these edits: everything that it computes on this thread, on every model. Inside of another [`Edits::run`]
    /// those of both hold, the outer ones first.
    ///
    /// # Errors
    /// Those of `pass`; [`Error::NoSuchActivation`](crate::Error::NoSuchActivation) for a site that nothing in it has, with the
    /// nearest names; [`Error::NotInPass`](crate::Error::NotInPass) for tokens, heads or rows that are not there;
    /// [`Error::ActivationShape`](crate::Error::ActivationShape) for values of another shape.
    pub fn run<T>(&self, pass: impl FnOnce() -> Result<T>) -> Result<T> {
        Ok(self.read(&[], pass)?.0)
    }

    /// As [`Edits::run`]; also gives the activations of these names as the rest of the model reads them, behind the edits. `*` in a
    /// name stands for anything: `"*"` reads, and so lists, all that there are.
    ///
    /// # Errors
    /// As [`Edits::run`], and for a name that nothing in the pass has.
    pub fn read<T>(
        &self,
        names: &[&str],
        pass: impl FnOnce() -> Result<T>,
    ) -> Result<(T, Activations)> {
        let scope = Scope::new(self.0.clone(), names);
        let value = scope.hold(pass)?;
        Ok((value, scope.finish()?))
    }
}

impl Render for Edits {
    fn render(&self) -> MimeBundle {
        let mut lines: Vec<String> = self.0.iter().take(SHOWN).map(ToString::to_string).collect();
        if self.0.len() > SHOWN {
            lines.push(format!("… and {} more", self.0.len() - SHOWN));
        }
        MimeBundle::text(match lines.is_empty() {
            true => "no edits".to_owned(),
            false => lines.join("\n"),
        })
    }
}

impl Render for Site {
    fn render(&self) -> MimeBundle {
        MimeBundle::text(self.to_string())
    }
}

debug_by_first_line!(Edits, Activations);

#[cfg(test)]
mod tests;

//! Where models meet edits: they pass each activation by name, and go on with what comes back.
//!
//! ```text
//! let _at = within(|| "layers[3]".into());            a part of the name, as long as it lives
//! let x = activation("mine", x)?;                      image_encoder/layers[3]/mine
//! ```

use super::scope::Scope;
use crate::Result;
use candle_core::Tensor;
use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::rc::Rc;

thread_local! {
    /// How many [`super::Edits::run`] this thread is in: the one thing that a pass without edits looks at.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    static SCOPES: RefCell<Vec<Rc<Scope>>> = const { RefCell::new(Vec::new()) };
    static PATH: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Whether this thread is inside of a pass with edits.
pub(crate) fn are_on() -> bool {
    DEPTH.get() > 0
}

/// What the axes of an activation are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Axes {
    /// The place in its sequence of the first token along the axis before the last; `None` where that axis is something else.
    pub tokens_from: Option<usize>,
    /// Where heads are.
    pub heads: Heads,
}

/// Where the heads of an activation are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Heads {
    /// It has none.
    #[default]
    None,
    /// Side by side along the last axis, each of this width: `[B, T, H·d]`.
    SideBySide(usize),
    /// An axis of their own, before queries and keys: `[B, H, Tq, Tk]`.
    OwnAxis,
}

impl Axes {
    /// `[B, T, ..]`, whose first token is the sequence's token `first`.
    pub fn tokens(first: usize) -> Self {
        Self {
            tokens_from: Some(first),
            heads: Heads::None,
        }
    }

    /// `[B, T, H·d]`.
    pub fn heads(self, head_dim: usize) -> Self {
        Self {
            heads: Heads::SideBySide(head_dim),
            ..self
        }
    }

    /// `[B, H, Tq, Tk]`, of the same queries.
    pub fn weights(self) -> Self {
        Self {
            heads: Heads::OwnAxis,
            ..self
        }
    }

    /// The axis of the tokens: 2 of attention weights, else 1.
    pub fn token_axis(self) -> usize {
        match self.heads {
            Heads::OwnAxis => 2,
            Heads::None | Heads::SideBySide(_) => 1,
        }
    }

    /// `[B, ..]`.
    pub fn rows() -> Self {
        Self::default()
    }
}

/// Passes an activation of a model of one's own by [`Edits`](super::Edits): gives it back as they leave it, and lets it be read under
/// `name`, inside of an encoder below `image_encoder/`. An activation of three axes is `[B, tokens, width]`.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let double = |x: &Tensor| activation("doubled", (x * 2.0)?);
/// let x = Tensor::ones((1, 2, 3), DType::F32, &Device::Cpu)?;
/// let halved = Edits::new().scale(Site::new("doubled").token(1), 0.5).run(|| double(&x))?;
/// assert_eq!(halved.to_vec3::<f32>()?[0], [[2.0; 3], [1.0; 3]]);
/// # Ok(()) }
/// ```
///
/// # Errors
/// When an edit of it does not fit.
pub fn activation(name: &str, tensor: Tensor) -> Result<Tensor> {
    let axes = match tensor.rank() {
        3 => Axes::tokens(0),
        _ => Axes::rows(),
    };
    activation_at(name, tensor, axes)
}

/// As [`activation`], of known axes. The name is spelled only where somebody asks.
pub(crate) fn activation_at(name: impl Display, tensor: Tensor, axes: Axes) -> Result<Tensor> {
    if !are_on() {
        return Ok(tensor);
    }
    let name = whole_name(name);
    // Not borrowed while edits run: one may run a pass of its own.
    let scopes = SCOPES.with_borrow(Clone::clone);
    let mut tensor = tensor;
    for scope in scopes {
        tensor = scope.meet(&name, tensor, axes)?;
    }
    Ok(tensor)
}

/// A name behind the parts that it is within.
fn whole_name(name: impl Display) -> String {
    PATH.with_borrow(|path| {
        let mut whole = path.join("/");
        if !whole.is_empty() {
            whole.push('/');
        }
        format!("{whole}{name}")
    })
}

/// What is asked of an activation in this pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asked {
    /// Nothing: it need not be computed.
    No,
    /// To be read: it may be computed beside the pass.
    Read,
    /// To be changed: the pass must go through it.
    Edited,
}

/// What is asked of an activation that a pass computes only where somebody asks, as fused attention does its weights. That it could
/// be asked for is remembered for messages.
pub(crate) fn asked(name: impl Display) -> Asked {
    if !are_on() {
        return Asked::No;
    }
    let name = whole_name(name);
    let scopes = SCOPES.with_borrow(Clone::clone);
    let asked = scopes.iter().map(|scope| scope.asks(&name));
    asked.max().unwrap_or(Asked::No)
}

/// What stands before the names of activations as long as this lives.
pub(crate) struct Within(bool);

/// Puts a part before the names that follow.
pub(crate) fn within(part: impl FnOnce() -> String) -> Within {
    let on = are_on();
    if on {
        PATH.with_borrow_mut(|path| path.push(part()));
    }
    Within(on)
}

/// An encoder on its own is the model's first; within a model the model has said which it is.
pub(crate) fn within_encoder() -> Within {
    let named = PATH.with_borrow(|path| !path.is_empty());
    match named {
        true => Within(false),
        false => within(|| "image_encoder".to_owned()),
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        if self.0 {
            PATH.with_borrow_mut(|path| path.pop());
        }
    }
}

/// Lets `scope` hold while `pass` runs, also when it panics.
pub(super) fn held<T>(scope: Rc<Scope>, pass: impl FnOnce() -> T) -> T {
    struct Held(Vec<String>);
    impl Drop for Held {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get() - 1);
            SCOPES.with_borrow_mut(|scopes| scopes.pop());
            PATH.set(std::mem::take(&mut self.0));
        }
    }
    DEPTH.set(DEPTH.get() + 1);
    SCOPES.with_borrow_mut(|scopes| scopes.push(scope));
    // A pass within an edit of another begins with names of its own.
    let _held = Held(PATH.take());
    pass()
}

//! A setting that can be read and not assigned: what acts on it has a method for changing it.
//!
//! A field that could be assigned without an effect would be a lie: the layers were made from it long ago.

use std::fmt;
use std::ops::Deref;

use crate::display::{MimeBundle, Render};

/// A value that can be read, `vlm.settings.targets`, but not assigned: assigning a part of it does not compile. The owner's
/// documentation says what changes it. It reads, compares, shows and clones as the value inside.
///
/// ```compile_fail
/// use glassbox_prelude::prelude::*;
/// let mut vlm = Vlm::tiny(&Device::Cpu).unwrap();
/// vlm.settings.adapters = AdapterTraining::Frozen; // use vlm.set_adapters(..)
/// ```
// It is not `Clone`, so that `vlm.settings.clone()` is a clone of the settings, which can be changed.
pub struct ReadOnly<T>(T);

impl<T> ReadOnly<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(value)
    }

    /// The value, for the code that makes the change true.
    pub(crate) fn change(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Clone> ReadOnly<T> {
    /// Another one, for a clone of the owner.
    pub(crate) fn again(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Deref for ReadOnly<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: fmt::Debug> fmt::Debug for ReadOnly<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: PartialEq> PartialEq for ReadOnly<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T: PartialEq> PartialEq<T> for ReadOnly<T> {
    fn eq(&self, other: &T) -> bool {
        self.0 == *other
    }
}

impl<T: Render> Render for ReadOnly<T> {
    fn render(&self) -> MimeBundle {
        self.0.render()
    }
}

//! What commands ask of the engine, besides running Rust.

use std::collections::BTreeMap;
use std::path::Path;

use super::dependencies::Added;
use super::{Done, EvalError, RustcEngine, State};
use crate::session::reports::Diagnostic;

impl RustcEngine {
    /// Forgets all variables, items and crates, and starts a new process.
    pub(crate) fn clear(&mut self) -> Result<(), EvalError> {
        self.state = State {
            items: self.base.clone(),
            ..State::default()
        };
        self.listing_types = None;
        self.compiler.crates = Added::default();
        self.compiler.crates_used = false;
        self.analyst.depend(&self.state.crates.wanted);
        self.restart()
    }

    /// Starts the process that runs cells anew: variables go, items are kept.
    pub(crate) fn restart(&mut self) -> Result<(), EvalError> {
        self.state.variables.clear();
        self.process.restart().map_err(|error| {
            EvalError::Refused(format!(
                "the process that runs cells cannot be started: {error}"
            ))
        })
    }

    /// Adds a crate, or changes how one was added, with the next [`RustcEngine::add_waiting`].
    pub(crate) fn depend(&mut self, name: String, config: String) {
        let wanted = &self.state.crates.wanted;
        let waiting = self.waiting.get_or_insert_with(|| wanted.clone());
        waiting.insert(name, config);
    }

    /// Builds the crates that wait for it, together.
    pub(crate) fn add_waiting(&mut self, done: &mut Done) -> Result<(), EvalError> {
        match self.waiting.take() {
            Some(wanted) => self.add_crates(&wanted, &mut done.notes),
            None => Ok(()),
        }
    }

    /// The crates that were added, as in a manifest.
    pub(crate) fn dependencies(&self) -> &BTreeMap<String, String> {
        &self.state.crates.wanted
    }

    /// The type of a variable or an expression, which is not run.
    pub(crate) fn type_of(&mut self, expression: &str) -> Result<Option<String>, String> {
        let found = self.variables().find(|(name, _)| *name == expression);
        match found {
            Some((_, ty)) => Ok(Some(ty)),
            None => self.questions().type_of(expression),
        }
    }

    /// The items that are set aside: the text of each, and what is said of it.
    pub(crate) fn set_aside(&self) -> Vec<(String, String)> {
        let aside = self.state.items.aside.iter();
        aside
            .map(|aside| (aside.item.code.clone(), aside.sentence()))
            .collect()
    }

    /// The statics whose values a process held that ended just now.
    pub(crate) fn lost_statics(&self) -> Vec<String> {
        self.state.statics.told()
    }

    /// How much cells are optimised, as rustc says it.
    pub(crate) fn opt_level(&self) -> &str {
        &self.compiler.opt_level
    }

    /// Sets how much cells are optimised.
    pub(crate) fn set_opt_level(&mut self, level: &str) {
        level.clone_into(&mut self.compiler.opt_level);
    }

    /// Shows how long the phases of cells take, or no longer. Returns which.
    pub(crate) fn switch_timing(&mut self) -> bool {
        self.timing = !self.timing;
        self.timing
    }

    /// Sets a variable of the environment of the process that runs cells, which is started anew.
    pub(crate) fn set_env(&mut self, key: &str, value: &str) -> Result<(), EvalError> {
        self.process.set_env(key, value);
        self.restart()
    }

    /// The errors of the last cell that did not compile.
    pub(crate) fn last_errors(&self) -> &[Diagnostic] {
        &self.last_errors
    }

    /// What rustc has to say of the last errors.
    pub(crate) fn explain(&self) -> Result<String, String> {
        let errors = self.last_errors.iter();
        let codes: Vec<&str> = errors.filter_map(Diagnostic::code).collect();
        self.compiler.explain(&codes)
    }

    /// The folder of the last compilation.
    pub(crate) fn last_folder(&self) -> &Path {
        self.compiler.folder()
    }
}

//! Learns anew how the types of variables are written, where the file of what was learnt may be wrong.
//!
//! ```text
//! a cell fails, or finds another type in the store ─▶ its variables whose types only the file knows how to write
//!     ─ rustc lists the cell that made them ─▶ written otherwise: the cell is compiled again, and the file is mended
//! ```
//! The file saves a call of rustc for each type and session; so what it says is believed until a cell fails.

use std::sync::Arc;

use super::types::Type;
use super::{RustcEngine, State};

impl RustcEngine {
    /// Has rustc say how the types of these variables are written, if only the file has said so yet; whether that changed any.
    pub(super) fn prove(&mut self, state: &mut State, names: &[String]) -> bool {
        let origins = names.iter().filter_map(|name| {
            let variable = self.state.variables.get(name)?;
            variable.origin.clone()
        });
        let mut sources: Vec<Arc<str>> = origins.collect();
        sources.sort();
        sources.dedup();
        let mut changed = false;
        for source in sources {
            changed |= self.prove_cell(state, &source);
        }
        if changed {
            self.names.save();
        }
        changed
    }

    /// The same for all variables that one cell made.
    fn prove_cell(&mut self, state: &mut State, source: &Arc<str>) -> bool {
        let Ok(listed) = self.compiler.list_types(source) else {
            return false;
        };
        let mut changed = false;
        for (name, variable) in &mut self.state.variables {
            if variable.origin.as_ref() != Some(source) {
                continue;
            }
            variable.origin = None;
            if let Some(listed) = listed.get(name) {
                self.names.unlearn_unproven(&variable.text);
                self.names.learn(&variable.type_name, listed);
                if let Type::Named(written) = self.names.resolve(&variable.text) {
                    changed |= variable.written.as_ref() != Some(&written);
                    variable.written = Some(written);
                }
            }
            // The cell that is compiled now has its own list.
            if let Some(copy) = state.variables.get_mut(name) {
                copy.clone_from(variable);
            }
        }
        changed
    }
}

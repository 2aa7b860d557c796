//! Compiles a cell, and again where the compiler objects to generated lines: each is known by what it is for, so the objection
//! says what is true of the cell. A cell that misses something is compiled with all items before it is called wrong.

use std::path::PathBuf;

use glassbox_wire::names::INTERRUPT_FILE;

use super::clock::Clock;
use super::compiler::{Failure, Goal};
use super::dependencies::RUNTIME;
use super::notes::{Note, borrows, unwritable};
use super::source::{Line, Plan, Show, Source, Use};
use super::statics::{Sharing, Statics};
use super::trail::Trails;
use super::{Done, EvalError, RustcEngine, State, hidden};
use crate::session::reports::Diagnostic;

/// Errors by which the compiler says that a new variable holds a reference to something that does not live on.
const BORROWED: [&str; 8] = [
    "E0373", "E0499", "E0502", "E0505", "E0506", "E0521", "E0597", "E0716",
];
/// Errors that no further item can explain.
const COMPLETE: [&str; 16] = [
    "E0061", "E0106", "E0308", "E0373", "E0381", "E0382", "E0384", "E0499", "E0502", "E0505",
    "E0506", "E0521", "E0596", "E0597", "E0716", "E0728",
];
/// So often is a cell compiled again because of what the compiler said of generated lines.
const ATTEMPTS: usize = 12;

impl RustcEngine {
    /// Compiles a cell, and again as long as what the compiler says concerns only generated lines that can be helped.
    pub(super) fn compile(
        &mut self,
        state: &mut State,
        plan: &mut Plan,
        clock: &mut Clock,
        done: &mut Done,
    ) -> Result<(Source, Option<PathBuf>), EvalError> {
        let written = self.written(state);
        plan.find_uses(&written);
        let mut needed = state.items.needed(plan.words(&written));
        let mut attempts = 0;
        // What was wrong before anything was set aside.
        let mut first: Vec<String> = Vec::new();
        let mut sharing = Sharing::default();
        let mut trails = Trails::default();
        while attempts < ATTEMPTS {
            let items = needed.as_ref().unwrap_or(&state.items);
            let mut source = plan.source(items, &self.written(state));
            state.statics.share(&mut source, self.cells + 1, &sharing);
            trails.write(&mut source);
            self.last_source.clone_from(&source.text);
            let goal = match source.function {
                Some(_) => Goal::Library,
                None => Goal::Check,
            };
            match self.compiler.compile(&source.text, goal) {
                Ok(compiled) => {
                    clock.add(self.compiler_phase(), compiled.rustc);
                    if compiled.library.is_some() {
                        clock.add("link", compiled.link);
                    }
                    self.cells += 1;
                    state.statics.keep(&sharing);
                    done.notes
                        .extend(sharing.objection(&state.statics, &source));
                    if let Some(library) = &compiled.library
                        && Statics::may_hide(&state.items, !state.crates.wanted.is_empty())
                    {
                        let found = hidden::statics(library);
                        done.notes.extend(state.statics.hidden(found));
                    }
                    return Ok((source, compiled.library));
                }
                Err(Failure::Broken(_)) if self.session.join(INTERRUPT_FILE).exists() => {
                    return Err(EvalError::Interrupted);
                }
                Err(Failure::Broken(reason)) => return Err(EvalError::Refused(reason)),
                Err(Failure::Errors(errors)) => {
                    clock.lap(self.compiler_phase());
                    if needed.is_some() && errors.iter().any(may_miss_an_item) {
                        needed = None;
                        continue;
                    }
                    if trails.learn(&source, &errors) || sharing.learn(&source, &errors) {
                        continue;
                    }
                    if first.is_empty() {
                        first = errors.iter().map(|error| error.message.clone()).collect();
                    }
                    // Each time there are fewer items, so this ends.
                    if state.items.give_way(&errors, &source) {
                        sharing.again();
                        let words = plan.words(&written);
                        needed = needed.and_then(|_| state.items.needed(words));
                        continue;
                    }
                    let used: Vec<String> = plan.uses.keys().cloned().collect();
                    if self.prove(state, &used) {
                        sharing.again();
                        continue;
                    }
                    attempts += 1;
                    if !self.help(state, plan, &source, &errors, &mut done.notes)? {
                        let mut errors = own(errors, &source);
                        for error in &mut errors {
                            error.without_strangers(&source.text);
                        }
                        state
                            .items
                            .explain_aside(&mut errors, &first, &self.state.items);
                        return Err(EvalError::Errors(errors));
                    }
                    sharing.again();
                }
            }
        }
        Err(EvalError::Refused(
            "the compiler goes on objecting to the code around the cell".to_owned(),
        ))
    }

    /// Changes plan or state so that errors in generated lines go away; says whether it could.
    fn help(
        &mut self,
        state: &mut State,
        plan: &mut Plan,
        source: &Source,
        errors: &[Diagnostic],
        notes: &mut Vec<Note>,
    ) -> Result<bool, EvalError> {
        let mut helped = false;
        for error in errors {
            let code = error.code().unwrap_or_default();
            if code == "E0728" && !plan.is_async {
                plan.is_async = true;
                if !state.crates.externs.contains_key(RUNTIME) {
                    let config = r#"{ version = "1", features = ["rt", "rt-multi-thread"] }"#;
                    let mut wanted = state.crates.wanted.clone();
                    wanted
                        .entry("tokio".to_owned())
                        .or_insert_with(|| config.to_owned());
                    self.add_crates(&wanted, notes)?;
                    self.share_crates(state);
                }
                helped = true;
                continue;
            }
            // The main place may be where the value that is borrowed from is put; the others tell who borrows.
            let borrowed = error
                .other_lines()
                .chain(error.primary_line())
                .find_map(|line| match source.lines.get(&line) {
                    Some(Line::Put(name)) if BORROWED.contains(&code) => Some(name),
                    _ => None,
                });
            if let Some(name) = borrowed {
                if plan.defines(name) {
                    plan.drop_new(name);
                    notes.push(borrows(name, plan.made(name)));
                    helped = true;
                }
                continue;
            }
            let line = error
                .primary_line()
                .and_then(|line| source.lines.get(&line));
            match (line, code) {
                // The value is moved, or was never there.
                (Some(Line::PutBack(name)), "E0382" | "E0381") => {
                    let renews = plan.uses.get(name) == Some(&Use::Borrowed) && plan.assigns(name);
                    let how = if renews { Use::Renewed } else { Use::Consumed };
                    helped |= plan.uses.insert(name.clone(), how) != Some(how);
                }
                (Some(Line::Put(name)), "E0382" | "E0381" | "E0425" | "E0423" | "E0532") => {
                    helped |= plan.defines(name);
                    plan.drop_new(name);
                }
                (Some(Line::Take(name)), _) => {
                    let known = self.state.variables.get(name);
                    let written = known.and_then(|variable| variable.written.as_ref());
                    if let Some(why) = written.and_then(|ty| state.items.aside_in(&ty.code)) {
                        return Err(EvalError::Refused(format!(
                            "`{name}` cannot be used now: {why}"
                        )));
                    }
                    let Some(variable) = self.state.variables.remove(name) else {
                        continue;
                    };
                    self.names.unlearn(&variable.text);
                    self.names.save();
                    self.stale.push(name.clone());
                    return Err(EvalError::Refused(
                        unwritable(name, &variable.type_name).text,
                    ));
                }
                (Some(Line::Show), "E0599") if plan.show == Show::Best => {
                    plan.show = Show::Debug;
                    helped = true;
                }
                _ => {}
            }
        }
        Ok(helped)
    }
}

/// Whether the error may come of an item that the cell was compiled without.
fn may_miss_an_item(error: &Diagnostic) -> bool {
    !error.code().is_some_and(|code| COMPLETE.contains(&code))
}

/// The errors in the cell itself if there are any; else all, with what errors in generated lines mean.
fn own(errors: Vec<Diagnostic>, source: &Source) -> Vec<Diagnostic> {
    let generated = |error: &Diagnostic| {
        let line = error.primary_line()?;
        source.lines.get(&line)
    };
    let (inner, outer): (Vec<Diagnostic>, Vec<Diagnostic>) = errors
        .into_iter()
        .partition(|error| generated(error).is_some());
    if outer.is_empty() { inner } else { outer }
}

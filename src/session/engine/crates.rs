//! Adding crates to a session: they are built while a display says how far that is, and what they change is accounted for.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::time::{Duration, Instant};

use glassbox_wire::names::STDOUT_PIPE;
use glassbox_wire::{Bundle, Event};

use super::dependencies::{Failure, crates_in};
use super::notes::{Note, of_other_build, plain};
use super::{EvalError, RustcEngine, State};
use crate::session::child::tell::send_into;

/// In a session's folder: the versions of the crates that it added.
pub(super) const LOCK: &str = "crates.lock";
/// What takes no longer is not told of.
const UNTOLD: Duration = Duration::from_millis(400);
/// So often at most is the display changed.
const RATE: Duration = Duration::from_millis(100);

impl RustcEngine {
    /// Adds crates, so that the session has those that are `wanted`; if it can't, everything stays as it was.
    pub(super) fn add_crates(
        &mut self,
        wanted: &BTreeMap<String, String>,
        notes: &mut Vec<Note>,
    ) -> Result<(), EvalError> {
        let mut progress = Progress::new(&self.session, &self.nonce);
        let changed = self
            .workshop
            .add(&self.state.crates, wanted, &mut |said| progress.say(said));
        progress.end(changed.is_ok());
        let change = changed.map_err(|failure| match failure {
            Failure::Interrupted => EvalError::Interrupted,
            Failure::Refused(words) => EvalError::Refused(words),
        })?;
        notes.extend(change.notes.into_iter().map(plain));
        self.account_for_rebuilt(&change.rebuilt, notes);
        if let Some(lock) = &change.added.lock {
            // Without it completion may know other versions.
            let _ = std::fs::copy(lock, self.session.join(LOCK));
        }
        self.compiler.crates.clone_from(&change.added);
        self.analyst.depend(&change.added.wanted);
        self.state.crates = change.added;
        Ok(())
    }

    /// Tells a state that was copied from the session's of crates that the session has since added.
    pub(super) fn share_crates(&self, state: &mut State) {
        state.crates.clone_from(&self.state.crates);
        state.statics.agree(&self.state.statics);
        state
            .variables
            .retain(|name, _| self.state.variables.contains_key(name));
    }

    /// Lets go of the variables whose types are of crates that were built anew.
    fn account_for_rebuilt(&mut self, rebuilt: &BTreeSet<String>, notes: &mut Vec<Note>) {
        if rebuilt.is_empty() || !self.compiler.crates_used {
            return;
        }
        let lost: Vec<(String, String)> = self
            .state
            .variables
            .iter()
            .filter_map(|(name, variable)| {
                let heads = crates_in(&variable.type_name);
                let krate = heads.into_iter().find(|krate| rebuilt.contains(*krate))?;
                Some((name.clone(), krate.to_owned()))
            })
            .collect();
        let names: Vec<String> = rebuilt.iter().map(|name| format!("`{name}`")).collect();
        notes.push(plain(format!(
            "built anew, so their statics begin anew: {}; what earlier cells started on them goes on with the old ones",
            names.join(", ")
        )));
        notes.extend(self.state.statics.rebuilt(rebuilt, &self.state.items));
        for (name, krate) in lost {
            self.state.variables.remove(&name);
            self.stale.push(name.clone());
            notes.push(of_other_build(&name, &krate));
        }
    }
}

/// A line that says how far a build is, in one display that is written anew.
struct Progress {
    pipe: Option<File>,
    nonce: String,
    id: String,
    begin: Instant,
    told: Option<Instant>,
    last: String,
    /// What was said last, told or not.
    said: String,
}

impl Progress {
    fn new(session: &Path, nonce: &str) -> Progress {
        let pipe = OpenOptions::new()
            .write(true)
            .open(session.join(STDOUT_PIPE));
        Progress {
            pipe: pipe.ok(),
            nonce: nonce.to_owned(),
            id: format!("crates-{}", uuid::Uuid::new_v4().simple()),
            begin: Instant::now(),
            told: None,
            last: String::new(),
            said: String::new(),
        }
    }

    /// Tells `what`, or what was said before if it is empty: what came too early to be told is told once it has lasted.
    fn say(&mut self, what: &str) {
        if !what.is_empty() {
            what.clone_into(&mut self.said);
        }
        let since = self.told.unwrap_or(self.begin).elapsed();
        let pause = if self.told.is_some() { RATE } else { UNTOLD };
        if self.said != self.last && since >= pause {
            self.last.clone_from(&self.said);
            self.show(&self.last.clone());
        }
    }

    fn end(&mut self, well: bool) {
        if self.told.is_some() {
            let seconds = self.begin.elapsed().as_secs_f64();
            self.show(&match well {
                true => format!("crates ready after {seconds:.1} s"),
                false => format!("no crates added, after {seconds:.1} s"),
            });
        }
    }

    fn show(&mut self, text: &str) {
        let mut bundle = Bundle::default();
        bundle.data.insert("text/plain".to_owned(), text.into());
        let event = match self.told {
            Some(_) => Event::Update {
                bundle,
                display_id: self.id.clone(),
            },
            None => Event::Display {
                bundle,
                display_id: Some(self.id.clone()),
            },
        };
        if let Some(pipe) = &mut self.pipe {
            send_into(pipe, &self.nonce, &event);
        }
        self.told = Some(Instant::now());
    }
}

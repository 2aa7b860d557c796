//! Completion and inspection: from the analyst's words to what front ends show, also from other threads while a cell runs.
//!
//! ```text
//! code, cursor ─▶ analyst ─▶ Completions, Inspection
//! ```

use crate::session::engine::Questions;
use crate::session::error::SessionError;
use crate::session::{Completions, Inspection, commands};

/// Answers questions about code from any thread. Knows the cells before the one that runs. Cheap to clone.
#[derive(Clone)]
pub struct Aids {
    questions: Questions,
}

impl Aids {
    pub(crate) fn new(questions: Questions) -> Aids {
        Aids { questions }
    }

    /// Proposals for the cursor, which is a byte offset into `code`.
    ///
    /// # Errors
    /// [`SessionError::Engine`] if rust-analyzer refuses.
    pub fn complete(&self, code: &str, cursor_byte: usize) -> Result<Completions, SessionError> {
        completions(code, cursor_byte, |code, cursor| {
            self.questions.complete(code, cursor)
        })
    }

    /// What is known of the name at the cursor, or of the function in whose arguments it stands; `None` if nothing is.
    ///
    /// # Errors
    /// [`SessionError::Engine`] if rust-analyzer refuses.
    pub fn inspect(
        &self,
        code: &str,
        cursor_byte: usize,
    ) -> Result<Option<Inspection>, SessionError> {
        inspection(code, cursor_byte, |code, cursor| {
            self.questions.inspect(code, cursor)
        })
    }
}

/// Asks `propose` what can stand at a byte, and adds the commands of the session.
pub(crate) fn completions(
    code: &str,
    cursor_byte: usize,
    propose: impl FnOnce(&str, usize) -> Result<Completions, String>,
) -> Result<Completions, SessionError> {
    let cursor = code.floor_char_boundary(cursor_byte);
    let mut found =
        propose(&commands::code_of(code, Some(cursor)), cursor).map_err(SessionError::Engine)?;
    commands::complete(code, cursor, &mut found);
    Ok(found)
}

/// Asks `explain` about what is at a byte.
pub(crate) fn inspection(
    code: &str,
    cursor_byte: usize,
    explain: impl FnOnce(&str, usize) -> Result<Option<Inspection>, String>,
) -> Result<Option<Inspection>, SessionError> {
    let cursor = code.floor_char_boundary(cursor_byte);
    explain(&commands::code_of(code, Some(cursor)), cursor).map_err(SessionError::Engine)
}

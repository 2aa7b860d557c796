//! Completion and inspection: from the analyst's words to what front ends show, also from other threads while a cell runs.
//!
//! ```text
//! code, cursor ─▶ targets ─▶ analyst ─▶ Completions, Inspection
//! ```

use super::direct::Questions;
use super::error::SessionError;
use super::targets::targets;
use super::{Completion, Completions, Inspection, magic};

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
        inspection(code, cursor_byte, |end| self.questions.hover(code, end))
    }
}

/// Asks `propose` what can stand at a byte, and adds the commands of the session.
pub(crate) fn completions(
    code: &str,
    cursor_byte: usize,
    propose: impl FnOnce(&str, usize) -> Result<evcxr::Completions, String>,
) -> Result<Completions, SessionError> {
    let cursor = code.floor_char_boundary(cursor_byte);
    let found = propose(&magic::code_of(code), cursor).map_err(SessionError::Engine)?;
    let items = found.completions.into_iter().map(|item| Completion {
        text: item.code,
        label: item.label,
        kind: item.kind,
    });
    let mut completions = Completions {
        start: found.start_offset,
        end: found.end_offset,
        items: items.collect(),
    };
    magic::complete(code, cursor, &mut completions);
    Ok(completions)
}

/// Asks `hover` for text and HTML about what ends at a byte, until it knows something.
pub(crate) fn inspection(
    code: &str,
    cursor_byte: usize,
    mut hover: impl FnMut(usize) -> Result<(String, String), String>,
) -> Result<Option<Inspection>, SessionError> {
    let code = &*magic::code_of(code);
    let mut refused = None;
    for end in targets(code, code.floor_char_boundary(cursor_byte)) {
        match hover(end) {
            Ok((plain, html)) if plain != "No documentation found" => {
                // evcxr keeps the Markdown to itself; text is valid Markdown.
                let markdown = format!("```text\n{plain}\n```");
                return Ok(Some(Inspection {
                    plain,
                    markdown,
                    html,
                }));
            }
            Ok(_) => {}
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) => Err(SessionError::Engine(error)),
        None => Ok(None),
    }
}

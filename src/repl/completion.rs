//! Completion while typing: a thread asks the session, the editor goes on meanwhile.
//!
//! ```text
//! Tab ─▶ Names::complete ─▶ question ─▶ thread ─▶ session's aids ─▶ answer ─▶ Names::poll_completion ─▶ menu
//! ```
//! The first question waits for rust-analyzer to start. What is typed while the menu is open picks from the answer that
//! is there already.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};
use reedline::{Completer, CompletionResult, CompletionStatus, Span, Suggestion};

use super::{Shared, layout, lock};
use crate::session::Completions;

/// What Tab inserts where a line begins.
const INDENT: &str = "    ";

/// What the prompt and the completion know of each other. Clones are the same.
#[derive(Clone, Default)]
pub struct Waiting {
    on: Arc<AtomicBool>,
    /// Answers of an earlier one are out of date.
    line: Arc<AtomicUsize>,
}

impl Waiting {
    /// Whether an answer is waited for.
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Answers that were given until now don't count any more.
    pub fn forget(&self) {
        self.line.fetch_add(1, Ordering::Relaxed);
        self.on.store(false, Ordering::Relaxed);
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Question {
    code: String,
    cursor: usize,
    /// The line that it was asked in, as [`Waiting`] counts them.
    line: usize,
}

/// Names for the completion menu.
pub struct Names {
    questions: Sender<Question>,
    answers: Receiver<(Question, Completions)>,
    /// The question that the menu waits for.
    asked: Option<Question>,
    known: Option<(Question, Completions)>,
    waiting: Waiting,
}

impl Names {
    /// Names that `session` knows.
    pub fn new(session: &Shared, waiting: Waiting) -> Names {
        let (questions, inbox) = unbounded();
        let (outbox, answers) = unbounded();
        let session = Arc::clone(session);
        // Ends when the editor is dropped. Without the thread there are no proposals.
        let _ = std::thread::Builder::new()
            .name("completion".to_owned())
            .spawn(move || answer(&session, &inbox, &outbox));
        Names {
            questions,
            answers,
            asked: None,
            known: None,
            waiting,
        }
    }

    fn ask(&mut self, question: Question) -> CompletionResult {
        if self.asked.as_ref() != Some(&question) && self.questions.send(question.clone()).is_ok() {
            self.waiting.on.store(true, Ordering::Relaxed);
            self.asked = Some(question);
        }
        match &self.asked {
            Some(_) => CompletionResult::Pending,
            None => CompletionResult::fresh(Vec::new()),
        }
    }
}

/// Answers the latest question, then the latest of those that came meanwhile.
fn answer(
    session: &Shared,
    questions: &Receiver<Question>,
    answers: &Sender<(Question, Completions)>,
) {
    // rust-analyzer gets ready while the first line is typed.
    lock(session).aids();
    while let Ok(question) = questions.recv() {
        let question = questions.try_iter().last().unwrap_or(question);
        // The session is free at once: a cell need not wait for an answer that nobody wants any more.
        let aids = lock(session).aids();
        let found = aids.complete(&question.code, question.cursor);
        // What rust-analyzer refuses has no proposals.
        let found = found.unwrap_or_default();
        if answers.send((question, found)).is_err() {
            return;
        }
    }
}

impl Completer for Names {
    fn complete(&mut self, code: &str, cursor: usize) -> CompletionResult {
        let before = code.get(..cursor).unwrap_or_default();
        let begun = before.rsplit('\n').next().unwrap_or_default();
        // The only proposal is taken at once: Tab indents.
        if begun.trim().is_empty() && !before.is_empty() {
            return CompletionResult::fresh(vec![Suggestion {
                value: INDENT.to_owned(),
                span: Span::new(cursor, cursor),
                ..Suggestion::default()
            }]);
        }
        let question = Question {
            code: code.to_owned(),
            cursor,
            line: self.waiting.line.load(Ordering::Relaxed),
        };
        let known = self.known.as_ref();
        match known.and_then(|(asked, found)| narrowed(asked, found, &question)) {
            Some(found) => {
                let columns = usize::from(console::Term::stdout().size().1);
                CompletionResult::fresh(suggestions(&found, columns))
            }
            None => self.ask(question),
        }
    }

    fn poll_completion(&mut self) -> CompletionStatus {
        for answer in self.answers.try_iter() {
            if self.asked.as_ref() == Some(&answer.0) {
                self.known = Some(answer);
                self.asked = None;
                self.waiting.on.store(false, Ordering::Relaxed);
                return CompletionStatus::Ready;
            }
        }
        let line = self.waiting.line.load(Ordering::Relaxed);
        match &self.asked {
            Some(question) if question.line == line => CompletionStatus::Pending,
            _ => CompletionStatus::Idle,
        }
    }
}

/// What an answer says of another question: the same one, or one with more of the same name typed.
fn narrowed(asked: &Question, found: &Completions, question: &Question) -> Option<Completions> {
    if asked == question {
        return Some(found.clone());
    }
    let (start, end) = (found.start, found.end);
    let typed = question.code.get(start..question.cursor)?;
    let was_typed = asked.code.get(start..asked.cursor)?;
    let same = asked.line == question.line
        && asked.cursor == end
        && !was_typed.is_empty()
        && typed.starts_with(was_typed)
        && typed.chars().all(|c| c.is_alphanumeric() || c == '_')
        && asked.code.get(..start) == question.code.get(..start)
        && asked.code.get(asked.cursor..) == question.code.get(question.cursor..);
    same.then(|| Completions {
        start,
        end: question.cursor,
        items: found
            .items
            .iter()
            .filter(|item| item.text.starts_with(typed))
            .cloned()
            .collect(),
    })
}

fn suggestions(found: &Completions, columns: usize) -> Vec<Suggestion> {
    let rows = layout::rows(&found.items, columns);
    // The menu panics on a span that ends before it begins.
    let span = Span::new(found.start.min(found.end), found.end);
    let items = found.items.iter().zip(rows);
    items
        .map(|(item, row)| Suggestion {
            value: item.text.clone(),
            display_override: Some(row.text),
            description: row.more,
            span,
            ..Suggestion::default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Completion;

    fn question(code: &str) -> Question {
        Question {
            code: code.to_owned(),
            cursor: code.len(),
            line: 1,
        }
    }

    fn found(start: usize, end: usize, names: &[&str]) -> Completions {
        let item = |name: &&str| Completion {
            text: (*name).to_owned(),
            label: (*name).to_owned(),
            kind: "function",
            ..Completion::default()
        };
        Completions {
            start,
            end,
            items: names.iter().map(item).collect(),
        }
    }

    fn narrowed_to(from: &str, to: &Question) -> Option<Vec<String>> {
        let asked = question(from);
        let all = found(2, from.len(), &["first", "first_chunk", "find"]);
        let narrow = narrowed(&asked, &all, to)?;
        assert_eq!((narrow.start, narrow.end), (2, to.cursor));
        Some(narrow.items.into_iter().map(|item| item.text).collect())
    }

    #[test]
    fn an_answer_holds_for_more_of_the_same_name() {
        assert_eq!(
            narrowed_to("v.f", &question("v.first")),
            Some(vec!["first".into(), "first_chunk".into()])
        );
        assert_eq!(
            narrowed_to("v.f", &question("v.f")),
            Some(vec!["first".into(), "first_chunk".into(), "find".into()])
        );
    }

    #[test]
    fn an_answer_holds_for_nothing_else() {
        let other_line = Question {
            line: 2,
            ..question("v.fi")
        };
        for other in [
            question("w.fi"),
            question("v.g"),
            question("v.f()"),
            other_line,
        ] {
            assert_eq!(narrowed_to("v.f", &other), None, "{other:?}");
        }
    }
}

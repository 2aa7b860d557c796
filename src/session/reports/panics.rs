//! The panics of a cell, and what they had to do with the end of its process.
//!
//! The prelude reports each panic when it begins, also those that code catches later. When Rust cannot let one unwind it
//! makes another of its own, whose message says why, and aborts. So the end of the list tells what happened:
//!
//! ```text
//! "first", "second", "panic in a destructor during cleanup"        the second came while the first unwound
//! "first", "panic in a function that cannot unwind"                the first met an `extern` function
//! "first"                                                          the code aborted by itself, after a panic
//! ```

use std::collections::VecDeque;

use crate::session::pipes::frames::PanicReport;

/// So many of the last panics are remembered: a cell may catch any number.
const KEPT: usize = 16;
/// Rust's own panics, by which it says why it aborts.
const IN_DESTRUCTOR: &str = "panic in a destructor during cleanup";
const CANNOT_UNWIND: &str = "panic in a function that cannot unwind";
/// What Rust writes to stderr behind such a panic: the report says the same in more words.
pub(crate) const ABORTING: &str = "thread caused non-unwinding panic. aborting.\n";
/// The end of what Rust writes to stderr when the text of a panic's message cannot be made, because making it panics.
const WHILE_PROCESSING: &str = "\nthread panicked while processing panic. aborting.";

/// The panics of a cell, in order.
#[derive(Debug, Default)]
pub(crate) struct Panics(VecDeque<PanicReport>);

/// What panics had to do with an abort.
#[derive(Debug, PartialEq)]
pub(crate) struct Fatal {
    pub how: How,
    /// The panics to tell of, the first one first.
    pub panics: Vec<PanicReport>,
}

/// Why a process ended after a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// A destructor panicked while another panic unwound.
    Destructor,
    /// The panic met a function that may not be unwound.
    CannotUnwind,
    /// The message of a panic could not be made.
    Message,
    /// The code aborted; the panics came before.
    Aborted,
}

impl Panics {
    pub(crate) fn add(&mut self, report: PanicReport) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(report);
    }

    /// The last one that the code made.
    pub(crate) fn last(&self) -> Option<&PanicReport> {
        self.0.iter().rev().find(|report| reason(report).is_none())
    }

    /// The last one of another thread than that which runs cells.
    pub(crate) fn of_a_thread(&self) -> Option<&PanicReport> {
        self.0.iter().rev().find(|report| report.thread != MAIN)
    }

    /// The last one that the code made with this message, which is what unwound the cell; else the last one.
    pub(crate) fn said(&self, message: &str) -> Option<&PanicReport> {
        let made = self.0.iter().rev();
        made.filter(|report| reason(report).is_none())
            .find(|report| report.message == message)
            .or_else(|| self.last())
    }

    /// What they had to do with an abort, if anything. `stderr` is the end of what the process wrote there.
    pub(crate) fn fatal(&self, stderr: &str) -> Option<Fatal> {
        if let Some(report) = unspoken(stderr) {
            return Some(Fatal {
                how: How::Message,
                panics: vec![report],
            });
        }
        let last = self.0.back()?;
        let how = reason(last).unwrap_or(How::Aborted);
        let made = self.0.iter().filter(|report| reason(report).is_none());
        let mut panics: Vec<PanicReport> = match how {
            How::Aborted => made.cloned().collect(),
            // Other threads may have panicked in between.
            _ => made
                .filter(|report| report.thread == last.thread)
                .cloned()
                .collect(),
        };
        let told = match how {
            How::Destructor => 2,
            _ => 1,
        };
        panics.drain(..panics.len().saturating_sub(told));
        Some(Fatal { how, panics })
    }
}

impl Fatal {
    /// What happened, in one line.
    pub(crate) fn sentence(&self) -> String {
        let said =
            |report: &PanicReport| report.message.lines().next().unwrap_or_default().to_owned();
        let first = self.panics.first().map(said).unwrap_or_default();
        match (self.how, self.panics.as_slice()) {
            (How::Destructor, [_, second]) => format!(
                "a destructor panicked while another panic was under way, which ends the process (signal 6, SIGABRT): first \
                 {first:?}, then in the destructor {:?}",
                said(second)
            ),
            (How::Destructor, _) => format!(
                "a destructor panicked while another panic was under way, which ends the process (signal 6, SIGABRT): {first}"
            ),
            (How::CannotUnwind, _) => format!(
                "a panic cannot leave an `extern` function, so it ended the process (signal 6, SIGABRT): {first}"
            ),
            (How::Message, _) => format!(
                "making the message of a panic panicked, which ends the process (signal 6, SIGABRT): {first}"
            ),
            (How::Aborted, [report]) if report.thread != MAIN => format!(
                "the cell aborted its process (signal 6, SIGABRT) after its thread {:?} had panicked: {first}",
                report.thread
            ),
            (How::Aborted, _) => {
                format!("the cell aborted its process (signal 6, SIGABRT) after a panic: {first}")
            }
        }
    }
}

/// The thread that runs cells.
pub(crate) const MAIN: &str = "main";

/// Why Rust aborts, if this is a panic of its own.
fn reason(report: &PanicReport) -> Option<How> {
    match report.message.as_str() {
        _ if !report.file.ends_with("core/src/panicking.rs") => None,
        IN_DESTRUCTOR => Some(How::Destructor),
        CANNOT_UNWIND => Some(How::CannotUnwind),
        _ => None,
    }
}

/// A panic that Rust could only write to stderr: `panicked at file:line:column:`, and the message on the lines below.
fn unspoken(stderr: &str) -> Option<PanicReport> {
    let end = stderr.rfind(WHILE_PROCESSING)?;
    let text = &stderr[..end];
    let (place, message) = text[text.rfind("panicked at ")?..]
        .strip_prefix("panicked at ")?
        .split_once(":\n")?;
    let mut parts = place.rsplitn(3, ':');
    let column = parts.next()?.parse().ok()?;
    let line = parts.next()?.parse().ok()?;
    Some(PanicReport {
        message: message.to_owned(),
        file: parts.next()?.to_owned(),
        line,
        column,
        thread: MAIN.to_owned(),
        library: String::new(),
        backtrace: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panics(all: &[(&str, &str)]) -> Panics {
        let mut panics = Panics::default();
        for (thread, message) in all {
            let own = [IN_DESTRUCTOR, CANNOT_UNWIND].contains(message);
            panics.add(PanicReport {
                message: (*message).to_owned(),
                file: if own {
                    "/rustc/1/library/core/src/panicking.rs"
                } else {
                    "lib.rs"
                }
                .to_owned(),
                thread: (*thread).to_owned(),
                ..PanicReport::default()
            });
        }
        panics
    }

    fn told(all: &[(&str, &str)]) -> (How, Vec<String>) {
        let fatal = panics(all).fatal("").expect("there was a panic");
        let messages = fatal.panics.iter().map(|report| report.message.clone());
        (fatal.how, messages.collect())
    }

    #[test]
    fn the_panic_that_unwound_and_the_one_of_the_destructor_are_told() {
        let (how, messages) = told(&[
            ("main", "caught before"),
            ("main", "first"),
            ("other", "elsewhere"),
            ("main", "second"),
            ("main", IN_DESTRUCTOR),
        ]);
        assert_eq!(
            (how, messages),
            (
                How::Destructor,
                vec!["first".to_owned(), "second".to_owned()]
            )
        );
    }

    #[test]
    fn an_extern_function_is_told_with_the_panic_that_met_it() {
        let (how, messages) = told(&[
            ("main", "caught"),
            ("worker", "met"),
            ("main", "late"),
            ("worker", CANNOT_UNWIND),
        ]);
        assert_eq!((how, messages), (How::CannotUnwind, vec!["met".to_owned()]));
    }

    #[test]
    fn an_abort_after_a_panic_of_a_thread_is_no_panic_that_cannot_be_caught() {
        let all = panics(&[("worker", "one"), ("worker", "two")]);
        let fatal = all.fatal("").expect("there was a panic");
        assert_eq!(fatal.how, How::Aborted);
        assert!(fatal.sentence().contains("\"worker\"") && fatal.sentence().ends_with("two"));
        assert_eq!(Panics::default().fatal("some text\n"), None);
    }

    #[test]
    fn a_message_that_looks_like_rusts_own_is_the_codes() {
        let mut all = Panics::default();
        all.add(PanicReport {
            message: CANNOT_UNWIND.to_owned(),
            file: "glassbox/lib.rs".to_owned(),
            ..PanicReport::default()
        });
        assert!(all.last().is_some());
    }

    #[test]
    fn a_panic_that_only_stderr_knows_is_read_from_it() {
        let fatal = Panics::default()
            .fatal("before\npanicked at glassbox/lib.rs:12:5:\ntwo\nlines\nthread panicked while processing panic. aborting.\n")
            .expect("it is told");
        let report = &fatal.panics[0];
        assert_eq!(
            (report.line, report.column, report.message.as_str()),
            (12, 5, "two\nlines")
        );
        assert_eq!(
            (fatal.how, report.file.as_str()),
            (How::Message, "glassbox/lib.rs")
        );
    }

    #[test]
    fn many_panics_are_not_all_remembered() {
        let all = panics(&vec![("main", "caught"); 1000]);
        assert_eq!(all.0.len(), KEPT);
    }
}

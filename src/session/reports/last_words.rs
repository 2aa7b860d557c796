//! Why the process that runs cells ended: the system's word for it, and the last lines that it wrote to stderr.
//!
//! Rust ends a process by the same signal for a stack that overflowed, memory that could not be had and `abort()`; only its
//! last words on stderr tell them apart. A cell that prints such a line and then aborts gets the wrong name, no more.

use super::CellSource;
use super::panics::Panics;
use crate::figures::size;
use crate::session::outcome::{CellError, CellErrorKind};
use crate::session::reports;

/// So much of the end of stderr is kept.
const KEPT: usize = 4096;
/// Rust's last line when a thread used up its stack.
const STACK_OVERFLOW: &str = "has overflowed its stack";
/// Rust's last line when the system gave no memory: a number of bytes stands between the two.
const NO_MEMORY: (&str, &str) = ("memory allocation of ", " bytes failed");

/// The end of what a process wrote to stderr.
#[derive(Debug, Default)]
pub(crate) struct LastWords(String);

impl LastWords {
    /// Takes what was written next.
    pub fn heard(&mut self, text: &str) {
        self.0.push_str(text);
        if self.0.len() > 2 * KEPT {
            let mut cut = self.0.len() - KEPT;
            while !self.0.is_char_boundary(cut) {
                cut += 1;
            }
            self.0.drain(..cut);
        }
    }

    /// Whether the process said so that its stack overflowed.
    fn stack_overflow(&self) -> bool {
        self.last_lines().any(|line| line.ends_with(STACK_OVERFLOW))
    }

    /// The bytes that the process asked for in vain.
    fn bytes_refused(&self) -> Option<u64> {
        let (before, after) = NO_MEMORY;
        self.last_lines()
            .find_map(|line| line.strip_prefix(before)?.strip_suffix(after)?.parse().ok())
    }

    /// The lines among which Rust's own last one is, latest first; a backtrace may follow it.
    fn last_lines(&self) -> impl Iterator<Item = &str> {
        self.0.lines().rev()
    }
}

/// The report of a process that ended while a cell ran, from the system's words, its own last ones, and its panics.
pub(crate) fn ended(
    message: &str,
    last_words: &LastWords,
    panics: &Panics,
    source: &CellSource<'_>,
) -> CellError {
    let number_after = |mark: &str| {
        let (_, rest) = message.rsplit_once(mark)?;
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<i32>().ok()
    };
    if let Some(signal) = number_after("signal: ") {
        let kind = CellErrorKind::Aborted { signal };
        if signal == libc::SIGABRT
            && !last_words.stack_overflow()
            && last_words.bytes_refused().is_none()
            && let Some(fatal) = panics.fatal(&last_words.0)
        {
            return reports::fatal(kind, source, &fatal);
        }
        let (name, what) = describe(signal, last_words);
        return reports::plain(kind, name, &what);
    }
    match number_after("exit status: ").or_else(|| number_after("exit code: ")) {
        Some(code) => reports::plain(
            CellErrorKind::Exited { code },
            "Exited",
            &format!("the cell ended its process with exit code {code}"),
        ),
        None => reports::plain(CellErrorKind::Internal, "InternalError", message),
    }
}

fn describe(signal: i32, last_words: &LastWords) -> (&'static str, String) {
    if signal == libc::SIGABRT {
        if last_words.stack_overflow() {
            let what = "a function of the cell called itself too deeply or kept too much on the stack: the stack \
                        overflowed; use a loop, or put large arrays in a `Vec`";
            return ("StackOverflow", what.to_owned());
        }
        if let Some(bytes) = last_words.bytes_refused() {
            let what = format!("the system refused the cell {} of memory", size(bytes));
            return ("OutOfMemory", what);
        }
    }
    match signal {
        libc::SIGABRT => (
            "Aborted",
            "the cell aborted its process (signal 6, SIGABRT)".to_owned(),
        ),
        libc::SIGSEGV => (
            "SegmentationFault",
            "the cell used memory that is not its own, or a thread of its own overflowed its stack (signal 11, SIGSEGV)"
                .to_owned(),
        ),
        libc::SIGKILL => (
            "Killed",
            "the cell's process was killed, most often by the system for want of memory (signal 9, SIGKILL)".to_owned(),
        ),
        libc::SIGBUS => (
            "BusError",
            "the cell used memory that does not exist, such as a mapped file that was cut short (signal 7, SIGBUS)"
                .to_owned(),
        ),
        libc::SIGILL => (
            "IllegalInstruction",
            "the cell ran an instruction that the processor lacks (signal 4, SIGILL)".to_owned(),
        ),
        libc::SIGFPE => (
            "ArithmeticFault",
            "the cell made an arithmetic fault (signal 8, SIGFPE)".to_owned(),
        ),
        _ => (
            "Signalled",
            format!("the cell's process was ended by signal {signal}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(words: &str, message: &str) -> String {
        let mut heard = LastWords::default();
        heard.heard(words);
        let source = CellSource::new("", "");
        ended(message, &heard, &Panics::default(), &source).ename
    }

    #[test]
    fn deaths_by_one_signal_have_their_own_names() {
        let aborted = "Subprocess terminated with status: signal: 6 (SIGABRT) (core dumped)";
        let overflow = "my text\n\nthread 'main' (12) has overflowed its stack\nfatal runtime error: stack overflow, aborting\n";
        assert_eq!(name(overflow, aborted), "StackOverflow");
        assert_eq!(
            name(
                "memory allocation of 4611686018427387904 bytes failed\n",
                aborted
            ),
            "OutOfMemory"
        );
        assert_eq!(name("something else\n", aborted), "Aborted");
        assert_eq!(
            name("", "status: signal: 11 (SIGSEGV)"),
            "SegmentationFault"
        );
        assert_eq!(name("", "status: exit status: 3"), "Exited");
    }

    #[test]
    fn only_the_last_lines_count_and_memory_is_bounded() {
        let mut heard = LastWords::default();
        heard.heard("thread 'x' has overflowed its stack\n");
        for _ in 0..1000 {
            heard.heard("é: a line that came later\n");
        }
        assert!(!heard.stack_overflow());
        assert!(heard.0.len() <= 2 * KEPT + 100);
    }
}

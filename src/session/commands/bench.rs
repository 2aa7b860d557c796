//! `:bench EXPRESSION`: the prelude's stopwatch around an expression.

use super::Call;
use crate::session::outcome::CellOutcome;

pub(super) fn run(call: Call<'_>) -> CellOutcome {
    if call.code.trim().is_empty() {
        return call.refuse("there is nothing to run; write `:bench EXPRESSION`");
    }
    call.session.evaluate_aside(&timed(&call.code), call.sink)
}

/// The cell with the stopwatch around it. It does not begin with a colon, as commands of the engine do. What stood on a line stays on it, so that errors name the lines of the cell.
fn timed(code: &str) -> String {
    let start = code.len() - code.trim_start().len();
    let (before, code) = code.split_at(start);
    let lines = "\n".repeat(before.matches('\n').count());
    format!(
        "{lines}glassbox_prelude::bench::bench(|| \
         Ok::<_, ::glassbox_prelude::bench::AnyError>({{ {code}\n}}))?"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_numbers() {
        let cell = timed("\n       let a = 1;\na + 1");
        let lines: Vec<&str> = cell.lines().collect();
        assert!(lines[1].contains("let a = 1;"), "{cell}");
        assert_eq!(lines[2], "a + 1");
    }
}

//! Cells from a pipe: text that is separated by blank lines.
//!
//! A blank line inside of an unfinished item (a function body, a raw string) does not end the cell. A line with a command
//! (`:vars`, `?Vec`) is a cell of its own.

use std::io::{BufRead, Result};

/// The cells of `input`.
pub struct PipedCells<R, F> {
    input: R,
    /// Whether a text can be run as it is.
    complete: F,
    ended: bool,
}

impl<R: BufRead, F: Fn(&str) -> bool> PipedCells<R, F> {
    /// Reads `input`, asking `complete` whether a text can be run as it is.
    pub fn new(input: R, complete: F) -> PipedCells<R, F> {
        PipedCells {
            input,
            complete,
            ended: false,
        }
    }
}

impl<R: BufRead, F: Fn(&str) -> bool> Iterator for PipedCells<R, F> {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Result<String>> {
        let mut cell = String::new();
        while !self.ended {
            let mut line = String::new();
            match self.input.read_line(&mut line) {
                Ok(0) => self.ended = true,
                Ok(_) => {
                    let blank = line.trim().is_empty();
                    let first = cell.trim().is_empty();
                    cell.push_str(&line);
                    let begin = line.trim_start();
                    let command =
                        first && begin.starts_with([':', '?']) && !begin.starts_with("::");
                    // A command is a cell by itself, with as many lines as its code needs.
                    if (command || blank && !first) && (self.complete)(&cell) {
                        break;
                    }
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
        if cell.trim().is_empty() {
            None
        } else {
            Some(Ok(cell))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(text: &str) -> Vec<String> {
        let balanced = |code: &str| code.matches('{').count() == code.matches('}').count();
        PipedCells::new(text.as_bytes(), balanced)
            .map(|cell| cell.unwrap().trim().to_owned())
            .collect()
    }

    #[test]
    fn blank_lines_separate_cells() {
        assert_eq!(
            cells("\n\nlet x = 1;\nlet y = 2;\n\n\nx\n  .abs()\n"),
            ["let x = 1;\nlet y = 2;", "x\n  .abs()"]
        );
        assert_eq!(cells("1 + 1"), ["1 + 1"]);
        assert_eq!(cells(""), [] as [String; 0]);
    }

    #[test]
    fn a_blank_line_in_an_unfinished_item_does_not() {
        assert_eq!(
            cells("fn f() {\n\n  1;\n}\n\nf()"),
            ["fn f() {\n\n  1;\n}", "f()"]
        );
    }

    #[test]
    fn commands_stand_alone() {
        assert_eq!(
            cells(":vars\n?Vec\n:dep a = \"1\"\nlet x = 1;\n"),
            [":vars", "?Vec", ":dep a = \"1\"", "let x = 1;"]
        );
    }
}

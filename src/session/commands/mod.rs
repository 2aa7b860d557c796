//! Commands: the lines at the top of a cell that are not Rust.
//!
//! ```text
//! cell ─ syntax::command_lines ─▶ rows of [`TABLE`] ─▶ run: one after the other, then the Rust below them
//! ```
//! The table says all that is known of a command. Help, completion, the engine's part of a cell and every front end read it; one file holds
//! what one command does.
//!
//! # Layout
//! - [`table`]: the commands
//! - [`run`]: a cell's commands, in order
//! - `show`: how commands show what they found; `program`: the source of the program that `:export` writes
//! - the others: one command each

mod bench;
mod clear;
mod dep;
mod doc;
mod env;
mod explain;
mod export;
mod help;
mod last_compile_dir;
mod last_error_json;
mod load;
mod load_config;
mod memory;
mod opt;
mod program;
mod quit;
mod replay;
mod restart;
mod run;
mod shell;
mod show;
mod show_deps;
mod table;
mod time;
mod timing;
mod type_of;
mod vars;

pub(crate) use run::engine_part;

use std::borrow::Cow;
use std::ops::Range;

use run::Call;
use table::TABLE;

use crate::session::engine::{Done, EvalError, RustcEngine};
use crate::session::outcome::CellOutcome;
use crate::session::{Completion, Completions, syntax};

/// A command.
pub(crate) struct Command {
    /// The words that begin its line, with their marks: the first is the usual one.
    pub words: &'static [&'static str],
    /// What may follow on the line, as `:help` shows it.
    pub arguments: &'static str,
    /// One line that says what it does.
    pub summary: &'static str,
    pub takes: Takes,
    pub does: Does,
}

/// What follows the word of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Takes {
    Nothing,
    /// Text up to the end of the line.
    Text,
    /// A name or an expression up to the end of the line, so that completion looks at it.
    Name,
    /// All that is left of the cell, as Rust.
    Code,
}

/// What carries a command out.
pub(crate) enum Does {
    /// The session, through its own interface.
    Session(fn(Call<'_>) -> CellOutcome),
    /// The engine, as a part of a cell.
    Engine(fn(&mut RustcEngine, &str, &mut Done) -> Result<(), EvalError>),
}

/// A command as it stands in a cell.
pub(crate) struct Written<'a> {
    /// The row of the table, or the word of which there is none.
    pub command: Result<&'static Command, &'a str>,
    /// What follows the word: the rest of the line.
    pub arguments: &'a str,
    /// The line, without its end; only the word of a command that takes code.
    range: Range<usize>,
}

/// The commands at the top of a cell, and where its Rust begins.
pub(crate) fn parse(cell: &str) -> (Vec<Written<'_>>, usize) {
    let mut found = Vec::new();
    for line in syntax::command_lines(cell) {
        // A question mark alone asks for help.
        let word = match (line.word, line.rest) {
            ("?" | "??", "") => ":help",
            (word, _) => word,
        };
        let command = table::find(word).ok_or(word);
        let takes_code = command.is_ok_and(|command| command.takes == Takes::Code);
        let end = if takes_code { line.word_end } else { line.end };
        found.push(Written {
            command,
            arguments: line.rest,
            range: line.start..end,
        });
        if takes_code {
            return (found, end);
        }
    }
    (found, cell.len() - syntax::skip_commands(cell).len())
}

/// Whether a command is among those at the top of a cell.
pub(crate) fn has(cell: &str, word: &str) -> bool {
    let (lines, _) = parse(cell);
    lines
        .iter()
        .any(|line| line.command.is_ok_and(|command| command.words[0] == word))
}

/// What a front end may answer in a way of its own: a cell that is one such command and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    /// `:help`
    Help,
    /// `:doc NAME` and `?NAME`, or `??NAME` for all that is known.
    Doc {
        /// The name.
        name: &'a str,
        /// Whether the text is not to be cut to the screen.
        whole: bool,
    },
    /// `:quit`
    Quit,
}

/// Finds out whether a cell is [`Asked`] of the front end; needs no session.
pub fn asked(cell: &str) -> Option<Asked<'_>> {
    let (lines, rust) = parse(cell);
    let [line] = lines.as_slice() else {
        return None;
    };
    if syntax::has_code(&cell[rust..]) {
        return None;
    }
    let command = line.command.ok()?;
    match command.words[0] {
        ":help" if line.arguments.is_empty() => Some(Asked::Help),
        ":quit" if line.arguments.is_empty() => Some(Asked::Quit),
        ":doc" => Some(Asked::Doc {
            name: line.arguments,
            whole: cell.trim_start().starts_with("??"),
        }),
        _ => None,
    }
}

/// The cell with all but one stretch of it blanked out, so that every place in it stays where it is.
fn only(cell: &str, kept: Range<usize>) -> String {
    let blank = |text: &str| -> String {
        let blank = text.bytes().map(|byte| match byte {
            b'\n' => '\n',
            _ => ' ',
        });
        blank.collect()
    };
    format!(
        "{}{}{}",
        blank(&cell[..kept.start]),
        &cell[kept.clone()],
        blank(&cell[kept.end..])
    )
}

/// The cell as Rust that completion and brackets can look at: the word of a command that takes code is blanked out, and if `cursor` is
/// behind a command that takes a name, all but that name is.
pub(crate) fn code_of(cell: &str, cursor: Option<usize>) -> Cow<'_, str> {
    let (lines, rust) = parse(cell);
    for line in &lines {
        let Ok(command) = line.command else { continue };
        if command.takes == Takes::Code {
            return only(cell, rust..cell.len()).into();
        }
        let start = line.range.end - line.arguments.len();
        if command.takes == Takes::Name
            && cursor.is_some_and(|cursor| (start..=line.range.end).contains(&cursor))
        {
            return only(cell, start..line.range.end).into();
        }
    }
    cell.into()
}

/// Adds the commands that begin like the word before the cursor, if that is where a command may stand.
pub(crate) fn complete(code: &str, cursor: usize, found: &mut Completions) {
    let before = &code[..cursor];
    let line = before.rfind('\n').map_or(0, |end| end + 1);
    // Above it are commands and comments, or nothing.
    if !syntax::skip_commands(&before[..line]).trim().is_empty() {
        return;
    }
    let word = before[line..].trim_start();
    let Some(name) = word.strip_prefix(':') else {
        return;
    };
    if !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return;
    }
    let mut items: Vec<Completion> = TABLE
        .iter()
        .flat_map(|command| command.words.iter().map(move |text| (command, *text)))
        .filter(|(_, text)| text.starts_with(word))
        .map(|(command, text)| Completion {
            text: text.to_owned(),
            label: format!("{text} {}  {}", command.arguments, command.summary),
            kind: "magic",
            ..Completion::default()
        })
        .collect();
    items.sort_by(|a, b| a.text.cmp(&b.text));
    *found = Completions {
        start: cursor - word.len(),
        end: cursor,
        items,
    };
}

/// The commands as they are written, and what each does.
pub fn commands() -> Vec<(String, String)> {
    TABLE
        .iter()
        .map(|command| {
            let usage = format!("{} {}", command.words[0], command.arguments);
            let mut summary = command.summary.to_owned();
            if let [_, others @ ..] = command.words
                && !others.is_empty()
            {
                let others: Vec<String> = others.iter().map(|word| format!("`{word}`")).collect();
                summary += &format!(" (also {})", others.join(", "));
            }
            (usage.trim_end().to_owned(), summary)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(cell: &str) -> Vec<(String, &str)> {
        let (lines, _) = parse(cell);
        lines
            .into_iter()
            .map(|line| {
                let word = match line.command {
                    Ok(command) => command.words[0].to_owned(),
                    Err(word) => format!("unknown {word}"),
                };
                (word, line.arguments)
            })
            .collect()
    }

    #[test]
    fn commands_stand_at_the_top() {
        let cell = ":dep a = \"1\"\n// note\n!ls -l\n  :vars\n?Vec\n:nonsense 1\nlet x = 1;\n:no";
        let expected = [
            (":dep", "a = \"1\""),
            ("!", "ls -l"),
            (":vars", ""),
            (":doc", "Vec"),
            ("unknown :nonsense", "1"),
        ];
        assert_eq!(
            words(cell),
            expected.map(|(word, rest)| (word.to_owned(), rest))
        );
        assert_eq!(&cell[parse(cell).1..], "let x = 1;\n:no");
        for cell in ["1", "::std::mem::drop(1)", "", "// :vars\n1", " !true"] {
            assert!(words(cell).is_empty(), "{cell:?}");
        }
    }

    #[test]
    fn code_after_a_command_is_its_own() {
        let cell = ":dep x\n:time let a = 1;\n:vars\na";
        assert_eq!(words(cell).len(), 2);
        assert_eq!(&cell[parse(cell).1..], " let a = 1;\n:vars\na");
    }

    #[test]
    fn every_word_is_there_once_and_says_what_it_does() {
        let mut all: Vec<&str> = TABLE
            .iter()
            .flat_map(|command| command.words)
            .copied()
            .collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        for command in TABLE {
            assert!(!command.summary.is_empty());
            assert_eq!(
                command.arguments.is_empty(),
                command.takes == Takes::Nothing,
                "{}",
                command.words[0]
            );
        }
    }

    #[test]
    fn blanking_a_command_moves_nothing() {
        let code = |cell| code_of(cell, None).into_owned();
        assert_eq!(code("\n :time let x = 1;\nx"), "\n       let x = 1;\nx");
        assert_eq!(code(":load x"), ":load x");
        assert_eq!(code("let é = 1;"), "let é = 1;");
        assert_eq!(code_of("?Ten", Some(4)), " Ten");
        assert_eq!(
            code_of(":doc Ten\nlet x = 1;", Some(8)),
            "     Ten\n          "
        );
    }

    #[test]
    fn front_ends_are_asked_by_whole_cells_only() {
        assert_eq!(asked(" :help\n"), Some(Asked::Help));
        assert_eq!(asked("?"), Some(Asked::Help));
        let doc = |name, whole| Some(Asked::Doc { name, whole });
        assert_eq!(asked(":doc  Tensor "), doc("Tensor", false));
        assert_eq!(asked("??Vec"), doc("Vec", true));
        assert_eq!(asked("? vlm.llm"), doc("vlm.llm", false));
        assert_eq!(asked(":q"), Some(Asked::Quit));
        for other in [
            "let x = 1;",
            ":dep serde = \"1\"",
            ":vars",
            ":restart",
            "::std::mem::drop(1)",
            "",
            "?Vec\nlet x = 1;",
            ":help\n:vars",
        ] {
            assert_eq!(asked(other), None, "{other}");
        }
    }

    #[test]
    fn commands_complete_where_they_may_stand() {
        let item = Completion {
            text: "unrelated".to_owned(),
            ..Completion::default()
        };
        for before in ["", ":dep a\n// b\n"] {
            let mut found = Completions {
                items: vec![item.clone()],
                ..Completions::default()
            };
            let code = format!("{before} :t");
            complete(&code, code.len(), &mut found);
            let texts: Vec<&str> = found.items.iter().map(|item| item.text.as_str()).collect();
            assert_eq!((found.start, found.end), (code.len() - 2, code.len()));
            assert_eq!(texts, [":t", ":time", ":timing", ":type"]);
        }
        let mut found = Completions::default();
        complete("x:t", 3, &mut found);
        complete("let x = 1;\n:t", 13, &mut found);
        complete(":time x", 7, &mut found);
        assert_eq!(found, Completions::default());
    }
}

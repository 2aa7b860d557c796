//! Commands of the session: a cell whose first line begins with a colon and one of these words.
//!
//! `:word rest of the line` and the lines below it → [`Call`] → one file a command → outputs like any cell's. Commands that
//! are not in [`MAGICS`] (`:dep`, `:opt` …) are the engine's own. They work the same in every front end.
//!
//! # Layout
//! - `help`, `vars`, `memory`, `time`, `bench`, `load`, `replay`, `export`: what their names say
//! - `program`: the source of the program that `:export` writes

mod bench;
mod export;
mod help;
mod load;
mod memory;
mod program;
mod replay;
mod time;
mod vars;

pub(crate) use help::rows as commands;

use std::time::Instant;

use serde_json::Value;

use super::direct::COMMANDS;
use super::engine::Session;
use super::event::{Display, Event};
use super::outcome::{CellError, CellErrorKind, CellOutcome};
use super::{Completion, Completions, report, syntax};

/// A command.
pub(crate) struct Magic {
    /// Its word, without the colon.
    pub name: &'static str,
    /// What may follow on the line, as shown in `:help`.
    pub arguments: &'static str,
    /// One line that says what it does.
    pub summary: &'static str,
    /// Whether Rust code follows it, so that completion and brackets look at that.
    takes_code: bool,
    run: fn(Call<'_>) -> CellOutcome,
}

/// All commands, in the order in which `:help` shows them.
pub(crate) const MAGICS: &[Magic] = &[
    Magic {
        name: "help",
        arguments: "",
        summary: "this table",
        takes_code: false,
        run: help::run,
    },
    Magic {
        name: "vars",
        arguments: "",
        summary: "the variables with type, shape and size",
        takes_code: false,
        run: vars::run,
    },
    Magic {
        name: "mem",
        arguments: "",
        summary: "the memory that this session uses",
        takes_code: false,
        run: memory::run,
    },
    Magic {
        name: "time",
        arguments: "CODE",
        summary: "run code and say how long it ran, apart from compiling",
        takes_code: true,
        run: time::run,
    },
    Magic {
        name: "bench",
        arguments: "EXPRESSION",
        summary: "run an expression many times: median, spread, extremes",
        takes_code: true,
        run: bench::run,
    },
    Magic {
        name: "load",
        arguments: "FILE",
        summary: "run a file of Rust code as if it stood in the cell",
        takes_code: false,
        run: load::run,
    },
    Magic {
        name: "replay",
        arguments: "[NAME…] [list | all]",
        summary: "run the cells again that defined what was lost; `list` only names them, `all` adds cells that used it",
        takes_code: false,
        run: replay::run,
    },
    Magic {
        name: "export",
        arguments: "DIR",
        summary: "write the cells that ran as a Cargo project",
        takes_code: false,
        run: export::run,
    },
];

/// A command as it was written.
pub(crate) struct Call<'a> {
    session: &'a mut Session,
    sink: &'a mut (dyn FnMut(Event) + Send),
    /// The whole cell.
    cell: &'a str,
    /// The rest of the command's line.
    arguments: &'a str,
    begin: Instant,
}

/// Runs the command that `cell` begins with; `None` if it is none of ours.
pub(crate) fn run(
    session: &mut Session,
    cell: &str,
    sink: &mut (dyn FnMut(Event) + Send),
) -> Option<CellOutcome> {
    let (magic, arguments) = find(cell)?;
    let call = Call {
        session,
        sink,
        cell,
        arguments,
        begin: Instant::now(),
    };
    Some((magic.run)(call))
}

fn find(cell: &str) -> Option<(&'static Magic, &str)> {
    let (word, arguments) = syntax::command(cell)?;
    let magic = MAGICS.iter().find(|magic| magic.name == word)?;
    Some((magic, arguments))
}

/// The cell with the command's word blanked out, so that every place in it stays where it is.
///
/// For a command that takes code only; other cells come back as they are.
pub(crate) fn code_of(cell: &str) -> std::borrow::Cow<'_, str> {
    match find(cell) {
        Some((magic, _)) if magic.takes_code => {
            let colon = cell.find(':').unwrap_or(0);
            let end = colon + 1 + magic.name.len();
            let blank = " ".repeat(end - colon);
            format!("{}{blank}{}", &cell[..colon], &cell[end..]).into()
        }
        _ => cell.into(),
    }
}

/// Adds the commands that begin like the word before the cursor, if that is where a command may stand.
pub(crate) fn complete(code: &str, cursor: usize, found: &mut Completions) {
    let before = &code[..cursor];
    let Some(word) = before.trim_start().strip_prefix(':') else {
        return;
    };
    if !word.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return;
    }
    let start = cursor - word.len() - 1;
    let mut items: Vec<Completion> = MAGICS
        .iter()
        .filter(|magic| magic.name.starts_with(word))
        .map(|magic| Completion {
            text: format!(":{}", magic.name),
            label: format!(":{} {}  {}", magic.name, magic.arguments, magic.summary),
            kind: "magic",
            ..Completion::default()
        })
        .collect();
    let engine = COMMANDS.iter().filter(|(name, _)| {
        name[1..].starts_with(word) && !MAGICS.iter().any(|magic| name[1..] == *magic.name)
    });
    items.extend(engine.map(|(name, summary)| Completion {
        text: (*name).to_owned(),
        label: format!("{name}  {summary}"),
        kind: "magic",
        ..Completion::default()
    }));
    items.sort_by(|a, b| a.text.cmp(&b.text));
    *found = Completions {
        start,
        end: cursor,
        items,
    };
}

impl Call<'_> {
    /// The command did its work and shows this, if anything.
    fn done(self, shown: Option<Display>) -> CellOutcome {
        if let Some(display) = shown {
            (self.sink)(Event::Result(display));
        }
        CellOutcome {
            status: Ok(()),
            duration: self.begin.elapsed(),
            phases: Vec::new(),
            ran: None,
        }
    }

    /// The command could not do its work.
    fn refuse(self, message: &str) -> CellOutcome {
        CellOutcome {
            status: Err(refusal(message)),
            duration: self.begin.elapsed(),
            phases: Vec::new(),
            ran: None,
        }
    }
}

fn refusal(message: &str) -> CellError {
    report::plain(CellErrorKind::Command, "CommandError", message)
}

/// A display of text with HTML beside it.
fn page(plain: String, html: String) -> Display {
    let mut display = Display::text(plain);
    display
        .data
        .insert("text/html".to_owned(), Value::String(html));
    display
}

/// Two columns as text and as an HTML table.
pub(crate) fn two_columns(rows: &[(String, String)]) -> Display {
    let width = rows
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    let mut plain = String::new();
    let mut html = String::from("<table style=\"text-align:left\">");
    for (name, text) in rows {
        let padding = " ".repeat(width - name.chars().count());
        plain += &format!("{name}{padding}  {text}\n");
        html += &format!(
            "<tr><td style=\"text-align:left;white-space:pre\"><code>{}</code></td>\
             <td style=\"text-align:left\">{}</td></tr>",
            escape(name),
            escape(text)
        );
    }
    html += "</table>";
    page(plain.trim_end().to_owned(), html)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(text: &str) -> Completion {
        Completion {
            text: text.into(),
            label: text.into(),
            kind: "magic",
            ..Completion::default()
        }
    }

    #[test]
    fn commands_are_found_and_other_cells_are_not() {
        let found = |cell| find(cell).map(|(magic, rest)| (magic.name, rest));
        assert_eq!(found("\n:load  a b.rs \n1"), Some(("load", "a b.rs")));
        assert_eq!(found(":time 1 + 1"), Some(("time", "1 + 1")));
        for cell in ["1", ":dep x", "::std::mem::drop(1)", ":timer", "", ":"] {
            assert_eq!(found(cell), None, "{cell:?}");
        }
    }

    #[test]
    fn blanking_a_command_moves_nothing() {
        assert_eq!(code_of("\n :time let x = 1;\nx"), "\n       let x = 1;\nx");
        assert_eq!(code_of(":load x"), ":load x");
        assert_eq!(code_of("let é = 1;"), "let é = 1;");
    }

    #[test]
    fn commands_complete_beside_the_engine_s() {
        let mut found = Completions {
            items: vec![item("unrelated")],
            ..Completions::default()
        };
        complete(" :t", 3, &mut found);
        let texts: Vec<&str> = found.items.iter().map(|item| item.text.as_str()).collect();
        assert_eq!((found.start, found.end), (1, 3));
        assert_eq!(texts, [":t", ":time", ":timing", ":type"]);
        let mut found = Completions::default();
        complete("x:t", 3, &mut found);
        complete(":time x", 7, &mut found);
        assert_eq!(found, Completions::default());
    }
}

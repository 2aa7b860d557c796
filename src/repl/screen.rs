//! What cells show, as text: streams as they come, `text/plain` of displays, updates in place, errors in colour.
//!
//! On a terminal a display with a picture shows it above its text, links can be followed, and an updated display is redrawn while it is the last thing on the screen; otherwise, and in a pipe, only
//! its last state is printed, when the cell has ended.

use std::io::{IsTerminal as _, Write};

use super::picture;
use crate::session::{CellError, Display, Event, StreamName};

/// Writes a line to standard output. A reader that has gone away is no error.
pub fn line(text: &str) {
    drop(writeln!(std::io::stdout(), "{text}"));
}

/// The display that can be redrawn in place.
struct Live {
    id: String,
    rows: usize,
}

/// One cell's part of the screen.
pub struct Screen {
    /// Columns and rows, if this is a terminal.
    size: Option<(usize, usize)>,
    live: Option<Live>,
    /// Last states of updated displays that could not be redrawn.
    late: Vec<(String, String)>,
    /// Whether the last text ended within a line.
    within_line: bool,
}

impl Screen {
    /// The screen for one cell.
    pub fn new() -> Screen {
        let terminal = console::Term::stdout();
        let size = std::io::stdout().is_terminal().then(|| {
            let (rows, columns) = terminal.size();
            (usize::from(columns).max(20), usize::from(rows).max(4))
        });
        Screen {
            size,
            live: None,
            late: Vec::new(),
            within_line: false,
        }
    }

    /// Shows an event.
    pub fn event(&mut self, event: &Event) {
        self.write_event(
            event,
            &mut std::io::stdout().lock(),
            &mut std::io::stderr().lock(),
        );
    }

    fn write_event(&mut self, event: &Event, out: &mut dyn Write, err: &mut dyn Write) {
        // A reader that has gone away is no reason to end the cell.
        match event {
            Event::Stream {
                name: StreamName::Stdout,
                text,
            } => {
                self.live = None;
                self.within_line = !text.ends_with('\n');
                drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
            }
            Event::Stream {
                name: StreamName::Stderr,
                text,
            } => {
                self.live = None;
                self.within_line = !text.ends_with('\n');
                drop(out.flush().and_then(|()| err.write_all(text.as_bytes())));
            }
            Event::Display(display) | Event::Result(display) => self.show(display, out),
            Event::Update(display) => self.update(display, out),
            // What was printed stays: a terminal is a record.
            Event::ClearOutput { .. } => {}
            // Nobody can move a control here; its display says where it stands.
            Event::Comm(_) => {}
        }
    }

    fn show(&mut self, display: &Display, out: &mut dyn Write) {
        let text = plain(display);
        if std::mem::take(&mut self.within_line) {
            drop(writeln!(out));
        }
        // A display that will change is redrawn as text; a picture of it would have to be drawn again each time.
        if let Some((columns, rows)) = self.size.filter(|_| display.display_id.is_none()) {
            drop(out.flush());
            for picture in picture::pictures(display) {
                picture::print(&picture, columns, rows);
            }
        }
        drop(writeln!(out, "{text}").and_then(|()| out.flush()));
        let rows = self.rows(&text);
        self.live = display
            .display_id
            .clone()
            .filter(|_| self.fits(rows))
            .map(|id| Live { id, rows });
    }

    fn update(&mut self, display: &Display, out: &mut dyn Write) {
        let Some(id) = &display.display_id else {
            return;
        };
        let text = plain(display);
        match &self.live {
            Some(live) if live.id == *id => {
                // Up to the display's first row, and clear from there down.
                drop(
                    writeln!(out, "\u{1b}[{}A\u{1b}[J{text}", live.rows).and_then(|()| out.flush()),
                );
                let rows = self.rows(&text);
                self.live = self.fits(rows).then(|| Live {
                    id: id.clone(),
                    rows,
                });
                self.late.retain(|(late, _)| late != id);
            }
            _ => match self.late.iter_mut().find(|(late, _)| late == id) {
                Some((_, state)) => *state = text,
                None => self.late.push((id.clone(), text)),
            },
        }
    }

    /// The cell has ended: last states that were not shown yet.
    pub fn end(&mut self) {
        self.write_end(&mut std::io::stdout().lock());
    }

    fn write_end(&mut self, out: &mut dyn Write) {
        if std::mem::take(&mut self.within_line) {
            drop(writeln!(out));
        }
        for (_, state) in self.late.drain(..) {
            drop(writeln!(out, "{state}"));
        }
        self.live = None;
        drop(out.flush());
    }

    /// Shows why the cell failed.
    pub fn error(&self, error: &CellError) {
        let coloured = console::colors_enabled_stderr();
        let mut err = std::io::stderr().lock();
        let report = if error.traceback.is_empty() {
            error.to_string()
        } else {
            error.traceback.join("\n")
        };
        let report = match (coloured, self.size) {
            (true, Some(_)) => linked(&report).into(),
            (true, None) => report.into(),
            (false, _) => console::strip_ansi_codes(&report),
        };
        drop(writeln!(err, "{report}"));
    }

    /// Rows that `text` takes.
    fn rows(&self, text: &str) -> usize {
        let Some((columns, _)) = self.size else {
            return 0;
        };
        text.split('\n')
            .map(|line| console::measure_text_width(line).div_ceil(columns).max(1))
            .sum()
    }

    fn fits(&self, rows: usize) -> bool {
        self.size.is_some_and(|(_, height)| rows < height)
    }
}

/// The text form of a display, or a word about what else it is.
fn plain(display: &Display) -> String {
    match display.plain() {
        Some(text) => text.trim_end_matches('\n').to_owned(),
        None => format!(
            "({})",
            display.data.keys().cloned().collect::<Vec<_>>().join(", ")
        ),
    }
}

/// Web addresses made into links by the escape sequence that terminals know (OSC 8); those that don't skip it.
fn linked(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("https://") {
        let end = rest[at..]
            .find(|c: char| c.is_whitespace() || c.is_control())
            .map_or(rest.len(), |end| at + end);
        let address = &rest[at..end];
        out += &rest[..at];
        out += &format!("\u{1b}]8;;{address}\u{1b}\\{address}\u{1b}]8;;\u{1b}\\");
        rest = &rest[end..];
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_links() {
        assert_eq!(
            linked("see https://a.b/c.html\u{1b}[0m end"),
            "see \u{1b}]8;;https://a.b/c.html\u{1b}\\https://a.b/c.html\u{1b}]8;;\u{1b}\\\u{1b}[0m end"
        );
        assert_eq!(linked("none"), "none");
    }

    fn shown(text: &str, id: &str) -> Display {
        Display {
            display_id: Some(id.into()),
            ..Display::text(text)
        }
    }

    fn out(text: &str) -> Event {
        Event::Stream {
            name: StreamName::Stdout,
            text: text.into(),
        }
    }

    fn record(size: Option<(usize, usize)>, events: &[Event]) -> String {
        let mut screen = Screen {
            size,
            live: None,
            late: Vec::new(),
            within_line: false,
        };
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        events
            .iter()
            .for_each(|event| screen.write_event(event, &mut stdout, &mut stderr));
        screen.write_end(&mut stdout);
        String::from_utf8(stdout).unwrap()
    }

    #[test]
    fn a_terminal_redraws_what_is_last_on_it() {
        let events = [
            Event::Display(shown("0%\n.", "p")),
            Event::Update(shown("50%", "p")),
            Event::Update(shown("99%", "p")),
        ];
        assert_eq!(
            record(Some((80, 24)), &events),
            "0%\n.\n\u{1b}[2A\u{1b}[J50%\n\u{1b}[1A\u{1b}[J99%\n"
        );
    }

    #[test]
    fn a_long_line_takes_several_rows() {
        let long = "x".repeat(45);
        let events = [
            Event::Display(shown(&long, "p")),
            Event::Update(shown("y", "p")),
        ];
        assert_eq!(
            record(Some((20, 24)), &events),
            format!("{long}\n\u{1b}[3A\u{1b}[Jy\n")
        );
    }

    #[test]
    fn a_pipe_gets_the_first_and_the_last_state() {
        let events = [
            Event::Display(shown("0%", "p")),
            Event::Update(shown("50%", "p")),
            Event::Update(shown("99%", "p")),
        ];
        assert_eq!(record(None, &events), "0%\n99%\n");
    }

    #[test]
    fn text_after_a_display_is_not_overwritten() {
        let events = [
            Event::Display(shown("0%", "p")),
            out("note\n"),
            Event::Update(shown("99%", "p")),
        ];
        assert_eq!(record(Some((80, 24)), &events), "0%\nnote\n99%\n");
    }

    #[test]
    fn a_value_begins_on_its_own_line() {
        assert_eq!(
            record(None, &[out("ab"), Event::Result(Display::text("5"))]),
            "ab\n5\n"
        );
        assert_eq!(record(None, &[out("ab")]), "ab\n");
    }
}

//! What cells show, as text: streams as they come, `text/plain` of displays, updates in place, errors in colour.
//!
//! On a terminal a display with a picture shows it above its text, links can be followed, and displays that change are redrawn
//! in place while nothing else stands below them; otherwise, and in a pipe, only their last state is printed, when the cell
//! has ended.

use std::io::{IsTerminal as _, Write};

use super::{layout, picture};
use crate::session::{CellError, Display, Event, StreamName};
use crate::terminal_text::{Tamer, tame, tame_line};

/// Rows that pictures get on any screen.
const FEWEST: usize = 6;

/// Writes a line to standard output. A reader that has gone away is no error.
pub fn line(text: &str) {
    drop(writeln!(std::io::stdout(), "{}", tame(text)));
}

/// A display that can be redrawn in place.
struct Live {
    id: String,
    display: Display,
    /// Its text as it stands on the screen.
    shown: String,
}

/// One cell's part of the screen.
pub struct Screen {
    /// Columns and rows now, if this is a terminal that can be redrawn. Its window may change its size at any time.
    size: fn() -> Option<(usize, usize)>,
    /// The last displays on the screen, with nothing between or below them.
    live: Vec<Live>,
    /// Last states of updated displays that could not be redrawn.
    late: Vec<Display>,
    /// Whether the last text ended within a line.
    within_line: bool,
    /// What of the cell's streams a terminal may see.
    printed: Tamer,
    complained: Tamer,
}

/// Columns and rows of standard output, if it is a terminal that understands more than text.
pub fn size() -> Option<(usize, usize)> {
    let able = std::io::stdout().is_terminal()
        && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
    able.then(|| {
        let (rows, columns) = console::Term::stdout().size();
        (usize::from(columns).max(20), usize::from(rows).max(4))
    })
}

impl Screen {
    /// The screen for one cell.
    pub fn new() -> Screen {
        Screen {
            size,
            live: Vec::new(),
            late: Vec::new(),
            within_line: false,
            printed: Tamer::default(),
            complained: Tamer::default(),
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

    /// Shows a line that is not the cell's, below all that it has shown so far.
    pub fn note(&mut self, text: &str) {
        let mut out = std::io::stdout().lock();
        self.text_follows(&mut out);
        if std::mem::take(&mut self.within_line) {
            drop(writeln!(out));
        }
        drop(writeln!(out, "{}", tame(text)));
    }

    /// Shows the question that a cell asks; the answer is typed behind it.
    pub fn question(&mut self, prompt: &str) {
        let mut out = std::io::stdout().lock();
        self.text_follows(&mut out);
        let prompt = tame(prompt);
        drop(out.write_all(prompt.as_bytes()).and_then(|()| out.flush()));
    }

    /// The question has been answered, or was given up.
    pub fn answered(&mut self, line_ended: bool) {
        if !line_ended {
            line("");
        }
        self.within_line = false;
    }

    fn write_event(&mut self, event: &Event, out: &mut dyn Write, err: &mut dyn Write) {
        // A reader that has gone away is no reason to end the cell.
        match event {
            Event::Stream {
                name: StreamName::Stdout,
                text,
            } => {
                self.text_follows(out);
                self.within_line = !text.ends_with('\n');
                let text = self.printed.printed(text);
                drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
            }
            Event::Stream {
                name: StreamName::Stderr,
                text,
            } => {
                self.text_follows(out);
                self.within_line = !text.ends_with('\n');
                let text = self.complained.printed(text);
                drop(out.flush().and_then(|()| err.write_all(text.as_bytes())));
            }
            Event::Display(display) | Event::Result(display) => self.show(display, out),
            Event::Update(display) => self.update(display, out),
            // What was printed stays: a terminal is a record.
            Event::ClearOutput { .. } => {}
            // Nobody can move a control here; its display says where it stands.
            Event::Comm(_) => {}
            // It has a way of its own, see `above`.
            Event::Background { .. } => {}
        }
    }

    /// From now on the displays so far are not the last on the screen: those that were cut, or have pictures, are drawn
    /// once more as they stay.
    fn text_follows(&mut self, out: &mut dyn Write) {
        let passing = |live: &Live| {
            live.shown != plain(&live.display) || !picture::pictures(&live.display).is_empty()
        };
        if let Some(at) = self.live.iter().position(passing)
            && let Some((columns, _)) = (self.size)()
        {
            let up = self.rows_from(at, columns);
            drop(write!(out, "\u{1b}[{up}A\r\u{1b}[J"));
            let rest: Vec<Live> = self.live.drain(at..).collect();
            rest.iter().for_each(|live| self.whole(&live.display, out));
        }
        self.live.clear();
    }

    fn show(&mut self, display: &Display, out: &mut dyn Write) {
        if std::mem::take(&mut self.within_line) {
            drop(writeln!(out));
        }
        match ((self.size)(), &display.display_id) {
            (Some((columns, rows)), Some(id)) => {
                let live = live(id, display, columns);
                drop(writeln!(out, "{}", live.shown).and_then(|()| out.flush()));
                self.live.push(live);
                self.keep_what_fits(columns, rows);
            }
            _ => {
                self.text_follows(out);
                self.whole(display, out);
            }
        }
    }

    /// A display with its pictures, as it stays.
    fn whole(&self, display: &Display, out: &mut dyn Write) {
        if let Some((columns, rows)) = (self.size)().filter(|_| console::colors_enabled()) {
            drop(out.flush());
            // A display takes a third of the screen with its text, so that what was typed and shown before stays in sight;
            // with much text its pictures still get a sixth, and rows enough to be made out.
            let text: usize = plain(display)
                .lines()
                .map(|line| console::measure_text_width(line).div_ceil(columns).max(1))
                .sum();
            let rows = (rows / 3)
                .saturating_sub(text)
                .max(rows / 6)
                .max(FEWEST)
                .min(rows);
            picture::print(&picture::pictures(display), columns, rows);
        }
        drop(writeln!(out, "{}", plain(display)).and_then(|()| out.flush()));
    }

    fn update(&mut self, display: &Display, out: &mut dyn Write) {
        let Some(id) = &display.display_id else {
            return;
        };
        let at = self.live.iter().position(|live| live.id == *id);
        match (at, (self.size)()) {
            (Some(at), Some((columns, height))) => {
                let up = self.rows_from(at, columns);
                self.live[at] = live(id, display, columns);
                let texts = self.live[at..].iter().map(|live| live.shown.as_str());
                let texts = texts.collect::<Vec<_>>().join("\n");
                // Up to the display's first row, and clear from there down.
                drop(writeln!(out, "\u{1b}[{up}A\r\u{1b}[J{texts}").and_then(|()| out.flush()));
                self.keep_what_fits(columns, height);
            }
            _ => {
                self.late
                    .retain(|late| late.display_id.as_ref() != Some(id));
                self.late.push(display.clone());
            }
        }
    }

    /// Displays whose first row has left the screen can't be redrawn.
    fn keep_what_fits(&mut self, columns: usize, height: usize) {
        let from = (0..self.live.len())
            .find(|&at| self.rows_from(at, columns) < height)
            .unwrap_or(self.live.len());
        self.live.drain(..from);
    }

    /// Rows from the display on to the end, in a terminal of so many columns.
    fn rows_from(&self, at: usize, columns: usize) -> usize {
        let lines = self.live[at..]
            .iter()
            .flat_map(|live| live.shown.split('\n'));
        lines
            .map(|line| console::measure_text_width(line).div_ceil(columns).max(1))
            .sum()
    }

    /// The cell has ended: shows last states that were not shown yet, and whole what was cut.
    pub fn end(&mut self) {
        self.write_end(&mut std::io::stdout().lock());
    }

    fn write_end(&mut self, out: &mut dyn Write) {
        if std::mem::take(&mut self.within_line) {
            drop(writeln!(out));
        }
        self.text_follows(out);
        for display in std::mem::take(&mut self.late) {
            self.whole(&display, out);
        }
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
        let report = tame(&report).into_owned();
        let report = match (self.size)() {
            Some((columns, _)) => folded(&report, columns),
            None => report,
        };
        let report = match (coloured, (self.size)()) {
            (true, Some(_)) => linked(&report).into(),
            (true, None) => report.into(),
            (false, _) => console::strip_ansi_codes(&report),
        };
        drop(writeln!(err, "{report}"));
    }
}

/// A display that will change, its lines cut so that each takes one row.
fn live(id: &str, display: &Display, columns: usize) -> Live {
    let text = plain(display);
    let lines = text
        .split('\n')
        .map(|line| console::truncate_str(line, columns - 1, "…"));
    Live {
        id: id.to_owned(),
        display: display.clone(),
        shown: lines.collect::<Vec<_>>().join("\n"),
    }
}

/// The text form of a display, or a word about what else it is.
fn plain(display: &Display) -> String {
    match display.plain() {
        Some(text) => tame(text.trim_end_matches('\n')).into_owned(),
        None => format!(
            "({})",
            tame_line(&display.data.keys().cloned().collect::<Vec<_>>().join(", "))
        ),
    }
}

/// Long sentences in lines of whole words; lines of code, which have a bar before them, stay as they are.
fn folded(report: &str, columns: usize) -> String {
    let lines = report.lines().map(|line| {
        let code = console::strip_ansi_codes(line)
            .trim_start_matches(|c: char| c == ' ' || c.is_ascii_digit())
            .starts_with('|');
        if code || console::measure_text_width(line) <= columns {
            line.to_owned()
        } else {
            layout::wrapped(line, columns).join("\n")
        }
    });
    lines.collect::<Vec<_>>().join("\n")
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

    #[test]
    fn sentences_are_folded_between_words_and_code_is_not() {
        let code = format!("12 | {}", "x ".repeat(20));
        let report = format!("one two three four\n{code}\n   | {}", "^ ".repeat(20));
        assert_eq!(
            folded(&report, 10),
            report.replace("one two three four", "one two\nthree four")
        );
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

    fn record(size: fn() -> Option<(usize, usize)>, events: &[Event]) -> String {
        let mut screen = Screen {
            size,
            ..Screen::new()
        };
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        events
            .iter()
            .for_each(|event| screen.write_event(event, &mut stdout, &mut stderr));
        screen.write_end(&mut stdout);
        String::from_utf8(stdout).unwrap()
    }

    fn wide() -> Option<(usize, usize)> {
        Some((80, 24))
    }

    fn narrow() -> Option<(usize, usize)> {
        Some((20, 24))
    }

    fn pipe() -> Option<(usize, usize)> {
        None
    }

    #[test]
    fn a_terminal_redraws_what_is_last_on_it() {
        let events = [
            Event::Display(shown("0%\n.", "p")),
            Event::Update(shown("50%", "p")),
            Event::Update(shown("99%", "p")),
        ];
        assert_eq!(
            record(wide, &events),
            "0%\n.\n\u{1b}[2A\r\u{1b}[J50%\n\u{1b}[1A\r\u{1b}[J99%\n"
        );
    }

    #[test]
    fn two_displays_are_redrawn_beside_each_other() {
        let events = [
            Event::Display(shown("a0", "a")),
            Event::Display(shown("b0", "b")),
            Event::Update(shown("a1", "a")),
            Event::Update(shown("b1", "b")),
        ];
        assert_eq!(
            record(wide, &events),
            "a0\nb0\n\u{1b}[2A\r\u{1b}[Ja1\nb0\n\u{1b}[1A\r\u{1b}[Jb1\n"
        );
    }

    #[test]
    fn a_long_line_is_cut_while_it_changes_and_whole_at_the_end() {
        let (long, cut) = ("x".repeat(45), format!("{}…", "x".repeat(18)));
        let events = [
            Event::Display(shown("y", "p")),
            Event::Update(shown(&long, "p")),
        ];
        assert_eq!(
            record(narrow, &events),
            format!("y\n\u{1b}[1A\r\u{1b}[J{cut}\n\u{1b}[1A\r\u{1b}[J{long}\n")
        );
    }

    #[test]
    fn what_does_not_fit_the_screen_is_shown_at_the_end() {
        let tall = "x\n".repeat(30);
        let events = [
            Event::Display(shown(&tall, "p")),
            Event::Update(shown("y", "p")),
        ];
        assert_eq!(record(wide, &events), format!("{tall}y\n"));
    }

    #[test]
    fn a_pipe_gets_the_first_and_the_last_state() {
        let events = [
            Event::Display(shown("0%", "p")),
            Event::Update(shown("50%", "p")),
            Event::Update(shown("99%", "p")),
        ];
        assert_eq!(record(pipe, &events), "0%\n99%\n");
    }

    #[test]
    fn text_after_a_display_is_not_overwritten() {
        let events = [
            Event::Display(shown("0%", "p")),
            out("note\n"),
            Event::Update(shown("99%", "p")),
        ];
        assert_eq!(record(wide, &events), "0%\nnote\n99%\n");
    }

    #[test]
    fn a_value_begins_on_its_own_line() {
        assert_eq!(
            record(pipe, &[out("ab"), Event::Result(Display::text("5"))]),
            "ab\n5\n"
        );
        assert_eq!(record(pipe, &[out("ab")]), "ab\n");
    }
}

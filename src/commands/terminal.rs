//! What a person sees while things go on: one live line at the bottom of a terminal, plain lines in a log.

use std::fmt::Display;
use std::io::Write as _;
use std::time::{Duration, Instant};

use console::{Term, style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::figures::time;
use crate::notebook::Notebook;
use crate::notebook::run::{CellLabel, CellReport, Progress};
use crate::ranks;
use crate::session::{Display as Shown, Event, StartEvent};
use crate::terminal_text::{tame, tame_line};

/// How often a log gets a line about a cell or a build that takes long.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Columns for a cell's first line in a terminal of 100; its time and its fate follow.
const HEAD: usize = 76;

/// Writes an error for a person. Of several processes each says which one it is.
pub fn complain(message: &str) {
    let who = match ranks::own() {
        Some(rank) => format!("rank {rank}: "),
        None => String::new(),
    };
    always(&format!(
        "{who}{} {message}",
        style("error:").red().bold().for_stderr()
    ));
}

/// Writes a line to standard error, of which a terminal obeys nothing but colours. A reader that has gone away is no error. Of several
/// processes the first one writes.
pub fn line(text: &str) {
    if !ranks::follows() {
        always(text);
    }
}

/// The same on every process, in one piece: pieces of several processes' lines would mix.
pub fn always(text: &str) {
    drop(std::io::stderr().write_all(format!("{}\n", tame(text)).as_bytes()));
}

/// Text with ANSI colours as this terminal wants it.
pub fn coloured(text: &str) -> String {
    let text = tame(text);
    if console::colors_enabled_stderr() {
        text.into_owned()
    } else {
        console::strip_ansi_codes(&text).into_owned()
    }
}

/// A line that changes in place, or nothing where there is no terminal.
pub struct Live {
    bar: Option<ProgressBar>,
    /// When a log last got a line.
    logged: Instant,
}

impl Live {
    /// A line in the form of an indicatif template.
    pub fn new(template: &str) -> Live {
        let terminal = Term::stderr();
        let bar = (terminal.is_term() && !ranks::follows()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::term(terminal, 12));
            // The templates are constants of this file; one that does not parse shows as the default style.
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Live {
            bar,
            logged: Instant::now(),
        }
    }

    /// Empties it.
    pub fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.set_message("");
        }
    }

    /// Shows `whole` in a terminal, and `line` now and then in a log.
    pub fn show(&mut self, whole: impl FnOnce() -> String, line: impl FnOnce() -> String) {
        match &self.bar {
            Some(bar) => bar.set_message(whole()),
            None => self.log_now_and_then(line),
        }
    }

    /// Does something that writes, with the line out of the way.
    pub fn hidden(&self, write: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// What a log gets now and then.
    fn log_now_and_then(&mut self, text: impl FnOnce() -> String) {
        if self.bar.is_none() && self.logged.elapsed() >= LOG_EVERY {
            self.logged = Instant::now();
            line(&text());
        }
    }

    /// The line goes away.
    pub fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// Shows how a session starts: where the time goes, above all when the prelude is built.
pub struct Starting {
    live: Live,
    started: Instant,
    building: bool,
}

impl Starting {
    /// Begins to show.
    pub fn new() -> Starting {
        let live = Live::new("{spinner:.cyan} {wide_msg}");
        Starting {
            live,
            started: Instant::now(),
            building: false,
        }
    }

    /// The session has reached the next step.
    pub fn step(&mut self, event: &StartEvent) {
        let mut text = tame(&event.to_string()).into_owned();
        match event {
            StartEvent::BuildingPrelude { .. } => {
                if !self.building {
                    self.building = true;
                    self.permanent("building the prelude: minutes now, once for this compiler and these sources");
                }
                text += &format!(" ({})", time(self.started.elapsed()));
            }
            StartEvent::Ready => return,
            _ if event.takes_long() => self.permanent(&text),
            _ => {}
        }
        match &self.live.bar {
            Some(bar) => bar.set_message(text),
            None if self.building => self.live.log_now_and_then(|| text),
            None => {}
        }
    }

    /// The session is there, or not; the live line goes away.
    pub fn end(mut self) -> Duration {
        self.live.end();
        self.started.elapsed()
    }

    fn permanent(&self, text: &str) {
        match &self.live.bar {
            Some(bar) => bar.println(text),
            None => line(text),
        }
    }
}

/// Shows the cells of a run: one line each, and the running one live.
pub struct CellLines<F: FnMut(&CellReport, &Notebook) + Send> {
    live: Option<Live>,
    started: Instant,
    head: String,
    /// Called after each cell.
    after: F,
}

impl<F: FnMut(&CellReport, &Notebook) + Send> CellLines<F> {
    /// Calls `after` when a cell has ended.
    pub fn new(after: F) -> CellLines<F> {
        CellLines {
            live: None,
            started: Instant::now(),
            head: String::new(),
            after,
        }
    }
}

/// "[ 3/12] first line", at most `width` columns.
fn head(label: &CellLabel, width: usize) -> String {
    let digits = label.total.to_string().len();
    let text = format!(
        "[{:>digits$}/{}] {}",
        label.number,
        label.total,
        tame_line(&label.headline)
    );
    console::truncate_str(&text, width, "…").into_owned()
}

impl<F: FnMut(&CellReport, &Notebook) + Send> Progress for CellLines<F> {
    fn started(&mut self, label: &CellLabel) {
        let width = usize::from(Term::stderr().size().1).max(40);
        let live = Live::new("{spinner:.cyan} {prefix} {elapsed:.dim} {wide_msg:.dim}");
        match &live.bar {
            Some(bar) => bar.set_prefix(head(label, (width / 2).min(60))),
            // A log shows which cell is running even if it never ends.
            None if ranks::follows() => {}
            None => drop(write!(std::io::stderr(), "  {} … ", head(label, 72))),
        }
        self.head = head(label, width.min(100) - (100 - HEAD));
        self.started = Instant::now();
        self.live = Some(live);
    }

    fn event(&mut self, event: &Event) {
        let Some(live) = &mut self.live else { return };
        if let Some(text) = latest(event) {
            match &live.bar {
                Some(bar) => bar.set_message(text),
                None => {
                    let elapsed = time(self.started.elapsed());
                    live.log_now_and_then(|| format!("\n      {elapsed}: {text}"));
                }
            }
        }
    }

    fn finished(&mut self, report: &CellReport, notebook: &Notebook) {
        let live = self.live.take();
        let (mark, note) = match (&report.error, report.forgiven) {
            (None, _) => (style("✓").green(), String::new()),
            (Some(error), true) => (
                style("!").yellow(),
                format!("  {} (allowed)", tame_line(&error.ename)),
            ),
            (Some(error), false) => (style("✗").red(), format!("  {}", tame_line(&error.ename))),
        };
        let mark = mark.for_stderr();
        match live {
            Some(mut live) if live.bar.is_some() => {
                live.end();
                let padding =
                    " ".repeat(HEAD.saturating_sub(console::measure_text_width(&self.head)));
                line(&format!(
                    "{mark} {}{padding} {}{note}",
                    self.head,
                    style(time(report.duration)).dim().for_stderr()
                ));
            }
            _ => line(&format!("{mark} {}{note}", time(report.duration))),
        }
        (self.after)(report, notebook);
    }
}

/// The last line of what a cell shows, for the live line.
pub fn latest(event: &Event) -> Option<String> {
    let plain = |shown: &Shown| shown.plain().map(str::to_owned);
    let text = match event {
        Event::Stream { text, .. } => text.clone(),
        Event::Display(shown) | Event::Update(shown) | Event::Result(shown) => plain(shown)?,
        Event::ClearOutput { .. } | Event::Comm(_) | Event::Background { .. } => return None,
    };
    let clean = console::strip_ansi_codes(&text);
    let last = clean
        .split(['\n', '\r'])
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty())?;
    Some(
        tame_line(last)
            .chars()
            .filter(|c| !c.is_control())
            .collect(),
    )
}

/// The report of a cell that ended the run.
pub fn failed_cell(notebook: impl Display, report: &CellReport) -> Option<String> {
    let error = report.error.as_ref()?;
    let label = &report.label;
    let mut text = format!(
        "\n{} {}, cell {} of {}: {}: {}\n  {} {}\n",
        style("failed:").red().bold().for_stderr(),
        tame_line(&notebook.to_string()),
        label.number,
        label.total,
        tame(&error.ename),
        tame(&error.evalue),
        style("│").dim().for_stderr(),
        tame_line(&label.headline),
    );
    for line in &error.traceback {
        text.push_str(&coloured(line));
        text.push('\n');
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::StreamName;

    #[test]
    fn the_latest_line_is_the_last_that_says_something() {
        let stream = |text: &str| {
            latest(&Event::Stream {
                name: StreamName::Stdout,
                text: text.into(),
            })
        };
        assert_eq!(stream("a\nb\n\n").as_deref(), Some("b"));
        assert_eq!(
            stream("10%\r\u{1b}[31m20%\u{1b}[0m\r").as_deref(),
            Some("20%")
        );
        assert_eq!(stream("\n"), None);
        assert_eq!(
            latest(&Event::Update(Shown::text("step 3\nloss 0.5"))).as_deref(),
            Some("loss 0.5")
        );
    }

    #[test]
    fn heads_align_and_are_cut() {
        let label = CellLabel {
            number: 3,
            total: 12,
            headline: "let x = 1;".into(),
        };
        assert_eq!(head(&label, 80), "[ 3/12] let x = 1;");
        assert_eq!(head(&label, 12), "[ 3/12] let…");
    }
}

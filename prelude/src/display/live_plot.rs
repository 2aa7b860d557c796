//! Training as it happens, on one display: loss and validation loss, small multiples of whatever else is measured, pace, and how
//! long still.
//!
//! The trainer (or a loop of one's own) reports steps; the plot decides when to draw. What is left in the saved notebook is the last
//! state, with the result in words.
//!
//! ```text
//! step, validation ─► the large chart      panel ─► small ones beside each other      note, pictures ─► words and pictures below
//! ```

use std::time::{Duration, Instant};

use super::live::{Followed, Shared, Slot};
use super::plot::LineStyle;
use super::progress::time_left;
use super::{ImageGrid, LinePlot, MimeBundle, Render, html, number, text_plot};

/// A plot costs some milliseconds to draw and some kilobytes to send: this often is live enough.
const REDRAW: Duration = Duration::from_millis(500);
/// The same with small multiples below it.
const REDRAW_ALL: Duration = Duration::from_millis(1500);
/// Losses that the smooth line averages over, as a share of all steps.
const SMOOTHING: f64 = 0.03;
/// Small multiples; what comes after them is not drawn, and said to be left out.
const MOST_PANELS: usize = 12;

/// Steps and what they had.
type Points<'a> = &'a [(usize, f64)];

/// One display that follows a training run. Clones follow the same run.
///
/// ```
/// use glassbox_prelude::display::LivePlot;
/// let plot = LivePlot::new("projector + LoRA", 200);
/// for step in 0..200 {
///     plot.step(step, 3.0 / (1.0 + step as f64), 64);
///     plot.panel("gradient", "projector", step, 1.0 / (1.0 + step as f64));
/// }
/// plot.validation(200, 0.5);
/// plot.finish("held-out accuracy 93%");
/// ```
#[derive(Clone)]
pub struct LivePlot {
    state: Shared<State>,
}

struct State {
    title: String,
    total: u64,
    train: Vec<(f64, f64)>,
    validation: Vec<(f64, f64)>,
    panels: Vec<Panel>,
    /// What stands behind the figures: a name, and its last value in words.
    notes: Vec<(String, String)>,
    pictures: Option<(String, ImageGrid)>,
    /// Steps and tokens since this display began, for the pace.
    steps: u64,
    tokens: u64,
    begun: Instant,
    ended: Option<Duration>,
    result: String,
    /// Nothing is shown.
    hidden: bool,
    slot: Slot,
}

/// A small chart.
struct Panel {
    name: String,
    /// By label.
    lines: Vec<(String, Vec<(f64, f64)>)>,
}

impl LivePlot {
    /// A plot for a run that ends at step `total`.
    pub fn new(title: impl Into<String>, total: usize) -> Self {
        Self::resumed(title, total, &[], &[])
    }

    /// A plot for a run that goes on from earlier steps: `(step, loss)` of training and validation so far.
    pub fn resumed(
        title: impl Into<String>,
        total: usize,
        train: &[(usize, f64)],
        validation: &[(usize, f64)],
    ) -> Self {
        Self::begin(title.into(), total, (train, validation), false)
    }

    /// The same without a display, for loops over many runs: it takes what it is told and shows nothing.
    pub fn hidden() -> Self {
        Self::begin(String::new(), 0, (&[], &[]), true)
    }

    /// The same of a run that another process makes: it shows nothing by itself, and whoever reads the run's log says the time.
    pub(crate) fn of_log(title: impl Into<String>, total: usize) -> Self {
        Self::begin(title.into(), total, (&[], &[]), true)
    }

    /// So many seconds has the run trained.
    pub(crate) fn clock(&self, seconds: f64) {
        let trained = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let now = Instant::now();
        self.state.lock().begun = now.checked_sub(trained).unwrap_or(now);
    }

    fn begin(
        title: String,
        total: usize,
        (train, validation): (Points<'_>, Points<'_>),
        hidden: bool,
    ) -> Self {
        let points = |earlier: &[(usize, f64)]| {
            earlier
                .iter()
                .map(|(step, loss)| (*step as f64, *loss))
                .collect()
        };
        let state = State {
            title,
            total: total as u64,
            train: points(train),
            validation: points(validation),
            panels: Vec::new(),
            notes: Vec::new(),
            pictures: None,
            steps: 0,
            tokens: 0,
            begun: Instant::now(),
            ended: None,
            result: String::new(),
            hidden,
            slot: Slot::new(REDRAW),
        };
        Self {
            state: state.follow(),
        }
    }

    /// Step `step` (from 0) is done: its loss, and how many tokens it was computed on.
    pub fn step(&self, step: usize, loss: f64, tokens: usize) {
        let mut state = self.state.lock();
        state.train.push((step as f64, loss));
        state.steps += 1;
        state.tokens = state.tokens.saturating_add(tokens as u64);
        state.changed();
    }

    /// The validation loss as it was before step `step`.
    pub fn validation(&self, step: usize, loss: f64) {
        let mut state = self.state.lock();
        state.validation.push((step as f64, loss));
        state.changed();
    }

    /// A value at `step` on the small chart `panel`, on its line `line` (empty for a chart with one line). Seen with the next step.
    pub fn panel(&self, panel: &str, line: &str, step: usize, value: f64) {
        let mut state = self.state.lock();
        let at = match state.panels.iter().position(|known| known.name == panel) {
            Some(at) => at,
            None => {
                let name = panel.to_owned();
                let lines = Vec::new();
                state.panels.push(Panel { name, lines });
                state.slot.every(REDRAW_ALL);
                state.panels.len() - 1
            }
        };
        let lines = &mut state.panels[at].lines;
        let at = match lines.iter().position(|(label, _)| label == line) {
            Some(at) => at,
            None => {
                lines.push((line.to_owned(), Vec::new()));
                lines.len() - 1
            }
        };
        lines[at].1.push((step as f64, value));
    }

    /// What is said of `name` behind the figures from now on, such as `memory` and `1.2 GB`. Seen with the next step.
    pub fn note(&self, name: &str, value: impl Into<String>) {
        let mut state = self.state.lock();
        let value = value.into();
        match state.notes.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => state.notes.push((name.to_owned(), value)),
        }
    }

    /// Pictures below the charts with what is said of them, in place of those that were there.
    pub fn pictures(&self, title: impl Into<String>, pictures: ImageGrid) {
        let mut state = self.state.lock();
        state.pictures = Some((title.into(), pictures));
        state.changed();
    }

    /// The run is over; `result` says in words what came out.
    pub fn finish(&self, result: impl Into<String>) {
        let mut state = self.state.lock();
        state.result = result.into();
        state.end();
    }
}

impl Render for LivePlot {
    fn render(&self) -> MimeBundle {
        self.state.lock().look()
    }
}

impl Followed for State {
    fn slot(&mut self) -> &mut Slot {
        &mut self.slot
    }

    fn look(&self) -> MimeBundle {
        self.bundle(self.begun.elapsed())
    }

    fn is_shown(&self) -> bool {
        !self.hidden
    }
}

impl State {
    fn end(&mut self) {
        self.ended.get_or_insert_with(|| self.begun.elapsed());
        self.settle();
    }

    /// Steps done, earlier runs included.
    fn done(&self) -> u64 {
        self.train
            .last()
            .map_or(0, |(step, _)| (*step as u64).saturating_add(1))
    }

    /// The losses as a line that an eye can follow.
    fn smooth(&self) -> Vec<(f64, f64)> {
        smoothed(&self.train, span(self.total))
    }

    fn bundle(&self, elapsed: Duration) -> MimeBundle {
        let elapsed = self.ended.unwrap_or(elapsed);
        let smooth = self.smooth();
        let figures = self.figures(elapsed, &smooth);
        let titled = match self.title.is_empty() {
            true => String::new(),
            false => format!("{}: ", self.title),
        };
        let result = match self.result.is_empty() {
            true => String::new(),
            false => format!(" · {}", self.result),
        };
        let line = format!("{titled}{figures}{result}");
        let drawn = self.drawn_as_text(&smooth);
        let said = self
            .pictures
            .as_ref()
            .map(|(title, pictures)| format!("{title}\n{}", pictures.render().plain()));
        let parts = [drawn, said, Some(line)];
        let text: Vec<String> = parts.into_iter().flatten().collect();
        MimeBundle::text(text.join("\n")).with_html(self.markup(&figures, smooth))
    }

    fn markup(&self, figures: &str, smooth: Vec<(f64, f64)>) -> String {
        let plot = LinePlot::new(self.title.clone())
            .axes("step", "loss")
            .pale_line("each step", "training, smoothed", self.train.clone())
            .styled_line("training, smoothed", smooth, LineStyle::Solid);
        let plot = if self.validation.is_empty() {
            plot
        } else {
            plot.styled_line("validation", self.validation.clone(), LineStyle::Marked)
        };
        let fraction = self.done() as f64 / self.total.max(1) as f64;
        let color = match self.ended {
            None => "#1f77b4",
            Some(_) if self.done() >= self.total => html::GREEN,
            Some(_) => html::RED,
        };
        let result = match self.result.is_empty() {
            true => String::new(),
            false => format!(
                "<div style=\"font-weight:600;margin-top:2px\">{}</div>",
                html::escape(&self.result)
            ),
        };
        let pictures = self.pictures.as_ref().map(|(title, pictures)| {
            let grid = pictures.render();
            let grid = grid.html().unwrap_or_default();
            format!(
                "<div style=\"margin-top:6px\">{}</div>{grid}",
                html::escape(title)
            )
        });
        format!(
            "<div style=\"font-family:{};font-size:13px;max-width:640px\">{}\
             <div style=\"margin-top:4px\">{}</div><div style=\"margin-top:2px\">{}</div>{result}{}{}</div>",
            html::SANS,
            drawn(&plot),
            html::bar(fraction, 640, 10, color),
            html::escape(figures),
            self.small_multiples(),
            pictures.unwrap_or_default()
        )
    }

    /// The panels, two in a row.
    fn small_multiples(&self) -> String {
        let each = self.panels.iter().take(MOST_PANELS).map(|panel| {
            let plot = LinePlot::new(panel.name.clone()).small();
            let plot = panel.lines.iter().fold(plot, |plot, (label, points)| {
                plot.styled_line(label.clone(), points.clone(), LineStyle::Solid)
            });
            format!(
                "<div style=\"display:inline-block;vertical-align:top;margin:6px 4px 0 0\">{}</div>",
                drawn(&plot)
            )
        });
        let mut markup: String = each.collect();
        if let Some(left_out) = self
            .panels
            .get(MOST_PANELS..)
            .filter(|rest| !rest.is_empty())
        {
            let names: Vec<&str> = left_out.iter().map(|panel| panel.name.as_str()).collect();
            markup += &format!("<div>not drawn: {}</div>", html::escape(&names.join(", ")));
        }
        markup
    }

    fn drawn_as_text(&self, smooth: &[(f64, f64)]) -> Option<String> {
        let mut series: Vec<text_plot::Series<'_>> = vec![("training", smooth)];
        if !self.validation.is_empty() {
            series.push(("validation", &self.validation));
        }
        text_plot::draw(&series, "step", false)
    }

    /// `step 120/200 · loss 0.81 · validation 0.92 · 3,400 tokens/s · 0:21 left`
    fn figures(&self, elapsed: Duration, smooth: &[(f64, f64)]) -> String {
        let mut parts = vec![format!(
            "step {}/{}",
            number::count(self.done()),
            number::count(self.total)
        )];
        if let Some((_, loss)) = smooth.last() {
            parts.push(format!("loss {}", number::float(*loss)));
        }
        if let Some((_, loss)) = self.validation.last() {
            parts.push(format!("validation {}", number::float(*loss)));
        }
        let seconds = elapsed.as_secs_f64();
        if self.steps > 0 && seconds > 0.0 {
            parts.push(format!(
                "{} steps/s",
                number::float(self.steps as f64 / seconds)
            ));
        }
        if self.tokens > 0 && seconds > 0.0 {
            parts.push(format!(
                "{} tokens/s",
                number::count((self.tokens as f64 / seconds) as u64)
            ));
        }
        let notes = self.notes.iter();
        parts.extend(notes.map(|(name, value)| format!("{name} {value}")));
        match self.ended {
            None => {
                let still = self.total.saturating_sub(self.done());
                if let Some(left) =
                    time_left(self.steps, Some(self.steps.saturating_add(still)), elapsed)
                {
                    parts.push(format!("{} left", number::duration(left)));
                }
            }
            Some(took) if self.done() >= self.total => {
                parts.push(format!("done in {}", number::duration(took)))
            }
            Some(took) => parts.push(format!("stopped after {}", number::duration(took))),
        }
        parts.join(" · ")
    }
}

/// A chart for a page, with the legend above it where it has no room inside.
fn drawn(plot: &LinePlot) -> String {
    let bundle = plot.picture();
    bundle.html().unwrap_or_default().to_owned()
}

/// Losses that the smooth line of a run of so many steps averages over.
pub(crate) fn span(steps: u64) -> f64 {
    (steps as f64 * SMOOTHING).max(4.0)
}

/// Running mean with exponentially fading memory of about `span` points, without the start's bias towards zero.
pub(crate) fn smoothed(points: &[(f64, f64)], span: f64) -> Vec<(f64, f64)> {
    let keep = 1.0 - 1.0 / span.max(1.0);
    let (mut mean, mut weight) = (0.0, 0.0);
    let mut out = Vec::with_capacity(points.len());
    for (step, loss) in points {
        if loss.is_finite() {
            weight = weight * keep + 1.0;
            // Each part by itself: the difference of two large ones may be beyond the largest double.
            mean = mean * (1.0 - 1.0 / weight) + loss / weight;
            out.push((*step, mean));
        } else {
            out.push((*step, f64::NAN));
        }
    }
    out
}

impl Drop for State {
    fn drop(&mut self) {
        if self.ended.is_none() {
            self.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(steps: usize, total: u64) -> State {
        State {
            title: "run".into(),
            total,
            train: (0..steps).map(|step| (step as f64, 2.0)).collect(),
            validation: vec![(0.0, 2.5)],
            panels: Vec::new(),
            notes: Vec::new(),
            pictures: None,
            steps: steps as u64,
            tokens: steps as u64 * 100,
            begun: Instant::now(),
            ended: None,
            result: String::new(),
            hidden: false,
            slot: Slot::new(REDRAW),
        }
    }

    #[test]
    fn one_line_says_where_the_run_is() {
        let mut running = state(50, 200);
        let line = "step 50/200 · loss 2 · validation 2.5 · 5 steps/s · 500 tokens/s";
        assert_eq!(
            running.figures(Duration::from_secs(10), &running.smooth()),
            format!("{line} · 30.0 s left")
        );
        running.ended = Some(Duration::from_secs(10));
        running.result = "accuracy <93%>".into();
        let bundle = running.bundle(Duration::from_secs(99));
        let (drawing, last) = bundle.plain().rsplit_once('\n').unwrap();
        assert_eq!(
            last,
            format!("run: {line} · stopped after 10.0 s · accuracy <93%>")
        );
        assert!(drawing.contains("49 step"), "{drawing}");
        assert!(
            bundle
                .html()
                .is_some_and(|html| html.contains("accuracy &lt;93%&gt;") && html.contains("<img"))
        );
    }

    #[test]
    fn a_run_without_steps_draws() {
        let mut empty = state(0, 0);
        empty.ended = Some(Duration::ZERO);
        assert!(empty.bundle(Duration::ZERO).html().is_some());
    }

    #[test]
    fn smoothing_starts_at_the_first_value_and_skips_what_is_not_finite() {
        let smooth = smoothed(&[(0.0, 4.0), (1.0, f64::NAN), (2.0, 2.0)], 2.0);
        assert_eq!(smooth[0].1, 4.0);
        assert!(smooth[1].1.is_nan());
        assert!((smooth[2].1 - 8.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn panels_notes_and_pictures_stand_below_and_too_many_are_named() -> crate::Result<()> {
        let plot = LivePlot::new("run", 10);
        for step in 0..10 {
            plot.step(step, 1.0, 5);
            plot.panel("gradient", "projector", step, 0.5);
            plot.panel("gradient", "llm <lora>", step, 0.25);
        }
        for index in 0..MOST_PANELS + 1 {
            plot.panel(&format!("own {index}"), "", 0, 1.0);
        }
        plot.note("memory", "1 GB");
        plot.note("memory", "2 GB");
        let image = crate::vision::Image::filled(8, 8, [9, 9, 9])?;
        let item = super::super::GridItem::new(&image).prediction("a <star>");
        plot.pictures("at step 10", ImageGrid::new(vec![item]));
        plot.finish("");
        let bundle = plot.render();
        let html = bundle.html().unwrap_or_default();
        assert_eq!(html.matches("<img").count(), 1 + MOST_PANELS + 1, "{html}");
        assert!(html.contains("not drawn: own 11, own 12"), "{html}");
        assert!(html.contains("a &lt;star&gt;") && !html.contains("<lora>"));
        let text = bundle.plain();
        assert!(
            text.contains("· memory 2 GB ·") && !text.contains("1 GB"),
            "{text}"
        );
        assert!(text.contains("a <star>"), "{text}");
        Ok(())
    }

    #[test]
    fn a_hidden_plot_has_no_display() {
        let plot = LivePlot::hidden();
        plot.step(0, 1.0, 1);
        plot.finish("done");
        assert!(!plot.state.lock().slot.is_filled());
        let shown = LivePlot::new("", 1);
        assert!(shown.state.lock().slot.is_filled());
    }
}

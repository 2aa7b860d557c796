//! Training as it happens, on one display: loss and validation loss, pace, and how long still.
//!
//! The trainer reports steps; the plot decides when to draw. What is left in the saved notebook is the last state,
//! with the result in words.

use std::time::{Duration, Instant};

use super::live::{Followed, Shared, Slot};
use super::plot::LineStyle;
use super::progress::time_left;
use super::{LinePlot, MimeBundle, Render, html, number, text_plot};

/// A plot costs a few milliseconds to draw and some kilobytes to send: twice a second is live enough.
const REDRAW: Duration = Duration::from_millis(500);
/// Losses that the smooth line averages over, as a share of all steps.
const SMOOTHING: f64 = 0.03;

/// One display that follows a training run. Clones follow the same run.
///
/// ```
/// use glassbox_prelude::display::LivePlot;
/// let plot = LivePlot::new("projector + LoRA", 200);
/// for step in 0..200 {
///     plot.step(step, 3.0 / (1.0 + step as f64), 64);
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
    /// Steps and tokens since this display began, for the pace.
    steps: u64,
    tokens: u64,
    begun: Instant,
    ended: Option<Duration>,
    result: String,
    slot: Slot,
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
        let points = |earlier: &[(usize, f64)]| {
            earlier
                .iter()
                .map(|(step, loss)| (*step as f64, *loss))
                .collect()
        };
        let state = State {
            title: title.into(),
            total: total as u64,
            train: points(train),
            validation: points(validation),
            steps: 0,
            tokens: 0,
            begun: Instant::now(),
            ended: None,
            result: String::new(),
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

    fn bundle(&self, elapsed: Duration) -> MimeBundle {
        let elapsed = self.ended.unwrap_or(elapsed);
        let figures = self.figures(elapsed);
        let smooth = smoothed(&self.train, (self.total as f64 * SMOOTHING).max(4.0));
        let plot = LinePlot::new(self.title.clone())
            .axes("step", "loss")
            .styled_line("training", self.train.clone(), LineStyle::Faint)
            .styled_line("training", smooth, LineStyle::Solid);
        let plot = if self.validation.is_empty() {
            plot
        } else {
            plot.styled_line("validation", self.validation.clone(), LineStyle::Marked)
        };
        let picture = plot
            .figure()
            .map(|figure| figure.html())
            .unwrap_or_default();
        let fraction = self.done() as f64 / self.total.max(1) as f64;
        let color = match self.ended {
            None => "#1f77b4",
            Some(_) if self.done() >= self.total => html::GREEN,
            Some(_) => html::RED,
        };
        let result = if self.result.is_empty() {
            String::new()
        } else {
            format!(
                "<div style=\"font-weight:600;margin-top:2px\">{}</div>",
                html::escape(&self.result)
            )
        };
        let markup = format!(
            "<div style=\"font-family:{};font-size:13px;max-width:640px\">{picture}\
             <div style=\"margin-top:4px\">{}</div><div style=\"margin-top:2px\">{}</div>{result}</div>",
            html::SANS,
            html::bar(fraction, 640, 10, color),
            html::escape(&figures),
        );
        let title = if self.title.is_empty() {
            String::new()
        } else {
            format!("{}: ", self.title)
        };
        let result = if self.result.is_empty() {
            String::new()
        } else {
            format!(" · {}", self.result)
        };
        let line = format!("{title}{figures}{result}");
        let smooth = smoothed(&self.train, (self.total as f64 * SMOOTHING).max(4.0));
        let mut series: Vec<text_plot::Series<'_>> = vec![("training", &smooth)];
        if !self.validation.is_empty() {
            series.push(("validation", &self.validation));
        }
        let text = match text_plot::draw(&series, "step", false) {
            Some(drawing) => format!("{drawing}\n{line}"),
            None => line,
        };
        MimeBundle::text(text).with_html(markup)
    }

    /// `step 120/200 · loss 0.81 · validation 0.92 · 3,400 tokens/s · 0:21 left`
    fn figures(&self, elapsed: Duration) -> String {
        let mut parts = vec![format!(
            "step {}/{}",
            number::count(self.done()),
            number::count(self.total)
        )];
        let smooth = smoothed(&self.train, (self.total as f64 * SMOOTHING).max(4.0));
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

/// Running mean with exponentially fading memory of about `span` points, without the start's bias towards zero.
fn smoothed(points: &[(f64, f64)], span: f64) -> Vec<(f64, f64)> {
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
            steps: steps as u64,
            tokens: steps as u64 * 100,
            begun: Instant::now(),
            ended: None,
            result: String::new(),
            slot: Slot::new(REDRAW),
        }
    }

    #[test]
    fn one_line_says_where_the_run_is() {
        let mut running = state(50, 200);
        let line = "step 50/200 · loss 2 · validation 2.5 · 5 steps/s · 500 tokens/s";
        assert_eq!(
            running.figures(Duration::from_secs(10)),
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
}

//! The stopwatch behind `:bench`: runs code many times and shows how long it takes, with how much that varies.
//!
//! code → a first run → batches long enough for the clock → one time per batch → [`Benchmark`], which shows itself.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::display::{Cell, MimeBundle, Render, Table, html, number};
use crate::session;

/// What a cell's code may fail with.
pub type AnyError = Box<dyn StdError + Send + Sync>;

/// A benchmark takes about this long.
const BUDGET: Duration = Duration::from_secs(2);
/// A batch takes at least this long, so that reading the clock does not count.
const BATCH: Duration = Duration::from_millis(2);
/// No more batches than this.
const MOST: usize = 200;
/// Code that takes longer than the budget still runs this often in all.
const FEWEST: usize = 3;

/// How long code took, many times over.
#[derive(Clone, PartialEq)]
pub struct Benchmark {
    /// Seconds for one run, one figure a batch, in the order measured.
    pub seconds: Vec<f64>,
    /// Runs in a batch.
    pub runs_per_batch: u32,
}

/// Runs `code` until two seconds are over, at least three times, and keeps the time of each batch of runs.
///
/// # Errors
/// The code's own, and [`crate::Error::Interrupted`] when the user asks to stop.
pub fn bench<T>(mut code: impl FnMut() -> Result<T, AnyError>) -> Result<Benchmark, AnyError> {
    let begin = Instant::now();
    black_box(code()?);
    let first = begin.elapsed();
    let runs_per_batch = (BATCH.as_secs_f64() / first.as_secs_f64().max(1e-9)).ceil();
    let runs_per_batch = runs_per_batch.clamp(1.0, 1e6) as u32;
    let mut seconds = Vec::new();
    while seconds.len() < MOST && (seconds.len() < FEWEST || begin.elapsed() < BUDGET) {
        session::check_interrupt()?;
        let batch = Instant::now();
        for _ in 0..runs_per_batch {
            black_box(code()?);
        }
        seconds.push(batch.elapsed().as_secs_f64() / f64::from(runs_per_batch));
    }
    Ok(Benchmark {
        seconds,
        runs_per_batch,
    })
}

impl Benchmark {
    /// The time below which this share of the batches lies; `share` from 0 to 1.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let Some(last) = sorted.len().checked_sub(1) else {
            return f64::NAN;
        };
        let at = share.clamp(0.0, 1.0) * last as f64;
        let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
        below + (above - below) * at.fract()
    }

    /// The middle time, in seconds.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    fn sentence(&self) -> String {
        let median = self.median();
        let spread = (self.quantile(0.75) - self.quantile(0.25)) / median;
        format!(
            "{} a run (median of {} batches of {}; the middle half lies within {})",
            number::time(median),
            self.seconds.len(),
            number::count(self.runs_per_batch.into()),
            number::percent(spread)
        )
    }

    /// A stripe with a tick for each batch, from the fastest to the slowest.
    fn stripe(&self) -> String {
        const WIDTH: f64 = 420.0;
        let (low, high) = (self.quantile(0.0), self.quantile(1.0));
        let place = |seconds: f64| {
            let share = (seconds - low) / (high - low).max(f64::MIN_POSITIVE);
            4.0 + share * (WIDTH - 8.0)
        };
        let mut svg = format!(
            "<svg role=\"img\" aria-label=\"times of the batches, fastest to the left\" width=\"{WIDTH}\" height=\"28\" \
             xmlns=\"http://www.w3.org/2000/svg\">"
        );
        let (left, right) = (place(self.quantile(0.25)), place(self.quantile(0.75)));
        // Writing to a string cannot fail.
        let _ = write!(
            svg,
            "<rect x=\"{left:.1}\" y=\"4\" width=\"{:.1}\" height=\"20\" fill=\"{}\" fill-opacity=\"0.25\"/>",
            (right - left).max(1.0),
            html::GREEN
        );
        for &seconds in &self.seconds {
            let at = place(seconds);
            let _ = write!(
                svg,
                "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"8\" y2=\"20\" stroke=\"currentColor\" stroke-opacity=\"0.45\"/>"
            );
        }
        let middle = place(self.median());
        let _ = write!(
            svg,
            "<line x1=\"{middle:.1}\" x2=\"{middle:.1}\" y1=\"2\" y2=\"26\" stroke=\"{}\" stroke-width=\"2\"/></svg>",
            html::GREEN
        );
        svg
    }
}

impl Render for Benchmark {
    fn render(&self) -> MimeBundle {
        let names = ["fastest", "quarter", "median", "three quarters", "slowest"];
        let shares = [0.0, 0.25, 0.5, 0.75, 1.0];
        let figures = shares.map(|share| Cell::figure(number::time(self.quantile(share))));
        let table = Table::new(names).row(figures).render();
        let plain = format!("{}\n{}", self.sentence(), table.plain());
        let page = format!(
            "<div>{}</div>{}{}",
            html::escape(&self.sentence()),
            self.stripe(),
            table.html().unwrap_or_default()
        );
        MimeBundle::text(plain).with_html(page)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_the_batches() {
        let benchmark = Benchmark {
            seconds: vec![3e-6, 1e-6, 2e-6, 4e-6],
            runs_per_batch: 1000,
        };
        assert!((benchmark.median() - 2.5e-6).abs() < 1e-12);
        assert!((benchmark.quantile(0.25) - 1.75e-6).abs() < 1e-12);
        let plain = benchmark.render().plain().to_owned();
        assert!(plain.contains("2.5 µs a run"), "{plain}");
        assert!(plain.contains("4 batches of 1,000"), "{plain}");
        assert!(plain.contains("slowest"), "{plain}");
    }

    #[test]
    fn slow_code_runs_a_few_times_and_errors_come_out() {
        let mut runs = 0;
        let measured = bench(|| {
            runs += 1;
            std::thread::sleep(Duration::from_millis(700));
            Ok(())
        });
        let measured = measured.unwrap();
        assert_eq!(measured.runs_per_batch, 1);
        assert_eq!(runs, measured.seconds.len() + 1);
        assert!(measured.median() >= 0.7, "{measured:?}");
        let failed = bench(|| Err::<(), AnyError>("no".into()));
        assert_eq!(failed.unwrap_err().to_string(), "no");
    }
}

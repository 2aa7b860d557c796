//! Lines over an axis as text, for terminals: points → dots of braille characters and marks → rows of text.
//!
//! The first series is a line of dots (each character holds 2 × 4 of them); the others are marks at their points.

use super::axis::Axis;
use super::{number, plot};

/// Characters and rows of the area in which the lines are.
const WIDTH: usize = 48;
const HEIGHT: usize = 8;
/// Marks of the second series and those after it.
const MARKS: [char; 4] = ['○', '×', '+', '□'];
/// So many series can be told apart.
pub(super) const MOST: usize = 1 + MARKS.len();
/// The braille pattern without dots; the eight bits above it are the dots.
const BLANK: u32 = 0x2800;
/// The bit of each dot by column and row in its character.
const DOTS: [[u32; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

/// What is drawn: a name for the legend, and points from left to right.
pub(super) type Series<'a> = (&'a str, &'a [(f64, f64)]);

/// The rows of the drawing, or nothing if no series has two finite points. `log_y` as in a plot.
pub(super) fn draw(series: &[Series<'_>], x_label: &str, log_y: bool) -> Option<String> {
    let drawn = |(x, y): &(f64, f64)| x.is_finite() && y.is_finite() && (!log_y || *y > 0.0);
    let finite = series.iter().map(|(_, points)| {
        let points = points.iter().copied().filter(drawn);
        plot::thinned(points.collect())
    });
    let finite: Vec<Vec<(f64, f64)>> = finite.collect();
    if finite.iter().all(|points| points.len() < 2) {
        return None;
    }
    let all = || finite.iter().flatten();
    let span = |values: &dyn Fn(&(f64, f64)) -> f64| {
        let low = all().map(values).fold(f64::INFINITY, f64::min);
        let high = all().map(values).fold(f64::NEG_INFINITY, f64::max);
        (low, high)
    };
    let (x, y) = (span(&|point| point.0), span(&|point| point.1));
    let y_axis = match log_y {
        true => Axis::logarithmic(y.0, y.1),
        false => Axis::linear(y.0, y.1),
    };
    let mut canvas = Canvas::new(Axis::linear(x.0, x.1), y_axis);
    for (index, points) in finite.iter().enumerate() {
        match index.checked_sub(1) {
            None => points
                .windows(2)
                .for_each(|pair| canvas.line(pair[0], pair[1])),
            Some(later) => {
                let mark = MARKS[later % MARKS.len()];
                points.iter().for_each(|point| canvas.mark(*point, mark));
            }
        }
    }
    let labels = (number::float(y.1), number::float(y.0));
    let left = labels.0.chars().count().max(labels.1.chars().count());
    let mut rows: Vec<String> = Vec::new();
    for (index, row) in canvas.rows().into_iter().enumerate() {
        let label = match index {
            0 => labels.0.as_str(),
            index if index + 1 == HEIGHT => labels.1.as_str(),
            _ => "",
        };
        let tick = if label.is_empty() { '│' } else { '┤' };
        rows.push(format!("{label:>left$} {tick}{}", row.trim_end()));
    }
    rows.push(format!("{:left$} └{}", "", "─".repeat(WIDTH)));
    let (begin, end) = (
        number::float(x.0),
        format!("{} {x_label}", number::float(x.1)),
    );
    let end = end.trim_end();
    let between = WIDTH.saturating_sub(begin.chars().count() + end.chars().count());
    rows.push(format!(
        "{:left$}  {begin}{}{end}",
        "",
        " ".repeat(between.max(1))
    ));
    if let Some(legend) = legend(series) {
        rows.push(format!("{:left$}  {legend}", ""));
    }
    Some(rows.join("\n"))
}

/// `⠒ training  ○ validation`, if there is something to tell apart.
fn legend(series: &[Series<'_>]) -> Option<String> {
    let entries: Vec<String> = series
        .iter()
        .enumerate()
        .filter(|(_, (label, _))| !label.is_empty())
        .map(|(index, (label, _))| match index.checked_sub(1) {
            None => format!("⠒ {label}"),
            Some(later) => format!("{} {label}", MARKS[later % MARKS.len()]),
        })
        .collect();
    (series.len() > 1 && !entries.is_empty()).then(|| entries.join("  "))
}

/// The area in which the lines are.
struct Canvas {
    x: Axis,
    y: Axis,
    dots: Vec<u32>,
    marks: Vec<Option<char>>,
}

impl Canvas {
    fn new(x: Axis, y: Axis) -> Canvas {
        Canvas {
            x,
            y,
            dots: vec![0; WIDTH * HEIGHT],
            marks: vec![None; WIDTH * HEIGHT],
        }
    }

    /// Column and row of the dot for a point.
    fn dot(&self, (x, y): (f64, f64)) -> (usize, usize) {
        let (columns, rows) = (WIDTH * 2 - 1, HEIGHT * 4 - 1);
        let column = (self.x.share(x) * columns as f64).round() as usize;
        let row = ((1.0 - self.y.share(y)) * rows as f64).round() as usize;
        (column.min(columns), row.min(rows))
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64)) {
        let (from, to) = (self.dot(from), self.dot(to));
        let steps = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1)).max(1);
        for step in 0..=steps {
            let along = |from: usize, to: usize| {
                let share = step as f64 / steps as f64;
                (from as f64 + share * (to as f64 - from as f64)).round() as usize
            };
            let (column, row) = (along(from.0, to.0), along(from.1, to.1));
            self.dots[row / 4 * WIDTH + column / 2] |= DOTS[column % 2][row % 4];
        }
    }

    fn mark(&mut self, point: (f64, f64), mark: char) {
        let (column, row) = self.dot(point);
        self.marks[row / 4 * WIDTH + column / 2] = Some(mark);
    }

    fn rows(&self) -> Vec<String> {
        let cells: Vec<char> = self
            .dots
            .iter()
            .zip(&self.marks)
            .map(|(dots, mark)| match (mark, dots) {
                (Some(mark), _) => *mark,
                (None, 0) => ' ',
                (None, dots) => char::from_u32(BLANK + dots).unwrap_or(' '),
            })
            .collect();
        cells
            .chunks(WIDTH)
            .map(|row| row.iter().collect())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_falling_line_goes_from_the_upper_left_to_the_lower_right() {
        let points: Vec<(f64, f64)> = (0..=10)
            .map(|step| (step as f64, 10.0 - step as f64))
            .collect();
        let last = [(10.0, 0.0)];
        let text = draw(
            &[("training", &points), ("validation", &last)],
            "step",
            false,
        )
        .unwrap();
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(rows.len(), HEIGHT + 3);
        assert!(rows[0].starts_with("10 ┤⠉⠒"), "{text}");
        assert!(
            rows[HEIGHT - 1].starts_with(" 0 ┤ ") && rows[HEIGHT - 1].ends_with('○'),
            "{text}"
        );
        assert!(rows[HEIGHT + 1].ends_with("10 step"), "{text}");
        assert_eq!(rows[HEIGHT + 2].trim(), "⠒ training  ○ validation");
    }

    #[test]
    fn a_logarithmic_axis_is_labelled_with_the_values() {
        let text = draw(&[("", &[(0.0, 100.0), (1.0, 0.0), (2.0, 1.0)])], "", true).unwrap();
        assert!(text.starts_with("100 ┤"), "{text}");
        assert!(text.contains("\n  1 ┤"), "{text}");
    }

    #[test]
    fn one_point_is_no_line() {
        assert_eq!(draw(&[("", &[(0.0, 1.0)])], "", false), None);
        assert_eq!(
            draw(&[("", &[(0.0, f64::NAN), (1.0, f64::NAN)])], "", false),
            None
        );
        assert_eq!(draw(&[], "", false), None);
    }

    proptest! {
        #[test]
        fn any_points_can_be_drawn(
            points in prop::collection::vec((any::<f64>(), any::<f64>()), 0..40),
            log_y in any::<bool>(),
        ) {
            draw(&[("a", &points), ("b", &points)], "x", log_y);
        }
    }
}

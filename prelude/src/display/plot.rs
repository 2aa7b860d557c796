//! Line plots as SVG, drawn by plotters: points in, a [`Figure`] out.
//!
//! The paper is light on every theme, because plots end up in pages of either kind.

use plotters::coord::Shift;
use plotters::prelude::*;

use super::axis::Axis;
use super::{MimeBundle, Render, heat, html, number, text_plot};

/// Colours of lines, in order: blue, orange, green, red, violet, brown, pink, grey.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::display::PALETTE;
///
/// assert_eq!(PALETTE.len(), 8); // the first line of a plot has the first colour
/// ```
pub const PALETTE: [RGBColor; 8] = [
    RGBColor(31, 119, 180),
    RGBColor(230, 110, 10),
    RGBColor(34, 139, 60),
    RGBColor(198, 40, 40),
    RGBColor(118, 80, 170),
    RGBColor(130, 84, 72),
    RGBColor(200, 80, 160),
    RGBColor(110, 110, 110),
];
const PAPER: RGBColor = RGBColor(255, 255, 255);
const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(225, 225, 225);
/// Pixels between entries of the legend, the sample of the line included.
const LEGEND_GAP: i32 = 40;
/// Points a line keeps; longer ones are averaged down, which a screen cannot tell.
const MAX_POINTS: usize = 600;

/// A finished drawing.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::plotters::prelude::*;
/// let square = Figure::draw(200, 120, "a red square", |paper| {
///     paper.draw(&Rectangle::new([(20, 20), (100, 100)], RED.filled()))?;
///     Ok(())
/// })?;
/// assert!(square.svg().contains("<rect"));
/// assert_eq!(square.render().plain(), "a red square");
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct Figure {
    svg: String,
    width: u32,
    description: String,
}

/// What a drawing function works on.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::display::{DrawError, Paper};
/// use glassbox_prelude::plotters::prelude::*;
///
/// fn square(paper: &Paper<'_>) -> std::result::Result<(), DrawError> {
///     paper.draw(&Rectangle::new([(20, 20), (100, 100)], RED.filled()))?;
///     Ok(())
/// }
///
/// # fn main() -> Result<()> {
/// let figure = Figure::draw(200, 120, "a red square", square)?;
/// assert!(figure.svg().contains("<rect"));
/// # Ok(()) }
/// ```
pub type Paper<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// The part of a plot between its axes.
pub(super) type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<Axis, Axis>>;
/// What a drawing function may fail with; plotters' errors convert into it.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::display::DrawError;
///
/// let failed = Figure::draw(200, 120, "nothing", |_| Err(DrawError::from("there are no points")));
/// assert!(failed.unwrap_err().to_string().contains("there are no points"));
/// ```
pub type DrawError = Box<dyn std::error::Error + Send + Sync>;

impl Figure {
    /// Draws with plotters on light paper of `width` × `height` pixels. `description` stands where pictures cannot.
    ///
    /// # Errors
    /// [`crate::Error::Input`] with what the drawing function or plotters said.
    pub fn draw<F>(
        width: u32,
        height: u32,
        description: impl Into<String>,
        draw: F,
    ) -> crate::Result<Self>
    where
        F: FnOnce(&Paper<'_>) -> Result<(), DrawError>,
    {
        let mut svg = String::new();
        let paper = SVGBackend::with_string(&mut svg, (width, height)).into_drawing_area();
        let drawn = paper
            .fill(&PAPER)
            .map_err(DrawError::from)
            .and_then(|()| draw(&paper));
        drawn
            .and_then(|()| paper.present().map_err(DrawError::from))
            .map_err(|error| {
                crate::Error::Input(format!("the plot could not be drawn: {error}"))
            })?;
        drop(paper);
        Ok(Self {
            svg,
            width,
            description: description.into(),
        })
    }

    /// The SVG document.
    pub fn svg(&self) -> &str {
        &self.svg
    }

    /// The drawing as an `<img>` for HTML.
    pub fn html(&self) -> String {
        html::image(
            "image/svg+xml",
            self.svg.as_bytes(),
            self.width,
            &self.description,
        )
    }
}

impl Render for Figure {
    fn render(&self) -> MimeBundle {
        // As an <img> and not as image/svg+xml: that is shown in notebooks of others too, whose SVG is not trusted.
        MimeBundle::text(self.description.clone()).with_html(self.html())
    }
}

/// One line of a [`LinePlot`].
#[derive(Clone, Debug, PartialEq)]
struct Line {
    label: String,
    points: Vec<(f64, f64)>,
    style: LineStyle,
    /// The label of the line whose colour it has, where that is not its own.
    colour_of: Option<String>,
}

/// How large the writing of a plot is, in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Writing {
    title: u32,
    text: u32,
    /// Height of the strip with title and legend.
    header: u32,
    /// Room for the axes' labels: with and without a description of the axis.
    below: (u32, u32),
    left: (u32, u32),
}

impl Writing {
    const LARGE: Writing = Writing {
        title: 19,
        text: 16,
        header: 30,
        below: (42, 26),
        left: (72, 56),
    };
    /// Of a small multiple.
    const SMALL: Writing = Writing {
        title: 14,
        text: 12,
        header: 22,
        below: (32, 20),
        left: (56, 44),
    };
}

/// How a line is drawn.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let noisy: Vec<(f64, f64)> = (0..100).map(|step| (f64::from(step), f64::from(step % 7))).collect();
/// let plot = LinePlot::new("loss")
///     .styled_line("train", noisy, LineStyle::Faint)
///     .styled_line("held out", vec![(0.0, 5.0), (50.0, 4.0), (99.0, 3.5)], LineStyle::Marked);
/// assert!(plot.figure()?.svg().contains("<circle"));
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineStyle {
    /// A full line.
    Solid,
    /// A thin, pale line, for noisy values behind a smooth one.
    Faint,
    /// A line with a mark at each point, for few values.
    Marked,
}

/// Lines over a common axis.
///
/// ```
/// use glassbox_prelude::display::{LinePlot, Render};
/// let plot = LinePlot::new("loss").axes("step", "cross-entropy").line("train", vec![(0.0, 3.2), (1.0, 2.1)]);
/// assert!(plot.render().html().is_some_and(|html| html.contains("image/svg+xml")));
/// ```
#[derive(Clone, PartialEq)]
pub struct LinePlot {
    title: String,
    x_label: String,
    y_label: String,
    lines: Vec<Line>,
    log_y: bool,
    size: (u32, u32),
    writing: Writing,
}

impl LinePlot {
    /// An empty plot.
    pub fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            x_label: String::new(),
            y_label: String::new(),
            lines: Vec::new(),
            log_y: false,
            size: (640, 320),
            writing: Writing::LARGE,
        }
    }

    /// A small plot with small writing, of which two stand side by side where one of the usual size would.
    pub fn small(mut self) -> Self {
        self.size = (316, 170);
        self.writing = Writing::SMALL;
        self
    }

    /// What the axes measure.
    pub fn axes(mut self, x: impl Into<String>, y: impl Into<String>) -> Self {
        self.x_label = x.into();
        self.y_label = y.into();
        self
    }

    /// A logarithmic vertical axis; values that are not positive are left out.
    pub fn log_y(mut self) -> Self {
        self.log_y = true;
        self
    }

    /// Width and height in pixels, at least 200 × 120.
    pub fn size(mut self, width: u32, height: u32) -> Self {
        self.size = (width.max(200), height.max(120));
        self
    }

    /// Adds a line through `points`. It breaks at a point that is not finite.
    pub fn line(self, label: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        self.styled_line(label, points, LineStyle::Solid)
    }

    /// Adds a line through `values` at 0, 1, 2, ….
    pub fn values(self, label: impl Into<String>, values: &[f32]) -> Self {
        let points = values
            .iter()
            .enumerate()
            .map(|(index, value)| (index as f64, f64::from(*value)));
        self.line(label, points.collect())
    }

    /// Adds a line drawn in `style`. Lines of the same label share a colour and an entry in the legend.
    pub fn styled_line(
        mut self,
        label: impl Into<String>,
        points: Vec<(f64, f64)>,
        style: LineStyle,
    ) -> Self {
        self.lines.push(Line {
            label: label.into(),
            points,
            style,
            colour_of: None,
        });
        self
    }

    /// Adds a pale line in the colour of the line labelled `of`, with an entry of its own in the legend.
    pub(crate) fn pale_line(
        mut self,
        label: impl Into<String>,
        of: impl Into<String>,
        points: Vec<(f64, f64)>,
    ) -> Self {
        self.lines.push(Line {
            label: label.into(),
            points,
            style: LineStyle::Faint,
            colour_of: Some(of.into()),
        });
        self
    }

    /// Whether the axes have been named.
    pub(crate) fn has_axes(&self) -> bool {
        !self.x_label.is_empty() || !self.y_label.is_empty()
    }

    /// The finished drawing.
    ///
    /// # Errors
    /// [`crate::Error::Input`] if plotters refuses, which no choice of points should make it do.
    pub fn figure(&self) -> crate::Result<Figure> {
        self.figure_over(|_| Ok(()))
    }

    /// The same over what `below` draws into the chart first.
    pub(super) fn figure_over(
        &self,
        below: impl FnOnce(&mut Chart<'_>) -> Result<(), DrawError>,
    ) -> crate::Result<Figure> {
        let (width, height) = self.size;
        let lines: Vec<Line> = self.lines.iter().map(|line| self.drawable(line)).collect();
        let (x_range, y_range) = ranges(&lines, self.log_y);
        Figure::draw(width, height, self.plain(), |paper| {
            let writing = self.writing;
            let (legend, chart) = paper.split_vertically(match self.needs_header() {
                true => writing.header,
                false => 4,
            });
            self.draw_header(&legend)?;
            let mut builder = ChartBuilder::on(&chart);
            builder
                .margin(6)
                .margin_right(24)
                .x_label_area_size(match self.x_label.is_empty() {
                    true => writing.below.1,
                    false => writing.below.0,
                });
            builder.y_label_area_size(match self.y_label.is_empty() {
                true => writing.left.1,
                false => writing.left.0,
            });
            let y_axis = match self.log_y {
                true => Axis::logarithmic(y_range.0, y_range.1),
                false => Axis::linear(y_range.0, y_range.1),
            };
            let mut context =
                builder.build_cartesian_2d(Axis::linear(x_range.0, x_range.1), y_axis)?;
            below(&mut context)?;
            self.draw_lines(context, &lines)
        })
    }

    fn drawable(&self, line: &Line) -> Line {
        let points = line.points.iter().map(|(x, y)| {
            let drawn = x.is_finite() && y.is_finite() && (!self.log_y || *y > 0.0);
            (*x, if drawn { *y } else { f64::NAN })
        });
        Line {
            points: thinned(points.filter(|(x, _)| x.is_finite()).collect()),
            ..line.clone()
        }
    }

    fn needs_header(&self) -> bool {
        !self.title.is_empty() || self.lines.iter().any(|line| !line.label.is_empty())
    }

    fn draw_header(&self, area: &Paper<'_>) -> Result<(), DrawError> {
        let Writing {
            title: large,
            text: small,
            header,
            ..
        } = self.writing;
        let title = ("sans-serif", large)
            .into_font()
            .style(FontStyle::Bold)
            .color(&INK);
        let top = |size: u32| (header.saturating_sub(size)) as i32 / 2 + 3;
        area.draw_text(&self.title, &title, (12, top(large)))?;
        if !self.legend_fits() {
            return Ok(());
        }
        let font = ("sans-serif", small).into_font().color(&INK);
        let mut right = self.size.0 as i32 - 18;
        for label in self.labels().into_iter().rev() {
            right -= text_width(label, small - 2);
            area.draw_text(label, &font, (right, top(small)))?;
            let middle = top(small) + small as i32 / 2 + 1;
            area.draw(&PathElement::new(
                [(right - 24, middle), (right - 6, middle)],
                self.stroke_of(label),
            ))?;
            right -= LEGEND_GAP;
        }
        Ok(())
    }

    /// The sample of a line in the legend.
    fn stroke_of(&self, label: &str) -> ShapeStyle {
        let colour = self.color_of(label);
        let pale = self
            .lines
            .iter()
            .any(|line| line.label == label && line.colour_of.is_some());
        match pale {
            true => colour.mix(0.4).stroke_width(3),
            false => colour.stroke_width(3),
        }
    }

    /// Whether the legend has room beside the title. If not, it stands above the picture, where it can wrap.
    fn legend_fits(&self) -> bool {
        let Writing { title, text, .. } = self.writing;
        let wanted: i32 = self
            .labels()
            .iter()
            .map(|label| text_width(label, text - 2) + LEGEND_GAP)
            .sum();
        wanted + text_width(&self.title, title - 2) + 30 <= self.size.0 as i32
    }

    fn legend_html(&self) -> String {
        let chips = self.labels().into_iter().map(|label| {
            let RGBColor(r, g, b) = self.color_of(label);
            html::chip(label, &heat::css([r, g, b]), "#ffffff")
        });
        format!(
            "<div style=\"max-width:{}px\">{}</div>",
            self.size.0,
            chips.collect::<String>()
        )
    }

    /// Labels in order of appearance, each once, empty ones left out.
    fn labels(&self) -> Vec<&str> {
        let mut labels: Vec<&str> = Vec::new();
        for line in &self.lines {
            if !line.label.is_empty() && !labels.contains(&line.label.as_str()) {
                labels.push(&line.label);
            }
        }
        labels
    }

    fn color_of(&self, label: &str) -> RGBColor {
        let mut like = self.lines.iter();
        let like = like.find_map(|line| line.colour_of.as_deref().filter(|_| line.label == label));
        let own = |label: &&str| {
            let mut lines = self.lines.iter();
            lines.any(|line| line.label == *label && line.colour_of.is_none())
        };
        let index = self
            .labels()
            .into_iter()
            .filter(own)
            .position(|other| other == like.unwrap_or(label))
            .unwrap_or(0);
        PALETTE[index % PALETTE.len()]
    }

    fn draw_lines(&self, mut context: Chart<'_>, lines: &[Line]) -> Result<(), DrawError> {
        let font = ("sans-serif", self.writing.text).into_font().color(&INK);
        let large = self.writing == Writing::LARGE;
        let mut mesh = context.configure_mesh();
        mesh.light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(INK.mix(0.5));
        mesh.label_style(font.clone())
            .axis_desc_style(font)
            .x_labels(if large { 8 } else { 5 })
            .y_labels(if large { 6 } else { 4 });
        mesh.x_desc(self.x_label.as_str())
            .y_desc(self.y_label.as_str())
            .draw()?;
        for line in lines {
            let color = self.color_of(&line.label);
            let stroke = match line.style {
                LineStyle::Faint => color.mix(0.3).stroke_width(1),
                LineStyle::Solid | LineStyle::Marked => color.stroke_width(2),
            };
            for run in line
                .points
                .split(|(_, y)| !y.is_finite())
                .filter(|run| !run.is_empty())
            {
                context.draw_series(LineSeries::new(run.iter().copied(), stroke))?;
                // A single point would be an invisible line.
                if line.style == LineStyle::Marked || run.len() == 1 {
                    let marks = run
                        .iter()
                        .map(|point| Circle::new(*point, 3, color.filled()));
                    context.draw_series(marks)?;
                }
            }
        }
        Ok(())
    }

    /// `loss: train 3.2 → 2.1 (200 points), validation …`
    fn plain(&self) -> String {
        let lines = self
            .lines
            .iter()
            .filter(|line| line.style != LineStyle::Faint)
            .map(|line| {
                let mut finite = line
                    .points
                    .iter()
                    .map(|point| point.1)
                    .filter(|y| y.is_finite());
                let first = finite.next();
                let last = finite.next_back().or(first);
                match (first, last) {
                    (Some(first), Some(last)) => format!(
                        "{} {} → {} ({} points)",
                        line.label,
                        number::float(first),
                        number::float(last),
                        number::count(line.points.len() as u64)
                    ),
                    _ => format!("{} (no points)", line.label),
                }
            });
        format!("{}: {}", self.title, lines.collect::<Vec<_>>().join(", "))
    }
}

impl LinePlot {
    /// A drawing in characters, for terminals, and below it what the lines begin and end with.
    fn drawn_as_text(&self) -> String {
        let shown = self
            .lines
            .iter()
            .filter(|line| line.style != LineStyle::Faint);
        let lines: Vec<text_plot::Series<'_>> = shown
            .map(|line| (line.label.as_str(), line.points.as_slice()))
            .collect();
        // More lines than marks could not be told apart.
        let drawing = (lines.len() <= text_plot::MOST)
            .then(|| text_plot::draw(&lines, &self.x_label, self.log_y))
            .flatten();
        match drawing {
            Some(drawing) => format!("{drawing}\n{}", self.plain()),
            None => self.plain(),
        }
    }
}

impl LinePlot {
    /// The picture, and as text no more than what the lines begin and end with.
    pub(super) fn picture(&self) -> MimeBundle {
        let text = MimeBundle::text(self.plain());
        match self.figure() {
            Ok(figure) if self.legend_fits() => text.with_html(figure.html()),
            Ok(figure) => text.with_html(format!(
                "<div>{}{}</div>",
                self.legend_html(),
                figure.html()
            )),
            Err(error) => MimeBundle::text(format!("{} ({error})", self.plain())),
        }
    }
}

impl Render for LinePlot {
    fn render(&self) -> MimeBundle {
        let picture = self.picture();
        match picture.html() {
            Some(html) => MimeBundle::text(self.drawn_as_text()).with_html(html),
            None => picture,
        }
    }
}

/// Axis ranges that hold all finite points with some room, and are never empty.
fn ranges(lines: &[Line], log_y: bool) -> ((f64, f64), (f64, f64)) {
    let mut x = (f64::INFINITY, f64::NEG_INFINITY);
    let mut y = x;
    for (px, py) in lines
        .iter()
        .flat_map(|line| &line.points)
        .filter(|point| point.1.is_finite())
    {
        x = (x.0.min(*px), x.1.max(*px));
        y = (y.0.min(*py), y.1.max(*py));
    }
    if x.0 > x.1 {
        return if log_y {
            ((0.0, 1.0), (0.1, 1.0))
        } else {
            ((0.0, 1.0), (0.0, 1.0))
        };
    }
    // A sum beyond the largest double is that double.
    let held = |(low, high): (f64, f64)| (low.max(f64::MIN), high.min(f64::MAX));
    let x = if x.0 == x.1 {
        let room = (x.0.abs() * 1e-3).max(0.5);
        held((x.0 - room, x.1 + room))
    } else {
        x
    };
    let y = if log_y {
        let (low, high) = (y.0.ln(), y.1.ln());
        let room = if y.0 == y.1 {
            2f64.ln()
        } else {
            (high - low) * 0.05
        };
        ((low - room).exp(), (high + room).exp().min(f64::MAX))
    } else {
        let room = if y.0 == y.1 {
            y.0.abs().max(1.0) * 0.1
        } else {
            y.1 * 0.06 - y.0 * 0.06
        };
        // A line of positive values that comes near zero gets zero as its floor.
        let floor = if y.0 >= 0.0 && y.0 < (y.1 - y.0) * 0.5 {
            0.0
        } else {
            y.0 - room
        };
        held((floor, y.1 + room))
    };
    (x, y)
}

/// At most [`MAX_POINTS`] points: neighbours are averaged; a gap stays a gap.
pub(super) fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let group = points.len().div_ceil(MAX_POINTS);
    if group <= 1 {
        return points;
    }
    let mean = |chunk: &[(f64, f64)]| {
        let size = chunk.len() as f64;
        // Each part by itself, so that the sum of large ones stays finite.
        (
            chunk.iter().map(|point| point.0 / size).sum::<f64>(),
            chunk.iter().map(|point| point.1 / size).sum::<f64>(),
        )
    };
    points.chunks(group).map(mean).collect()
}

/// Pixels that `text` needs at most; the page chooses the font, so this can only be an estimate.
fn text_width(text: &str, size: u32) -> i32 {
    (text.chars().count() as f64 * f64::from(size) * 0.58).ceil() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_points_still_draw() {
        let cases: [Vec<(f64, f64)>; 6] = [
            vec![],
            vec![(0.0, f64::NAN)],
            vec![(1.0, 1.0)],
            vec![(0.0, 0.0), (1.0, 0.0)],
            vec![
                (0.0, 1.0),
                (1.0, f64::INFINITY),
                (2.0, -1.0),
                (f64::NAN, 3.0),
            ],
            (0..10_000)
                .map(|step| (f64::from(step), f64::from(step).sin()))
                .collect(),
        ];
        for points in cases {
            for plot in [
                LinePlot::new("a").line("b", points.clone()),
                LinePlot::new("a").line("b", points).log_y(),
            ] {
                let figure = plot.figure().expect("draws");
                assert!(figure.svg().starts_with("<svg") && figure.svg().ends_with("</svg>\n"));
                assert!(
                    !figure.svg().contains("NaN") && !figure.svg().contains("inf"),
                    "{}",
                    figure.svg()
                );
                assert!(
                    figure.svg().len() < 60_000,
                    "capped: {}",
                    figure.svg().len()
                );
            }
        }
    }

    #[test]
    fn text_in_a_plot_is_escaped() {
        let figure = LinePlot::new("<script>")
            .axes("<x>", "<y>")
            .values("<l>", &[1.0, 2.0])
            .figure()
            .expect("draws");
        assert!(
            !figure.svg().contains("<script>")
                && !figure.svg().contains("<x>")
                && !figure.svg().contains("<l>")
        );
    }

    #[test]
    fn plain_text_says_where_lines_begin_and_end() {
        let plot = LinePlot::new("loss")
            .values("train", &[3.0, f32::NAN, 1.5])
            .line("empty", vec![]);
        let bundle = plot.render();
        let (drawing, last) = bundle.plain().rsplit_once('\n').unwrap();
        assert_eq!(last, "loss: train 3 → 1.5 (3 points), empty (no points)");
        assert!(drawing.starts_with("  3 ┤"), "{drawing}");
    }

    #[test]
    fn zero_is_the_floor_of_values_near_it() {
        let line = |points| {
            [Line {
                label: String::new(),
                points,
                style: LineStyle::Solid,
                colour_of: None,
            }]
        };
        assert_eq!(ranges(&line(vec![(0.0, 0.2), (1.0, 3.0)]), false).1.0, 0.0);
        assert!(ranges(&line(vec![(0.0, 2.8), (1.0, 3.0)]), false).1.0 > 2.7);
    }
}

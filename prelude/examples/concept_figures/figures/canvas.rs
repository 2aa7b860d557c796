//! What all figures are drawn with: boxes, tokens, arrows and words in one style, light and dark → SVG text.
//!
//! A figure is shown as a file beside a notebook, where it cannot know the colours of the page: it brings its own background,
//! and follows `prefers-color-scheme`. Pictures, words and targets have the
//! colours that they have in the token strips below the cells.

use std::fmt::Write as _;

/// Width of every figure, in pixels at which nothing is scaled.
pub const WIDTH: f64 = 640.0;

/// What a coloured thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Vectors that come from a picture.
    Image,
    /// Vectors that come from words.
    Text,
    /// Start, end or query vector: belongs to no input, learnt as it is.
    Learned,
    /// What is to be predicted.
    Target,
    /// Weights that do not change.
    Frozen,
    /// Weights that training changes.
    Trained,
}

impl Kind {
    fn class(self) -> &'static str {
        match self {
            Kind::Image => "image",
            Kind::Text => "text",
            Kind::Learned => "learned",
            Kind::Target => "target",
            Kind::Frozen => "frozen",
            Kind::Trained => "trained",
        }
    }

    fn meaning(self) -> &'static str {
        match self {
            Kind::Image => "picture",
            Kind::Text => "words",
            Kind::Learned => "learned vector",
            Kind::Target => "asked for",
            Kind::Frozen => "frozen",
            Kind::Trained => "trained",
        }
    }
}

/// Where a text begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// At its left end.
    Left,
    /// In its middle.
    Middle,
    /// At its right end.
    Right,
}

/// The look of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A name.
    Name,
    /// An explanation.
    Note,
    /// A shape.
    Shape,
    /// On a coloured ground.
    Chip,
}

const CSS: &str = "\
svg{font-family:system-ui,'Segoe UI','DejaVu Sans',sans-serif}\
.paper{fill:#fff}.ink{fill:#1f2328}.edge{stroke:#1f2328}.hair{stroke:#d0d7de}\
.name{font-size:13px;font-weight:600;fill:#1f2328}.note{font-size:12px;fill:#4d5761}\
.shape{font-size:12px;fill:#1f2328;font-family:ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace}\
.chip{font-size:12px;fill:#fff}\
.way{stroke:#57606a;stroke-width:1.5;fill:none}.tip{fill:#57606a}\
.image{fill:#1f6fb2}.text{fill:#2e7d32}.learned{fill:#6a3d9a}.target{fill:#c62828}\
.frozen{fill:#e9edf1;stroke:#8c959f;stroke-width:1}.trained{fill:#fff0b8;stroke:#b08800;stroke-width:2}\
.unseen{fill:#eef1f4}.kept{fill:none;stroke:#8c959f;stroke-dasharray:3 2}.gap{stroke:#fff;stroke-opacity:.6}\
@media(prefers-color-scheme:dark){\
.paper{fill:#15181c}.ink{fill:#e3e7eb}.edge{stroke:#e3e7eb}.hair{stroke:#343b43}\
.name,.shape{fill:#e3e7eb}.note{fill:#aab4be}.way{stroke:#98a2ad}.tip{fill:#98a2ad}\
.image{fill:#2f7fc4}.text{fill:#378f3c}.learned{fill:#8456b8}.target{fill:#d64541}\
.frozen{fill:#2a3038;stroke:#768390}.trained{fill:#4a3c08;stroke:#e3b341}.unseen{fill:#22272d}.kept{stroke:#768390}.gap{stroke:#15181c}}";

/// A figure while it is drawn. Coordinates are in pixels from the upper left corner.
pub struct Canvas {
    title: &'static str,
    height: f64,
    body: String,
}

impl Canvas {
    /// An empty one; `title` is what a reader hears who cannot see it.
    pub fn new(title: &'static str, height: f64) -> Self {
        Self {
            title,
            height,
            body: String::new(),
        }
    }

    /// A text whose baseline is at `y`.
    pub fn text(&mut self, x: f64, y: f64, anchor: Anchor, style: Style, text: &str) {
        let anchor = match anchor {
            Anchor::Left => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::Right => " text-anchor=\"end\"",
        };
        let class = match style {
            Style::Name => "name",
            Style::Note => "note",
            Style::Shape => "shape",
            Style::Chip => "chip",
        };
        let text = escaped(text);
        self.line(&format!(
            "<text x=\"{}\" y=\"{}\" class=\"{class}\"{anchor}>{text}</text>",
            n(x),
            n(y)
        ));
    }

    /// A rectangle of a class of the style sheet.
    pub fn rect(&mut self, (x, y, w, h): (f64, f64, f64, f64), class: &str) {
        self.line(&format!(
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"2\" class=\"{class}\"/>",
            n(x),
            n(y),
            n(w),
            n(h)
        ));
    }

    /// Weights: a box with a name and up to two lines below it.
    pub fn weights(&mut self, at: (f64, f64, f64, f64), kind: Kind, name: &str, notes: &[&str]) {
        self.rect(at, kind.class());
        let (x, y, w, h) = at;
        let first = y + h / 2.0 + 4.5 - 8.0 * notes.len() as f64;
        self.text(x + w / 2.0, first, Anchor::Middle, Style::Name, name);
        for (below, note) in notes.iter().enumerate() {
            let y = first + 16.0 * (below + 1) as f64;
            self.text(x + w / 2.0, y, Anchor::Middle, Style::Note, note);
        }
    }

    /// Vectors: a coloured block, with a text on it.
    pub fn vectors(&mut self, at: (f64, f64, f64, f64), kind: Kind, text: &str) {
        self.rect(at, kind.class());
        let (x, y, w, h) = at;
        if !text.is_empty() {
            let (x, y) = (x + w / 2.0, y + h / 2.0 + 4.0);
            self.text(x, y, Anchor::Middle, Style::Chip, text);
        }
    }

    /// As [`Canvas::vectors`], `count` of them side by side; where there is a text, only ticks part them.
    pub fn row(&mut self, at: (f64, f64, f64, f64), kind: Kind, count: usize, text: &str) {
        let (x, y, w, h) = at;
        self.rect(at, kind.class());
        let tick = if text.is_empty() { h } else { 5.0 };
        let mut ticks = String::new();
        for place in 1..count {
            let x = n(x + w * place as f64 / count as f64);
            let _ = write!(ticks, "M{x} {}v{}", n(y), n(tick));
            if tick < h {
                let _ = write!(ticks, "M{x} {}v{}", n(y + h - tick), n(tick));
            }
        }
        self.path(&ticks, "gap");
        if !text.is_empty() {
            let (x, y) = (x + w / 2.0, y + h / 2.0 + 4.0);
            self.text(x, y, Anchor::Middle, Style::Chip, text);
        }
    }

    /// A whole prompt as one block: start vector, image tokens, end vector and query vector, as wide as they have tokens.
    pub fn prompt(&mut self, (x, y, w, h): (f64, f64, f64, f64), parts: [usize; 4]) {
        let tokens: usize = parts.iter().sum();
        let each = w / tokens as f64;
        let [start, image, ..] = parts.map(|part| part as f64 * each);
        self.rect((x, y, w, h), Kind::Learned.class());
        self.rect((x + start, y, image, h), Kind::Image.class());
        let (x, y) = (x + w / 2.0, y + h / 2.0 + 4.0);
        self.text(
            x,
            y,
            Anchor::Middle,
            Style::Chip,
            &format!("prompt, {tokens}"),
        );
    }

    /// A way along these points, with a tip at its end.
    pub fn arrow(&mut self, points: &[(f64, f64)]) {
        let [.., (x0, y0), (x, y)] = points else {
            return;
        };
        let length = (x - x0).hypot(y - y0).max(1e-9);
        let (dx, dy) = ((x - x0) / length, (y - y0) / length);
        let (bx, by) = (x - 7.0 * dx, y - 7.0 * dy);
        let mut way = String::new();
        for (at, (px, py)) in points.iter().enumerate() {
            let last = at + 1 == points.len();
            let (px, py) = if last { (bx, by) } else { (*px, *py) };
            let _ = write!(
                way,
                "{}{} {}",
                if at == 0 { 'M' } else { 'L' },
                n(px),
                n(py)
            );
        }
        self.line(&format!("<path d=\"{way}\" class=\"way\"/>"));
        self.line(&format!(
            "<path d=\"M{} {}L{} {}L{} {}z\" class=\"tip\"/>",
            n(*x),
            n(*y),
            n(bx - 4.0 * dy),
            n(by + 4.0 * dx),
            n(bx + 4.0 * dy),
            n(by - 4.0 * dx)
        ));
    }

    /// A level arrow with the shape of what goes along it above.
    pub fn passes(&mut self, from: f64, to: f64, y: f64, shape: &str) {
        self.arrow(&[(from, y), (to, y)]);
        let middle = f64::midpoint(from, to);
        self.text(middle, y - 7.0, Anchor::Middle, Style::Shape, shape);
    }

    /// An arrow downwards with the shape of what goes along it on its right.
    pub fn falls(&mut self, x: f64, from: f64, to: f64, shape: &str) {
        self.arrow(&[(x, from), (x, to)]);
        let middle = f64::midpoint(from, to) + 3.0;
        self.text(x + 8.0, middle, Anchor::Left, Style::Shape, shape);
    }

    /// A line without a tip, as SVG path data.
    pub fn path(&mut self, data: &str, class: &str) {
        self.line(&format!(
            "<path d=\"{data}\" class=\"{class}\" fill=\"none\"/>"
        ));
    }

    /// The scene that stands for a picture, `side` wide, with a grid of `grid` patches and `gap` between them.
    pub fn picture(&mut self, x: f64, y: f64, side: f64, grid: usize, gap: f64) {
        let cell = side / grid as f64;
        for row in 0..grid {
            for column in 0..grid {
                let (r, c) = (row as f64, column as f64);
                let (left, top) = (x + c * (cell + gap), y + r * (cell + gap));
                // Each patch is a window of its own onto the whole scene.
                self.line(&format!(
                    "<svg x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" viewBox=\"{} {} {w} {w}\">{SCENE}</svg>",
                    n(left),
                    n(top),
                    n(cell),
                    n(cell),
                    n(100.0 * c / grid as f64),
                    n(100.0 * r / grid as f64),
                    w = n(100.0 / grid as f64),
                ));
            }
        }
    }

    fn line(&mut self, element: &str) {
        self.body.push_str(element);
        self.body.push('\n');
    }

    /// The SVG, with what the colours mean along the lower edge.
    pub fn finish(mut self, legend: &[Kind]) -> String {
        let mut x = 16.0;
        let y = self.height - 22.0;
        for kind in legend {
            self.rect((x, y, 14.0, 12.0), kind.class());
            self.text(
                x + 20.0,
                y + 10.5,
                Anchor::Left,
                Style::Note,
                kind.meaning(),
            );
            x += 36.0 + 7.2 * kind.meaning().len() as f64;
        }
        let (width, height, title) = (n(WIDTH), n(self.height), escaped(self.title));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             role=\"img\">\n<title>{title}</title>\n<style>{CSS}</style>\n\
             <rect width=\"{width}\" height=\"{height}\" rx=\"8\" class=\"paper\"/>\n{}</svg>\n",
            self.body
        )
    }
}

/// A red circle and a blue square on grey, 100 wide.
const SCENE: &str = "<rect width=\"100\" height=\"100\" fill=\"#d9d4c7\"/><circle cx=\"33\" cy=\"38\" r=\"21\" fill=\"#d62f2f\"/>\
    <rect x=\"54\" y=\"55\" width=\"30\" height=\"30\" fill=\"#2b5fd0\"/>";

/// A number with one digit behind the point at most: coordinates, and files that stay the same.
fn n(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

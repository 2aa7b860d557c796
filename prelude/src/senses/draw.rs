//! A graph on paper: nodes with names, edges of one to three lines, and a number laid on each node.

use super::graph::Graph;
use super::layout::{self, Place};
use crate::display::heat::{self, Scale};
use crate::display::html::{self, escape};
use crate::display::{MimeBundle, Render, number};
use crate::{Error, Result};

/// Pixels of an edge of a molecule.
const EDGE: f64 = 34.0;
/// Pixels between two people of a social graph and the like, where any two may lie near each other.
const WIDE_EDGE: f64 = 84.0;
/// Pixels of such a node's radius.
const NODE: f64 = 10.0;
/// Pixels around.
const MARGIN: f64 = 26.0;
/// Widest picture.
const WIDEST: f64 = 760.0;
/// Nodes and edges that the text lists.
const LISTED: usize = 24;

/// How an edge is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EdgeLines {
    /// One line.
    One,
    /// Two.
    Two,
    /// Three.
    Three,
    /// One, and a dashed one beside it: an aromatic bond.
    OneAndDashed,
}

impl EdgeLines {
    /// In text.
    fn symbol(self) -> &'static str {
        match self {
            Self::One => "-",
            Self::Two => "=",
            Self::Three => "#",
            Self::OneAndDashed => ":",
        }
    }
}

#[derive(Clone, PartialEq)]
struct Node {
    name: String,
    label: String,
    colour: [u8; 3],
}

/// A graph or a molecule as it is drawn: SVG inside HTML, and a list of its edges as text.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let ethanol = Molecule::from_smiles("CCO")?;
/// let drawing = ethanol.drawing().title("ethanol").weights(&[0.1, 0.2, 0.7])?; // the cell shows it
/// assert!(drawing.svg().starts_with("<svg"));
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq)]
pub struct Drawing {
    title: String,
    places: Vec<Place>,
    nodes: Vec<Node>,
    edges: Vec<(usize, usize, EdgeLines)>,
    weights: Option<(Vec<f32>, Scale)>,
    remark: Option<String>,
    /// Nodes are discs with their labels in them, not a molecule's letters and corners.
    discs: bool,
}

impl Drawing {
    pub(super) fn new(title: &str, places: Vec<Place>) -> Self {
        Self {
            title: title.to_owned(),
            places,
            nodes: Vec::new(),
            edges: Vec::new(),
            weights: None,
            remark: None,
            discs: false,
        }
    }

    /// A line below, of what the picture does not show.
    pub(super) fn remark(mut self, remark: String) -> Self {
        self.remark = Some(remark);
        self
    }

    pub(super) fn node(&mut self, name: String, label: String, colour: [u8; 3]) {
        self.nodes.push(Node {
            name,
            label,
            colour,
        });
    }

    pub(super) fn edge(&mut self, from: usize, to: usize, lines: EdgeLines) {
        self.edges.push((from, to, lines));
    }

    pub(super) fn of_graph(graph: &Graph) -> Self {
        let mut drawing = Self::new(
            &graph.title,
            layout::graph(graph.features.len(), &graph.pairs()),
        );
        drawing.discs = true;
        for label in &graph.labels {
            drawing.node(label.clone(), label.clone(), [60, 90, 160]);
        }
        for edge in &graph.edges {
            drawing.edge(edge.from, edge.to, EdgeLines::One);
        }
        drawing
    }

    /// The same under another title.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = title.into();
        self
    }

    /// Lays a number on each node: red above zero, blue below.
    ///
    /// # Errors
    /// For another number of them.
    pub fn weights(self, weights: &[f32]) -> Result<Self> {
        self.weights_on(weights, Scale::of(weights))
    }

    /// The same in the colours of a given scale.
    pub(super) fn weights_on(mut self, weights: &[f32], scale: Scale) -> Result<Self> {
        if weights.len() != self.nodes.len() {
            return Err(Error::Input(format!(
                "{} numbers are given for {} nodes",
                weights.len(),
                self.nodes.len()
            )));
        }
        self.weights = Some((weights.to_vec(), scale));
        Ok(self)
    }

    /// Colours nodes by a group, such as a community.
    ///
    /// # Errors
    /// For another number of groups than nodes.
    pub fn groups(mut self, groups: &[usize]) -> Result<Self> {
        const COLOURS: [[u8; 3]; 8] = [
            [31, 119, 180],
            [214, 39, 40],
            [44, 160, 44],
            [255, 127, 14],
            [148, 103, 189],
            [140, 86, 75],
            [227, 119, 194],
            [90, 90, 90],
        ];
        if groups.len() != self.nodes.len() {
            return Err(Error::Input(format!(
                "{} groups are given for {} nodes",
                groups.len(),
                self.nodes.len()
            )));
        }
        for (node, group) in self.nodes.iter_mut().zip(groups) {
            node.colour = COLOURS[group % COLOURS.len()];
        }
        let count = groups
            .iter()
            .collect::<std::collections::BTreeSet<_>>()
            .len();
        self.remark = Some(match count > COLOURS.len() {
            true => format!("colours: {count} groups, of which some share one"),
            false => format!("colours: {count} groups"),
        });
        Ok(self)
    }

    /// How the nodes are called, in their order.
    pub(super) fn names(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.name.clone()).collect()
    }

    /// The drawing as an SVG document.
    pub fn svg(&self) -> String {
        let bounds = |of: fn(&Place) -> f64| {
            let all = self.places.iter().map(of);
            (
                all.clone().fold(f64::INFINITY, f64::min),
                all.fold(f64::NEG_INFINITY, f64::max),
            )
        };
        let ((left, right), (top, bottom)) = match self.places.is_empty() {
            true => ((0.0, 0.0), (0.0, 0.0)),
            false => (bounds(|place| place.0), bounds(|place| place.1)),
        };
        let edge = if self.discs { WIDE_EDGE } else { EDGE };
        let scale = edge.min((WIDEST - 2.0 * MARGIN) / (right - left).max(1e-9));
        let (width, height) = (
            (right - left) * scale + 2.0 * MARGIN,
            (bottom - top) * scale + 2.0 * MARGIN,
        );
        let at = |node: usize| {
            let (x, y) = self.places[node];
            ((x - left) * scale + MARGIN, (y - top) * scale + MARGIN)
        };
        let small = scale < 0.6 * EDGE;
        let line = if self.discs {
            ("#b0b0b0", 1.0)
        } else {
            ("#555555", 1.4)
        };
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\">\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"
        );
        for (from, to, lines) in &self.edges {
            let ((x1, y1), (x2, y2)) = (at(*from), at(*to));
            let length = (x2 - x1).hypot(y2 - y1).max(1e-9);
            let (nx, ny) = (-(y2 - y1) / length, (x2 - x1) / length);
            let mut drawn = |shift: f64, dashed: bool| {
                svg.push_str(&format!(
                    "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"{}\" stroke-width=\"{}\"{}/>",
                    x1 + nx * shift,
                    y1 + ny * shift,
                    x2 + nx * shift,
                    y2 + ny * shift,
                    line.0,
                    line.1,
                    if dashed { " stroke-dasharray=\"3 3\"" } else { "" }
                ));
            };
            match lines {
                EdgeLines::One => drawn(0.0, false),
                EdgeLines::Two => [-2.2, 2.2]
                    .into_iter()
                    .for_each(|shift| drawn(shift, false)),
                EdgeLines::Three => [-3.6, 0.0, 3.6]
                    .into_iter()
                    .for_each(|shift| drawn(shift, false)),
                EdgeLines::OneAndDashed => {
                    drawn(-2.0, false);
                    drawn(2.0, true);
                }
            }
        }
        let shades = self
            .weights
            .as_ref()
            .map(|(weights, scale)| (*scale, weights));
        for (number, node) in self.nodes.iter().enumerate() {
            let (x, y) = at(number);
            let ink = match &shades {
                Some((scale, weights)) => {
                    let shade = scale.color(weights[number]);
                    svg.push_str(&format!(
                        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"11\" fill=\"{}\" stroke=\"#999999\"><title>{}: {}</title></circle>",
                        heat::css(shade),
                        escape(&node.name),
                        number::short(f64::from(weights[number]))
                    ));
                    heat::text_on(shade).to_owned()
                }
                None if self.discs && !small => {
                    svg.push_str(&format!(
                        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{NODE}\" fill=\"{}\" stroke=\"#ffffff\"><title>{}</title></circle>",
                        heat::css(node.colour),
                        escape(&node.name)
                    ));
                    heat::text_on(node.colour).to_owned()
                }
                None => heat::css(node.colour),
            };
            if node.label.is_empty() || small {
                if shades.is_none() && (small || self.edges.is_empty()) {
                    svg.push_str(&format!(
                        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{}\"/>",
                        heat::css(node.colour)
                    ));
                }
                continue;
            }
            let inside = self.discs && node.label.chars().count() <= 3;
            if self.discs && !inside {
                // A longer name stands below its disc.
                svg.push_str(&format!(
                    "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-family=\"sans-serif\" font-size=\"11\" fill=\"#333333\">{}</text>",
                    y + NODE + 11.0,
                    escape(&node.label)
                ));
                continue;
            }
            if shades.is_none() && !self.discs {
                let half = 4.2 * node.label.chars().count() as f64 + 2.0;
                svg.push_str(&format!(
                    "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"15\" fill=\"#ffffff\"/>",
                    x - half,
                    y - 7.5,
                    2.0 * half
                ));
            }
            svg.push_str(&format!(
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-family=\"sans-serif\" font-size=\"{}\" fill=\"{ink}\">{}</text>",
                y + if inside { 3.8 } else { 4.5 },
                if inside { 11 } else { 13 },
                escape(&node.label)
            ));
        }
        svg.push_str("</svg>");
        svg
    }

    fn plain(&self) -> String {
        let mut lines = vec![format!(
            "{}: {} nodes, {} edges",
            self.title,
            self.nodes.len(),
            self.edges.len()
        )];
        let name = |node: usize| self.nodes.get(node).map_or("?", |node| node.name.as_str());
        let edges = self.edges.iter().take(LISTED);
        let edges: Vec<String> = edges
            .map(|(from, to, lines)| format!("{}{}{}", name(*from), lines.symbol(), name(*to)))
            .collect();
        lines.extend(edges.chunks(8).map(|some| format!("  {}", some.join("  "))));
        if self.edges.len() > LISTED {
            lines.push(format!("  … and {} more edges", self.edges.len() - LISTED));
        }
        if let Some((weights, _)) = &self.weights {
            let mut order: Vec<usize> = (0..weights.len()).collect();
            order.sort_by(|a, b| weights[*b].abs().total_cmp(&weights[*a].abs()));
            let most = order.iter().take(8).map(|node| {
                format!(
                    "{} {}",
                    name(*node),
                    number::short(f64::from(weights[*node]))
                )
            });
            lines.push(format!(
                "  largest: {}",
                most.collect::<Vec<_>>().join(", ")
            ));
        }
        lines.extend(self.remark.iter().map(|remark| format!("  {remark}")));
        lines.join("\n")
    }
}

impl Render for Drawing {
    fn render(&self) -> MimeBundle {
        let svg = self.svg();
        let width = svg
            .split("width=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next()?.parse().ok());
        let picture = html::image(
            "image/svg+xml",
            svg.as_bytes(),
            width.unwrap_or(300),
            &self.title,
        );
        let remark = self.remark.as_ref().map_or(String::new(), |remark| {
            format!(
                "<div style=\"font-size:0.85em;opacity:0.75\">{}</div>",
                escape(remark)
            )
        });
        let scale = self.weights.as_ref().map(|(_, scale)| scale.legend());
        MimeBundle::text(self.plain()).with_html(format!(
            "<div>{}</div>{picture}{}{remark}",
            escape(&self.title),
            scale.unwrap_or_default()
        ))
    }
}

impl std::fmt::Debug for Drawing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Drawing of {} ({} nodes, {} edges)",
            self.title,
            self.nodes.len(),
            self.edges.len()
        )
    }
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Graph {} ({} nodes, {} edges)",
            self.title,
            self.features.len(),
            self.edges.len()
        )
    }
}

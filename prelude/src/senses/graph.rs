//! Any graph as the tensor that an encoder reads: nodes with features, and between any two of them the values of their edge.
//!
//! ```text
//! [1, N, R + N, K]   row i: what node i is (F features in R = ⌈F / K⌉ groups of K) │ its K values towards node 0 │ node 1 │ ... │ node N − 1
//! ```
//! Two nodes are joined where one of the K values is not zero. N is the input's own, so that molecules of any size pass one encoder;
//! inputs of one size stand in one batch.

use candle_core::{DType, Device, Tensor};

use crate::display::{MimeBundle, Render};
use crate::{Error, Result};

/// A graph of more nodes becomes no input: its tensor grows with the square.
pub(super) const MOST_NODES: usize = 512;

/// An edge of a [`Graph`].
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let graph = Graph {
///     title: "a path".into(),
///     labels: vec!["A".into(), "B".into()],
///     features: vec![vec![1.0], vec![2.0]],
///     relations: 1,
///     edges: vec![GraphEdge { from: 0, to: 1, values: vec![0.5] }],
/// };
/// assert_eq!(graph.tensor(&Device::Cpu)?.dims(), [1, 2, 3, 1]); // a group of features and two of edges
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct GraphEdge {
    /// Where it starts.
    pub from: usize,
    /// Where it ends.
    pub to: usize,
    /// Its values, as many as the graph has relations, not all 0.
    pub values: Vec<f32>,
}

/// Nodes with features, and edges between them that lead both ways.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let graph = Molecule::from_smiles("CCO")?.graph();
/// assert_eq!((graph.labels.len(), graph.edges.len()), (3, 2)); // atoms and bonds
/// let input = graph.tensor(&Device::Cpu)?;
/// assert_eq!(input.dims4()?.0, 1);
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq)]
pub struct Graph {
    /// What it is called.
    pub title: String,
    /// A name of each node.
    pub labels: Vec<String>,
    /// F numbers of each node.
    pub features: Vec<Vec<f32>>,
    /// Values of each edge.
    pub relations: usize,
    /// The edges.
    pub edges: Vec<GraphEdge>,
}

/// How many features a node and values an edge has.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let widths = GraphWidths { features: 1, relations: 1 };
/// let encoder = GraphEncoder::new_random(GraphKind::Graphs(widths), 16, 1, 1, &Device::Cpu)?;
/// assert_eq!(encoder.nodes.input(), widths.features);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraphWidths {
    /// F.
    pub features: usize,
    /// K.
    pub relations: usize,
}

impl GraphWidths {
    /// R, groups of K in which the features stand.
    pub(super) fn groups(self) -> usize {
        self.features.div_ceil(self.relations.max(1))
    }

    /// N of an input `[B, N, R + N, K]`.
    ///
    /// # Errors
    /// `Input` for another shape, [`Error::NoNodes`] for N = 0.
    pub(super) fn nodes(self, input: &Tensor) -> Result<usize> {
        match *input.dims() {
            [_, 0, _, _] => Err(Error::NoNodes {
                graph: "an input".into(),
            }),
            [_, nodes, columns, relations]
                if relations == self.relations && columns == nodes + self.groups() =>
            {
                Ok(nodes)
            }
            _ => Err(Error::Input(format!(
                "a graph whose nodes have {} features and whose edges {} values is [B, N, {} + N, {}], got {:?}: `.tensor()` of a \
                 graph makes it",
                self.features,
                self.relations,
                self.groups(),
                self.relations,
                input.dims()
            ))),
        }
    }
}

impl Graph {
    /// The input of an encoder, `[1, N, R + N, K]`, f32.
    ///
    /// # Errors
    /// [`Error::NoNodes`]; for more nodes than 512, features or values of several lengths or that are not finite, and edges to nodes
    /// that are not there.
    pub fn tensor(&self, device: &Device) -> Result<Tensor> {
        let nodes = self.features.len();
        let widths = self.widths()?;
        if nodes > MOST_NODES {
            return Err(Error::Input(format!(
                "{} has {nodes} nodes, an encoder reads {MOST_NODES} at most: cut it, or give its largest part",
                self.title
            )));
        }
        let (groups, relations) = (widths.groups(), widths.relations);
        let columns = groups + nodes;
        let mut values = vec![0f32; nodes * columns * relations];
        for (node, features) in self.features.iter().enumerate() {
            let start = node * columns * relations;
            values[start..start + features.len()].copy_from_slice(features);
        }
        for edge in &self.edges {
            for (from, to) in [(edge.from, edge.to), (edge.to, edge.from)] {
                let start = (from * columns + groups + to) * relations;
                values[start..start + relations].copy_from_slice(&edge.values);
            }
        }
        Ok(Tensor::from_vec(
            values,
            (1, nodes, columns, relations),
            device,
        )?)
    }

    /// Checks that every node and edge is whole.
    pub(super) fn widths(&self) -> Result<GraphWidths> {
        let nodes = self.features.len();
        let Some(first) = self.features.first() else {
            return Err(Error::NoNodes {
                graph: self.title.clone(),
            });
        };
        let widths = GraphWidths {
            features: first.len(),
            relations: self.relations,
        };
        if self.relations == 0 || first.is_empty() || self.labels.len() != nodes {
            return Err(Error::Input(format!(
                "{}: nodes have at least one feature and a label each, edges at least one value",
                self.title
            )));
        }
        for (node, features) in self.features.iter().enumerate() {
            if features.len() != widths.features {
                return Err(Error::Input(format!(
                    "{}: node {node} has {} features, node 0 has {}",
                    self.title,
                    features.len(),
                    widths.features
                )));
            }
            if let Some(value) = features.iter().find(|value| !value.is_finite()) {
                return Err(Error::NotANumber {
                    what: self.title.clone(),
                    place: format!("a feature of node {node}"),
                    value: f64::from(*value),
                });
            }
        }
        for (number, edge) in self.edges.iter().enumerate() {
            if edge.from.max(edge.to) >= nodes || edge.values.len() != self.relations {
                return Err(Error::Input(format!(
                    "{}: edge {number} joins {} and {} with {} values; there are nodes 0 to {} and {} values an edge",
                    self.title,
                    edge.from,
                    edge.to,
                    edge.values.len(),
                    nodes - 1,
                    self.relations
                )));
            }
            if let Some(value) = edge.values.iter().find(|value| !value.is_finite()) {
                return Err(Error::NotANumber {
                    what: self.title.clone(),
                    place: format!("edge {number}"),
                    value: f64::from(*value),
                });
            }
            if edge.values.iter().all(|value| *value == 0.0) {
                return Err(Error::Input(format!(
                    "{}: edge {number} has only zeros, which is no edge",
                    self.title
                )));
            }
        }
        Ok(widths)
    }

    /// The graph of an input `[1, N, R + N, K]`, with numbers as labels.
    ///
    /// # Errors
    /// For another shape.
    pub(super) fn of_tensor(input: &Tensor, widths: GraphWidths) -> Result<Self> {
        let nodes = widths.nodes(input)?;
        if input.dims()[0] != 1 {
            return Err(Error::Input(format!(
                "one graph is looked at, got {}: take one with narrow(0, b, 1)",
                input.dims()[0]
            )));
        }
        let values = input
            .to_device(&Device::Cpu)?
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        let (groups, relations) = (widths.groups(), widths.relations);
        let columns = groups + nodes;
        let mut edges = Vec::new();
        for from in 0..nodes {
            for to in from..nodes {
                let start = (from * columns + groups + to) * relations;
                let values = &values[start..start + relations];
                if values.iter().any(|value| *value != 0.0) {
                    edges.push(GraphEdge {
                        from,
                        to,
                        values: values.to_vec(),
                    });
                }
            }
        }
        let features = |node: usize| {
            let start = node * columns * relations;
            values[start..start + widths.features].to_vec()
        };
        Ok(Self {
            title: format!("a graph of {nodes} nodes"),
            labels: (0..nodes).map(|node| node.to_string()).collect(),
            features: (0..nodes).map(features).collect(),
            relations,
            edges,
        })
    }

    pub(super) fn pairs(&self) -> Vec<(usize, usize)> {
        self.edges.iter().map(|edge| (edge.from, edge.to)).collect()
    }
}

impl Render for Graph {
    fn render(&self) -> MimeBundle {
        super::draw::Drawing::of_graph(self).render()
    }
}

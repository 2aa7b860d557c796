//! One round of messages along the edges of a graph, the layer of every graph encoder here.
//!
//! ```text
//! x_i + Σ_j relu(x_j + W e_ij) ─ linear ─ LayerNorm ─ GELU ─ linear ─ LayerNorm ─ GELU ─► x'_i          j: the neighbours of i
//! ```
//! This is GINE ("Strategies for Pre-training Graph Neural Networks", Hu et al., 2020) as graphium builds it. Sums do not know in which
//! order neighbours come: nodes in another order give the same vectors in that order.

use candle_core::{DType, Device, Tensor};

use super::graph::GraphWidths;
use crate::nn::{Checkpoint, Init, LayerNorm, Linear, gelu};
use crate::{Error, Result};

/// The eps of every LayerNorm here.
pub(super) const EPS: f64 = 1e-5;

/// Edges of a batch of graphs whose nodes lie one after the other, each in both directions.
#[derive(Clone)]
pub(super) struct Edges {
    /// Where a message comes from, `[E]`, u32; `None` where there is no edge at all.
    ends: Option<(Tensor, Tensor)>,
    /// What stands at the edge, `[E, K]`.
    pub values: Tensor,
}

impl Edges {
    /// Edges from lists of nodes, with values `[E, K]`.
    pub fn new(from: Vec<u32>, to: Vec<u32>, values: Tensor) -> Result<Self> {
        let count = from.len();
        let device = values.device().clone();
        let ends = match count {
            0 => None,
            _ => Some((
                Tensor::from_vec(from, count, &device)?,
                Tensor::from_vec(to, count, &device)?,
            )),
        };
        Ok(Self { ends, values })
    }

    /// The same edges with other values, `[E, K']`.
    pub fn with(&self, values: Tensor) -> Self {
        Self {
            ends: self.ends.clone(),
            values,
        }
    }
}

/// The nodes and edges of inputs `[B, N, R + N, K]`: features `[B·N, F]` and edges between them.
///
/// # Errors
/// For another shape, and [`Error::NotANumber`].
pub(super) fn unpacked(
    input: &Tensor,
    widths: GraphWidths,
    device: &Device,
) -> Result<(Tensor, Edges)> {
    let nodes = widths.nodes(input)?;
    let batch = input.dims()[0];
    let input = input.to_device(device)?.to_dtype(DType::F32)?;
    let groups = widths.groups();
    let features = input
        .narrow(2, 0, groups)? // [B, N, R, K]
        .contiguous()?
        .reshape((batch * nodes, groups * widths.relations))?
        .narrow(1, 0, widths.features)? // [B·N, F]
        .contiguous()?;
    let between = input
        .narrow(2, groups, nodes)? // [B, N, N, K]
        .contiguous()?
        .reshape((batch * nodes * nodes, widths.relations))?; // [B·N·N, K]
    let all = between
        .detach()
        .to_device(&Device::Cpu)?
        .flatten_all()?
        .to_vec1::<f32>()?;
    let own = features
        .detach()
        .to_device(&Device::Cpu)?
        .flatten_all()?
        .to_vec1::<f32>()?;
    if let Some(at) = own.iter().position(|value| !value.is_finite()) {
        return Err(Error::NotANumber {
            what: "a graph".into(),
            place: format!("a feature of node {}", at / widths.features % nodes),
            value: f64::from(own[at]),
        });
    }
    let (mut from, mut to, mut places) = (Vec::new(), Vec::new(), Vec::new());
    for (place, values) in all.chunks_exact(widths.relations).enumerate() {
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return Err(Error::NotANumber {
                what: "a graph".into(),
                place: format!(
                    "the edge from node {} to node {}",
                    place / nodes % nodes,
                    place % nodes
                ),
                value: f64::from(*value),
            });
        }
        if values.iter().any(|value| *value != 0.0) {
            let graph = place / (nodes * nodes);
            to.push((place / nodes) as u32);
            from.push((graph * nodes + place % nodes) as u32);
            places.push(place as u32);
        }
    }
    let values = match places.len() {
        0 => Tensor::zeros((1, widths.relations), DType::F32, device)?,
        count => between.index_select(&Tensor::from_vec(places, count, device)?, 0)?, // [E, K]
    };
    Ok((features, Edges::new(from, to, values)?))
}

/// A layer, `[M, D] → [M, D']`, over the edges between the M nodes.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let device = Device::Cpu;
/// let encoder = GraphEncoder::new_random(GraphKind::Molecules, 16, 2, 1, &device)?;
/// let layer: &MessagePassing = &encoder.layers[0];
/// println!("{layer:?}");
/// assert_eq!((layer.fc1.input(), layer.fc2.output()), (16, 16));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct MessagePassing {
    /// From an edge's values to the width of a node, `[K → D]`.
    pub edge: Linear,
    /// `[D → H]`.
    pub fc1: Linear,
    /// After it.
    pub norm1: LayerNorm,
    /// `[H → D']`.
    pub fc2: Linear,
    /// After it.
    pub norm2: LayerNorm,
}

crate::parts!(MessagePassing {
    edge,
    fc1,
    norm1,
    fc2,
    norm2
});

/// Widths of a layer.
#[derive(Clone, Copy)]
pub(super) struct LayerWidths {
    pub edge: usize,
    pub input: usize,
    pub hidden: usize,
    pub output: usize,
}

impl MessagePassing {
    /// Reads a layer below `name` by graphium's names.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub(super) fn load(weights: &Checkpoint, name: &str, widths: LayerWidths) -> Result<Self> {
        let linear = |part: &str, from: usize, to: usize| {
            linear(weights, &format!("{name}.{part}"), (from, to))
        };
        let norm = |part: &str, dim| LayerNorm::load(weights, &format!("{name}.{part}"), dim, EPS);
        let LayerWidths {
            edge,
            input,
            hidden,
            output,
        } = widths;
        Ok(Self {
            edge: linear("model.lin", edge, input)?,
            fc1: linear("model.nn.fully_connected.0.linear", input, hidden)?,
            norm1: norm("model.nn.fully_connected.0.normalization", hidden)?,
            fc2: linear("model.nn.fully_connected.1.linear", hidden, output)?,
            norm2: norm("norm_layer", output)?,
        })
    }

    /// `[M, D] → [M, D']`.
    pub(super) fn forward(&self, x: &Tensor, edges: &Edges) -> Result<Tensor> {
        let heard = match &edges.ends {
            None => x.clone(), // nobody has a neighbour
            Some((from, to)) => {
                let sent =
                    (x.index_select(from, 0)? + self.edge.forward(&edges.values)?)?.relu()?; // [E, D]
                x.index_add(to, &sent, 0)? // [M, D]
            }
        };
        let hidden = gelu(&self.norm1.forward(&self.fc1.forward(&heard)?)?)?; // [M, H]
        gelu(&self.norm2.forward(&self.fc2.forward(&hidden)?)?) // [M, D']
    }
}

/// A linear layer whose random draw keeps the size of what passes.
pub(super) fn linear(
    weights: &Checkpoint,
    name: &str,
    (from, to): (usize, usize),
) -> Result<Linear> {
    Linear::load_with(
        weights,
        name,
        (from, to),
        true,
        Init::Normal((from as f64).powf(-0.5)),
    )
}

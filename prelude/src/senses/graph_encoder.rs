//! An encoder of graphs: molecules, social graphs, or others of one's own. Its positions are the nodes.
//!
//! ```text
//! [B, N, R + N, K] ─ node features ─ linear ─► L × (x + messages along edges) ─ LayerNorm ─► [B, N, D]
//! ```

use candle_core::{Device, Tensor};

use super::draw::Drawing;
use super::graph::{Graph, GraphWidths};
use super::message_passing::{EPS, LayerWidths, MessagePassing, linear, unpacked};
use super::molecule_graph;
use crate::display::heat::Scale;
use crate::display::{MimeBundle, Render};
use crate::nn::{Checkpoint, LayerNorm, Linear};
use crate::vision::{Modality, Positions, Stages};
use crate::{Error, Result};
use candle_core::DType;

/// What a [`GraphEncoder`] reads.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let device = Device::Cpu;
/// let people = GraphKind::Graphs(SocialGraph::WIDTHS);
/// let encoder = GraphEncoder::new_random(people, 16, 2, 1, &device)?;
/// let club = SocialGraph::karate_club()?;
/// assert_eq!(encoder.encode(&club.tensor(&device)?)?.dims(), [1, 34, 16]); // a vector for each person
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraphKind {
    /// Molecules as [`Molecule::tensor`](super::Molecule::tensor) makes them.
    Molecules,
    /// Graphs whose nodes and edges have so many values.
    Graphs(GraphWidths),
}

impl GraphKind {
    fn widths(self) -> GraphWidths {
        match self {
            Self::Molecules => molecule_graph::WIDTHS,
            Self::Graphs(widths) => widths,
        }
    }

    pub(super) fn drawing(self, input: &Tensor) -> Result<Drawing> {
        let graph = Graph::of_tensor(input, self.widths())?;
        Ok(match self {
            Self::Molecules => molecule_graph::drawing(&graph),
            Self::Graphs(_) => Drawing::of_graph(&graph),
        })
    }
}

/// Messages along edges, some rounds of them, over the nodes of a graph of any size.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let device = Device::Cpu;
/// let encoder = GraphEncoder::new_random(GraphKind::Molecules, 48, 3, 1, &device)?;
/// let settings = VlmSettings { vit_lora: None, train_encoder: true, ..VlmSettings::tiny() };
/// let vlm = Vlm::from_pretrained(&Preset::tiny().settings(settings).encoder(encoder), &device)?;
/// let ethanol = Molecule::from_smiles("CCO")?;
/// assert_eq!(vlm.image_tokens(&ethanol.tensor(&device)?)?.dim(1)?, 3); // a token for each atom
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct GraphEncoder {
    /// What it reads.
    pub reads: GraphKind,
    /// From a node's features, `[F → D]`.
    pub nodes: Linear,
    /// The rounds.
    pub layers: Vec<MessagePassing>,
    /// After the last.
    pub norm: LayerNorm,
}

crate::parts!(GraphEncoder {
    nodes,
    layers,
    norm
});

impl GraphEncoder {
    /// An encoder with freshly drawn weights, f32, frozen until something trains them: `dim` is D, `layers` how many edges far a node
    /// hears.
    ///
    /// # Errors
    /// For a width or a number of layers of 0.
    pub fn new_random(
        reads: GraphKind,
        dim: usize,
        layers: usize,
        seed: u64,
        device: &Device,
    ) -> Result<Self> {
        if dim == 0 || layers == 0 {
            return Err(Error::Config(format!(
                "an encoder of {dim} values and {layers} layers: give at least one of each"
            )));
        }
        let weights = Checkpoint::random(seed, DType::F32, device);
        let GraphWidths {
            features,
            relations,
        } = reads.widths();
        if features == 0 || relations == 0 {
            return Err(Error::Config(
                "nodes have at least one feature and edges one value".into(),
            ));
        }
        let widths = LayerWidths {
            edge: relations,
            input: dim,
            hidden: 2 * dim,
            output: dim,
        };
        let layer = |at: usize| MessagePassing::load(&weights, &format!("layers.{at}"), widths);
        Ok(Self {
            reads,
            nodes: linear(&weights, "nodes", (features, dim))?,
            layers: (0..layers).map(layer).collect::<Result<_>>()?,
            norm: LayerNorm::load(&weights, "norm", dim, EPS)?,
        })
    }

    fn states(&self, input: &Tensor) -> Result<(Vec<Tensor>, Tensor)> {
        let (batch, count) = (
            input.dims().first().copied().unwrap_or(0),
            self.reads.widths().nodes(input)?,
        );
        let device = self.nodes.weight.tensor().device();
        let (features, edges) = unpacked(input, self.reads.widths(), device)?; // [B·N, F]
        let mut states = vec![self.nodes.forward(&features)?]; // [B·N, D]
        for layer in &self.layers {
            let x = &states[states.len() - 1];
            states.push((x + layer.forward(x, &edges)?)?); // [B·N, D]
        }
        let last = self.norm.forward(&states[states.len() - 1])?; // [B·N, D]
        let shaped = |x: Tensor| x.reshape((batch, count, self.dim()));
        let states = states
            .into_iter()
            .map(shaped)
            .collect::<candle_core::Result<_>>()?;
        Ok((states, shaped(last)?))
    }
}

impl Modality for GraphEncoder {
    fn encode(&self, input: &Tensor) -> Result<Tensor> {
        Ok(self.states(input)?.1)
    }

    fn dim(&self) -> usize {
        self.nodes.output()
    }

    /// As many as the input has nodes.
    fn positions(&self) -> Positions {
        Positions::of_the_input()
    }

    fn positions_of(&self, input: &Tensor) -> Result<Positions> {
        Ok(Positions::sequence(self.reads.widths().nodes(input)?))
    }

    fn position_names(&self, input: &Tensor) -> Result<Vec<String>> {
        Ok(self.reads.drawing(input)?.names())
    }

    fn input_axes(&self) -> &'static [&'static str] {
        &["B", "N", "R+N", "K"]
    }

    fn render_input(&self, input: &Tensor) -> Result<MimeBundle> {
        Ok(self.reads.drawing(input)?.render())
    }

    fn render_positions(&self, input: &Tensor, title: &str, values: &[f32]) -> Result<MimeBundle> {
        self.render_positions_on(input, title, values, Scale::of(values))
    }

    fn render_positions_on(
        &self,
        input: &Tensor,
        title: &str,
        values: &[f32],
        scale: Scale,
    ) -> Result<MimeBundle> {
        Ok(self
            .reads
            .drawing(input)?
            .title(title)
            .weights_on(values, scale)?
            .render())
    }

    fn stages(&self, input: &Tensor) -> Result<Stages> {
        let (states, features) = self.states(input)?;
        let named = states.into_iter().enumerate();
        Ok(Stages {
            named: named
                .map(|(at, state)| (format!("hidden_states[{at}]"), state))
                .collect(),
            features,
        })
    }
}

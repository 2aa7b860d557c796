//! Inputs that are no pictures: molecules, spectra, social graphs, fields of flow. Each is read, drawn and encoded.
//!
//! # Layout
//! - `elements`, `molecule`: what a molecule is; `smiles`, `sdf`, `sdf_v3000` read it, `matching` gives aromatic rings their double bonds,
//!   `rings` finds rings and parts, `aromaticity` which are aromatic, `stereo` the sides of double bonds
//! - `graph`: any graph as an encoder's input; `molecule_graph`: what of a molecule stands in it
//! - `message_passing`, `graph_encoder`: messages along edges, and the encoder made of them
//! - `organic`: molecules by rule, with names and text about them
//! - `minimol`, `minimol_input`: the pretrained network for molecules
//! - `spectrum`, `spectrum_encoder`: peaks and curves; `social`: who knows whom; `flow`, `flow_encoder`: velocities on a grid
//! - `layout`, `draw`: a graph on paper; `show`: how the rest shows itself
//!
//! Data flows: text or file → [`Molecule`] → `.tensor()` → [`Modality`](crate::vision::Modality) → positions, one for each atom.

mod aromaticity;
pub mod draw;
pub mod elements;
pub mod flow;
pub mod flow_encoder;
pub mod graph;
pub mod graph_encoder;
mod layout;
mod matching;
pub mod message_passing;
pub mod minimol;
mod minimol_input;
pub mod molecule;
mod molecule_graph;
pub mod organic;
mod rings;
pub mod sdf;
mod sdf_v3000;
mod show;
mod smiles;
pub mod social;
pub mod spectrum;
pub mod spectrum_encoder;
mod stereo;

pub use draw::Drawing;
#[doc(hidden)]
pub use draw::EdgeLines;
pub use elements::Element;
pub use flow::{FlowField, FlowGaps};
pub use flow_encoder::FlowEncoder;
pub use graph::{Graph, GraphEdge, GraphWidths};
pub use graph_encoder::{GraphEncoder, GraphKind};
pub use message_passing::MessagePassing;
pub use minimol::Minimol;
pub use molecule::{Atom, Bond, BondOrder, BondStereo, Molecule};
pub use organic::OrganicMolecule;
pub use sdf::SdfRecord;
pub use social::SocialGraph;
pub use spectrum::{Spectrum, SpectrumKind};
pub use spectrum_encoder::{SpectrumEncoder, SpectrumReads};

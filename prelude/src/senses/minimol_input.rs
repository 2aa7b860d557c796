//! What MiniMol reads of a molecule: 117 features of each atom, 13 values of each bond, in graphium's order and in half precision.
//!
//! ```text
//! degree − 2, charge, radical electrons, aromatic, in a ring │ element (44) │ group (20) │ period (8) │ valence (8)
//! │ eigenvectors (8) │ eigenvalues (8) │ chance to be back after 1 ... 16 steps (16)
//! ```
//! One thing is not as in the reference. Eigenvectors of a graph have no sign, and of equal eigenvalues no direction: LAPACK's are
//! another choice than ours, so fingerprints differ a little (as they do for the reference with atoms in another order). All else,
//! aromatic atoms and the sides of double bonds (E, Z) with it, is what the reference has.

use candle_core::Tensor;
use half::f16;

use super::draw::Drawing;
use super::elements::Element;
use super::graph::{Graph, GraphEdge};
use super::minimol::{ATOM, EIGEN, Minimol, WALKS, WIDTHS};
use super::molecule::{BondOrder, BondStereo, Molecule};
use super::{molecule_graph, rings};
use crate::Result;
use crate::inspect::eigen::{Square, symmetric};
use crate::nn::Network;

/// Elements with a feature of their own, in graphium's order.
const ELEMENTS: [&str; 43] = [
    "C", "N", "O", "S", "F", "Si", "P", "Cl", "Br", "Mg", "Na", "Ca", "Fe", "As", "Al", "I", "B",
    "V", "K", "Tl", "Yb", "Sb", "Sn", "Ag", "Pd", "Co", "Se", "Ti", "Zn", "H", "Li", "Ge", "Cu",
    "Au", "Ni", "Cd", "In", "Mn", "Zr", "Cr", "Pt", "Hg", "Pb",
];

/// Where the values for a double bond's side begin: none, any, Z, E, cis, trans, another.
const SIDES_AT: usize = 5;

/// Where the parts of an atom's features begin.
const ELEMENT_AT: usize = 5;
const GROUP_AT: usize = ELEMENT_AT + ELEMENTS.len() + 1;
const PERIOD_AT: usize = GROUP_AT + 20;
const VALENCE_AT: usize = PERIOD_AT + 8;

impl Molecule {
    /// The molecule as MiniMol reads it.
    fn for_minimol(&self) -> Graph {
        let count = self.atoms.len();
        let neighbours = self.neighbours();
        let ring_bonds = self.ring_bonds();
        let (vectors, values) = eigen_features(count, &self.pairs());
        let walks = walks(&neighbours);
        let features = self.atoms.iter().enumerate().map(|(at, atom)| {
            let mut features = vec![0f32; WIDTHS.features];
            let yes = |condition: bool| f32::from(u8::from(condition));
            features[0] = neighbours[at].len() as f32 + atom.hydrogens as f32 - 2.0;
            features[1] = atom.charge as f32;
            features[2] = atom.radicals as f32;
            features[3] = yes(atom.aromatic);
            features[4] = yes(neighbours[at].iter().any(|(_, bond)| ring_bonds[*bond]));
            let symbol = atom.element.symbol();
            let element = ELEMENTS.iter().position(|known| *known == symbol);
            features[ELEMENT_AT + element.unwrap_or(ELEMENTS.len())] = 1.0;
            let (period, group) = atom.element.table_place();
            features[GROUP_AT + group - 1] = 1.0;
            features[PERIOD_AT + period - 1] = 1.0;
            features[VALENCE_AT + self.total_valence(at).clamp(0, 7) as usize] = 1.0;
            features[ATOM..ATOM + EIGEN].copy_from_slice(&vectors[at]);
            features[ATOM + EIGEN..ATOM + 2 * EIGEN].copy_from_slice(&values[at]);
            features[ATOM + 2 * EIGEN..].copy_from_slice(&walks[at]);
            features
        });
        let features: Vec<Vec<f32>> = features.collect();
        let edges = self.bonds.iter().zip(&ring_bonds).map(|(bond, ring)| {
            let mut values = vec![0f32; WIDTHS.relations];
            let kind = BondOrder::ALL.iter().position(|order| *order == bond.order);
            values[kind.unwrap_or(BondOrder::ALL.len())] = 1.0;
            let side = match bond.stereo {
                None => SIDES_AT,
                Some(BondStereo::Z) => SIDES_AT + 2,
                Some(BondStereo::E) => SIDES_AT + 3,
            };
            values[side] = 1.0;
            values[12] = f32::from(u8::from(*ring));
            GraphEdge {
                from: bond.from,
                to: bond.to,
                values,
            }
        });
        let edges = edges.collect();
        Graph {
            title: self.name.clone(),
            labels: self
                .atoms
                .iter()
                .enumerate()
                .map(|(at, atom)| format!("{}{at}", atom.element))
                .collect(),
            features,
            relations: WIDTHS.relations,
            edges,
        }
    }
}

impl Minimol {
    /// What the network reads of a molecule, `[1, N, 9 + N, 13]`.
    ///
    /// # Errors
    /// For more than 512 atoms.
    pub fn input_of(&self, molecule: &Molecule) -> Result<Tensor> {
        let device = self
            .named_parameters()
            .first()
            .map(|parameter| parameter.tensor.device().clone());
        molecule
            .for_minimol()
            .tensor(&device.unwrap_or(candle_core::Device::Cpu))
    }
}

/// The molecule that such features are of, drawn.
pub(super) fn drawing(graph: &Graph) -> Drawing {
    let mut simple = graph.clone();
    simple.relations = molecule_graph::WIDTHS.relations;
    for edge in &mut simple.edges {
        edge.values.truncate(simple.relations);
    }
    simple.features = graph
        .features
        .iter()
        .map(|features| molecule_graph::only_drawn(of_features(features)))
        .collect();
    molecule_graph::drawing(&simple)
}

/// Element, charge and hydrogens.
fn of_features(features: &[f32]) -> (Option<Element>, f32, f32) {
    let symbol = ELEMENTS
        .iter()
        .zip(&features[ELEMENT_AT..])
        .find(|(_, is)| **is > 0.5);
    // Neighbours and hydrogens are one sum here: hydrogens are what is left of it where the drawing has no bond.
    (
        symbol.and_then(|(symbol, _)| Element::of_symbol(symbol)),
        features[1],
        0.0,
    )
}

fn halved(value: f64) -> f32 {
    f16::from_f64(value).to_f32()
}

type OfAtoms = Vec<[f32; EIGEN]>;

/// Entries of the eigenvectors of the graph's Laplacian at each atom, and its eigenvalues; of each separate part its own.
fn eigen_features(count: usize, pairs: &[(usize, usize)]) -> (OfAtoms, OfAtoms) {
    let (mut vectors, mut values) = (vec![[0f32; EIGEN]; count], vec![[0f32; EIGEN]; count]);
    let part = rings::components(count, pairs);
    for number in 0..part.iter().max().map_or(0, |last| last + 1) {
        let members: Vec<usize> = (0..count).filter(|atom| part[*atom] == number).collect();
        let size = members.len();
        let mut laplacian = Square {
            size,
            values: vec![0.0; size * size],
        };
        let place = |atom: usize| members.binary_search(&atom).ok();
        for (from, to) in pairs {
            if let (Some(a), Some(b)) = (place(*from), place(*to)) {
                laplacian.values[a * size + a] += 1.0;
                laplacian.values[b * size + b] += 1.0;
                laplacian.values[a * size + b] -= 1.0;
                laplacian.values[b * size + a] -= 1.0;
            }
        }
        // Falling order: the smallest stand last.
        let (found, matrix) = symmetric(&laplacian);
        for slot in 0..EIGEN.min(size) {
            let column = size - 1 - slot;
            let largest = (0..size).max_by(|a, b| {
                matrix
                    .at(*a, column)
                    .abs()
                    .total_cmp(&matrix.at(*b, column).abs())
            });
            let sign = largest.map_or(1.0, |row| matrix.at(row, column).signum());
            for (row, atom) in members.iter().enumerate() {
                vectors[*atom][slot] = halved(sign * matrix.at(row, column));
                values[*atom][slot] = halved(found[column].max(0.0));
            }
        }
    }
    (vectors, values)
}

/// The chance to be back after 1, 2, ... steps to any neighbour.
fn walks(neighbours: &[Vec<(usize, usize)>]) -> Vec<[f32; WALKS]> {
    let count = neighbours.len();
    if count == 1 {
        return vec![[1.0; WALKS]];
    }
    (0..count)
        .map(|start| {
            let mut at = vec![0f64; count];
            at[start] = 1.0;
            let mut back = [0f32; WALKS];
            for chance in &mut back {
                let mut next = vec![0f64; count];
                for (atom, own) in neighbours
                    .iter()
                    .enumerate()
                    .filter(|(atom, _)| at[*atom] > 0.0)
                {
                    for (other, _) in own {
                        next[*other] += at[atom] / own.len() as f64;
                    }
                }
                at = next;
                *chance = halved(at[start]);
            }
            back
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_come_back_from_a_pair_every_second_step() {
        let found = walks(&[vec![(1, 0)], vec![(0, 0)]]);
        assert_eq!(&found[0][..4], [0.0, 1.0, 0.0, 1.0]);
    }
}

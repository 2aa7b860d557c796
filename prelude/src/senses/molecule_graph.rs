//! What an encoder reads of a molecule: features of atoms and orders of bonds; and the molecule's drawing from either.
//!
//! An atom's features: one of twelve elements or another, its atomic number, charge, hydrogens, neighbours, whether it is aromatic or in a
//! ring. Mass numbers and how atoms turn are not among them.

use candle_core::{Device, Tensor};

use super::draw::{Drawing, EdgeLines};
use super::elements::Element;
use super::graph::{Graph, GraphEdge, GraphWidths};
use super::molecule::{BondOrder, COORDINATES, Molecule};
use crate::display::{MimeBundle, Render};
use crate::vlm::{Vlm, VlmInput};
use crate::{Error, Result};

/// Elements that have a feature of their own.
const KNOWN: [Element; 12] = [
    Element::H,
    Element::B,
    Element::C,
    Element::N,
    Element::O,
    Element::F,
    Element::SI,
    Element::P,
    Element::S,
    Element::CL,
    Element::BR,
    Element::I,
];

/// Names of an atom's features behind those of its element.
const OTHERS: [&str; 6] = [
    "atomic number / 100",
    "charge",
    "hydrogens / 4",
    "neighbours / 4",
    "aromatic",
    "in a ring",
];

pub(super) const WIDTHS: GraphWidths = GraphWidths {
    features: KNOWN.len() + 1 + OTHERS.len(),
    relations: BondOrder::ALL.len(),
};

const NUMBER: usize = KNOWN.len() + 1;

impl Molecule {
    /// The molecule as a graph of atoms with features and bonds with their order (single, double, triple, aromatic).
    pub fn graph(&self) -> Graph {
        let neighbours = self.neighbours();
        let ring_bonds = self.ring_bonds();
        let features = self.atoms.iter().enumerate().map(|(at, atom)| {
            let mut features = vec![0f32; WIDTHS.features];
            let place = KNOWN.iter().position(|known| *known == atom.element);
            features[place.unwrap_or(KNOWN.len())] = 1.0;
            let in_ring = neighbours[at].iter().any(|(_, bond)| ring_bonds[*bond]);
            let others = [
                atom.element.number() as f32 / 100.0,
                atom.charge as f32,
                atom.hydrogens as f32 / 4.0,
                neighbours[at].len() as f32 / 4.0,
                f32::from(u8::from(atom.aromatic)),
                f32::from(u8::from(in_ring)),
            ];
            features[NUMBER..].copy_from_slice(&others);
            features
        });
        let features: Vec<Vec<f32>> = features.collect();
        let edges = self.bonds.iter().map(|bond| {
            let kinds = BondOrder::ALL
                .iter()
                .map(|order| f32::from(u8::from(*order == bond.order)));
            GraphEdge {
                from: bond.from,
                to: bond.to,
                values: kinds.collect(),
            }
        });
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
            edges: edges.collect(),
        }
    }

    /// What a [`GraphEncoder`](super::GraphEncoder) of molecules reads, `[1, N, 5 + N, 4]` for N atoms, f32.
    ///
    /// # Errors
    /// For more than 512 atoms.
    pub fn tensor(&self, device: &Device) -> Result<Tensor> {
        self.graph().tensor(device)
    }

    /// The molecule as a drawing, on which numbers can be laid.
    pub fn drawing(&self) -> Drawing {
        let drawn = self.atoms.iter().map(|atom| Drawn {
            element: Some(atom.element),
            charge: atom.charge,
            hydrogens: atom.hydrogens as i32,
            isotope: atom.isotope,
        });
        let bonds: Vec<(usize, usize, BondOrder)> = self
            .bonds
            .iter()
            .map(|bond| (bond.from, bond.to, bond.order))
            .collect();
        drawing_of(
            &format!("{} · {}", self.name, self.formula()),
            &drawn.collect::<Vec<_>>(),
            &bonds,
            self.rings(),
        )
    }
}

impl Molecule {
    /// What the drawing does not show: sides of double bonds, and what was read and is not used.
    fn remarks(&self) -> Vec<String> {
        let name = |at: usize| format!("{}{at}", self.atoms[at].element);
        let sides = self.bonds.iter().filter_map(|bond| {
            let stereo = bond.stereo?;
            Some(format!("{}={} {stereo:?}", name(bond.from), name(bond.to)))
        });
        let sides: Vec<String> = sides.collect();
        let mut remarks = Vec::new();
        if !sides.is_empty() {
            remarks.push(format!(
                "sides of double bonds, not drawn: {}",
                sides.join(", ")
            ));
        }
        let unused = self
            .not_used
            .iter()
            .filter(|(mark, _)| *mark != COORDINATES);
        let unused: Vec<String> = unused
            .map(|(mark, count)| format!("{count} × {mark}"))
            .collect();
        if !unused.is_empty() {
            remarks.push(format!("read and not used: {}", unused.join(", ")));
        }
        remarks
    }
}

/// An atom as it is drawn.
struct Drawn {
    element: Option<Element>,
    charge: i32,
    hydrogens: i32,
    isotope: Option<u32>,
}

/// Features of which only what a drawing needs is there: element, charge, hydrogens.
pub(super) fn only_drawn((element, charge, hydrogens): (Option<Element>, f32, f32)) -> Vec<f32> {
    let mut features = vec![0f32; WIDTHS.features];
    features[NUMBER] = element.map_or(0.0, |element| element.number() as f32 / 100.0);
    features[NUMBER + 1] = charge;
    features[NUMBER + 2] = hydrogens / 4.0;
    features
}

/// The drawing of a molecule of which only the features are left.
pub(super) fn drawing(graph: &Graph) -> Drawing {
    let atoms = graph.features.iter().map(|features| Drawn {
        element: Element::of_number((features[NUMBER] * 100.0).round().max(0.0) as usize),
        charge: features[NUMBER + 1].round() as i32,
        hydrogens: (features[NUMBER + 2] * 4.0).round() as i32,
        isotope: None,
    });
    let atoms: Vec<Drawn> = atoms.collect();
    let order = |values: &[f32]| {
        let strongest = values.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        BondOrder::ALL[strongest.map_or(0, |(at, _)| at)]
    };
    let bonds: Vec<(usize, usize, BondOrder)> = graph
        .edges
        .iter()
        .map(|edge| (edge.from, edge.to, order(&edge.values)))
        .collect();
    let rings = super::rings::smallest(atoms.len(), &graph.pairs());
    drawing_of(
        &format!("a molecule of {} atoms", atoms.len()),
        &atoms,
        &bonds,
        &rings,
    )
}

fn drawing_of(
    title: &str,
    atoms: &[Drawn],
    bonds: &[(usize, usize, BondOrder)],
    rings: &[Vec<usize>],
) -> Drawing {
    let pairs: Vec<(usize, usize)> = bonds.iter().map(|(from, to, _)| (*from, *to)).collect();
    let mut drawing = Drawing::new(title, super::layout::molecule(atoms.len(), &pairs, rings));
    for (at, atom) in atoms.iter().enumerate() {
        let symbol = atom.element.map_or("?", Element::symbol);
        let joined = pairs.iter().any(|(from, to)| *from == at || *to == at);
        // Carbon with neighbours is a corner of the drawing, as chemists have it.
        let bare = symbol == "C" && atom.charge == 0 && atom.isotope.is_none() && joined;
        let hydrogens = match atom.hydrogens {
            ..=0 => String::new(),
            1 => "H".into(),
            count => format!("H{}", lowered(count)),
        };
        let charge = match atom.charge {
            0 => String::new(),
            1 => "⁺".into(),
            -1 => "⁻".into(),
            charge => format!("({charge:+})"),
        };
        let isotope = atom
            .isotope
            .map_or(String::new(), |mass| format!("{mass}-"));
        let label = if bare {
            String::new()
        } else {
            format!("{isotope}{symbol}{hydrogens}{charge}")
        };
        let colour = atom.element.map_or([120; 3], Element::colour);
        drawing.node(format!("{symbol}{at}"), label, colour);
    }
    for (from, to, order) in bonds {
        drawing.edge(
            *from,
            *to,
            match order {
                BondOrder::Single => EdgeLines::One,
                BondOrder::Double => EdgeLines::Two,
                BondOrder::Triple => EdgeLines::Three,
                BondOrder::Aromatic => EdgeLines::OneAndDashed,
            },
        );
    }
    drawing
}

/// A count in small figures.
fn lowered(count: i32) -> String {
    let figure =
        |digit: char| char::from_u32(0x2080 + digit.to_digit(10).unwrap_or(0)).unwrap_or(digit);
    count.to_string().chars().map(figure).collect()
}

impl Render for Molecule {
    fn render(&self) -> MimeBundle {
        match self.remarks() {
            remarks if remarks.is_empty() => self.drawing().render(),
            remarks => self.drawing().remark(remarks.join("; ")).render(),
        }
    }
}

impl std::fmt::Debug for Molecule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Molecule {} ({}, {} atoms, {} bonds)",
            self.name,
            self.formula(),
            self.atoms.len(),
            self.bonds.len()
        )
    }
}

impl VlmInput for Molecule {
    /// As the model's graph encoder reads it.
    fn prepare(&self, vlm: &Vlm) -> Result<Tensor> {
        let encoder = &vlm.image_encoder;
        if let Some(minimol) = encoder.get::<super::Minimol>() {
            return minimol.input_of(self);
        }
        match encoder.get::<super::GraphEncoder>().map(|encoder| encoder.reads) {
            Some(super::GraphKind::Molecules) => self.tensor(vlm.device()),
            _ => Err(Error::Unsupported {
                encoder: encoder.kind(),
                what: "place for molecules".into(),
                hint: "give the model a GraphEncoder of GraphKind::Molecules or a Minimol, or show it the tensor that its encoder reads".into(),
            }),
        }
    }
}

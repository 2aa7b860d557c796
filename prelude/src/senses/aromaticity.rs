//! Which rings are aromatic: atoms and alternating bonds → flags of atoms and bonds, by one rule for every way of writing a molecule.
//!
//! ```text
//! each ring atom ─► electrons that it can give to a ring (0, 1, 2, or it can't be in one)
//! rings, then two fused rings, three, ... up to six ─► 4n + 2 electrons around? ─► its atoms and outer bonds are aromatic
//! ```
//! It is the model that the RDKit Book describes under "Aromaticity" (<https://www.rdkit.org/docs/RDKit_Book.html>), since networks trained on
//! RDKit's features read its flags. A double bond out of the ring to a more electronegative atom (C=O) takes the electron away; one to any
//! other atom leaves it.

use std::collections::HashSet;

use super::elements::Element;
use super::molecule::{Atom, Bond, neighbours};

/// Rings with more atoms count only for themselves, not fused to others.
const LARGEST_FUSED: usize = 24;
/// So many fused rings are looked at as one.
const MOST_FUSED: usize = 6;
/// So many combinations of fused rings are tried in a molecule; the largest drugs have some hundreds.
const MOST_COMBINATIONS: usize = 50_000;

/// What is aromatic.
pub(super) struct Aromatic {
    pub atoms: Vec<bool>,
    pub bonds: Vec<bool>,
    /// Whether there were more combinations of rings than are tried.
    pub cut: bool,
}

/// Looks at the alternating form: no bond of `bonds` is aromatic.
pub(super) fn perceive(
    atoms: &[Atom],
    bonds: &[Bond],
    rings: &[Vec<usize>],
    ring_bonds: &[bool],
) -> Aromatic {
    let neighbours = neighbours(atoms.len(), bonds);
    let gives: Vec<Option<usize>> = (0..atoms.len())
        .map(|at| electrons(at, atoms, bonds, &neighbours[at], ring_bonds))
        .collect();
    let mut found = Aromatic {
        atoms: vec![false; atoms.len()],
        bonds: vec![false; bonds.len()],
        cut: false,
    };
    let rings: Vec<Ring> = rings
        .iter()
        .filter(|ring| ring.iter().all(|atom| gives[*atom].is_some()))
        .filter_map(|ring| Ring::new(ring, &neighbours))
        .collect();
    let beside = beside(&rings, bonds.len());
    let mut done = vec![false; rings.len()];
    let mut left = MOST_COMBINATIONS;
    for first in 0..rings.len() {
        if !done[first] {
            let system = system(first, &beside, &mut done);
            found.cut |= !look_at(&system, &rings, &beside, &gives, &mut left, &mut found);
        }
    }
    found
}

/// A ring by its atoms and its bonds.
struct Ring {
    atoms: Vec<usize>,
    bonds: Vec<usize>,
}

impl Ring {
    fn new(atoms: &[usize], neighbours: &[Vec<(usize, usize)>]) -> Option<Self> {
        let next = atoms.iter().cycle().skip(1);
        let bonds = atoms.iter().zip(next).map(|(atom, next)| {
            let bond = neighbours[*atom].iter().find(|(other, _)| other == next);
            bond.map(|(_, bond)| *bond)
        });
        Some(Self {
            atoms: atoms.to_vec(),
            bonds: bonds.collect::<Option<_>>()?,
        })
    }
}

/// For each ring those that share one bond with it.
fn beside(rings: &[Ring], bonds: usize) -> Vec<Vec<usize>> {
    let mut of_bond: Vec<Vec<usize>> = vec![Vec::new(); bonds];
    for (number, ring) in rings.iter().enumerate() {
        if ring.atoms.len() <= LARGEST_FUSED {
            ring.bonds
                .iter()
                .for_each(|bond| of_bond[*bond].push(number));
        }
    }
    let mut all = vec![Vec::new(); rings.len()];
    for (number, ring) in rings.iter().enumerate() {
        let mut shared: Vec<usize> = ring
            .bonds
            .iter()
            .flat_map(|bond| of_bond[*bond].iter().copied())
            .filter(|other| *other != number)
            .collect();
        if ring.atoms.len() > LARGEST_FUSED {
            continue;
        }
        shared.sort_unstable();
        let once = |other: &usize| shared.iter().filter(|one| *one == other).count() == 1;
        all[number] = shared.iter().copied().filter(once).collect();
    }
    all
}

/// The rings that hang together with one.
fn system(first: usize, beside: &[Vec<usize>], done: &mut [bool]) -> Vec<usize> {
    let (mut system, mut at) = (vec![first], 0);
    done[first] = true;
    while let Some(ring) = system.get(at).copied() {
        for other in &beside[ring] {
            if !std::mem::replace(&mut done[*other], true) {
                system.push(*other);
            }
        }
        at += 1;
    }
    system
}

/// Single rings of a system, then pairs, triples, ... until all of its bonds are aromatic; `false` if there were too many.
fn look_at(
    system: &[usize],
    rings: &[Ring],
    beside: &[Vec<usize>],
    gives: &[Option<usize>],
    left: &mut usize,
    found: &mut Aromatic,
) -> bool {
    let bonds: HashSet<usize> = system
        .iter()
        .flat_map(|ring| rings[*ring].bonds.iter().copied())
        .collect();
    let mut fused: Vec<Vec<usize>> = system.iter().map(|ring| vec![*ring]).collect();
    for size in 1..=MOST_FUSED.min(system.len()) {
        for some in &fused {
            if *left == 0 {
                return false;
            }
            *left -= 1;
            mark(some, rings, gives, found);
        }
        if size == MOST_FUSED || bonds.iter().all(|bond| found.bonds[*bond]) {
            break;
        }
        let mut larger: HashSet<Vec<usize>> = HashSet::new();
        let mut order = Vec::new();
        for some in &fused {
            for other in some.iter().flat_map(|ring| &beside[*ring]) {
                if some.contains(other) {
                    continue;
                }
                let mut more = some.clone();
                more.push(*other);
                more.sort_unstable();
                if order.len() <= *left && larger.insert(more.clone()) {
                    order.push(more);
                }
            }
        }
        fused = order;
    }
    true
}

/// Marks some fused rings if the electrons around them are 4n + 2.
fn mark(some: &[usize], rings: &[Ring], gives: &[Option<usize>], found: &mut Aromatic) {
    let counted = |of: fn(&Ring) -> &Vec<usize>| {
        let mut all: Vec<usize> = some
            .iter()
            .flat_map(|ring| of(&rings[*ring]).clone())
            .collect();
        all.sort_unstable();
        all.chunk_by(|a, b| a == b)
            .map(|same| (same[0], same.len()))
            .collect::<Vec<_>>()
    };
    let atoms = counted(|ring| &ring.atoms);
    // An atom in the middle of three rings is not around them.
    let around = atoms.iter().filter(|(_, times)| *times < 3);
    let electrons: usize = around.filter_map(|(atom, _)| gives[*atom]).sum();
    if electrons % 4 != 2 {
        return;
    }
    for (atom, _) in atoms {
        found.atoms[atom] = true;
    }
    // A bond between two of the rings lies inside.
    for (bond, _) in counted(|ring| &ring.bonds)
        .iter()
        .filter(|(_, times)| *times == 1)
    {
        found.bonds[*bond] = true;
    }
}

/// Electrons that an atom gives to a ring; `None` where it can't be part of an aromatic one.
fn electrons(
    at: usize,
    atoms: &[Atom],
    bonds: &[Bond],
    own: &[(usize, usize)],
    ring_bonds: &[bool],
) -> Option<usize> {
    let atom = &atoms[at];
    let usual = usual_bonds(atom.element.number());
    let known = atom.element.number() <= 18 || [Element::SE, Element::TE].contains(&atom.element);
    let neighbours = (own.len() + atom.hydrogens as usize) as i32;
    let multiple: Vec<(usize, usize)> = own
        .iter()
        .copied()
        .filter(|(_, bond)| bonds[*bond].order.pairs() > 1)
        .collect();
    if !known || usual < 2 || neighbours > 3 || multiple.len() > 1 {
        return None;
    }
    let pairs: i32 = own.iter().map(|(_, bond)| bonds[*bond].order.pairs()).sum();
    let isoelectronic = atom.element.number() as i32 - atom.charge;
    if pairs + atom.hydrogens as i32 > usual_bonds(isoelectronic.max(1) as usize) {
        return None;
    }
    if atom.radicals > 0 && (atom.element != Element::C || atom.charge != 0) {
        return None;
    }
    let lone = (atom.element.outer_electrons() - usual - atom.charge).max(0);
    let mut free = usual - neighbours + lone - atom.radicals as i32;
    if free > 1 && pairs - own.len() as i32 > 1 {
        // One of the two of a triple bond stands across the ring's plane.
        free = 1;
    }
    let outside = multiple.iter().find(|(_, bond)| !ring_bonds[*bond]);
    let stolen =
        outside.is_some_and(|(other, _)| more_electronegative(atoms[*other].element, atom.element));
    match (free, outside, multiple.first()) {
        (..0, _, _) => None,
        (0, Some(_), _) => Some(0),
        (0, None, Some(_)) => Some(1),
        (0, None, None) => None,
        (1, Some(_), _) => Some(usize::from(!stolen)),
        (1, None, Some(_)) => Some(1),
        // A cation such as tropylium's has an empty place for the others' electrons.
        (1, None, None) => (atom.charge == 1).then_some(0),
        (free, _, _) => match (free - i32::from(stolen)) % 2 {
            1 => Some(1),
            _ => Some(2),
        },
    }
}

/// How many bonds an element without a charge usually makes, by its column of the periodic table; 0 for metals.
fn usual_bonds(number: usize) -> i32 {
    match Element::of_number(number).map(|element| element.table_place().1) {
        Some(column @ (1 | 2)) => column as i32,
        Some(column @ 13..=14) => column as i32 - 10,
        Some(column @ 15..=18) => 18 - column as i32,
        _ => 0,
    }
}

/// As the number of outer electrons has it, and among equals the lighter one.
fn more_electronegative(one: Element, other: Element) -> bool {
    let rank = |element: Element| (element.outer_electrons(), -(element.number() as i32));
    rank(one) > rank(other)
}

#[cfg(test)]
mod tests {
    use crate::Result;
    use crate::senses::Molecule;

    /// Aromatic atoms and bonds of molecules in their alternating form, as the RDKit Book and chemistry's books have them.
    #[test]
    fn rings_of_six_ten_and_two_electrons_are_aromatic_and_others_are_not() -> Result<()> {
        let known = [
            ("C1=CC=CC=C1", 6, 6),
            ("C1=CC=CC=CC=C1", 0, 0),
            ("C1=CC=C2C=CC=CC2=C1", 10, 11),
            // Azulene: ten electrons around, the bond between its rings is a single one.
            ("C1=CC2=CC=CC2=CC=C1", 10, 10),
            ("N1C=CC=C1", 5, 5),
            ("O1C=CC=C1", 5, 5),
            ("O=C1C=CC(=O)C=C1", 0, 0),
            ("O=C1C=CC=CN1", 6, 6),
            ("O=C1C=CC=CC=C1", 7, 7),
            ("[CH+]1C=CC=CC=C1", 7, 7),
            ("[CH-]1C=CC=C1", 5, 5),
            ("C1C=CC=C1", 0, 0),
            ("C=C1C=CC=C1", 0, 0),
            ("[CH+]1C=C1", 3, 3),
            // Boron has no electron left for a ring; RDKit, too, takes borepine for none that is aromatic.
            ("B1C=CC=CC=C1", 0, 0),
            ("C1=CCC=CC1", 0, 0),
        ];
        for (smiles, atoms, bonds) in known {
            let molecule = Molecule::from_smiles(smiles)?;
            let aromatic = molecule.atoms().iter().filter(|atom| atom.aromatic).count();
            let around = molecule
                .bonds()
                .iter()
                .filter(|bond| bond.order.symbol() == ":")
                .count();
            assert_eq!((aromatic, around), (atoms, bonds), "{smiles}");
        }
        Ok(())
    }

    #[test]
    fn a_sheet_of_rings_ends() -> Result<()> {
        // Rings without any electron to give, fused in a row: no combination of them is aromatic.
        let row = |rings: usize| {
            let numbers: Vec<String> = (10..10 + rings).map(|n| format!("%{n}")).collect();
            let open = numbers
                .iter()
                .map(|n| format!("C{n}=C"))
                .collect::<String>();
            let close = numbers
                .iter()
                .rev()
                .map(|n| format!("C{n}=C"))
                .collect::<String>();
            format!("{open}{close}")
        };
        let molecule = Molecule::from_smiles(&row(60))?;
        assert_eq!(molecule.rings().len(), 60);
        Ok(())
    }
}

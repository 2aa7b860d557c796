//! A molecule as a graph: atoms with charge and hydrogens, bonds with their order, rings.
//!
//! ```text
//! SMILES, SDF ─ reader ─► MoleculeBuilder ─ hydrogens, valences, alternating double bonds ─► Molecule ─► graph, drawing, formula
//! ```
//! Hydrogens that no reader names as atoms are counted at the atom that carries them. Which atoms and bonds are aromatic is found from the
//! alternating double bonds (`aromaticity`), so that a molecule is the same however it was written. Of stereochemistry the sides of double
//! bonds are kept (`stereo`). Where atoms stand in space and which way their neighbours turn is not: readers count what they read of it.

use std::collections::BTreeMap;

use super::aromaticity;
use super::elements::Element;
use super::matching::matched;
use super::rings;
use crate::{Error, Result};

/// A molecule with more atoms is refused by the readers: it is no ordinary organic molecule.
pub(super) const MOST_ATOMS: usize = 4_000;

/// How [`Molecule::not_used`] calls places of atoms. Every file has them, and a drawing needs none.
pub(super) const COORDINATES: &str = "coordinates of atoms";

/// An atom of a [`Molecule`].
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let ammonium = Molecule::from_smiles("[NH4+]")?;
/// let nitrogen = &ammonium.atoms()[0];
/// assert_eq!((nitrogen.element.symbol(), nitrogen.hydrogens, nitrogen.charge), ("N", 4, 1));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Atom {
    /// Which element it is.
    pub element: Element,
    /// In units of the elementary charge.
    pub charge: i32,
    /// Hydrogens that are no atoms of the molecule's own.
    pub hydrogens: u32,
    /// The mass number, where one is given.
    pub isotope: Option<u32>,
    /// Electrons without a partner, as radicals have them.
    pub radicals: u32,
    /// Whether it is part of an aromatic system, however its source writes it: see [`Molecule::from_smiles`].
    pub aromatic: bool,
}

/// How many electron pairs a bond has.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let benzonitrile = Molecule::from_smiles("N#Cc1ccccc1")?;
/// let orders: Vec<&str> = benzonitrile.bonds().iter().map(|bond| bond.order.symbol()).collect();
/// assert_eq!(orders[..3], ["#", "-", ":"]);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BondOrder {
    /// One.
    Single,
    /// Two.
    Double,
    /// Three.
    Triple,
    /// One and a share in a ring's.
    Aromatic,
}

impl BondOrder {
    /// All, in the order of the encoder's relations.
    pub const ALL: [Self; 4] = [Self::Single, Self::Double, Self::Triple, Self::Aromatic];

    /// Electron pairs beside those that aromatic atoms share.
    pub(super) fn pairs(self) -> i32 {
        match self {
            Self::Single | Self::Aromatic => 1,
            Self::Double => 2,
            Self::Triple => 3,
        }
    }

    /// As SMILES writes it.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Single => "-",
            Self::Double => "=",
            Self::Triple => "#",
            Self::Aromatic => ":",
        }
    }
}

/// A bond between two atoms of a [`Molecule`], by their numbers from 0.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let acetone = Molecule::from_smiles("CC(=O)C")?;
/// let bond = acetone.bonds()[1];
/// assert_eq!((bond.from, bond.to, bond.order), (1, 2, BondOrder::Double));
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bond {
    /// One of the atoms.
    pub from: usize,
    /// The other.
    pub to: usize,
    /// How many electron pairs it has.
    pub order: BondOrder,
    /// On which sides of a double bond its neighbours lie, where that is said.
    pub stereo: Option<BondStereo>,
}

/// Where the neighbours of a double bond that come first in the order of Cahn, Ingold and Prelog lie.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let trans = Molecule::from_smiles("C/C=C/C")?;
/// assert_eq!(trans.bonds()[1].stereo, Some(BondStereo::E));
/// let cis = Molecule::from_smiles(r"C/C=C\C")?;
/// assert_eq!(cis.bonds()[1].stereo, Some(BondStereo::Z));
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BondStereo {
    /// On opposite sides ("entgegen").
    E,
    /// On the same side ("zusammen").
    Z,
}

/// A molecule, or several that lie beside each other, as the parts of a salt do.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let aspirin = Molecule::from_smiles("CC(=O)Oc1ccccc1C(=O)O")?;
/// assert_eq!(aspirin.formula(), "C9H8O4");
/// assert_eq!(aspirin.rings().len(), 1);
/// let error = Molecule::from_smiles("CC(=O").unwrap_err();
/// assert!(error.to_string().contains("character 3"));
/// # Ok(()) }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Molecule {
    /// What it is called; the SMILES where it has no name.
    pub name: String,
    pub(super) atoms: Vec<Atom>,
    pub(super) bonds: Vec<Bond>,
    pub(super) rings: Vec<Vec<usize>>,
    /// In whichever of the alternating forms: the bonds with every aromatic one as single or double.
    pub(super) kekule: Vec<BondOrder>,
    pub(super) not_used: BTreeMap<String, usize>,
}

impl Molecule {
    /// The atoms, by number.
    pub fn atoms(&self) -> &[Atom] {
        &self.atoms
    }

    /// The bonds.
    pub fn bonds(&self) -> &[Bond] {
        &self.bonds
    }

    /// A smallest set of rings that makes all others, each as the numbers of its atoms in order.
    pub fn rings(&self) -> &[Vec<usize>] {
        &self.rings
    }

    /// Marks that were read and are not kept, with how many of each: which way atoms turn, coordinates and the like.
    pub fn not_used(&self) -> &BTreeMap<String, usize> {
        &self.not_used
    }

    /// The bonds' orders with aromatic rings as alternating single and double bonds, in the order of [`Molecule::bonds`].
    pub fn kekule(&self) -> &[BondOrder] {
        &self.kekule
    }

    /// The same molecule with alternating double bonds in place of aromatic ones, as SDF files usually write it. What is read from such a
    /// text has its aromatic rings again.
    pub fn kekulized(&self) -> Self {
        let mut other = self.clone();
        for (bond, order) in other.bonds.iter_mut().zip(&self.kekule) {
            bond.order = *order;
        }
        other
            .atoms
            .iter_mut()
            .for_each(|atom| atom.aromatic = false);
        other
    }

    /// For each atom its neighbours, as (atom, bond) numbers.
    pub fn neighbours(&self) -> Vec<Vec<(usize, usize)>> {
        neighbours(self.atoms.len(), &self.bonds)
    }

    /// Charge of the whole.
    pub fn charge(&self) -> i32 {
        self.atoms.iter().map(|atom| atom.charge).sum()
    }

    /// How many separate parts it has.
    pub fn parts(&self) -> usize {
        let groups = rings::components(self.atoms.len(), &self.pairs());
        groups.iter().max().map_or(0, |last| last + 1)
    }

    /// Its atoms counted, carbon and hydrogen first (Hill's order), with the charge behind: `C2H3O2-`.
    pub fn formula(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for atom in &self.atoms {
            *counts.entry(atom.element.symbol()).or_default() += 1;
            if atom.hydrogens > 0 {
                *counts.entry("H").or_default() += atom.hydrogens as usize;
            }
        }
        let mut order: Vec<&str> = Vec::new();
        if counts.contains_key("C") {
            order.extend(["C", "H"]);
        }
        let others = counts.keys().filter(|symbol| !order.contains(symbol));
        let others: Vec<&str> = others.copied().collect();
        order.extend(others);
        let mut formula = String::new();
        for symbol in order {
            match counts.get(symbol) {
                None => {}
                Some(1) => formula.push_str(symbol),
                Some(count) => formula.push_str(&format!("{symbol}{count}")),
            }
        }
        match self.charge() {
            0 => {}
            1 => formula.push('+'),
            -1 => formula.push('-'),
            charge => formula.push_str(&format!("{charge:+}")),
        }
        formula
    }

    /// The molecule with its atoms in another order: atom `order[i]` becomes number `i`.
    ///
    /// # Errors
    /// When `order` does not hold every atom's number once.
    pub fn reordered(&self, order: &[usize]) -> Result<Self> {
        let mut place = vec![usize::MAX; self.atoms.len()];
        for (new, old) in order.iter().enumerate() {
            match place.get_mut(*old) {
                Some(free) if *free == usize::MAX => *free = new,
                _ => {
                    return Err(Error::Input(format!(
                        "an order of {} atoms holds each number from 0 once, {old} at place {new} is too many",
                        self.atoms.len()
                    )));
                }
            }
        }
        if order.len() != self.atoms.len() {
            return Err(Error::Input(format!(
                "an order of {} numbers is given for {} atoms",
                order.len(),
                self.atoms.len()
            )));
        }
        let mut other = self.clone();
        other.atoms = order.iter().map(|old| self.atoms[*old].clone()).collect();
        for bond in &mut other.bonds {
            (bond.from, bond.to) = (place[bond.from], place[bond.to]);
        }
        other.rings = self.rings.clone();
        other
            .rings
            .iter_mut()
            .flatten()
            .for_each(|atom| *atom = place[*atom]);
        Ok(other)
    }

    /// The same molecule with hydrogens that are atoms counted at their neighbour instead. Those with a charge, a mass number or
    /// another hydrogen beside them stay.
    ///
    /// # Errors
    /// When what is left is no molecule.
    pub fn without_hydrogens(&self) -> Result<Self> {
        let neighbours = self.neighbours();
        let goes = |at: usize| -> Option<usize> {
            let atom = &self.atoms[at];
            let plain = atom.element == Element::H
                && atom.charge == 0
                && atom.isotope.is_none()
                && atom.hydrogens == 0;
            match neighbours[at][..] {
                [(carrier, _)] if plain && self.atoms[carrier].element != Element::H => {
                    Some(carrier)
                }
                _ => None,
            }
        };
        let mut builder = MoleculeBuilder::default();
        let mut place = vec![None; self.atoms.len()];
        for (at, atom) in self.atoms.iter().enumerate() {
            if goes(at).is_none() {
                place[at] = Some(builder.atoms.len());
                builder.atom(atom.clone(), Some(atom.hydrogens));
            }
        }
        for at in 0..self.atoms.len() {
            if let Some(carrier) = goes(at).and_then(|carrier| place[carrier])
                && let Some(Some(count)) = builder.given.get_mut(carrier)
            {
                *count += 1;
            }
        }
        for bond in &self.bonds {
            if let (Some(from), Some(to)) = (place[bond.from], place[bond.to]) {
                builder.bonds.push(Bond { from, to, ..*bond });
            }
        }
        let mut other = builder.finish(self.name.clone()).map_err(|fault| {
            Error::Input(format!(
                "without its hydrogens {}: {}",
                self.name, fault.message
            ))
        })?;
        other.not_used = self.not_used.clone();
        Ok(other)
    }

    pub(super) fn pairs(&self) -> Vec<(usize, usize)> {
        self.bonds.iter().map(|bond| (bond.from, bond.to)).collect()
    }

    /// Which bonds lie in a ring.
    pub(super) fn ring_bonds(&self) -> Vec<bool> {
        rings::in_ring(self.atoms.len(), &self.pairs())
    }

    /// The number of bonds of an atom that count as its valence, hydrogens with them, in the alternating form.
    pub(super) fn total_valence(&self, at: usize) -> i32 {
        let bonds = self.bonds.iter().zip(&self.kekule);
        let own = bonds.filter(|(bond, _)| bond.from == at || bond.to == at);
        own.map(|(_, order)| order.pairs()).sum::<i32>() + self.atoms[at].hydrogens as i32
    }
}

pub(super) fn neighbours(atoms: usize, bonds: &[Bond]) -> Vec<Vec<(usize, usize)>> {
    let mut all = vec![Vec::new(); atoms];
    for (number, bond) in bonds.iter().enumerate() {
        all[bond.from].push((bond.to, number));
        all[bond.to].push((bond.from, number));
    }
    all
}

/// Hydrogens that an atom with bonds of so many pairs carries where nobody says how many; `None` for more bonds than it makes.
pub(super) fn implied(atom: &Atom, pairs: i32) -> Option<u32> {
    let allowed = atom.element.valences(atom.charge);
    // Nitrogen with five, or four and its share in a ring: an older way to write nitro groups and oxides.
    let old_nitrogen = atom.element == Element::N && atom.charge == 0;
    if atom.aromatic {
        // One electron goes into the ring. More than that is an exocyclic double bond's business.
        return match allowed.last() {
            Some(most) if pairs > *most && !(old_nitrogen && pairs == 4) => None,
            _ => Some((allowed.first().copied().unwrap_or(0) - pairs - 1).max(0) as u32),
        };
    }
    // Acids of chlorine, bromine and iodine, without hydrogens at the halogen.
    let halogen =
        [Element::CL, Element::BR, Element::I].contains(&atom.element) && atom.charge == 0;
    match allowed.iter().find(|bonds| **bonds >= pairs) {
        Some(bonds) => Some((bonds - pairs) as u32),
        None if halogen && [3, 5, 7].contains(&pairs) => Some(0),
        None if allowed.is_empty() => Some(0),
        None => (old_nitrogen && pairs == 5).then_some(0),
    }
}

/// What is wrong with a molecule, and at which atom.
pub(super) struct Fault {
    pub atom: usize,
    pub message: String,
}

/// Atoms and bonds as a reader finds them.
#[derive(Default)]
pub(super) struct MoleculeBuilder {
    pub atoms: Vec<Atom>,
    pub bonds: Vec<Bond>,
    /// Hydrogens of each atom where the source says how many; elsewhere its valence tells.
    pub given: Vec<Option<u32>>,
    pub not_used: BTreeMap<String, usize>,
}

impl MoleculeBuilder {
    pub fn atom(&mut self, atom: Atom, hydrogens: Option<u32>) -> usize {
        self.atoms.push(atom);
        self.given.push(hydrogens);
        self.atoms.len() - 1
    }

    /// Counts a mark that is read and not kept.
    pub fn note(&mut self, mark: &str) {
        *self.not_used.entry(mark.to_owned()).or_default() += 1;
    }

    /// Hydrogens are counted, valences checked, aromatic systems given alternating double bonds, rings found, and which of them are
    /// aromatic.
    ///
    /// # Errors
    /// For an atom with more bonds than it can have, and an aromatic system without alternating double bonds.
    pub fn finish(mut self, name: String) -> std::result::Result<Molecule, Fault> {
        let neighbours = neighbours(self.atoms.len(), &self.bonds);
        self.charges_of_nitrogen(&neighbours);
        let in_ring = rings::in_ring(
            self.atoms.len(),
            &self
                .bonds
                .iter()
                .map(|bond| (bond.from, bond.to))
                .collect::<Vec<_>>(),
        );
        for (at, own) in neighbours.iter().enumerate() {
            let aromatic = self.atoms[at].aromatic;
            if aromatic && !own.iter().any(|(_, bond)| in_ring[*bond]) {
                return Err(Fault {
                    atom: at,
                    message: format!(
                        "an aromatic {} lies in a ring, this one in none",
                        self.atoms[at].element
                    ),
                });
            }
            let pairs: i32 = own
                .iter()
                .map(|(_, bond)| self.bonds[*bond].order.pairs())
                .sum();
            let hydrogens = self.hydrogens(at, pairs)?;
            self.atoms[at].hydrogens = hydrogens;
        }
        let kekule = self.alternating(&neighbours)?;
        for (at, own) in neighbours.iter().enumerate() {
            let pairs: i32 = own.iter().map(|(_, bond)| kekule[*bond].pairs()).sum();
            let atom = &mut self.atoms[at];
            // Where nobody says how many hydrogens there are, only metals lack any.
            if atom.radicals == 0 && (self.given[at].is_some() || own.is_empty()) {
                let pairs = pairs + atom.hydrogens as i32;
                atom.radicals = atom.element.unpaired(atom.charge, pairs);
            }
        }
        let pairs: Vec<(usize, usize)> =
            self.bonds.iter().map(|bond| (bond.from, bond.to)).collect();
        let rings = rings::smallest(self.atoms.len(), &pairs);
        for (bond, order) in self.bonds.iter_mut().zip(&kekule) {
            bond.order = *order;
        }
        let aromatic = aromaticity::perceive(&self.atoms, &self.bonds, &rings, &in_ring);
        if aromatic.cut {
            self.note("combinations of fused rings beyond those tried for aromaticity");
        }
        for (atom, is) in self.atoms.iter_mut().zip(&aromatic.atoms) {
            atom.aromatic = *is;
        }
        for (bond, _) in self
            .bonds
            .iter_mut()
            .zip(&aromatic.bonds)
            .filter(|(_, is)| **is)
        {
            bond.order = BondOrder::Aromatic;
        }
        Ok(Molecule {
            name,
            rings,
            atoms: self.atoms,
            bonds: self.bonds,
            kekule,
            not_used: self.not_used,
        })
    }

    /// Nitrogen without a charge and five electron pairs, as in N(=O)=O and N=N#N, has four and a charge: so has the molecule one form.
    fn charges_of_nitrogen(&mut self, neighbours: &[Vec<(usize, usize)>]) {
        for (at, own) in neighbours.iter().enumerate() {
            let atom = &self.atoms[at];
            let bonds = own.iter().map(|(_, bond)| self.bonds[*bond].order);
            let pairs = bonds.map(BondOrder::pairs).sum::<i32>() + i32::from(atom.aromatic);
            if atom.element != Element::N || atom.charge != 0 || pairs != 5 {
                continue;
            }
            // A neighbour that has no other takes the electrons of a bond.
            let taker = own.iter().find(|(other, bond)| {
                let end = &self.atoms[*other];
                let alone = neighbours[*other].len() == 1 && end.charge == 0;
                match self.bonds[*bond].order {
                    BondOrder::Double => alone && end.element == Element::O,
                    BondOrder::Triple => alone && end.element == Element::N,
                    _ => false,
                }
            });
            if let Some((other, bond)) = taker.copied() {
                self.bonds[bond].order = match self.bonds[bond].order {
                    BondOrder::Triple => BondOrder::Double,
                    _ => BondOrder::Single,
                };
                (self.atoms[at].charge, self.atoms[other].charge) = (1, -1);
                self.note("nitrogen with five bonds, read as N⁺ with a negative neighbour");
            }
        }
    }

    /// How many hydrogens an atom with bonds of so many pairs carries.
    fn hydrogens(&self, at: usize, pairs: i32) -> std::result::Result<u32, Fault> {
        let atom = &self.atoms[at];
        let allowed = atom.element.valences(atom.charge);
        let too_many = |count: i32, most: i32| Fault {
            atom: at,
            message: format!(
                "{}{} has bonds of {count} electron pairs, it makes {most} at most",
                atom.element,
                match atom.charge {
                    0 => String::new(),
                    charge => format!(" of charge {charge:+}"),
                }
            ),
        };
        match self.given[at] {
            Some(hydrogens) => {
                // Elements of the first rows keep their octet; the others may be anything.
                let strict = [
                    Element::H,
                    Element::B,
                    Element::C,
                    Element::N,
                    Element::O,
                    Element::F,
                ]
                .contains(&atom.element);
                let count = pairs + hydrogens as i32;
                match allowed.last() {
                    Some(most)
                        if strict
                            && count > *most
                            && !(atom.element == Element::N
                                && (atom.charge, hydrogens, count) == (0, 0, 5)) =>
                    {
                        Err(too_many(count, *most))
                    }
                    None if strict && count > 4 => Err(too_many(count, 4)),
                    _ => Ok(hydrogens),
                }
            }
            None => implied(atom, pairs + atom.radicals as i32)
                .ok_or_else(|| too_many(pairs, allowed.last().copied().unwrap_or(0))),
        }
    }

    /// Orders of all bonds with the aromatic ones as single or double.
    fn alternating(
        &self,
        neighbours: &[Vec<(usize, usize)>],
    ) -> std::result::Result<Vec<BondOrder>, Fault> {
        let mut orders: Vec<BondOrder> = self.bonds.iter().map(|bond| bond.order).collect();
        let aromatic: Vec<usize> = (0..self.bonds.len())
            .filter(|bond| orders[*bond] == BondOrder::Aromatic)
            .collect();
        let needs = |at: usize| {
            let atom = &self.atoms[at];
            let own = neighbours[at].iter();
            let pairs: i32 = own.map(|(_, bond)| self.bonds[*bond].order.pairs()).sum();
            let used = pairs + atom.hydrogens as i32;
            let allowed = atom.element.valences(atom.charge);
            let neutral = atom.aromatic && atom.charge == 0;
            if neutral && atom.element == Element::N && used == 4 {
                return true;
            }
            // Without a hydrogen, as in the radical [c]1ccccc1.
            if neutral && atom.element == Element::C && used == 2 {
                return true;
            }
            // Sulfur and its kin have a pair for the ring as they are; of what they may hold more of, only an odd rest needs one.
            atom.aromatic
                && allowed
                    .iter()
                    .find(|bonds| **bonds >= used)
                    .is_some_and(|bonds| (bonds - used) % 2 == 1)
        };
        let wanting: Vec<bool> = (0..self.atoms.len()).map(needs).collect();
        let mut edges = vec![Vec::new(); self.atoms.len()];
        for bond in &aromatic {
            let Bond { from, to, .. } = self.bonds[*bond];
            if wanting[from] && wanting[to] {
                edges[from].push(to);
                edges[to].push(from);
            }
        }
        let partner = matched(&edges);
        if let Some(alone) = (0..self.atoms.len()).find(|at| wanting[*at] && partner[*at].is_none())
        {
            return Err(Fault {
                atom: alone,
                message: "the aromatic ring has no alternating double bonds: perhaps a hydrogen is missing, as in [nH], or a \
                          charge"
                    .into(),
            });
        }
        for bond in aromatic {
            let Bond { from, to, .. } = self.bonds[bond];
            orders[bond] = match partner[from] == Some(to) {
                true => BondOrder::Double,
                false => BondOrder::Single,
            };
        }
        Ok(orders)
    }
}

//! SMILES, a molecule in one line of text: read with the place of every fault, and written.
//!
//! ```text
//! CC(=O)Oc1ccccc1C(=O)O     atoms one after the other, ( ) branches, = # bonds, lower case aromatic, a number twice closes a ring
//! ```
//! Read is what <http://opensmiles.org/opensmiles.html> calls a molecule: branches, ring numbers (`1`, `%12`, `%(123)`), brackets with
//! mass number, hydrogens, charge and class, parts apart by a dot, and a name behind a space. `/` and `\` become the side of a double bond
//! ([`Bond::stereo`]). Marks of how atoms turn (`@`) and classes are read and counted in [`Molecule::not_used`]. Refused by name: wildcards,
//! bonds of four pairs, bonds of any order.

use std::collections::{BTreeMap, HashMap};

use super::elements::Element;
use super::molecule::{Atom, Bond, BondOrder, MOST_ATOMS, Molecule, MoleculeBuilder, implied};
use super::rings;
use super::stereo::Sides;
use crate::{Error, Result};

impl Molecule {
    /// Reads a molecule from its SMILES; what stands behind a space is its name. Which rings are aromatic is found anew, so `C1=CC=CC=C1` is
    /// the same molecule as `c1ccccc1`.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let (one, other) = (Molecule::from_smiles("C1=CC=CC=C1")?, Molecule::from_smiles("c1ccccc1")?);
    /// assert_eq!(one.atoms(), other.atoms());
    /// let fumaric = Molecule::from_smiles("OC(=O)/C=C/C(=O)O")?;
    /// assert!(fumaric.bonds().iter().any(|bond| bond.stereo == Some(BondStereo::E)));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Smiles`] with the place of what is wrong, [`Error::UnknownElement`], [`Error::NoNodes`] for an empty text.
    pub fn from_smiles(text: &str) -> Result<Self> {
        Reader::new(text)?.read()
    }

    /// The molecule as SMILES, in the order of its atoms, with the sides of double bonds: another order of the same atoms gives another
    /// text.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// assert_eq!(Molecule::from_smiles("C1(=CC=CC=C1)C(O)=O")?.smiles(), "c1(ccccc1)C(O)=O");
    /// # Ok(()) }
    /// ```
    pub fn smiles(&self) -> String {
        write(self)
    }
}

/// A bond as it is written.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Written {
    order: BondOrder,
    at: usize,
    /// Of `/` and `\\`: whether the atom behind it lies above the one before.
    up: Option<bool>,
}

impl Written {
    fn seen_from_behind(self) -> Self {
        let up = self.up.map(|up| !up);
        Self { up, ..self }
    }
}

/// A ring number that waits for its second place.
struct Open {
    atom: usize,
    bond: Option<Written>,
    at: usize,
}

struct Reader {
    text: String,
    characters: Vec<char>,
    name: String,
    at: usize,
    built: MoleculeBuilder,
    /// Where each atom stands.
    places: Vec<usize>,
    /// Bonds whose order nobody wrote, between aromatic atoms.
    unsaid: Vec<usize>,
    /// Pairs of atoms of which the second is said to lie above (or below) the first.
    slopes: Vec<(usize, usize, bool)>,
    open: BTreeMap<u32, Open>,
}

impl Reader {
    fn new(text: &str) -> Result<Self> {
        let text = text.trim();
        let (smiles, name) = match text.split_once(char::is_whitespace) {
            Some((smiles, name)) => (smiles, name.trim()),
            None => (text, text),
        };
        if smiles.is_empty() {
            return Err(Error::NoNodes {
                graph: "an empty SMILES".into(),
            });
        }
        Ok(Self {
            text: smiles.to_owned(),
            characters: smiles.chars().collect(),
            name: name.to_owned(),
            at: 0,
            built: MoleculeBuilder::default(),
            places: Vec::new(),
            unsaid: Vec::new(),
            slopes: Vec::new(),
            open: BTreeMap::new(),
        })
    }

    fn fault(&self, at: usize, message: impl Into<String>) -> Error {
        Error::Smiles {
            smiles: self.text.clone(),
            at,
            message: message.into(),
        }
    }

    fn peek(&self) -> Option<char> {
        self.characters.get(self.at).copied()
    }

    fn read(mut self) -> Result<Molecule> {
        let mut last: Option<usize> = None;
        let mut branches: Vec<(Option<usize>, usize)> = Vec::new();
        let mut bond: Option<Written> = None;
        while let Some(character) = self.peek() {
            let at = self.at;
            match character {
                '(' => {
                    if last.is_none() {
                        return Err(self.fault(at, "a branch needs an atom in front of it"));
                    }
                    if let Some(bond) = bond {
                        return Err(self.fault(
                            bond.at,
                            "a bond stands inside its branch, behind the parenthesis",
                        ));
                    }
                    branches.push((last, at));
                    self.at += 1;
                    if self.peek() == Some(')') {
                        return Err(self.fault(at, "the branch that opens here is empty"));
                    }
                }
                ')' => {
                    self.no_atom_after(bond)?;
                    match branches.pop() {
                        Some((before, _)) => last = before,
                        None => {
                            return Err(self.fault(at, "no branch is open that could close here"));
                        }
                    }
                    self.at += 1;
                }
                '.' => {
                    self.no_atom_after(bond)?;
                    if last.is_none() || self.at + 1 == self.characters.len() {
                        return Err(self.fault(at, "a dot stands between two parts of a molecule, with an atom in front of it and one behind"));
                    }
                    last = None;
                    self.at += 1;
                }
                '-' | '=' | '#' | ':' | '/' | '\\' | '$' | '~' => {
                    let order = self.bond_of(character)?;
                    if bond.is_some() {
                        return Err(
                            self.fault(at, "two bonds in a row: an atom is missing between them")
                        );
                    }
                    if last.is_none() {
                        return Err(self.fault(at, "a bond needs an atom in front of it"));
                    }
                    let up = match character {
                        '/' => Some(true),
                        '\\' => Some(false),
                        _ => None,
                    };
                    bond = Some(Written { order, at, up });
                    self.at += 1;
                }
                '0'..='9' | '%' => {
                    let number = self.ring_number()?;
                    let Some(atom) = last else {
                        return Err(self.fault(at, "a ring number needs an atom in front of it"));
                    };
                    self.ring(number, atom, bond.take(), at)?;
                }
                _ => {
                    let (atom, hydrogens) = match character {
                        '[' => self.bracket()?,
                        _ => (self.organic(character)?, None),
                    };
                    if self.places.len() == MOST_ATOMS {
                        return Err(self.fault(
                            at,
                            format!("a molecule of more than {MOST_ATOMS} atoms is not read"),
                        ));
                    }
                    let number = self.built.atom(atom, hydrogens);
                    self.places.push(at);
                    if let Some(last) = last {
                        self.join(last, number, bond.take());
                    }
                    last = Some(number);
                }
            }
        }
        self.no_atom_after(bond)?;
        if let Some((_, at)) = branches.pop() {
            return Err(self.fault(at, "the branch that opens here is not closed"));
        }
        if let Some((number, open)) = self.open.first_key_value() {
            return Err(self.fault(
                open.at,
                format!("ring {number} opens here and is not closed"),
            ));
        }
        self.finish()
    }

    fn finish(mut self) -> Result<Molecule> {
        // Two aromatic rings side by side: the bond between them is a single one.
        let pairs: Vec<(usize, usize)> = self
            .built
            .bonds
            .iter()
            .map(|bond| (bond.from, bond.to))
            .collect();
        let ring = rings::in_ring(self.built.atoms.len(), &pairs);
        for bond in &self.unsaid {
            if !ring[*bond] {
                self.built.bonds[*bond].order = BondOrder::Single;
            }
        }
        let (built, name) = (
            std::mem::take(&mut self.built),
            std::mem::take(&mut self.name),
        );
        let mut molecule = built.finish(name).map_err(|fault| {
            let at = self.places.get(fault.atom).copied().unwrap_or_default();
            self.fault(at, fault.message)
        })?;
        self.sides(&mut molecule);
        Ok(molecule)
    }

    /// What `/` and `\\` say of double bonds.
    fn sides(&self, molecule: &mut Molecule) {
        // Of an end's marked neighbours one, and whether it lies above; marks that contradict each other say nothing.
        let beside = |end: usize, over: usize| {
            let from = self
                .slopes
                .iter()
                .filter(|(from, to, _)| *from == end && *to != over);
            let to = self
                .slopes
                .iter()
                .filter(|(from, to, _)| *to == end && *from != over);
            let seen = from.map(|(_, to, up)| (*to, *up));
            let seen: Vec<(usize, bool)> =
                seen.chain(to.map(|(from, _, up)| (*from, !up))).collect();
            let first = seen.first().copied()?;
            let agree = |(atom, above): &(usize, bool)| (*atom == first.0) == (*above == first.1);
            seen.iter().all(agree).then_some(first)
        };
        let mut sides = Vec::new();
        if !self.slopes.is_empty() {
            for (number, bond) in molecule.bonds.iter().enumerate() {
                if bond.order == BondOrder::Double
                    && let (Some(a), Some(b)) =
                        (beside(bond.from, bond.to), beside(bond.to, bond.from))
                {
                    sides.push(Sides {
                        bond: number,
                        beside: [a.0, b.0],
                        same: a.1 == b.1,
                    });
                }
            }
        }
        molecule.set_sides(&sides);
        let mut told = vec![false; molecule.atoms.len()];
        for bond in molecule.bonds.iter().filter(|bond| bond.stereo.is_some()) {
            (told[bond.from], told[bond.to]) = (true, true);
        }
        let idle = self
            .slopes
            .iter()
            .filter(|(from, to, _)| !told[*from] && !told[*to])
            .count();
        if idle > 0 {
            molecule
                .not_used
                .insert("/ or \\ that tell no side of a double bond".into(), idle);
        }
    }

    fn no_atom_after(&self, bond: Option<Written>) -> Result<()> {
        match bond {
            Some(bond) => Err(self.fault(bond.at, "no atom follows this bond")),
            None => Ok(()),
        }
    }

    fn bond_of(&self, character: char) -> Result<BondOrder> {
        Ok(match character {
            '-' => BondOrder::Single,
            '=' => BondOrder::Double,
            '#' => BondOrder::Triple,
            ':' => BondOrder::Aromatic,
            '/' | '\\' => BondOrder::Single,
            '$' => return Err(self.fault(self.at, "bonds of four electron pairs ($) are not read")),
            _ => {
                return Err(self.fault(
                    self.at,
                    "a bond of any order (~) is a question, not a molecule",
                ));
            }
        })
    }

    /// `from` and `to` are joined by a bond as written, or as their atoms have it.
    fn join(&mut self, from: usize, to: usize, bond: Option<Written>) {
        let aromatic = |at: usize| self.built.atoms[at].aromatic;
        let order = match bond {
            Some(bond) => {
                self.slopes.extend(bond.up.map(|up| (from, to, up)));
                bond.order
            }
            None if aromatic(from) && aromatic(to) => {
                self.unsaid.push(self.built.bonds.len());
                BondOrder::Aromatic
            }
            None => BondOrder::Single,
        };
        self.built.bonds.push(Bond {
            from,
            to,
            order,
            stereo: None,
        });
    }

    fn ring_number(&mut self) -> Result<u32> {
        let at = self.at;
        let digit =
            |character: Option<&char>| character.and_then(|character| character.to_digit(10));
        if self.peek() != Some('%') {
            self.at += 1;
            return Ok(digit(self.characters.get(at)).unwrap_or_default());
        }
        if self.characters.get(at + 1) == Some(&'(') {
            let inside: String = self.characters[at + 2..]
                .iter()
                .take_while(|c| c.is_ascii_digit())
                .take(6)
                .collect();
            let end = at + 2 + inside.len();
            return match (inside.parse(), self.characters.get(end)) {
                (Ok(number), Some(')')) if inside.len() <= 5 => {
                    self.at = end + 1;
                    Ok(number)
                }
                _ => Err(self.fault(
                    at,
                    "a ring number in parentheses has one to five digits, as in %(123)",
                )),
            };
        }
        match (
            digit(self.characters.get(at + 1)),
            digit(self.characters.get(at + 2)),
        ) {
            (Some(tens), Some(ones)) => {
                self.at += 3;
                Ok(10 * tens + ones)
            }
            _ => Err(self.fault(at, "two digits follow %, as in %12")),
        }
    }

    fn ring(&mut self, number: u32, atom: usize, bond: Option<Written>, at: usize) -> Result<()> {
        let Some(open) = self.open.remove(&number) else {
            self.open.insert(number, Open { atom, bond, at });
            return Ok(());
        };
        if open.atom == atom {
            return Err(self.fault(at, format!("ring {number} would join an atom to itself")));
        }
        let joined = |bond: &Bond| {
            (bond.from, bond.to) == (open.atom, atom) || (bond.from, bond.to) == (atom, open.atom)
        };
        if self.built.bonds.iter().any(joined) {
            return Err(self.fault(
                at,
                format!("ring {number} would join two atoms that have a bond already"),
            ));
        }
        if let (Some(first), Some(second)) = (open.bond, bond)
            && first.order != second.order
        {
            return Err(self.fault(
                second.at,
                format!(
                    "ring {number} opens with the bond {} and closes with {}",
                    first.order.symbol(),
                    second.order.symbol()
                ),
            ));
        }
        if let (Some(_), Some(up)) = (open.bond, bond.and_then(|bond| bond.up)) {
            self.slopes.push((atom, open.atom, up));
        }
        match (open.bond, bond) {
            // The mark at the second place is seen from there.
            (None, Some(bond)) => self.join(open.atom, atom, Some(bond.seen_from_behind())),
            (first, _) => self.join(open.atom, atom, first),
        }
        Ok(())
    }

    /// An atom without brackets.
    fn organic(&mut self, character: char) -> Result<Atom> {
        let at = self.at;
        let two: String = self.characters[at..].iter().take(2).collect();
        let (symbol, aromatic) = match (two.as_str(), character) {
            ("Cl" | "Br", _) => (two.clone(), false),
            (_, 'B' | 'C' | 'N' | 'O' | 'P' | 'S' | 'F' | 'I') => (character.to_string(), false),
            (_, 'b' | 'c' | 'n' | 'o' | 'p' | 's') => {
                (character.to_ascii_uppercase().to_string(), true)
            }
            (_, '*') => {
                return Err(
                    self.fault(at, "* is an atom of any element: a pattern, not a molecule")
                );
            }
            (_, ']') => return Err(self.fault(at, "no bracket is open that could close here")),
            (_, letter) if letter.is_alphabetic() => return Err(self.unbracketed(at)),
            (_, other) => {
                return Err(self.fault(at, format!("{other:?} means nothing in a SMILES")));
            }
        };
        let Some(element) = Element::of_symbol(&symbol) else {
            return Err(self.unbracketed(at));
        };
        self.at += symbol.len();
        Ok(Atom {
            element,
            charge: 0,
            hydrogens: 0,
            isotope: None,
            radicals: 0,
            aromatic,
        })
    }

    /// Letters that are no atom without brackets.
    fn unbracketed(&self, at: usize) -> Error {
        let letters: String = self.characters[at..]
            .iter()
            .take_while(|c| c.is_alphabetic())
            .take(2)
            .collect();
        let known = (1..=letters.chars().count()).rev().find_map(|count| {
            let symbol: String = letters.chars().take(count).collect();
            Element::of_symbol(&symbol)
        });
        match known {
            Some(element) => self.fault(at, format!("{element} stands in brackets: [{element}]")),
            None => Error::UnknownElement {
                element: letters.chars().take(1).collect(),
                place: format!("character {} of {}", at + 1, shortened(&self.text)),
            },
        }
    }

    /// `[13CH3-]`: an atom with all that is said of it, and its hydrogens.
    fn bracket(&mut self) -> Result<(Atom, Option<u32>)> {
        let opened = self.at;
        self.at += 1;
        let isotope_at = self.at;
        let isotope = self.number(3);
        if isotope == Some(0) {
            return Err(self.fault(isotope_at, "a mass number is at least 1"));
        }
        let (element, aromatic) = self.symbol(opened)?;
        while self.peek() == Some('@') {
            self.at += 1;
            if self.peek() != Some('@') {
                self.built.note("@ for how an atom's neighbours turn");
            }
        }
        // @TH1, @AL2, @SP3 and the like.
        let class: String = self.characters[self.at..].iter().take(2).collect();
        if self.characters[self.at - 1] == '@'
            && ["TH", "AL", "SP", "TB", "OH"].contains(&class.as_str())
        {
            self.at += 2;
            if self.number(2).is_none() {
                return Err(self.fault(self.at, "a number follows @TH, @AL, @SP, @TB and @OH"));
            }
        }
        let mut hydrogens = 0;
        if self.peek() == Some('H') {
            self.at += 1;
            hydrogens = self.number(1).unwrap_or(1);
        }
        let charge = self.charge()?;
        if self.peek() == Some(':') {
            self.at += 1;
            if self.number(4).is_none() {
                return Err(self.fault(self.at, "a number follows the colon in brackets"));
            }
            self.built.note("classes of atoms");
        }
        match self.peek() {
            Some(']') => self.at += 1,
            Some(other) => {
                return Err(self.fault(
                    self.at,
                    format!("{other:?} has no meaning at this place in brackets"),
                ));
            }
            None => return Err(self.fault(opened, "the bracket that opens here is not closed")),
        }
        let atom = Atom {
            element,
            charge,
            hydrogens: 0,
            isotope,
            radicals: 0,
            aromatic,
        };
        Ok((atom, Some(hydrogens)))
    }

    /// A number of at most so many digits, if one stands here.
    fn number(&mut self, digits: usize) -> Option<u32> {
        let text: String = self.characters[self.at..]
            .iter()
            .take_while(|c| c.is_ascii_digit())
            .take(digits)
            .collect();
        self.at += text.len();
        text.parse().ok()
    }

    fn symbol(&mut self, opened: usize) -> Result<(Element, bool)> {
        let at = self.at;
        let letters: Vec<char> = self.characters[at..].iter().copied().take(2).collect();
        let Some(first) = letters.first().copied() else {
            return Err(self.fault(opened, "the bracket that opens here is not closed"));
        };
        if first == '*' {
            return Err(self.fault(at, "* is an atom of any element: a pattern, not a molecule"));
        }
        let second = letters.get(1).copied().filter(char::is_ascii_lowercase);
        let spelled = |symbol: String| (symbol.chars().count(), Element::of_symbol(&symbol));
        let found = if first.is_ascii_uppercase() {
            let long = second.map(|second| spelled(format!("{first}{second}")));
            let long = long.filter(|(_, element)| element.is_some());
            let (length, element) = long.unwrap_or_else(|| spelled(first.to_string()));
            element.map(|element| (length, element, false))
        } else {
            let long =
                second.map(|second| spelled(format!("{}{second}", first.to_ascii_uppercase())));
            let rare = |element: Element| {
                [Element::SE, Element::AS, Element::TE, Element::SI].contains(&element)
            };
            let ring = [
                Element::B,
                Element::C,
                Element::N,
                Element::O,
                Element::P,
                Element::S,
            ];
            match long {
                Some((length, Some(element))) if rare(element) => Some((length, element, true)),
                _ => {
                    let element = Element::of_symbol(&first.to_ascii_uppercase().to_string());
                    let element = element
                        .filter(|element| ring.contains(element) && first.is_ascii_lowercase());
                    element.map(|element| (1, element, true))
                }
            }
        };
        match found {
            Some((length, element, aromatic)) => {
                self.at += length;
                Ok((element, aromatic))
            }
            None if first.is_alphabetic() => Err(Error::UnknownElement {
                element: letters.iter().take_while(|c| c.is_alphabetic()).collect(),
                place: format!("character {} of {}", at + 1, shortened(&self.text)),
            }),
            None => Err(self.fault(at, "an element's symbol is missing in brackets")),
        }
    }

    fn charge(&mut self) -> Result<i32> {
        let at = self.at;
        let Some(sign) = self
            .peek()
            .filter(|character| ['+', '-'].contains(character))
        else {
            return Ok(0);
        };
        let mut signs = 0;
        while self.peek() == Some(sign) {
            signs += 1;
            self.at += 1;
        }
        let size = match self.number(2) {
            Some(_) if signs > 1 => {
                return Err(self.fault(at, "a charge is written +2 or ++, not both"));
            }
            Some(size) => size as i32,
            None => signs,
        };
        if size > 15 {
            return Err(self.fault(
                at,
                format!("a charge of {size} is more than the 15 that an atom may have here"),
            ));
        }
        Ok(if sign == '+' { size } else { -size })
    }
}

/// A long SMILES as a message has it.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// What is still to be written.
enum Step {
    Open,
    Atom { at: usize, bond: Option<usize> },
    Close,
}

fn write(molecule: &Molecule) -> String {
    let neighbours = molecule.neighbours();
    let slopes = molecule.slopes();
    let count = molecule.atoms.len();
    // A first walk finds which bonds close rings: those that lead to an atom which is reached already.
    let mut order = Vec::with_capacity(count);
    let mut children: Vec<Vec<(usize, usize)>> = vec![Vec::new(); count];
    let mut by = vec![None; count];
    let mut seen = vec![false; count];
    let mut used = vec![false; molecule.bonds.len()];
    for start in 0..count {
        if seen[start] {
            continue;
        }
        let mut stack = vec![(start, None)];
        while let Some((at, via)) = stack.pop() {
            if seen[at] {
                continue;
            }
            seen[at] = true;
            by[at] = via;
            order.push(at);
            if let Some((parent, bond)) = via {
                let children: &mut Vec<(usize, usize)> = &mut children[parent];
                children.push((at, bond));
                used[bond] = true;
            }
            stack.extend(
                neighbours[at]
                    .iter()
                    .rev()
                    .filter(|(other, _)| !seen[*other])
                    .map(|(other, bond)| (*other, Some((at, *bond)))),
            );
        }
    }
    let mut closing: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (number, bond) in molecule
        .bonds
        .iter()
        .enumerate()
        .filter(|(number, _)| !used[*number])
    {
        closing[bond.from].push(number);
        closing[bond.to].push(number);
    }
    let mut text = String::new();
    let mut numbers: BTreeMap<usize, usize> = BTreeMap::new(); // bond → ring number
    for start in order.iter().copied().filter(|at| by[*at].is_none()) {
        if !text.is_empty() {
            text.push('.');
        }
        let mut steps = vec![Step::Atom {
            at: start,
            bond: None,
        }];
        while let Some(step) = steps.pop() {
            let (at, bond) = match step {
                Step::Open => {
                    text.push('(');
                    continue;
                }
                Step::Close => {
                    text.push(')');
                    continue;
                }
                Step::Atom { at, bond } => (at, bond),
            };
            if let Some(bond) = bond {
                text.push_str(bond_text(
                    molecule,
                    bond,
                    by[at].map_or(at, |(parent, _)| parent),
                    &slopes,
                ));
            }
            text.push_str(&atom_text(molecule, at));
            for bond in &closing[at] {
                let (number, opens) = match numbers.remove(bond) {
                    Some(number) => (number, false),
                    None => {
                        let free = (1..)
                            .find(|number| !numbers.values().any(|used| used == number))
                            .unwrap_or(1);
                        numbers.insert(*bond, free);
                        (free, true)
                    }
                };
                if opens {
                    text.push_str(bond_text(molecule, *bond, at, &slopes));
                }
                text.push_str(&match number {
                    0..=9 => number.to_string(),
                    10..=99 => format!("%{number}"),
                    _ => format!("%({number})"),
                });
            }
            // The last child goes on in the line, the others are branches.
            for (place, (child, bond)) in children[at].iter().enumerate().rev() {
                let step = Step::Atom {
                    at: *child,
                    bond: Some(*bond),
                };
                if place + 1 == children[at].len() {
                    steps.push(step);
                } else {
                    steps.extend([Step::Close, step, Step::Open]);
                }
            }
        }
    }
    text
}

fn bond_text(
    molecule: &Molecule,
    number: usize,
    at: usize,
    slopes: &HashMap<usize, bool>,
) -> &'static str {
    let bond = molecule.bonds[number];
    // Seen from the atom that is written first.
    if let Some(up) = slopes.get(&number) {
        return if *up == (bond.from == at) { "/" } else { "\\" };
    }
    let both = molecule.atoms[bond.from].aromatic && molecule.atoms[bond.to].aromatic;
    match bond.order {
        BondOrder::Single if both => "-",
        BondOrder::Single => "",
        BondOrder::Aromatic if both => "",
        other => other.symbol(),
    }
}

fn atom_text(molecule: &Molecule, at: usize) -> String {
    let atom = &molecule.atoms[at];
    let symbol = match atom.aromatic {
        true => atom.element.symbol().to_ascii_lowercase(),
        false => atom.element.symbol().to_owned(),
    };
    let plain = [
        Element::B,
        Element::C,
        Element::N,
        Element::O,
        Element::P,
        Element::S,
        Element::F,
        Element::CL,
        Element::BR,
        Element::I,
    ];
    let ring = [
        Element::B,
        Element::C,
        Element::N,
        Element::O,
        Element::P,
        Element::S,
    ];
    let bonds = molecule
        .bonds
        .iter()
        .filter(|bond| bond.from == at || bond.to == at);
    let pairs: i32 = bonds.map(|bond| bond.order.pairs()).sum();
    let listed = if atom.aromatic { &ring[..] } else { &plain[..] };
    if listed.contains(&atom.element)
        && atom.charge == 0
        && atom.isotope.is_none()
        && atom.radicals == 0
        && implied(atom, pairs) == Some(atom.hydrogens)
    {
        return symbol;
    }
    let isotope = atom.isotope.map_or(String::new(), |mass| mass.to_string());
    let hydrogens = match atom.hydrogens {
        0 => String::new(),
        1 => "H".into(),
        count => format!("H{count}"),
    };
    let charge = match atom.charge {
        0 => String::new(),
        1 => "+".into(),
        -1 => "-".into(),
        charge => format!("{charge:+}"),
    };
    format!("[{isotope}{symbol}{hydrogens}{charge}]")
}

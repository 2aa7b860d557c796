//! SDF files and MDL mol blocks (V2000 and V3000): molecules with their data fields, line by line.
//!
//! ```text
//! name │ program │ comment │ counts ... V2000 │ atoms │ bonds │ M  CHG ... │ M  END │ > <field> values │ $$$$
//!                                  └ V3000 │ M  V30 ... (`sdf_v3000`) ─────────────┘
//! ```
//! Read as "CTfile Formats" (Dassault Systèmes) has it. Hydrogens that are not written are counted by valence; those that are written stay atoms
//! (see [`Molecule::without_hydrogens`]). Coordinates tell the sides of double bonds and are not kept; parities and wedges are counted as
//! not used. Queries are refused.

use std::path::Path;

use super::elements::Element;
use super::molecule::{Atom, Bond, BondOrder, COORDINATES, MOST_ATOMS, Molecule, MoleculeBuilder};
use super::stereo::Sides;
use crate::{Error, Result, files};

/// How messages and counts call bonds drawn as wedges.
pub(super) const WEDGES: &str = "wedges of bonds, for how an atom's neighbours turn";

/// A larger file is not read, in bytes.
const LARGEST: u64 = 1 << 30;

/// A molecule of an SDF file with its data fields.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let text = [
///     "water",
///     "",
///     "",
///     "  1  0  0  0  0  0  0  0  0  0999 V2000",
///     "    0.0000    0.0000    0.0000 O   0  0",
///     "M  END",
///     "> <boiling point>",
///     "100",
///     "",
///     "$$$$",
/// ];
/// let records = SdfRecord::read("water.sdf", &text.join("\n"))?; // of a file: SdfRecord::open("water.sdf")?
/// assert_eq!(records[0].molecule.formula(), "H2O");
/// assert_eq!(records[0].field("boiling point"), Some("100"));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SdfRecord {
    /// The molecule; its name is the block's first line.
    pub molecule: Molecule,
    /// The data fields in the file's order, each as name and value.
    pub fields: Vec<(String, String)>,
}

impl SdfRecord {
    /// The value of a data field.
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(own, _)| own == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Reads all molecules of an SDF or mol file.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Line`] with the line of what is wrong; [`Error::UnknownElement`]; [`Error::NoNodes`] for a molecule
    /// without atoms.
    pub fn open(path: impl AsRef<Path>) -> Result<Vec<Self>> {
        let path = path.as_ref();
        let bytes = files::read(path, LARGEST)?;
        Self::read(
            &path.display().to_string(),
            &String::from_utf8_lossy(&bytes),
        )
    }

    /// Reads all molecules of a text; `what` is how messages call it.
    ///
    /// # Errors
    /// As [`SdfRecord::open`].
    pub fn read(what: &str, text: &str) -> Result<Vec<Self>> {
        let lines: Vec<&str> = text.lines().collect();
        let mut reader = Lines {
            what,
            lines: &lines,
            at: 0,
        };
        let mut records = Vec::new();
        while !reader.at_end() {
            records.push(reader.record()?);
        }
        match records.is_empty() {
            true => Err(Error::NoNodes {
                graph: format!("{what} (it holds no molecule)"),
            }),
            false => Ok(records),
        }
    }
}

impl Molecule {
    /// Reads one mol block of a text.
    ///
    /// # Errors
    /// As [`SdfRecord::open`], and for more than one molecule.
    pub fn from_mol(text: &str) -> Result<Self> {
        let mut records = SdfRecord::read("the mol block", text)?;
        match (records.pop(), records.len()) {
            (Some(only), 0) => Ok(only.molecule),
            (_, others) => Err(Error::Input(format!(
                "one molecule is read here, the text holds {}: use SdfRecord::read",
                others + 1
            ))),
        }
    }
}

/// A molecule as its block is read.
#[derive(Default)]
pub(super) struct Block {
    pub builder: MoleculeBuilder,
    /// Where each atom lies.
    pub places: Vec<[f64; 3]>,
    /// The line of each atom, from 1.
    pub lines: Vec<usize>,
    /// Bonds that are drawn wavy, crossed or otherwise on no known side.
    pub either: Vec<usize>,
}

impl Block {
    /// An atom by its symbol, at its place; the reader says of it what else it finds.
    pub fn atom(&mut self, lines: &Lines, symbol: &str, place: [f64; 3]) -> Result<()> {
        let (element, isotope) = match symbol {
            "D" => (Some(Element::H), Some(2)),
            "T" => (Some(Element::H), Some(3)),
            "A" | "Q" | "L" | "*" | "LP" | "R#" | "R" | "X" | "M" | "AH" | "QH" | "XH" | "MH" => {
                return Err(lines.fault(format!(
                    "{symbol} stands for several elements: a question, not a molecule"
                )));
            }
            symbol => (Element::of_symbol(symbol), None),
        };
        let Some(element) = element else {
            return Err(Error::UnknownElement {
                element: symbol.to_owned(),
                place: format!("line {} of {}", lines.at, lines.what),
            });
        };
        if let Some(number) = place.iter().find(|number| !number.is_finite()) {
            return Err(lines.fault(format!("a coordinate of an atom is {number}")));
        }
        if place != [0.0; 3] {
            self.builder.note(COORDINATES);
        }
        self.places.push(place);
        self.lines.push(lines.at);
        let atom = Atom {
            element,
            charge: 0,
            hydrogens: 0,
            isotope,
            radicals: 0,
            aromatic: false,
        };
        self.builder.atom(atom, None);
        Ok(())
    }

    /// A bond of the format's kinds 1 to 4 between atoms from 0.
    pub fn bond(&mut self, lines: &Lines, kind: i64, [from, to]: [usize; 2]) -> Result<()> {
        let order = match kind {
            1 => BondOrder::Single,
            2 => BondOrder::Double,
            3 => BondOrder::Triple,
            4 => BondOrder::Aromatic,
            other => {
                return Err(lines.fault(format!(
                    "a bond of kind {other} is a question or none of two atoms: read are 1, 2, 3 and 4 (aromatic)"
                )));
            }
        };
        if from == to {
            return Err(lines.fault(format!("a bond joins atom {} to itself", from + 1)));
        }
        let again =
            |bond: &Bond| (bond.from, bond.to) == (from, to) || (bond.from, bond.to) == (to, from);
        if self.builder.bonds.iter().any(again) {
            return Err(lines.fault(format!(
                "atoms {} and {} are joined twice",
                from + 1,
                to + 1
            )));
        }
        if order == BondOrder::Aromatic {
            self.builder.atoms[from].aromatic = true;
            self.builder.atoms[to].aromatic = true;
        }
        self.builder.bonds.push(Bond {
            from,
            to,
            order,
            stereo: None,
        });
        Ok(())
    }

    /// Electrons without a partner by the format's code: 1 and 3 are two of them, 2 is one.
    pub fn radical(&mut self, lines: &Lines, atom: usize, code: i64) -> Result<()> {
        self.builder.atoms[atom].radicals = match code {
            0 => 0,
            1 | 3 => 2,
            2 => 1,
            other => {
                return Err(
                    lines.fault(format!("a radical is coded {other}, the codes are 0 to 3"))
                );
            }
        };
        Ok(())
    }

    pub fn charge(&mut self, lines: &Lines, atom: usize, charge: i64) -> Result<()> {
        if !(-15..=15).contains(&charge) {
            return Err(lines.fault(format!("a charge of {charge} is outside −15 to 15")));
        }
        self.builder.atoms[atom].charge = charge as i32;
        Ok(())
    }

    pub fn isotope(&mut self, lines: &Lines, atom: usize, mass: i64) -> Result<()> {
        let mass = u32::try_from(mass)
            .ok()
            .filter(|mass| (1..=999).contains(mass));
        let mass = mass.ok_or_else(|| lines.fault("a mass number is 1 to 999"))?;
        self.builder.atoms[atom].isotope = Some(mass);
        Ok(())
    }

    /// The molecule, with the sides of its double bonds as the coordinates show them.
    fn finish(mut self, lines: &Lines, title: String) -> Result<Molecule> {
        // A valence that is written counts the bonds with it.
        for at in 0..self.builder.atoms.len() {
            let Some(valence) = self.builder.given[at] else {
                continue;
            };
            let own = self
                .builder
                .bonds
                .iter()
                .filter(|bond| bond.from == at || bond.to == at);
            let used: i32 = own.map(|bond| bond.order.pairs()).sum();
            self.builder.given[at] = Some((valence as i32 - used).max(0) as u32);
        }
        let own_lines = self.lines;
        let mut molecule = self.builder.finish(title).map_err(|fault| Error::Line {
            what: lines.what.to_owned(),
            line: own_lines.get(fault.atom).copied().unwrap_or(lines.at),
            message: fault.message,
        })?;
        let sides = seen(&molecule, &self.places, &self.either);
        molecule.set_sides(&sides);
        Ok(molecule)
    }
}

/// On which sides of double bonds neighbours lie by their coordinates.
fn seen(molecule: &Molecule, places: &[[f64; 3]], either: &[usize]) -> Vec<Sides> {
    /// The sine of the angle below which a neighbour lies in the bond's line.
    const STRAIGHT: f64 = 0.1;
    let minus = |a: [f64; 3], b: [f64; 3]| [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
    let dot = |a: [f64; 3], b: [f64; 3]| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    let neighbours = molecule.neighbours();
    // What of a neighbour's way points away from the bond's line.
    let aside = |end: usize, over: usize| -> Option<(usize, [f64; 3])> {
        let axis = minus(places[over], places[end]);
        let length = dot(axis, axis);
        neighbours[end]
            .iter()
            .filter(|(other, _)| *other != over)
            .find_map(|(other, bond)| {
                let way = minus(places[*other], places[end]);
                let along = dot(way, axis) / length;
                let away = [0, 1, 2].map(|i| way[i] - along * axis[i]);
                let clear = dot(away, away) > STRAIGHT * STRAIGHT * dot(way, way);
                (clear && !either.contains(bond)).then_some((*other, away))
            })
    };
    let wavy = |end: usize| {
        neighbours[end]
            .iter()
            .any(|(_, bond)| either.contains(bond))
    };
    let doubles =
        molecule.bonds.iter().enumerate().filter(|(_, bond)| {
            bond.order == BondOrder::Double && !wavy(bond.from) && !wavy(bond.to)
        });
    let sides = doubles.filter_map(|(number, bond)| {
        let (a, b) = (aside(bond.from, bond.to)?, aside(bond.to, bond.from)?);
        let across = dot(a.1, b.1) / (dot(a.1, a.1) * dot(b.1, b.1)).sqrt();
        (across.abs() > STRAIGHT).then_some(Sides {
            bond: number,
            beside: [a.0, b.0],
            same: across > 0.0,
        })
    });
    sides.collect()
}

/// The lines of a file and how far they are read.
pub(super) struct Lines<'a> {
    pub what: &'a str,
    lines: &'a [&'a str],
    pub at: usize,
}

/// The characters of a fixed column.
fn column(line: &str, from: usize, width: usize) -> &str {
    let end = (from + width).min(line.len());
    line.get(from.min(line.len())..end)
        .unwrap_or_default()
        .trim()
}

impl<'a> Lines<'a> {
    /// Whether only empty lines are left.
    fn at_end(&self) -> bool {
        self.lines[self.at.min(self.lines.len())..]
            .iter()
            .all(|line| line.trim().is_empty())
    }

    pub fn fault(&self, message: impl Into<String>) -> Error {
        Error::Line {
            what: self.what.to_owned(),
            line: self.at,
            message: message.into(),
        }
    }

    pub fn next(&mut self, wanted: &str) -> Result<&'a str> {
        let line = self.lines.get(self.at).copied();
        self.at += 1;
        line.ok_or_else(|| self.fault(format!("the text ends where {wanted} is due")))
    }

    /// An integer of a fixed column; blank is 0.
    fn integer(&self, line: &str, (from, width): (usize, usize), of: &str) -> Result<i64> {
        match column(line, from, width) {
            "" => Ok(0),
            text => text.parse().map_err(|_| {
                self.fault(format!(
                    "{of} is {text:?}, no whole number (columns {} to {})",
                    from + 1,
                    from + width
                ))
            }),
        }
    }

    fn record(&mut self) -> Result<SdfRecord> {
        let first = self.at + 1;
        let name = self.next("a molecule's name")?.trim().to_owned();
        self.next("the line of the program")?;
        self.next("the line of comments")?;
        let counts = self.next("the line of counts")?;
        let block = match counts.contains("V3000") {
            true => super::sdf_v3000::block(self)?,
            false => self.v2000(&name, counts)?,
        };
        if block.lines.is_empty() {
            return Err(Error::NoNodes {
                graph: format!("molecule {name:?} (line {} of {})", self.at, self.what),
            });
        }
        let fields = self.fields()?;
        let title = match name.is_empty() {
            true => format!("molecule at line {first}"),
            false => name,
        };
        let molecule = block.finish(self, title)?;
        Ok(SdfRecord { molecule, fields })
    }

    fn v2000(&mut self, name: &str, counts: &str) -> Result<Block> {
        let atoms = self.integer(counts, (0, 3), "the number of atoms")?;
        let bonds = self.integer(counts, (3, 3), "the number of bonds")?;
        if !counts.contains("V2000") && column(counts, 0, 6).is_empty() {
            return Err(self.fault(
                "the fourth line of a molecule holds its counts, such as \"  2  1  0 ... V2000\"",
            ));
        }
        if atoms == 0 {
            return Err(Error::NoNodes {
                graph: format!("molecule {name:?} (line {} of {})", self.at, self.what),
            });
        }
        if atoms < 0 || bonds < 0 || atoms as usize > MOST_ATOMS {
            return Err(self.fault(format!(
                "{atoms} atoms and {bonds} bonds: 1 to {MOST_ATOMS} atoms are read"
            )));
        }
        let mut block = Block::default();
        for _ in 0..atoms {
            self.atom(&mut block)?;
        }
        for _ in 0..bonds {
            self.bond(&mut block)?;
        }
        self.properties(&mut block)?;
        Ok(block)
    }

    fn atom(&mut self, block: &mut Block) -> Result<()> {
        let line = self.next("an atom")?;
        let mut place = [0f64; 3];
        for (axis, value) in place.iter_mut().enumerate() {
            *value = self.coordinate(column(line, 10 * axis, 10))?;
        }
        block.atom(self, column(line, 31, 3), place)?;
        let at = block.builder.atoms.len() - 1;
        let shift = self.integer(line, (34, 2), "the mass difference")?;
        if shift != 0 {
            block
                .builder
                .note("mass differences (M  ISO tells isotopes)");
        }
        match self.integer(line, (36, 3), "the charge")? {
            0 => {}
            4 => block.radical(self, at, 2)?,
            code @ (1..=3 | 5..=7) => block.charge(self, at, 4 - code)?,
            code => {
                return Err(self.fault(format!(
                    "the charge of an atom is coded {code}, the codes are 0 to 7"
                )));
            }
        }
        if self.integer(line, (39, 3), "the parity")? != 0 {
            block.builder.note("parities of atoms");
        }
        // 15 stands for none, 0 for as many as its valence has.
        block.builder.given[at] = match self.integer(line, (48, 3), "the valence")? {
            0 => None,
            15 => Some(0),
            count @ 1..=14 => Some(count as u32),
            other => {
                return Err(self.fault(format!(
                    "the valence of an atom is {other}, known are 0 to 15"
                )));
            }
        };
        Ok(())
    }

    pub fn coordinate(&self, text: &str) -> Result<f64> {
        text.parse()
            .map_err(|_| self.fault(format!("a coordinate of an atom is {text:?}, no number")))
    }

    fn bond(&mut self, block: &mut Block) -> Result<()> {
        let line = self.next("a bond")?;
        let count = block.builder.atoms.len() as i64;
        let mut ends = [0usize; 2];
        for (place, end) in ends.iter_mut().enumerate() {
            let number = self.integer(line, (3 * place, 3), "an atom of a bond")?;
            if !(1..=count).contains(&number) {
                return Err(self.fault(format!(
                    "a bond joins atom {number}, there are 1 to {count}"
                )));
            }
            *end = number as usize - 1;
        }
        block.bond(self, self.integer(line, (6, 3), "the bond's order")?, ends)?;
        let bond = block.builder.bonds.len() - 1;
        match self.integer(line, (9, 3), "the bond's stereo mark")? {
            0 => {}
            3 | 4 => block.either.push(bond),
            _ => block.builder.note(WEDGES),
        }
        Ok(())
    }

    /// The lines up to `M  END`.
    fn properties(&mut self, block: &mut Block) -> Result<()> {
        let mut charged = false;
        let atoms = block.builder.atoms.len();
        loop {
            let line = self.next("M  END")?;
            match column(line, 0, 6) {
                "M  END" => break,
                "M  CHG" => {
                    self.only_properties_tell(&mut charged, block);
                    for (atom, charge) in self.pairs(line, atoms)? {
                        block.charge(self, atom, charge)?;
                    }
                }
                "M  ISO" => {
                    for (atom, mass) in self.pairs(line, atoms)? {
                        block.isotope(self, atom, mass)?;
                    }
                }
                "M  RAD" => {
                    self.only_properties_tell(&mut charged, block);
                    for (atom, code) in self.pairs(line, atoms)? {
                        block.radical(self, atom, code)?;
                    }
                }
                other if other.starts_with("M  ") => block.builder.note(&format!("lines {other}")),
                _ if line.starts_with("A  ")
                    || line.starts_with("V  ")
                    || line.starts_with("G  ") =>
                {
                    if !line.starts_with("V  ") {
                        self.next("the text of an atom")?;
                    }
                    block.builder.note("texts at atoms");
                }
                _ if line.starts_with("S  SKP") || line.trim().is_empty() => {
                    block.builder.note("lines without meaning")
                }
                _ => {
                    return Err(self.fault(format!(
                        "{line:?} stands where M  END or a property of atoms is due"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Charges and radicals of property lines speak for all atoms: what the atoms' own lines say is void.
    fn only_properties_tell(&self, already: &mut bool, block: &mut Block) {
        if !std::mem::replace(already, true) {
            for atom in &mut block.builder.atoms {
                (atom.charge, atom.radicals) = (0, 0);
            }
        }
    }

    /// `M  CHG  2   1  -1   4   1`: atoms from 0 with their values.
    fn pairs(&self, line: &str, atoms: usize) -> Result<Vec<(usize, i64)>> {
        let count = self.integer(line, (6, 3), "the number of values")?;
        if !(0..=8).contains(&count) {
            return Err(self.fault(format!("a property line holds 1 to 8 values, not {count}")));
        }
        let mut pairs = Vec::new();
        for place in 0..count as usize {
            let atom = self.integer(line, (9 + 8 * place, 4), "an atom's number")?;
            let value = self.integer(line, (13 + 8 * place, 4), "a value")?;
            if !(1..=atoms as i64).contains(&atom) {
                return Err(self.fault(format!(
                    "a property is of atom {atom}, there are 1 to {atoms}"
                )));
            }
            pairs.push((atom as usize - 1, value));
        }
        Ok(pairs)
    }

    /// Data fields up to `$$$$` or the end.
    fn fields(&mut self) -> Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        while !self.at_end() {
            let line = self.next("a data field")?;
            if line.trim_end() == "$$$$" {
                break;
            }
            if line.trim().is_empty() {
                continue;
            }
            let name = line
                .strip_prefix('>')
                .and_then(|rest| Some(rest.split_once('<')?.1.rsplit_once('>')?.0));
            let Some(name) = name else {
                return Err(self.fault(format!(
                    "{line:?} stands where a data field, \"> <name>\", or $$$$ is due"
                )));
            };
            let mut values = Vec::new();
            while let Some(line) = self.lines.get(self.at) {
                if line.trim().is_empty() || line.trim_end() == "$$$$" {
                    break;
                }
                values.push(*line);
                self.at += 1;
            }
            fields.push((name.to_owned(), values.join("\n")));
        }
        Ok(fields)
    }
}

//! Molecules made by rule, with their names, and text about them: what a model of chemistry is shown and what it is told.
//!
//! ```text
//! family (alcohol) × carbons (3) ─► propan-1-ol │ CCCO │ C3H8O │ hydroxyl ─► "propan-1-ol is an alcohol with 3 carbon atoms ..."
//! ```
//! Unbranched chains of one to eight carbons with one group at their end (rings for two families), named by IUPAC's rules for such.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::molecule::Molecule;
use crate::display::{Facts, MimeBundle, Render};
use crate::{Error, Result};

/// Names of chains.
const STEMS: [&str; 8] = ["meth", "eth", "prop", "but", "pent", "hex", "hept", "oct"];

/// A family of molecules: its name, its group, the fewest carbons, how a name and a SMILES of so many carbons are written.
struct Family {
    name: &'static str,
    group: &'static str,
    fewest: usize,
    named: fn(&str, usize) -> String,
    smiles: fn(usize) -> String,
}

fn chain(count: usize) -> String {
    "C".repeat(count)
}

/// A number for the group's place, which short chains do without.
fn numbered(carbons: usize, from: usize, number: &str) -> String {
    match carbons < from {
        true => String::new(),
        false => format!("-{number}-"),
    }
}

const FAMILIES: [Family; 14] = [
    Family {
        name: "alkane",
        group: "none",
        fewest: 1,
        named: |stem, _| format!("{stem}ane"),
        smiles: chain,
    },
    Family {
        name: "alkene",
        group: "double bond",
        fewest: 2,
        named: |stem, n| match numbered(n, 4, "1") {
            place if place.is_empty() => format!("{stem}ene"),
            place => format!("{stem}{place}ene"),
        },
        smiles: |n| format!("C={}", chain(n - 1)),
    },
    Family {
        name: "alkyne",
        group: "triple bond",
        fewest: 2,
        named: |stem, n| match numbered(n, 4, "1") {
            place if place.is_empty() => format!("{stem}yne"),
            place => format!("{stem}{place}yne"),
        },
        smiles: |n| format!("C#{}", chain(n - 1)),
    },
    Family {
        name: "alcohol",
        group: "hydroxyl",
        fewest: 1,
        named: |stem, n| match numbered(n, 3, "1") {
            place if place.is_empty() => format!("{stem}anol"),
            place => format!("{stem}an{place}ol"),
        },
        smiles: |n| format!("{}O", chain(n)),
    },
    Family {
        name: "thiol",
        group: "sulfanyl",
        fewest: 1,
        named: |stem, n| match numbered(n, 3, "1") {
            place if place.is_empty() => format!("{stem}anethiol"),
            place => format!("{stem}ane{place}thiol"),
        },
        smiles: |n| format!("{}S", chain(n)),
    },
    Family {
        name: "amine",
        group: "amino",
        fewest: 1,
        named: |stem, n| match numbered(n, 3, "1") {
            place if place.is_empty() => format!("{stem}anamine"),
            place => format!("{stem}an{place}amine"),
        },
        smiles: |n| format!("{}N", chain(n)),
    },
    Family {
        name: "aldehyde",
        group: "formyl",
        fewest: 1,
        named: |stem, _| format!("{stem}anal"),
        smiles: |n| format!("{}=O", chain(n)),
    },
    Family {
        name: "ketone",
        group: "carbonyl",
        fewest: 3,
        named: |stem, n| match numbered(n, 5, "2") {
            place if place.is_empty() => format!("{stem}anone"),
            place => format!("{stem}an{place}one"),
        },
        smiles: |n| format!("CC(=O){}", chain(n - 2)),
    },
    Family {
        name: "acid",
        group: "carboxyl",
        fewest: 1,
        named: |stem, _| format!("{stem}anoic acid"),
        smiles: |n| format!("{}(=O)O", chain(n)),
    },
    Family {
        name: "amide",
        group: "carbamoyl",
        fewest: 1,
        named: |stem, _| format!("{stem}anamide"),
        smiles: |n| format!("{}(=O)N", chain(n)),
    },
    Family {
        name: "nitrile",
        group: "cyano",
        fewest: 2,
        named: |stem, _| format!("{stem}anenitrile"),
        smiles: |n| format!("{}#N", chain(n)),
    },
    Family {
        name: "chloride",
        group: "chloro",
        fewest: 1,
        named: |stem, n| match n < 3 {
            true => format!("chloro{stem}ane"),
            false => format!("1-chloro{stem}ane"),
        },
        smiles: |n| format!("{}Cl", chain(n)),
    },
    Family {
        name: "cycloalkane",
        group: "ring",
        fewest: 3,
        named: |stem, _| format!("cyclo{stem}ane"),
        smiles: |n| format!("C1{}C1", chain(n - 2)),
    },
    Family {
        name: "arene",
        group: "phenyl",
        fewest: 1,
        named: |stem, _| format!("{stem}ylbenzene"),
        smiles: |n| format!("{}c1ccccc1", chain(n)),
    },
];

/// A molecule with what is said of it.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let ethanol = OrganicMolecule::new("alcohol", 2)?;
/// assert_eq!((ethanol.name.as_str(), ethanol.molecule.formula().as_str()), ("ethanol", "C2H6O"));
/// assert!(OrganicMolecule::families().contains(&"ketone"));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrganicMolecule {
    /// The molecule; its name is `name`.
    pub molecule: Molecule,
    /// Its name by IUPAC's rules.
    pub name: String,
    /// Which family it is of, such as `alcohol`.
    pub family: &'static str,
    /// Its functional group, such as `hydroxyl`; `none` for alkanes.
    pub group: &'static str,
    /// Carbon atoms of its chain or ring; those of an arene's benzene are not counted.
    pub carbons: usize,
}

impl OrganicMolecule {
    /// The names of all families.
    pub fn families() -> Vec<&'static str> {
        FAMILIES.iter().map(|family| family.name).collect()
    }

    /// Every molecule there is: each family with each number of carbons.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let all = OrganicMolecule::all()?;
    /// let found = all.iter().find(|one| one.name == "propan-1-ol").map(|one| one.molecule.formula());
    /// assert_eq!(found.as_deref(), Some("C3H8O"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// None that is known: each is read from its SMILES.
    pub fn all() -> Result<Vec<Self>> {
        let mut all = Vec::new();
        for family in &FAMILIES {
            for carbons in family.fewest..=STEMS.len() {
                all.push(Self::made(family, carbons)?);
            }
        }
        Ok(all)
    }

    /// The molecule of a family with so many carbons.
    ///
    /// # Errors
    /// For a family that is not one of [`OrganicMolecule::families`], and too few or more than eight carbons.
    pub fn new(family: &str, carbons: usize) -> Result<Self> {
        let Some(found) = FAMILIES.iter().find(|known| known.name == family) else {
            return Err(Error::Input(format!(
                "there is no family {family:?}: choose one of {}",
                Self::families().join(", ")
            )));
        };
        if !(found.fewest..=STEMS.len()).contains(&carbons) {
            return Err(Error::Input(format!(
                "the family {family} has {} to {} carbons, not {carbons}",
                found.fewest,
                STEMS.len()
            )));
        }
        Self::made(found, carbons)
    }

    /// One of them at random. The same seed and number give the same.
    ///
    /// # Errors
    /// As [`OrganicMolecule::all`].
    pub fn generated(seed: u64, number: u64) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number);
        let family = &FAMILIES[rng.random_range(0..FAMILIES.len())];
        Self::made(family, rng.random_range(family.fewest..=STEMS.len()))
    }

    fn made(family: &Family, carbons: usize) -> Result<Self> {
        let name = (family.named)(STEMS[carbons - 1], carbons);
        let mut molecule = Molecule::from_smiles(&(family.smiles)(carbons))?;
        molecule.name = name.clone();
        Ok(Self {
            molecule,
            name,
            family: family.name,
            group: family.group,
            carbons,
        })
    }

    /// What a text says of it, one of several ways, drawn from `rng`. All facts are in the molecule itself.
    pub fn sentence(&self, rng: &mut ChaCha8Rng) -> String {
        let Self {
            name,
            family,
            group,
            carbons,
            ..
        } = self;
        let article = if family.starts_with('a') { "an" } else { "a" };
        let formula: String = spaced(&self.molecule.formula());
        let atoms = if *carbons == 1 { "atom" } else { "atoms" };
        match rng.random_range(0..5u8) {
            0 => format!(
                "{name} is {article} {family} with {carbons} carbon {atoms} and the group {group} ; its formula is {formula}"
            ),
            1 => format!("the {family} with {carbons} carbon {atoms} is {name}"),
            2 => format!("{formula} : {name} , {article} {family}"),
            3 => format!("{name} has the group {group} , so it is {article} {family}"),
            _ => format!("{article} {family} with {carbons} carbon {atoms} : {name}"),
        }
    }
}

/// A formula with its elements and numbers apart: `C 3 H 8 O`.
fn spaced(formula: &str) -> String {
    let mut text = String::new();
    let mut before = ' ';
    for character in formula.chars() {
        let begins = character.is_ascii_uppercase()
            || (character.is_ascii_digit() != before.is_ascii_digit()
                && !character.is_ascii_lowercase());
        if begins && !text.is_empty() {
            text.push(' ');
        }
        text.push(character);
        before = character;
    }
    text
}

impl Render for OrganicMolecule {
    fn render(&self) -> MimeBundle {
        let facts = Facts::new(self.name.as_str())
            .fact("family", self.family)
            .fact("group", self.group)
            .fact("carbons", self.carbons);
        self.molecule.render().above(&facts.render())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_formulas_are_those_of_the_books() -> Result<()> {
        let known = [
            ("alkane", 1, "methane", "CH4"),
            ("alkene", 2, "ethene", "C2H4"),
            ("alkene", 4, "but-1-ene", "C4H8"),
            ("alkyne", 3, "propyne", "C3H4"),
            ("alcohol", 2, "ethanol", "C2H6O"),
            ("alcohol", 3, "propan-1-ol", "C3H8O"),
            ("thiol", 3, "propane-1-thiol", "C3H8S"),
            ("amine", 4, "butan-1-amine", "C4H11N"),
            ("aldehyde", 1, "methanal", "CH2O"),
            ("ketone", 3, "propanone", "C3H6O"),
            ("ketone", 5, "pentan-2-one", "C5H10O"),
            ("acid", 2, "ethanoic acid", "C2H4O2"),
            ("acid", 1, "methanoic acid", "CH2O2"),
            ("amide", 2, "ethanamide", "C2H5NO"),
            ("nitrile", 2, "ethanenitrile", "C2H3N"),
            ("chloride", 3, "1-chloropropane", "C3H7Cl"),
            ("cycloalkane", 6, "cyclohexane", "C6H12"),
            ("arene", 1, "methylbenzene", "C7H8"),
        ];
        for (family, carbons, name, formula) in known {
            let made = OrganicMolecule::new(family, carbons)?;
            assert_eq!(
                (made.name.as_str(), made.molecule.formula().as_str()),
                (name, formula)
            );
        }
        let all = OrganicMolecule::all()?;
        let mut names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all.len());
        assert!(
            OrganicMolecule::new("ketone", 2).is_err() && OrganicMolecule::new("ester", 2).is_err()
        );
        assert_eq!(
            OrganicMolecule::generated(1, 5)?,
            OrganicMolecule::generated(1, 5)?
        );
        assert_eq!(spaced("C10H22ClN"), "C 10 H 22 Cl N");
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let said = OrganicMolecule::new("alcohol", 3)?.sentence(&mut rng);
        assert!(
            said.contains("alcohol") && said.contains("propan-1-ol"),
            "{said}"
        );
        Ok(())
    }
}

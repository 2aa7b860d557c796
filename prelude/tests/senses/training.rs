//! Encoders of other senses in a model: tokens for each atom, gradients everywhere, trained, looked into, saved and read again.

use crate::Outcome;
use glassbox_prelude::prelude::*;

/// The tiny language model behind an encoder that trains with its projector; no LoRA on the encoder.
pub fn model(encoder: impl Into<Encoder>) -> Result<Vlm> {
    let settings = VlmSettings {
        vit_lora: None,
        train_encoder: true,
        ..VlmSettings::tiny()
    };
    Vlm::from_pretrained(
        &Preset::tiny().settings(settings).encoder(encoder),
        &Device::Cpu,
    )
}

/// Validation loss before and after a short training.
pub fn train(
    vlm: &Vlm,
    train: &dyn TrainingSet,
    val: &dyn TrainingSet,
    steps: usize,
) -> Result<(f64, f64)> {
    let config = TrainerConfig {
        batch_size: 4,
        steps,
        validate_every: 0,
        validation_samples: 12,
        loss: LossKind::FullSequence,
        ..TrainerConfig::tour()
    };
    let measured = Trainer::new(config)?.fit(vlm, train, val)?.validation;
    measured.ok_or_else(|| Error::Input("nothing was measured".into()))
}

/// Everything that trains has a gradient, nothing else has.
pub fn check_gradients(vlm: &Vlm, prompts: &[Prompt]) -> Result<()> {
    let grads = vlm
        .full_sequence_loss_of(&prompts.to_vec())?
        .loss
        .backward()?;
    for parameter in vlm.named_parameters() {
        let gradient = grads.get(&parameter.tensor);
        let length = gradient
            .map(|gradient| gradient.sqr()?.sum_all()?.to_scalar::<f32>())
            .transpose()?;
        assert_eq!(
            parameter.is_trainable(),
            length.is_some_and(|length| length > 0.0),
            "{}: {length:?}",
            parameter.name
        );
    }
    Ok(())
}

/// What an encoder says of one input, `[P][D]`.
pub fn encoded(encoder: &dyn Modality, input: &Tensor) -> Result<Vec<Vec<f32>>> {
    Ok(encoder.encode(input)?.squeeze(0)?.to_vec2::<f32>()?)
}

pub fn furthest(a: &[f32], b: &[f32]) -> f32 {
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

const MOLECULES: [&str; 8] = [
    "CC(=O)Oc1ccccc1C(=O)O",
    "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
    "C",
    "[Na+].[Cl-]",
    "C[N+](C)(C)CC(=O)[O-]",
    "CC#N",
    "C1CC2CCC1CC2",
    "FS(F)(F)(F)(F)F",
];

#[test]
fn atoms_in_another_order_give_the_same_vectors_in_that_order() -> Outcome {
    let graph = GraphEncoder::new_random(GraphKind::Molecules, 24, 3, 3, &Device::Cpu)?;
    let minimol = Minimol::new_random(4, &Device::Cpu)?;
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    for smiles in MOLECULES {
        let molecule = Molecule::from_smiles(smiles)?;
        let mut order: Vec<usize> = (0..molecule.atoms().len()).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, rng.random_range(0..=at));
        }
        let other = molecule.reordered(&order)?;
        let (one, two) = (
            encoded(&graph, &molecule.tensor(&Device::Cpu)?)?,
            encoded(&graph, &other.tensor(&Device::Cpu)?)?,
        );
        for (new, old) in order.iter().enumerate() {
            assert!(furthest(&two[new], &one[*old]) < 1e-5, "{smiles}");
        }
        // MiniMol too, for an input whose rows are put in another order.
        let input = minimol.input_of(&molecule)?; // [1, N, 9 + N, 13]
        let rows = Tensor::new(
            order.iter().map(|at| *at as u32).collect::<Vec<_>>(),
            &Device::Cpu,
        )?;
        let columns: Vec<u32> = (0..9)
            .chain(order.iter().map(|at| 9 + *at as u32))
            .collect();
        let columns = Tensor::new(columns, &Device::Cpu)?;
        let turned = input.index_select(&rows, 1)?.index_select(&columns, 2)?;
        let (one, two) = (encoded(&minimol, &input)?, encoded(&minimol, &turned)?);
        for (new, old) in order.iter().enumerate() {
            assert!(
                furthest(&two[new], &one[*old]) < 1e-4,
                "{smiles}: {}",
                furthest(&two[new], &one[*old])
            );
        }
        assert!(minimol.render_input(&input)?.plain().contains("nodes"));
    }
    Ok(())
}

#[test]
fn a_batch_of_molecules_gives_what_each_gives_alone_and_bonds_matter() -> Outcome {
    let encoder = GraphEncoder::new_random(GraphKind::Molecules, 24, 2, 3, &Device::Cpu)?;
    let same_size = ["CCO", "C=CN", "[Na+].[Cl-].C", "C#CC"];
    let inputs = same_size
        .iter()
        .map(|smiles| Molecule::from_smiles(smiles)?.tensor(&Device::Cpu));
    let inputs: Vec<Tensor> = inputs.collect::<Result<_>>()?;
    let together = encoder.encode(&Tensor::cat(&inputs, 0)?)?;
    for (at, input) in inputs.iter().enumerate() {
        let alone = encoder.encode(input)?.flatten_all()?.to_vec1::<f32>()?;
        let among = together.narrow(0, at, 1)?.flatten_all()?.to_vec1::<f32>()?;
        assert!(furthest(&alone, &among) < 1e-5);
    }
    let (one, two) = (
        Molecule::from_smiles("CCC=O")?,
        Molecule::from_smiles("C=CCO")?,
    );
    let (one, two) = (
        encoded(&encoder, &one.tensor(&Device::Cpu)?)?,
        encoded(&encoder, &two.tensor(&Device::Cpu)?)?,
    );
    assert!(furthest(&one[0], &two[0]) > 1e-3);
    Ok(())
}

#[test]
fn inputs_that_are_no_graphs_are_refused_by_what_is_wrong() -> Outcome {
    let encoder = GraphEncoder::new_random(GraphKind::Molecules, 24, 2, 3, &Device::Cpu)?;
    let whole = Molecule::from_smiles("CCO")?;
    let input = whole.tensor(&Device::Cpu)?;
    let empty = Tensor::zeros((1, 0, 5, 4), DType::F32, &Device::Cpu)?;
    assert!(matches!(encoder.encode(&empty), Err(Error::NoNodes { .. })));
    let narrow = input.narrow(2, 0, 7)?;
    assert!(matches!(encoder.encode(&narrow), Err(Error::Input(_))));
    for value in [f32::NAN, f32::INFINITY] {
        for column in [0, 6] {
            let mut values = input.flatten_all()?.to_vec1::<f32>()?;
            values[column * 4] = value;
            let bad = Tensor::from_vec(values, input.dims(), &Device::Cpu)?;
            let error = encoder.encode(&bad).map(|_| ()).unwrap_err();
            assert!(matches!(error, Error::NotANumber { .. }), "{error}");
        }
    }
    let mut graph = whole.graph();
    graph.features[1][0] = f32::NAN;
    assert!(matches!(
        graph.tensor(&Device::Cpu),
        Err(Error::NotANumber { .. })
    ));
    let mut graph = whole.graph();
    graph.edges[0].to = 9;
    assert!(matches!(graph.tensor(&Device::Cpu), Err(Error::Input(_))));
    let mut graph = whole.graph();
    (graph.features, graph.labels, graph.edges) = (vec![], vec![], vec![]);
    assert!(matches!(
        graph.tensor(&Device::Cpu),
        Err(Error::NoNodes { .. })
    ));
    let long = Molecule::from_smiles(&"C".repeat(513))?;
    assert!(
        long.tensor(&Device::Cpu)
            .unwrap_err()
            .to_string()
            .contains("512")
    );
    // A picture where molecules are read, and the other way.
    let vlm = model(encoder)?;
    let image = Image::filled(20, 20, [9; 3])?;
    assert!(matches!(
        vlm.generate(&image),
        Err(Error::Unsupported { .. })
    ));
    assert!(matches!(
        Vlm::tiny(&Device::Cpu)?.generate(&whole),
        Err(Error::Unsupported { .. })
    ));
    // A projector that needs a grid.
    let settings = VlmSettings {
        vit_lora: None,
        projector: ProjectorKind::PixelShuffle { factor: 2 },
        ..VlmSettings::tiny()
    };
    let encoder = GraphEncoder::new_random(GraphKind::Molecules, 24, 2, 3, &Device::Cpu)?;
    let refused = Vlm::from_pretrained(
        &Preset::tiny().settings(settings).encoder(encoder),
        &Device::Cpu,
    );
    assert!(
        refused
            .map(|_| ())
            .unwrap_err()
            .to_string()
            .contains("another projector")
    );
    Ok(())
}

/// Chains that end in an alcohol, an acid or an amine, of many lengths, each called by a colour.
fn chains(lengths: std::ops::Range<usize>) -> Result<Vec<Example>> {
    let mut all = Vec::new();
    for length in lengths {
        for (end, colour) in [("O", "red"), ("C(=O)O", "green"), ("N", "blue")] {
            let molecule = Molecule::from_smiles(&format!("{}{end}", "C".repeat(length)))?;
            all.push(Example::new(&molecule, format!("a {colour} circle")));
        }
    }
    Ok(all)
}

#[test]
fn a_model_of_molecules_of_many_sizes_learns_is_looked_into_and_saved() -> Outcome {
    let encoder = |seed| GraphEncoder::new_random(GraphKind::Molecules, 32, 2, seed, &Device::Cpu);
    let vlm = model(encoder(1)?)?;
    let prompts = ["CCO", "CC(=O)Oc1ccccc1"]
        .map(|smiles| vlm.caption_prompt(&Molecule::from_smiles(smiles)?, "a red circle"))
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let (examples, held_out) = (chains(1..9)?, chains(9..12)?);
    let (before, after) = train(&vlm, &examples, &held_out, 100)?;
    assert!(after < 0.3 * before, "{before} → {after}");
    check_gradients(&vlm, &prompts)?;
    let unseen = Molecule::from_smiles("CCCCCCCCCCCCCC(=O)O")?;
    let said = vlm.generate(&unseen)?.max_new_tokens(4).run()?.text;
    assert_eq!(said.trim(), "a green circle");
    // Looked into.
    let input = unseen.tensor(&Device::Cpu)?;
    let trace = trace_caption(&vlm, &unseen, "a green circle")?;
    assert!(trace.warnings().is_empty(), "{:?}", trace.warnings());
    assert!(
        vlm.render_input(&unseen)?.plain().contains("16 edges")
            || vlm.render_input(&unseen)?.plain().contains("15 edges")
    );
    let weighed = vlm
        .image_encoder
        .render_positions(&input, "weights", &[0.5; 16])?;
    assert!(weighed.plain().contains("weights") || weighed.plain().contains("16 nodes"));
    assert!(
        caption_ledger(&vlm, &unseen, "a green circle")?
            .errors()
            .is_empty()
    );
    assert!(vlm.table().render().plain().contains("GraphEncoder"));
    let attention = input_attention(&vlm, &unseen, "a green circle")?;
    assert_eq!(
        (attention.positions.len(), attention.positions[15].as_str()),
        (16, "O15")
    );
    assert!(attention.weights.iter().all(|row| row.len() == 16
        && row.iter().sum::<f32>() <= 1.001
        && row.iter().all(|value| *value >= 0.0)));
    assert!(
        attention.render().plain().contains("16 nodes"),
        "{}",
        attention.render().plain()
    );
    // Saved whole, read onto another of its kind.
    let folder = tempfile::tempdir()?;
    vlm.save(folder.path())?;
    let again = Vlm::from_pretrained(
        &Preset::fine_tune(folder.path())?.encoder(encoder(7)?),
        &Device::Cpu,
    )?;
    assert_eq!(again.generate(&unseen)?.max_new_tokens(4).run()?.text, said);
    assert_eq!(
        again
            .image_tokens(&input)?
            .flatten_all()?
            .to_vec1::<f32>()?,
        vlm.image_tokens(&input)?.flatten_all()?.to_vec1::<f32>()?
    );
    Ok(())
}

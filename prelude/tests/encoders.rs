//! Every encoder in a model's first place: a frozen CLIP tower under each projector, and one of the test's own that reads
//! spectra. Both train through the real trainer, generate, are looked into, saved and read again.

use std::path::{Path, PathBuf};

use glassbox_prelude::inspect::{encoder_attention, token_attention};
use glassbox_prelude::nn::parameter::Parameter;
use glassbox_prelude::prelude::*;
use glassbox_prelude::train::TrainingSet;
use glassbox_prelude::vlm::LossOutput;

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;

/// A tower's folder as on the hub: the fixture with an image processor of its size.
fn folder_of(tower: &str, processor: &str) -> std::io::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/towers")
        .join(tower);
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(fixture.join(file), folder.path().join(file))?;
    }
    std::fs::write(folder.path().join("preprocessor_config.json"), processor)?;
    Ok(folder)
}

/// CLIP's own settings, for pictures of 12 pixels.
fn clip() -> std::io::Result<tempfile::TempDir> {
    folder_of(
        "clip",
        r#"{"do_resize": true, "size": {"shortest_edge": 12}, "resample": 3, "do_center_crop": true,
            "crop_size": {"height": 12, "width": 12}, "do_rescale": true, "do_normalize": true,
            "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}"#,
    )
}

fn name(folder: &tempfile::TempDir) -> String {
    folder.path().display().to_string()
}

/// The tiny language model's settings with the encoder frozen.
fn frozen_encoder(projector: ProjectorKind) -> VlmSettings {
    VlmSettings {
        vit_lora: None,
        projector,
        ..VlmSettings::tiny()
    }
}

/// Only the projector trains: what the loss gains comes through the image tokens.
fn projector_alone(projector: ProjectorKind) -> VlmSettings {
    VlmSettings {
        llm_lora: None,
        prompt_vectors: PromptVectors::Fixed,
        ..frozen_encoder(projector)
    }
}

fn with_clip(folder: &tempfile::TempDir, settings: VlmSettings) -> Result<Vlm> {
    let preset = Preset::pair(name(folder), BaseModels::TINY).settings(settings);
    Vlm::from_pretrained(&preset, &Device::Cpu)
}

fn projectors() -> [ProjectorKind; 3] {
    [
        ProjectorKind::Mlp2xGelu,
        ProjectorKind::PixelShuffle { factor: 3 },
        ProjectorKind::PerceiverResampler {
            latents: 3,
            layers: 1,
            heads: 2,
            head_dim: 8,
        },
    ]
}

struct Pictures {
    _folder: tempfile::TempDir,
    train: CocoCaptions,
    val: CocoCaptions,
}

fn pictures() -> std::result::Result<Pictures, Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let shapes = Shapes::new(ShapesConfig {
        image_size: 32,
        ..ShapesConfig::default()
    })?;
    shapes.write_coco(folder.path(), 24, 8)?;
    Ok(Pictures {
        train: CocoCaptions::open(folder.path(), Split::Train)?,
        val: CocoCaptions::open(folder.path(), Split::Val)?,
        _folder: folder,
    })
}

/// Validation loss before and after a short training.
fn train(
    vlm: &Vlm,
    (train, val): (&dyn TrainingSet, &dyn TrainingSet),
    loss: LossKind,
    steps: usize,
) -> Result<(f64, f64)> {
    let config = TrainerConfig {
        batch_size: 4,
        steps,
        validate_every: 0,
        validation_samples: 8,
        loss,
        ..TrainerConfig::tour()
    };
    let report = Trainer::new(config)?.fit(vlm, train, val)?;
    let measured = report.validation;
    measured.ok_or_else(|| Error::Input("nothing was measured".into()))
}

/// Every parameter with the length of its gradient.
fn gradients(vlm: &Vlm, out: &LossOutput) -> Result<Vec<(Parameter, Option<f32>)>> {
    let grads = out.loss.backward()?;
    let length = |p: &Parameter| -> Result<Option<f32>> {
        let gradient = grads.get(&p.tensor);
        gradient
            .map(|g| Ok(g.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt()))
            .transpose()
    };
    let all = vlm.named_parameters().into_iter();
    all.map(|p| Ok((p.clone(), length(&p)?))).collect()
}

/// Everything that trains has a gradient, nothing else has.
fn check_gradients(vlm: &Vlm, out: &LossOutput) -> Result<()> {
    for (parameter, length) in gradients(vlm, out)? {
        assert_eq!(
            parameter.is_trainable(),
            length.is_some_and(|length| length > 0.0),
            "{}: {length:?}",
            parameter.name
        );
        assert!(parameter.is_trainable() || length.is_none());
    }
    Ok(())
}

/// Greedy, drawn and beams: the same ids with cache and without, alone and in a batch.
fn check_generation(vlm: &Vlm, inputs: &[Tensor]) -> Result<()> {
    let batch = Tensor::cat(inputs, 0)?;
    let ask = |input: &Tensor| vlm.generate_from(input).max_new_tokens(6).seed(3);
    let kinds: [fn(Generate) -> Generate; 3] = [
        |greedy| greedy,
        |drawn| drawn.temperature(1.0).top_k(20),
        |beams| beams.num_beams(3),
    ];
    for (number, kind) in kinds.into_iter().enumerate() {
        let cached = kind(ask(&batch)).run_all()?;
        let again = kind(ask(&batch)).without_cache().run_all()?;
        for (cached, again) in cached.iter().zip(&again) {
            assert_eq!(cached.ids, again.ids, "kind {number}");
        }
        let alone = kind(ask(&inputs[0])).run()?;
        assert_eq!(alone.ids, cached[0].ids, "kind {number}");
    }
    Ok(())
}

/// Logits after the prompt, `[B, V]`.
fn logits(vlm: &Vlm, input: &Tensor) -> Result<Vec<Vec<f32>>> {
    let sequence = vlm.concatenate(&vlm.image_tokens(input)?, &Query::Vector, &[])?;
    Ok(vlm.forward(&sequence)?.logits()?.to_vec2::<f32>()?)
}

const RAGGED: [&str; 2] = ["a red circle", "two blue squares and a small green star"];

#[test]
fn a_projector_learns_to_read_a_frozen_clip_through_the_trainer() -> Outcome {
    let (folder, pictures) = (clip()?, pictures()?);
    let (full, random) = (LossKind::FullSequence, LossKind::RandomPrefix);
    let [mlp, shuffle, perceiver] = projectors();
    for (kind, loss, steps) in [
        (mlp, full, 50),
        (mlp, random, 120),
        (shuffle, full, 50),
        (perceiver, full, 50),
    ] {
        let vlm = with_clip(&folder, projector_alone(kind))?;
        let trained = vlm.trainable_parameters();
        assert!(trained.iter().all(|p| p.name.starts_with("projector.")));
        // Measured on the same pictures: what a random CLIP says of others is another matter.
        let (before, after) = train(&vlm, (&pictures.train, &pictures.train), loss, steps)?;
        assert!(
            after < before - 0.03,
            "{kind:?} {loss:?}: {before} → {after}"
        );
    }
    Ok(())
}

#[test]
fn everything_that_trains_beside_a_clip_gets_a_gradient_and_the_clip_none() -> Outcome {
    let (folder, pictures) = (clip()?, pictures()?);
    let captions = RAGGED.map(String::from);
    for kind in projectors() {
        let vlm = with_clip(&folder, frozen_encoder(kind))?;
        // LoRA's A has no gradient before B has moved.
        train(
            &vlm,
            (&pictures.train, &pictures.val),
            LossKind::FullSequence,
            1,
        )?;
        let images = [0, 1].map(|index| Ok(pictures.train.sample(index)?.image));
        let images = images.into_iter().collect::<Result<Vec<_>>>()?;
        let pixels = vlm.image_processor.preprocess_batch(&images)?;
        assert_eq!(pixels.dims(), [2, 3, 12, 12]);
        check_gradients(&vlm, &vlm.full_sequence_loss(&pixels, &captions)?)?;
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        check_gradients(&vlm, &vlm.random_prefix_loss(&pixels, &captions, &mut rng)?)?;

        let ledger = caption_ledger(&vlm, &images[0], RAGGED[1])?;
        assert!(ledger.errors().is_empty(), "{:?}", ledger.errors());
        let tower = ledger.entries().iter();
        let tower: Vec<_> = tower
            .filter(|e| e.name.starts_with("image_encoder."))
            .collect();
        assert!(tower.len() > 20 && tower.iter().all(|e| e.state == LedgerState::Frozen));
        let inputs = images.iter().map(|image| image.prepare(&vlm));
        check_generation(&vlm, &inputs.collect::<Result<Vec<_>>>()?)?;
    }
    Ok(())
}

#[test]
fn a_clip_can_be_looked_into() -> Outcome {
    let (folder, pictures) = (clip()?, pictures()?);
    let image = pictures.val.sample(0)?.image;
    let vlm = with_clip(&folder, frozen_encoder(ProjectorKind::Mlp2xGelu))?;
    let trace = trace_caption(&vlm, &image, RAGGED[0])?.render();
    for stage in [
        "pixel_values",
        "hidden_states[2]",
        "image features",
        "llm/hidden",
    ] {
        assert!(trace.plain().contains(stage), "{stage}");
    }
    let maps = caption_attention(&vlm, &image, RAGGED[0])?;
    assert_eq!(maps.len(), 1 + vlm.caption_ids(RAGGED[0])?.len());
    assert!(maps.iter().all(|map| map.values().len() == 9));
    assert!(maps[0].render().plain().contains("rollout from CLS"));
    let attentions = vlm.image_encoder.attentions(&image.prepare(&vlm)?)?;
    assert_eq!(attentions.len(), 2);
    for map in attentions {
        assert_eq!(map.dims(), [1, 2, 10, 10]);
        let sums = map.sum(D::Minus1)?.flatten_all()?.to_vec1::<f32>()?;
        assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-5), "{sums:?}");
    }
    let black = Image::filled(32, 32, [0; 3])?;
    let losses = [
        ("its picture".to_owned(), image.clone()),
        ("black".to_owned(), black),
    ];
    assert_eq!(caption_losses(&vlm, RAGGED[0], &losses)?.means().len(), 2);
    assert_eq!(
        caption_occlusion(&vlm, &image, RAGGED[0], 2)?
            .values()
            .len(),
        4
    );
    let lens = caption_lens(&vlm, &image, RAGGED[0])?;
    assert_eq!(lens.depth(), vlm.llm.layers.len() + 1);
    assert!(vlm.render_input(&image)?.plain().contains("12"));
    let table = vlm.table().render();
    assert!(table.plain().contains("image_encoder (clip_vision_model)"));
    assert!(
        vlm.image_encoder
            .render()
            .plain()
            .contains("encoder.layers.1")
    );

    // Nine patches become one token, or three latents: one has a place, the others none.
    let shuffled = with_clip(&folder, frozen_encoder(projectors()[1]))?;
    let maps = token_attention(&shuffled, &image, RAGGED[0])?;
    assert!(maps.iter().all(|map| map.values().len() == 1));
    let resampled = with_clip(&folder, frozen_encoder(projectors()[2]))?;
    let error = token_attention(&resampled, &image, RAGGED[0]).unwrap_err();
    assert!(error.to_string().contains("no place"), "{error}");
    encoder_attention(&resampled, &image)?;
    Ok(())
}

#[test]
fn a_fine_tune_of_a_clip_finds_it_again() -> Outcome {
    let (folder, pictures) = (clip()?, pictures()?);
    let pixels = |vlm: &Vlm| pictures.val.sample(0)?.image.prepare(vlm);
    for kind in projectors() {
        let settings = VlmSettings {
            vit_lora: Some(LoraConfig::new(2, 4.0, &["q_proj", "v_proj"])),
            ..frozen_encoder(kind)
        };
        let vlm = with_clip(&folder, settings)?;
        train(
            &vlm,
            (&pictures.train, &pictures.val),
            LossKind::FullSequence,
            3,
        )?;
        let saved = tempfile::tempdir()?;
        vlm.save(saved.path())?;
        let preset = Preset::fine_tune(saved.path())?;
        assert_eq!(preset.base.llm, BaseModels::TINY);
        assert_eq!(
            PathBuf::from(&preset.base.image_encoder),
            folder.path().canonicalize()?
        );
        let again = Vlm::from_pretrained(&preset, &Device::Cpu)?;
        assert_eq!(again.settings, vlm.settings);
        assert_eq!(
            logits(&again, &pixels(&again)?)?,
            logits(&vlm, &pixels(&vlm)?)?
        );
        // PEFT's config says which model the adapter is for, where that is one that PEFT could load.
        let adapter = |part: &str| -> std::io::Result<serde_json::Value> {
            let file = saved.path().join(part).join("adapter_config.json");
            Ok(serde_json::from_slice(&std::fs::read(file)?)?)
        };
        let base = &adapter("vit_adapter")?["base_model_name_or_path"];
        assert_eq!(base.as_str(), Some(&*preset.base.image_encoder));
        assert!(adapter("llm_adapter")?["base_model_name_or_path"].is_null());

        let error = Vlm::tiny(&Device::Cpu)?
            .load_fine_tune(saved.path())
            .unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("clip_vision_model") && message.contains("vit"),
            "{message}"
        );
    }
    Ok(())
}

#[test]
fn siglip_and_dinov2_load_by_name_too() -> Outcome {
    let (siglip, dinov2) = (
        folder_of(
            "siglip",
            r#"{"size": {"height": 12, "width": 12}, "resample": 3}"#,
        )?,
        // Stored for another size: its position embeddings are fitted to the processor's.
        folder_of(
            "dinov2",
            r#"{"size": {"shortest_edge": 14}, "do_center_crop": true,
            "crop_size": {"height": 12, "width": 12}, "resample": 3}"#,
        )?,
    );
    let image = Image::filled(30, 40, [200, 30, 40])?;
    for (folder, kind, special) in [(&siglip, "siglip_vision_model", 0), (&dinov2, "dinov2", 1)] {
        let settings = frozen_encoder(ProjectorKind::Mlp2xGelu);
        let vlm = with_clip(folder, settings)?;
        assert_eq!(vlm.image_encoder.kind(), kind);
        let positions = vlm.image_encoder.positions();
        assert_eq!((positions.special, positions.rows), (special, 3));
        let tokens = vlm.image_tokens(&image.prepare(&vlm)?)?;
        assert_eq!(tokens.dim(1)?, positions.count());
        assert_eq!(encoder_attention(&vlm, &image)?.values().len(), 9);
        // The processor that the tower itself asks for gives pictures of its size as well.
        let given = Vlm::tiny(&Device::Cpu)?.for_encoder(vlm.image_encoder.clone(), 0)?;
        assert_eq!(image.prepare(&given)?.dims(), image.prepare(&vlm)?.dims());
        assert_eq!(given.settings.base, vlm.settings.base);
    }
    Ok(())
}

/// An encoder of the test's own: 64 values of a spectrum in 8 bands of 8, one linear layer.
#[derive(Clone, Debug)]
struct Spectrum {
    bands: Linear,
    places: Weight,
}

impl Spectrum {
    fn new(seed: u64) -> Result<Self> {
        let weights = Checkpoint::random(seed, DType::F32, &Device::Cpu);
        Ok(Self {
            bands: Linear::load(&weights, "bands", (8, 24), true)?,
            places: weights.weight("places", &[1, 8, 24], Init::Normal(0.5))?,
        })
    }
}

impl Network for Spectrum {
    fn visit(&self, visitor: &mut dyn FnMut(Part<'_>)) {
        visitor(Part::Linear(&self.bands));
        visitor(Part::Weight(&self.places));
    }

    fn visit_mut(&mut self, visitor: &mut dyn FnMut(PartMut<'_>) -> Result<()>) -> Result<()> {
        visitor(PartMut::Linear(&mut self.bands))?;
        visitor(PartMut::Weight(&mut self.places))
    }
}

impl Modality for Spectrum {
    fn encode(&self, input: &Tensor) -> Result<Tensor> {
        let bands = self.bands.forward(&input.reshape(((), 8, 8))?)?; // [B, 8, D]
        gelu(&bands.broadcast_add(self.places.tensor())?)
    }

    fn dim(&self) -> usize {
        self.bands.output()
    }

    fn positions(&self) -> Positions {
        Positions::sequence(8)
    }

    fn input_axes(&self) -> &'static [&'static str] {
        &["B", "N"]
    }

    fn render_input(&self, input: &Tensor) -> Result<MimeBundle> {
        let values = input.flatten_all()?.to_vec1::<f32>()?;
        let plot = LinePlot::new("spectrum").axes("band", "energy");
        Ok(plot.values("", &values).render())
    }
}

/// Spectra with one peak in each of three regions, which a colour stands for, and noise.
fn spectra(count: usize, seed: u64) -> Result<Vec<(Tensor, Vec<String>)>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let one = |number: usize| {
        let region = number % 3;
        let peak = (region * 21) as f32 + rng.random_range(6.0..16.0f32);
        let values = (0..64).map(|x| {
            let near = (x as f32 - peak) / 3.0;
            (-near * near).exp() + rng.random_range(0.0..0.1f32)
        });
        let values = Tensor::from_vec(values.collect::<Vec<f32>>(), (1, 64), &Device::Cpu)?;
        let colour = ["red", "green", "blue"][region];
        Ok((values, vec![format!("a {colour} circle")]))
    };
    (0..count).map(one).collect()
}

fn with_spectrum(seed: u64) -> Result<Vlm> {
    let settings = VlmSettings {
        train_encoder: true,
        ..frozen_encoder(ProjectorKind::Mlp2xGelu)
    };
    let preset = Preset::tiny()
        .settings(settings)
        .encoder(Spectrum::new(seed)?);
    Vlm::from_pretrained(&preset, &Device::Cpu)
}

#[test]
fn an_encoder_of_spectra_learns_to_describe_them() -> Outcome {
    let vlm = with_spectrum(1)?;
    let (examples, held_out) = (spectra(60, 1)?, spectra(9, 2)?);
    let (before, after) = train(&vlm, (&examples, &held_out), LossKind::FullSequence, 220)?;
    assert!(after < 0.2 * before, "{before} → {after}");
    for (spectrum, captions) in &held_out {
        assert_eq!(vlm.generate(spectrum)?.run()?.text.trim(), captions[0]);
    }
    let inputs: Vec<Tensor> = held_out
        .iter()
        .map(|(spectrum, _)| spectrum.clone())
        .collect();
    check_generation(&vlm, &inputs[..2])?;
    let both = Tensor::cat(&inputs[..2], 0)?;
    check_gradients(
        &vlm,
        &vlm.full_sequence_loss(&both, &RAGGED.map(String::from))?,
    )?;

    // Looked at like a picture's model.
    let (input, caption) = (&inputs[0], &held_out[0].1[0]);
    assert!(
        vlm.render_input(input)?
            .html()
            .is_some_and(|html| html.contains("svg"))
    );
    let trace = trace_caption(&vlm, input, caption)?;
    assert!(trace.warnings().is_empty(), "{:?}", trace.warnings());
    assert!(trace.render().plain().contains("[B 1, N 64]"));
    assert!(caption_ledger(&vlm, input, caption)?.errors().is_empty());
    assert!(
        vlm.table()
            .render()
            .plain()
            .contains("image_encoder (Spectrum)")
    );
    let inputs = [
        ("its own".to_owned(), input.clone()),
        ("silence".to_owned(), input.zeros_like()?),
    ];
    let means = caption_losses(&vlm, caption, &inputs)?.means();
    assert!(means[0].1 < means[1].1, "{means:?}");

    // Saved whole, and read onto a fresh encoder of the same kind.
    let saved = tempfile::tempdir()?;
    vlm.save(saved.path())?;
    let preset = Preset::fine_tune(saved.path())?;
    assert!(preset.render().plain().contains("Spectrum"));
    let message = Vlm::from_pretrained(&preset, &Device::Cpu)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("Spectrum") && message.contains(".encoder("),
        "{message}"
    );
    let again = Vlm::from_pretrained(&preset.encoder(Spectrum::new(7)?), &Device::Cpu)?;
    assert_eq!(logits(&again, &both)?, logits(&vlm, &both)?);
    assert_eq!(again.settings, vlm.settings);
    assert_eq!(
        again.trainable_parameters().len(),
        vlm.trainable_parameters().len()
    );
    Ok(())
}

#[test]
fn what_an_own_encoder_lacks_is_said() -> Outcome {
    let vlm = Vlm::tiny(&Device::Cpu)?.for_encoder(Spectrum::new(1)?, 0)?;
    assert!(
        vlm.image_encoder
            .named_parameters()
            .iter()
            .all(|p| !p.is_trainable())
    );
    let image = Image::filled(20, 20, [9; 3])?;
    let unsupported = |error: Error, words: &str| {
        assert!(
            matches!(&error, Error::Unsupported { encoder, .. } if encoder == "Spectrum"),
            "{error}"
        );
        assert!(error.to_string().contains(words), "{error}");
    };
    unsupported(vlm.generate(&image).unwrap_err(), "[B, N]");
    unsupported(
        trace_caption(&vlm, &image, RAGGED[0]).unwrap_err(),
        "pictures",
    );
    let input = Tensor::zeros((1, 64), DType::F32, &Device::Cpu)?;
    unsupported(
        vlm.image_encoder.attentions(&input).unwrap_err(),
        "attention maps",
    );
    unsupported(vlm.image_encoder.vit().unwrap_err(), "ViT");
    let square = VlmSettings {
        projector: ProjectorKind::PixelShuffle { factor: 2 },
        ..frozen_encoder(ProjectorKind::Linear)
    };
    let preset = Preset::tiny().settings(square).encoder(Spectrum::new(1)?);
    let error = Vlm::from_pretrained(&preset, &Device::Cpu).unwrap_err();
    assert!(error.to_string().contains("1 × 8"), "{error}");
    let ragged = vec![
        (input.clone(), vec![RAGGED[0].to_owned()]),
        (
            Tensor::zeros((1, 32), DType::F32, &Device::Cpu)?,
            vec![RAGGED[1].to_owned()],
        ),
    ];
    let none: Vec<(Tensor, Vec<String>)> = Vec::new();
    for (set, words) in [(&ragged, "one batch"), (&none, "empty")] {
        let error = train(&vlm, (set, set), LossKind::FullSequence, 1).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }

    // Frozen, its weights are part of the base: another draw is another base.
    let saved = tempfile::tempdir()?;
    vlm.save(saved.path())?;
    let other = Preset::fine_tune(saved.path())?.encoder(Spectrum::new(2)?);
    let error = Vlm::from_pretrained(&other, &Device::Cpu).unwrap_err();
    assert!(
        error.to_string().contains("another image encoder"),
        "{error}"
    );
    let same = Preset::fine_tune(saved.path())?.encoder(Spectrum::new(1)?);
    let again = Vlm::from_pretrained(&same, &Device::Cpu)?;
    assert_eq!(logits(&again, &input)?, logits(&vlm, &input)?);
    Ok(())
}

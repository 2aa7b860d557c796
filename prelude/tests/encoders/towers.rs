//! CLIP, SigLIP and DINOv2 in a model's first place.

use std::path::{Path, PathBuf};

use glassbox_prelude::prelude::*;

use super::{Outcome, RAGGED, check_generation, check_gradients, frozen_encoder, logits, train};

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

/// Only the projector trains: what the loss gains comes through the image tokens.
fn projector_alone(projector: ProjectorKind) -> VlmSettings {
    VlmSettings {
        llm_lora: None,
        prompt_vectors: PromptVectors::Fixed,
        ..frozen_encoder(projector)
    }
}

fn with_tower(folder: &tempfile::TempDir, settings: VlmSettings) -> Result<Vlm> {
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

#[test]
fn a_projector_learns_to_read_a_frozen_clip_through_the_trainer() -> Outcome {
    let (folder, pictures) = (clip()?, pictures()?);
    let (full, random) = (LossKind::FullSequence, LossKind::RandomPrefix);
    let [mlp, shuffle, perceiver] = projectors();
    for (kind, loss, steps) in [
        (mlp, full, 50),
        (mlp, random, 120),
        (shuffle, full, 100),
        (perceiver, full, 50),
    ] {
        let vlm = with_tower(&folder, projector_alone(kind))?;
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
        let vlm = with_tower(&folder, frozen_encoder(kind))?;
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
    let vlm = with_tower(&folder, frozen_encoder(ProjectorKind::Mlp2xGelu))?;
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
    let shuffled = with_tower(&folder, frozen_encoder(projectors()[1]))?;
    let maps = token_attention(&shuffled, &image, RAGGED[0])?;
    assert!(maps.iter().all(|map| map.values().len() == 1));
    let resampled = with_tower(&folder, frozen_encoder(projectors()[2]))?;
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
        let vlm = with_tower(&folder, settings)?;
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
        let vlm = with_tower(folder, settings)?;
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

//! Encoders besides the first: LoRA on them, parts of them that train, and fine-tunes that come back with them, by name or from code.

use super::*;
use crate::nn::Network;
use crate::train::{Trainer, TrainerConfig};

const NAME: &str = "close-up";
const LORA: &str = "other_encoders.close-up.encoder";

fn second(seed: u64) -> Result<Vit> {
    Vit::new_random(&ViTConfig::new(24, 8, 12, 24, 2, 2), seed, &Device::Cpu)
}

fn with_second(seed: u64) -> Result<Vlm> {
    let mut vlm = vlm(VlmSettings::tiny())?;
    vlm.add_encoder(NAME, second(seed)?, ProjectorKind::Linear, 7)?;
    Ok(vlm)
}

fn prompt(vlm: &Vlm) -> Result<Prompt> {
    let [red, green]: [Image; 2] = pictures(2)?.try_into().expect("two");
    Ok(Prompt::new()
        .input(&red.prepare(vlm)?)
        .input_for(NAME, &vlm.other_encoder(NAME)?.prepare(&green)?)
        .target(&vlm.caption_ids("a red square")?))
}

fn train(vlm: &Vlm, steps: usize) -> Result<()> {
    let set = vec![prompt(vlm)?];
    let config = TrainerConfig {
        steps,
        batch_size: 1,
        ..TrainerConfig::tour()
    };
    Trainer::new(config)?.fit(vlm, &set, &set).map(|_| ())
}

fn trains(vlm: &Vlm) -> Vec<String> {
    let parameters = vlm.trainable_parameters().into_iter();
    parameters.map(|p| p.name).collect()
}

fn same(one: &Vlm, other: &Vlm) -> Result<()> {
    let prompt = prompt(one)?;
    let loss = |vlm: &Vlm| vlm.full_sequence_loss_of(&prompt)?.value();
    assert_eq!(loss(one)?, loss(other)?);
    let open = prompt.without_answer();
    let ids =
        |vlm: &Vlm| -> Result<Vec<u32>> { Ok(vlm.generate(&open)?.max_new_tokens(8).run()?.ids) };
    assert_eq!(ids(one)?, ids(other)?);
    assert_eq!(trains(one), trains(other));
    Ok(())
}

#[test]
fn lora_and_unfrozen_parts_of_another_encoder_train_and_come_back() -> Result<()> {
    let mut vlm = with_second(5)?;
    let layers = vlm.add_encoder_lora(NAME, &LoraConfig::new(2, 4.0, &["query", "value"]), 1)?;
    assert_eq!(layers, 4);
    let part = format!("{LORA}.encoder.layer.1.layernorm_before");
    assert_eq!(vlm.set_trainable(&part, true)?, 2);
    let own: Vec<String> = trains(&vlm)
        .into_iter()
        .filter(|name| name.starts_with(LORA))
        .collect();
    assert_eq!(own.len(), 2 * layers + 2, "{own:?}");
    stir(&vlm)?;
    let grads = vlm.full_sequence_loss_of(&prompt(&vlm)?)?.loss.backward()?;
    for parameter in vlm.named_parameters() {
        let size = grads
            .get(&parameter.tensor)
            .map(|g| g.abs()?.sum_all()?.to_scalar::<f32>());
        let size = size.transpose()?;
        match parameter.is_trainable() && parameter.name != "start_vec" {
            // The prompt has no vectors.
            true if ["end_vec", "query_vec"].contains(&parameter.name.as_str()) => {}
            true => assert!(size.is_some_and(|size| size > 0.0), "{}", parameter.name),
            false => assert!(size.is_none(), "{}", parameter.name),
        }
    }
    let before = vlm.copy()?;
    train(&vlm, 3)?;
    for (new, old) in vlm
        .trainable_parameters()
        .iter()
        .zip(before.trainable_parameters())
        .filter(|(new, _)| new.name.starts_with(LORA))
    {
        let moved = (&new.tensor - &old.tensor)?
            .abs()?
            .sum_all()?
            .to_scalar::<f32>()?;
        assert!(moved > 0.0, "{}", new.name);
    }

    let dir = tempfile::tempdir().expect("a temporary folder");
    vlm.save(dir.path())?;
    let adapter = dir.path().join("other_encoders").join(NAME);
    assert!(adapter.join("adapter_config.json").is_file());
    let mut loaded = with_second(5)?;
    loaded.load_fine_tune(dir.path())?;
    same(&vlm, &loaded)?;
    // And goes on training.
    train(&loaded, 1)?;
    // The switch for all LoRA is one for theirs too.
    loaded.set_adapters(AdapterTraining::Frozen)?;
    assert!(!trains(&loaded).iter().any(|name| name.contains(".lora_")));
    Ok(())
}

#[test]
fn lora_that_was_taken_off_does_not_come_back_and_other_bases_are_refused() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut vlm = with_second(5)?;
    vlm.add_encoder_lora(NAME, &LoraConfig::new(2, 4.0, &["query"]), 1)?;
    stir(&vlm)?;
    vlm.save(dir.path())?;
    // Saved again without, over the same folder.
    vlm.other_encoders[0].encoder.remove_lora()?;
    vlm.save(dir.path())?;
    assert!(!dir.path().join("other_encoders").join(NAME).exists());
    let mut loaded = with_second(5)?;
    loaded.add_encoder_lora(NAME, &LoraConfig::new(2, 4.0, &["value"]), 1)?;
    stir(&loaded)?;
    loaded.load_fine_tune(dir.path())?;
    assert!(loaded.other_encoders[0].encoder.lora_config().is_none());
    same(&vlm, &loaded)?;
    let error = with_second(6)?
        .load_fine_tune(dir.path())
        .unwrap_err()
        .to_string();
    assert!(error.contains("another encoder \"close-up\""), "{error}");
    assert!(with_second(5)?.averaged(&with_second(6)?, 0.5).is_err());
    // Frozen anew, LoRA that names nothing, no such encoder, names that are no folder's.
    let mut vlm = with_second(5)?;
    let nothing = vlm.add_encoder_lora(NAME, &LoraConfig::new(2, 4.0, &["nothing"]), 1);
    assert!(
        nothing
            .is_err_and(|e| e.to_string().contains("close-up") && e.to_string().contains("query"))
    );
    let unknown = vlm.add_encoder_lora("sound", &LoraConfig::new(2, 4.0, &["query"]), 1);
    assert!(matches!(unknown, Err(Error::NoSuchEncoder { .. })));
    for name in [
        "a.b",
        "",
        "../x",
        "a/b",
        "a\\b",
        "a\nb",
        "image_encoder",
        NAME,
    ] {
        assert!(
            vlm.add_encoder(name, second(1)?, ProjectorKind::Linear, 0)
                .is_err(),
            "{name:?}"
        );
    }
    Ok(())
}

#[test]
fn all_of_another_encoder_trains_where_the_settings_say_so() -> Result<()> {
    let settings = VlmSettings {
        train_encoder: true,
        // Before it the final norm has no say.
        vision_feature: crate::vision::VisionFeature::LastHiddenState,
        ..VlmSettings::tiny()
    };
    let new = || -> Result<Vlm> {
        let mut parts = parts()?;
        if let Some(vit) = parts.image_encoder.get_mut::<Vit>() {
            vit.pooler = None;
        }
        let mut vlm = Vlm::new(parts, shrunk(settings.clone()), 3)?;
        let mut second = second(5)?;
        second.pooler = None;
        second.set_feature(crate::vision::VisionFeature::LastHiddenState)?;
        vlm.add_encoder(NAME, second, ProjectorKind::Linear, 7)?;
        Ok(vlm)
    };
    let vlm = new()?;
    train(&vlm, 2)?;
    let dir = tempfile::tempdir().expect("a temporary folder");
    vlm.save(dir.path())?;
    let mut loaded = new()?;
    loaded.load_fine_tune(dir.path())?;
    same(&vlm, &loaded)
}

#[test]
fn a_preset_finds_further_encoders_by_name_and_takes_them_from_code() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/tiny/vit");
    let here = folder.display().to_string();
    let preset = Preset::tiny()
        .other_encoder("wide", here.as_str(), ProjectorKind::Mlp2xGelu)
        .other_encoder(NAME, second(5)?, ProjectorKind::Linear);
    let shown = preset.render().plain().to_owned();
    assert!(
        shown.contains("wide") && shown.contains("given in code"),
        "{shown}"
    );
    let mut vlm = Vlm::from_pretrained(&preset, &Device::Cpu)?;
    assert_eq!(vlm.encoder_names(), ["image_encoder", "wide", NAME]);
    vlm.add_encoder_lora("wide", &LoraConfig::new(2, 4.0, &["query"]), 1)?;
    stir(&vlm)?;
    vlm.save(dir.path())?;
    // The one by name is found again, the one from code has to be given again.
    let error = Vlm::load(dir.path()).map(|_| ()).unwrap_err().to_string();
    assert!(
        error.contains("close-up") && error.contains("other_encoder"),
        "{error}"
    );
    let preset =
        Preset::fine_tune(dir.path())?.other_encoder(NAME, second(5)?, ProjectorKind::Linear);
    let loaded = Vlm::from_pretrained(&preset, &Device::Cpu)?;
    assert_eq!(loaded.encoder_names().len(), 3);
    let image = &pictures(1)?[0];
    let loss = |vlm: &Vlm| -> Result<f32> {
        let prompt = Prompt::new()
            .input_for("wide", &vlm.other_encoder("wide")?.prepare(image)?)
            .input_for(NAME, &vlm.other_encoder(NAME)?.prepare(image)?)
            .target(&vlm.caption_ids("a red square")?);
        vlm.full_sequence_loss_of(&prompt)?.value()
    };
    assert_eq!(loss(&vlm)?, loss(&loaded)?);
    let wrong =
        Preset::fine_tune(dir.path())?.other_encoder(NAME, second(6)?, ProjectorKind::Linear);
    assert!(Vlm::from_pretrained(&wrong, &Device::Cpu).is_err());
    let nowhere = Preset::tiny().other_encoder("x", "./nowhere", ProjectorKind::Linear);
    assert!(
        Vlm::from_pretrained(&nowhere, &Device::Cpu)
            .is_err_and(|e| e.to_string().contains("nowhere"))
    );
    Ok(())
}

/// A projector of a cell's own.
#[derive(Clone, Debug)]
struct First(crate::nn::Linear);

crate::parts!(First { 0 });

impl crate::projector::Projection for First {
    fn project(&self, hidden_states: &Tensor) -> Result<Tensor> {
        self.0.forward(&hidden_states.narrow(1, 0, 3)?) // [B, 3, D]
    }
    fn input(&self) -> usize {
        self.0.input()
    }
    fn output(&self) -> usize {
        self.0.output()
    }
}

#[test]
fn a_projector_of_ones_own_behind_another_encoder_comes_back() -> Result<()> {
    let own = || -> Result<First> {
        let weights = crate::nn::Checkpoint::random(4, DType::F32, &Device::Cpu);
        Ok(First(crate::nn::Linear::load(
            &weights,
            "fc",
            (12, WIDTH),
            true,
        )?))
    };
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut vlm = with_second(5)?;
    vlm.set_projector_for(NAME, own()?)?;
    train(&vlm, 2)?;
    // Another of the encoder's outputs is a choice that is kept.
    vlm.other_encoders[0]
        .encoder
        .set_feature(crate::vision::VisionFeature::HiddenState(1))?;
    vlm.save(dir.path())?;
    let error = with_second(5)?
        .load_fine_tune(dir.path())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("First") && error.contains("set_projector_for"),
        "{error}"
    );
    let mut loaded = with_second(5)?;
    loaded.set_projector_for(NAME, own()?)?;
    loaded.load_fine_tune(dir.path())?;
    same(&vlm, &loaded)
}

#[test]
fn a_fine_tune_has_the_lora_that_it_says_and_no_older_one() -> Result<()> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut own = vlm(VlmSettings::tiny())?;
    stir(&own)?;
    own.save(dir.path())?;
    own.llm.remove_lora()?;
    own.image_encoder.remove_lora()?;
    own.save(dir.path())?;
    let mut loaded = vlm(VlmSettings::tiny())?;
    loaded.load_fine_tune(dir.path())?;
    assert!(loaded.llm.lora_config().is_none() && loaded.image_encoder.lora_config().is_none());
    let image = &pictures(1)?[0];
    let loss = |vlm: &Vlm| {
        vlm.full_sequence_loss_of(&vlm.caption_prompt(image, "red")?)?
            .value()
    };
    assert_eq!(loss(&loaded)?, loss(&own)?);
    // One that is missing is named.
    for folder in ["llm_adapter", "vit_adapter"] {
        vlm(VlmSettings::tiny())?.save(dir.path())?;
        std::fs::remove_dir_all(dir.path().join(folder)).expect("it is there");
        let error = loaded.load_fine_tune(dir.path()).unwrap_err().to_string();
        assert!(error.contains(folder), "{error}");
    }
    Ok(())
}

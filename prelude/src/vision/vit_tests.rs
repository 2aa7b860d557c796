//! Tests of the Vision Transformer: gradients, LoRA, names, bad input.

use super::*;
use crate::nn::LoraConfig;
use proptest::prelude::*;
use std::collections::HashMap;

fn tiny() -> ViTConfig {
    ViTConfig::new(12, 4, 8, 16, 2, 2)
}

fn pixels(batch: usize) -> Result<Tensor> {
    let values: Vec<f32> = (0..batch * 3 * 144)
        .map(|i| ((i * 37 % 101) as f32 / 50.0) - 1.0)
        .collect();
    Ok(Tensor::from_vec(values, (batch, 3, 12, 12), &Device::Cpu)?)
}

/// A number that depends on every value, so that no gradient is zero by symmetry.
fn loss(output: &Tensor) -> Result<Tensor> {
    Ok((output.sqr()? * 0.5)?
        .mean_all()?
        .add(&output.sin()?.mean_all()?)?)
}

#[test]
fn every_weight_that_the_output_depends_on_gets_a_gradient() -> Result<()> {
    let mut vit =
        Vit::new_random(&tiny(), 1, &Device::Cpu)?.with_feature(VisionFeature::LastHiddenState)?;
    vit.set_trainable(true)?;
    let gradients = loss(&vit.encode(&pixels(2)?)?)?.backward()?;
    let parameters = vit.named_parameters();
    assert_eq!(parameters.len(), 4 + 2 * 16 + 2);
    for parameter in &parameters {
        let var = parameter
            .var
            .as_ref()
            .ok_or(Error::Input(format!("{} is frozen", parameter.name)))?;
        let gradient = gradients
            .get(var)
            .map(|gradient| gradient.abs()?.sum_all()?.to_scalar::<f32>());
        let size = gradient.transpose()?.unwrap_or(0.0);
        // keys' biases move every score of a query alike, which softmax does not see
        let flat = parameter.name.ends_with("key.bias");
        assert!(
            size > 1e-9 || flat,
            "{} has gradient {size}",
            parameter.name
        );
    }
    Ok(())
}

#[test]
fn only_lora_trains_on_a_frozen_encoder() -> Result<()> {
    let mut vit = Vit::new_random(&tiny(), 1, &Device::Cpu)?;
    let before = vit.encode(&pixels(1)?)?;
    let layers = vit.add_lora(&LoraConfig::new(2, 4.0, &["query", "dense"]), 5)?;
    assert_eq!(layers, 2 * (1 + 3));
    let after = vit.encode(&pixels(1)?)?;
    assert_eq!(
        before.flatten_all()?.to_vec1::<f32>()?,
        after.flatten_all()?.to_vec1::<f32>()?,
        "B starts at zero"
    );
    let trainable = vit.trainable_parameters();
    assert_eq!(trainable.len(), 2 * layers);
    let gradients = loss(&after)?.backward()?;
    for parameter in trainable
        .iter()
        .filter(|parameter| parameter.name.contains("lora_B"))
    {
        let gradient = parameter.var.as_ref().and_then(|var| gradients.get(var));
        let size = gradient
            .map(|gradient| gradient.abs()?.sum_all()?.to_scalar::<f32>())
            .transpose()?;
        assert!(size.is_some_and(|size| size > 0.0), "{}", parameter.name);
    }
    for parameter in vit
        .named_parameters()
        .iter()
        .filter(|parameter| !parameter.is_trainable())
    {
        assert!(
            gradients.get(&parameter.tensor).is_none(),
            "{} is frozen",
            parameter.name
        );
    }
    Ok(())
}

#[test]
fn the_blogs_lora_has_884736_parameters() -> Result<()> {
    let config = ViTConfig::base_patch16_224();
    let lora = LoraConfig::blog_vit();
    let (d, i) = (config.hidden_size, config.intermediate_size);
    let sizes = [
        ("attention.output.dense", d + d),
        ("intermediate.dense", d + i),
        ("output.dense", i + d),
    ];
    let mut count = 0;
    for (name, size) in sizes {
        let module = format!("encoder.layer.0.{name}");
        assert!(lora.targets(&module));
        count += config.num_hidden_layers * lora.rank(&module) * size;
    }
    assert_eq!(count, 884_736);
    Ok(())
}

#[test]
fn newer_names_in_a_file_are_read() -> Result<()> {
    let vit = Vit::new_random(&tiny(), 3, &Device::Cpu)?;
    let newer = |name: &str| {
        let Some(rest) = name.strip_prefix("encoder.layer.") else {
            return name.to_string();
        };
        let (index, part) = rest.split_at(1);
        let part = part
            .replace("attention.attention.query", "attention.q_proj")
            .replace("attention.attention.key", "attention.k_proj")
            .replace("attention.attention.value", "attention.v_proj")
            .replace("attention.output.dense", "attention.o_proj")
            .replace("intermediate.dense", "mlp.fc1")
            .replace("output.dense", "mlp.fc2");
        format!("layers.{index}{part}")
    };
    let tensors: HashMap<String, Tensor> = vit
        .named_parameters()
        .into_iter()
        .map(|p| (format!("vit.{}", newer(&p.name)), p.tensor))
        .collect();
    assert!(tensors.contains_key("vit.layers.1.mlp.fc2.weight"));
    let read = Vit::from_checkpoint(
        &tiny(),
        &Checkpoint::from_tensors(tensors, DType::F32, &Device::Cpu),
    )?;
    let names = |vit: &Vit| {
        vit.named_parameters()
            .into_iter()
            .map(|p| p.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&read), names(&vit));
    assert_eq!(
        read.encode(&pixels(1)?)?.flatten_all()?.to_vec1::<f32>()?,
        vit.encode(&pixels(1)?)?.flatten_all()?.to_vec1::<f32>()?
    );
    Ok(())
}

#[test]
fn a_batch_is_its_pictures_one_by_one() -> Result<()> {
    let vit = Vit::new_random(&tiny(), 4, &Device::Cpu)?;
    let all = pixels(3)?;
    let together = vit.encode(&all)?;
    for index in 0..3 {
        let alone = vit.encode(&all.narrow(0, index, 1)?)?;
        let difference = (together.narrow(0, index, 1)? - alone)?
            .abs()?
            .max_all()?
            .to_scalar::<f32>()?;
        assert!(difference < 1e-5, "picture {index}: {difference}");
    }
    Ok(())
}

#[test]
fn half_precision_stays_near() -> Result<()> {
    let full = Vit::new_random(&tiny(), 4, &Device::Cpu)?;
    let half = Vit::from_checkpoint(&tiny(), &Checkpoint::random(4, DType::BF16, &Device::Cpu))?;
    let (full, half) = (full.encode(&pixels(1)?)?, half.encode(&pixels(1)?)?);
    assert_eq!(half.dtype(), DType::BF16);
    let difference = (full - half.to_dtype(DType::F32)?)?
        .abs()?
        .max_all()?
        .to_scalar::<f32>()?;
    assert!(difference < 0.05, "{difference}");
    Ok(())
}

#[test]
fn wrong_pixel_values_say_what_is_taken() -> Result<()> {
    let vit = Vit::new_random(&tiny(), 4, &Device::Cpu)?;
    for dims in [
        &[1, 3, 12, 16][..],
        &[0, 3, 12, 12],
        &[3, 12, 12],
        &[1, 1, 12, 12],
    ] {
        let message = vit
            .forward(&Tensor::zeros(dims, DType::F32, &Device::Cpu)?)
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(message.contains("[B, 3, 12, 12]"), "{message}");
    }
    assert!(
        vit.clone()
            .with_feature(VisionFeature::HiddenState(3))
            .is_err()
    );
    let several = |indices: &[i32]| {
        let feature = VisionFeature::hidden_states(indices)?;
        vit.clone().with_feature(feature)
    };
    assert!(several(&[0, 3]).is_err() && several(&[]).is_err() && several(&[0; 17]).is_err());
    assert_eq!(several(&[-1, 0])?.dim(), 2 * vit.dim());
    assert!(vit.with_feature(VisionFeature::HiddenState(-3)).is_ok());
    Ok(())
}

#[test]
fn features_have_the_names_of_the_reference() -> Result<()> {
    for feature in [
        VisionFeature::HiddenState(-2),
        VisionFeature::HiddenState(0),
        VisionFeature::hidden_states(&[-2, 0, 1])?,
        VisionFeature::LastHiddenState,
    ] {
        assert_eq!(feature.to_string().parse::<VisionFeature>()?, feature);
    }
    let spaced = "hidden_states[-2, 0]".parse::<VisionFeature>()?;
    assert_eq!(spaced, VisionFeature::hidden_states(&[-2, 0])?);
    for wrong in [
        "",
        "hidden_states[]",
        "hidden_states[x]",
        "hidden_states[1,]",
        "pooler_output",
    ] {
        assert!(wrong.parse::<VisionFeature>().is_err(), "{wrong}");
    }
    Ok(())
}

#[test]
fn configs_that_contradict_themselves_name_the_fields() {
    let read = |text: &str| ViTConfig::from_json(text, Path::new("config.json"));
    for (text, words) in [
        (r#"{"model_type": "clip"}"#, "another architecture"),
        (
            r#"{"model_type": "vit", "num_attention_heads": 5}"#,
            "does not divide hidden_size 768",
        ),
        (
            r#"{"model_type": "vit", "patch_size": 15}"#,
            "does not divide image_size 224",
        ),
        (
            r#"{"model_type": "vit", "patch_size": 0}"#,
            "patch_size is 0",
        ),
        (
            r#"{"model_type": "vit", "hidden_size": 18446744073709551615}"#,
            "hidden_size",
        ),
        (
            r#"{"model_type": "vit", "hidden_act": "relu"}"#,
            "only \"gelu\"",
        ),
        (r#"{"hidden_size": 768}"#, "model_type"),
        (
            r#"{"model_type": "vit", "image_size": [224, 224]}"#,
            "not valid",
        ),
    ] {
        let message = read(text).map(|_| ()).expect_err(text).to_string();
        assert!(
            message.contains(words) && message.contains("config.json"),
            "{message}"
        );
    }
}

#[test]
fn a_checkpoint_of_another_size_names_the_tensor() -> Result<()> {
    let small = Vit::new_random(&tiny(), 1, &Device::Cpu)?;
    let folder = tempfile::tempdir().map_err(|source| Error::Io {
        path: "temporary folder".into(),
        source,
    })?;
    small.save(folder.path())?;
    let weights = Checkpoint::open(folder.path(), DType::F32, &Device::Cpu)?;
    let more_layers = ViTConfig {
        num_hidden_layers: 3,
        ..tiny()
    };
    let message = Vit::from_checkpoint(&more_layers, &weights)
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(message.contains("encoder.layer.2."), "{message}");
    let wider = ViTConfig::new(16, 4, 8, 16, 2, 2);
    let message = Vit::from_checkpoint(&wider, &weights)
        .map(|_| ())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("position_embeddings") && message.contains("[1, 17, 8]"),
        "{message}"
    );
    Ok(())
}

proptest! {
    #[test]
    fn no_config_or_weights_make_loading_panic(
        text in ".{0,200}", key in "(hidden_size|image_size|patch_size|num_hidden_layers|num_attention_heads|layer_norm_eps|id2label)",
        value in "(-1|0|1|3|1e9|99999999999|\"x\"|null|\\[\\]|\\{\\})", cut in 0_usize..6000, at in 0_usize..6000, byte: u8,
    ) {
        let _ = ViTConfig::from_json(&text, Path::new("config.json"));
        let one = format!("{{\"model_type\": \"vit\", \"{key}\": {value}}}");
        let _ = ViTConfig::from_json(&one, Path::new("config.json"));
        let vit = Vit::new_random(&tiny(), 1, &Device::Cpu)?;
        let tensors: HashMap<String, Tensor> = vit.named_parameters().into_iter().map(|p| (p.name, p.tensor)).collect();
        let mut bytes = safetensors::serialize(&tensors, None).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let length = bytes.len();
        bytes[at % length] = byte;
        bytes.truncate(length - cut % length.min(40));
        if let Ok(weights) = Checkpoint::from_bytes("fuzz", bytes, DType::F32, &Device::Cpu)
            && let Ok(vit) = Vit::from_checkpoint(&tiny(), &weights)
        {
            let _ = vit.encode(&pixels(1)?);
        }
    }
}

//! The walk over every network of the prelude, as it was written down once: names, shapes, order, what trains, and the norm of
//! each gradient.
//!
//! ```text
//! every family, tower, projector, and the whole model under its settings ─ named_parameters, one backward pass ─► lines
//!     ─► compared with tests/fixtures/walks.txt
//! ```
//! A change of how networks list their parts, or of how an operation computes, must not change a line. To record a network that
//! is new: run with `GLASSBOX_RECORD_WALKS=1` and look at the difference.

use std::path::{Path, PathBuf};

use glassbox_prelude::candle_core::backprop::GradStore;
use glassbox_prelude::language::LlmInput;
use glassbox_prelude::nn::{PartMut, parameter::Parameter};
use glassbox_prelude::prelude::*;

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;
type Fallible<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Relative to the wanted norm: the order of sums differs between numbers of threads.
const RELATIVE: f64 = 2e-3;
/// Relative to the model's largest norm, for gradients that are zero but for rounding (a key's bias).
const ROUNDING: f64 = 1e-5;

const DECODERS: [&str; 10] = [
    "gemma3",
    "llama",
    "llama_tied_biased",
    "phi",
    "phi3_partial",
    "phi_grouped",
    "qwen2",
    "qwen2_windows",
    "qwen3",
    "llama_rope_yarn",
];
const TOWERS: [&str; 5] = ["clip", "dinov2", "siglip", "siglip2", "smolvlm"];

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests")
}

/// `name shape trains norm` of every parameter, below the model's title.
fn lines(title: &str, parameters: &[Parameter], gradients: &GradStore) -> Fallible<Vec<String>> {
    let mut lines = vec![format!("# {title}")];
    for parameter in parameters {
        let norm = match gradients.get(&parameter.tensor) {
            None => "-".to_owned(),
            Some(gradient) => {
                let gradient = gradient.to_dtype(DType::F64)?.flatten_all()?; // any shape
                format!(
                    "{:.6e}",
                    gradient.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt()
                )
            }
        };
        let trains = if parameter.is_trainable() {
            "trains"
        } else {
            "frozen"
        };
        let shape = format!("{:?}", parameter.tensor.dims()).replace(' ', "");
        lines.push(format!("{} {shape} {trains} {norm}", parameter.name));
    }
    Ok(lines)
}

/// Names as the walk that changes parts meets them.
fn names_when_changed(network: &mut dyn Network) -> Result<Vec<String>> {
    let mut names = Vec::new();
    network.visit_mut(&mut |part| {
        match part {
            PartMut::Weight(weight) => names.push(weight.name().to_owned()),
            PartMut::Linear(linear) => {
                names.push(linear.weight.name().to_owned());
                names.extend(linear.bias.as_ref().map(|bias| bias.name().to_owned()));
                if let Some(lora) = &linear.lora {
                    names.extend([&lora.a, &lora.b].map(|factor| factor.name().to_owned()));
                }
            }
        }
        Ok(())
    })?;
    Ok(names)
}

/// LoRA on every linear layer, with a B that is not zero.
fn with_lora(network: &mut dyn Network) -> Result<()> {
    network.add_lora(&LoraConfig::new(2, 4.0, &["all-linear"]), 1)?;
    network.visit_mut(&mut |part| {
        if let PartMut::Linear(linear) = part
            && let Some(lora) = &mut linear.lora
        {
            let (output, r) = lora.b.tensor().dims2()?;
            let values: Vec<f32> = (0..output * r)
                .map(|i| (i % 7) as f32 * 0.01 - 0.02)
                .collect();
            lora.b
                .set(&Tensor::from_vec(values, (output, r), &Device::Cpu)?)?;
        }
        Ok(())
    })
}

/// All that trains, then frozen with LoRA, then all of it.
fn recorded<N: Network>(
    title: &str,
    network: &mut N,
    loss: impl Fn(&N) -> Result<Tensor>,
) -> Fallible<Vec<String>> {
    let mut all = Vec::new();
    let mut record = |network: &mut N, how: &str| -> Outcome {
        let parameters = network.named_parameters();
        let names: Vec<String> = parameters.iter().map(|p| p.name.clone()).collect();
        assert_eq!(
            names_when_changed(network)?,
            names,
            "{title}: the two walks differ"
        );
        let gradients = loss(network)?.backward()?;
        all.extend(lines(&format!("{title}, {how}"), &parameters, &gradients)?);
        Ok(())
    };
    network.set_trainable(true)?;
    record(network, "all trains")?;
    network.set_trainable(false)?;
    with_lora(network)?;
    record(network, "LoRA trains")?;
    network.set_trainable(true)?;
    record(network, "all trains, LoRA too")?;
    Ok(all)
}

fn seeded(dims: &[usize], seed: u64) -> Result<Tensor> {
    Checkpoint::random(seed, DType::F32, &Device::Cpu).get("x", dims, Init::Normal(1.0))
}

fn decoders() -> Fallible<Vec<String>> {
    let mut all = Vec::new();
    for name in DECODERS {
        let folder = tests().join("fixtures/decoders").join(name);
        let mut llm = Decoder::load(folder, DType::F32, &Device::Cpu)?;
        let ids = Tensor::new(
            &[[3u32, 7, 1, 9, 4, 2, 8], [5, 5, 6, 0, 2, 1, 3]],
            &Device::Cpu,
        )?;
        all.extend(recorded(&format!("decoder {name}"), &mut llm, |llm| {
            let logits = llm.forward(&LlmInput::ids(&ids))?.logits()?.clone(); // [2, 7, V]
            Ok(logits.sqr()?.mean_all()?)
        })?);
    }
    Ok(all)
}

fn encoders() -> Fallible<Vec<String>> {
    let mut all = Vec::new();
    for name in TOWERS {
        let mut tower = Tower::load(tests().join("towers").join(name), DType::F32, &Device::Cpu)?;
        let side = tower.config.image_size;
        let pixels = seeded(&[2, 3, side, side], 5)?;
        let title = format!("tower {name}");
        all.extend(recorded(&title, &mut tower, |tower| {
            Ok(tower.encode(&pixels)?.sqr()?.mean_all()?)
        })?);
    }
    for name in ["vit", "vit_for_image_classification"] {
        let mut vit = Vit::load(
            tests().join("fixtures").join(name),
            DType::F32,
            &Device::Cpu,
        )?;
        let side = vit.config.image_size;
        let pixels = seeded(&[2, vit.config.num_channels, side, side], 5)?;
        all.extend(recorded(name, &mut vit, |vit| {
            Ok(vit.encode(&pixels)?.sqr()?.mean_all()?)
        })?);
    }
    Ok(all)
}

fn projectors() -> Fallible<Vec<String>> {
    let resampler = ProjectorKind::PerceiverResampler {
        latents: 3,
        layers: 2,
        heads: 2,
        head_dim: 4,
    };
    let hidden = seeded(&[2, 17, 8], 6)?;
    let mut all = Vec::new();
    for kind in [
        ProjectorKind::Linear,
        ProjectorKind::Mlp2xGelu,
        ProjectorKind::PixelShuffle { factor: 2 },
        ProjectorKind::PixelShuffleMlp { factor: 2 },
        ProjectorKind::AveragePool { factor: 2 },
        resampler,
    ] {
        let config = ProjectorConfig {
            kind,
            input: 8,
            output: 6,
        };
        let mut projector = Projector::new(config, 4, &Device::Cpu)?;
        all.extend(recorded(
            &format!("projector {kind:?}"),
            &mut projector,
            |projector| Ok(projector.forward(&hidden)?.sqr()?.mean_all()?),
        )?);
    }
    Ok(all)
}

fn models() -> Fallible<Vec<String>> {
    let new_tokens = VlmSettings {
        new_tokens: vec!["<|here|>".into(), "<|there|>".into()],
        ..VlmSettings::tiny()
    };
    let vectors = VlmSettings {
        prompt_vectors: PromptVectors::Trained,
        ..VlmSettings::tiny()
    };
    let encoder = VlmSettings {
        train_encoder: true,
        vit_lora: None,
        ..VlmSettings::tiny()
    };
    let mut all = Vec::new();
    for (title, settings) in [
        ("tiny", VlmSettings::tiny()),
        ("tiny, new tokens", new_tokens),
        ("tiny, vectors train", vectors),
        ("tiny, encoder trains", encoder),
    ] {
        let mut vlm = Vlm::new(VlmParts::tiny(&Device::Cpu)?, settings, 3)?;
        with_another(&mut vlm)?;
        let image = Image::filled(64, 64, [200, 30, 40])?;
        let second = vlm.other_encoder("siglip")?;
        let near = second.prepare(&Image::filled(64, 64, [9, 99, 30])?)?;
        let first = Prompt::new()
            .input_for("siglip", &near)
            .input(&image.prepare(&vlm)?);
        let prompts = [
            first.target(&vlm.caption_ids("two green circles")?),
            vlm.caption_prompt(&image, "a red square")?,
        ];
        let loss = vlm.full_sequence_loss_of(&prompts)?.loss;
        all.extend(lines(title, &vlm.named_parameters(), &loss.backward()?)?);
        let trains: Vec<Parameter> = vlm.trainable_parameters();
        assert!(trains.iter().all(Parameter::is_trainable));
    }
    Ok(all)
}

/// A second encoder, a small tower.
fn with_another(vlm: &mut Vlm) -> Outcome {
    let tower = Tower::load(tests().join("towers/siglip"), DType::F32, &Device::Cpu)?;
    vlm.add_encoder("siglip", tower, ProjectorKind::Linear, 9)?;
    Ok(())
}

/// Whether a line says the same as the recorded one, `largest` being the model's largest norm.
fn same(found: &str, wanted: &str, largest: f64) -> bool {
    if found == wanted {
        return true;
    }
    let number = |line: &str| -> Option<(String, f64)> {
        let (rest, norm) = line.rsplit_once(' ')?;
        Some((rest.to_owned(), norm.parse().ok()?))
    };
    let (Some((found, a)), Some((wanted, b))) = (number(found), number(wanted)) else {
        return false;
    };
    found == wanted && (a - b).abs() <= RELATIVE * b.abs() + ROUNDING * largest
}

/// The largest norm before the next title.
fn largest_of(lines: &[&str]) -> f64 {
    let model = lines.iter().take_while(|line| !line.starts_with('#'));
    let norms = model.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    norms.fold(0.0, f64::max)
}

#[test]
fn every_walk_and_every_gradient_is_as_recorded() -> Outcome {
    let mut found = decoders()?;
    found.extend(encoders()?);
    found.extend(projectors()?);
    found.extend(models()?);
    let file = tests().join("fixtures/walks.txt");
    if std::env::var_os("GLASSBOX_RECORD_WALKS").is_some() {
        std::fs::write(&file, found.join("\n") + "\n")?;
    }
    let wanted = std::fs::read_to_string(&file)?;
    let wanted: Vec<&str> = wanted.lines().collect();
    let lines = &wanted;
    let (mut title, mut largest, mut wrong) = ("", 0.0, Vec::new());
    for (at, (found, wanted)) in found.iter().zip(&wanted).enumerate() {
        if wanted.starts_with('#') {
            (title, largest) = (wanted, largest_of(&lines[at + 1..]));
        }
        if !same(found, wanted, largest) {
            wrong.push(format!("{title}\n  found    {found}\n  recorded {wanted}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} lines differ:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(12)].join("\n")
    );
    assert_eq!(found.len(), wanted.len(), "as many parameters as recorded");
    Ok(())
}

//! LoRA: outputs, merges, gradients of both losses, AdamW steps, and adapters through the disk.

use crate::compare::{Fixtures, Group, Outcome, Tensors, device, difference, number, numbers};
use crate::vlm::{batch, build};
use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor};
use glassbox_prelude::candle_core;
use glassbox_prelude::language::{Decoder, LlmInput};
use glassbox_prelude::lora::{TaskType, load_adapter, save_adapter};
use glassbox_prelude::nn::{Network, Parameter};
use glassbox_prelude::train::{AdamW, AdamWConfig, Gradients};
use glassbox_prelude::vlm::Vlm;
use std::path::Path;

const LOGITS: f64 = 1e-4;
const MERGED: f64 = 1e-5;
const GRADIENT: f64 = 5e-5;
const GRADIENT_RELATIVE: f64 = 1e-4;
const LOSSES: f64 = 5e-4;

type Error = Box<dyn std::error::Error>;

/// The adapter folders of the language model: the plain one, and the rank-stabilised one where the set has it.
fn llm_adapters(fixtures: &Fixtures) -> Vec<&'static str> {
    ["lora/llm_adapter", "lora/llm_adapter_rslora"]
        .into_iter()
        .filter(|dir| fixtures.path(dir).is_dir())
        .collect()
}

/// The model with both adapters and everything of `file` in place, training.
fn adapted(fixtures: &Fixtures) -> Result<Vlm, Error> {
    let mut vlm = build(fixtures)?;
    load_adapter(&mut vlm.llm, fixtures.path("lora/llm_adapter"))?;
    load_adapter(&mut vlm.image_encoder, fixtures.path("lora/vit_adapter"))?;
    vlm.llm.set_lora_trainable(true)?;
    vlm.image_encoder.set_lora_trainable(true)?;
    Ok(vlm)
}

fn set_all(parameters: &[Parameter], values: &Tensors) -> Outcome {
    for parameter in parameters {
        let var = parameter
            .var
            .as_ref()
            .ok_or("a frozen parameter among the trainable ones")?;
        var.set(&values.get(&parameter.name)?.to_dtype(DType::F32)?)?;
    }
    Ok(())
}

pub fn outputs(fixtures: &Fixtures, group: &mut Group) -> Outcome {
    let vlm = adapted(fixtures)?;
    let want = fixtures.tensors("lora/expected.safetensors")?;
    let initial = fixtures.tensors("lora/initial_trainables.safetensors")?;
    let trainable = vlm.trainable_parameters();
    let mut names: Vec<&str> = trainable.iter().map(|p| p.name.as_str()).collect();
    let mut expected: Vec<&str> = initial.map.keys().map(String::as_str).collect();
    names.sort_unstable();
    expected.sort_unstable();
    group.equal("names of what trains", &names, &expected);
    for parameter in &trainable {
        if parameter.name.contains("lora_") {
            group.close(
                &format!("{} as loaded", short(&parameter.name)),
                &parameter.tensor,
                initial.get(&parameter.name)?,
                0.0,
            );
        }
    }
    set_all(&trainable, &initial)?;
    let pixels = fixtures
        .tensors("vlm/expected.safetensors")?
        .get("pixel_values")?
        .clone();
    group.close(
        "image tokens",
        &vlm.image_tokens(&pixels)?,
        want.get("image_tokens")?,
        LOGITS,
    );
    let out = vlm
        .llm
        .forward(&LlmInput::embeds(want.get("llm_inputs_embeds")?))?;
    group.close("logits", out.logits()?, want.get("llm_logits")?, LOGITS);
    Ok(())
}

fn short(name: &str) -> &str {
    name.strip_prefix("image_encoder.base_model.model.")
        .or_else(|| name.strip_prefix("llm.base_model.model."))
        .and_then(|name| name.strip_suffix(".weight"))
        .unwrap_or(name)
}

fn check_merge(
    group: &mut Group,
    label: &str,
    network: &mut dyn Network,
    changed: &Tensors,
) -> Outcome {
    let find = |network: &dyn Network, name: &str| {
        network
            .named_parameters()
            .into_iter()
            .find(|p| p.name == name)
            .map(|p| p.tensor)
    };
    let before: Vec<(String, Tensor)> = network
        .named_parameters()
        .into_iter()
        .map(|p| (p.name, p.tensor))
        .collect();
    network.merge_lora()?;
    let mut worst = 0f64;
    for (name, want) in &changed.map {
        let got = find(network, name).ok_or_else(|| format!("no parameter {name}"))?;
        worst = worst.max(difference(&got, want));
    }
    group.within(
        &format!("{label}: {} merged weights", changed.map.len()),
        worst,
        MERGED,
    );
    network.unmerge_lora()?;
    let mut back = 0f64;
    for (name, old) in before {
        let now = find(network, &name).ok_or_else(|| format!("no parameter {name}"))?;
        back = back.max(difference(&now, &old));
    }
    group.within(&format!("{label}: unmerged again"), back, MERGED);
    Ok(())
}

pub fn merges(fixtures: &Fixtures, group: &mut Group) -> Outcome {
    let mut vlm = adapted(fixtures)?;
    check_merge(
        group,
        "language model",
        &mut vlm.llm,
        &fixtures.tensors("lora/merged_llm_changed.safetensors")?,
    )?;
    check_merge(
        group,
        "image encoder",
        &mut vlm.image_encoder,
        &fixtures.tensors("lora/merged_vit_changed.safetensors")?,
    )?;
    vlm.llm.merge_lora()?;
    let input = fixtures.tensors("lora/expected.safetensors")?;
    let want = fixtures.tensors("lora/expected_merged.safetensors")?;
    let out = vlm
        .llm
        .forward(&LlmInput::embeds(input.get("llm_inputs_embeds")?))?;
    group.close(
        "logits of the merged language model",
        out.logits()?,
        want.get("llm_logits")?,
        LOGITS,
    );
    Ok(())
}

/// Largest and root-mean-square-relative difference of two gradients.
fn gradient_difference(got: &Tensor, want: &Tensor) -> Result<(f64, f64), Error> {
    let norm = |t: &Tensor| -> Result<f64, Error> {
        Ok(t.to_dtype(DType::F64)?
            .sqr()?
            .sum_all()?
            .to_scalar::<f64>()?
            .sqrt())
    };
    Ok((
        difference(got, want),
        norm(&(got - want)?)? / norm(want)?.max(f64::MIN_POSITIVE),
    ))
}

fn check_gradients(
    group: &mut Group,
    label: &str,
    vlm: &Vlm,
    grads: &GradStore,
    want: &Tensors,
    without: &[String],
) -> Outcome {
    let (mut worst, mut relative, mut compared) = (0f64, 0f64, 0);
    for parameter in vlm.trainable_parameters() {
        let var = parameter
            .var
            .as_ref()
            .ok_or("a frozen parameter among the trainable ones")?;
        if without.contains(&parameter.name) {
            group.holds(
                &format!("{label}: {} has none", short(&parameter.name)),
                grads.get(var).is_none(),
            );
            continue;
        }
        let got = grads
            .get(var)
            .ok_or_else(|| format!("{} got no gradient", parameter.name))?;
        let (gap, share) = gradient_difference(got, want.get(&parameter.name)?)?;
        (worst, relative, compared) = (worst.max(gap), relative.max(share), compared + 1);
    }
    group.within(&format!("{label}: largest difference"), worst, GRADIENT);
    group.within(
        &format!("{label}: largest relative L2"),
        relative,
        GRADIENT_RELATIVE,
    );
    group.equal(
        &format!("{label}: gradients compared"),
        &compared,
        &want.map.len(),
    );
    let frozen = vlm
        .named_parameters()
        .into_iter()
        .filter(|p| !p.is_trainable());
    group.equal(
        &format!("{label}: frozen parameters with a gradient"),
        &frozen.filter(|p| grads.get(&p.tensor).is_some()).count(),
        &0,
    );
    Ok(())
}

pub fn gradients(fixtures: &Fixtures, group: &mut Group) -> Outcome {
    let vlm = at_the_start(fixtures)?;
    let expected = fixtures.json("lora/expected.json")?;
    let without: Vec<String> = expected["params_with_no_grad"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str().map(ToString::to_string))
        .collect();
    let case = &expected["grad_case"];
    let batch = batch(
        &fixtures.tensors("vlm/expected.safetensors")?,
        case["mode"].as_str().unwrap_or_default(),
        2,
    )?;
    let out = vlm.random_prefix_loss_at(&batch, &numbers(&case["predict_at_index"]))?;
    group.within(
        "random-prefix loss",
        (f64::from(out.value()?) - number(&expected["loss"])?).abs(),
        2e-5,
    );
    group.close(
        "last logit",
        &out.logits,
        fixtures
            .tensors("lora/expected.safetensors")?
            .get("last_logit")?,
        LOGITS,
    );
    let want = fixtures.tensors("lora/grads_random_prefix.safetensors")?;
    check_gradients(
        group,
        "random prefix",
        &vlm,
        &out.loss.backward()?,
        &want,
        &without,
    )?;

    let out = vlm.full_sequence_loss_of(&batch)?;
    group.within(
        "full-sequence loss",
        (f64::from(out.value()?) - number(&expected["full_sequence_loss"])?).abs(),
        2e-5,
    );
    let want = fixtures.tensors("lora/grads_full_sequence.safetensors")?;
    check_gradients(
        group,
        "full sequence",
        &vlm,
        &out.loss.backward()?,
        &want,
        &without,
    )
}

/// All but a thousandth of the elements within `most`, every element below `limit`.
fn check_parameters(
    group: &mut Group,
    label: &str,
    vlm: &Vlm,
    want: &Tensors,
    most: f64,
    limit: f64,
) -> Outcome {
    let mut gaps: Vec<f64> = Vec::new();
    for parameter in vlm.trainable_parameters() {
        let gap = (parameter.tensor.detach() - want.get(&parameter.name)?)?.abs()?;
        gaps.extend(gap.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?);
    }
    gaps.sort_by(f64::total_cmp);
    let place = (gaps.len() as f64 * 0.999) as usize;
    group.within(
        &format!("{label}: 99.9% of {} elements", gaps.len()),
        gaps[place.min(gaps.len() - 1)],
        most,
    );
    group.within(
        &format!("{label}: every element"),
        gaps.last().copied().unwrap_or(f64::NAN),
        limit,
    );
    Ok(())
}

/// AdamW over the schedule of the fixtures; `each` sees the number of the step, how far its loss is from the reference's,
/// and the model after it. Gives the number of steps.
fn train(
    fixtures: &Fixtures,
    vlm: &Vlm,
    mut each: impl FnMut(usize, f64) -> Outcome,
) -> Result<usize, Error> {
    let expected = fixtures.json("lora/expected.json")?;
    let batch = batch(
        &fixtures.tensors("vlm/expected.safetensors")?,
        expected["grad_case"]["mode"].as_str().unwrap_or_default(),
        2,
    )?;
    let settings = &expected["adamw"];
    let betas = settings["betas"].as_array().ok_or("no betas")?;
    let parameters = vlm.trainable_parameters();
    let mut optimizer = AdamW::new(AdamWConfig {
        learning_rate: number(&settings["lr"])?,
        beta1: number(&betas[0])?,
        beta2: number(&betas[1])?,
        eps: number(&settings["eps"])?,
        weight_decay: number(&settings["weight_decay"])?,
    })?;
    let schedule = expected["schedule_10_steps"]
        .as_array()
        .ok_or("no schedule")?;
    let losses = expected["losses_10"].as_array().ok_or("no losses")?;
    for (step, (indices, loss)) in schedule.iter().zip(losses).enumerate() {
        let out = vlm.random_prefix_loss_at(&batch, &numbers(indices))?;
        optimizer.step(&parameters, &Gradients::of(&out.loss, &parameters)?)?;
        each(step, (f64::from(out.value()?) - number(loss)?).abs())?;
    }
    Ok(schedule.len())
}

/// The model with the adapters and everything else as training starts.
pub fn at_the_start(fixtures: &Fixtures) -> Result<Vlm, Error> {
    let vlm = adapted(fixtures)?;
    set_all(
        &vlm.trainable_parameters(),
        &fixtures.tensors("lora/initial_trainables.safetensors")?,
    )?;
    Ok(vlm)
}

/// The same after ten steps of AdamW.
pub fn after_ten_steps(fixtures: &Fixtures) -> Result<Vlm, Error> {
    let vlm = at_the_start(fixtures)?;
    train(fixtures, &vlm, |_, _| Ok(()))?;
    Ok(vlm)
}

pub fn steps(fixtures: &Fixtures, group: &mut Group) -> Outcome {
    let vlm = at_the_start(fixtures)?;
    let lr = number(&fixtures.json("lora/expected.json")?["adamw"]["lr"])?;
    let mut worst = 0f64;
    let steps = train(fixtures, &vlm, |step, gap| {
        worst = worst.max(gap);
        if step == 0 {
            let want = fixtures.tensors("lora/after_1_step.safetensors")?;
            check_parameters(group, "after 1 step", &vlm, &want, 1e-5, lr)?;
        }
        Ok(())
    })?;
    group.within(&format!("losses of {steps} steps"), worst, LOSSES);
    let want = fixtures.tensors("lora/after_10_steps.safetensors")?;
    check_parameters(group, "after 10 steps", &vlm, &want, 5e-5, 2.0 * lr)
}

fn round_trip(
    group: &mut Group,
    label: &str,
    network: &mut dyn Network,
    task: TaskType,
    dir: &Path,
) -> Outcome {
    let factors = |network: &dyn Network| -> Vec<Parameter> {
        network
            .named_parameters()
            .into_iter()
            .filter(|p| p.name.contains("lora_"))
            .collect()
    };
    let before = factors(network);
    save_adapter(network, task, None, dir)?;
    network.remove_lora()?;
    load_adapter(network, dir)?;
    let after = factors(network);
    group.equal(&format!("{label}: factors"), &after.len(), &before.len());
    let mut worst = 0f64;
    for (old, new) in before.iter().zip(&after) {
        group.equal(
            &format!("{label}: {}", short(&old.name)),
            &new.name,
            &old.name,
        );
        worst = worst.max(difference(&new.tensor, &old.tensor));
    }
    group.within(&format!("{label}: values"), worst, 0.0);
    Ok(())
}

pub fn round_trips(fixtures: &Fixtures, group: &mut Group) -> Outcome {
    let dir = std::env::temp_dir().join(format!("glassbox-parity-{}", std::process::id()));
    let mut vlm = adapted(fixtures)?;
    round_trip(
        group,
        "language model",
        &mut vlm.llm,
        TaskType::CausalLm,
        &dir.join("llm"),
    )?;
    round_trip(
        group,
        "image encoder",
        &mut vlm.image_encoder,
        TaskType::None,
        &dir.join("vit"),
    )?;

    vlm.save(dir.join("fine-tune"))?;
    let mut fresh = build(fixtures)?;
    fresh.load_fine_tune(dir.join("fine-tune"))?;
    let (old, new) = (vlm.named_parameters(), fresh.named_parameters());
    group.equal("fine-tune: parameters", &new.len(), &old.len());
    let worst = old
        .iter()
        .zip(&new)
        .map(|(a, b)| {
            if a.name == b.name {
                difference(&a.tensor, &b.tensor)
            } else {
                f64::INFINITY
            }
        })
        .fold(0.0, f64::max);
    group.within("fine-tune: values", worst, 0.0);
    std::fs::remove_dir_all(&dir)?;

    for adapter in llm_adapters(fixtures).into_iter().skip(1) {
        let mut llm = Decoder::load(fixtures.path("llm"), DType::F32, &device()?)?;
        let config = load_adapter(&mut llm, fixtures.path(adapter))?;
        group.holds(&format!("{adapter} is rank-stabilised"), config.use_rslora);
        let want = fixtures.tensors(&format!("{adapter}/expected.safetensors"));
        if let Ok(want) = want {
            let out = llm.forward(&LlmInput::embeds(want.get("llm_inputs_embeds")?))?;
            group.close(
                &format!("{adapter} logits"),
                out.logits()?,
                want.get("llm_logits")?,
                LOGITS,
            );
        }
    }
    Ok(())
}

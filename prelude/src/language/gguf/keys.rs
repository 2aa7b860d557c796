//! A model's config as the keys of a GGUF file, the way back from `config`; and whether a reader would make the same model of them.

use super::config::ARCHITECTURES;
use super::writer::{Keys, Written};
use crate::language::DecoderConfig;
use crate::language::form::Form;
use crate::language::rope::RopeScaling;
use crate::{Error, Result};

/// Tensors of factors of the rotary frequencies, by name.
pub(super) type Factors = Vec<(&'static str, Vec<f32>)>;

/// llama.cpp's name of a family.
pub(super) fn architecture(config: &DecoderConfig) -> Result<&'static str> {
    let family = config.model_type.as_str();
    let known = ARCHITECTURES.iter().find(|(_, ours)| *ours == family);
    known.map(|(theirs, _)| *theirs).ok_or_else(|| {
        Error::Config(format!(
            "a model of family {family} can't be written as a GGUF file; there are {}",
            ARCHITECTURES.map(|(_, ours)| ours).join(", ")
        ))
    })
}

/// Keys that tell sizes and settings, and tensors that tell factors of the rotary frequencies.
pub(super) fn of(config: &DecoderConfig) -> Result<(Keys, Factors)> {
    let architecture = architecture(config)?;
    let family = config.model_type.as_str();
    let key = |name: &str| format!("{architecture}.{name}");
    let mut keys = Keys::default();
    for (name, value) in [
        ("block_count", config.num_hidden_layers),
        ("context_length", config.max_position_embeddings),
        ("embedding_length", config.hidden_size),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.num_attention_heads),
        ("attention.head_count_kv", config.kv_heads()),
        ("vocab_size", config.vocab_size),
        ("rope.dimension_count", config.rotary_dim()),
    ] {
        keys.number(key(name), value)?;
    }
    if config.head_dim.is_some() {
        keys.number(key("attention.key_length"), config.head_dim())?;
        keys.number(key("attention.value_length"), config.head_dim())?;
    }
    let eps = match family {
        "phi" => "attention.layer_norm_epsilon",
        _ => "attention.layer_norm_rms_epsilon",
    };
    keys.float(key(eps), config.norm_eps);
    keys.float(key("rope.freq_base"), config.rope_theta);
    match (family, config.sliding_window) {
        // Phi-3's key is there without a window too, as llama.cpp tells Phi-4 by it.
        ("phi3", window) => keys.number(key("attention.sliding_window"), window.unwrap_or(0))?,
        ("gemma3_text", Some(window)) => keys.number(key("attention.sliding_window"), window)?,
        _ => {}
    }
    if family == "gemma3_text" {
        let theta = config.own("rope_local_base_freq")?.unwrap_or(10_000.0);
        keys.float(key("rope.freq_base_swa"), theta);
    }
    let factors = rope(config, &key, &mut keys)?;
    Ok((keys, factors))
}

fn rope(config: &DecoderConfig, key: &dyn Fn(&str) -> String, keys: &mut Keys) -> Result<Factors> {
    let Some(scaling) = &config.rope_scaling else {
        return Ok(Vec::new());
    };
    let rope = config.rope()?;
    let original = scaling
        .original_max_position_embeddings
        .or(config.original_max_position_embeddings);
    let floats = |list: &[f64]| list.iter().map(|x| *x as f32).collect();
    match scaling.name() {
        kind @ ("linear" | "yarn") => {
            keys.text(key("rope.scaling.type"), kind);
            keys.float(key("rope.scaling.factor"), scaling.factor.unwrap_or(1.0));
            if kind == "yarn" {
                yarn(scaling, original, key, keys)?;
            }
            Ok(Vec::new())
        }
        // The factors themselves, as llama.cpp has them.
        "llama3" => {
            let (scaled, _) = rope.frequencies(1);
            let (plain, _) = config.rope_of(config.rope_theta, None)?.frequencies(1);
            let factors = plain
                .iter()
                .zip(&scaled)
                .map(|(plain, scaled)| plain / scaled);
            Ok(vec![("rope_freqs.weight", factors.collect())])
        }
        "longrope" => {
            if config.model_type != "phi3" {
                keys.text(key("rope.scaling.type"), "longrope");
            }
            let original = original.unwrap_or(config.max_position_embeddings);
            keys.number(key("rope.scaling.original_context_length"), original)?;
            let (_, attention) = rope.frequencies(1);
            keys.float(key("rope.scaling.attn_factor"), f64::from(attention));
            Ok(vec![
                ("rope_factors_long.weight", floats(&scaling.long_factor)),
                ("rope_factors_short.weight", floats(&scaling.short_factor)),
            ])
        }
        _ => Ok(Vec::new()),
    }
}

/// What YaRN has besides its factor. llama.cpp multiplies its own factor on cosine and sine with what a file says, so that another
/// one can't be said; [`same`] finds that.
fn yarn(
    scaling: &RopeScaling,
    original: Option<usize>,
    key: &dyn Fn(&str) -> String,
    keys: &mut Keys,
) -> Result<()> {
    if let Some(original) = original {
        keys.number(key("rope.scaling.original_context_length"), original)?;
    }
    for (name, value) in [
        ("rope.scaling.yarn_beta_fast", scaling.beta_fast),
        ("rope.scaling.yarn_beta_slow", scaling.beta_slow),
    ] {
        if let Some(value) = value {
            keys.float(key(name), value);
        }
    }
    Ok(())
}

/// Whether `read`, which a reader makes of the file, is the same model.
///
/// # Errors
/// `Config` names the first setting that a GGUF file can't tell.
pub(super) fn same(config: &DecoderConfig, read: &DecoderConfig) -> Result<()> {
    let (form, other) = (config.form()?, read.form()?);
    let differs = |name: &str, ours: String, theirs: String| match ours == theirs {
        true => Ok(()),
        false => Err(Error::Config(format!(
            "{name} is {ours}, which a GGUF file of {} can't tell: llama.cpp would take {theirs}; save the model in Hugging Face's \
             layout instead",
            config.model_type
        ))),
    };
    let settings = |config: &DecoderConfig, form: &Form| {
        [
            ("num_hidden_layers", config.num_hidden_layers.to_string()),
            ("hidden_size", config.hidden_size.to_string()),
            ("intermediate_size", config.intermediate_size.to_string()),
            (
                "num_attention_heads",
                config.num_attention_heads.to_string(),
            ),
            ("num_key_value_heads", config.kv_heads().to_string()),
            ("head_dim", config.head_dim().to_string()),
            ("vocab_size", config.vocab_size.to_string()),
            (
                "tie_word_embeddings",
                config.tie_word_embeddings.to_string(),
            ),
            (
                "max_position_embeddings",
                config.max_position_embeddings.to_string(),
            ),
            ("the norms' epsilon", short(config.norm_eps)),
            (
                "the share of a head that turns",
                config.rotary_dim().to_string(),
            ),
            ("hidden_act", format!("{:?}", form.activation(config))),
            (
                "query_pre_attn_scalar (as a factor)",
                short(form.query_scale),
            ),
            (
                "attention_bias",
                format!("{} and {}", form.qkv_bias, form.o_bias),
            ),
            ("mlp_bias", form.mlp_bias.to_string()),
        ]
    };
    let theirs = settings(read, &other);
    for ((name, ours), (_, theirs)) in settings(config, &form).into_iter().zip(theirs) {
        differs(name, ours, theirs)?;
    }
    for (number, (ours, theirs)) in form.layers.iter().zip(&other.layers).enumerate() {
        let shown = |number: Option<usize>| number.map_or("none".into(), |n| n.to_string());
        let name = format!("the sliding window of layer {number}");
        differs(&name, shown(ours.window), shown(theirs.window))?;
        let (ours, theirs) = (&form.ropes[ours.rope], &other.ropes[theirs.rope]);
        let name = "the length at which rope_scaling changes";
        // Equal factors for all lengths need no border.
        if ours.border().is_some() {
            differs(name, shown(ours.border()), shown(theirs.border()))?;
        }
        for length in [1, config.max_position_embeddings] {
            let (a, b) = (ours.frequencies(length), theirs.frequencies(length));
            let all = |(frequencies, attention): (Vec<f32>, f32)| {
                frequencies
                    .into_iter()
                    .chain([attention])
                    .collect::<Vec<f32>>()
            };
            let (a, b) = (all(a), all(b));
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * a.abs();
            if a.len() != b.len() || !a.iter().zip(&b).all(near) {
                let kind = config.rope_scaling.as_ref().map_or("default", |s| s.name());
                return Err(Error::Config(format!(
                    "the rotary positions of layer {number} (rope_theta, rope_scaling of type {kind} with all that it says) can't be told \
                     by a GGUF file of {}: save the model in Hugging Face's layout instead",
                    config.model_type
                )));
            }
        }
    }
    Ok(())
}

/// A number as its nearest f32, which is what a file holds.
fn short(value: f64) -> String {
    format!("{}", value as f32)
}

/// Keys that tell what the file is: family, name, and llama.cpp's number of its type of weights (`general.file_type`).
pub(super) fn general(
    keys: &mut Keys,
    config: &DecoderConfig,
    name: &str,
    file_type: u32,
) -> Result<()> {
    keys.text("general.architecture", architecture(config)?);
    keys.text("general.type", "model");
    keys.text("general.name", name);
    keys.add("general.file_type", Written::U32(file_type));
    keys.add("general.quantization_version", Written::U32(2));
    Ok(())
}

//! The fields of PEFT's `LoraConfig` (0.21), one by one: which of them change what an adapter computes, and what to do about those
//! that cannot be read.
//!
//! [`LoraConfig`](crate::nn::LoraConfig) reads the rest: ranks, alphas, dropout, and which layers are meant.

use serde_json::Value;

use crate::config_fields::{is_off, short};

/// Fields that [`LoraConfig`](crate::nn::LoraConfig) reads.
const READ: [&str; 11] = [
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "exclude_modules",
    "use_rslora",
    "use_dora",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
];

/// Fields that change nothing in what an adapter computes on a base that is there already.
const WITHOUT_EFFECT: [&str; 15] = [
    "task_type",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "auto_mapping",
    "peft_version",
    "runtime_config",
    // Names a Python module; counts beside megatron_config only.
    "megatron_core",
    // Counts beside use_qalora only.
    "qalora_group_size",
    // PEFT sets it to false for linear layers, which all of ours are.
    "fan_in_fan_out",
    // How the factors were first drawn; count beside the init_lora_weights of that name only.
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "lora_ga_init",
];

/// Fields that make an adapter of another kind, and what they do.
const REFUSED: [(&str, &str); 14] = [
    ("modules_to_save", "whole layers were trained besides LoRA"),
    (
        "trainable_token_indices",
        "rows of the embedding were trained besides LoRA",
    ),
    (
        "target_parameters",
        "LoRA lies on parameters that are no layers",
    ),
    ("lora_bias", "the factors have biases"),
    ("use_qalora", "inputs are pooled in groups"),
    (
        "layer_replication",
        "layers of the base stand in it several times",
    ),
    ("megatron_config", "the layers are Megatron's"),
    ("velora_config", "training stores compressed inputs"),
    (
        "alora_invocation_tokens",
        "the adapter acts behind certain tokens only",
    ),
    (
        "monteclora_config",
        "the factors are drawn at random each time",
    ),
    ("use_bdlora", "the factors are block-diagonal"),
    ("arrow_config", "several adapters are mixed by a router"),
    (
        "kasa_config",
        "the weights of the base were changed when the adapter was made",
    ),
    ("ensure_weight_tying", "adapted layers share their weights"),
];

/// First draws of the factors that leave the base as it is: what is in the file replaces them.
const KEEPS_BASE: [&str; 4] = ["gaussian", "orthogonal", "eva", "mica"];

/// What to do where nothing else helps.
const MERGE: &str = "merge the adapter in PEFT (`merge_and_unload`), save the model and load that";

/// Goes through an `adapter_config.json`; the message names the field that cannot be read.
pub fn check(config: &Value) -> Result<(), String> {
    let fields = config.as_object().ok_or("it is not a JSON object")?;
    for (name, value) in fields {
        match name.as_str() {
            "peft_type" => peft_type(value)?,
            "init_lora_weights" => init(value)?,
            "bias" => match value.as_str() {
                Some("none") => {}
                None if value.is_null() => {}
                _ => {
                    return Err(format!(
                        "bias is {value}: biases of the base were trained besides LoRA, only \"none\" can be read; {MERGE}"
                    ));
                }
            },
            "target_modules" if value.is_null() => {
                return Err(
                    "target_modules is null, for which PEFT looks up the base's kind: name the layers there".into(),
                );
            }
            name if READ.contains(&name) || WITHOUT_EFFECT.contains(&name) => {}
            _ if is_off(value) => {}
            name => return Err(refused(name, value)),
        }
    }
    Ok(())
}

fn refused(name: &str, value: &Value) -> String {
    let value = short(value);
    match REFUSED.iter().find(|(field, _)| *field == name) {
        Some((_, what)) => format!("{name} is {value}: {what}, which cannot be read; {MERGE}"),
        None => format!(
            "{name} is {value}: this field is not known here, and it may change what the adapter computes; take it out of the file \
             if it does not, or {MERGE}"
        ),
    }
}

fn peft_type(value: &Value) -> Result<(), String> {
    match value.as_str() {
        Some("LORA") => Ok(()),
        None if value.is_null() => Ok(()),
        _ => Err(format!("peft_type is {value}, only LORA can be read")),
    }
}

/// How the factors were first drawn. Some ways take a part out of the base's weights, so that the adapter fits the changed base only.
fn init(value: &Value) -> Result<(), String> {
    match value {
        Value::Null | Value::Bool(_) => return Ok(()),
        Value::String(name) if KEEPS_BASE.contains(&name.to_lowercase().as_str()) => return Ok(()),
        _ => {}
    }
    let name = value.as_str().unwrap_or_default().to_lowercase();
    let changes = ["pissa", "olora", "corda", "loftq", "lora_ga"];
    Err(match changes.iter().any(|way| name.starts_with(way)) {
        true => format!(
            "init_lora_weights is {value}: this changes the weights of the base, and the adapter fits the changed ones only; save it in \
             PEFT with path_initial_model_for_weight_conversion, or {MERGE}"
        ),
        false => format!(
            "init_lora_weights is {value}: this way is not known here, and it may change the weights of the base; {MERGE}"
        ),
    })
}

/// Why a tensor of an adapter's file cannot be read.
pub fn tensor(key: &str) -> String {
    let kinds = [
        (".lora_embedding_", "is LoRA on an embedding"),
        (".lora_B.bias", "is the bias of a factor"),
        (
            ".modules_to_save.",
            "is a layer that was trained besides LoRA (modules_to_save)",
        ),
        (
            ".token_adapter.",
            "holds rows of the embedding (trainable_token_indices)",
        ),
        (".base_layer.", "is a weight of the base"),
        (".lora_diag", "belongs to KaSA"),
    ];
    let kind = kinds.iter().find(|(part, _)| key.contains(part));
    let kind = kind.map_or("is not the name of a LoRA factor", |(_, kind)| kind);
    format!(
        "{key} {kind}, and only lora_A, lora_B and lora_magnitude_vector of linear layers can be read; {MERGE}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_not_known_is_refused_by_name_unless_it_is_off() {
        for (name, value) in [
            ("use_qalora", json!(true)),
            ("loras_of_tomorrow", json!({"a": 1})),
            ("tomorrow_size", json!(0)),
            ("modules_to_save", json!(["lm_head"])),
            ("kasa_config", json!({"beta": 1e-4})),
            ("init_lora_weights", json!("PiSSA_niter_16")),
            ("init_lora_weights", json!("lora_ga")),
            ("init_lora_weights", json!("tomorrow")),
            ("init_lora_weights", json!(3)),
            ("bias", json!("lora_only")),
            ("peft_type", json!("ADALORA")),
            ("target_modules", json!(null)),
        ] {
            let message = check(&json!({ name: value })).unwrap_err();
            assert!(message.starts_with(name), "{name}: {message}");
        }
        for (name, value) in [
            ("use_dora", json!(true)),
            ("use_bdlora", json!(false)),
            ("tomorrow_config", json!(null)),
            ("modules_to_save", json!([])),
            ("loftq_config", json!({})),
            ("init_lora_weights", json!("eva")),
            ("bias", json!("none")),
            ("revision", json!("v2")),
            ("runtime_config", json!({"ephemeral_gpu_offload": false})),
        ] {
            assert_eq!(check(&json!({ name: value })), Ok(()), "{name}");
        }
    }
}

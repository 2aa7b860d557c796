//! The two spellings of a ViT's module names.
//!
//! Checkpoints on the hub and transformers 4 say `encoder.layer.0.attention.attention.query`; transformers 5 says
//! `layers.0.attention.q_proj`. Glassbox uses the hub's everywhere and reads both.

use crate::nn::Checkpoint;

/// Parts of a layer: the hub's name, then that of transformers 5. Longer names first, since some end in others.
const PARTS: [(&str, &str); 6] = [
    ("attention.attention.query", "attention.q_proj"),
    ("attention.attention.key", "attention.k_proj"),
    ("attention.attention.value", "attention.v_proj"),
    ("attention.output.dense", "attention.o_proj"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
];

/// A module or weight path of a ViT in the hub's spelling: `layers.3.mlp.fc1.weight` becomes
/// `encoder.layer.3.intermediate.dense.weight`. Anything else, the hub's spelling included, stays as it is; what stands
/// before (`vit.`, `base_model.model.`) and behind (`.lora_A.weight`) stays too.
pub fn hub_name(path: &str) -> String {
    let Some((before, rest)) = split_at_layers(path) else {
        return path.to_string();
    };
    let Some((index, part)) = rest.split_once('.') else {
        return path.to_string();
    };
    if index.is_empty() || !index.bytes().all(|digit| digit.is_ascii_digit()) {
        return path.to_string();
    }
    for (hub, newer) in PARTS {
        if let Some(behind) = part.strip_prefix(newer)
            && (behind.is_empty() || behind.starts_with('.'))
        {
            return format!("{before}encoder.layer.{index}.{hub}{behind}");
        }
    }
    match part.starts_with("layernorm_") {
        true => format!("{before}encoder.layer.{index}.{part}"),
        false => path.to_string(),
    }
}

/// What stands before `layers.` at the start of a path component, and what stands behind it.
fn split_at_layers(path: &str) -> Option<(&str, &str)> {
    let start = match path.strip_prefix("layers.") {
        Some(rest) => return Some(("", rest)),
        None => path.find(".layers.")? + 1,
    };
    Some((&path[..start], &path[start + "layers.".len()..]))
}

/// The name of a part of layer `index`, and the name that the checkpoint has for it.
pub(super) fn layer_name(weights: &Checkpoint, index: usize, part: &str) -> (String, String) {
    let name = format!("encoder.layer.{index}.{part}");
    let newer = PARTS
        .iter()
        .find(|(hub, _)| *hub == part)
        .map_or(part, |(_, newer)| newer);
    let in_file = format!("layers.{index}.{newer}");
    if !weights.is_random() && weights.contains(&format!("{in_file}.weight")) {
        (name, in_file)
    } else {
        (name.clone(), name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_names_become_the_hubs() {
        for (newer, hub) in [
            (
                "layers.0.attention.q_proj.weight",
                "encoder.layer.0.attention.attention.query.weight",
            ),
            (
                "base_model.model.layers.11.mlp.fc2.lora_A.weight",
                "base_model.model.encoder.layer.11.output.dense.lora_A.weight",
            ),
            (
                "vit.layers.2.attention.o_proj.bias",
                "vit.encoder.layer.2.attention.output.dense.bias",
            ),
            ("layers.3.mlp.fc1", "encoder.layer.3.intermediate.dense"),
            (
                "layers.3.layernorm_after.weight",
                "encoder.layer.3.layernorm_after.weight",
            ),
        ] {
            assert_eq!(hub_name(newer), hub);
            assert_eq!(hub_name(hub), hub);
        }
        for other in [
            "pooler.dense.weight",
            "model.layers.0.mlp.down_proj",
            "layers.x.mlp.fc1",
            "layers.1",
            "",
        ] {
            assert_eq!(hub_name(other), other);
        }
    }
}

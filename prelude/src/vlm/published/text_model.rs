//! The language model in a whole model's config: `text_config` → [`DecoderConfig`]. Such inner configs leave out what transformers' class
//! of the family takes by itself, sizes included.

use crate::language::DecoderConfig;
use crate::vision::fields::Complaint;
use serde_json::{Map, Value, json};

/// The fields of `text_config`, or those that an outer config has itself. `tied`: whether the whole model's config ties the head to the
/// embedding; either may say so.
pub(super) fn decoder(text: Value, model_type: &str, tied: bool) -> Complaint<DecoderConfig> {
    let Value::Object(mut text) = text else {
        return Err("text_config is no JSON object with fields".into());
    };
    if tied {
        text.insert("tie_word_embeddings".into(), true.into());
    }
    text.entry("model_type")
        .or_insert_with(|| model_type.into());
    let family = text["model_type"].as_str().unwrap_or_default().to_owned();
    for (name, value) in sizes(&family) {
        text.entry(name).or_insert(value);
    }
    DecoderConfig::try_from(Value::Object(text)).map_err(|error| format!("text_config: {error}"))
}

/// What transformers' config of a family takes for fields that are not there.
fn sizes(family: &str) -> Map<String, Value> {
    let sizes = match family {
        "llama" => {
            json!({"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "bos_token_id": 1, "eos_token_id": 2})
        }
        "mistral" => {
            json!({"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
            "num_attention_heads": 32, "bos_token_id": 1, "eos_token_id": 2})
        }
        "phi3" => {
            json!({"vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32,
            "num_attention_heads": 32})
        }
        "qwen2" => {
            json!({"vocab_size": 151_936, "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32})
        }
        "qwen3" => {
            json!({"vocab_size": 151_936, "hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32})
        }
        "phi" => {
            json!({"vocab_size": 51200, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24,
            "num_attention_heads": 32})
        }
        _ => json!({}),
    };
    match sizes {
        Value::Object(sizes) => sizes,
        _ => Map::new(),
    }
}

//! Qwen2 and Qwen2.5: Llama with biases on queries, keys and values, and windows in the upper layers where the config asks for them.
//!
//! Config and weight names: <https://huggingface.co/Qwen/Qwen2.5-0.5B-Instruct/blob/main/config.json>.
//!
//! ```
//! use glassbox_prelude::prelude::*;
//! let config = DecoderConfig::from_json(r#"{"model_type": "qwen2", "vocab_size": 50, "hidden_size": 16, "intermediate_size": 24,
//!     "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "use_sliding_window": true,
//!     "sliding_window": 4, "max_window_layers": 1}"#)?;
//! let llm = Decoder::new_random(&config, 0, &Device::Cpu)?;
//! let logits = llm.forward(&LlmInput::ids(&Tensor::new(&[[1u32, 2, 3]], &Device::Cpu)?))?.logits()?.clone();
//! assert_eq!(logits.dims(), [1, 3, 50]);
//! # Ok::<(), glassbox_prelude::Error>(())
//! ```

use super::Family;
use crate::Result;
use crate::language::config::DecoderConfig;
use crate::language::form::Form;

pub(crate) const FAMILY: Family = Family {
    name: "Qwen2",
    model_type: "qwen2",
    architecture: "Qwen2ForCausalLM",
    renamed: &[("rms_norm_eps", "norm_eps")],
    own: &WINDOW_FIELDS,
    local_rope: None,
    defaults: |config| {
        config.max_position_embeddings = 32_768;
        config.sliding_window = Some(4096);
    },
    form: |config| {
        Ok(Form {
            qkv_bias: true,
            ..windowed(config)?
        })
    },
};

pub(super) const WINDOW_FIELDS: [&str; 3] =
    ["use_sliding_window", "max_window_layers", "layer_types"];

/// Llama's form with Qwen's windows: none unless `use_sliding_window`, and then from layer `max_window_layers` on.
pub(super) fn windowed(config: &DecoderConfig) -> Result<Form> {
    let uses = config.own("use_sliding_window")?.unwrap_or(false);
    let first: usize = config.own("max_window_layers")?.unwrap_or(28);
    let window = config.sliding_window.filter(|_| uses);
    let used = DecoderConfig {
        sliding_window: window,
        ..config.clone()
    };
    Form::new(&used)?.windows(&used, |i| window.is_some() && i >= first)
}

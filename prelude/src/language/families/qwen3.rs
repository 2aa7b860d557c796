//! Qwen3: Qwen2 without its biases, with a norm on each head of queries and keys, and heads whose width is a field of its own.
//!
//! Config and weight names: <https://huggingface.co/Qwen/Qwen3-0.6B/blob/main/config.json>.
//!
//! ```
//! use glassbox_prelude::prelude::*;
//! let config = DecoderConfig::from_json(r#"{"model_type": "qwen3", "vocab_size": 50, "hidden_size": 16, "intermediate_size": 24,
//!     "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8}"#)?;
//! let llm = Decoder::new_random(&config, 0, &Device::Cpu)?;
//! let logits = llm.forward(&LlmInput::ids(&Tensor::new(&[[1u32, 2, 3]], &Device::Cpu)?))?.logits()?.clone();
//! assert_eq!(logits.dims(), [1, 3, 50]);
//! # Ok::<(), glassbox_prelude::Error>(())
//! ```

use super::{Family, qwen2};
use crate::language::form::Form;

pub(crate) const FAMILY: Family = Family {
    name: "Qwen3",
    model_type: "qwen3",
    architecture: "Qwen3ForCausalLM",
    own: &[
        "attention_bias",
        "use_sliding_window",
        "max_window_layers",
        "layer_types",
    ],
    defaults: |config| {
        (qwen2::FAMILY.defaults)(config);
        config.head_dim = Some(128);
    },
    form: |config| {
        let bias = config.own("attention_bias")?.unwrap_or(false);
        Ok(Form {
            qkv_bias: bias,
            o_bias: bias,
            qk_norm: Some(["self_attn.q_norm", "self_attn.k_norm"]),
            ..qwen2::windowed(config)?
        })
    },
    ..qwen2::FAMILY
};

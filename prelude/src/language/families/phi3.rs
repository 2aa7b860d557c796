//! Phi-3: queries, keys and values in one matrix, gate and up in another; LongRoPE for long contexts.
//!
//! Config and weight names: <https://huggingface.co/microsoft/Phi-3-mini-4k-instruct/blob/main/config.json>.
//!
//! ```
//! use glassbox_prelude::prelude::*;
//! let config = DecoderConfig::from_json(r#"{"model_type": "phi3", "vocab_size": 50, "hidden_size": 16, "intermediate_size": 24,
//!     "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 8}"#)?;
//! let llm = Decoder::new_random(&config, 0, &Device::Cpu)?;
//! let logits = llm.forward(&LlmInput::ids(&Tensor::new(&[[1u32, 2, 3]], &Device::Cpu)?))?.logits()?.clone();
//! assert_eq!(logits.dims(), [1, 3, 50]);
//! # Ok::<(), glassbox_prelude::Error>(())
//! ```

use super::Family;
use crate::Error;
use crate::language::form::Form;

pub(crate) const FAMILY: Family = Family {
    name: "Phi-3",
    model_type: "phi3",
    architecture: "Phi3ForCausalLM",
    renamed: &[("rms_norm_eps", "norm_eps")],
    // Of Phi-4-mini's files, for code of its own that transformers does not use.
    own: &["full_attn_mod", "interpolate_factor"],
    local_rope: None,
    defaults: |config| {
        config.norm_eps = 1e-5;
        config.max_position_embeddings = 4096;
    },
    form: |config| {
        let kind = config.rope_scaling.as_ref().map_or("default", |s| s.name());
        if !matches!(kind, "default" | "longrope") {
            return Err(Error::Config(format!(
                "rope_scaling of type {kind} is not known for Phi-3, whose checkpoints use longrope (or its older name su)"
            )));
        }
        Ok(Form {
            qkv: &["self_attn.qkv_proj"],
            mlp_in: &["mlp.gate_up_proj"],
            partial_rotary: true,
            activations: &["silu"],
            ..Form::new(config)?
        })
    },
};

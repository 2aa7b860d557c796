//! Llama, and what has its form: SmolLM2, TinyLlama, stories260K. The form that other families are told by.
//!
//! Config and weight names: <https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct/blob/main/config.json>.
//!
//! ```
//! use glassbox_prelude::prelude::*;
//! let config = DecoderConfig::from_json(r#"{"model_type": "llama", "vocab_size": 50, "hidden_size": 16, "intermediate_size": 24,
//!     "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": true,
//!     "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
//!     "original_max_position_embeddings": 64}}"#)?;
//! let llm = Decoder::new_random(&config, 0, &Device::Cpu)?;
//! let logits = llm.forward(&LlmInput::ids(&Tensor::new(&[[1u32, 2, 3]], &Device::Cpu)?))?.logits()?.clone();
//! assert_eq!(logits.dims(), [1, 3, 50]);
//! # Ok::<(), glassbox_prelude::Error>(())
//! ```

use super::Family;
use crate::Error;
use crate::language::form::Form;

pub(crate) const FAMILY: Family = Family {
    name: "Llama",
    model_type: "llama",
    architecture: "LlamaForCausalLM",
    renamed: &[("rms_norm_eps", "norm_eps")],
    own: &[
        "attention_bias",
        "mlp_bias",
        // How it was trained, and that another library takes it for a Llama: without effect.
        "pretraining_tp",
        "is_llama_config",
        "rope_interleaved",
    ],
    local_rope: None,
    defaults: |_| {},
    form: |config| {
        if let Some(window) = config.sliding_window {
            return Err(Error::Config(format!(
                "sliding_window is {window}, which Llama does not have"
            )));
        }
        if config.own("rope_interleaved")? == Some(true) {
            return Err(Error::Config(
                "rope_interleaved is true: rotary positions are read in halves only".into(),
            ));
        }
        let bias = config.own("attention_bias")?.unwrap_or(false);
        Ok(Form {
            qkv_bias: bias,
            o_bias: bias,
            mlp_bias: config.own("mlp_bias")?.unwrap_or(false),
            ..Form::new(config)?
        })
    },
};

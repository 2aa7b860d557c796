//! Mistral: Llama with a window in every layer, unless the config says `null`, and heads whose width may be a field of its own.
//!
//! Config and weight names: <https://huggingface.co/mistralai/Mistral-7B-Instruct-v0.2/blob/main/config.json>.
//!
//! ```
//! use glassbox_prelude::prelude::*;
//! let config = DecoderConfig::from_json(r#"{"model_type": "mistral", "vocab_size": 50, "hidden_size": 16, "intermediate_size": 24,
//!     "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": 4}"#)?;
//! let llm = Decoder::new_random(&config, 0, &Device::Cpu)?;
//! let logits = llm.forward(&LlmInput::ids(&Tensor::new(&[[1u32, 2, 3]], &Device::Cpu)?))?.logits()?.clone();
//! assert_eq!(logits.dims(), [1, 3, 50]);
//! # Ok::<(), glassbox_prelude::Error>(())
//! ```

use super::Family;
use crate::language::form::Form;

pub(crate) const FAMILY: Family = Family {
    name: "Mistral",
    model_type: "mistral",
    architecture: "MistralForCausalLM",
    renamed: &[("rms_norm_eps", "norm_eps")],
    own: &[],
    local_rope: None,
    defaults: |config| {
        config.num_key_value_heads = Some(8);
        config.max_position_embeddings = 131_072;
        config.sliding_window = Some(4096);
    },
    form: Form::new,
};

//! Phi-1, Phi-1.5 and Phi-2 (Bunny's language model): LayerNorm, attention and MLP side by side, biases everywhere, and heads of
//! which only a part turns.
//!
//! Config and weight names: <https://huggingface.co/microsoft/phi-2/blob/main/config.json>.
//!
//! ```
//! use glassbox_prelude::prelude::*;
//! let config = DecoderConfig::from_json(r#"{"model_type": "phi", "vocab_size": 50, "hidden_size": 32, "intermediate_size": 48,
//!     "num_hidden_layers": 2, "num_attention_heads": 4, "partial_rotary_factor": 0.5}"#)?;
//! let llm = Decoder::new_random(&config, 0, &Device::Cpu)?;
//! let logits = llm.forward(&LlmInput::ids(&Tensor::new(&[[1u32, 2, 3]], &Device::Cpu)?))?.logits()?.clone();
//! assert_eq!(logits.dims(), [1, 3, 50]);
//! # Ok::<(), glassbox_prelude::Error>(())
//! ```

use super::Family;
use crate::Error;
use crate::language::form::{Form, NormKind, Norms};

pub(crate) const FAMILY: Family = Family {
    name: "Phi",
    model_type: "phi",
    architecture: "PhiForCausalLM",
    renamed: &[("layer_norm_eps", "norm_eps")],
    // Whether the head has a bias: transformers' Phi always has one, Bunny's has none.
    own: &["qk_layernorm", "lm_head_bias"],
    local_rope: None,
    defaults: |config| {
        config.norm_eps = 1e-5;
        config.hidden_act = "gelu_new".into();
        config.partial_rotary_factor = 0.5;
    },
    form: |config| {
        if config.own("qk_layernorm")? == Some(true) {
            return Err(Error::Config(
                "qk_layernorm is true: norms on queries and keys are not read for Phi, whose published models have none".into(),
            ));
        }
        if let Some(window) = config.sliding_window {
            return Err(Error::Config(format!(
                "sliding_window is {window}, which Phi does not have"
            )));
        }
        Ok(Form {
            qkv_bias: true,
            o_proj: "self_attn.dense",
            o_bias: true,
            mlp_in: &["mlp.fc1"],
            gated: false,
            mlp_out: "mlp.fc2",
            mlp_bias: true,
            norm: NormKind::Layer,
            norms: Norms::Parallel,
            final_norm: "model.final_layernorm",
            head_bias: config.own("lm_head_bias")?.unwrap_or(true),
            partial_rotary: true,
            activations: &["gelu_new", "gelu", "gelu_pytorch_tanh", "gelu_fast"],
            ..Form::new(config)?
        })
    },
};

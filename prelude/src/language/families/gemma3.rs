//! Gemma 3's text model: embeddings scaled by √D, norms by 1 + weight before and behind everything, and most layers local, with
//! a window and rotary positions of their own.
//!
//! Config and weight names: <https://huggingface.co/google/gemma-3-270m-it/blob/main/config.json>.
//!
//! ```
//! use glassbox_prelude::prelude::*;
//! let config = DecoderConfig::from_json(r#"{"model_type": "gemma3_text", "vocab_size": 50, "hidden_size": 16, "intermediate_size": 24,
//!     "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "query_pre_attn_scalar": 8,
//!     "sliding_window": 4, "sliding_window_pattern": 3}"#)?;
//! let llm = Decoder::new_random(&config, 0, &Device::Cpu)?;
//! let logits = llm.forward(&LlmInput::ids(&Tensor::new(&[[1u32, 2, 3]], &Device::Cpu)?))?.logits()?.clone();
//! assert_eq!(logits.dims(), [1, 3, 50]);
//! # Ok::<(), glassbox_prelude::Error>(())
//! ```

use super::Family;
use crate::language::form::{Form, NormKind, Norms};
use crate::{Error, Result};

pub(crate) const FAMILY: Family = Family {
    name: "Gemma 3",
    model_type: "gemma3_text",
    architecture: "Gemma3ForCausalLM",
    renamed: &[
        ("rms_norm_eps", "norm_eps"),
        ("hidden_activation", "hidden_act"),
    ],
    own: &[
        "attention_bias",
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "layer_types",
        "query_pre_attn_scalar",
        "rope_local_base_freq",
        "sliding_window_pattern",
        "_sliding_window_pattern",
        "use_bidirectional_attention",
    ],
    local_rope: Some((
        "rope_local_base_freq",
        ["sliding_attention", "full_attention"],
    )),
    defaults: |config| {
        config.head_dim = Some(256);
        config.num_key_value_heads = Some(4);
        config.max_position_embeddings = 131_072;
        config.rope_theta = 1e6;
        config.sliding_window = Some(4096);
        config.tie_word_embeddings = true;
        config.hidden_act = "gelu_pytorch_tanh".into();
    },
    form: |config| {
        for name in ["attn_logit_softcapping", "final_logit_softcapping"] {
            if let Some(cap) = config.own::<f64>(name)? {
                return Err(Error::Config(format!(
                    "{name} is {cap}: scores and logits without a cap are read only, as Gemma 3 has them"
                )));
            }
        }
        if config.own("use_bidirectional_attention")? == Some(true) {
            return Err(Error::Config(
                "use_bidirectional_attention is true: that is an encoder, not a language model"
                    .into(),
            ));
        }
        let scalar: f64 = config.own("query_pre_attn_scalar")?.unwrap_or(256.0);
        if !(scalar.is_finite() && scalar > 0.0) {
            return Err(Error::Config(format!(
                "query_pre_attn_scalar is {scalar}, it must be above 0"
            )));
        }
        let bias = config.own("attention_bias")?.unwrap_or(false);
        let theta: f64 = config.own("rope_local_base_freq")?.unwrap_or(10_000.0);
        let pattern = pattern(config)?;
        let mut form = Form {
            qkv_bias: bias,
            o_bias: bias,
            qk_norm: Some(["self_attn.q_norm", "self_attn.k_norm"]),
            norm: NormKind::RmsPlusOne,
            norms: Norms::Sandwich,
            embedding_scale: Some((config.hidden_size as f64).sqrt()),
            query_scale: (config.head_dim() as f64 / scalar).sqrt(),
            ropes: vec![config.rope()?, config.rope_of(theta, None)?],
            activations: &["gelu_pytorch_tanh", "gelu"],
            ..Form::new(config)?
        }
        .windows(config, |i| !(i + 1).is_multiple_of(pattern))?;
        for layer in &mut form.layers {
            layer.rope = usize::from(layer.window.is_some());
        }
        Ok(form)
    },
};

/// Every how many layers one is global.
fn pattern(config: &crate::language::DecoderConfig) -> Result<usize> {
    let old = config.own("sliding_window_pattern")?;
    let pattern = old.or(config.own("_sliding_window_pattern")?).unwrap_or(6);
    match pattern {
        0 => Err(Error::Config(
            "sliding_window_pattern must be at least 1".into(),
        )),
        pattern => Ok(pattern),
    }
}

//! The first step's question: does everything that trains get a gradient?
//!
//! A parameter that gets none never moves, and no loss curve shows it as long as others learn in its place. A gradient of
//! zeros is another matter: LoRA's A has one as long as its B is zero, and moves later.

use super::gradients::Gradients;
use crate::nn::{Parameter, Role};
use crate::vlm::Prompt;
use crate::{Error, Result};

/// Operations of candle that give a result without a way back, by the names that code calls them by.
pub const WITHOUT_BACKWARD: [&str; 9] = [
    "candle_nn::ops::softmax_last_dim",
    "candle_nn::ops::rms_norm and candle_nn::RmsNorm::forward",
    "candle_nn::ops::layer_norm and candle_nn::LayerNorm::forward",
    "candle_nn::rotary_emb::rope, rope_i and rope_thd",
    "candle_nn::ops::sdpa and candle_nn::attention::flash_attn",
    "QMatMul::forward",
    "candle_nn::kv_cache::KvCache",
    "Tensor::detach",
    "custom operations applied by Tensor::apply_op1_no_bwd, apply_op2_no_bwd and apply_op3_no_bwd",
];
/// So many parameters are named.
const NAMED: usize = 8;

/// Refuses a first step in which a trainable parameter got no gradient. Rows of new tokens, prompt vectors and encoders have
/// none in a batch whose prompts do not use them.
pub(super) fn check(
    gradients: &Gradients,
    parameters: &[Parameter],
    prompts: &[Prompt],
) -> Result<()> {
    let needed =
        |p: &&Parameter| p.role != Role::NewRows && prompts.iter().any(|prompt| prompt.uses(p));
    let needed: Vec<Parameter> = parameters.iter().filter(needed).cloned().collect();
    let missing = gradients.missing(&needed);
    match missing.is_empty() {
        true => Ok(()),
        false => Err(Error::NoGradient {
            hint: hint(&missing),
            parameters: missing,
        }),
    }
}

/// `a, b and 3 more`
pub(crate) fn named(names: &[String]) -> String {
    let shown = names[..names.len().min(NAMED)].join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

fn hint(missing: &[String]) -> String {
    let mut hint = format!(
        "Either an operation between them and the loss has no backward pass ({}): use candle_nn::ops::softmax, \
         layer_norm_slow, rms_norm_slow, rope_slow, forward_diff, or this prelude's LayerNorm, RmsNorm and softmax. Or \
         the loss does not depend on them: freeze them with set_trainable(false), or leave them out of LoRA's \
         target_modules",
        WITHOUT_BACKWARD.join("; ")
    );
    if missing.iter().any(|name| name.contains("pooler")) {
        hint.push_str(" (no loss here reads a pooler)");
    }
    hint.push_str(". TrainerConfig { require_gradients: false, .. } trains all the same");
    hint
}

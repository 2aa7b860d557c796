//! Looking inside: what every stage computes, where gradients go, and which part of a picture a word came from.
//!
//! Each instrument is a value that renders. They work on tensors, parameters and closures, so they fit the models of
//! this crate and whatever a cell builds by hand.
//!
//! # Layout
//! - `caption`: all of the below for a [`crate::vlm::Vlm`], a picture and a caption, in one call each
//! - `prompt`: the same for a prompt of any form: questions, conversations, several pictures, gaps
//! - `input_attention`(mod@input_attention): attention on the positions of any input, drawn by its encoder
//! - `trace`: [`StageTrace`], every tensor of a forward pass in one foldable table, with warnings
//! - `ledger`: [`GradientLedger`], which parameters train and which silently do not
//! - `token_loss`: [`TokenLossMap`], the loss of each token of a caption, under different pictures
//! - `logit_lens`: [`LogitLens`], what each layer would say next
//! - `patches`: [`PatchHeat`], numbers laid over the patches of a picture; attention rollout
//! - `occlusion`(mod@occlusion): which part of a picture a score depends on, by covering it
//! - `spectrum`: [`LoraSpectrum`], the singular values of what LoRA adds
//! - `pca`: [`EmbeddingPca`], vectors as points in a plane
//! - `patching`: [`PatchingMap`], where the difference between two pictures is carried: layer × token
//! - `ablation`: [`HeadAblation`], what is lost without each head; which image tokens an answer needs
//! - `attribution`: [`LogitAttribution`], what each head and MLP adds to a logit
//! - `integrated`: [`IntegratedGradients`], how much each patch adds to a score, with the sum checked
//! - `steering`: [`Direction`], a difference of means, added while the model writes
//! - `answer`: how sure a model is of a prompt's answer, asked many times; `heat_table`: rows and columns of coloured figures
//! - `drawn`: which image token is which patch of which picture, in tiles too
//! - `shown`: a picture's pixel values, all tiles of it, changed within a prompt
//! - `eigen`: the small symmetric eigenproblems behind the last two

mod ablation;
mod answer;
mod attribution;
mod caption;
mod drawn;
pub(crate) mod eigen;
mod heat_table;
mod input_attention;
mod integrated;
mod ledger;
mod logit_lens;
mod occlusion;
mod patches;
mod patching;
mod pca;
mod prompt;
mod shown;
mod spectrum;
mod steering;
mod token_loss;
mod trace;

pub use ablation::{
    Ablation, HeadAblation, encoder_head_ablation, head_ablation, image_token_ablation,
    prompt_head_ablation,
};
pub use attribution::{LogitAttribution, prompt_attribution};
pub use caption::{
    caption_attention, caption_ledger, caption_lens, caption_losses, caption_occlusion,
    encoder_attention, encoder_attention_in_tiles, token_attention, trace_caption,
};
#[doc(hidden)]
pub use drawn::input_places;
pub use input_attention::{InputAttention, input_attention};
pub use integrated::{IntegratedGradients, integrated_gradients, prompt_integrated_gradients};
pub use ledger::{GradientLedger, LedgerEntry, LedgerState, snapshot};
pub use logit_lens::LogitLens;
pub use occlusion::occlusion;
pub use patches::{PatchHeat, attention_rollout};
pub use patching::{PatchingMap, patching_map, patching_map_of};
pub use pca::EmbeddingPca;
pub use prompt::{
    prompt_attention, prompt_ledger, prompt_lens, prompt_losses, prompt_occlusion, trace_prompt,
};
pub use spectrum::{LayerSpectrum, LoraSpectrum};
pub use steering::{Direction, SteeringTable, steer, steering_direction};
pub use token_loss::{TokenLossMap, token_losses};
pub use trace::{Expected, StageTrace};

//! Looking inside: what every stage computes, where gradients go, and which part of a picture a word came from.
//!
//! Each instrument is a value that renders. They work on tensors, parameters and closures, so they fit the models of
//! this crate and whatever a cell builds by hand.
//!
//! # Layout
//! - [`caption`]: all of the below for a [`crate::vlm::Vlm`], a picture and a caption, in one call each
//! - [`trace`]: [`StageTrace`], every tensor of a forward pass in one foldable table, with warnings
//! - [`ledger`]: [`GradientLedger`], which parameters train and which silently do not
//! - [`token_loss`]: [`TokenLossMap`], the loss of each token of a caption, under different pictures
//! - [`logit_lens`]: [`LogitLens`], what each layer would say next
//! - [`patches`]: [`PatchHeat`], numbers laid over the patches of a picture; attention rollout
//! - [`occlusion`](mod@occlusion): which part of a picture a score depends on, by covering it
//! - [`spectrum`]: [`LoraSpectrum`], the singular values of what LoRA adds
//! - [`pca`]: [`EmbeddingPca`], vectors as points in a plane
//! - `eigen`: the small symmetric eigenproblems behind the last two

pub mod caption;
mod eigen;
pub mod ledger;
pub mod logit_lens;
pub mod occlusion;
pub mod patches;
pub mod pca;
pub mod spectrum;
pub mod token_loss;
pub mod trace;

pub use caption::{
    caption_attention, caption_ledger, caption_lens, caption_losses, caption_occlusion,
    encoder_attention, token_attention, trace_caption,
};
pub use ledger::{GradientLedger, LedgerEntry, LedgerState};
pub use logit_lens::LogitLens;
pub use occlusion::occlusion;
pub use patches::{PatchHeat, attention_rollout};
pub use pca::EmbeddingPca;
pub use spectrum::LoraSpectrum;
pub use token_loss::{TokenLossMap, token_losses};
pub use trace::{Expected, StageTrace};

//! From a picture to hidden states: what the blog calls the image processor and the image encoder.
//!
//! # Layout
//! - `image`: a decoded picture that a cell can keep; `jpeg` reads JPEG files
//! - `image_processor`: picture → pixel values; `resize` is its exact resampling
//! - `modality`: what any encoder must offer, and may; `feature`: which of its outputs is used; `encoder`: any of them in a box
//! - `vit`: the Vision Transformer with `vit_config` and `vit_names`; `patches` embeds its input
//! - `towers`: CLIP, SigLIP and DINOv2
//!
//! Data flows: file → [`Image`] → pixel values `[1, 3, H, W]` → hidden states `[1, P, D]`.

pub mod encoder;
pub mod feature;
pub mod image;
pub mod image_processor;
mod jpeg;
pub mod modality;
mod patches;
mod render;
mod resize;
mod show;
pub mod towers;
pub mod vit;
pub mod vit_config;
pub mod vit_names;

pub use encoder::Encoder;
pub use feature::VisionFeature;
pub use image::{AlphaPolicy, DecodeOptions, ExifPolicy, Image};
pub use image_processor::{ImageProcessor, ImageProcessorConfig, Rescaling, Resize};
pub use modality::{Modality, Positions, Stages};
pub use resize::Resample;
pub use towers::{Tower, TowerConfig};
pub use vit::{Vit, VitLayer, VitOutput};
pub use vit_config::ViTConfig;
pub use vit_names::hub_name;

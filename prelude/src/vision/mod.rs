//! From a picture to hidden states: what the blog calls the image processor and the image encoder.
//!
//! # Layout
//! - `image`: a decoded picture that a cell can keep; `jpeg` reads JPEG files
//! - `image_processor`: picture → pixel values; `processor_file` reads its settings, `resize` is its exact resampling
//! - `tiling`: large picture → several tiles and one view of the whole
//! - `modality`: what any encoder must offer, and may; `feature`: which of its outputs is used; `encoder`: any of them in a box
//! - `vit`: the Vision Transformer with `vit_config` and `vit_names`; `patches` embeds its input, `layer` is one of its layers
//! - `towers`: CLIP, SigLIP, DINOv2 and SmolVLM's, a file each; `fields` reads or refuses each field of a config
//!
//! Data flows: file → [`Image`] → pixel values `[1, 3, H, W]` → hidden states `[1, P, D]`.

pub mod encoder;
pub mod feature;
pub(crate) mod fields;
pub mod image;
pub mod image_processor;
mod jpeg;
pub mod layer;
pub mod modality;
mod patches;
mod processor_file;
mod render;
mod resize;
mod show;
pub mod tiling;
pub mod towers;
pub mod vit;
pub mod vit_config;
pub(crate) mod vit_names;

pub use encoder::Encoder;
pub use feature::VisionFeature;
pub use image::{AlphaPolicy, DecodeOptions, ExifPolicy, Image};
pub use image_processor::{ImageProcessor, ImageProcessorConfig, Rescaling, Resize};
pub use layer::VitLayer;
pub use modality::{Modality, Positions, Stages};
pub(crate) use processor_file::default_pinpoints;
pub use resize::Resample;
pub(crate) use show::positions as show_positions;
pub use tiling::{Anyres, GridSplit, NanoSplit, TilePiece, Tiles, Tiling};
pub use towers::{Tower, TowerConfig};
pub use vit::{Vit, VitOutput};
pub use vit_config::ViTConfig;
pub(crate) use vit_names::hub_name;

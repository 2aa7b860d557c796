//! From a picture to hidden states: what the blog calls the image processor and the image encoder.
//!
//! # Layout
//! - `image`: a decoded picture that a cell can keep
//! - `image_processor`: picture → pixel values; `resize` is its exact resampling
//!
//! Data flows: file → [`Image`] → pixel values `[1, 3, H, W]` → hidden states `[1, P, D]`.

pub mod image;
pub mod image_processor;
mod render;
mod resize;

pub use image::{AlphaPolicy, DecodeOptions, ExifPolicy, Image};
pub use image_processor::{ImageProcessor, ImageProcessorConfig, Rescaling, Resize};
pub use resize::Resample;

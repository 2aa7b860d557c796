//! From a picture to hidden states: what the blog calls the image processor and the image encoder.
//!
//! # Layout
//! - `image`: a decoded picture that a cell can keep
//!
//! Data flows: file → [`Image`] → pixel values `[1, 3, H, W]` → hidden states `[1, P, D]`.

pub mod image;

pub use image::{AlphaPolicy, DecodeOptions, ExifPolicy, Image};

//! The tiny default: a pretrained ViT and a pretrained Phi-3 that are part of the program, with an untrained projector.
//!
//! The weights come from the project's own recipe, `prelude/examples/pretrain_tiny`; what they can do and how they were
//! made stands in `prelude/assets/tiny/README.md`.

use super::built_in_llm;
use super::{BaseModels, Preset, Vlm, VlmParts};
use crate::Result;
use crate::language::{Decoder, LlmProcessor};
use crate::nn::Checkpoint;
use crate::vision::{Encoder, ImageProcessor, ImageProcessorConfig, ViTConfig, Vit};
use candle_core::{DType, Device};
use std::path::Path;

/// A file of the model, compiled in.
macro_rules! asset {
    ($file:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/tiny/", $file))
    };
}

impl VlmParts {
    /// The pretrained parts of the tiny default, in f32.
    ///
    /// # Errors
    /// When the device cannot hold them.
    pub fn tiny(device: &Device) -> Result<Self> {
        let (image_encoder, image_processor) = encoder(device)?;
        let (llm, llm_processor) = llm(device)?;
        Ok(Self {
            image_encoder,
            image_processor,
            llm,
            llm_processor,
        })
    }
}

fn file(name: &str) -> String {
    format!("{}/{name}", BaseModels::TINY)
}

/// The pretrained ViT and its image processor.
pub(super) fn encoder(device: &Device) -> Result<(Encoder, ImageProcessor)> {
    let config = file("vit/config.json");
    let text = String::from_utf8_lossy(asset!("vit/config.json"));
    let vit = ViTConfig::from_json(&text, Path::new(&config))?;
    let weights = asset!("vit/model.safetensors");
    let weights =
        Checkpoint::from_static(&file("vit/model.safetensors"), weights, DType::F32, device)?;
    let vit = Vit::from_checkpoint(&vit, &weights)?;
    let config = file("vit/preprocessor_config.json");
    let text = String::from_utf8_lossy(asset!("vit/preprocessor_config.json"));
    let processor =
        ImageProcessor::new(ImageProcessorConfig::from_json(&text, Path::new(&config))?)?;
    Ok((Encoder::from(vit).with_source(BaseModels::TINY), processor))
}

/// The pretrained Phi-3 and its tokenizer.
pub(super) fn llm(device: &Device) -> Result<(Decoder, LlmProcessor)> {
    built_in_llm::TINY.load(device)
}

impl Vlm {
    /// The tiny default with [`VlmSettings::tiny`](super::VlmSettings::tiny): pretrained encoder and language model, a projector that knows
    /// nothing yet. Every call gives the same fresh model.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// assert!(vlm.named_parameters().iter().map(Parameter::count).sum::<usize>() < 1_500_000);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the device cannot hold it.
    pub fn tiny(device: &Device) -> Result<Self> {
        Self::from_pretrained(&Preset::tiny(), device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::Network;

    #[test]
    fn the_tiny_default_loads_and_only_its_new_parts_train() -> Result<()> {
        let vlm = Vlm::tiny(&Device::Cpu)?;
        assert!(
            vlm.projector
                .named_parameters()
                .iter()
                .all(|p| p.is_trainable())
        );
        let base = |p: &crate::nn::Parameter| !p.name.contains("lora_");
        assert!(
            vlm.image_encoder
                .named_parameters()
                .iter()
                .filter(|p| base(p))
                .all(|p| !p.is_trainable())
        );
        assert!(
            vlm.llm
                .named_parameters()
                .iter()
                .filter(|p| base(p))
                .all(|p| !p.is_trainable())
        );
        for word in crate::data::shapes::vocabulary() {
            let ids = vlm.llm_processor.encode_plain(word)?;
            let pieces = if word.chars().all(char::is_alphabetic) {
                1
            } else {
                2
            }; // "▁" and the mark
            assert_eq!(ids.len(), pieces, "{word}");
        }
        Ok(())
    }

    #[test]
    fn the_tiny_default_is_at_most_8_megabytes() {
        let files: [&[u8]; 7] = [
            asset!("vit/config.json"),
            asset!("vit/model.safetensors"),
            asset!("vit/preprocessor_config.json"),
            asset!("llm/config.json"),
            asset!("llm/model.safetensors"),
            asset!("llm/tokenizer.json"),
            asset!("llm/tokenizer_config.json"),
        ];
        assert!(files.iter().map(|file| file.len()).sum::<usize>() <= 8_000_000);
    }
}

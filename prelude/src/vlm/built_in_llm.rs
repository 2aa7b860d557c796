//! Language models that are part of the program, by name: the tiny default's, and one of chemistry.
//!
//! Files compiled in → [`Decoder`] and [`LlmProcessor`], in f32. How each was made stands beside its files, in `prelude/assets`; the recipes
//! are `prelude/examples/pretrain_tiny` and `prelude/examples/pretrain_chemistry`.

use super::{BaseModels, Preset, VlmSettings};
use crate::Result;
use crate::language::{Decoder, DecoderConfig, LlmProcessor};
use crate::nn::Checkpoint;
use candle_core::{DType, Device};
use std::path::Path;

/// The files of one, compiled in.
#[derive(Clone, Copy)]
pub(super) struct LlmFiles {
    /// What errors call it.
    name: &'static str,
    config: &'static [u8],
    weights: &'static [u8],
    tokenizer: &'static [u8],
    tokenizer_config: &'static [u8],
}

macro_rules! llm_files {
    ($name:expr, $folder:literal) => {
        LlmFiles {
            name: $name,
            config: llm_files!(file $folder, "/config.json"),
            weights: llm_files!(file $folder, "/model.safetensors"),
            tokenizer: llm_files!(file $folder, "/tokenizer.json"),
            tokenizer_config: llm_files!(file $folder, "/tokenizer_config.json"),
        }
    };
    (file $folder:literal, $file:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/", $folder, $file))
    };
}

// Statics: each use of a constant would have the weights once more in the program.
pub(super) static TINY: LlmFiles = llm_files!(BaseModels::TINY, "tiny/llm");
/// Not in the page in the browser, which is to be small and has no molecules.
#[cfg(not(target_arch = "wasm32"))]
static CHEMISTRY: LlmFiles = llm_files!(BaseModels::CHEMISTRY, "chemistry");

impl LlmFiles {
    /// The one of this name, if it is part of the program.
    pub fn named(name: &str) -> Option<Self> {
        let all = [
            &TINY,
            #[cfg(not(target_arch = "wasm32"))]
            &CHEMISTRY,
        ];
        all.into_iter().find(|files| files.name == name).copied()
    }

    /// Model and tokenizer.
    ///
    /// # Errors
    /// When the device cannot hold it.
    pub fn load(self, device: &Device) -> Result<(Decoder, LlmProcessor)> {
        let config = format!("{}/llm/config.json", self.name);
        let config = DecoderConfig::from_bytes(self.config, Path::new(&config))?;
        let name = format!("{}/llm/model.safetensors", self.name);
        let weights = Checkpoint::from_static(&name, self.weights, DType::F32, device)?;
        let llm = Decoder::from_checkpoint(&config, &weights)?;
        let processor = LlmProcessor::from_bytes(self.tokenizer, Some(self.tokenizer_config))?;
        Ok((llm, processor))
    }
}

impl Preset {
    /// The tiny language model of chemistry that is part of the program, for an encoder of molecules, which is given with
    /// [`Preset::encoder`] and trains: [`VlmSettings::tiny`] but for that. It has the sizes of the tiny default's language model and was
    /// pretrained on text about molecules alone; what it can do stands in `prelude/assets/chemistry/README.md`.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let encoder = GraphEncoder::new_random(GraphKind::Molecules, 48, 3, 1, &Device::Cpu)?;
    /// let vlm = Vlm::from_pretrained(&Preset::chemistry().encoder(encoder), &Device::Cpu)?;
    /// assert_eq!(vlm.llm_processor.encode_plain("cycloalkane")?.len(), 1); // a word that it knows
    /// # Ok(()) }
    /// ```
    pub fn chemistry() -> Self {
        let settings = VlmSettings {
            vit_lora: None,
            train_encoder: true,
            ..VlmSettings::tiny()
        };
        Self::pair(BaseModels::IN_CODE, BaseModels::CHEMISTRY).settings(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::{LlmInput, LogitsAt};
    use crate::senses::{GraphEncoder, GraphKind, Molecule, OrganicMolecule};
    use crate::vlm::Vlm;
    use crate::{Error, Result};
    use candle_core::Tensor;

    /// What it writes behind `asked`, greedily.
    fn continued(llm: &Decoder, processor: &LlmProcessor, asked: &str) -> Result<String> {
        let mut ids = processor.encode_plain(asked)?;
        let asked = ids.len();
        for _ in 0..12 {
            let row = Tensor::from_slice(&ids, (1, ids.len()), &Device::Cpu)?; // [1, T]
            let output = llm.forward(&LlmInput::ids(&row).logits_at(LogitsAt::Last))?;
            let next = output.logits()?.argmax(1)?.to_vec1::<u32>()?;
            if next.first() == processor.eos_id().as_ref() {
                break;
            }
            ids.extend(next);
        }
        Ok(processor.decode(&ids[asked..])?.trim().to_owned())
    }

    #[test]
    fn the_model_of_chemistry_knows_the_names_that_its_recipe_says_it_knows() -> Result<()> {
        let (llm, processor) = CHEMISTRY.load(&Device::Cpu)?;
        let card = include_str!("../../assets/chemistry/pretraining.json");
        let card: serde_json::Value = serde_json::from_str(card).unwrap_or_default();
        let (mut read, mut held_out) = ((0.0, 0.0), (0.0, 0.0)); // right, all
        for (place, one) in OrganicMolecule::all()?.into_iter().enumerate() {
            let atoms = if one.carbons == 1 { "atom" } else { "atoms" };
            let asked = format!(
                "<s>the {} with {} carbon {atoms} is",
                one.family, one.carbons
            );
            let right = continued(&llm, &processor, &asked)? == one.name;
            // Every ninth stood in no text: see the recipe.
            let counted = if place % 9 == 4 {
                &mut held_out
            } else {
                &mut read
            };
            *counted = (counted.0 + f64::from(u8::from(right)), counted.1 + 1.0);
        }
        let told = |which: &str| {
            let name = format!("names right, of molecules that were {which}");
            card[name].as_f64().unwrap_or(f64::NAN)
        };
        assert_eq!((read.1, held_out.1), (93.0, 12.0));
        assert_eq!(read.0 / read.1, told("read about"));
        // Another processor rounds otherwise, which may turn one guess.
        assert!(
            (held_out.0 / held_out.1 - told("held out")).abs() < 0.1,
            "{held_out:?}"
        );
        Ok(())
    }

    #[test]
    fn it_has_the_sizes_of_the_tiny_default_and_is_found_by_name() -> Result<()> {
        let tiny = TINY.load(&Device::Cpu)?.0.config;
        let (llm, processor) = CHEMISTRY.load(&Device::Cpu)?;
        let sizes = |config: &DecoderConfig| {
            [
                config.hidden_size,
                config.intermediate_size,
                config.num_hidden_layers,
                config.num_attention_heads,
            ]
        };
        assert_eq!(sizes(&tiny), sizes(&llm.config));
        for family in OrganicMolecule::families() {
            assert_eq!(processor.encode_plain(family)?.len(), 1, "{family}");
        }
        assert!(LlmFiles::named("built-in physics").is_none());
        Ok(())
    }

    #[test]
    fn without_an_encoder_it_asks_for_one_and_a_fine_tune_finds_it_again() -> Result<()> {
        let missing = Vlm::from_pretrained(&Preset::chemistry(), &Device::Cpu);
        let said = missing.map(|_| ()).unwrap_err().to_string();
        assert!(said.contains("Preset::encoder"), "{said}");
        let encoder = || GraphEncoder::new_random(GraphKind::Molecules, 16, 2, 1, &Device::Cpu);
        let vlm = Vlm::from_pretrained(&Preset::chemistry().encoder(encoder()?), &Device::Cpu)?;
        let folder = tempfile::tempdir().map_err(|source| Error::Io {
            path: "a temporary folder".into(),
            source,
        })?;
        vlm.save(folder.path())?;
        let again = Preset::fine_tune(folder.path())?.encoder(encoder()?);
        let again = Vlm::from_pretrained(&again, &Device::Cpu)?;
        let ethanol = Molecule::from_smiles("CCO")?;
        let said = |vlm: &Vlm| Ok::<_, Error>(vlm.generate(&ethanol)?.max_new_tokens(6).run()?.ids);
        assert_eq!(said(&vlm)?, said(&again)?);
        Ok(())
    }
}

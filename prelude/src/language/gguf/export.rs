//! A language model, with its tokenizer, as one GGUF file: for llama.cpp and all that reads its format.
//!
//! ```text
//! Decoder ─ saved_weights, LoRA added in ─ llama.cpp's names, its order of rows ─ f32, f16 or blocks ─┐
//! config  ─ keys ─ read back: is it the same model? ──────────────────────────────────────────────────┼─▶ FILE.gguf
//! LlmProcessor ─ vocabulary ─ read back: does it give the same ids? ──────────────────────────────────┘
//! ```

use super::writer::{self, Planned};
use super::{GgufFile, Source, is_gguf, keys, vocabulary, weights};
use crate::display::Facts;
use crate::display::facts::shown_by_facts;
use crate::display::number;
use crate::language::{Decoder, LlmProcessor};
use crate::nn::{BlockType, Blocks, Checkpoint};
use crate::session::check_interrupt;
use crate::{Error, Result};
use candle_core::quantized::GgmlDType;
use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// How the matrices of a GGUF file are stored; norms and biases are f32 in any.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let ids = Tensor::new(&[[5u32, 6, 7]], &Device::Cpu)?;
/// let exact = vlm.llm.forward(&LlmInput::ids(&ids))?.logits()?.clone();
/// let rounded = vlm.llm.rounded(GgufType::Q4_0)?; // the weights that such a file would hold
/// let logits = rounded.forward(&LlmInput::ids(&ids))?.logits()?.clone();
/// assert!((exact - logits)?.abs()?.max_all()?.to_scalar::<f32>()? > 0.0);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GgufType {
    /// Four bytes each: exact.
    F32,
    /// Two bytes each.
    F16,
    /// Blocks of 32 whole numbers of 8 bits with a scale: 8.5 bits each.
    Q8_0,
    /// Blocks of 256 whole numbers of 6 bits, with scales: 6.6 bits each.
    Q6K,
    /// Blocks of 256 whole numbers of 4 bits, with scales and lowest values: 4.5 bits each.
    Q4K,
    /// Blocks of 32 whole numbers of 4 bits with a scale: 4.5 bits each.
    Q4_0,
}

impl GgufType {
    /// All of them, the most exact first.
    pub const ALL: [GgufType; 6] = [
        Self::F32,
        Self::F16,
        Self::Q8_0,
        Self::Q6K,
        Self::Q4K,
        Self::Q4_0,
    ];

    /// llama.cpp's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Q8_0 => "Q8_0",
            Self::Q6K => "Q6_K",
            Self::Q4K => "Q4_K",
            Self::Q4_0 => "Q4_0",
        }
    }

    fn dtype(self) -> GgmlDType {
        match self {
            Self::F32 => GgmlDType::F32,
            Self::F16 => GgmlDType::F16,
            Self::Q8_0 => GgmlDType::Q8_0,
            Self::Q6K => GgmlDType::Q6K,
            Self::Q4K => GgmlDType::Q4K,
            Self::Q4_0 => GgmlDType::Q4_0,
        }
    }

    /// llama.cpp's number of a file of mostly this type.
    fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8_0 => 7,
            Self::Q6K => 18,
            Self::Q4K => 14,
            Self::Q4_0 => 2,
        }
    }

    /// Of a tensor of this shape: rows that blocks do not divide stay f16, as llama.cpp's converter leaves them.
    fn of(self, shape: &[usize]) -> GgmlDType {
        match shape {
            [_, row] if !row.is_multiple_of(self.dtype().block_size()) => GgmlDType::F16,
            [_, _] => self.dtype(),
            _ => GgmlDType::F32,
        }
    }
}

impl std::fmt::Display for GgufType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A GGUF file that was written.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let path = std::env::temp_dir().join(format!("tiny-{}.gguf", std::process::id()));
/// let export = vlm.llm.save_gguf(&path, &vlm.llm_processor, GgufType::Q8_0)?;
/// assert_eq!(export.weights, GgufType::Q8_0);
/// assert!(export.bytes < 2_000_000 && export.tensors > 20);
/// # std::fs::remove_file(path).ok();
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct GgufExport {
    /// Where it lies.
    pub path: PathBuf,
    /// How its matrices are stored.
    pub weights: GgufType,
    /// Its size in bytes.
    pub bytes: u64,
    /// How many tensors it holds.
    pub tensors: usize,
    /// What is not in it, or otherwise than asked for.
    pub notes: Vec<String>,
}

shown_by_facts!(GgufExport);

impl GgufExport {
    fn facts(&self) -> Facts {
        let facts = Facts::new(format!("GGUF file, {}", self.weights))
            .fact("at", self.path.display())
            .fact("size", number::bytes(self.bytes))
            .fact("tensors", self.tensors);
        self.notes
            .iter()
            .fold(facts, |facts, note| facts.fact("note", note))
            .hint("`Decoder::load(path, DType::F32, &device)?` reads it, and so does llama.cpp")
    }
}

impl Decoder {
    /// Writes the model, LoRA added in and new tokens in their tables, with its tokenizer to one GGUF file, under the names and keys
    /// that llama.cpp's converter writes. A matrix that is held in blocks of the wanted type is written as it is, one in others is made
    /// floats and rounded again, which a note in the outcome counts. What such a file can't tell is refused by name, before anything is written.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let folder = std::env::temp_dir().join(format!("gguf-{}", std::process::id()));
    /// std::fs::create_dir_all(&folder).ok();
    /// let file = vlm.llm.save_gguf(folder.join("tiny.gguf"), &vlm.llm_processor, GgufType::F16)?;
    /// let again = Decoder::load(&file.path, DType::F32, &Device::Cpu)?;
    /// assert_eq!(again.config.hidden_size, vlm.llm.config.hidden_size);
    /// # std::fs::remove_dir_all(&folder).ok();
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Config` for settings that no GGUF file can tell, `Tokenizer` for a tokenizer of another kind, `Input` for another ending than
    /// `.gguf` and for weights that are no finite numbers or too large for their type; `Io`; `Interrupted`.
    pub fn save_gguf(
        &self,
        path: impl AsRef<Path>,
        processor: &LlmProcessor,
        weights: GgufType,
    ) -> Result<GgufExport> {
        let path = path.as_ref();
        if !is_gguf(path) {
            return Err(Error::Input(format!(
                "{} is no name of a GGUF file: let it end in .gguf, by which it is known when it is read",
                path.display()
            )));
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let mut notes = Vec::new();
        let mut all = writer::Keys::default();
        keys::general(&mut all, &self.config, &name, weights.file_type())?;
        let (sizes, factors) = keys::of(&self.config)?;
        all.0.extend(sizes.0);
        let words = vocabulary::of(processor, self.config.vocab_size, &mut notes)?;
        all.0.extend(words.0);
        let planned = self.planned(factors, weights)?;
        self.check_read_back(path, &all, &planned)?;
        let two_bytes = planned
            .iter()
            .filter(|tensor| tensor.dtype == GgmlDType::F16 && weights.dtype() != GgmlDType::F16);
        match two_bytes.count() {
            0 => {}
            count => notes.push(format!(
                "{count} matrices whose rows blocks of {} do not divide are F16",
                weights.dtype().block_size()
            )),
        }
        let again = self.saved_weights(true).into_iter().filter(|weight| {
            let held = weight.held().map(BlockType::ggml);
            held.is_some_and(|held| {
                held != Some(weights.of(&weight.shape)) || weight.blocks().is_none()
            })
        });
        match again.count() {
            0 => {}
            count => notes.push(format!(
                "{count} matrices that are held in blocks were made floats, and those rounded again"
            )),
        }
        let bytes = writer::write(path, &all, &planned)?;
        Ok(GgufExport {
            path: path.into(),
            weights,
            bytes,
            tensors: planned.len(),
            notes,
        })
    }

    /// A copy of the model whose matrices are rounded as a GGUF file of this type has them, LoRA added in: what whoever loads the
    /// file computes with. It takes as much memory as the model.
    ///
    /// # Errors
    /// As [`Decoder::save_gguf`] for weights that can't be written.
    pub fn rounded(&self, weights: GgufType) -> Result<Decoder> {
        let (dtype, device) = (self.dtype(), self.device());
        let mut tensors = HashMap::new();
        for weight in self.saved_weights(true) {
            check_interrupt()?;
            let values = weight.values()?.to_device(&Device::Cpu)?;
            let values = values.to_dtype(DType::F32)?.contiguous()?;
            let values = writer::rounded(&values, weights.of(&weight.shape), &weight.name)?;
            tensors.insert(weight.name, values.to_dtype(dtype)?.to_device(device)?);
        }
        Decoder::from_checkpoint(
            &self.config,
            &Checkpoint::from_tensors(tensors, dtype, device),
        )
    }

    /// The tensors of the file: factors of frequencies, then the weights.
    fn planned(&self, factors: keys::Factors, weights: GgufType) -> Result<Vec<Planned<'_>>> {
        let mut planned = Vec::new();
        for (name, factors) in factors {
            let count = factors.len();
            planned.push(Planned {
                name: name.into(),
                shape: vec![count],
                dtype: GgmlDType::F32,
                blocks: None,
                values: Box::new(move || Ok(Tensor::from_slice(&factors, count, &Device::Cpu)?)),
            });
        }
        for weight in self.saved_weights(true) {
            let family = &self.config.model_type;
            let Some(name) = weights::llama_cpp_name(&weight.name, family) else {
                return Err(Error::Config(format!(
                    "weight {} has no place in a GGUF file of {family}",
                    weight.name
                )));
            };
            let dtype = weights.of(&weight.shape);
            let same = weight
                .blocks()
                .filter(|blocks| blocks.kind().ggml() == Some(dtype));
            let as_is = |blocks: Blocks| -> Box<dyn Fn() -> Result<Blocks> + '_> {
                let name = name.clone();
                Box::new(
                    move || match weights::rows_after(&name, blocks.dims().0, &self.config)? {
                        Some(order) => blocks.reordered(&order),
                        None => Ok(blocks.clone()),
                    },
                )
            };
            let blocks = same.cloned().map(as_is);
            planned.push(Planned {
                name: name.clone(),
                shape: weight.shape.clone(),
                dtype,
                blocks,
                values: Box::new(move || {
                    let values = weight.values()?.to_device(&Device::Cpu)?;
                    let values = values.to_dtype(DType::F32)?;
                    weights::as_llama_cpp_has_it(values, &name, &self.config)
                }),
            });
        }
        Ok(planned)
    }

    /// Whether a reader makes the same model of the keys.
    fn check_read_back(&self, path: &Path, all: &writer::Keys, planned: &[Planned]) -> Result<()> {
        let stored = writer::places(planned);
        // The factors alone are looked at, and they come first.
        let mut bytes = Vec::new();
        for (tensor, place) in planned.iter().zip(&stored) {
            if tensor.name.starts_with("rope_") {
                bytes.resize(place.start as usize, 0);
                bytes.extend(tensor.encoded()?);
            }
        }
        let file = GgufFile {
            path: path.into(),
            source: Source::Bytes(bytes),
            metadata: all.as_read()?,
            tensors: stored,
        };
        keys::same(&self.config, &file.config()?)
    }
}

//! A language model and its tokenizer from one GGUF file, the format of llama.cpp, and back.
//!
//! ```text
//! file ─ reader ─▶ metadata, where each tensor lies ─┬─ config ─▶ DecoderConfig ─┐
//!                                                    ├─ weights: dequantised or in blocks, by Hugging Face's names ─▶ Decoder
//!                                                    └─ tokenizer ─▶ LlmProcessor, chat template included
//! ```
//! The way back is `export`, with `keys`, `vocabulary` and `writer`.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. Every key of the metadata is read, known to be without
//! effect, or refused by name.

mod config;
mod export;
mod keys;
mod metadata;
mod reader;
mod tokenizer;
mod vocabulary;
mod weights;
mod writer;

pub use export::{GgufExport, GgufType};

use self::metadata::Metadata;
use self::reader::Stored;
use self::weights::Matrices;
use super::{Decoder, DecoderConfig, LlmProcessor};
use crate::display::Facts;
use crate::display::facts::shown_by_facts;
use crate::nn::Quantize;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use std::fs::File;
use std::io::{BufReader, Cursor};
use std::path::{Path, PathBuf};

/// An open GGUF file: its metadata is read, its weights are not.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let path = std::env::temp_dir().join(format!("small-{}.gguf", std::process::id()));
/// vlm.llm.save_gguf(&path, &vlm.llm_processor, GgufType::F16)?; // or one from the hub
/// let file = GgufFile::open(&path)?;
/// let (llm, llm_processor) = (file.decoder(DType::F32, &Device::Cpu)?, file.processor()?);
/// assert_eq!(llm.config.hidden_size, vlm.llm.config.hidden_size);
/// assert_eq!(llm_processor.decode(&llm_processor.encode("a red square")?)?, "a red square");
/// # std::fs::remove_file(path).ok();
/// # Ok(()) }
/// ```
pub struct GgufFile {
    path: PathBuf,
    source: Source,
    metadata: Metadata,
    tensors: Vec<Stored>,
}

enum Source {
    File(File),
    Bytes(Vec<u8>),
}

shown_by_facts!(GgufFile);

/// Whether a path is meant as a GGUF file.
pub(crate) fn is_gguf(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ending.eq_ignore_ascii_case("gguf")) && !path.is_dir()
}

impl GgufFile {
    fn facts(&self) -> Facts {
        let types: std::collections::BTreeSet<_> = self.tensors.iter().map(Stored::kind).collect();
        Facts::new("GgufFile: a language model in one file")
            .fact("from", self.path.display())
            .fact_if(
                "architecture",
                self.metadata.text("general.architecture").ok().flatten(),
            )
            .fact("tensors", self.tensors.len())
            .fact(
                "stored as",
                types.into_iter().collect::<Vec<_>>().join(", "),
            )
            .hint(
                "`.decoder(dtype, &device)?` gives the model, `.quantized_decoder(Quantize::as_stored(), dtype, &device)?` with blocks as \
                 they are, `.processor()?` its tokenizer",
            )
    }

    /// Opens a file and reads its metadata.
    ///
    /// # Errors
    /// A file that is missing, truncated, no GGUF, or of a version that is not known.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let io = |source| Error::Io {
            path: path.into(),
            source,
        };
        let file = crate::files::open(path).map_err(io)?;
        let size = file.metadata().map_err(io)?.len();
        let head = reader::read(&mut BufReader::new(&file), size);
        let (metadata, tensors) = head.map_err(|what| wrong(path, what))?;
        Ok(Self {
            path: path.into(),
            source: Source::File(file),
            metadata,
            tensors,
        })
    }

    /// Reads a file that is in memory; `name` appears in messages.
    ///
    /// # Errors
    /// As [`GgufFile::open`].
    pub fn from_bytes(name: &str, bytes: Vec<u8>) -> Result<Self> {
        let path = Path::new(name);
        let head = reader::read(&mut Cursor::new(&bytes), bytes.len() as u64);
        let (metadata, tensors) = head.map_err(|what| wrong(path, what))?;
        Ok(Self {
            path: path.into(),
            source: Source::Bytes(bytes),
            metadata,
            tensors,
        })
    }

    /// The model's sizes and settings.
    ///
    /// # Errors
    /// An architecture that is not known, a key that is not known or makes no sense.
    pub fn config(&self) -> Result<DecoderConfig> {
        let read = config::read(self);
        read.map_err(|error| Error::Config(format!("{}: {error}", self.path.display())))
    }

    /// The model, its weights as `dtype` on `device`: quantised ones become plain numbers.
    ///
    /// # Errors
    /// As [`GgufFile::config`]; tensors that are missing, of another shape, of no use for the model, or of a type that cannot be read.
    pub fn decoder(&self, dtype: DType, device: &Device) -> Result<Decoder> {
        self.model(None, dtype, device)
    }

    /// The model, its linear layers held in blocks: see [`Decoder::load_quantized`].
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let path = std::env::temp_dir().join(format!("blocks-{}.gguf", std::process::id()));
    /// vlm.llm.save_gguf(&path, &vlm.llm_processor, GgufType::Q8_0)?; // or one from the hub
    /// let file = GgufFile::open(&path)?;
    /// let (held, plain) = (file.quantized_decoder(Quantize::as_stored(), DType::F32, &Device::Cpu)?, file.decoder(DType::F32, &Device::Cpu)?);
    /// let logits = |llm: &Decoder| -> Result<Tensor> {
    ///     Ok(llm.forward(&LlmInput::ids(&Tensor::new(&[[5u32, 6, 7]], &Device::Cpu)?))?.logits()?.clone())
    /// };
    /// assert!((logits(&held)? - logits(&plain)?)?.abs()?.max_all()?.to_scalar::<f32>()? < 1e-3);
    /// # std::fs::remove_file(path).ok();
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`GgufFile::decoder`]; `Input` for a device that is no CPU, and for layers that can't be held so.
    pub fn quantized_decoder(
        &self,
        how: impl Into<Quantize>,
        dtype: DType,
        device: &Device,
    ) -> Result<Decoder> {
        self.model(Some(how.into()), dtype, device)
    }

    fn model(&self, how: Option<Quantize>, dtype: DType, device: &Device) -> Result<Decoder> {
        let config = self.config()?;
        let matrices = match &how {
            Some(how) if how.is_as_stored() => Matrices::AsStored,
            _ => Matrices::Plain,
        };
        if matrices == Matrices::AsStored && !device.is_cpu() {
            return Err(Error::Input(format!(
                "{}: blocks are computed with on the CPU only, the model is to be on {:?}: read it with `decoder`",
                self.path.display(),
                device.location()
            )));
        }
        let weights = weights::read(self, &config, matrices, dtype, device)?;
        let weights = match how {
            Some(how) if matrices == Matrices::Plain => weights.quantized(how),
            _ => weights,
        };
        let model = Decoder::from_whole_checkpoint(&config, &weights);
        model.map_err(|error| match error {
            Error::Checkpoint { message, .. } => wrong(&self.path, message),
            Error::MissingTensor { tensor, hint, .. } => Error::MissingTensor {
                tensor,
                path: self.path.clone(),
                hint,
            },
            Error::Weights {
                tensor,
                expected,
                found,
                ..
            } => Error::Weights {
                tensor,
                expected,
                found,
                path: self.path.clone(),
            },
            other => other,
        })
    }

    /// The tokenizer, with the chat template.
    ///
    /// # Errors
    /// A vocabulary of a kind that is not known, or that contradicts itself.
    pub fn processor(&self) -> Result<LlmProcessor> {
        let read = tokenizer::read(&self.metadata);
        read.map_err(|error| match error {
            Error::Tokenizer(what) => Error::Tokenizer(format!("{}: {what}", self.path.display())),
            Error::Config(what) => Error::Tokenizer(format!("{}: {what}", self.path.display())),
            other => other,
        })
    }

    /// The values of a tensor by its name in the file, as they are stored, in f32; `[out, in]` for the matrix of a linear layer.
    ///
    /// # Errors
    /// When there is none of that name, or the file cannot be read.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let lacking = || wrong(&self.path, format!("there is no tensor {name}"));
        self.values(self.stored(name).ok_or_else(lacking)?)
    }

    fn stored(&self, name: &str) -> Option<&Stored> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }
}

fn wrong(path: &Path, message: String) -> Error {
    Error::Checkpoint {
        path: path.into(),
        message,
    }
}

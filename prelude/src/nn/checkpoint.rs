//! Where a model's weights come from: safetensors files (one, or several with an index), bytes in memory, or a seeded
//! random draw. A model has one constructor, which asks a [`Checkpoint`] for each tensor by its Hugging Face name.

mod bytes;
mod names;

use self::bytes::Bytes;
use self::names::renamed;
pub(crate) use self::names::{Names, Rule};
use super::blocks::Blocks;
use super::parameter::Weight;
use super::quantize::Quantize;
use crate::display::Facts;
use crate::display::facts::shown_by_facts;
use crate::display::tensor::device_name;
use crate::hub::header::{Header, some};
use crate::hub::weight_files;
use crate::session::stopping::writing;
use crate::session::stopping_takes;
use crate::{Error, Result, fnv, notes};
use candle_core::{DType, Device, Tensor};
use half::vec::HalfBitsVecExt;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// How a random checkpoint draws a tensor.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let drawn = Checkpoint::random(1, DType::F32, &Device::Cpu);
/// let weight = drawn.get("fc.weight", &[4, 4], Init::Uniform(0.5))?;
/// assert!(weight.abs()?.max_all()?.to_scalar::<f32>()? <= 0.5);
/// let bias = drawn.get("fc.bias", &[4], Init::Zeros)?;
/// assert_eq!(bias.to_vec1::<f32>()?, [0.0; 4]);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All zeros.
    Zeros,
    /// All ones.
    Ones,
    /// Normal with this standard deviation.
    Normal(f64),
    /// Uniform in ± this bound.
    Uniform(f64),
}

/// The weights of one model, by name. Cheap to clone; files stay open as long as a clone lives.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let device = Device::Cpu;
/// let weight = Tensor::ones((2, 3), DType::F32, &device)?;
/// let tensors = [("fc.weight".to_string(), weight)].into();
/// let checkpoint = Checkpoint::from_tensors(tensors, DType::F32, &device); // of a file: Checkpoint::open(path, …)?
/// let fc = Linear::load(&checkpoint, "fc", (3, 2), false)?;
/// assert_eq!(fc.forward(&Tensor::ones((1, 3), DType::F32, &device)?)?.to_vec2::<f32>()?, [[3.0, 3.0]]);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Checkpoint {
    source: Arc<Source>,
    /// Full names of the tensors that were asked for, by any clone.
    asked: Arc<Mutex<BTreeSet<String>>>,
    prefix: String,
    dtype: DType,
    device: Device,
    /// How the matrices of linear layers come that are not in blocks already.
    quantize: Option<Arc<Quantize>>,
    /// While what is missing is listed: nothing is read then.
    survey: Option<Arc<Mutex<Survey>>>,
}

/// What a model asked for and did not find.
#[derive(Default)]
struct Survey {
    missing: Vec<String>,
    /// With both shapes.
    other_shape: Vec<String>,
}

/// More faults than this are not looked for.
const MOST_FAULTS: usize = 10_000;

enum Source {
    Files {
        path: PathBuf,
        files: Vec<Bytes>,
        entries: BTreeMap<String, Entry>,
        /// Where the names in the files are other ones.
        names: Option<Names>,
    },
    Tensors(HashMap<String, Given>),
    Random {
        seed: u64,
    },
}

/// A weight that is in memory already.
pub(crate) enum Given {
    Tensor(Tensor),
    Blocks(Blocks),
}

impl Given {
    fn dims(&self) -> Vec<usize> {
        match self {
            Self::Tensor(tensor) => tensor.dims().to_vec(),
            Self::Blocks(blocks) => vec![blocks.dims().0, blocks.dims().1],
        }
    }

    fn values(&self) -> Result<Tensor> {
        match self {
            Self::Tensor(tensor) => Ok(tensor.detach()),
            Self::Blocks(blocks) => blocks.dequantize(),
        }
    }
}

shown_by_facts!(Checkpoint);

/// Where a tensor lies.
struct Entry {
    file: usize,
    dtype: String,
    shape: Vec<usize>,
    start: usize,
    end: usize,
}

impl Checkpoint {
    fn facts(&self) -> Facts {
        let (from, count) = match &*self.source {
            Source::Files { path, .. } => (path.display().to_string(), Some(self.names().len())),
            Source::Tensors(_) => ("tensors in memory".to_owned(), Some(self.names().len())),
            Source::Random { seed } => (format!("drawn at random from seed {seed}"), None),
        };
        Facts::new("Checkpoint: weights by name")
            .fact("from", from)
            .fact_if("below", (!self.prefix.is_empty()).then_some(&self.prefix))
            .fact_if("tensors", count)
            .fact(
                "given as",
                format!("{} {}", self.dtype.as_str(), device_name(&self.device)),
            )
            .hint("`.names()` lists them, `.shape(name)` tells one's shape")
    }

    /// Opens the weights that [`weight_files`] finds at `path`: a `.safetensors` file, or a folder with `model.safetensors`,
    /// with `adapter_model.safetensors`, or with `model.safetensors.index.json` and its shards. Tensors come as `dtype` on
    /// `device`.
    ///
    /// # Errors
    /// When no weights are there, or a file is truncated or not safetensors. A file that another process changes later is an
    /// error of [`Checkpoint::get`].
    pub fn open(path: impl AsRef<Path>, dtype: DType, device: &Device) -> Result<Self> {
        Self::open_with(path.as_ref(), None, dtype, device)
    }

    /// As [`Checkpoint::open`], with names of our own in place of those in the files, by the one of these sets of rules that knows
    /// most of them. Messages have the files' names.
    ///
    /// # Errors
    /// As [`Checkpoint::open`], and for a tensor that should be several and can't be cut into them.
    pub(crate) fn open_named(
        path: &Path,
        rules: &[&'static [Rule]],
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        Self::open_with(path, Some(rules), dtype, device)
    }

    fn open_with(
        path: &Path,
        rules: Option<&[&'static [Rule]]>,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let mut files = Vec::new();
        let mut entries = BTreeMap::new();
        for file in weight_files(path)? {
            let (bytes, header) = Bytes::open(&file)?;
            index(header, files.len(), &mut entries);
            files.push(bytes);
        }
        let names = rules.and_then(|rules| Names::of(rules, entries.keys().map(String::as_str)));
        if let Some(names) = &names {
            entries = renamed(entries, names).map_err(|message| Error::Checkpoint {
                path: path.into(),
                message,
            })?;
        }
        let source = Source::Files {
            path: path.to_path_buf(),
            files,
            entries,
            names,
        };
        Ok(Self {
            source: Arc::new(source),
            asked: Arc::default(),
            prefix: String::new(),
            dtype,
            device: device.clone(),
            quantize: None,
            survey: None,
        })
    }

    /// How a name is spelled in the files.
    fn stored_name(&self, full: &str) -> String {
        match &*self.source {
            Source::Files {
                names: Some(names), ..
            } => names.theirs(full),
            _ => full.to_string(),
        }
    }

    fn stored_names(&self, full: &[String]) -> Vec<String> {
        // Several of ours may be parts of one of theirs, and need not stand side by side.
        let mut seen = HashSet::new();
        let names = full.iter().map(|name| self.stored_name(name));
        names.filter(|name| seen.insert(name.clone())).collect()
    }

    /// The rules by which the files' names are ours.
    pub(crate) fn rules(&self) -> Option<&Names> {
        match &*self.source {
            Source::Files { names, .. } => names.as_ref(),
            _ => None,
        }
    }

    /// Reads safetensors from memory; `name` appears in messages.
    ///
    /// # Errors
    /// When the bytes are truncated or not safetensors.
    pub fn from_bytes(name: &str, bytes: Vec<u8>, dtype: DType, device: &Device) -> Result<Self> {
        let header = Header::parse(Path::new(name), &bytes, bytes.len() as u64)?;
        Self::in_memory(name, (Bytes::Owned(bytes), header), dtype, device)
    }

    /// Reads safetensors that are part of the program (`include_bytes!`); `name` appears in messages.
    ///
    /// # Errors
    /// When the bytes are truncated or not safetensors.
    pub(crate) fn from_static(
        name: &str,
        bytes: &'static [u8],
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let header = Header::parse(Path::new(name), bytes, bytes.len() as u64)?;
        Self::in_memory(name, (Bytes::Static(bytes), header), dtype, device)
    }

    fn in_memory(
        name: &str,
        (bytes, header): (Bytes, Header),
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let path = PathBuf::from(name);
        let mut entries = BTreeMap::new();
        index(header, 0, &mut entries);
        let source = Source::Files {
            path,
            files: vec![bytes],
            entries,
            names: None,
        };
        Ok(Self {
            source: Arc::new(source),
            asked: Arc::default(),
            prefix: String::new(),
            dtype,
            device: device.clone(),
            quantize: None,
            survey: None,
        })
    }

    /// Weights that exist as tensors already.
    pub fn from_tensors(tensors: HashMap<String, Tensor>, dtype: DType, device: &Device) -> Self {
        let tensors = tensors.into_iter();
        let given = tensors.map(|(name, tensor)| (name, Given::Tensor(tensor)));
        Self::from_given(given.collect(), dtype, device)
    }

    /// As [`Checkpoint::from_tensors`], some of them in blocks: those of linear layers and tables stay so.
    pub(crate) fn from_given(given: HashMap<String, Given>, dtype: DType, device: &Device) -> Self {
        let source = Source::Tensors(given);
        Self {
            source: Arc::new(source),
            asked: Arc::default(),
            prefix: String::new(),
            dtype,
            device: device.clone(),
            quantize: None,
            survey: None,
        }
    }

    /// Weights drawn at random: each tensor depends on `seed` and its own name only, so the order of loading is free.
    pub fn random(seed: u64, dtype: DType, device: &Device) -> Self {
        let source = Source::Random { seed };
        Self {
            source: Arc::new(source),
            asked: Arc::default(),
            prefix: String::new(),
            dtype,
            device: device.clone(),
            quantize: None,
            survey: None,
        }
    }

    /// The same checkpoint looked at below `prefix`, e.g. `vit.`; names of weights that are read leave the prefix out.
    pub fn below(&self, prefix: &str) -> Self {
        Self {
            prefix: format!("{}{prefix}", self.prefix),
            ..self.clone()
        }
    }

    /// The float dtype in which most of the values are stored (f32 for f64); `None` without a file of floats.
    pub fn stored_dtype(&self) -> Option<DType> {
        let Source::Files { entries, .. } = &*self.source else {
            return None;
        };
        let bytes = |stored: &str| -> usize {
            let of = entries.values().filter(|entry| entry.dtype == stored);
            of.map(|entry| entry.end - entry.start).sum()
        };
        [
            (DType::F32, bytes("F32") + bytes("F64")),
            (DType::BF16, bytes("BF16")),
            (DType::F16, bytes("F16")),
        ]
        .into_iter()
        .filter(|(_, bytes)| *bytes > 0)
        .max_by_key(|(_, bytes)| *bytes)
        .map(|(dtype, _)| dtype)
    }

    /// The same checkpoint, its tensors as another dtype.
    pub(crate) fn with_dtype(&self, dtype: DType) -> Self {
        Self {
            dtype,
            ..self.clone()
        }
    }

    /// Dtype that tensors come as.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Device that tensors come on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Whether this is a random draw, in which every tensor "exists".
    pub fn is_random(&self) -> bool {
        matches!(*self.source, Source::Random { .. })
    }

    /// Whether a tensor of this name is there.
    pub fn contains(&self, name: &str) -> bool {
        let name = format!("{}{name}", self.prefix);
        match &*self.source {
            Source::Files { entries, .. } => entries.contains_key(&name),
            Source::Tensors(tensors) => tensors.contains_key(&name),
            Source::Random { .. } => true,
        }
    }

    /// Names below the prefix, sorted; empty for a random draw.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = match &*self.source {
            Source::Files { entries, .. } => entries.keys().cloned().collect(),
            Source::Tensors(tensors) => tensors.keys().cloned().collect(),
            Source::Random { .. } => Vec::new(),
        };
        names.sort();
        names
            .iter()
            .filter_map(|name| name.strip_prefix(&self.prefix).map(ToString::to_string))
            .collect()
    }

    /// Shape of a tensor, if it is there and not a random draw.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let name = format!("{}{name}", self.prefix);
        match &*self.source {
            Source::Files { entries, .. } => entries.get(&name).map(|entry| entry.shape.clone()),
            Source::Tensors(tensors) => tensors.get(&name).map(Given::dims),
            Source::Random { .. } => None,
        }
    }

    /// A tensor of the given shape; `init` is what a random checkpoint draws.
    ///
    /// # Errors
    /// A missing tensor, another shape (naming both), a dtype that is not a float, a value that is not finite.
    pub fn get(&self, name: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        let full = format!("{}{name}", self.prefix);
        let asked = self.asked.lock();
        asked
            .unwrap_or_else(PoisonError::into_inner)
            .insert(full.clone());
        if let Some(survey) = &self.survey {
            return self.surveyed(survey, &full, shape);
        }
        match &*self.source {
            Source::Files {
                path,
                files,
                entries,
                ..
            } => {
                let entry = entries
                    .get(&full)
                    .ok_or_else(|| self.missing(&full, path))?;
                if entry.shape != shape {
                    return Err(Error::Weights {
                        tensor: self.stored_name(&full),
                        expected: shape.to_vec(),
                        found: entry.shape.clone(),
                        path: path.clone(),
                    });
                }
                let bytes = Stretch {
                    bytes: &files[entry.file],
                    start: entry.start,
                    end: entry.end,
                };
                let tensor = decode(&bytes, &entry.dtype, shape, self.dtype).map_err(|what| {
                    Error::Checkpoint {
                        path: path.clone(),
                        message: format!("tensor {} {what}", self.stored_name(&full)),
                    }
                })?;
                Ok(tensor.to_device(&self.device)?)
            }
            Source::Tensors(tensors) => {
                let path = Path::new("tensors in memory");
                let tensor = tensors
                    .get(&full)
                    .ok_or_else(|| self.missing(&full, path))?;
                if tensor.dims() != shape {
                    return Err(Error::Weights {
                        tensor: full,
                        expected: shape.to_vec(),
                        found: tensor.dims(),
                        path: path.to_path_buf(),
                    });
                }
                Ok(tensor
                    .values()?
                    .to_dtype(self.dtype)?
                    .to_device(&self.device)?)
            }
            Source::Random { seed } => {
                let values = draw(*seed, &full, shape.iter().product(), init);
                let tensor = Tensor::from_vec(values, shape, &Device::Cpu)?;
                Ok(tensor.to_dtype(self.dtype)?.to_device(&self.device)?)
            }
        }
    }

    /// A tensor as it lies in the file, to be written to another: floats in this checkpoint's dtype, whole numbers as they are.
    ///
    /// # Errors
    /// When it is missing, or of a dtype that is not known here.
    pub(crate) fn carried(&self, name: &str) -> Result<Tensor> {
        let full = format!("{}{name}", self.prefix);
        if let Source::Files {
            path,
            files,
            entries,
            ..
        } = &*self.source
            && let Some(entry) = entries.get(&full)
            && entry.dtype == "I64"
        {
            let bytes = Stretch {
                bytes: &files[entry.file],
                start: entry.start,
                end: entry.end,
            };
            let values =
                read(&bytes, i64::from_le_bytes, |_| true).map_err(|what| Error::Checkpoint {
                    path: path.clone(),
                    message: format!("tensor {full} {what}"),
                })?;
            return Ok(Tensor::from_vec(
                values,
                entry.shape.as_slice(),
                &Device::Cpu,
            )?);
        }
        let shape = self.shape(name).unwrap_or_default();
        self.get(name, &shape, Init::Zeros)
    }

    /// Notes whether a tensor could be read; another of its shape stands in, which takes no memory.
    fn surveyed(&self, survey: &Mutex<Survey>, full: &str, shape: &[usize]) -> Result<Tensor> {
        let mut survey = survey.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = Self {
            prefix: String::new(),
            ..self.clone()
        };
        match whole.shape(full) {
            None => survey.missing.push(self.stored_name(full)),
            Some(found) if found != shape => survey.other_shape.push(format!(
                "{} has {found:?} where the config asks for {shape:?}",
                self.stored_name(full)
            )),
            Some(_) => {}
        }
        if survey.missing.len() + survey.other_shape.len() > MOST_FAULTS {
            return Err(Error::Config("too many faults".into()));
        }
        let nothing = Tensor::zeros((), self.dtype, &Device::Cpu)?;
        Ok(nothing.broadcast_as(shape)?)
    }

    /// Builds a model; if a tensor is missing or of another shape, the error lists all that are, and those that are left over.
    ///
    /// # Errors
    /// Those of `build`.
    pub(crate) fn all_or_listed<T>(&self, build: impl Fn(&Self) -> Result<T>) -> Result<T> {
        let first = match build(self) {
            Err(first @ (Error::MissingTensor { .. } | Error::Weights { .. })) => first,
            other => return other,
        };
        match self.faults(build, |_| false) {
            Some(faults) => Err(faults),
            None => Err(first),
        }
    }

    /// As [`Checkpoint::all_or_listed`], and every tensor must be of use, unless `expected` says of its (our) name that it is known to be
    /// of none. Nothing is read before that is sure.
    ///
    /// # Errors
    /// Those of `build`, and a list of all tensors that are missing, of another shape, or left over.
    pub(crate) fn all_of_use<T>(
        &self,
        build: impl Fn(&Self) -> Result<T>,
        expected: impl Fn(&str) -> bool,
    ) -> Result<T> {
        match self.faults(&build, expected) {
            Some(faults) => Err(faults),
            None => build(self),
        }
    }

    /// What `build` asks for and does not find, and what it leaves over; `None` if there is at most one fault and nothing left.
    fn faults<T>(
        &self,
        build: impl Fn(&Self) -> Result<T>,
        expected: impl Fn(&str) -> bool,
    ) -> Option<Error> {
        let survey = Arc::new(Mutex::new(Survey::default()));
        let looked = Self {
            survey: Some(survey.clone()),
            asked: Arc::default(),
            ..self.clone()
        };
        // Its own error says no more than what it noted.
        let _ = build(&looked);
        let survey = survey.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = looked.unread();
        left.retain(|name| name.starts_with(&self.prefix) && !expected(name));
        let left = self.stored_names(&left);
        if survey.missing.len() + survey.other_shape.len() < 2 && left.is_empty() {
            return None;
        }
        let said = [
            ("are missing", &survey.missing),
            ("have another shape", &survey.other_shape),
            ("that are there belong to no part of this model", &left),
        ];
        let said = said.iter().filter(|(_, names)| !names.is_empty());
        let said = said
            .map(|(what, names)| format!("{} tensors {what}: {}", names.len(), by_layer(names)));
        Some(Error::Checkpoint {
            path: self.path().into(),
            message: said.collect::<Vec<_>>().join("; "),
        })
    }

    /// Every tensor must have been asked for. `expected` says of a name whether it is known to be of no use.
    ///
    /// # Errors
    /// Lists those that were not.
    pub(crate) fn check_all_read(&self, expected: impl Fn(&str) -> bool) -> Result<()> {
        let mut unread = self.unread();
        unread.retain(|name| !expected(name));
        if unread.is_empty() {
            return Ok(());
        }
        Err(Error::Checkpoint {
            path: self.path().into(),
            message: format!(
                "{} tensors belong to no part of this model: {}; is the config another model's?",
                unread.len(),
                by_layer(&unread)
            ),
        })
    }

    /// Where the weights lie, for messages.
    fn path(&self) -> &Path {
        match &*self.source {
            Source::Files { path, .. } => path,
            Source::Tensors(_) => Path::new("tensors in memory"),
            Source::Random { .. } => Path::new("a random draw"),
        }
    }

    /// Says on stderr which tensors nobody asked for: a model that was read takes no notice of them. `expected` says of a name
    /// whether it is known to be of no use, such as that of a head.
    pub(crate) fn note_unread(&self, path: &Path, expected: impl Fn(&str) -> bool) {
        let mut unread = self.unread();
        unread.retain(|name| !expected(name));
        if !unread.is_empty() {
            let names: Vec<&str> = unread.iter().map(String::as_str).collect();
            notes::say(&format!(
                "{}: {} tensors belong to no part of this model and were not read: {}",
                path.display(),
                names.len(),
                some(&names)
            ));
        }
    }

    /// Full names of the tensors that nobody asked for.
    pub(crate) fn unread(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let whole = Self {
            prefix: String::new(),
            ..self.clone()
        };
        let mut names = whole.names();
        names.retain(|name| !asked.contains(name));
        names
    }

    /// As [`Checkpoint::get`], as a frozen [`Weight`] under its name.
    ///
    /// # Errors
    /// As [`Checkpoint::get`].
    pub fn weight(&self, name: &str, shape: &[usize], init: Init) -> Result<Weight> {
        Ok(Weight::frozen(name, self.get(name, shape, init)?))
    }

    /// The matrix of a linear layer, `[out, in]`: in blocks where it is given so, or [`Checkpoint::quantized`] says so.
    ///
    /// # Errors
    /// As [`Checkpoint::get`], and for a matrix that can't be held so.
    pub(super) fn matrix(&self, name: &str, shape: &[usize], init: Init) -> Result<Weight> {
        let mut weight = self.table(name, shape, init)?;
        if let (Some(how), None) = (&self.quantize, &self.survey) {
            how.apply(&mut weight)?;
        }
        Ok(weight)
    }

    /// A matrix of which rows are looked up: in blocks where it is given so.
    ///
    /// # Errors
    /// As [`Checkpoint::get`].
    pub(super) fn table(&self, name: &str, shape: &[usize], init: Init) -> Result<Weight> {
        let full = format!("{}{name}", self.prefix);
        match &*self.source {
            Source::Tensors(tensors) if self.survey.is_none() && self.device.is_cpu() => {
                if let Some(Given::Blocks(blocks)) = tensors.get(&full)
                    && *shape == <[usize; 2]>::from(blocks.dims())
                {
                    let asked = self.asked.lock();
                    asked.unwrap_or_else(PoisonError::into_inner).insert(full);
                    return Weight::in_blocks(name, blocks.clone(), self.dtype);
                }
            }
            _ => {}
        }
        self.weight(name, shape, init)
    }

    /// The same checkpoint, whose linear layers come in blocks: each matrix is rounded as it is read, so that never more than one is
    /// there in floats.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let drawn = Checkpoint::random(1, DType::F32, &Device::Cpu).quantized(BlockType::Q8_0);
    /// let llm = Decoder::from_checkpoint(&DecoderConfig::new(100, 32, 64, 2, 2), &drawn)?;
    /// assert!(llm.layers[0].mlp.down_proj.weight.blocks().is_some());
    /// # Ok(()) }
    /// ```
    pub fn quantized(self, how: impl Into<Quantize>) -> Self {
        Self {
            quantize: Some(Arc::new(how.into())),
            ..self
        }
    }

    fn missing(&self, full: &str, path: &Path) -> Error {
        let last = full.rsplit('.').nth(1).unwrap_or(full);
        let names = self.names().into_iter();
        let names = names.map(|name| self.stored_name(&format!("{}{name}", self.prefix)));
        let names: Vec<String> = names.collect();
        let near: Vec<&String> = names
            .iter()
            .filter(|name| name.contains(last))
            .take(3)
            .collect();
        let hint = match (near.first(), names.first()) {
            (Some(near), _) => format!("; there is {near}"),
            (None, Some(first)) => {
                format!("; there are {} others, beginning with {first}", names.len())
            }
            (None, None) => "; the file is empty".to_string(),
        };
        Error::MissingTensor {
            tensor: self.stored_name(full),
            path: path.to_path_buf(),
            hint,
        }
    }
}

/// Writes tensors to a safetensors file, whole or not at all: a temporary file beside it is renamed at the end.
///
/// # Errors
/// When the folder cannot be written.
pub(crate) fn save_safetensors(path: &Path, tensors: &[(String, Tensor)]) -> Result<()> {
    let sizes = tensors
        .iter()
        .map(|(_, tensor)| tensor.elem_count() * tensor.dtype().size_in_bytes());
    let _saving = stopping_takes(writing(sizes.sum()), "saving the weights");
    let tensors = tensors
        .iter()
        .map(|(name, tensor)| {
            Ok((
                name.clone(),
                tensor.detach().to_device(&Device::Cpu)?.contiguous()?,
            ))
        })
        .collect::<Result<Vec<_>>>()?;
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    let temporary = crate::files::unfinished(path);
    let written =
        safetensors::serialize_to_file(tensors, Some(metadata), &temporary).map_err(|e| {
            Error::Checkpoint {
                path: path.into(),
                message: format!("cannot be written: {e}"),
            }
        });
    let renamed = written.and_then(|()| {
        std::fs::rename(&temporary, path).map_err(|source| Error::Io {
            path: path.into(),
            source,
        })
    });
    if renamed.is_err() {
        // Best effort: the error that matters is the one being returned.
        let _ = std::fs::remove_file(&temporary);
    }
    renamed
}

/// Adds a file's tensors to `entries`.
fn index(header: Header, file: usize, entries: &mut BTreeMap<String, Entry>) {
    for tensor in header.tensors {
        let entry = Entry {
            file,
            dtype: tensor.dtype,
            shape: tensor.shape,
            start: tensor.start,
            end: tensor.end,
        };
        entries.insert(tensor.name, entry);
    }
    header.notes.iter().for_each(|note| notes::say(note));
}

/// Names, those that differ in a layer's number only put together: `model.layers.N.mlp.down_proj.weight (N = 0–31)`.
fn by_layer(names: &[String]) -> String {
    const SHOWN: usize = 60;
    let mut groups: Vec<(String, Vec<u32>)> = Vec::new();
    for name in names {
        let number = name.split('.').find_map(|part| part.parse::<u32>().ok());
        let pattern = match number {
            Some(number) => name.replacen(&format!(".{number}."), ".N.", 1),
            None => name.clone(),
        };
        match groups.iter_mut().find(|(known, _)| *known == pattern) {
            Some((_, numbers)) => numbers.extend(number),
            None => groups.push((pattern, number.into_iter().collect())),
        }
    }
    let more = groups.len().saturating_sub(SHOWN);
    let shown = groups.iter_mut().take(SHOWN).map(|(pattern, numbers)| {
        numbers.sort_unstable();
        match numbers.as_slice() {
            [] => pattern.clone(),
            [only] => pattern.replacen(".N.", &format!(".{only}."), 1),
            [first, .., last] if (last - first) as usize == numbers.len() - 1 => {
                format!("{pattern} (N = {first}–{last})")
            }
            several => format!("{pattern} (N = {several:?})"),
        }
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    match more {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The bytes of one tensor.
struct Stretch<'a> {
    bytes: &'a Bytes,
    start: usize,
    end: usize,
}

/// Little-endian values of a stored dtype as a CPU tensor of the wanted one; the message says what is wrong.
fn decode(
    bytes: &Stretch,
    stored: &str,
    shape: &[usize],
    wanted: DType,
) -> std::result::Result<Tensor, String> {
    let tensor = match (stored, wanted) {
        ("BF16", DType::BF16) => {
            let bits = read(bytes, u16::from_le_bytes, |bits| bits & 0x7F80 != 0x7F80)?;
            Tensor::from_vec(bits.reinterpret_into::<half::bf16>(), shape, &Device::Cpu)
        }
        ("F16", DType::F16) => {
            let bits = read(bytes, u16::from_le_bytes, |bits| bits & 0x7C00 != 0x7C00)?;
            Tensor::from_vec(bits.reinterpret_into::<half::f16>(), shape, &Device::Cpu)
        }
        _ => {
            let values: Vec<f32> = match stored {
                "F32" => read(bytes, f32::from_le_bytes, f32::is_finite)?,
                "F64" => read(bytes, |b| f64::from_le_bytes(b) as f32, f32::is_finite)?,
                "BF16" => read(
                    bytes,
                    |b| half::bf16::from_le_bytes(b).to_f32(),
                    f32::is_finite,
                )?,
                "F16" => read(
                    bytes,
                    |b| half::f16::from_le_bytes(b).to_f32(),
                    f32::is_finite,
                )?,
                other => {
                    return Err(format!(
                        "has dtype {other}, weights must be F32, F64, BF16 or F16"
                    ));
                }
            };
            Tensor::from_vec(values, shape, &Device::Cpu).and_then(|t| t.to_dtype(wanted))
        }
    };
    tensor.map_err(|e| format!("cannot be read: {e}"))
}

/// Values of `N` bytes each, on all threads; every one must be finite.
fn read<T: Copy + Default + Send, const N: usize>(
    stretch: &Stretch,
    value: impl Fn([u8; N]) -> T + Sync,
    finite: impl Fn(T) -> bool + Sync,
) -> std::result::Result<Vec<T>, String> {
    const BLOCK: usize = 1 << 16;
    let mut values = vec![T::default(); (stretch.end - stretch.start) / N];
    let all_finite = values
        .par_chunks_mut(BLOCK)
        .enumerate()
        .map_init(Vec::new, |buffer, (block, values)| {
            let start = stretch.start + block * BLOCK * N;
            let bytes = stretch.bytes.get(start..start + values.len() * N, buffer)?;
            let (whole, _) = bytes.as_chunks::<N>();
            let mut all = true;
            for (place, bytes) in values.iter_mut().zip(whole) {
                *place = value(*bytes);
                all &= finite(*place);
            }
            Ok(all)
        })
        .try_reduce(|| true, |a, b| Ok(a && b));
    let unreadable = |what: String| format!("cannot be read: {what}");
    let all_finite = all_finite.map_err(unreadable)?;
    stretch.bytes.check_unchanged().map_err(unreadable)?;
    if all_finite {
        Ok(values)
    } else {
        Err("holds NaN or infinite values: the checkpoint is damaged".into())
    }
}

/// Values that depend on seed and name only.
fn draw(seed: u64, name: &str, count: usize, init: Init) -> Vec<f32> {
    // So that the same name gives the same numbers in every build.
    let hash = fnv::bytes(fnv::START, name.as_bytes());
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ hash);
    match init {
        Init::Zeros => vec![0.0; count],
        Init::Ones => vec![1.0; count],
        Init::Uniform(bound) => (0..count)
            .map(|_| ((rng.random::<f64>() * 2.0 - 1.0) * bound) as f32)
            .collect(),
        Init::Normal(std) => {
            let mut values = Vec::with_capacity(count + 1);
            while values.len() < count {
                // Box-Muller: two uniform numbers make two normal ones.
                let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt() * std;
                let (sin, cos) = (rng.random::<f64>() * std::f64::consts::TAU).sin_cos();
                values.extend([(radius * cos) as f32, (radius * sin) as f32]);
            }
            values.truncate(count);
            values
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::random;

    /// Names that did not stand side by side were named twice.
    #[test]
    fn a_name_that_several_parts_are_stored_under_is_named_once() {
        let names = ["b", "a", "b"].map(str::to_owned);
        let checkpoint = Checkpoint::random(0, DType::F32, &Device::Cpu);
        assert_eq!(checkpoint.stored_names(&names), ["b", "a"]);
    }

    fn save(tensors: &[(&str, Tensor)]) -> Vec<u8> {
        let tensors: HashMap<String, Tensor> = tensors
            .iter()
            .map(|(n, t)| (n.to_string(), t.clone()))
            .collect();
        safetensors::serialize(&tensors, None).expect("serialises")
    }

    #[test]
    fn reads_back_what_was_saved_in_the_wanted_dtype() -> Result<()> {
        let w = random(&[2, 3], 1.0, 1);
        let bytes = save(&[
            ("a.weight", w.clone()),
            ("b.weight", w.to_dtype(DType::BF16)?),
        ]);
        let checkpoint = Checkpoint::from_bytes("test", bytes, DType::F32, &Device::Cpu)?;
        let a = checkpoint.below("a.").get("weight", &[2, 3], Init::Zeros)?;
        assert_eq!(a.to_vec2::<f32>()?, w.to_vec2::<f32>()?);
        assert_eq!(checkpoint.unread(), ["b.weight"]);
        let b = checkpoint.get("b.weight", &[2, 3], Init::Zeros)?;
        assert_eq!(
            b.to_vec2::<f32>()?,
            w.to_dtype(DType::BF16)?
                .to_dtype(DType::F32)?
                .to_vec2::<f32>()?
        );
        assert_eq!(checkpoint.names(), ["a.weight", "b.weight"]);
        Ok(())
    }

    #[test]
    fn errors_name_the_tensor_and_both_shapes() -> Result<()> {
        let bytes = save(&[("layer.weight", random(&[2, 3], 1.0, 1))]);
        let checkpoint = Checkpoint::from_bytes("test", bytes.clone(), DType::F32, &Device::Cpu)?;
        let shape = checkpoint
            .get("layer.weight", &[3, 3], Init::Zeros)
            .unwrap_err()
            .to_string();
        assert!(
            shape.contains("layer.weight") && shape.contains("[2, 3]") && shape.contains("[3, 3]"),
            "{shape}"
        );
        let missing = checkpoint
            .get("other.layer.weight", &[1], Init::Zeros)
            .unwrap_err()
            .to_string();
        assert!(
            missing.contains("other.layer.weight") && missing.contains("there is layer.weight"),
            "{missing}"
        );
        for cut in [0, 4, 20, bytes.len() - 1] {
            let short = bytes[..cut].to_vec();
            let error =
                Checkpoint::from_bytes("test", short, DType::F32, &Device::Cpu).unwrap_err();
            assert!(error.to_string().contains("cut off"), "{error}");
        }
        Ok(())
    }

    #[test]
    fn a_file_that_another_process_cuts_short_is_an_error_that_names_it() -> Result<()> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("model.safetensors");
        let values = random(&[300, 1000], 1.0, 1);
        std::fs::write(&path, save(&[("a", values.clone()), ("b", values)])).expect("written");
        let weights = Checkpoint::open(&path, DType::F32, &Device::Cpu)?;
        weights.get("a", &[300, 1000], Init::Zeros)?;
        let file = std::fs::File::options()
            .write(true)
            .open(&path)
            .expect("opened");
        file.set_len(1_500_000).expect("cut");
        let error = weights
            .get("b", &[300, 1000], Init::Zeros)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("model.safetensors was cut short by another process"),
            "{error}"
        );
        assert!(
            error.contains("tensor b") && error.contains("1500000 of 24"),
            "{error}"
        );
        let error = weights
            .get("a", &[300, 1000], Init::Zeros)
            .unwrap_err()
            .to_string();
        assert!(error.contains("cut short"), "{error}");
        Ok(())
    }

    #[test]
    fn metadata_that_is_no_text_does_not_keep_the_weights_from_being_read() -> Result<()> {
        let whole = save(&[("w", random(&[2], 1.0, 1))]);
        let header = String::from_utf8_lossy(&whole[8..whole.len() - 8]).into_owned();
        let header = header
            .trim_end()
            .replacen('{', r#"{"__metadata__":{"epoch":3},"#, 1);
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(&whole[whole.len() - 8..]);
        let weights = Checkpoint::from_bytes("test", bytes, DType::F32, &Device::Cpu)?;
        weights.get("w", &[2], Init::Zeros)?;
        Ok(())
    }

    #[test]
    fn values_that_are_not_finite_are_refused() -> Result<()> {
        let nan = Tensor::new(&[1f32, f32::NAN], &Device::Cpu)?;
        let checkpoint =
            Checkpoint::from_bytes("test", save(&[("w", nan)]), DType::F32, &Device::Cpu)?;
        assert!(matches!(
            checkpoint.get("w", &[2], Init::Zeros),
            Err(Error::Checkpoint { .. })
        ));
        Ok(())
    }

    #[test]
    fn random_draws_depend_on_seed_and_name_only() -> Result<()> {
        let checkpoint = Checkpoint::random(1, DType::F32, &Device::Cpu);
        let normal = |name| {
            checkpoint
                .get(name, &[4000], Init::Normal(2.0))
                .and_then(|t| Ok(t.to_vec1::<f32>()?))
        };
        let (a, again, b) = (normal("a")?, normal("a")?, normal("b")?);
        assert_eq!(a, again);
        assert_ne!(a, b);
        let mean = a.iter().sum::<f32>() / 4000.0;
        let std = (a.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 4000.0).sqrt();
        assert!(mean.abs() < 0.1 && (std - 2.0).abs() < 0.1, "{mean} {std}");
        Ok(())
    }
}

//! A GGUF file as bytes: keys and tensors → the file, whole or not at all. The values of one tensor are in memory at a time.
//!
//! ```text
//! "GGUF", 3, number of tensors, number of keys ─ keys ─ tensors: name, sizes, type, offset ─ padding ─ the values
//! ```

use super::metadata::{Metadata, Value};
use super::reader::{Stored, TYPES};
use crate::nn::Blocks;
use crate::session::check_interrupt;
use crate::{Error, Result};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Tensors begin at multiples of this.
const ALIGN: u64 = 32;
/// The largest number of two bytes.
const LARGEST_F16: f32 = 65_504.0;

/// A value of the metadata, in the type that llama.cpp's converter gives it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Written {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
}

/// Keys of the metadata, in the order of the file.
#[derive(Default)]
pub(super) struct Keys(pub Vec<(String, Written)>);

/// A tensor that the file will hold.
pub(super) struct Planned<'a> {
    pub name: String,
    /// The longest stride first.
    pub shape: Vec<usize>,
    pub dtype: GgmlDType,
    /// The bytes, where they are there already.
    pub blocks: Option<Box<dyn Fn() -> Result<Blocks> + 'a>>,
    pub values: Box<dyn Fn() -> Result<Tensor> + 'a>,
}

impl Keys {
    pub fn add(&mut self, key: impl Into<String>, value: Written) {
        self.0.push((key.into(), value));
    }

    pub fn number(&mut self, key: impl Into<String>, value: usize) -> Result<()> {
        let key = key.into();
        let number = u32::try_from(value).map_err(|_| {
            Error::Config(format!(
                "{key} would be {value}, more than 32 bits can hold"
            ))
        })?;
        self.add(key, Written::U32(number));
        Ok(())
    }

    pub fn float(&mut self, key: impl Into<String>, value: f64) {
        self.add(key, Written::F32(value as f32));
    }

    pub fn text(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.add(key, Written::Text(value.into()));
    }

    /// As a reader of the file will have them.
    pub fn as_read(&self) -> Result<Metadata> {
        let float = |x: &f32| Value::Float(f64::from(*x));
        let mut metadata = Metadata::default();
        for (key, value) in &self.0 {
            let value = match value {
                Written::U32(n) => Value::Unsigned(u64::from(*n)),
                Written::F32(x) => float(x),
                Written::Bool(flag) => Value::Bool(*flag),
                Written::Text(text) => Value::Text(text.clone()),
                Written::Texts(list) => {
                    Value::List(list.iter().cloned().map(Value::Text).collect())
                }
                Written::I32s(list) => {
                    Value::List(list.iter().map(|n| Value::Signed(i64::from(*n))).collect())
                }
                Written::F32s(list) => Value::List(list.iter().map(float).collect()),
            };
            metadata.add(key.clone(), value).map_err(Error::Config)?;
        }
        Ok(metadata)
    }
}

impl Planned<'_> {
    fn bytes(&self) -> u64 {
        let count: usize = self.shape.iter().product();
        (count / self.dtype.block_size() * self.dtype.type_size()) as u64
    }

    /// The values as the file has them.
    pub fn encoded(&self) -> Result<Vec<u8>> {
        if let Some(blocks) = &self.blocks {
            return Ok(blocks()?.data().to_vec());
        }
        let values = (self.values)()?
            .to_device(&Device::Cpu)?
            .to_dtype(DType::F32)?;
        let values = values.reshape(self.shape.as_slice())?.contiguous()?;
        let bytes = encode(&values, self.dtype, &self.name)?;
        debug_assert_eq!(bytes.len() as u64, self.bytes(), "{}", self.name);
        Ok(bytes)
    }
}

/// Values, f32, in the bytes of a type.
fn encode(values: &Tensor, dtype: GgmlDType, name: &str) -> Result<Vec<u8>> {
    if dtype != GgmlDType::F32 {
        checked(values, name)?;
    }
    let list = || values.flatten_all()?.to_vec1::<f32>();
    Ok(match dtype {
        GgmlDType::F32 => {
            let list = list()?;
            if let Some(bad) = list.iter().find(|value| !value.is_finite()) {
                return Err(not_finite(name, *bad));
            }
            list.iter().flat_map(|x| x.to_le_bytes()).collect()
        }
        GgmlDType::F16 => {
            let halves = list()?.into_iter().map(half::f16::from_f32);
            halves.flat_map(half::f16::to_le_bytes).collect()
        }
        dtype => QTensor::quantize(values, dtype)?.data()?.into_owned(),
    })
}

/// Values after they were rounded to a type, f32.
pub(super) fn rounded(values: &Tensor, dtype: GgmlDType, name: &str) -> Result<Tensor> {
    Ok(match dtype {
        GgmlDType::F32 => values.clone(),
        dtype => {
            checked(values, name)?;
            match dtype {
                GgmlDType::F16 => values.to_dtype(DType::F16)?.to_dtype(DType::F32)?,
                dtype => QTensor::quantize(values, dtype)?.dequantize(&Device::Cpu)?,
            }
        }
    })
}

/// Numbers of two bytes, which scales of blocks are too, end where f32 does not.
fn checked(values: &Tensor, name: &str) -> Result<()> {
    let flat = values.flatten_all()?;
    if flat.elem_count() == 0 {
        return Ok(());
    }
    let sum: f32 = flat.sum_all()?.to_scalar()?;
    let largest: f32 = flat.abs()?.max(0)?.to_scalar()?;
    if sum.is_nan() || !largest.is_finite() {
        return Err(not_finite(name, if sum.is_nan() { sum } else { largest }));
    }
    match largest > LARGEST_F16 {
        true => Err(Error::Input(format!(
            "weight {name} has a value of {largest}, two bytes hold at most {LARGEST_F16}: write the file with GgufType::F32"
        ))),
        false => Ok(()),
    }
}

fn not_finite(name: &str, value: f32) -> Error {
    Error::Input(format!(
        "weight {name} holds {value}: a model with such weights computes nothing else; train again, or load an earlier checkpoint"
    ))
}

/// Writes the file and says how many bytes it has. It is there whole or not at all.
pub(super) fn write(path: &Path, keys: &Keys, tensors: &[Planned]) -> Result<u64> {
    let io = |source| Error::Io {
        path: path.into(),
        source,
    };
    let temporary = crate::files::unfinished(path);
    let write = || -> Result<u64> {
        let mut out = BufWriter::new(File::create(&temporary).map_err(io)?);
        let mut head = Vec::new();
        write_head(&mut head, keys, tensors).map_err(io)?;
        let mut written = head.len() as u64;
        out.write_all(&head).map_err(io)?;
        written += pad(&mut out, written).map_err(io)?;
        for tensor in tensors {
            check_interrupt()?;
            let bytes = tensor.encoded()?;
            out.write_all(&bytes).map_err(io)?;
            written += bytes.len() as u64;
            written += pad(&mut out, written).map_err(io)?;
        }
        let file = out.into_inner().map_err(|error| io(error.into_error()))?;
        file.sync_all().map_err(io)?;
        Ok(written)
    };
    let renamed = write().and_then(|written| {
        std::fs::rename(&temporary, path).map_err(io)?;
        Ok(written)
    });
    if renamed.is_err() {
        // Best effort: the error that matters is the one being returned.
        let _ = std::fs::remove_file(&temporary);
    }
    renamed
}

fn pad(out: &mut impl Write, at: u64) -> io::Result<u64> {
    let missing = at.next_multiple_of(ALIGN) - at;
    out.write_all(&[0; ALIGN as usize][..missing as usize])?;
    Ok(missing)
}

fn write_head(out: &mut Vec<u8>, keys: &Keys, tensors: &[Planned]) -> io::Result<()> {
    out.write_all(b"GGUF")?;
    out.write_all(&3u32.to_le_bytes())?;
    out.write_all(&(tensors.len() as u64).to_le_bytes())?;
    out.write_all(&(keys.0.len() as u64).to_le_bytes())?;
    for (key, value) in &keys.0 {
        write_text(out, key)?;
        write_value(out, value)?;
    }
    for (tensor, stored) in tensors.iter().zip(places(tensors)) {
        write_text(out, &tensor.name)?;
        out.write_all(&(tensor.shape.len() as u32).to_le_bytes())?;
        for size in tensor.shape.iter().rev() {
            out.write_all(&(*size as u64).to_le_bytes())?;
        }
        let known = TYPES.iter().find(|(_, _, dtype)| *dtype == tensor.dtype);
        let number = known.map_or(0, |(number, _, _)| *number);
        out.write_all(&number.to_le_bytes())?;
        out.write_all(&stored.start.to_le_bytes())?;
    }
    Ok(())
}

/// Where the tensors will lie, from the first of them on.
pub(super) fn places(tensors: &[Planned]) -> Vec<Stored> {
    let mut start = 0;
    let places = tensors.iter().map(|tensor| {
        let stored = Stored {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
            dtype: tensor.dtype,
            start,
            bytes: tensor.bytes() as usize,
        };
        start = (start + tensor.bytes()).next_multiple_of(ALIGN);
        stored
    });
    places.collect()
}

fn write_text(out: &mut Vec<u8>, text: &str) -> io::Result<()> {
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(text.as_bytes())
}

/// The type's number, then the value.
fn write_value(out: &mut Vec<u8>, value: &Written) -> io::Result<()> {
    let list = |out: &mut Vec<u8>, kind: u32, count: usize| {
        out.extend(9u32.to_le_bytes());
        out.extend(kind.to_le_bytes());
        out.extend((count as u64).to_le_bytes());
    };
    match value {
        Written::U32(n) => {
            out.extend(4u32.to_le_bytes());
            out.extend(n.to_le_bytes());
        }
        Written::F32(x) => {
            out.extend(6u32.to_le_bytes());
            out.extend(x.to_le_bytes());
        }
        Written::Bool(flag) => {
            out.extend(7u32.to_le_bytes());
            out.push(u8::from(*flag));
        }
        Written::Text(text) => {
            out.extend(8u32.to_le_bytes());
            write_text(out, text)?;
        }
        Written::Texts(texts) => {
            list(out, 8, texts.len());
            for text in texts {
                write_text(out, text)?;
            }
        }
        Written::I32s(numbers) => {
            list(out, 5, numbers.len());
            numbers.iter().for_each(|n| out.extend(n.to_le_bytes()));
        }
        Written::F32s(numbers) => {
            list(out, 6, numbers.len());
            numbers.iter().for_each(|x| out.extend(x.to_le_bytes()));
        }
    }
    Ok(())
}

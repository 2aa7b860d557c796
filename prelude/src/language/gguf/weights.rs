//! The weights of a GGUF file: dequantised, or in the blocks that they lie in, under Hugging Face's names, and as Hugging Face has them.
//!
//! llama.cpp stores the queries and keys of `llama` for rotary positions whose pairs lie side by side, and Gemma's norms with 1
//! added: both are taken back here.

use super::{GgufFile, Source, Stored, wrong};
use crate::language::DecoderConfig;
use crate::nn::checkpoint::Given;
use crate::nn::{BlockType, Blocks, Checkpoint};
use crate::session::check_interrupt;
use crate::{Error, Result};
use candle_core::quantized::{GgmlDType, ggml_file};
use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;

/// Tensors that tell frequencies: they are part of the config.
const FACTORS: [&str; 3] = [
    "rope_freqs.weight",
    "rope_factors_long.weight",
    "rope_factors_short.weight",
];

const NOT_FINITE: &str = "holds NaN or infinite values: the file is damaged";

/// Parts of a layer, llama.cpp's names and Hugging Face's; a family with names of its own is named.
const PARTS: [(&str, &str, &str); 19] = [
    ("", "attn_norm", "input_layernorm"),
    ("", "attn_q", "self_attn.q_proj"),
    ("", "attn_k", "self_attn.k_proj"),
    ("", "attn_v", "self_attn.v_proj"),
    ("", "attn_qkv", "self_attn.qkv_proj"),
    ("", "attn_q_norm", "self_attn.q_norm"),
    ("", "attn_k_norm", "self_attn.k_norm"),
    ("phi", "attn_output", "self_attn.dense"),
    ("", "attn_output", "self_attn.o_proj"),
    (
        "gemma3_text",
        "post_attention_norm",
        "post_attention_layernorm",
    ),
    ("gemma3_text", "ffn_norm", "pre_feedforward_layernorm"),
    ("gemma3_text", "post_ffw_norm", "post_feedforward_layernorm"),
    ("", "ffn_norm", "post_attention_layernorm"),
    ("", "ffn_gate", "mlp.gate_proj"),
    ("phi3", "ffn_up", "mlp.gate_up_proj"),
    ("phi", "ffn_up", "mlp.fc1"),
    ("", "ffn_up", "mlp.up_proj"),
    ("phi", "ffn_down", "mlp.fc2"),
    ("", "ffn_down", "mlp.down_proj"),
];

/// What becomes of the matrices.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Matrices {
    /// Floats.
    Plain,
    /// Blocks, where the file has them so.
    AsStored,
}

pub(super) fn read(
    file: &GgufFile,
    config: &DecoderConfig,
    matrices: Matrices,
    dtype: DType,
    device: &Device,
) -> Result<Checkpoint> {
    let mut tensors = HashMap::with_capacity(file.tensors.len());
    for stored in &file.tensors {
        check_interrupt()?;
        if FACTORS.contains(&stored.name.as_str()) {
            continue;
        }
        let name = hugging_face_name(&stored.name, &config.model_type);
        let given = match (matrices, BlockType::of(stored.dtype), &stored.shape[..]) {
            (Matrices::AsStored, Some(kind), &[rows, columns]) => {
                let blocks = file.blocks(stored, kind, (rows, columns))?;
                Given::Blocks(match rows_before(&stored.name, rows, config)? {
                    Some(order) => blocks.reordered(&order)?,
                    None => blocks,
                })
            }
            _ => {
                let tensor = file.values(stored)?; // f32
                let tensor = as_before(tensor, &stored.name, config)?;
                // One after the other, so that never more than one is there in f32 besides.
                Given::Tensor(tensor.to_dtype(dtype)?.to_device(device)?)
            }
        };
        if tensors.insert(name.clone(), given).is_some() {
            return Err(wrong(&file.path, format!("two tensors are {name}")));
        }
    }
    Ok(Checkpoint::from_given(tensors, dtype, device))
}

/// A tensor that tells factors of frequencies, if it is there.
pub(super) fn factors(file: &GgufFile, name: &str) -> Result<Option<Vec<f64>>> {
    let Some(stored) = file.stored(name) else {
        return Ok(None);
    };
    let values = file.values(stored)?.flatten_all()?.to_vec1::<f32>()?;
    Ok(Some(values.into_iter().map(f64::from).collect()))
}

impl GgufFile {
    fn bad(&self, stored: &Stored, what: String) -> Error {
        wrong(&self.path, format!("tensor {} {what}", stored.name))
    }

    fn read_into(&self, stored: &Stored, bytes: &mut [u8]) -> Result<()> {
        match &self.source {
            Source::File(file) => crate::files::read_exact_at(file, bytes, stored.start)
                .map_err(|error| self.bad(stored, format!("cannot be read: {error}")))?,
            Source::Bytes(all) => {
                let start = stored.start as usize;
                let part = all.get(start..start + stored.bytes);
                let beyond = || self.bad(stored, "lies beyond the file".into());
                bytes.copy_from_slice(part.ok_or_else(beyond)?);
            }
        }
        Ok(())
    }

    /// A matrix in the blocks that it lies in; all values must be finite.
    fn blocks(&self, stored: &Stored, kind: BlockType, sizes: (usize, usize)) -> Result<Blocks> {
        let blocks = Blocks::filled(kind, sizes, |bytes| self.read_into(stored, bytes))?;
        match blocks.is_finite()? {
            true => Ok(blocks),
            false => Err(self.bad(stored, NOT_FINITE.into())),
        }
    }

    /// A tensor's values in f32; all must be finite.
    pub(super) fn values(&self, stored: &Stored) -> Result<Tensor> {
        // Blocks begin with numbers of two bytes, plain values have four: the buffer is aligned for both.
        const ALIGN: usize = 16;
        let mut buffer = vec![0u8; stored.bytes + ALIGN];
        let from = buffer.as_ptr().align_offset(ALIGN).min(ALIGN);
        let bytes = &mut buffer[from..from + stored.bytes];
        self.read_into(stored, bytes)?;
        let values: Vec<f32> = match stored.dtype {
            GgmlDType::F32 => {
                let (four, _) = bytes.as_chunks::<4>();
                four.iter().map(|b| f32::from_le_bytes(*b)).collect()
            }
            GgmlDType::F16 => {
                let (two, _) = bytes.as_chunks::<2>();
                two.iter()
                    .map(|b| half::f16::from_le_bytes(*b).to_f32())
                    .collect()
            }
            GgmlDType::BF16 => {
                let (two, _) = bytes.as_chunks::<2>();
                two.iter()
                    .map(|b| half::bf16::from_le_bytes(*b).to_f32())
                    .collect()
            }
            dtype => {
                let shape = stored.shape.clone();
                let quantized = ggml_file::qtensor_from_ggml(dtype, bytes, shape, &Device::Cpu)?;
                let values = quantized.dequantize(&Device::Cpu)?;
                values.flatten_all()?.to_vec1()?
            }
        };
        if !values.iter().all(|value| value.is_finite()) {
            return Err(self.bad(stored, NOT_FINITE.into()));
        }
        Ok(Tensor::from_vec(
            values,
            stored.shape.as_slice(),
            &Device::Cpu,
        )?)
    }
}

/// `blk.3.attn_q.weight` → `model.layers.3.self_attn.q_proj.weight`; a name that is not known stays, and is of no use then.
fn hugging_face_name(name: &str, family: &str) -> String {
    let Some((path, kind)) = name.rsplit_once('.') else {
        return name.into();
    };
    let path = match path {
        "token_embd" => "model.embed_tokens".into(),
        "output" => "lm_head".into(),
        "output_norm" if family == "phi" => "model.final_layernorm".into(),
        "output_norm" => "model.norm".into(),
        path => {
            let mut words = path.splitn(3, '.');
            let (Some("blk"), Some(layer), Some(part)) = (words.next(), words.next(), words.next())
            else {
                return name.into();
            };
            let named = PARTS
                .iter()
                .find(|(of, theirs, _)| *theirs == part && (of.is_empty() || *of == family));
            match named {
                Some((_, _, ours)) => format!("model.layers.{layer}.{ours}"),
                None => return name.into(),
            }
        }
    };
    format!("{path}.{kind}")
}

/// The way back: `model.layers.3.self_attn.q_proj.weight` → `blk.3.attn_q.weight`, of a model of this family.
pub(super) fn llama_cpp_name(name: &str, family: &str) -> Option<String> {
    let (path, kind) = name.rsplit_once('.')?;
    let path = match path {
        "model.embed_tokens" => "token_embd".into(),
        "lm_head" => "output".into(),
        "model.norm" | "model.final_layernorm" => "output_norm".into(),
        path => {
            let (layer, part) = path.strip_prefix("model.layers.")?.split_once('.')?;
            let (_, theirs, _) = PARTS
                .iter()
                .find(|(of, _, ours)| *ours == part && (of.is_empty() || *of == family))?;
            format!("blk.{layer}.{theirs}")
        }
    };
    Some(format!("{path}.{kind}"))
}

/// A tensor as llama.cpp's conversion changes it; `name` is llama.cpp's.
pub(super) fn as_llama_cpp_has_it(
    tensor: Tensor,
    name: &str,
    config: &DecoderConfig,
) -> Result<Tensor> {
    let part = name.rsplit('.').nth(1).unwrap_or_default();
    match (config.model_type.as_str(), heads(part, config)) {
        ("llama", Some(heads)) => in_pairs(&tensor, heads, name),
        ("gemma3_text", _) if part.ends_with("norm") => Ok((tensor + 1.0)?),
        _ => Ok(tensor),
    }
}

/// How many heads a tensor of queries or keys has.
fn heads(part: &str, config: &DecoderConfig) -> Option<usize> {
    match part {
        "attn_q" => Some(config.num_attention_heads),
        "attn_k" => Some(config.kv_heads()),
        _ => None,
    }
}

/// A tensor as it was before llama.cpp's conversion changed it.
fn as_before(tensor: Tensor, name: &str, config: &DecoderConfig) -> Result<Tensor> {
    let part = name.rsplit('.').nth(1).unwrap_or_default();
    match (config.model_type.as_str(), heads(part, config)) {
        ("llama", Some(heads)) => side_by_side(&tensor, heads, name),
        ("gemma3_text", _) if part.ends_with("norm") => Ok((tensor - 1.0)?),
        _ => Ok(tensor),
    }
}

/// Where the conversion changed the order of the rows of a matrix: the row that each was before. Their values stay as they are.
fn rows_before(name: &str, rows: usize, config: &DecoderConfig) -> Result<Option<Vec<usize>>> {
    order(rows, |numbers| as_before(numbers, name, config))
}

/// The way back of [`rows_before`].
pub(super) fn rows_after(
    name: &str,
    rows: usize,
    config: &DecoderConfig,
) -> Result<Option<Vec<usize>>> {
    order(rows, |numbers| as_llama_cpp_has_it(numbers, name, config))
}

/// The order that a change of rows brings a column of numbers into, if it is another.
fn order(rows: usize, change: impl Fn(Tensor) -> Result<Tensor>) -> Result<Option<Vec<usize>>> {
    let numbers: Vec<u32> = (0..rows as u32).collect();
    let column = Tensor::from_slice(&numbers, (rows, 1), &Device::Cpu)?; // [out, 1]
    let changed = change(column)?.flatten_all()?.to_vec1::<u32>()?; // [out]
    Ok((changed != numbers).then(|| changed.into_iter().map(|row| row as usize).collect()))
}

/// Rows of each head from pairs (0, 1), (2, 3), … to two halves.
fn side_by_side(tensor: &Tensor, heads: usize, name: &str) -> Result<Tensor> {
    let (half, rest) = halves(tensor, heads, name)?;
    let pairs = tensor.reshape((heads, half, 2, rest))?; // [heads, d/2, 2, in]
    Ok(pairs
        .transpose(1, 2)?
        .contiguous()?
        .reshape(tensor.dims())?)
}

/// The way back: rows of each head from two halves to pairs.
fn in_pairs(tensor: &Tensor, heads: usize, name: &str) -> Result<Tensor> {
    let (half, rest) = halves(tensor, heads, name)?;
    let halves = tensor.contiguous()?.reshape((heads, 2, half, rest))?; // [heads, 2, d/2, in]
    Ok(halves
        .transpose(1, 2)?
        .contiguous()?
        .reshape(tensor.dims())?)
}

/// Pairs of rows in each head, and values in a row.
fn halves(tensor: &Tensor, heads: usize, name: &str) -> Result<(usize, usize)> {
    let rows = tensor.dim(0)?;
    if !rows.is_multiple_of(2 * heads) {
        return Err(Error::Config(format!(
            "tensor {name} has {rows} rows, which {heads} heads of pairs do not divide"
        )));
    }
    Ok((rows / heads / 2, tensor.elem_count() / rows.max(1)))
}

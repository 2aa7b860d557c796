//! A frozen matrix in blocks of small whole numbers: a quarter to an eighth of its size in f32, and never whole in f32.
//!
//! ```text
//! [out, in] of floats ─ quantize ─┐
//! a GGUF file's tensor, as it is ─┴─▶ Blocks ─▶ products (ops/in_blocks.rs), rows, or all values again (dequantize)
//! ```
//! The blocks are those of llama.cpp (<https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h>): 32 or 256 values of a row share
//! scales of two bytes; and bitsandbytes' NF4 ([`nf4`]).

pub(crate) mod nf4;

use super::ops::blocks::{Run, decode};
use crate::{Error, Result};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// How the values of a matrix are held in blocks; the names are llama.cpp's, and bitsandbytes' for NF4.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// assert_eq!((BlockType::Q4K.name(), BlockType::Q4K.values()), ("Q4_K", 256));
/// assert_eq!(BlockType::Q8_0.bits(), 8.5); // of each value, scales included
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BlockType {
    /// 32 values of 8 bits and a scale.
    Q8_0,
    /// 256 values of 6 bits, a scale for each 16.
    Q6K,
    /// 256 values of 5 bits, a scale and a lowest value for each 32.
    Q5K,
    /// 256 values of 4 bits, a scale and a lowest value for each 32.
    Q4K,
    /// 256 values of 3 bits, a scale for each 16.
    Q3K,
    /// 256 values of 2 bits, a scale and a lowest value for each 16.
    Q2K,
    /// 32 values of 5 bits, a scale and a lowest value.
    Q5_1,
    /// 32 values of 5 bits and a scale.
    Q5_0,
    /// 32 values of 4 bits, a scale and a lowest value.
    Q4_1,
    /// 32 values of 4 bits and a scale.
    Q4_0,
    /// QLoRA's: 64 values of 4 bits, spaced as a normal distribution is, and a scale of 8 bits, which scales of 256 blocks scale (double
    /// quantization). No GGUF file has it.
    Nf4,
}

/// llama.cpp's types, their names and candle's.
const TYPES: [(BlockType, &str, GgmlDType); 10] = [
    (BlockType::Q8_0, "Q8_0", GgmlDType::Q8_0),
    (BlockType::Q6K, "Q6_K", GgmlDType::Q6K),
    (BlockType::Q5K, "Q5_K", GgmlDType::Q5K),
    (BlockType::Q4K, "Q4_K", GgmlDType::Q4K),
    (BlockType::Q3K, "Q3_K", GgmlDType::Q3K),
    (BlockType::Q2K, "Q2_K", GgmlDType::Q2K),
    (BlockType::Q5_1, "Q5_1", GgmlDType::Q5_1),
    (BlockType::Q5_0, "Q5_0", GgmlDType::Q5_0),
    (BlockType::Q4_1, "Q4_1", GgmlDType::Q4_1),
    (BlockType::Q4_0, "Q4_0", GgmlDType::Q4_0),
];

impl BlockType {
    /// All of them, those of k-quants by falling size first, NF4 last.
    pub const ALL: [BlockType; 11] = [
        Self::Q8_0,
        Self::Q6K,
        Self::Q5K,
        Self::Q4K,
        Self::Q3K,
        Self::Q2K,
        Self::Q5_1,
        Self::Q5_0,
        Self::Q4_1,
        Self::Q4_0,
        Self::Nf4,
    ];

    fn row(self) -> Option<(&'static str, GgmlDType)> {
        let found = TYPES.iter().find(|(kind, ..)| *kind == self);
        found.map(|(_, name, ggml)| (*name, *ggml))
    }

    /// llama.cpp's name, such as `Q4_K`, or `NF4`.
    pub fn name(self) -> &'static str {
        self.row().map_or("NF4", |(name, _)| name)
    }

    /// Values in a block: the length of a row must be a multiple of it.
    pub fn values(self) -> usize {
        self.ggml().map_or(nf4::VALUES, |ggml| ggml.block_size())
    }

    /// Bytes of a block; of NF4 without the scales that blocks share.
    pub fn bytes(self) -> usize {
        self.ggml().map_or(nf4::BYTES, |ggml| ggml.type_size())
    }

    /// Bits of a value, with its share of the scales.
    pub fn bits(self) -> f64 {
        let shared = match self {
            Self::Nf4 => 4.0 / nf4::GROUP as f64,
            _ => 0.0,
        };
        8.0 * (self.bytes() as f64 + shared) / self.values() as f64
    }

    /// Candle's type, of those that llama.cpp has.
    pub(crate) fn ggml(self) -> Option<GgmlDType> {
        self.row().map(|(_, ggml)| ggml)
    }

    /// The type of blocks that candle means; `None` for plain numbers.
    pub(crate) fn of(dtype: GgmlDType) -> Option<Self> {
        let found = TYPES.iter().find(|(.., ggml)| *ggml == dtype);
        found.map(|(kind, ..)| *kind)
    }
}

impl std::fmt::Display for BlockType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A matrix `[out, in]` in blocks, on the CPU. Clones share their memory.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let exact = Tensor::randn(0f32, 1.0, (6, 64), &Device::Cpu)?;
/// let blocks = Blocks::quantize(&exact, BlockType::Q8_0)?;
/// assert_eq!((blocks.dims(), blocks.bytes()), ((6, 64), 6 * 2 * 34)); // two blocks of 34 bytes a row
/// let error = (blocks.dequantize()? - exact)?.abs()?.max_all()?.to_scalar::<f32>()?;
/// assert!(error > 0.0 && error < 0.03);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Blocks {
    kind: BlockType,
    rows: usize,
    columns: usize,
    /// Words and not bytes: scales are numbers of two bytes and must lie so.
    words: Arc<Vec<u64>>,
    /// NF4's scales of scales.
    scales: Option<Arc<nf4::Scales>>,
}

/// The largest number that has two bytes.
const LARGEST: f32 = 65_504.0;
/// Values that a thread looks at or makes at a time.
const PART: usize = 64 * 1024;

impl Blocks {
    /// The values `[out, in]`, rounded; each thread has a few rows of them in f32 at a time.
    ///
    /// # Errors
    /// `Input` for a tensor that is no matrix, rows that the blocks do not divide, and values that are not finite or larger than
    /// 65,504; `Candle`.
    pub fn quantize(values: &Tensor, kind: BlockType) -> Result<Self> {
        let Ok((rows, columns)) = values.dims2() else {
            return Err(Error::Input(format!(
                "blocks hold a matrix [out, in], not {:?}",
                values.dims()
            )));
        };
        check_rows(columns, kind)?;
        let values = values.detach().to_device(&Device::Cpu)?;
        let row_bytes = columns / kind.values() * kind.bytes();
        let part = (PART / columns.max(1)).max(1);
        let mut scales = None;
        let held = Self::filled(kind, (rows, columns), |bytes| {
            let exact = bytes
                .par_chunks_mut((part * row_bytes).max(1))
                .enumerate()
                .map(|(index, bytes)| {
                    let count = bytes.len() / row_bytes;
                    let values = values.narrow(0, index * part, count)?;
                    // A copy: candle quantizes a view's memory from its beginning, wherever the view begins.
                    let values = values.to_dtype(DType::F32)?.force_contiguous()?; // [part, in]
                    let largest: f32 = values.abs()?.max_all()?.to_scalar()?;
                    let sum: f32 = values.sum_all()?.to_scalar()?;
                    if !sum.is_finite() || largest > LARGEST {
                        let found = if sum.is_finite() { largest } else { sum };
                        return Err(Error::Input(format!(
                            "rows from {} on hold {found}: blocks hold finite values of at most {LARGEST}",
                            index * part
                        )));
                    }
                    let Some(ggml) = kind.ggml() else {
                        let values = values.flatten_all()?.to_vec1::<f32>()?;
                        return Ok(nf4::numbered(&values, bytes));
                    };
                    bytes.copy_from_slice(&QTensor::quantize(&values, ggml)?.data()?);
                    Ok(Vec::new())
                })
                .collect::<Result<Vec<Vec<f32>>>>()?;
            if kind == BlockType::Nf4 {
                scales = Some(Arc::new(nf4::scaled(&exact.concat(), bytes)));
            }
            Ok(())
        })?;
        Ok(Self { scales, ..held })
    }

    /// Blocks of a type of llama.cpp's whose bytes `fill` writes.
    ///
    /// # Errors
    /// Those of `fill`.
    pub(crate) fn filled(
        kind: BlockType,
        (rows, columns): (usize, usize),
        fill: impl FnOnce(&mut [u8]) -> Result<()>,
    ) -> Result<Self> {
        let length = rows * (columns / kind.values()) * kind.bytes();
        let mut words = vec![0u64; length.div_ceil(8)];
        // SAFETY: the words own at least `length` bytes, any of which may have any value.
        let bytes =
            unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast::<u8>(), length) };
        fill(bytes)?;
        Ok(Self {
            kind,
            rows,
            columns,
            words: Arc::new(words),
            scales: None,
        })
    }

    /// How the values are held.
    pub fn kind(&self) -> BlockType {
        self.kind
    }

    /// `(out, in)`.
    pub fn dims(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// Bytes of all blocks.
    pub fn bytes(&self) -> usize {
        let shared = self.scales.as_ref().map_or(0, |scales| scales.bytes());
        self.rows * self.row_bytes() + shared
    }

    /// Bytes of the blocks of a row.
    pub(crate) fn row_bytes(&self) -> usize {
        self.columns / self.kind.values() * self.kind.bytes()
    }

    /// The blocks, row by row.
    pub(crate) fn data(&self) -> &[u8] {
        let length = self.rows * self.row_bytes();
        // SAFETY: the words own at least so many bytes.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast::<u8>(), length) }
    }

    /// Blocks of a row.
    fn row_blocks(&self) -> usize {
        self.columns / self.kind.values()
    }

    /// Blocks by number, counted row by row; as many as there are of them.
    fn run(&self, blocks: Range<usize>) -> Run<'_> {
        let size = self.kind.bytes();
        let all = self.data();
        let end = (blocks.end * size).min(all.len());
        Run {
            kind: self.kind,
            bytes: &all[(blocks.start * size).min(end)..end],
            scales: self.scales.as_deref().map(|scales| (scales, blocks.start)),
        }
    }

    /// The blocks of some rows; as many as there are of them.
    pub(crate) fn of_rows(&self, rows: Range<usize>) -> Run<'_> {
        self.run(rows.start * self.row_blocks()..rows.end.min(self.rows) * self.row_blocks())
    }

    /// The blocks of some columns of a row, which blocks must divide.
    pub(crate) fn of_columns(&self, row: usize, columns: Range<usize>) -> Run<'_> {
        let (first, size) = (row * self.row_blocks(), self.kind.values());
        self.run(first + columns.start / size..first + columns.end / size)
    }

    /// All values, `[out, in]` in f32: four times the memory of Q8_0, seven times that of Q4_K.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn dequantize(&self) -> Result<Tensor> {
        let mut values = vec![0f32; self.rows * self.columns];
        let part = (PART / self.columns.max(1)).max(1);
        values
            .par_chunks_mut((part * self.columns).max(1))
            .enumerate()
            .try_for_each(|(at, values)| {
                decode(self.of_rows(at * part..(at + 1) * part), values)
            })?;
        Ok(Tensor::from_vec(
            values,
            (self.rows, self.columns),
            &Device::Cpu,
        )?)
    }

    /// Some rows by number, `[N, in]` in f32.
    ///
    /// # Errors
    /// `Input` for a number that is that of no row.
    pub fn rows(&self, numbers: &[u32]) -> Result<Tensor> {
        let mut values = vec![0f32; numbers.len() * self.columns];
        let rows = values.chunks_exact_mut(self.columns.max(1));
        for (number, values) in numbers.iter().zip(rows) {
            let row = *number as usize;
            if row >= self.rows {
                return Err(Error::Input(format!(
                    "row {number} of a matrix of {} rows",
                    self.rows
                )));
            }
            decode(self.of_rows(row..row + 1), values)?;
        }
        Ok(Tensor::from_vec(
            values,
            (numbers.len(), self.columns),
            &Device::Cpu,
        )?)
    }

    /// The same rows in another order: row `i` is what row `order[i]` was.
    ///
    /// # Errors
    /// `Input` for NF4, whose scales belong to places in the matrix.
    pub(crate) fn reordered(&self, order: &[usize]) -> Result<Self> {
        if self.scales.is_some() {
            return Err(Error::Input(format!(
                "rows of {} can't be put in another order, which shares scales between blocks",
                self.kind
            )));
        }
        let length = self.row_bytes();
        Self::filled(self.kind, (order.len(), self.columns), |bytes| {
            for (to, from) in bytes.chunks_exact_mut(length.max(1)).zip(order) {
                to.copy_from_slice(&self.data()[from * length..(from + 1) * length]);
            }
            Ok(())
        })
    }

    /// Whether all values are finite: the scales of a damaged file need not be.
    pub(crate) fn is_finite(&self) -> Result<bool> {
        let (part, all) = (PART / self.kind.values(), self.rows * self.row_blocks());
        let bad = (0..all.div_ceil(part))
            .into_par_iter()
            .map(|at| {
                let blocks = at * part..all.min((at + 1) * part);
                let mut values = vec![0f32; blocks.len() * self.kind.values()];
                decode(self.run(blocks), &mut values)?;
                Ok(values.iter().all(|value| value.is_finite()))
            })
            .collect::<Result<Vec<bool>>>()?;
        Ok(bad.into_iter().all(|finite| finite))
    }
}

/// A row must be whole blocks.
pub(crate) fn check_rows(columns: usize, kind: BlockType) -> Result<()> {
    if columns.is_multiple_of(kind.values()) {
        return Ok(());
    }
    let fits = BlockType::ALL.into_iter().filter(|other| {
        columns.is_multiple_of(other.values()) && other.bits() <= kind.bits().max(8.5)
    });
    let fits: Vec<&str> = fits.map(BlockType::name).collect();
    Err(Error::Input(format!(
        "rows of {columns} values can't be held as {kind}, whose blocks have {}: {}",
        kind.values(),
        match fits.is_empty() {
            true => "leave it as it is".to_owned(),
            false => format!("leave it as it is, or take {}", fits.join(", ")),
        }
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::{assert_close, random};

    #[test]
    fn every_type_has_candles_values() -> Result<()> {
        // Two parts and a rest.
        let rows = 2 * (PART / 512) + 5;
        for (kind, _, ggml) in TYPES {
            let exact = random(&[rows, 512], 0.05, 3);
            let blocks = Blocks::quantize(&exact, kind)?;
            assert_eq!(blocks.bytes(), rows * 512 / kind.values() * kind.bytes());
            let theirs = QTensor::quantize(&exact, ggml)?;
            assert_eq!(blocks.data(), &*theirs.data()?, "{kind}");
            let theirs = theirs.dequantize(&Device::Cpu)?;
            assert_close(&blocks.dequantize()?, &theirs, 0.0);
            assert_close(
                &blocks.rows(&[200, 0, 4])?,
                &theirs.index_select(&Tensor::new(&[200u32, 0, 4], &Device::Cpu)?, 0)?,
                0.0,
            );
            let turned = blocks.reordered(&[1, 0, 2, 260, 3])?;
            let order = Tensor::new(&[1u32, 0, 2, 260, 3], &Device::Cpu)?;
            assert_close(&turned.dequantize()?, &theirs.index_select(&order, 0)?, 0.0);
        }
        Ok(())
    }

    #[test]
    fn what_blocks_cannot_hold_is_refused() -> Result<()> {
        let said = |values: &Tensor, kind| match Blocks::quantize(values, kind) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{kind} took it"),
        };
        let odd = said(&random(&[3, 96], 1.0, 1), BlockType::Q4K);
        assert!(odd.contains("96") && odd.contains("Q8_0"), "{odd}");
        let none = said(&random(&[3, 7], 1.0, 1), BlockType::Q8_0);
        assert!(
            none.contains("leave it as it is") && !none.contains("or take"),
            "{none}"
        );
        let mut values = vec![0.5f32; 64];
        for bad in [f32::NAN, f32::NEG_INFINITY, 1e6] {
            values[40] = bad;
            let tensor = Tensor::from_slice(&values, (2, 32), &Device::Cpu)?;
            let error = said(&tensor, BlockType::Q8_0);
            assert!(error.contains("finite"), "{error}");
        }
        assert!(said(&random(&[4], 1.0, 1), BlockType::Q8_0).contains("[4]"));
        let blocks = Blocks::quantize(&random(&[3, 32], 1.0, 1), BlockType::Q8_0)?;
        assert!(matches!(blocks.rows(&[3]), Err(Error::Input(_))));
        let empty = Blocks::quantize(
            &Tensor::zeros((0, 32), DType::F32, &Device::Cpu)?,
            BlockType::Q8_0,
        )?;
        assert_eq!(empty.dequantize()?.dims(), [0, 32]);
        Ok(())
    }

    #[test]
    fn damaged_scales_are_seen() -> Result<()> {
        let blocks = Blocks::quantize(&random(&[3, 64], 1.0, 1), BlockType::Q8_0)?;
        assert!(blocks.is_finite()?);
        let damaged = Blocks::filled(BlockType::Q8_0, (3, 64), |bytes| {
            bytes.copy_from_slice(blocks.data());
            bytes[5 * 34..5 * 34 + 2].copy_from_slice(&0x7C00u16.to_le_bytes()); // ∞
            Ok(())
        })?;
        assert!(!damaged.is_finite()?);
        Ok(())
    }
}

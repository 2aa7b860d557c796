//! Products of Q8_0, Q4_K, Q5_K, Q6_K and NF4 with up to four vectors at once, in registers of AVX-512.
//!
//! ```text
//! 64 bytes ─ 16 words of eight numbers of four bits ─ shift by 4k ─▶ number k of each word ─ look-up ─▶ 16 floats
//! ```
//! Numbers are looked up in a register where bits above the fourth do not count, so that nothing is masked or widened; the vector is laid
//! out beforehand in the order in which they come ([`turned`]). What was looked up is multiplied with each of the vectors. The bytes of
//! Q8_0 are widened as they lie.

#![allow(clippy::needless_range_loop)] // one index goes through several arrays

use super::x86::{Q4K, Q5K, Q6K, Q8_0, load, scale, scales_and_lowest, sum};
use super::{Run, Vector};
use crate::nn::BlockType;
use crate::nn::blocks::nf4;
use std::arch::x86_64::*;

/// How far ahead bytes are asked for.
const AHEAD: usize = 4096;

/// Sixteen values as a register has them.
#[repr(align(64))]
#[derive(Clone, Copy)]
pub(super) struct Lanes([f32; 16]);

/// Whether this machine and type have a form here.
pub(super) fn is_for(kind: BlockType) -> bool {
    use BlockType::{Nf4, Q4K, Q5K, Q6K, Q8_0};
    matches!(kind, Q8_0 | Q4K | Q5K | Q6K | Nf4)
        && std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("fma")
        && std::arch::is_x86_feature_detected!("f16c")
}

/// The values in the order in which the numbers of a type come, 128 at a time, with zeros behind the last.
pub(super) fn turned(kind: BlockType, values: &[f32]) -> Vec<Lanes> {
    let mut all = Vec::with_capacity(values.len().div_ceil(128) * 8);
    for values in values.chunks(128) {
        for k in 0..8 {
            let place = |lane: usize| {
                let byte = 4 * lane + k / 2; // of 64
                match kind {
                    BlockType::Q8_0 => 16 * k + lane,
                    BlockType::Q6K => 64 * (k % 2) + byte,
                    _ => 64 * (byte / 32) + 32 * (k % 2) + byte % 32,
                }
            };
            let lane = |lane| values.get(place(lane)).copied().unwrap_or(0.0);
            all.push(Lanes(std::array::from_fn(lane)));
        }
    }
    all
}

/// `y[row · N + n] = W[row] · x[n]` for rows of blocks that lie one after the other. The machine must be one of [`is_for`], the vectors
/// be turned for the type, and lengths fit.
pub(super) fn dots<const N: usize>(run: Run<'_>, x: [&Vector<'_>; N], y: &mut [f32]) {
    // SAFETY: the caller has found the CPU to have the features.
    unsafe {
        match (run.kind, run.scales) {
            (BlockType::Q8_0, _) => dots_q8_0(run.bytes, x, y),
            (BlockType::Q4K, _) => dots_q4k(run.bytes, x, y),
            (BlockType::Q5K, _) => dots_q5k(run.bytes, x, y),
            (BlockType::Q6K, _) => dots_q6k(run.bytes, x, y),
            (_, Some((scales, first))) => dots_nf4(run.bytes, (scales, first), x, y),
            _ => {}
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
fn lanes(x: &Lanes) -> __m512 {
    // SAFETY: sixteen values are there, aligned as the type says.
    unsafe { _mm512_load_ps(x.0.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
fn floats(values: &[f32; 16]) -> __m512 {
    // SAFETY: sixteen values are there, and no alignment is asked for.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
fn words(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: as many bytes are there, and no alignment is asked for.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// Asks for the bytes that come some blocks later: the machine's own look-ahead does not go far enough beside so much work.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
fn ahead<const SIZE: usize>(block: &[u8; SIZE]) {
    for line in 0..SIZE.div_ceil(64) {
        // What lies behind the last block is asked for and not read.
        let at = block.as_ptr().wrapping_add(AHEAD + 64 * line);
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
}

/// The same 32 bytes twice.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
fn twice(bytes: &[u8; 32]) -> __m512i {
    // SAFETY: as many bytes are there, and no alignment is asked for.
    _mm512_broadcast_i64x4(unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) })
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
fn numbers(of: impl Fn(usize) -> i32) -> __m512i {
    let numbers: [i32; 16] = std::array::from_fn(of);
    // SAFETY: sixteen numbers are there, and no alignment is asked for.
    unsafe { _mm512_loadu_si512(numbers.as_ptr().cast()) }
}

/// Adds the products with what is looked up for number `k` of each word: `$number!(BITS)` is it, with 4k for BITS. Even numbers are the
/// low halves of bytes, odd ones the high halves.
macro_rules! add_products {
    ($x:expr, $at:expr, $N:ident, $number:ident) => {{
        let (mut low, mut high) = ([_mm512_setzero_ps(); $N], [_mm512_setzero_ps(); $N]);
        add_products!(@ $x, $at, $N, low, $number, 0);
        add_products!(@ $x, $at, $N, high, $number, 4);
        add_products!(@ $x, $at, $N, low, $number, 8);
        add_products!(@ $x, $at, $N, high, $number, 12);
        add_products!(@ $x, $at, $N, low, $number, 16);
        add_products!(@ $x, $at, $N, high, $number, 20);
        add_products!(@ $x, $at, $N, low, $number, 24);
        add_products!(@ $x, $at, $N, high, $number, 28);
        (low, high)
    }};
    (@ $x:expr, $at:expr, $N:ident, $into:ident, $number:ident, $bits:literal) => {
        let value = $number!($bits);
        for n in 0..$N {
            $into[n] = _mm512_fmadd_ps(value, lanes(&$x[n].turned[$at + $bits / 4]), $into[n]);
        }
    };
}

/// The sixteen whole numbers from 0 as floats.
#[inline]
fn counted(of: impl Fn(f32) -> f32) -> [f32; 16] {
    std::array::from_fn(|i| of(i as f32))
}

#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
fn dots_q8_0<const N: usize>(bytes: &[u8], x: [&Vector<'_>; N], y: &mut [f32]) {
    let (blocks, _) = bytes.as_chunks::<Q8_0>();
    for (y, blocks) in y
        .chunks_exact_mut(N)
        .zip(blocks.chunks_exact(x[0].values.len() / 32))
    {
        let mut sums = [_mm512_setzero_ps(); N];
        for (at, block) in blocks.iter().enumerate() {
            ahead(block);
            let d = i16::from_le_bytes([block[0], block[1]]);
            let d = _mm512_cvtph_ps(_mm256_set1_epi16(d));
            let halves = [2, 18].map(|from| {
                // SAFETY: sixteen bytes are there, and no alignment is asked for.
                let bytes = unsafe { _mm_loadu_si128(block[from..from + 16].as_ptr().cast()) };
                _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes))
            });
            for n in 0..N {
                let first = _mm512_mul_ps(halves[0], lanes(&x[n].turned[2 * at]));
                let both = _mm512_fmadd_ps(halves[1], lanes(&x[n].turned[2 * at + 1]), first);
                sums[n] = _mm512_fmadd_ps(d, both, sums[n]);
            }
        }
        for n in 0..N {
            y[n] = _mm512_reduce_add_ps(sums[n]);
        }
    }
}

#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
fn dots_q4k<const N: usize>(bytes: &[u8], x: [&Vector<'_>; N], y: &mut [f32]) {
    let (blocks, _) = bytes.as_chunks::<Q4K>();
    let code = floats(&counted(|number| number));
    let scale_of = [0, 1, 4, 5].map(|first| numbers(|lane| first + 2 * (lane as i32 / 8)));
    for (y, blocks) in y
        .chunks_exact_mut(N)
        .zip(blocks.chunks_exact(x[0].turned.len() / 16))
    {
        let mut sums = [_mm512_setzero_ps(); N];
        let mut below = [_mm256_setzero_ps(); N];
        for (at, block) in blocks.iter().enumerate() {
            ahead(block);
            let (scales, lowest) = scales_and_lowest(block);
            let scales = _mm512_castps256_ps512(scales);
            for n in 0..N {
                below[n] = _mm256_fmadd_ps(lowest, load(&x[n].sums[at]), below[n]);
            }
            let (parts, _) = block[16..].as_chunks::<64>();
            for (half, part) in parts.iter().enumerate() {
                let part = words(part);
                macro_rules! number {
                    ($bits:literal) => {
                        _mm512_permutexvar_ps(_mm512_srli_epi32::<$bits>(part), code)
                    };
                }
                let (low, high) = add_products!(x, 16 * at + 8 * half, N, number);
                let first = _mm512_permutexvar_ps(scale_of[2 * half], scales);
                let second = _mm512_permutexvar_ps(scale_of[2 * half + 1], scales);
                for n in 0..N {
                    sums[n] = _mm512_fmadd_ps(first, low[n], sums[n]);
                    sums[n] = _mm512_fmadd_ps(second, high[n], sums[n]);
                }
            }
        }
        for n in 0..N {
            y[n] = _mm512_reduce_add_ps(sums[n]) - sum(below[n]);
        }
    }
}

#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
fn dots_q5k<const N: usize>(bytes: &[u8], x: [&Vector<'_>; N], y: &mut [f32]) {
    let (blocks, _) = bytes.as_chunks::<Q5K>();
    let code = floats(&counted(|number| number));
    let upper = floats(&counted(|number| number + 16.0));
    let nibble = _mm512_set1_epi32(15);
    let scale_of = [0, 1, 4, 5].map(|first| numbers(|lane| first + 2 * (lane as i32 / 8)));
    // The fifth bit of number k comes to stand where a turn by 4k brings it to the fifth place.
    let turns = [4, 7, 0, 3].map(|by| numbers(|lane| by - 2 * (lane as i32 / 8)));
    for (y, blocks) in y
        .chunks_exact_mut(N)
        .zip(blocks.chunks_exact(x[0].turned.len() / 16))
    {
        let mut sums = [_mm512_setzero_ps(); N];
        let mut below = [_mm256_setzero_ps(); N];
        for (at, block) in blocks.iter().enumerate() {
            ahead(block);
            let (scales, lowest) = scales_and_lowest(block);
            let scales = _mm512_castps256_ps512(scales);
            for n in 0..N {
                below[n] = _mm256_fmadd_ps(lowest, load(&x[n].sums[at]), below[n]);
            }
            let (top, parts) = block[16..].split_at(32);
            let top = twice(&top.as_chunks::<32>().0[0]);
            for (half, part) in parts.as_chunks::<64>().0.iter().enumerate() {
                let part = words(part);
                let tops = [0, 1].map(|odd| _mm512_rolv_epi32(top, turns[2 * half + odd]));
                macro_rules! number {
                    ($bits:literal) => {{
                        let low = _mm512_srli_epi32::<$bits>(part);
                        let fifth = _mm512_ror_epi32::<$bits>(tops[$bits / 4 % 2]);
                        // Low bits where `nibble` has them, else those of the fifth: of these only the lowest counts.
                        let place = _mm512_ternarylogic_epi32::<0xCA>(nibble, low, fifth);
                        _mm512_permutex2var_ps(code, place, upper)
                    }};
                }
                let (low, high) = add_products!(x, 16 * at + 8 * half, N, number);
                let first = _mm512_permutexvar_ps(scale_of[2 * half], scales);
                let second = _mm512_permutexvar_ps(scale_of[2 * half + 1], scales);
                for n in 0..N {
                    sums[n] = _mm512_fmadd_ps(first, low[n], sums[n]);
                    sums[n] = _mm512_fmadd_ps(second, high[n], sums[n]);
                }
            }
        }
        for n in 0..N {
            y[n] = _mm512_reduce_add_ps(sums[n]) - sum(below[n]);
        }
    }
}

#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
fn dots_q6k<const N: usize>(bytes: &[u8], x: [&Vector<'_>; N], y: &mut [f32]) {
    let (blocks, _) = bytes.as_chunks::<Q6K>();
    let code = floats(&counted(|number| number));
    // By two bits, whatever the two above them are.
    let upper = floats(&counted(|number| number % 4.0 * 16.0 - 32.0));
    let scale_of = [0, 4, 8, 12].map(|first| numbers(|lane| first + lane as i32 / 4));
    let shifts = numbers(|lane| 2 * (lane as i32 / 8));
    for (y, blocks) in y
        .chunks_exact_mut(N)
        .zip(blocks.chunks_exact(x[0].turned.len() / 16))
    {
        let mut sums = [_mm512_setzero_ps(); N];
        for (at, block) in blocks.iter().enumerate() {
            ahead(block);
            // SAFETY: sixteen bytes are there, and no alignment is asked for.
            let scales = unsafe { _mm_loadu_si128(block[192..208].as_ptr().cast()) };
            let d = _mm512_broadcastss_ps(_mm256_castps256_ps128(scale(block[208], block[209])));
            let scales = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(scales)));
            let (parts, _) = block[..128].as_chunks::<64>();
            let (tops, _) = block[128..192].as_chunks::<32>();
            for (half, (part, top)) in parts.iter().zip(tops).enumerate() {
                let part = words(part);
                let top = _mm512_srlv_epi32(twice(top), shifts);
                macro_rules! number {
                    ($bits:literal) => {{
                        let low = _mm512_permutexvar_ps(_mm512_srli_epi32::<$bits>(part), code);
                        let high = _mm512_permutexvar_ps(_mm512_srli_epi32::<$bits>(top), upper);
                        _mm512_add_ps(low, high)
                    }};
                }
                let (low, high) = add_products!(x, 16 * at + 8 * half, N, number);
                let first = _mm512_permutexvar_ps(scale_of[2 * half], scales);
                let second = _mm512_permutexvar_ps(scale_of[2 * half + 1], scales);
                for n in 0..N {
                    sums[n] = _mm512_fmadd_ps(first, low[n], sums[n]);
                    sums[n] = _mm512_fmadd_ps(second, high[n], sums[n]);
                }
            }
        }
        for n in 0..N {
            y[n] = _mm512_reduce_add_ps(sums[n]);
        }
    }
}

/// Two blocks at a time; the last of an odd number stands beside itself with a scale of 0.
#[target_feature(enable = "avx512f,avx512dq,avx2,fma,f16c")]
fn dots_nf4<const N: usize>(
    bytes: &[u8],
    (scales, first): (&nf4::Scales, usize),
    x: [&Vector<'_>; N],
    y: &mut [f32],
) {
    let (blocks, _) = bytes.as_chunks::<{ nf4::BYTES }>();
    let code = floats(&nf4::CODE);
    let row = x[0].values.len() / nf4::VALUES;
    for (index, (y, blocks)) in y
        .chunks_exact_mut(N)
        .zip(blocks.chunks_exact(row))
        .enumerate()
    {
        let mut sums = [_mm512_setzero_ps(); N];
        let first = first + index * row;
        for (at, pair) in blocks.chunks(2).enumerate() {
            let (one, other) = (&pair[0], &pair[pair.len() - 1]);
            ahead(one);
            let scale = scales.of(one[0], first + 2 * at);
            let other_scale = match pair.len() {
                2 => scales.of(other[0], first + 2 * at + 1),
                _ => 0.0,
            };
            let halves = [one, other].map(|block| {
                // SAFETY: 32 bytes are behind the first, and no alignment is asked for.
                unsafe { _mm256_loadu_si256(block[1..].as_ptr().cast()) }
            });
            let part = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(halves[0]), halves[1]);
            macro_rules! number {
                ($bits:literal) => {
                    _mm512_permutexvar_ps(_mm512_srli_epi32::<$bits>(part), code)
                };
            }
            let (low, high) = add_products!(x, 8 * at, N, number);
            let scale =
                _mm512_mask_blend_ps(0xFF00, _mm512_set1_ps(scale), _mm512_set1_ps(other_scale));
            for n in 0..N {
                sums[n] = _mm512_fmadd_ps(scale, _mm512_add_ps(low[n], high[n]), sums[n]);
            }
        }
        for n in 0..N {
            y[n] = _mm512_reduce_add_ps(sums[n]);
        }
    }
}

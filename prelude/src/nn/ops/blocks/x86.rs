//! Q8_0, Q6_K, Q5_K, Q4_K, Q4_1 and Q4_0 in registers of AVX2: bytes are widened to floats as they are read and never written out for a product.
//!
//! The layouts are those of `ggml-common.h`; scales are numbers of two bytes, which F16C widens.

use super::Vector;
use crate::nn::BlockType;
use std::arch::x86_64::*;

pub(super) const Q8_0: usize = 34;
const Q4_0: usize = 18;
const Q4_1: usize = 20;
pub(super) const Q4K: usize = 144;
pub(super) const Q5K: usize = 176;
pub(super) const Q6K: usize = 210;

fn has_features() -> bool {
    std::arch::is_x86_feature_detected!("avx2")
        && std::arch::is_x86_feature_detected!("fma")
        && std::arch::is_x86_feature_detected!("f16c")
}

/// Whether this machine and type have a form here; the values are there then. Lengths must fit.
pub(super) fn decode(kind: BlockType, bytes: &[u8], values: &mut [f32]) -> bool {
    if !has_features() {
        return false;
    }
    // SAFETY: the CPU has just been found to have the features.
    unsafe {
        match kind {
            BlockType::Q8_0 => decode_q8_0(bytes, values),
            BlockType::Q4_0 => decode_q4_0(bytes, values),
            BlockType::Q4_1 => decode_q4_1(bytes, values),
            BlockType::Q4K => decode_q4k(bytes, values),
            BlockType::Q5K => decode_q5k(bytes, values),
            BlockType::Q6K => decode_q6k(bytes, values),
            _ => return false,
        }
    }
    true
}

/// As [`decode`], for the products of rows with a vector.
pub(super) fn dots(kind: BlockType, bytes: &[u8], x: &Vector<'_>, y: &mut [f32]) -> bool {
    if !has_features() {
        return false;
    }
    // SAFETY: the CPU has just been found to have the features.
    unsafe {
        match kind {
            BlockType::Q8_0 => dots_q8_0(bytes, x, y),
            BlockType::Q4_0 => dots_q4_0(bytes, x, y),
            BlockType::Q4_1 => dots_q4_1(bytes, x, y),
            BlockType::Q4K => dots_q4k(bytes, x, y),
            BlockType::Q5K => dots_q5k(bytes, x, y),
            BlockType::Q6K => dots_q6k(bytes, x, y),
            _ => return false,
        }
    }
    true
}

/// The number of two bytes at the start, in all lanes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn scale(low: u8, high: u8) -> __m256 {
    _mm256_cvtph_ps(_mm_set1_epi16(i16::from_le_bytes([low, high])))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn signed(bytes: &[u8; 8]) -> __m256 {
    let bytes = _mm_cvtsi64_si128(i64::from_le_bytes(*bytes));
    _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn unsigned(bytes: &[u8; 8]) -> __m256i {
    _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(i64::from_le_bytes(*bytes)))
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn load(values: &[f32; 8]) -> __m256 {
    // SAFETY: eight values are there, and no alignment is asked for.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn store(values: &mut [f32; 8], register: __m256) {
    // SAFETY: there is room for eight values, and no alignment is asked for.
    unsafe { _mm256_storeu_ps(values.as_mut_ptr(), register) }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn sum(register: __m256) -> f32 {
    let mut lanes = [0f32; 8];
    store(&mut lanes, register);
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

#[target_feature(enable = "avx2,fma,f16c")]
fn decode_q8_0(bytes: &[u8], values: &mut [f32]) {
    let (blocks, _) = bytes.as_chunks::<Q8_0>();
    let (groups, _) = values.as_chunks_mut::<8>();
    for (block, groups) in blocks.iter().zip(groups.chunks_exact_mut(4)) {
        let d = scale(block[0], block[1]);
        let (numbers, _) = block[2..].as_chunks::<8>();
        for (numbers, values) in numbers.iter().zip(groups) {
            store(values, _mm256_mul_ps(d, signed(numbers)));
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn dots_q8_0(bytes: &[u8], x: &Vector<'_>, y: &mut [f32]) {
    let (blocks, _) = bytes.as_chunks::<Q8_0>();
    let (x, _) = x.values.as_chunks::<8>();
    for (y, blocks) in y.iter_mut().zip(blocks.chunks_exact(x.len() / 4)) {
        let (mut a, mut b) = (_mm256_setzero_ps(), _mm256_setzero_ps());
        for (block, x) in blocks.iter().zip(x.chunks_exact(4)) {
            let d = scale(block[0], block[1]);
            let (numbers, _) = block[2..].as_chunks::<8>();
            let first = _mm256_mul_ps(signed(&numbers[0]), load(&x[0]));
            let second = _mm256_mul_ps(signed(&numbers[1]), load(&x[1]));
            let first = _mm256_fmadd_ps(signed(&numbers[2]), load(&x[2]), first);
            let second = _mm256_fmadd_ps(signed(&numbers[3]), load(&x[3]), second);
            a = _mm256_fmadd_ps(d, first, a);
            b = _mm256_fmadd_ps(d, second, b);
        }
        *y = sum(_mm256_add_ps(a, b));
    }
}

/// The numbers of four bits of eight bytes: those of the low halves, those of the high ones.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn nibbles(bytes: &[u8; 8]) -> (__m256i, __m256i) {
    let both = unsigned(bytes);
    let low = _mm256_and_si256(both, _mm256_set1_epi32(15));
    (low, _mm256_srli_epi32::<4>(both))
}

/// The 32 numbers of a block of Q4_0 or Q4_1 less `middle`, in their order.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sixteen_bytes(bytes: &[u8], middle: i32) -> [__m256; 4] {
    let (numbers, _) = bytes.as_chunks::<8>();
    let (first, third) = nibbles(&numbers[0]);
    let (second, fourth) = nibbles(&numbers[1]);
    let middle = _mm256_set1_epi32(middle);
    let float = |numbers| _mm256_cvtepi32_ps(_mm256_sub_epi32(numbers, middle));
    [float(first), float(second), float(third), float(fourth)]
}

#[target_feature(enable = "avx2,fma,f16c")]
fn decode_q4_0(bytes: &[u8], values: &mut [f32]) {
    let (blocks, _) = bytes.as_chunks::<Q4_0>();
    let (groups, _) = values.as_chunks_mut::<8>();
    for (block, groups) in blocks.iter().zip(groups.chunks_exact_mut(4)) {
        let d = scale(block[0], block[1]);
        for (numbers, values) in sixteen_bytes(&block[2..], 8).into_iter().zip(groups) {
            store(values, _mm256_mul_ps(d, numbers));
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn decode_q4_1(bytes: &[u8], values: &mut [f32]) {
    let (blocks, _) = bytes.as_chunks::<Q4_1>();
    let (groups, _) = values.as_chunks_mut::<8>();
    for (block, groups) in blocks.iter().zip(groups.chunks_exact_mut(4)) {
        let (d, least) = (scale(block[0], block[1]), scale(block[2], block[3]));
        for (numbers, values) in sixteen_bytes(&block[4..], 0).into_iter().zip(groups) {
            store(values, _mm256_add_ps(_mm256_mul_ps(d, numbers), least));
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn dots_q4_0(bytes: &[u8], x: &Vector<'_>, y: &mut [f32]) {
    let (blocks, _) = bytes.as_chunks::<Q4_0>();
    let (x, _) = x.values.as_chunks::<8>();
    for (y, blocks) in y.iter_mut().zip(blocks.chunks_exact(x.len() / 4)) {
        let (mut a, mut b) = (_mm256_setzero_ps(), _mm256_setzero_ps());
        for (block, x) in blocks.iter().zip(x.chunks_exact(4)) {
            let d = scale(block[0], block[1]);
            let [n0, n1, n2, n3] = sixteen_bytes(&block[2..], 8);
            let first = _mm256_fmadd_ps(n2, load(&x[2]), _mm256_mul_ps(n0, load(&x[0])));
            let second = _mm256_fmadd_ps(n3, load(&x[3]), _mm256_mul_ps(n1, load(&x[1])));
            a = _mm256_fmadd_ps(d, first, a);
            b = _mm256_fmadd_ps(d, second, b);
        }
        *y = sum(_mm256_add_ps(a, b));
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn dots_q4_1(bytes: &[u8], x: &Vector<'_>, y: &mut [f32]) {
    let (blocks, _) = bytes.as_chunks::<Q4_1>();
    let sums = x.sums.as_flattened();
    let (x, _) = x.values.as_chunks::<8>();
    for (y, blocks) in y.iter_mut().zip(blocks.chunks_exact(x.len() / 4)) {
        let (mut a, mut b) = (_mm256_setzero_ps(), _mm256_setzero_ps());
        let mut above = _mm256_setzero_ps();
        for ((block, x), sum) in blocks.iter().zip(x.chunks_exact(4)).zip(sums) {
            let (d, least) = (scale(block[0], block[1]), scale(block[2], block[3]));
            let [n0, n1, n2, n3] = sixteen_bytes(&block[4..], 0);
            let first = _mm256_fmadd_ps(n2, load(&x[2]), _mm256_mul_ps(n0, load(&x[0])));
            let second = _mm256_fmadd_ps(n3, load(&x[3]), _mm256_mul_ps(n1, load(&x[1])));
            a = _mm256_fmadd_ps(d, first, a);
            b = _mm256_fmadd_ps(d, second, b);
            // The same number in all lanes, of which one counts.
            above = _mm256_fmadd_ps(least, _mm256_set1_ps(*sum), above);
        }
        *y = sum(_mm256_add_ps(a, b)) + _mm256_cvtss_f32(above);
    }
}

/// The scales of a block of Q4_K or Q5_K and its lowest values, each for 32 values: eight numbers of six bits each in twelve bytes.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn scales_and_lowest(block: &[u8]) -> (__m256, __m256) {
    let block = &block[..16];
    let word =
        |at: usize| u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
    let (a, b, c) = (word(4), word(8), word(12));
    let low = 0x3F3F_3F3F;
    let high = |word: u32| ((word >> 6) & 0x0303_0303) << 4;
    let scales = u64::from(a & low) | u64::from((c & 0x0F0F_0F0F) | high(a)) << 32;
    let lowest = u64::from(b & low) | u64::from(((c >> 4) & 0x0F0F_0F0F) | high(b)) << 32;
    let d = scale(block[0], block[1]);
    let least = scale(block[2], block[3]);
    (
        _mm256_mul_ps(d, _mm256_cvtepi32_ps(unsigned(&scales.to_le_bytes()))),
        _mm256_mul_ps(least, _mm256_cvtepi32_ps(unsigned(&lowest.to_le_bytes()))),
    )
}

#[target_feature(enable = "avx2,fma,f16c")]
fn decode_q4k(bytes: &[u8], values: &mut [f32]) {
    let (blocks, _) = bytes.as_chunks::<Q4K>();
    let (groups, _) = values.as_chunks_mut::<8>();
    for (block, groups) in blocks.iter().zip(groups.chunks_exact_mut(32)) {
        let (mut scales, mut lowest) = ([0f32; 8], [0f32; 8]);
        let (d, least) = scales_and_lowest(block);
        store(&mut scales, d);
        store(&mut lowest, least);
        let (numbers, _) = block[16..].as_chunks::<8>();
        for part in 0..4 {
            let (low, high) = (2 * part, 2 * part + 1);
            let (d0, m0) = (_mm256_set1_ps(scales[low]), _mm256_set1_ps(lowest[low]));
            let (d1, m1) = (_mm256_set1_ps(scales[high]), _mm256_set1_ps(lowest[high]));
            for group in 0..4 {
                let (first, second) = nibbles(&numbers[4 * part + group]);
                let (first, second) = (_mm256_cvtepi32_ps(first), _mm256_cvtepi32_ps(second));
                let first = _mm256_sub_ps(_mm256_mul_ps(d0, first), m0);
                let second = _mm256_sub_ps(_mm256_mul_ps(d1, second), m1);
                store(&mut groups[8 * part + group], first);
                store(&mut groups[8 * part + 4 + group], second);
            }
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn dots_q4k(bytes: &[u8], x: &Vector<'_>, y: &mut [f32]) {
    let (blocks, _) = bytes.as_chunks::<Q4K>();
    let sums = &x.sums;
    let (x, _) = x.values.as_chunks::<8>();
    for (y, blocks) in y.iter_mut().zip(blocks.chunks_exact(x.len() / 32)) {
        let (mut a, mut b) = (_mm256_setzero_ps(), _mm256_setzero_ps());
        let mut below = _mm256_setzero_ps();
        for ((block, x), sums) in blocks.iter().zip(x.chunks_exact(32)).zip(sums) {
            let (d, least) = scales_and_lowest(block);
            below = _mm256_fmadd_ps(least, load(sums), below);
            let mut scales = [0f32; 8];
            store(&mut scales, d);
            let (numbers, _) = block[16..].as_chunks::<8>();
            for part in 0..4 {
                let (mut low, mut high) = (_mm256_setzero_ps(), _mm256_setzero_ps());
                for group in 0..4 {
                    let (first, second) = nibbles(&numbers[4 * part + group]);
                    let (first, second) = (_mm256_cvtepi32_ps(first), _mm256_cvtepi32_ps(second));
                    low = _mm256_fmadd_ps(first, load(&x[8 * part + group]), low);
                    high = _mm256_fmadd_ps(second, load(&x[8 * part + 4 + group]), high);
                }
                a = _mm256_fmadd_ps(_mm256_set1_ps(scales[2 * part]), low, a);
                b = _mm256_fmadd_ps(_mm256_set1_ps(scales[2 * part + 1]), high, b);
            }
        }
        *y = sum(_mm256_sub_ps(_mm256_add_ps(a, b), below));
    }
}

/// Eight of the first and eight of the second 32 of part `part` of a block of Q5_K: four bits of two numbers in each byte, the fifth of
/// each in a byte of its own for all parts.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn numbers_q5k(bytes: &[u8; 8], top: &[u8; 8], part: usize) -> (__m256, __m256) {
    let (low, high) = nibbles(bytes);
    let top = _mm256_srl_epi32(unsigned(top), _mm_cvtsi32_si128(2 * part as i32));
    let fifth = _mm256_and_si256(top, _mm256_set1_epi32(1));
    let other = _mm256_and_si256(top, _mm256_set1_epi32(2));
    let low = _mm256_or_si256(low, _mm256_slli_epi32::<4>(fifth));
    let high = _mm256_or_si256(high, _mm256_slli_epi32::<3>(other));
    (_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high))
}

#[target_feature(enable = "avx2,fma,f16c")]
fn decode_q5k(bytes: &[u8], values: &mut [f32]) {
    let (blocks, _) = bytes.as_chunks::<Q5K>();
    let (groups, _) = values.as_chunks_mut::<8>();
    for (block, groups) in blocks.iter().zip(groups.chunks_exact_mut(32)) {
        let (mut scales, mut lowest) = ([0f32; 8], [0f32; 8]);
        let (d, least) = scales_and_lowest(block);
        store(&mut scales, d);
        store(&mut lowest, least);
        let (top, numbers) = block[16..].as_chunks::<8>().0.split_at(4);
        for part in 0..4 {
            let (low, high) = (2 * part, 2 * part + 1);
            let (d0, m0) = (_mm256_set1_ps(scales[low]), _mm256_set1_ps(lowest[low]));
            let (d1, m1) = (_mm256_set1_ps(scales[high]), _mm256_set1_ps(lowest[high]));
            for group in 0..4 {
                let (first, second) = numbers_q5k(&numbers[4 * part + group], &top[group], part);
                let first = _mm256_sub_ps(_mm256_mul_ps(d0, first), m0);
                let second = _mm256_sub_ps(_mm256_mul_ps(d1, second), m1);
                store(&mut groups[8 * part + group], first);
                store(&mut groups[8 * part + 4 + group], second);
            }
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn dots_q5k(bytes: &[u8], x: &Vector<'_>, y: &mut [f32]) {
    let (blocks, _) = bytes.as_chunks::<Q5K>();
    let sums = &x.sums;
    let (x, _) = x.values.as_chunks::<8>();
    for (y, blocks) in y.iter_mut().zip(blocks.chunks_exact(x.len() / 32)) {
        let (mut a, mut b) = (_mm256_setzero_ps(), _mm256_setzero_ps());
        let mut below = _mm256_setzero_ps();
        for ((block, x), sums) in blocks.iter().zip(x.chunks_exact(32)).zip(sums) {
            let (d, least) = scales_and_lowest(block);
            below = _mm256_fmadd_ps(least, load(sums), below);
            let mut scales = [0f32; 8];
            store(&mut scales, d);
            let (top, numbers) = block[16..].as_chunks::<8>().0.split_at(4);
            for part in 0..4 {
                let (mut low, mut high) = (_mm256_setzero_ps(), _mm256_setzero_ps());
                for group in 0..4 {
                    let (first, second) =
                        numbers_q5k(&numbers[4 * part + group], &top[group], part);
                    low = _mm256_fmadd_ps(first, load(&x[8 * part + group]), low);
                    high = _mm256_fmadd_ps(second, load(&x[8 * part + 4 + group]), high);
                }
                a = _mm256_fmadd_ps(_mm256_set1_ps(scales[2 * part]), low, a);
                b = _mm256_fmadd_ps(_mm256_set1_ps(scales[2 * part + 1]), high, b);
            }
        }
        *y = sum(_mm256_sub_ps(_mm256_add_ps(a, b), below));
    }
}

/// The scales of a block of Q6_K, each for 16 values.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn scales_q6k(block: &[u8; Q6K]) -> [f32; 16] {
    let d = scale(block[208], block[209]);
    let (numbers, _) = block[192..208].as_chunks::<8>();
    let mut scales = [0f32; 16];
    let (halves, _) = scales.as_chunks_mut::<8>();
    for (half, numbers) in halves.iter_mut().zip(numbers) {
        store(half, _mm256_mul_ps(d, signed(numbers)));
    }
    scales
}

/// Eight values of each of the four quarters of 128: four low bits of two bytes, two high bits of each from a third; without scale.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn numbers_q6k(one: &[u8; 8], two: &[u8; 8], top: &[u8; 8]) -> [__m256; 4] {
    let (one, two, top) = (unsigned(one), unsigned(two), unsigned(top));
    let (nibble, pair) = (_mm256_set1_epi32(15), _mm256_set1_epi32(0x30));
    let middle = _mm256_set1_epi32(32);
    let low = [
        _mm256_and_si256(one, nibble),
        _mm256_and_si256(two, nibble),
        _mm256_srli_epi32::<4>(one),
        _mm256_srli_epi32::<4>(two),
    ];
    let high = [
        _mm256_slli_epi32::<4>(top),
        _mm256_slli_epi32::<2>(top),
        top,
        _mm256_srli_epi32::<2>(top),
    ];
    let mut values = [_mm256_setzero_ps(); 4];
    for ((value, low), high) in values.iter_mut().zip(low).zip(high) {
        let whole = _mm256_or_si256(low, _mm256_and_si256(high, pair));
        *value = _mm256_cvtepi32_ps(_mm256_sub_epi32(whole, middle));
    }
    values
}

#[target_feature(enable = "avx2,fma,f16c")]
fn decode_q6k(bytes: &[u8], values: &mut [f32]) {
    let (blocks, _) = bytes.as_chunks::<Q6K>();
    let (groups, _) = values.as_chunks_mut::<8>();
    for (block, groups) in blocks.iter().zip(groups.chunks_exact_mut(32)) {
        let scales = scales_q6k(block);
        let (bytes, _) = block[..192].as_chunks::<8>();
        for half in 0..2 {
            for group in 0..4 {
                let one = &bytes[8 * half + group];
                let two = &bytes[8 * half + 4 + group];
                let found = numbers_q6k(one, two, &bytes[16 + 4 * half + group]);
                for (quarter, value) in found.into_iter().enumerate() {
                    let scale = _mm256_set1_ps(scales[8 * half + 2 * quarter + group / 2]);
                    let to = &mut groups[16 * half + 4 * quarter + group];
                    store(to, _mm256_mul_ps(scale, value));
                }
            }
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn dots_q6k(bytes: &[u8], x: &Vector<'_>, y: &mut [f32]) {
    let (blocks, _) = bytes.as_chunks::<Q6K>();
    let (x, _) = x.values.as_chunks::<8>();
    for (y, blocks) in y.iter_mut().zip(blocks.chunks_exact(x.len() / 32)) {
        let mut sums = [_mm256_setzero_ps(); 4];
        for (block, x) in blocks.iter().zip(x.chunks_exact(32)) {
            let scales = scales_q6k(block);
            let (bytes, _) = block[..192].as_chunks::<8>();
            for half in 0..2 {
                for pair in 0..2 {
                    let mut parts = [_mm256_setzero_ps(); 4];
                    for group in [2 * pair, 2 * pair + 1] {
                        let one = &bytes[8 * half + group];
                        let two = &bytes[8 * half + 4 + group];
                        let found = numbers_q6k(one, two, &bytes[16 + 4 * half + group]);
                        for (quarter, value) in found.into_iter().enumerate() {
                            let x = load(&x[16 * half + 4 * quarter + group]);
                            parts[quarter] = _mm256_fmadd_ps(value, x, parts[quarter]);
                        }
                    }
                    for (quarter, part) in parts.into_iter().enumerate() {
                        let scale = _mm256_set1_ps(scales[8 * half + 2 * quarter + pair]);
                        sums[quarter] = _mm256_fmadd_ps(scale, part, sums[quarter]);
                    }
                }
            }
        }
        let [a, b, c, d] = sums;
        *y = sum(_mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d)));
    }
}

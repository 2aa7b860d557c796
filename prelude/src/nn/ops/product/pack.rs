//! One side of a product laid out as the innermost loop reads it: for each k, the values of some rows (or columns) side by side.

use std::arch::x86_64::*;

/// Rows of the left side that are laid side by side.
pub(super) const GROUP: usize = 8;

/// Where the values of a side lie: a pointer, the step from lane to lane and that from one k to the next.
#[derive(Clone, Copy)]
pub(super) struct Side {
    pub ptr: *const f32,
    pub lane: usize,
    pub deep: usize,
}

impl Side {
    /// The side from this lane and k on.
    ///
    /// # Safety
    /// Both lie within the side.
    pub unsafe fn from(self, lane: usize, k: usize) -> Self {
        // SAFETY: the caller's promise.
        let ptr = unsafe { self.ptr.add(lane * self.lane + k * self.deep) };
        Self { ptr, ..self }
    }
}

/// Values in a line of the cache.
const LINE: usize = 16;
/// Rows of lanes that are asked for before they are read.
const AHEAD: usize = 12;

/// Asks memory for a value that is soon read: weights come from far, and in steps that the processor does not foresee. The place may
/// lie outside of the side.
#[target_feature(enable = "avx2")]
fn ask_for(from: Side, lane: usize, k: usize) {
    let place = from.ptr.wrapping_add(
        lane.wrapping_mul(from.lane)
            .wrapping_add(k.wrapping_mul(from.deep)),
    );
    // A hint, which reads nothing and cannot fault.
    _mm_prefetch::<_MM_HINT_T0>(place.cast());
}

/// `to[k · width + lane] = scale · from[lane, k]` for `lanes` lanes, and 0 for those up to `width`.
///
/// # Safety
/// The processor has AVX2; `from` has `lanes` × `deep` values that may be read, `to` `width` × `deep` that this call alone writes.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn pack(
    to: *mut f32,
    width: usize,
    from: Side,
    (lanes, deep): (usize, usize),
    scale: f32,
) {
    // Blocks of 8 × 8 that are turned in registers, where the values of a lane lie side by side.
    let (turned_lanes, turned_deep) = match from.deep {
        1 if from.lane != 1 => (lanes / 8 * 8, deep / 8 * 8),
        _ => (0, 0),
    };
    // SAFETY: the caller's promise; the blocks and what is left of them lie within both extents.
    unsafe {
        for lane in (0..turned_lanes).step_by(8) {
            for k in (0..turned_deep).step_by(8) {
                if k % LINE == 0 {
                    (8..16).for_each(|next| ask_for(from, lane + next, k));
                }
                turn(to.add(k * width + lane), width, from.from(lane, k), scale);
            }
        }
        for k in 0..deep {
            let first = if k < turned_deep { turned_lanes } else { 0 };
            let to = std::slice::from_raw_parts_mut(to.add(k * width), width);
            let (values, rest) = to[first..].split_at_mut(lanes - first);
            let from = from.from(first, k);
            if from.lane == 1 {
                for lane in (0..lanes).step_by(LINE) {
                    ask_for(from, lane, AHEAD);
                }
                let row = std::slice::from_raw_parts(from.ptr, values.len());
                for (to, from) in values.iter_mut().zip(row) {
                    *to = scale * from;
                }
            } else {
                for (lane, to) in values.iter_mut().enumerate() {
                    *to = scale * *from.ptr.add(lane * from.lane);
                }
            }
            rest.fill(0.0);
        }
    }
}

/// Eight lanes of eight values each, side by side → eight rows of eight lanes.
#[target_feature(enable = "avx2")]
unsafe fn turn(to: *mut f32, width: usize, from: Side, scale: f32) {
    // SAFETY: the caller has eight lanes of eight values at `from` and eight rows at `to`.
    unsafe {
        let row = |lane: usize| _mm256_loadu_ps(from.ptr.add(lane * from.lane));
        // Pairs of lanes within halves, then fours, then the halves themselves.
        let pair = |i: usize| {
            let (a, b) = (row(i), row(i + 1));
            (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b))
        };
        let four = |i: usize| {
            let ((a0, a1), (b0, b1)) = (pair(i), pair(i + 2));
            [
                _mm256_shuffle_ps::<0x44>(a0, b0),
                _mm256_shuffle_ps::<0xEE>(a0, b0),
                _mm256_shuffle_ps::<0x44>(a1, b1),
                _mm256_shuffle_ps::<0xEE>(a1, b1),
            ]
        };
        let (low, high, scale) = (four(0), four(4), _mm256_set1_ps(scale));
        for i in 0..4 {
            let near = _mm256_permute2f128_ps::<0x20>(low[i], high[i]);
            let far = _mm256_permute2f128_ps::<0x31>(low[i], high[i]);
            _mm256_storeu_ps(to.add(i * width), _mm256_mul_ps(near, scale));
            _mm256_storeu_ps(to.add((i + 4) * width), _mm256_mul_ps(far, scale));
        }
    }
}

//! Vectorised arithmetic of the fused operations: exponential, normal distribution, sums and maxima in lanes.

/// `e^x`, within 2 units in the last place; vectorises. Below −87.7, where f32 has only subnormal numbers, the result is 0;
/// NaN stays NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    const MAGIC: f32 = 12_582_912.0; // 1.5 · 2^23: adding it rounds to the nearest integer
    let x = if x < -88.0 { -88.0 } else { x }; // its power of two, 2^−127, is written as 0 below
    let x = if x > 88.37 { 88.37 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = (x - n * 0.693_359_4) - n * -2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 5e-1;
    let y = p * (r * r) + r + 1.0;
    let exponent = (shifted.to_bits() as i32).wrapping_sub(0x4B40_0000);
    y * f32::from_bits((exponent.wrapping_add(127) as u32) << 23)
}

/// The normal distribution function Φ(x) = ½ erfc(−x/√2), to about 2e-7, and to 2e-6 relative in the lower tail, where
/// ½ (1 + erf) would cancel to nothing; vectorises. The fit of erfc is that of Numerical Recipes.
#[inline(always)]
pub(crate) fn normal_cdf(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * z);
    let p = 0.170_872_77;
    let p = p * t + -0.822_152_23;
    let p = p * t + 1.488_515_9;
    let p = p * t + -1.135_204;
    let p = p * t + 0.278_868_07;
    let p = p * t + -0.186_288_06;
    let p = p * t + 0.096_784_18;
    let p = p * t + 0.374_091_96;
    let p = p * t + 1.000_023_7;
    let tail = 0.5 * t * exp(-z * z + (p * t - 1.265_512_2));
    if x < 0.0 { tail } else { 1.0 - tail }
}

const LANES: usize = 16;

/// Sum of `f(i)` over a row in sixteen independent lanes, so that it vectorises.
#[inline(always)]
pub(crate) fn lane_sum(len: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let whole = len / LANES * LANES;
    let mut i = 0;
    while i < whole {
        for (lane, acc) in lanes.iter_mut().enumerate() {
            // SAFETY: `i` is at most `whole - LANES`, and `whole` at most `len`. Said here because the compiler does not see it,
            // and a check of each index in `f` keeps the sum out of the wide registers.
            unsafe { std::hint::assert_unchecked(i + lane < len) };
            *acc += f(i + lane);
        }
        i += LANES;
    }
    let mut total = 0f32;
    for acc in lanes {
        total += acc;
    }
    while i < len {
        total += f(i);
        i += 1;
    }
    total
}

/// Largest value of a row (−∞ for an empty one); NaN is passed over.
#[inline(always)]
pub(crate) fn lane_max(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (acc, &v) in lanes.iter_mut().zip(chunk) {
            *acc = if v > *acc { v } else { *acc };
        }
    }
    let mut best = f32::NEG_INFINITY;
    for &v in lanes.iter().chain(chunks.remainder()) {
        best = if v > best { v } else { best };
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::ops::kernels::simd_fn;

    simd_fn! {
        fn exp_all(x: &mut [f32]) {
            for v in x { *v = exp(*v); }
        }
    }

    #[test]
    fn exp_is_within_two_ulp() {
        let mut xs: Vec<f32> = (-8700..8800).map(|i| i as f32 / 100.0).collect();
        let want: Vec<f64> = xs.iter().map(|&x| f64::from(x).exp()).collect();
        exp_all(&mut xs);
        for (got, want) in xs.iter().zip(want) {
            assert!(
                ((f64::from(*got) - want) / want).abs() < 2.5e-7,
                "{got} {want}"
            );
        }
        assert_eq!([exp(f32::NEG_INFINITY), exp(-1e4), exp(-88.0)], [0.0; 3]);
        assert!(exp(-87.6) > 0.0 && exp(f32::NAN).is_nan());
    }

    #[test]
    fn normal_cdf_matches_known_values_far_into_the_tail() {
        for (x, want) in [
            (-6.0, 9.865_876e-10),
            (-5.0, 2.866_515_7e-7),
            (-4.0, 3.167_124_2e-5),
            (-3.0, 1.349_898e-3),
            (-1.0, 0.158_655_25),
            (0.0, 0.5),
            (0.5, 0.691_462_46),
            (2.0, 0.977_249_87),
            (9.0, 1.0),
        ] {
            let got = normal_cdf(x);
            assert!(
                (got - want).abs() < 3e-7 && (got / want - 1.0).abs() < 3e-6,
                "Φ({x}) = {got}"
            );
        }
        assert!(normal_cdf(f32::NAN).is_nan());
    }
}

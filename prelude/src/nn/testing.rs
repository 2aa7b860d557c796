//! What the tests of this module share: seeded tensors, and a gradient check against the composed form and against
//! finite differences.

use crate::Result;
use candle_core::{Tensor, Var};
use rand::{Rng, SeedableRng};

/// A tensor of uniform values in [−scale, scale].
pub fn random(dims: &[usize], scale: f32, seed: u64) -> Tensor {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    let data: Vec<f32> = (0..dims.iter().product())
        .map(|_| rng.random_range(-scale..scale))
        .collect();
    Tensor::from_vec(data, dims, &candle_core::Device::Cpu).expect("shape and data agree")
}

fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all()
        .and_then(|t| t.to_vec1())
        .expect("an f32 tensor")
}

/// Fails unless the largest difference is at most `tolerance`, relative to the larger of 1 and the values.
pub fn assert_close(got: &Tensor, want: &Tensor, tolerance: f32) {
    assert_eq!(got.dims(), want.dims());
    let (got, want) = (flat(got), flat(want));
    let scale = want.iter().fold(1f32, |m, v| m.max(v.abs()));
    for (i, (g, w)) in got.iter().zip(&want).enumerate() {
        assert!(
            (g - w).abs() <= tolerance * scale,
            "at {i}: {g} instead of {w}"
        );
    }
}

/// Gradients of `Σ r ∘ f(inputs)` for a random `r`, fused against composed, then a few entries against finite differences.
pub fn check_gradient(
    inputs: &[Tensor],
    fused: impl Fn(&[Tensor]) -> Result<Tensor>,
    composed: impl Fn(&[Tensor]) -> Result<Tensor>,
    tolerance: f32,
) -> Result<()> {
    let vars: Vec<Var> = inputs
        .iter()
        .map(Var::from_tensor)
        .collect::<candle_core::Result<_>>()?;
    let args: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = fused(&args)?;
    let r = random(y.dims(), 1.0, 99);
    let got = (&y * &r)?.sum_all()?.backward()?;
    let want = (composed(&args)? * &r)?.sum_all()?.backward()?;
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    for (index, var) in vars.iter().enumerate() {
        let gradient = got
            .get(var)
            .unwrap_or_else(|| panic!("input {index} got no gradient"));
        assert_close(
            gradient,
            want.get(var).expect("composed form has a gradient"),
            tolerance,
        );
        let gradient = flat(gradient);
        let base = flat(var);
        let loss = |values: Vec<f32>| -> Result<f64> {
            let mut args = args.clone();
            args[index] = Tensor::from_vec(values, var.dims(), var.device())?;
            let y = flat(&fused(&args)?);
            Ok(y.iter()
                .zip(flat(&r))
                .map(|(y, r)| f64::from(*y) * f64::from(r))
                .sum())
        };
        for _ in 0..4 {
            let at = rng.random_range(0..base.len());
            let step = 1e-2f32;
            let (mut up, mut down) = (base.clone(), base.clone());
            up[at] += step;
            down[at] -= step;
            let numeric = (loss(up)? - loss(down)?) / (2.0 * f64::from(step));
            let analytic = f64::from(gradient[at]);
            assert!(
                (numeric - analytic).abs() < 1e-2 * (1.0 + analytic.abs()),
                "input {index} entry {at}: finite difference {numeric}, gradient {analytic}"
            );
        }
    }
    Ok(())
}

//! Cross-entropy from raw logits.

use super::ops;
use crate::{Error, Result};
use candle_core::Tensor;

/// Mean cross-entropy in nats: logits `[N, V]` against `N` target ids → a scalar.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::nn::cross_entropy;
///
/// # fn main() -> Result<()> {
/// let logits = Tensor::zeros((2, 4), DType::F32, &Device::Cpu)?; // two places, four words, undecided
/// let loss = cross_entropy(&logits, &[0, 3])?.to_scalar::<f32>()?;
/// assert!((loss - 4f32.ln()).abs() < 1e-6);
/// # Ok(()) }
/// ```
///
/// # Errors
/// As [`cross_entropy_rows`], and for `N = 0`.
pub fn cross_entropy(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    if targets.is_empty() {
        return Err(Error::Input(
            "cross-entropy of no targets: the batch has nothing to learn from".into(),
        ));
    }
    Ok(cross_entropy_rows(logits, targets)?.mean_all()?)
}

/// Cross-entropy of each row in nats: logits `[N, V]` against `N` target ids → `[N]`.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let logits = Tensor::new(&[[0f32, 0.0], [100.0, 0.0]], &Device::Cpu)?; // two places, two words
/// let losses = cross_entropy_rows(&logits, &[0, 0])?.to_vec1::<f32>()?;
/// assert!((losses[0] - 2f32.ln()).abs() < 1e-6); // undecided between two words
/// assert!(losses[1] < 1e-6); // sure of the right one
/// # Ok(()) }
/// ```
///
/// # Errors
/// When the number of targets is not N or a target is not below V.
pub fn cross_entropy_rows(logits: &Tensor, targets: &[u32]) -> Result<Tensor> {
    let (rows, vocabulary) = logits.dims2()?;
    if rows != targets.len() {
        return Err(Error::Input(format!(
            "{} targets for {rows} rows of logits",
            targets.len()
        )));
    }
    if let Some(bad) = targets.iter().find(|&&t| t as usize >= vocabulary) {
        return Err(Error::Input(format!(
            "target id {bad} is outside the vocabulary of {vocabulary}"
        )));
    }
    ops::cross_entropy(logits, targets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::testing::{assert_close, check_gradient, random};

    #[test]
    fn equals_the_composed_form_and_finite_differences() -> Result<()> {
        let x = random(&[5, 37], 4.0, 1);
        let targets = [3, 0, 36, 7, 7];
        let composed = |x: &Tensor| -> Result<Tensor> {
            let t = Tensor::new(&targets, x.device())?.unsqueeze(1)?;
            Ok(candle_nn::ops::log_softmax(x, 1)?
                .gather(&t, 1)?
                .squeeze(1)?
                .neg()?)
        };
        assert_close(&cross_entropy_rows(&x, &targets)?, &composed(&x)?, 1e-6);
        check_gradient(
            std::slice::from_ref(&x),
            |a| cross_entropy_rows(&a[0], &targets),
            |a| composed(&a[0]),
            2e-6,
        )?;
        check_gradient(
            &[x],
            |a| cross_entropy(&a[0], &targets),
            |a| Ok(composed(&a[0])?.mean_all()?),
            2e-6,
        )
    }

    #[test]
    fn a_target_outside_the_vocabulary_is_an_error() {
        let x = random(&[1, 4], 1.0, 1);
        assert!(matches!(cross_entropy_rows(&x, &[4]), Err(Error::Input(_))));
        assert!(matches!(
            cross_entropy_rows(&x, &[1, 2]),
            Err(Error::Input(_))
        ));
        assert!(matches!(
            cross_entropy(&random(&[0, 4], 1.0, 1), &[]),
            Err(Error::Input(_))
        ));
    }
}

//! AdamW's step in candle's own operations, for other dtypes and devices than the CPU's f32: parameters, gradients and moments → new moments, and
//! the parameters changed in place.
//!
//! On a GPU the calls are the cost, not the values, and LoRA has hundreds of small matrices. So parameters that follow each other and are moved by
//! the same numbers lie side by side while they are moved: 12 calls for all of them and five for each, in place of 15 for each.

use candle_core::{DType, Tensor, Var};

use super::adamw::Moments;
use crate::Result;
use crate::nn::ops::AdamWStep;

/// Values that are moved together at most: a larger parameter is moved alone, so that nothing of it is copied.
const MOST: usize = 1 << 22;

/// A parameter that waits to be moved.
pub(super) struct Waiting {
    pub name: String,
    pub var: Var,
    /// In f32, as the moments.
    pub gradient: Tensor,
    pub moments: Moments,
    pub update: AdamWStep,
}

impl Waiting {
    fn count(&self) -> usize {
        self.gradient.elem_count()
    }

    /// Whether both are moved by the same numbers on one device.
    fn goes_with(&self, other: &Self) -> bool {
        self.update == other.update && self.var.device().same_device(other.var.device())
    }
}

/// Moves the parameters; their new moments, by name.
///
/// # Errors
/// When a tensor operation fails.
pub(super) fn move_all(waiting: Vec<Waiting>) -> Result<Vec<(String, Moments)>> {
    let mut moved = Vec::with_capacity(waiting.len());
    for group in groups(waiting) {
        match &group[..] {
            [one] => moved.push((one.name.clone(), alone(one)?)),
            several => moved.extend(together(several)?),
        }
    }
    Ok(moved)
}

/// Neighbours that can be moved together, in order.
fn groups(waiting: Vec<Waiting>) -> Vec<Vec<Waiting>> {
    let (mut groups, mut values): (Vec<Vec<Waiting>>, usize) = (Vec::new(), 0);
    for one in waiting {
        match groups.last_mut() {
            Some(group)
                if values + one.count() <= MOST && group.iter().all(|own| own.goes_with(&one)) =>
            {
                values += one.count();
                group.push(one);
            }
            _ => {
                values = one.count();
                groups.push(vec![one]);
            }
        }
    }
    groups
}

/// New values and moments, each of one shape.
fn step(
    update: &AdamWStep,
    values: &Tensor,
    gradient: &Tensor,
    mean: &Tensor,
    square: &Tensor,
) -> Result<(Tensor, Tensor, Tensor)> {
    let (beta1, beta2) = (update.beta1, update.beta2);
    let mean = ((mean * beta1)? + (gradient * (1.0 - beta1))?)?;
    let square = ((square * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
    let scale = square.sqrt()?.affine(1.0 / update.root, update.eps)?;
    let change = ((&mean / &scale)? * update.rate)?;
    let values = ((values * update.keep)? - change)?;
    Ok((values, mean, square))
}

fn alone(one: &Waiting) -> Result<Moments> {
    let values = one.var.as_tensor().detach().to_dtype(DType::F32)?;
    let Moments {
        mean,
        square,
        step: number,
    } = &one.moments;
    let (values, mean, square) = step(&one.update, &values, &one.gradient, mean, square)?;
    one.var.set(&values.to_dtype(one.var.dtype())?)?;
    Ok(Moments {
        step: *number,
        mean,
        square,
    })
}

fn together(several: &[Waiting]) -> Result<Vec<(String, Moments)>> {
    let side_by_side = |of: &dyn Fn(&Waiting) -> candle_core::Result<Tensor>| -> Result<Tensor> {
        let flat = several.iter().map(|one| of(one)?.flatten_all());
        let flat = flat.collect::<candle_core::Result<Vec<_>>>()?;
        Ok(Tensor::cat(&flat, 0)?) // [values of all]
    };
    let values = side_by_side(&|one| one.var.as_tensor().detach().to_dtype(DType::F32))?;
    let gradient = side_by_side(&|one| Ok(one.gradient.clone()))?;
    let mean = side_by_side(&|one| Ok(one.moments.mean.clone()))?;
    let square = side_by_side(&|one| Ok(one.moments.square.clone()))?;
    let update = &several[0].update;
    let (values, mean, square) = step(update, &values, &gradient, &mean, &square)?;
    let mut start = 0;
    let moved = several.iter().map(|one| {
        let part = |all: &Tensor| all.narrow(0, start, one.count())?.reshape(one.var.dims());
        one.var.set(&part(&values)?.to_dtype(one.var.dtype())?)?;
        let moments = Moments {
            step: one.moments.step,
            mean: part(&mean)?,
            square: part(&square)?,
        };
        start += one.count();
        Ok((one.name.clone(), moments))
    });
    moved.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Parameter, with_composed_ops};
    use crate::train::{AdamW, AdamWConfig, Gradients, Rates};
    use candle_core::Device;

    /// What some parameters are after three steps in the composed form, all in one call or each in its own.
    fn after(at_once: bool) -> Result<Vec<Vec<f32>>> {
        let sizes: [&[usize]; 5] = [&[2, 3], &[4], &[MOST + 1], &[1, 2, 2], &[3]];
        let parameters = sizes.iter().enumerate().map(|(at, size)| {
            let count = size.iter().product::<usize>() as f32;
            let values = (Tensor::arange(0f32, count, &Device::Cpu)? * 0.1)?.sin()?;
            let dtype = if at == 3 { DType::BF16 } else { DType::F32 };
            let var = Var::from_tensor(&values.reshape(*size)?.to_dtype(dtype)?)?;
            Ok(Parameter::new(format!("p{at}"), &var))
        });
        let parameters = parameters.collect::<Result<Vec<_>>>()?;
        let mut adamw = AdamW::new(AdamWConfig::default())?;
        // The last is moved by another rate.
        let rates = |parameter: &Parameter| Rates {
            rate: if parameter.name == "p4" { 0.5 } else { 0.1 },
            weight_decay: 0.1,
        };
        for _ in 0..3 {
            let mut loss = Tensor::zeros((), DType::F32, &Device::Cpu)?;
            for parameter in &parameters {
                loss = (loss + parameter.tensor.to_dtype(DType::F32)?.sqr()?.sum_all()?)?;
            }
            let gradients = Gradients::of(&loss, &parameters)?;
            with_composed_ops(|| match at_once {
                true => adamw.step_by(&parameters, &gradients, &rates),
                false => parameters
                    .chunks(1)
                    .try_for_each(|one| adamw.step_by(one, &gradients, &rates)),
            })?;
        }
        let values = parameters.iter().map(|parameter| {
            let values = parameter.tensor.to_dtype(DType::F32)?.flatten_all()?;
            Ok(values.to_vec1()?)
        });
        values.collect()
    }

    #[test]
    fn parameters_that_are_moved_together_end_where_each_ends_alone() -> Result<()> {
        let (together, alone) = (after(true)?, after(false)?);
        assert!(together == alone);
        assert!(
            alone[0]
                != vec![0f32, 0.1, 0.2, 0.3, 0.4, 0.5]
                    .into_iter()
                    .map(f32::sin)
                    .collect::<Vec<_>>()
        );
        Ok(())
    }

    #[test]
    fn neighbours_with_the_same_numbers_form_groups() -> Result<()> {
        let one = |count: usize, rate: f64| -> Result<Waiting> {
            let zeros = Tensor::zeros(count, DType::F32, &Device::Cpu)?;
            Ok(Waiting {
                name: "some".into(),
                var: Var::from_tensor(&zeros)?,
                gradient: zeros.clone(),
                moments: Moments {
                    step: 1,
                    mean: zeros.clone(),
                    square: zeros,
                },
                update: AdamWStep {
                    beta1: 0.9,
                    beta2: 0.999,
                    eps: 1e-8,
                    rate,
                    keep: 1.0,
                    root: 1.0,
                },
            })
        };
        let waiting = vec![
            one(2, 0.1)?,
            one(3, 0.1)?,
            one(MOST, 0.1)?,
            one(1, 0.1)?,
            one(1, 0.2)?,
            one(1, 0.2)?,
        ];
        let lengths: Vec<usize> = groups(waiting).iter().map(Vec::len).collect();
        assert_eq!(lengths, [2, 1, 1, 2]);
        Ok(())
    }
}

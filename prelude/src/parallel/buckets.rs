//! Gradients of all ranks, added up: one map of tensors a rank → their sums, through buckets of f32.
//!
//! Small tensors share a bucket, so that the time of a sum is that of its bytes and not that of its messages. A parameter that a
//! rank's samples do not reach counts as zeros there.

use candle_core::{DType, Tensor};

use super::group::Group;
use crate::Result;
use crate::nn::Parameter;
use crate::train::Gradients;

/// Values of a bucket: 16 MB.
const BUCKET: usize = 1 << 22;

/// Adds up the gradients of `parameters` over all ranks.
pub(crate) fn sum(
    group: &Group,
    gradients: &Gradients,
    parameters: &[Parameter],
) -> Result<Gradients> {
    if group.ranks() == 1 {
        return Ok(gradients.clone());
    }
    let trained: Vec<&Parameter> = parameters.iter().filter(|p| p.var.is_some()).collect();
    let there = trained.iter().map(|p| gradients.get(&p.name).is_some());
    let mut there: Vec<u64> = there.map(u64::from).collect();
    group.sum_u64(&mut there)?;
    let reached = trained.iter().zip(&there).filter(|(_, ranks)| **ranks > 0);
    let reached: Vec<&Parameter> = reached.map(|(parameter, _)| *parameter).collect();
    let mut sums = Gradients::default();
    let mut waiting: Vec<(&Parameter, usize)> = Vec::new();
    let mut bucket: Vec<f32> = Vec::new();
    for (at, parameter) in reached.iter().enumerate() {
        let values = match gradients.get(&parameter.name) {
            Some(own) => own.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?,
            None => vec![0.0; parameter.tensor.elem_count()],
        };
        waiting.push((parameter, values.len()));
        bucket.extend(values);
        if bucket.len() < BUCKET && at + 1 < reached.len() {
            continue;
        }
        group.sum_f32(&mut bucket)?;
        let mut start = 0;
        for (parameter, length) in waiting.drain(..) {
            let like = gradients
                .get(&parameter.name)
                .map_or(parameter.tensor.dtype(), Tensor::dtype);
            let own = bucket[start..start + length].to_vec();
            let tensor = Tensor::from_vec(own, parameter.tensor.dims(), parameter.tensor.device())?;
            sums.insert(&parameter.name, tensor.to_dtype(like)?);
            start += length;
        }
        bucket.clear();
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parallel::threads;
    use candle_core::{Device, Var};

    /// One rank's samples do not reach the second parameter, none the third.
    #[test]
    fn sums_are_those_of_all_ranks_and_what_none_reaches_stays_missing() -> Result<()> {
        let on_rank = |ranks| -> Result<Vec<(String, Vec<f32>)>> {
            let group = Group::of(ranks);
            let names = ["first", "second", "third"];
            let parameters = names.map(|name| -> Result<Parameter> {
                let var = Var::new(&[1f32, 2.0], &Device::Cpu)?;
                Ok(Parameter::new(name, &var))
            });
            let parameters = parameters.into_iter().collect::<Result<Vec<_>>>()?;
            let mut loss = parameters[0].tensor.sqr()?.sum_all()?;
            if group.rank() == 1 {
                loss = (loss + parameters[1].tensor.sum_all()?)?;
            }
            let own = Gradients::of(&loss, &parameters)?;
            let sums = sum(&group, &own, &parameters)?;
            group.finish();
            let pairs = sums.iter();
            let pairs = pairs.map(|(name, sum)| Ok((name.clone(), sum.to_vec1::<f32>()?)));
            pairs.collect()
        };
        let ranks = threads(3);
        let found: Vec<_> = std::thread::scope(|scope| {
            let work: Vec<_> = ranks
                .into_iter()
                .map(|rank| scope.spawn(move || on_rank(rank)))
                .collect();
            work.into_iter()
                .map(|one| one.join().expect("no panic"))
                .collect()
        });
        for sums in found {
            let expected = [("first", vec![6.0, 12.0]), ("second", vec![1.0, 1.0])];
            let expected = expected.map(|(name, values)| (name.to_owned(), values));
            assert_eq!(sums?, expected);
        }
        Ok(())
    }
}

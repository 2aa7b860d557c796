//! Gradients of all ranks, added up: one map of tensors a rank → their sums, through buckets of f32, on GPUs or by the host.
//!
//! Small tensors share a bucket, so that the time of a sum is that of its bytes and not that of its messages. A parameter that a
//! rank's samples do not reach counts as zeros there.

use candle_core::{DType, Device, Tensor};

use super::GpuSums;
use super::group::Group;
use crate::Result;
use crate::nn::Parameter;
use crate::train::Gradients;

/// Values of a bucket: 16 MB.
const BUCKET: usize = 1 << 22;

/// Adds up the gradients of `parameters` over all ranks: on their GPUs where all have them there and NCCL is there too, else by the host.
pub(crate) fn sum(
    group: &Group,
    gradients: &Gradients,
    parameters: &[Parameter],
) -> Result<Gradients> {
    sum_where(group, gradients, parameters, Device::is_cuda)
}

/// As [`sum`]; `on_gpu` says what counts as a GPU.
fn sum_where(
    group: &Group,
    gradients: &Gradients,
    parameters: &[Parameter],
    on_gpu: fn(&Device) -> bool,
) -> Result<Gradients> {
    if group.ranks() == 1 {
        return Ok(gradients.clone());
    }
    let trained: Vec<&Parameter> = parameters.iter().filter(|p| p.var.is_some()).collect();
    let there = trained.iter().map(|p| gradients.get(&p.name).is_some());
    let mut there: Vec<u64> = there.map(u64::from).collect();
    // The last says whether this rank's all lie on one GPU.
    let device = trained.first().map(|p| p.tensor.device().clone());
    let device = device.filter(|device| {
        let mut all = trained.iter().map(|p| p.tensor.device());
        on_gpu(device) && all.all(|other| other.same_device(device))
    });
    there.push(u64::from(device.is_some()));
    group.sum_u64(&mut there)?;
    let on_gpus = there.pop() == Some(group.ranks() as u64);
    let gpus = match &device {
        Some(device) if on_gpus => group.on_gpus(device)?,
        _ => None,
    };
    let reached = trained.iter().zip(&there).filter(|(_, ranks)| **ranks > 0);
    let reached: Vec<&Parameter> = reached.map(|(parameter, _)| *parameter).collect();
    let mut sums = Gradients::default();
    for parameters in in_buckets(&reached) {
        match &gpus {
            Some(gpus) => bucket_on_gpus(group, &**gpus, gradients, parameters, &mut sums)?,
            None => bucket_by_host(group, gradients, parameters, &mut sums)?,
        }
    }
    Ok(sums)
}

/// Parameters in order, cut behind those that fill a bucket.
fn in_buckets<'a, 'b>(reached: &'b [&'a Parameter]) -> Vec<&'b [&'a Parameter]> {
    let (mut buckets, mut start, mut values) = (Vec::new(), 0, 0);
    for (at, parameter) in reached.iter().enumerate() {
        values += parameter.tensor.elem_count();
        if values >= BUCKET || at + 1 == reached.len() {
            buckets.push(&reached[start..=at]);
            (start, values) = (at + 1, 0);
        }
    }
    buckets
}

/// The dtype that a rank's own gradient has, else that of the parameter.
fn like(gradients: &Gradients, parameter: &Parameter) -> DType {
    let own = gradients.get(&parameter.name);
    own.map_or(parameter.tensor.dtype(), Tensor::dtype)
}

fn bucket_by_host(
    group: &Group,
    gradients: &Gradients,
    parameters: &[&Parameter],
    sums: &mut Gradients,
) -> Result<()> {
    let mut bucket: Vec<f32> = Vec::new();
    for parameter in parameters {
        match gradients.get(&parameter.name) {
            Some(own) => bucket.extend(own.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?),
            None => bucket.resize(bucket.len() + parameter.tensor.elem_count(), 0.0),
        }
    }
    group.sum_f32(&mut bucket)?;
    let mut start = 0;
    for parameter in parameters {
        let own = bucket[start..start + parameter.tensor.elem_count()].to_vec();
        start += own.len();
        let tensor = Tensor::from_vec(own, parameter.tensor.dims(), parameter.tensor.device())?;
        sums.insert(
            &parameter.name,
            tensor.to_dtype(like(gradients, parameter))?,
        );
    }
    Ok(())
}

fn bucket_on_gpus(
    group: &Group,
    gpus: &dyn GpuSums,
    gradients: &Gradients,
    parameters: &[&Parameter],
    sums: &mut Gradients,
) -> Result<()> {
    let flat = parameters.iter().map(|parameter| {
        let (count, device) = (parameter.tensor.elem_count(), parameter.tensor.device());
        Ok(match gradients.get(&parameter.name) {
            Some(own) => own.to_dtype(DType::F32)?.flatten_all()?, // [count]
            None => Tensor::zeros(count, DType::F32, device)?,     // [count]
        })
    });
    let flat = flat.collect::<Result<Vec<_>>>()?;
    let bucket = group.sum_on(gpus, &Tensor::cat(&flat, 0)?)?; // [values]
    let mut start = 0;
    for parameter in parameters {
        let count = parameter.tensor.elem_count();
        let tensor = bucket.narrow(0, start, count)?;
        start += count;
        let tensor = tensor.reshape(parameter.tensor.dims())?;
        sums.insert(
            &parameter.name,
            tensor.to_dtype(like(gradients, parameter))?,
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parallel::{Collective, threads};
    use candle_core::Var;
    use std::sync::Arc;

    /// One rank's samples do not reach the second parameter, none the third.
    fn check(
        ranks: Vec<Arc<dyn Collective>>,
        sum: impl Fn(&Group, &Gradients, &[Parameter]) -> Result<Gradients> + Sync,
    ) -> Result<()> {
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
        let on_rank = &on_rank;
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

    #[test]
    fn sums_are_those_of_all_ranks_and_what_none_reaches_stays_missing() -> Result<()> {
        check(threads(3), sum)
    }

    #[cfg(unix)]
    #[test]
    fn sums_on_gpus_are_the_same() -> Result<()> {
        let ranks = crate::parallel::nccl::stand_in::with_gpus(threads(3));
        check(ranks, |group, own, parameters| {
            sum_where(group, own, parameters, |_| true)
        })
    }

    /// Ranks whose GPUs do not reach each other, and ranks of which one has its gradients elsewhere.
    #[test]
    fn where_gpus_do_not_reach_each_other_the_host_carries_the_sums() -> Result<()> {
        check(threads(3), |group, own, parameters| {
            sum_where(group, own, parameters, |_| true)
        })?;
        check(threads(3), |group, own, parameters| {
            let on_gpu: fn(&Device) -> bool = match group.rank() {
                0 => |_| false,
                _ => |_| true,
            };
            sum_where(group, own, parameters, on_gpu)
        })
    }

    #[test]
    fn buckets_hold_every_parameter_once_in_order() -> Result<()> {
        let sizes = [3, BUCKET, 1, BUCKET - 1, BUCKET / 2, 1];
        let parameters = sizes.map(|size| -> Result<Parameter> {
            let var = Var::zeros(size, DType::U8, &Device::Cpu)?;
            Ok(Parameter::new("some", &var))
        });
        let parameters = parameters.into_iter().collect::<Result<Vec<_>>>()?;
        let all: Vec<&Parameter> = parameters.iter().collect();
        let lengths = in_buckets(&all).into_iter().map(<[_]>::len);
        assert_eq!(lengths.collect::<Vec<_>>(), [2, 2, 2]);
        assert!(in_buckets(&[]).is_empty());
        Ok(())
    }
}

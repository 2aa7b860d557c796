//! Resamples position embeddings for another picture size, as `torch.nn.functional.interpolate` does with
//! `mode="bicubic", align_corners=False`.

use candle_core::{DType, Device, Tensor};

use crate::Result;

/// Sharpness of torch's bicubic (Pillow's is −0.5).
const A: f64 = -0.75;

/// `(special + from²)·D values → [special + to², D]`; the special positions stay.
pub(super) fn resample(
    positions: &Tensor,
    d: usize,
    special: usize,
    from: usize,
    to: usize,
) -> Result<Tensor> {
    let values = positions
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F32)?
        .flatten_all()?
        .to_vec1::<f32>()?;
    let (kept, grid) = values.split_at(special * d);
    let taps: Vec<[(usize, f64); 4]> = (0..to).map(|place| taps(place, from, to)).collect();
    let mut resampled = kept.to_vec();
    for row in &taps {
        for column in &taps {
            for value in 0..d {
                let mut sum = 0.0;
                for (y, row_weight) in row {
                    for (x, column_weight) in column {
                        sum += row_weight
                            * column_weight
                            * f64::from(grid[(y * from + x) * d + value]);
                    }
                }
                resampled.push(sum as f32);
            }
        }
    }
    let resampled = Tensor::from_vec(resampled, (special + to * to, d), &Device::Cpu)?;
    Ok(resampled
        .to_dtype(positions.dtype())?
        .to_device(positions.device())?)
}

/// The four old places around a new one, cut at the edge, with their weights.
fn taps(place: usize, from: usize, to: usize) -> [(usize, f64); 4] {
    let center = (place as f64 + 0.5) * from as f64 / to as f64 - 0.5;
    let first = center.floor();
    let part = center - first;
    let near = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0; // |x| ≤ 1
    let far = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A; // 1 < |x| < 2
    let weights = [
        far(part + 1.0),
        near(part),
        near(1.0 - part),
        far(2.0 - part),
    ];
    std::array::from_fn(|step| {
        let at = (first as i64 + step as i64 - 1).clamp(0, from as i64 - 1);
        (at as usize, weights[step])
    })
}

//! Pictures that the scripts of the fixtures compute too, and a checksum of what is made of them.

use glassbox_prelude::prelude::*;
use image::{Rgb, RgbImage};

/// The picture that the scripts compute.
pub fn picture(width: u32, height: u32) -> Result<Image> {
    Image::from_rgb(RgbImage::from_fn(width, height, |x, y| {
        let (x, y) = (u64::from(x), u64::from(y));
        Rgb([
            ((x * 7 + y * 3) % 256) as u8,
            ((x * x / 5 + y * 11) % 256) as u8,
            ((x / 9 + y / 7) % 2 * 200 + (x * y) % 50) as u8,
        ])
    }))
}

/// Each value's bits, weighted by its place.
pub fn checksum(tensor: &Tensor) -> Result<String> {
    let values = tensor.flatten_all()?.to_vec1::<f32>()?;
    let sum = values
        .iter()
        .enumerate()
        .fold(0_u64, |sum, (place, value)| {
            let weight = (place as u64).wrapping_mul(2_654_435_761).wrapping_add(1);
            let bits = u64::from(value.to_bits()) + 1;
            sum.wrapping_add(bits.wrapping_mul(weight))
        });
    Ok(format!("{sum:016x}"))
}

//! Occlusion: cover one part of a picture after the other and see how a score changes.

use image::Rgb;

use super::patches::PatchHeat;
use crate::display::Progress;
use crate::error::{Error, Result};
use crate::vision::Image;

/// Covers each of `side` × `side` fields of `picture` with its mean colour and asks `score` about the result; the map
/// shows `score(picture) − score(covered)`. With the probability of a word as score, red fields are those that the word
/// needs; with a loss, those fields are blue.
///
/// The score is asked `side² + 1` times.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let image = Image::filled(64, 64, [200, 30, 40])?;
/// // Any number that a picture gives: here how red its middle is.
/// let heat = occlusion("red in the middle", &image, 2, &mut |covered| {
///     Ok(f64::from(covered.rgb().get_pixel(40, 40)[0]))
/// })?;
/// assert_eq!(heat.values().len(), 4);
/// assert_eq!(heat.values()[..3], [0.0; 3]); // 2 × 2 fields, of which only the last has the pixel
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
///
/// # Errors
/// [`Error::Input`] if `side` is 0 or larger than the picture, the score's own errors, and [`Error::Interrupted`].
pub fn occlusion(
    title: &str,
    picture: &Image,
    side: usize,
    score: &mut dyn FnMut(&Image) -> Result<f64>,
) -> Result<PatchHeat> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let mean = mean_color(picture);
    let mut score_without = |field: Option<(usize, usize)>| {
        let Some((row, column)) = field else {
            return score(picture);
        };
        let mut covered = picture.rgb().clone();
        for y in row * height / side..(row + 1) * height / side {
            for x in column * width / side..(column + 1) * width / side {
                covered.put_pixel(x as u32, y as u32, mean);
            }
        }
        score(&Image::from_rgb(covered)?)
    };
    let values = by_field(title, (height, width), side, &mut score_without)?;
    PatchHeat::grid(title, picture, side, side, values)
}

/// What a score loses without each of `side` × `side` fields of a picture of `height` × `width` pixels, row by row. `score` is asked about
/// the picture as it is, then without each field (row, column).
pub(super) fn by_field(
    title: &str,
    (height, width): (usize, usize),
    side: usize,
    score: &mut dyn FnMut(Option<(usize, usize)>) -> Result<f64>,
) -> Result<Vec<f32>> {
    if side == 0 || side > width || side > height {
        return Err(Error::Input(format!(
            "a picture of {width} × {height} pixels cannot be covered field by field in {side} × {side} fields"
        )));
    }
    let base = score(None)?;
    let bar = Progress::new(title, side * side);
    let mut lost = Vec::with_capacity(side * side);
    for field in 0..side * side {
        lost.push((base - score(Some((field / side, field % side)))?) as f32);
        bar.step()?;
    }
    bar.finish("");
    Ok(lost)
}

fn mean_color(picture: &Image) -> Rgb<u8> {
    let mut sums = [0_u64; 3];
    for pixel in picture.rgb().pixels() {
        for (sum, channel) in sums.iter_mut().zip(pixel.0) {
            *sum += u64::from(channel);
        }
    }
    let count = u64::from(picture.width()) * u64::from(picture.height());
    Rgb(sums.map(|sum| (sum / count.max(1)) as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_that_matters_is_found() -> Result<()> {
        let mut pixels = image::RgbImage::from_pixel(8, 8, Rgb([0, 0, 0]));
        pixels.put_pixel(7, 1, Rgb([255, 0, 0]));
        let picture = Image::from_rgb(pixels)?;
        let mut score = |picture: &Image| {
            Ok(f64::from(
                picture
                    .rgb()
                    .pixels()
                    .map(|pixel| pixel.0[0])
                    .max()
                    .unwrap_or(0),
            ))
        };
        let map = occlusion("red", &picture, 4, &mut score)?;
        assert_eq!(map.peak(), (0, 3));
        assert_eq!(
            map.values().iter().filter(|value| **value > 200.0).count(),
            1
        );
        assert!(occlusion("red", &picture, 9, &mut score).is_err());
        Ok(())
    }
}

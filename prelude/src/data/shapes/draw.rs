//! Draws a scene: [`Scene`] → RGB pixels, edges smoothed by 4×4 samples a pixel.

use image::{Rgb, RgbImage};

use super::scene::Scene;

/// Samples along each side of a pixel.
const SAMPLES: u32 = 4;

/// Draws the scene as a square picture of `image_size` pixels a side.
pub(super) fn draw(scene: &Scene, image_size: u32) -> RgbImage {
    let side = image_size as f32;
    let mut picture = RgbImage::from_fn(image_size, image_size, |x, y| {
        let darker = (f32::from(scene.shade) * (x + y) as f32 / (2.0 * side)) as u8;
        Rgb(scene.background.map(|level| level.saturating_sub(darker)))
    });
    for object in &scene.objects {
        let around = object.pixel_box(image_size);
        for y in around.top..around.bottom {
            for x in around.left..around.right {
                let covered = (0..SAMPLES * SAMPLES)
                    .filter(|sample| {
                        let point = |pixel: u32, step: u32| {
                            (pixel as f32 + (step as f32 + 0.5) / SAMPLES as f32) / side
                        };
                        object.covers(point(x, sample % SAMPLES), point(y, sample / SAMPLES))
                    })
                    .count() as u32;
                let pixel = picture.get_pixel_mut(x, y);
                for (level, ink) in pixel.0.iter_mut().zip(object.ink) {
                    let total = SAMPLES * SAMPLES;
                    let mixed = u32::from(ink) * covered + u32::from(*level) * (total - covered);
                    *level = ((mixed + total / 2) / total) as u8;
                }
            }
        }
    }
    picture
}

//! The image encoder's forward pass.

use candle_core::Tensor;
use glassbox_prelude::vision::Vit;

use crate::Failure;
use crate::config::{Config, dtype};
use crate::measure::{Figures, add_rates, device, timed};

pub fn run(config: &Config, batch: usize) -> Result<Figures, Failure> {
    let sizes = config.vit_config()?;
    let vit = crate::model::random_vit(config)?;
    let side = sizes.image_size;
    let pixels = Tensor::randn(0f32, 1f32, (batch, 3, side, side), &device()?)?
        .to_dtype(dtype(&config.dtype)?)?; // [B, 3, H, W]
    let mut figures = timed(config.reps, config.warmup, |_| {
        forward(&vit, &pixels)?;
        Ok(())
    })?;
    add_rates(&mut figures, "images", batch, 3);
    Ok(figures)
}

fn forward(vit: &Vit, pixels: &Tensor) -> Result<Tensor, Failure> {
    Ok(vit.forward(pixels)?.last_hidden_state) // [B, P, D]
}

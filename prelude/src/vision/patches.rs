//! Cuts pictures into patches and embeds them: the convolution at the start of every ViT-like encoder, as one product.

use candle_core::Tensor;

use crate::nn::{Linear, Weight, shared};
use crate::{Error, Result};

/// `[B, C, S, S] → [B, (S/p)², D]` with a convolution weight `[D, C, p, p]` and an optional bias `[D]`. Pixel values move
/// to the weight's device and dtype; the weight may train.
pub(super) fn embed_patches(
    pixel_values: &Tensor,
    side: usize,
    weight: &Weight,
    bias: Option<&Weight>,
) -> Result<Tensor> {
    let (width, channels, patch, _) = weight.tensor().dims4()?;
    let dims = pixel_values.dims();
    if dims.len() != 4 || dims[0] == 0 || dims[1..] != [channels, side, side] {
        return Err(Error::Input(format!(
            "this encoder takes pixel values [B, {channels}, {side}, {side}] with B at least 1, got {dims:?}: use its \
             own image processor"
        )));
    }
    let (batch, grid) = (dims[0], side / patch);
    let values = pixel_values
        .to_device(weight.tensor().device())?
        .to_dtype(weight.tensor().dtype())?;
    let patches = values
        .reshape(&[batch, channels, grid, patch, grid, patch][..])?
        .permute([0, 2, 4, 1, 3, 5])? // [B, rows, columns, C, p, p]
        .reshape((batch, grid * grid, channels * patch * patch))?; // [B, P, C·p·p]
    let matrix = weight.tensor().reshape((width, channels * patch * patch))?; // its gradient flows back to the weight
    let name = weight
        .name()
        .strip_suffix(".weight")
        .unwrap_or(weight.name());
    Linear::new(
        name,
        Weight::frozen(weight.name(), matrix),
        bias.map(shared),
    )
    .forward(&patches) // [B, P, D]
}

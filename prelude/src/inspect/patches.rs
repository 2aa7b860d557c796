//! Numbers laid over the patches of a picture: attention, rollout, occlusion.

use candle_core::{D, DType, Device, Tensor};
use image::{Rgb, RgbImage};

use crate::display::heat;
use crate::display::html::{self, escape};
use crate::display::tokens::patch_grid;
use crate::display::{MimeBundle, Render, number};
use crate::error::{Error, Result};
use crate::vision::{Image, Positions};

/// Pixels of the longer side of each picture.
const SIDE: u32 = 192;

/// Attention rollout (Abnar and Zuidema, 2020): how much of every input token is in every output token, when each
/// layer's attention (mean over heads) is mixed half and half with the residual and the layers are multiplied.
///
/// Attentions `[1, H, T, T]` or `[H, T, T]` per layer → `[T, T]`, rows sum to 1, f32 on the CPU.
///
/// # Errors
/// [`Error::Input`] if there is no layer or a shape does not fit.
pub fn attention_rollout(attentions: &[Tensor]) -> Result<Tensor> {
    let mut product: Option<Tensor> = None;
    for attention in attentions {
        let mean = mean_over_heads(attention)?; // [T, T]
        let identity = Tensor::eye(mean.dim(0)?, DType::F32, &Device::Cpu)?; // [T, T]
        let mixed = ((mean + identity)? * 0.5)?; // [T, T]
        let mixed = mixed.broadcast_div(&mixed.sum_keepdim(D::Minus1)?)?; // [T, T], rows sum to 1
        product = Some(match product {
            Some(before) => mixed.matmul(&before)?,
            None => mixed,
        });
    }
    product.ok_or_else(|| Error::Input("rollout needs the attention of at least one layer".into()))
}

/// `[1, H, T, T]` or `[H, T, T]` → `[T, T]`, f32 on the CPU.
///
/// # Errors
/// [`Error::Input`] for another shape.
pub fn mean_over_heads(attention: &Tensor) -> Result<Tensor> {
    let attention = match attention.dims() {
        [1, _, rows, columns] if rows == columns => attention.squeeze(0)?,
        [_, rows, columns] if rows == columns => attention.clone(),
        other => {
            return Err(Error::Input(format!(
                "attention has shape [1, H, T, T] or [H, T, T], got {other:?}: take one of the batch"
            )));
        }
    }; // [H, T, T]
    Ok(attention
        .detach()
        .to_device(&Device::Cpu)?
        .to_dtype(DType::F32)?
        .mean(0)?)
}

/// A number for each patch of a picture, and one for the class token if the encoder has one.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchHeat {
    title: String,
    picture: Image,
    rows: usize,
    columns: usize,
    values: Vec<f32>,
    class: Option<f32>,
}

impl PatchHeat {
    /// `weights` over the patches of `picture`: a square number of them, or one more, whose first is the class token.
    ///
    /// # Errors
    /// [`Error::Input`] if the number is neither.
    pub fn new(title: impl Into<String>, picture: &Image, weights: &[f32]) -> Result<Self> {
        let (side, has_class) = patch_grid(weights.len());
        let Some(side) = side else {
            return Err(Error::Input(format!(
                "{} weights are neither a square patch grid nor one with a class token: use PatchHeat::grid for other shapes",
                weights.len()
            )));
        };
        let (class, values) = if has_class {
            (weights.first().copied(), &weights[1..])
        } else {
            (None, weights)
        };
        Ok(Self {
            class,
            ..Self::grid(title, picture, side, side, values.to_vec())?
        })
    }

    /// `weights` over an encoder's positions: the special ones first (the first of them is shown as the class token), then
    /// the grid.
    ///
    /// # Errors
    /// [`Error::Input`] if the number of weights does not fit.
    pub fn of_positions(
        title: impl Into<String>,
        picture: &Image,
        positions: Positions,
        weights: &[f32],
    ) -> Result<Self> {
        let Positions {
            special,
            rows,
            columns,
        } = positions;
        if weights.len() != positions.count() {
            return Err(Error::Input(format!(
                "{} weights do not fill {special} special positions and {rows} × {columns} patches",
                weights.len()
            )));
        }
        let (class, values) = weights.split_at(special);
        Ok(Self {
            class: class.first().copied(),
            ..Self::grid(title, picture, rows, columns, values.to_vec())?
        })
    }

    /// `values` over `rows` × `columns` patches.
    ///
    /// # Errors
    /// [`Error::Input`] if the number of values does not fit.
    pub fn grid(
        title: impl Into<String>,
        picture: &Image,
        rows: usize,
        columns: usize,
        values: Vec<f32>,
    ) -> Result<Self> {
        if values.is_empty() || rows.checked_mul(columns) != Some(values.len()) {
            return Err(Error::Input(format!(
                "{} values do not fill {rows} × {columns} patches",
                values.len()
            )));
        }
        Ok(Self {
            title: title.into(),
            picture: picture.clone(),
            rows,
            columns,
            values,
            class: None,
        })
    }

    /// What the token at `query` attends to: one row of `attention`, `[T, T]`, such as [`attention_rollout`] gives.
    ///
    /// # Errors
    /// [`Error::Input`] if there is no such row or the tokens are no patch grid.
    pub fn attention(
        title: impl Into<String>,
        picture: &Image,
        attention: &Tensor,
        query: usize,
    ) -> Result<Self> {
        let (rows, _) = attention.dims2()?;
        if query >= rows {
            return Err(Error::Input(format!(
                "there is no token {query} among {rows}"
            )));
        }
        let row = attention
            .get(query)?
            .to_device(&Device::Cpu)?
            .to_dtype(DType::F32)?; // [T]
        Self::new(title, picture, &row.to_vec1::<f32>()?)
    }

    /// The numbers of the patches, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The place (row, column) of the largest number.
    pub fn peak(&self) -> (usize, usize) {
        let best = self
            .values
            .iter()
            .enumerate()
            .filter(|(_, value)| !value.is_nan());
        let index = best
            .max_by(|left, right| left.1.total_cmp(right.1))
            .map_or(0, |(index, _)| index);
        (index / self.columns, index % self.columns)
    }

    fn limit(&self) -> f32 {
        self.values
            .iter()
            .copied()
            .filter(|value| value.is_finite())
            .map(f32::abs)
            .fold(0.0, f32::max)
    }

    /// The picture, dimmed, with each patch tinted by its number.
    fn overlay(&self) -> RgbImage {
        let (width, height) = self.shown_size();
        let base = image::imageops::resize(
            self.picture.rgb(),
            width,
            height,
            image::imageops::FilterType::Triangle,
        );
        let limit = self.limit();
        RgbImage::from_fn(width, height, |x, y| {
            let row = (y as usize * self.rows / height as usize).min(self.rows - 1);
            let column = (x as usize * self.columns / width as usize).min(self.columns - 1);
            let value = self.values[row * self.columns + column];
            let tint = heat::diverging(value, limit);
            // Small numbers leave the picture, in grey, so that only what matters is coloured.
            let strength = if limit > 0.0 && value.is_finite() {
                (value.abs() / limit).sqrt() * 0.75
            } else {
                0.0
            };
            let Rgb([r, g, b]) = *base.get_pixel(x, y);
            let grey = 0.299 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b);
            Rgb(tint.map(|channel| (grey * (1.0 - strength) + f32::from(channel) * strength) as u8))
        })
    }

    fn shown_size(&self) -> (u32, u32) {
        let (width, height) = (self.picture.width().max(1), self.picture.height().max(1));
        let longer = width.max(height);
        let scaled =
            |side: u32| (u64::from(side) * u64::from(SIDE) / u64::from(longer)).max(1) as u32;
        (scaled(width), scaled(height))
    }

    /// The overlay and its caption, to be put beside others.
    pub(super) fn html(&self) -> String {
        let overlay = self.overlay();
        let image = html::image(
            "image/png",
            &heat::png(&overlay),
            overlay.width(),
            &self.title,
        );
        format!(
            "<div style=\"display:inline-block;vertical-align:top;margin:0 10px 8px 0;font-size:12px\">{image}<div>{}</div>\
             <div style=\"font-size:11px;opacity:0.85\">{}</div></div>",
            escape(&self.title),
            escape(&self.figures())
        )
    }

    fn figures(&self) -> String {
        let finite = || {
            self.values
                .iter()
                .copied()
                .filter(|value| value.is_finite())
        };
        let (low, high) = (
            finite().fold(f32::INFINITY, f32::min),
            finite().fold(f32::NEG_INFINITY, f32::max),
        );
        let class = self
            .class
            .map(|class| format!(" · CLS {}", number::float(class.into())))
            .unwrap_or_default();
        format!(
            "{} to {}{class}",
            number::float(low.into()),
            number::float(high.into())
        )
    }

    fn plain(&self) -> String {
        let (row, column) = self.peak();
        format!(
            "{}: {} × {} patches, {}, largest at row {row}, column {column}",
            self.title,
            self.rows,
            self.columns,
            self.figures()
        )
    }
}

impl Render for PatchHeat {
    fn render(&self) -> MimeBundle {
        std::slice::from_ref(self).render()
    }
}

impl Render for [PatchHeat] {
    fn render(&self) -> MimeBundle {
        let plain: Vec<String> = self.iter().map(PatchHeat::plain).collect();
        let first = self.first().map(|heat| {
            let picture = crate::display::image_grid::fitted(heat.picture.rgb());
            let shown = heat.shown_size().0;
            format!(
                "<div style=\"display:inline-block;vertical-align:top;margin:0 10px 8px 0;font-size:12px\">{}<div>picture</div></div>",
                html::image("image/png", &heat::png(&picture), shown, "picture")
            )
        });
        let markup = format!(
            "<div style=\"font-family:{}\">{}{}</div>",
            html::SANS,
            first.unwrap_or_default(),
            self.iter().map(PatchHeat::html).collect::<String>()
        );
        MimeBundle::text(plain.join("\n")).with_html(markup)
    }
}

impl Render for Vec<PatchHeat> {
    fn render(&self) -> MimeBundle {
        self.as_slice().render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rollout_of_identity_is_identity_and_rows_sum_to_one() -> Result<()> {
        let identity = Tensor::eye(5, DType::F32, &Device::Cpu)?.unsqueeze(0)?;
        let rolled = attention_rollout(&[identity.clone(), identity])?;
        assert_eq!(rolled.to_vec2::<f32>()?[2], [0.0, 0.0, 1.0, 0.0, 0.0]);
        let logits = Tensor::randn(0f32, 1.0, (1, 3, 5, 5), &Device::Cpu)?;
        let attention = candle_nn::ops::softmax(&logits, D::Minus1)?;
        let sums = attention_rollout(&[attention.clone(), attention])?
            .sum(1)?
            .to_vec1::<f32>()?;
        assert!(sums.iter().all(|sum| (sum - 1.0).abs() < 1e-5), "{sums:?}");
        assert!(attention_rollout(&[]).is_err());
        assert!(
            attention_rollout(&[Tensor::zeros((2, 3, 5, 5), DType::F32, &Device::Cpu)?]).is_err()
        );
        Ok(())
    }

    #[test]
    fn the_class_token_is_set_apart() -> Result<()> {
        let picture = Image::filled(30, 20, [10, 200, 10])?;
        let mut weights = vec![0.0; 17];
        weights[0] = 0.5;
        weights[7] = 1.0;
        let heat = PatchHeat::new("<cls>", &picture, &weights)?;
        assert_eq!(
            (heat.values().len(), heat.peak(), heat.class),
            (16, (1, 2), Some(0.5))
        );
        let bundle = heat.render();
        assert!(
            bundle
                .plain()
                .contains("CLS 0.5, largest at row 1, column 2"),
            "{}",
            bundle.plain()
        );
        assert!(bundle.html().is_some_and(|html| !html.contains("<cls>")));
        let overlay = heat.overlay();
        assert_eq!(overlay.dimensions(), (192, 128));
        // The patch at row 1, column 2 is red, one without weight grey.
        let [r, g, _] = overlay.get_pixel(120, 48).0;
        assert!(r > g);
        let [r, g, b] = overlay.get_pixel(10, 10).0;
        assert!(r == g && g == b);
        assert!(PatchHeat::new("odd", &picture, &[0.0; 7]).is_err());
        Ok(())
    }

    #[test]
    fn attention_rows_become_maps() -> Result<()> {
        let picture = Image::filled(16, 16, [0, 0, 0])?;
        let attention = Tensor::eye(10, DType::F32, &Device::Cpu)?;
        assert_eq!(
            PatchHeat::attention("a", &picture, &attention, 5)?.peak(),
            (1, 1)
        );
        assert!(PatchHeat::attention("a", &picture, &attention, 10).is_err());
        Ok(())
    }
}

//! Numbers laid over the patches of a picture: attention, rollout, occlusion.

use candle_core::{D, DType, Device, Tensor};
use image::{Rgb, RgbImage};

use super::heat_table::says_html;
use crate::display::heat;
use crate::display::html::{self, escape};
use crate::display::tokens::patch_grid;
use crate::display::{MimeBundle, Render, number};
use crate::error::{Error, Result};
use crate::vision::{Image, Positions};

/// Pixels of the longer side of each picture.
const SIDE: u32 = 192;

/// Pixels that the words below a picture have at least.
const NARROWEST: u32 = 140;

/// What lies over patches with small numbers.
const VEIL: [u8; 3] = [112, 112, 112];
/// The part of a picture's own colour that is left under the veil.
const VEILED: f32 = 0.25;
/// The part of the largest number from which on a patch has a frame.
const FRAMED: f32 = 0.25;
/// The frame of a number above zero, and of one below.
const ABOVE: [u8; 3] = [214, 39, 40];
const BELOW: [u8; 3] = [31, 119, 180];

/// `part` of the second colour over the first.
fn blend(under: [u8; 3], over: [u8; 3], part: f32) -> [u8; 3] {
    let mix = |at: usize| {
        (f32::from(under[at]) * (1.0 - part) + f32::from(over[at]) * part).round() as u8
    };
    [mix(0), mix(1), mix(2)]
}

/// Attention rollout (Abnar and Zuidema, 2020): how much of every input token is in every output token, when each
/// layer's attention (mean over heads) is mixed half and half with the residual and the layers are multiplied.
///
/// Attentions `[1, H, T, T]` or `[H, T, T]` per layer → `[T, T]`, rows sum to 1, f32 on the CPU.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let uniform = Tensor::full(0.5f32, (1, 2, 2), &Device::Cpu)?; // [H 1, T 2, T 2]
/// let rollout = attention_rollout(&[uniform.clone(), uniform])?; // two layers, each half attention and half residual
/// let row = rollout.to_vec2::<f32>()?[0].clone();
/// assert_eq!(row, [0.625, 0.375]); // rows sum to 1
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
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
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let image = Image::filled(64, 64, [200, 30, 40])?;
/// let heat = PatchHeat::grid("a diagonal", &image, 2, 2, vec![1.0, 0.0, 0.0, 2.0])?;
/// assert_eq!(heat.peak(), (1, 1)); // row, column
/// assert!(PatchHeat::new("5 weights", &image, &[0.1; 5])?.values().len() == 4); // the first is the class token's
/// assert!(PatchHeat::new("6 weights", &image, &[0.1; 6]).is_err()); // no square
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct PatchHeat {
    title: String,
    picture: Image,
    rows: usize,
    columns: usize,
    values: Vec<f32>,
    class: Option<f32>,
    /// What the map shows, in a sentence.
    says: String,
    /// Further maps of the same picture: of one in tiles, that of the whole in one tile.
    others: Vec<PatchHeat>,
    /// The number that lifts the veil whole, where several maps share it; else it is the largest of this map's own.
    shared: Option<f32>,
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
            says: String::new(),
            others: Vec::new(),
            shared: None,
        })
    }

    /// The same maps on one scale: what lifts the veil whole is the largest number among all of them, so that a map of small numbers
    /// stays veiled beside one of large numbers; maps beside them count too. Each alone is drawn on a scale of its own, which makes the strongest of its patches
    /// look strong whatever it is worth. Numbers that are not finite do not count; the maps must be of one quantity.
    pub fn on_one_scale(mut maps: Vec<Self>) -> Vec<Self> {
        let all = maps.iter().flat_map(Self::all);
        let most = all.map(Self::largest).fold(0.0, f32::max);
        for map in &mut maps {
            map.share(most);
        }
        maps
    }

    /// The full scale of this map and of the further ones.
    fn share(&mut self, most: f32) {
        self.shared = Some(most);
        for other in &mut self.others {
            other.share(most);
        }
    }

    /// With a sentence below the map that says what it shows.
    pub fn saying(mut self, says: impl Into<String>) -> Self {
        self.says = says.into();
        self
    }

    /// With further maps of the same picture beside it, which are shown with it.
    pub fn beside(mut self, others: impl IntoIterator<Item = Self>) -> Self {
        self.others.extend(others);
        self
    }

    /// The further maps: of a picture in tiles, whose own map shows the tiles put together, that of the whole in one tile.
    pub fn others(&self) -> &[Self] {
        &self.others
    }

    /// Itself, then the further maps.
    fn all(&self) -> Vec<&Self> {
        let mut all = vec![self];
        all.extend(self.others.iter().flat_map(Self::all));
        all
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

    /// The largest finite number, whatever its sign.
    fn largest(&self) -> f32 {
        self.values
            .iter()
            .copied()
            .filter(|value| value.is_finite())
            .map(f32::abs)
            .fold(0.0, f32::max)
    }

    /// The picture under a grey veil, which the larger numbers lift: what matters has its own colours. A frame in red, or in
    /// blue for a number below zero, says how much where the picture itself is grey.
    fn overlay(&self) -> RgbImage {
        let (width, height) = self.shown_size();
        let base = image::imageops::resize(
            self.picture.rgb(),
            width,
            height,
            image::imageops::FilterType::Triangle,
        );
        let limit = self.shared.unwrap_or_else(|| self.largest());
        let (rows, columns) = (self.rows, self.columns);
        // The patch that a pixel lies in, along one side, and whether the pixel is on its border.
        let place = |at: u32, side: u32, count: usize| {
            let patch = |at: u32| (at as usize * count / side as usize).min(count - 1);
            let frame = if side as usize >= 16 * count { 2 } else { 1 };
            let here = patch(at);
            let border = at < frame
                || patch(at - frame) != here
                || at + frame >= side
                || patch(at + frame) != here;
            (here, border)
        };
        RgbImage::from_fn(width, height, |x, y| {
            let (row, on_row) = place(y, height, rows);
            let (column, on_column) = place(x, width, columns);
            let value = self.values[row * columns + column];
            let Rgb(own) = *base.get_pixel(x, y);
            if !value.is_finite() {
                return Rgb(blend(heat::diverging(value, limit), own, 0.5));
            }
            let share = if limit > 0.0 {
                value.abs() / limit
            } else {
                0.0
            };
            let seen = blend(VEIL, own, VEILED + (1.0 - VEILED) * share.sqrt());
            if (on_row || on_column) && share > FRAMED {
                let frame = if value < 0.0 { BELOW } else { ABOVE };
                return Rgb(blend(seen, frame, share));
            }
            Rgb(seen)
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
        // The words below wrap, so that maps of one size stand in even columns.
        let wide = match self.says.is_empty() {
            true => overlay.width().max(NARROWEST),
            false => overlay.width().max(240),
        };
        format!(
            "<div style=\"display:inline-block;vertical-align:top;max-width:{wide}px;margin:0 10px 8px 0;font-size:12px\">{image}<div>{}</div>\
             <div style=\"font-size:11px;opacity:0.85\">{}</div>{}</div>",
            escape(&self.title),
            escape(&self.figures()),
            match self.says.is_empty() {
                true => String::new(),
                false => says_html(&self.says, Some(wide)),
            }
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
        let shared = self
            .shared
            .map(|most| format!(" · scale of all maps to {}", number::float(most.into())))
            .unwrap_or_default();
        format!(
            "{} to {}{class}{shared}",
            number::float(low.into()),
            number::float(high.into())
        )
    }

    fn plain(&self) -> String {
        let (row, column) = self.peak();
        format!(
            "{}: {} × {} patches, {}, largest at row {row}, column {column}{}{}",
            self.title,
            self.rows,
            self.columns,
            self.figures(),
            if self.says.is_empty() { "" } else { "\n" },
            self.says
        )
    }
}

impl Render for PatchHeat {
    fn render(&self) -> MimeBundle {
        Self::render_all(&[self])
    }

    /// The picture, then each overlay beside it.
    fn render_all(heats: &[&Self]) -> MimeBundle {
        let heats: Vec<&Self> = heats.iter().flat_map(|heat| heat.all()).collect();
        let plain: Vec<String> = heats.iter().map(|heat| heat.plain()).collect();
        let first = heats.first().map(|heat| {
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
            heats.iter().map(|heat| heat.html()).collect::<String>()
        );
        MimeBundle::text(plain.join("\n")).with_html(markup)
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
        // The patch at row 1, column 2 has the picture's colour and a red frame, one without weight is paler.
        assert_eq!(overlay.get_pixel(120, 48).0, [10, 200, 10]);
        assert_eq!(overlay.get_pixel(97, 48).0, ABOVE);
        let [r, g, _] = overlay.get_pixel(10, 10).0;
        assert!(g > r && g < 200);
        assert!(PatchHeat::new("odd", &picture, &[0.0; 7]).is_err());
        Ok(())
    }

    /// Hue in degrees, and how far the colour is from grey.
    fn hue([r, g, b]: [u8; 3]) -> (f32, u8) {
        let [red, green, blue] = [r, g, b].map(f32::from);
        let (most, least) = (r.max(g).max(b), r.min(g).min(b));
        let hue = (3f32.sqrt() * (green - blue)).atan2(2.0 * red - green - blue);
        (hue.to_degrees().rem_euclid(360.0), most - least)
    }

    #[test]
    fn a_yellow_star_stays_yellow_whatever_its_weight() -> Result<()> {
        for color in [[240, 200, 30], [30, 80, 220], [200, 30, 40]] {
            let picture = Image::filled(64, 64, color)?;
            for weight in [-1.0, -0.3, 0.0, 0.1, 0.5, 1.0] {
                let mut weights = vec![weight; 16];
                weights[0] = 1.0; // the largest, against which the others are measured
                let overlay = PatchHeat::grid("", &picture, 4, 4, weights)?.overlay();
                let (found, chroma) = hue(overlay.get_pixel(168, 168).0); // inside of the last patch
                let turned = (found - hue(color).0 + 180.0).rem_euclid(360.0) - 180.0;
                assert!(
                    turned.abs() < 5.0 && chroma > 40,
                    "{color:?} at {weight}: {found}°, {chroma}"
                );
            }
        }
        Ok(())
    }

    #[test]
    fn on_one_scale_small_numbers_stay_veiled() -> Result<()> {
        let picture = Image::filled(64, 64, [240, 200, 30])?;
        let map = |title: &str, weight: f32| {
            let mut weights = vec![0.0; 16];
            weights[5] = weight;
            PatchHeat::grid(title, &picture, 4, 4, weights)
        };
        let (weak, strong) = (map("weak", 0.001)?, map("strong", 0.2)?);
        // A point inside of patch 5, and one on the frame that it has where it is strong.
        let looks = |map: &PatchHeat| {
            let overlay = map.overlay();
            (overlay.get_pixel(72, 72).0, overlay.get_pixel(48, 48).0)
        };
        assert_eq!(looks(&weak), ([240, 200, 30], ABOVE));
        assert!(!weak.render().plain().contains("scale of all maps"));

        let apart = weak.clone();
        let maps = PatchHeat::on_one_scale(vec![weak, strong]);
        assert_eq!(looks(&maps[1]), ([240, 200, 30], ABOVE));
        let (inside, frame) = looks(&maps[0]);
        assert_eq!(inside, frame, "a frame around next to nothing");
        let far = |a: [u8; 3], b: [u8; 3]| a.iter().zip(b).map(|(a, b)| a.abs_diff(b)).max();
        assert!(far(inside, blend(VEIL, [240, 200, 30], VEILED)) < Some(20));
        // The numbers are untouched, and what the scale is stands below each map.
        assert_eq!(maps[0].values(), apart.values());
        for map in &maps {
            assert!(map.render().plain().contains("scale of all maps to 0.2"));
            // It wraps there instead of making the map's column wider.
            assert!(map.html().contains("max-width:192px"), "{}", map.html());
        }

        // A map beside another counts, and is drawn on the same scale.
        let pair = PatchHeat::on_one_scale(vec![map("whole", 0.1)?.beside([map("tile", 0.4)?])]);
        let scales = |map: &PatchHeat| (map.shared, map.others[0].shared);
        assert_eq!(scales(&pair[0]), (Some(0.4), Some(0.4)));

        // What is not finite sets no scale; nor do no maps, or maps of zeros, divide by nothing.
        let odd = PatchHeat::grid("odd", &picture, 1, 2, vec![f32::INFINITY, 0.5])?;
        let none = PatchHeat::grid("none", &picture, 1, 2, vec![0.0; 2])?;
        assert_eq!(PatchHeat::on_one_scale(vec![odd])[0].shared, Some(0.5));
        assert_eq!(
            PatchHeat::on_one_scale(vec![none])[0]
                .overlay()
                .get_pixel(9, 9)
                .0,
            blend(VEIL, [240, 200, 30], VEILED)
        );
        assert!(PatchHeat::on_one_scale(Vec::new()).is_empty());
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

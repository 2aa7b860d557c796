//! nanoVLM's way: the longer side up to whole tiles, the other in proportion and up to whole tiles, cut; the whole picture, squeezed
//! into one tile, comes first, where there is a token for it.
//!
//! ```text
//! picture ─ bicubic, as Pillow ─► rows·t × columns·t ─ / 255 ─► tiles, row by row
//!                                                           └─ bilinear on floats, as torch ─► the whole
//! ```
//! <https://github.com/huggingface/nanoVLM/blob/main/data/custom_transforms.py>

use super::check_size;
use super::tiles::{TilePiece, TilePlace, Tiles};
use crate::vision::fields::Complaint;
use crate::vision::image_processor::check_sides;
use crate::vision::resize::resize_within;
use crate::vision::{Image, ImageProcessor, ImageProcessorConfig, Resample, Resize};
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The name of the token for the tile that shows all.
const WHOLE: &str = "global_image_token";

/// nanoVLM's way.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::vision::NanoSplit;
///
/// # fn main() -> Result<()> {
/// // Tiles of 32 pixels a side, at most two a side; each is named by a token of the vocabulary.
/// let mut names = std::collections::BTreeMap::from([("global_image_token".to_string(), "<all>".to_string())]);
/// for (row, column) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
///     names.insert(format!("r{row}c{column}"), format!("<{row}{column}>"));
/// }
/// let split = NanoSplit::new(32, 64, false, names)?;
/// let tiles = split.tile(&Image::filled(64, 32, [200, 40, 40])?)?;
/// assert_eq!((tiles.rows, tiles.columns), (1, 2));
/// assert!(split.pieces(&tiles)?.contains(&TilePiece::Text("<12>".into())));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct NanoSplit {
    /// Side of a tile.
    tile: u32,
    /// No side is longer than this, a multiple of `tile`.
    most: u32,
    /// Whether small pictures are enlarged to it too.
    enlarge: bool,
    /// Tokens in front of tiles, by nanoVLM's names: `global_image_token`, `r1c1`, `r1c2` …
    tokens: Arc<BTreeMap<String, String>>,
    processor: ImageProcessor,
}

impl NanoSplit {
    /// Tiles of `tile` pixels a side (`vit_img_size`) from pictures whose longer side becomes at most `most` (`max_img_size`), or
    /// always that (`enlarge`, `resize_to_max_side_len`). `tokens` (`vlm_extra_tokens`) stand in front of tiles: that of row 1 and
    /// column 2 is `r1c2`; with a `global_image_token` a tile shows all of the picture.
    ///
    /// # Errors
    /// `Config` for lengths of 0 or far too long, and a `most` that is not whole tiles: nanoVLM can't cut such pictures.
    pub fn new(
        tile: u32,
        most: u32,
        enlarge: bool,
        tokens: BTreeMap<String, String>,
    ) -> Result<Self> {
        let checked = || -> Complaint<()> {
            check_sides([tile, most])?;
            match most.is_multiple_of(tile) {
                true => Ok(()),
                false => Err(format!(
                    "max_img_size {most} is no multiple of vit_img_size {tile}: pictures can't be cut into whole tiles"
                )),
            }
        };
        checked().map_err(Error::Config)?;
        let processor = ImageProcessor::new(ImageProcessorConfig {
            resize: Resize::Keep,
            resample: Resample::Bicubic,
            normalize: None,
            ..ImageProcessorConfig::vit(tile)
        })?;
        Ok(Self {
            tile,
            most,
            enlarge,
            tokens: Arc::new(tokens),
            processor,
        })
    }

    pub(in crate::vision) fn numbers(&self) -> &ImageProcessorConfig {
        self.processor.config()
    }

    /// Cuts a picture: the whole first, if it is shown, then the grid.
    ///
    /// # Errors
    /// `Input` when it would become too many tiles.
    pub fn tile(&self, image: &Image) -> Result<Tiles> {
        let picture = image.flatten(self.numbers().alpha);
        let side = self.tile;
        let (height, width) = self.whole_tiles(picture.height(), picture.width());
        let grid = (height / u64::from(side), width / u64::from(side));
        check_size(image, grid.0 * grid.1 + 1, (side, side))?;
        let size = (width as u32, height as u32); // at most `most`
        let sized = Image::from_rgb(resize_within(&picture, size, self.numbers().resample)?)?;
        let values = self.processor.preprocess(&sized)?; // [1, 3, rows·t, columns·t]
        let (rows, columns, side) = (grid.0 as usize, grid.1 as usize, side as usize);
        let tiles = values
            .reshape(&[3, rows, side, columns, side][..])?
            .permute([1, 3, 0, 2, 4])? // [rows, columns, 3, t, t]
            .reshape((rows * columns, 3, side, side))?;
        let numbers = self.numbers();
        if !self.tokens.contains_key(WHOLE) {
            let grid = (rows, columns);
            return Ok(Tiles::of_values(tiles, grid, None, image, numbers));
        }
        if (rows, columns) == (1, 1) {
            return Ok(Tiles::of_values(tiles, (0, 0), Some(0), image, numbers));
        }
        let whole = squeezed(&values, side)?; // [1, 3, t, t]
        let all = Tensor::cat(&[&whole, &tiles], 0)?; // [1 + rows·columns, 3, t, t]
        Ok(Tiles::of_values(
            all,
            (rows, columns),
            Some(0),
            image,
            numbers,
        ))
    }

    /// What the language model reads for a picture: each tile behind its token. Of a picture that is one tile, `<|global_image|>` and the
    /// tile, or where there is no such token `<row_1_col_1>` and the tile.
    ///
    /// # Errors
    /// `Input` for a tile that the model has no token for.
    pub fn pieces(&self, tiles: &Tiles) -> Result<Vec<TilePiece>> {
        let token = |name: &str| {
            let token = self.tokens.get(name).cloned();
            token.map(TilePiece::Text).ok_or_else(|| {
                Error::Input(format!(
                    "a picture of {} rows and {} columns of tiles needs the token {name}, which the model does not have \
                     (vlm_extra_tokens): shrink the picture",
                    tiles.rows, tiles.columns
                ))
            })
        };
        let mut pieces = Vec::new();
        if let Some(overview) = tiles.overview {
            pieces.extend([token(WHOLE)?, TilePiece::Tile(overview)]);
        }
        for tile in 0..tiles.count() {
            if let Some((row, column)) = tiles.place(tile) {
                let name = format!("r{}c{}", row + 1, column + 1);
                pieces.extend([token(&name)?, TilePiece::Tile(tile)]);
            }
        }
        Ok(pieces)
    }

    /// The place that the last of these words names.
    pub(super) fn place_behind(&self, words: &str) -> Option<TilePlace> {
        let mut tokens = self.tokens.iter();
        let (name, _) = tokens.find(|(name, token)| {
            !token.is_empty()
                && words.ends_with(token.as_str())
                && (*name == WHOLE || name.starts_with('r'))
        })?;
        if name == WHOLE {
            return Some(TilePlace::Whole);
        }
        let (row, column) = name.strip_prefix('r')?.split_once('c')?;
        let place = |number: &str| number.parse::<usize>().ok()?.checked_sub(1);
        Some(TilePlace::At(place(row)?, place(column)?))
    }

    /// Height and width of the picture that is cut, in the reference's order of roundings.
    fn whole_tiles(&self, height: u32, width: u32) -> (u64, u64) {
        let tile = f64::from(self.tile);
        let (long, short) = (width.max(height), width.min(height));
        let up = long.div_ceil(self.tile).saturating_mul(self.tile);
        let long_side = match self.enlarge {
            true => self.most,
            false => up.min(self.most),
        };
        let scale = f64::from(long_side) / f64::from(long);
        let short_side = (f64::from(short) * scale / tile).ceil() * tile;
        let (long_side, short_side) = (u64::from(long_side), short_side.max(tile) as u64);
        match width >= height {
            true => (short_side, long_side),
            false => (long_side, short_side),
        }
    }
}

/// `[1, 3, H, W] → [1, 3, side, side]` by torch's `interpolate(…, mode="bilinear", antialias=True)` on floats: first along rows.
fn squeezed(values: &Tensor, side: usize) -> Result<Tensor> {
    let (_, channels, height, width) = values.dims4()?;
    let across = triangles(width, side)?; // [W, t]
    let down = triangles(height, side)?; // [H, t]
    let rows = values
        .reshape((channels * height, width))?
        .matmul(&across)? // [3·H, t]
        .reshape((channels, height, side))?;
    let columns = rows
        .transpose(1, 2)?
        .contiguous()? // [3, t, H]
        .reshape((channels * side, height))?
        .matmul(&down)? // [3·t, t]
        .reshape((channels, side, side))?;
    Ok(columns.transpose(1, 2)?.contiguous()?.unsqueeze(0)?) // [1, 3, t, t]
}

/// How much of each old pixel is in each new one, `[from, to]`: a triangle that widens with the reduction.
fn triangles(from: usize, to: usize) -> Result<Tensor> {
    let scale = from as f32 / to as f32;
    let support = scale.max(1.0);
    let mut values = vec![0_f32; from * to];
    for place in 0..to {
        let center = scale * (place as f32 + 0.5);
        let first = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let weight = |pixel: usize| {
            let distance = (pixel as f32 - center + 0.5) / support;
            (1.0 - distance.abs()).max(0.0)
        };
        let total: f32 = (first..end).map(weight).sum();
        for pixel in first..end {
            values[pixel * to + place] = weight(pixel) / total;
        }
    }
    Ok(Tensor::from_vec(values, (from, to), &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_tiles_and_never_below_one() -> Result<()> {
        let plain = NanoSplit::new(16, 48, false, BTreeMap::new())?;
        assert_eq!(plain.whole_tiles(11, 13), (16, 16));
        assert_eq!(plain.whole_tiles(16, 32), (16, 32));
        assert_eq!(plain.whole_tiles(48, 19), (48, 32));
        assert_eq!(plain.whole_tiles(1, 5000), (16, 48));
        let large = NanoSplit::new(16, 48, true, BTreeMap::new())?;
        assert_eq!(large.whole_tiles(2, 3), (32, 48));
        Ok(())
    }

    #[test]
    fn a_length_that_is_no_whole_tiles_is_refused_with_both_names() {
        let refused = |tile, most| NanoSplit::new(tile, most, false, BTreeMap::new()).map(|_| ());
        for (tile, most) in [(16, 40), (0, 16), (16, 0), (1 << 20, 1 << 21)] {
            let message = refused(tile, most).unwrap_err().to_string();
            assert!(message.contains(&tile.to_string()) || message.contains(&most.to_string()));
        }
        let message = refused(16, 40).unwrap_err().to_string();
        assert!(message.contains("max_img_size 40") && message.contains("vit_img_size 16"));
    }
}

//! LLaVA's "any resolution": the best of a list of sizes, the picture fitted into it with black bars, cut into tiles; the whole
//! picture, squeezed into one tile, comes first.
//!
//! <https://huggingface.co/llava-hf/llava-v1.6-mistral-7b-hf>, <https://huggingface.co/llava-hf/llava-onevision-qwen2-0.5b-ov-hf>

use candle_core::Tensor;
use image::{RgbImage, imageops};

use super::tiles::Tiles;
use super::{check_size, pack};
use crate::vision::fields::{Complaint, Fields};
use crate::vision::image_processor::{MOST_PIXELS_A_SIDE, check_sides, mean_colour, squared};
use crate::vision::processor_file::{ALONE, Size, numbers, size};
use crate::vision::resize::resize_within;
use crate::vision::{Image, ImageProcessor, ImageProcessorConfig, Resize};
use crate::{Error, Result};

/// LLaVA-NeXT's and LLaVA-OneVision's way.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let file = r#"{"image_processor_type": "LlavaNextImageProcessor", "size": {"shortest_edge": 32},
///     "crop_size": {"height": 32, "width": 32}, "image_grid_pinpoints": [[32, 64], [64, 64]]}"#;
/// let tiling = Tiling::from_json(file, "preprocessor_config.json".as_ref())?;
/// let Tiling::Anyres(anyres) = &tiling else { unreachable!() };
/// assert_eq!(anyres.best_size((50, 100)), (32, 64)); // height and width: the one that fits a wide picture
/// assert_eq!(tiling.tile(&Image::filled(100, 50, [200, 40, 40])?)?.count(), 3); // two tiles and the whole
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Anyres {
    /// Heights and widths that a picture may be fitted into, in the order of the file; each a whole number of tiles.
    pinpoints: Vec<(u32, u32)>,
    /// Height and width of the whole picture in one tile.
    whole: (u32, u32),
    /// Side of a tile as it is cut.
    tile: u32,
    /// Whether a picture is only cut where it is the only one of its prompt: OneVision's.
    alone: bool,
    /// What is done to each tile: a further change of size or a crop, where the file asks for them, and its levels.
    processor: ImageProcessor,
}

impl Anyres {
    /// The fields of a LLaVA processor.
    pub(super) fn read(fields: &mut Fields) -> Complaint<Self> {
        // Of LLaVA-NeXT's published files.
        let why = "pictures are cut by image_grid_pinpoints";
        fields.only("aspect_ratio_setting", &"anyres".into(), why)?;
        let do_resize = fields.take_or("do_resize", true)?;
        let do_center_crop = fields.take_or("do_center_crop", false)?;
        let whole = match size(fields, "size")? {
            Some(Size::Both { height, width }) => (height, width),
            Some(Size::Side(side) | Size::Shortest(side)) => (side, side),
            Some(Size::Longest(_)) => {
                return Err("size must have height and width, or shortest_edge".into());
            }
            None => return Err("size is missing".into()),
        };
        let crop = match size(fields, "crop_size")? {
            None => None,
            Some(Size::Side(side)) => Some((side, side)),
            Some(Size::Both { height, width }) => Some((height, width)),
            Some(_) => return Err("crop_size must have height and width".into()),
        };
        if do_center_crop && crop.is_none() {
            return Err("do_center_crop is set but crop_size is missing".into());
        }
        let resize = match do_resize {
            true => Resize::Exact {
                height: whole.0,
                width: whole.1,
            },
            false => Resize::Keep,
        };
        let config = numbers(fields, resize, crop.filter(|_| do_center_crop))?;
        config.check()?;
        // The reference cuts by the height of the crop, even where it crops nothing.
        let tile = crop.map_or(whole.0, |(height, _)| height);
        let pinpoints: Vec<(u32, u32)> = fields.take("image_grid_pinpoints")?.unwrap_or_default();
        check(&pinpoints, whole, tile, config.output_size())?;
        let processor = ImageProcessor::new(config).map_err(|error| error.to_string())?;
        Ok(Self {
            pinpoints,
            whole,
            tile,
            alone: fields.take_or(ALONE, false)?,
            processor,
        })
    }

    /// Heights and widths that a picture may be fitted into.
    pub fn pinpoints(&self) -> &[(u32, u32)] {
        &self.pinpoints
    }

    pub(in crate::vision) fn numbers(&self) -> &ImageProcessorConfig {
        self.processor.config()
    }

    /// The size, height and width, that a picture of this height and width is fitted into: the one that keeps most of its
    /// pixels, and of several such the one with the least empty space.
    pub fn best_size(&self, (height, width): (u32, u32)) -> (u32, u32) {
        let (own_height, own_width) = (f64::from(height), f64::from(width));
        let mut best = (self.pinpoints[0], 0_u64, u64::MAX);
        for &(height, width) in &self.pinpoints {
            let scale = (f64::from(width) / own_width).min(f64::from(height) / own_height);
            let kept = (own_width * scale) as u64 * (own_height * scale) as u64;
            let kept = kept.min((own_width * own_height) as u64);
            let empty = (u64::from(width) * u64::from(height)).saturating_sub(kept);
            if kept > best.1 || (kept == best.1 && empty < best.2) {
                best = ((height, width), kept, empty);
            }
        }
        best.0
    }

    /// Cuts a picture: the whole first, then the grid.
    ///
    /// # Errors
    /// `Input` when it would become too many tiles.
    pub fn tile(&self, image: &Image) -> Result<Tiles> {
        let best = self.best_size((image.height(), image.width()));
        let grid = ((best.0 / self.tile) as usize, (best.1 / self.tile) as usize);
        check_size(image, (grid.0 * grid.1 + 1) as u64, (self.tile, self.tile))?;
        let filter = self.numbers().resample;
        let picture = image.flatten(self.numbers().alpha);
        let whole = resize_within(&picture, (self.whole.1, self.whole.0), filter)?;
        let fitted = fit(&picture, best, |size| resize_within(&picture, size, filter))?;
        let mut tiles = vec![Image::from_rgb(whole)?];
        for row in 0..grid.0 as u32 {
            for column in 0..grid.1 as u32 {
                let (x, y) = (column * self.tile, row * self.tile);
                let tile = imageops::crop_imm(&fitted, x, y, self.tile, self.tile).to_image();
                tiles.push(Image::from_rgb(tile)?);
            }
        }
        Tiles::new(&tiles, grid, 0, image, &self.processor)
    }

    /// One of several pictures of a prompt: LLaVA-NeXT cuts it as any other, LLaVA-OneVision pads it to a square of the mean colour,
    /// in one tile.
    ///
    /// # Errors
    /// As [`Anyres::tile`], and `Input` for a picture whose square would be huge.
    pub fn one_of_several(&self, image: &Image) -> Result<Tiles> {
        if !self.alone {
            return self.tile(image);
        }
        let picture = image.flatten(self.numbers().alpha);
        let side = picture.width().max(picture.height());
        check_size(image, 1, (side, side))?;
        let colour = mean_colour(self.numbers().normalize);
        let square = [Image::from_rgb(squared(&picture, colour))?];
        Tiles::new(&square, (0, 0), 0, image, &self.processor)
    }

    /// Hidden states of the tiles, `[N, P, D]` with P a square of patches without class token, as one sequence `[T, D]`: those of
    /// the whole picture, then the grid's, row of patches by row, without the bars that fitted the picture, and with
    /// `newline`, `[D]`, behind each row. `most` is OneVision's limit (9 in "anyres_max_9"): a grid of more patches than this many
    /// tiles have is shrunk. Everything on the way has a gradient.
    ///
    /// # Errors
    /// `Input` when the hidden states do not fit the tiles.
    pub fn pack(
        &self,
        hidden: &Tensor,
        tiles: &Tiles,
        newline: Option<&Tensor>,
        most: Option<usize>,
    ) -> Result<Tensor> {
        pack::pack(hidden, tiles, newline, most)
    }

    /// T of [`Anyres::pack`] for a picture of this height and width, with `patches` along a side of a tile and a newline behind
    /// each row.
    ///
    /// # Errors
    /// `Input` when there are no patches.
    pub fn tokens(&self, size: (u32, u32), patches: usize, most: Option<usize>) -> Result<usize> {
        if patches == 0 || patches > 1 << 14 {
            return Err(Error::Input(format!(
                "a tile of {patches} patches a side: give 1 to {}",
                1 << 14
            )));
        }
        let best = self.best_size(size);
        let grid = ((best.0 / self.tile) as usize, (best.1 / self.tile) as usize);
        let (rows, columns) = pack::kept_size(size, grid, patches, most);
        Ok(patches * patches + rows * (columns + 1))
    }
}

fn check(
    pinpoints: &[(u32, u32)],
    whole: (u32, u32),
    tile: u32,
    made: Option<(u32, u32)>,
) -> Complaint<()> {
    if pinpoints.is_empty() {
        return Err("image_grid_pinpoints is empty: it must have at least one size".into());
    }
    if pinpoints.len() > 10_000 {
        return Err("image_grid_pinpoints has more than 10000 sizes".into());
    }
    check_sides([whole.0, whole.1, tile])?;
    if made.is_none() && whole != (tile, tile) {
        return Err(format!(
            "do_resize is off, and size {}×{} is not the tile's {tile}×{tile}: the whole picture and the tiles would differ in size",
            whole.0, whole.1
        ));
    }
    let wrong = pinpoints.iter().find(|(height, width)| {
        let fits =
            |side: u32| side.is_multiple_of(tile) && (tile..=MOST_PIXELS_A_SIDE).contains(&side);
        !(fits(*height) && fits(*width))
    });
    match wrong {
        Some((height, width)) => Err(format!(
            "image_grid_pinpoints has {height}×{width}, which is no whole number of tiles of {tile} pixels a side, up to \
             {MOST_PIXELS_A_SIDE}"
        )),
        None => Ok(()),
    }
}

/// The picture in the middle of `size`, as large as it can be, black around.
fn fit(
    picture: &RgbImage,
    (height, width): (u32, u32),
    resized: impl Fn((u32, u32)) -> Result<RgbImage>,
) -> Result<RgbImage> {
    let (left, top, inner) = inner_of((picture.height(), picture.width()), (height, width));
    let fitted = resized(inner)?;
    let mut padded = RgbImage::new(width, height);
    imageops::replace(&mut padded, &fitted, i64::from(left), i64::from(top));
    Ok(padded)
}

/// Where a picture of the first height and width lies in the middle of the second: left, top, and its width and height there.
pub(super) fn inner_of(own: (u32, u32), (height, width): (u32, u32)) -> (u32, u32, (u32, u32)) {
    let (own_height, own_width) = (f64::from(own.0), f64::from(own.1));
    let (wide, tall) = (f64::from(width) / own_width, f64::from(height) / own_height);
    let inner = match wide < tall {
        true => (width, height.min((own_height * wide).ceil() as u32)),
        false => (width.min((own_width * tall).ceil() as u32), height),
    };
    ((width - inner.0) / 2, (height - inner.1) / 2, inner)
}

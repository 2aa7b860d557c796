//! Idefics3's and SmolVLM's way: the longer side to a fixed length, both up to whole tiles, cut; the whole picture, squeezed into
//! one tile, comes last, and each tile is named in the text.
//!
//! <https://huggingface.co/HuggingFaceTB/SmolVLM-256M-Instruct/blob/main/preprocessor_config.json>

use image::imageops;

use super::check_size;
use super::tiles::{TilePiece, TilePlace, Tiles};
use crate::Result;
use crate::vision::fields::{Complaint, Fields};
use crate::vision::image_processor::check_sides;
use crate::vision::processor_file::{Size, numbers, size};
use crate::vision::resize::resize_within;
use crate::vision::{Image, ImageProcessor, ImageProcessorConfig, Resize};

/// No picture is resized to more than this a side.
const MOST: u32 = 4096;

/// Idefics3's and SmolVLM's way.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let file = r#"{"image_processor_type": "Idefics3ImageProcessor", "size": {"longest_edge": 64},
///     "max_image_size": {"longest_edge": 32}}"#;
/// let tiling = Tiling::from_json(file, "preprocessor_config.json".as_ref())?;
/// let Tiling::Split(split) = tiling else { unreachable!() };
/// assert_eq!(split.tile_side(), 32);
/// let whole = split.with_cutting(false); // one tile, as for a video's frames
/// assert_eq!(whole.tile(&Image::filled(100, 50, [200, 40, 40])?)?.count(), 1);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct GridSplit {
    /// What a picture is resized to at first, if it is.
    first: Option<First>,
    /// Side of a tile.
    tile: u32,
    /// Whether pictures are cut at all.
    cut: bool,
    processor: ImageProcessor,
}

#[derive(Clone, Copy)]
enum First {
    /// The longer side to this length.
    Longest(u32),
    /// To this height and width.
    Exact(u32, u32),
}

impl GridSplit {
    /// The fields of an Idefics3 or SmolVLM processor.
    pub(super) fn read(fields: &mut Fields) -> Complaint<Self> {
        let do_resize = fields.take_or("do_resize", true)?;
        let first = match size(fields, "size")? {
            Some(Size::Longest(side)) => First::Longest(side),
            Some(Size::Both { height, width }) => First::Exact(height, width),
            Some(_) => return Err("size must have longest_edge, or height and width".into()),
            None => return Err("size is missing".into()),
        };
        let Some(Size::Longest(tile)) = size(fields, "max_image_size")? else {
            return Err("max_image_size must have longest_edge, the side of a tile".into());
        };
        let sides = match first {
            First::Longest(side) => [side, tile, tile],
            First::Exact(height, width) => [height, width, tile],
        };
        check_sides(sides)?;
        let cut = fields.take_or("do_image_splitting", true)?;
        // Whether the reference also gives rows and columns, which are always given here; and frames of videos.
        fields.ignore(&["return_row_col_info", "video_sampling"]);
        let config = numbers(fields, Resize::Keep, None)?;
        config.check()?;
        let processor = ImageProcessor::new(config).map_err(|error| error.to_string())?;
        Ok(Self {
            first: do_resize.then_some(first),
            tile,
            cut,
            processor,
        })
    }

    /// The same way without cutting, or with it: `do_image_splitting`. Without, a picture is one tile: 13 to 17 times fewer
    /// tokens with SmolVLM's settings.
    pub fn with_cutting(mut self, cut: bool) -> Self {
        self.cut = cut;
        self
    }

    /// Side of a tile, in pixels.
    pub fn tile_side(&self) -> u32 {
        self.tile
    }

    pub(in crate::vision) fn numbers(&self) -> &ImageProcessorConfig {
        self.processor.config()
    }

    /// Cuts a picture: the grid first, then the whole.
    ///
    /// # Errors
    /// `Input` when it would become too many tiles.
    pub fn tile(&self, image: &Image) -> Result<Tiles> {
        let filter = self.numbers().resample;
        let side = self.tile;
        let mut picture = image.flatten(self.numbers().alpha);
        let first = match self.first {
            None => None,
            Some(First::Exact(height, width)) => Some((height, width)),
            Some(First::Longest(side)) => {
                Some(below_most(longest(picture.height(), picture.width(), side)))
            }
        };
        if let Some((height, width)) = first {
            picture = resize_within(&picture, (width, height), filter)?.into();
        }
        if !self.cut {
            let whole = [Image::from_rgb(resize_within(
                &picture,
                (side, side),
                filter,
            )?)?];
            return Tiles::new(&whole, (0, 0), 0, image, &self.processor);
        }
        let (height, width) = whole_tiles(picture.height(), picture.width(), side);
        let grid = (height / u64::from(side), width / u64::from(side));
        check_size(image, grid.0 * grid.1 + 1, (side, side))?;
        let (height, width) = (height as u32, width as u32); // below MOST_TILE_PIXELS
        picture = resize_within(&picture, (width, height), filter)?.into();
        if grid == (1, 1) {
            let whole = [Image::from_rgb((*picture).clone())?];
            return Tiles::new(&whole, (0, 0), 0, image, &self.processor);
        }
        let mut tiles = Vec::new();
        for row in 0..height / side {
            for column in 0..width / side {
                let tile = imageops::crop_imm(&*picture, column * side, row * side, side, side);
                tiles.push(Image::from_rgb(tile.to_image())?);
            }
        }
        // Of the picture that was cut, not of the one that was given.
        tiles.push(Image::from_rgb(resize_within(
            &picture,
            (side, side),
            filter,
        )?)?);
        let grid = (grid.0 as usize, grid.1 as usize);
        Tiles::new(&tiles, grid, tiles.len() - 1, image, &self.processor)
    }

    /// What the language model reads for a picture: the text around tiles with the tiles in their places. For one that was not
    /// cut: `<fake_token_around_image><global-img>`, the tile, `<fake_token_around_image>`.
    pub fn pieces(&self, tiles: &Tiles) -> Vec<TilePiece> {
        const AROUND: &str = "<fake_token_around_image>";
        let mut pieces = Vec::new();
        let mut before = String::new();
        for row in 0..tiles.rows {
            for column in 0..tiles.columns {
                before += &format!("{AROUND}<row_{}_col_{}>", row + 1, column + 1);
                pieces.push(TilePiece::Text(std::mem::take(&mut before)));
                pieces.push(TilePiece::Tile(row * tiles.columns + column));
            }
            before += "\n";
        }
        if tiles.rows > 0 {
            before += "\n";
        }
        before += &format!("{AROUND}<global-img>");
        pieces.push(TilePiece::Text(before));
        pieces.extend(tiles.overview.map(TilePiece::Tile));
        pieces.push(TilePiece::Text(AROUND.into()));
        pieces
    }

    /// The place that the last of these words names.
    pub(super) fn place_behind(&self, words: &str) -> Option<TilePlace> {
        if words.ends_with("<global-img>") {
            return Some(TilePlace::Whole);
        }
        let name = &words[words.rfind("<row_")?..];
        let (row, column) = name
            .strip_prefix("<row_")?
            .strip_suffix('>')?
            .split_once("_col_")?;
        let place = |number: &str| number.parse::<usize>().ok()?.checked_sub(1);
        Some(TilePlace::At(place(row)?, place(column)?))
    }

    /// [`GridSplit::pieces`] as the text that the reference's processor puts in the place of `<image>`: that word `tokens` times for
    /// each tile.
    pub fn text(&self, tiles: &Tiles, tokens: usize) -> String {
        let pieces = self.pieces(tiles).into_iter();
        pieces
            .map(|piece| match piece {
                TilePiece::Text(text) => text,
                TilePiece::Tile(_) => "<image>".repeat(tokens),
            })
            .collect()
    }
}

/// Height and width with the longer side at `most`, the other even and in proportion.
fn longest(height: u32, width: u32, most: u32) -> (u32, u32) {
    let ratio = f64::from(width) / f64::from(height);
    let even = |side: u32| (side + side % 2).max(1);
    match width >= height {
        true => (even((f64::from(most) / ratio) as u32), most),
        false => (most, even((f64::from(most) * ratio) as u32)),
    }
}

/// Height and width with neither above the limit of 4096.
fn below_most((height, width): (u32, u32)) -> (u32, u32) {
    let ratio = f64::from(width) / f64::from(height);
    let (height, width) = if width >= height && width > MOST {
        ((f64::from(MOST) / ratio) as u32, MOST)
    } else if height > width && height > MOST {
        (MOST, (f64::from(MOST) * ratio) as u32)
    } else {
        (height, width)
    };
    (height.max(1), width.max(1))
}

/// Height and width up to whole tiles: the longer side first, the other from it in proportion.
fn whole_tiles(height: u32, width: u32, tile: u32) -> (u64, u64) {
    let ratio = f64::from(width) / f64::from(height);
    let up = |side: u64| side.div_ceil(u64::from(tile)) * u64::from(tile);
    match width >= height {
        true => {
            let width = up(width.into());
            (up((width as f64 / ratio) as u64), width)
        }
        false => {
            let height = up(height.into());
            (height, up((height as f64 * ratio) as u64))
        }
    }
}

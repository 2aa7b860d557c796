//! Large pictures in several tiles, so that an encoder for small squares sees their details.
//!
//! ```text
//! picture ─► size of the grid ─ resize ─ (pad) ─ cut ─► tiles, row by row ┐
//!        └──────────────── resize to one tile ─────────► the whole of it ─┴─► [N, 3, H, W] with rows and columns
//! ```
//! Two ways are read from a `preprocessor_config.json`: [`Anyres`], LLaVA-NeXT's and LLaVA-OneVision's, and [`GridSplit`], that of
//! Idefics3 and SmolVLM. The numbers are those of transformers' image processors on Pillow (`…ImageProcessorPil`, the "slow"
//! ones), to the bit. Those on torchvision ("fast") resize by torch's own code: measured up to 2 levels apart, on 0.1 to 18% of values.
//!
//! - `anyres`, `split`: the two ways, a file each; `nano`: nanoVLM's, which its model's config says; `tiles`: what comes out
//! - `pack`: hidden states of tiles → a sequence without padding, with a vector behind each row

mod anyres;
mod nano;
mod pack;
mod split;
mod tiles;

use std::ops::Range;
use std::path::Path;

use super::{Image, ImageProcessorConfig, processor_file};
use crate::{Error, Result};

pub use anyres::Anyres;
pub use nano::NanoSplit;
pub use split::GridSplit;
pub use tiles::{TilePiece, Tiles};
pub(crate) use tiles::{TilePlace, stitched};

/// Limits on what one picture may become: as many pixels in tiles as a picture of 5792 a side, and so many tiles.
const MOST_TILE_PIXELS: u64 = 1 << 25;
const MOST_TILES: u64 = 1 << 14;

/// A way to cut pictures into tiles, as a `preprocessor_config.json` says it.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let file = r#"{"image_processor_type": "Idefics3ImageProcessor", "size": {"longest_edge": 64},
///     "max_image_size": {"longest_edge": 32}}"#;
/// let tiling = Tiling::from_json(file, "preprocessor_config.json".as_ref())?;
/// let tiles = tiling.tile(&Image::filled(100, 50, [200, 40, 40])?)?;
/// assert_eq!((tiles.rows, tiles.columns, tiles.count()), (1, 2, 3)); // and the whole, as the last
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub enum Tiling {
    /// LLaVA-NeXT's and LLaVA-OneVision's.
    Anyres(Anyres),
    /// Idefics3's and SmolVLM's.
    Split(GridSplit),
    /// nanoVLM's, which no `preprocessor_config.json` says.
    Nano(NanoSplit),
}

impl Tiling {
    /// Reads a `preprocessor_config.json`.
    ///
    /// # Errors
    /// `Io`, `Json`, or `Config` for a field that is missing, out of range or not understood, and for a processor that cuts
    /// nothing.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Tiling> {
        let path = path.as_ref();
        let text = crate::files::text(path).map_err(|source| Error::Io {
            path: path.to_path_buf(),
            source,
        })?;
        Self::from_json(&text, path)
    }

    /// Reads the text of a `preprocessor_config.json`; `file` appears in messages.
    ///
    /// # Errors
    /// As [`Tiling::from_file`].
    pub fn from_json(text: &str, file: &Path) -> Result<Tiling> {
        processor_file::read(text, file, |fields| {
            let pinpoints = fields.has("image_grid_pinpoints");
            let split = ["do_image_splitting", "max_image_size"]
                .into_iter()
                .any(|name| fields.has(name));
            match (pinpoints, split) {
                (true, false) => Anyres::read(fields).map(Tiling::Anyres),
                (false, true) => GridSplit::read(fields).map(Tiling::Split),
                (true, true) => Err(
                    "image_grid_pinpoints and do_image_splitting are two ways to cut a picture: leave one".into(),
                ),
                (false, false) => Err(
                    "neither image_grid_pinpoints (LLaVA's) nor do_image_splitting (Idefics3's): this processor cuts no \
                     pictures, read it with `ImageProcessor::from_file`"
                        .into(),
                ),
            }
        })
    }

    /// Cuts a picture.
    ///
    /// # Errors
    /// `Input` when it would become too many tiles.
    pub fn tile(&self, image: &Image) -> Result<Tiles> {
        match self {
            Tiling::Anyres(way) => way.tile(image),
            Tiling::Split(way) => way.tile(image),
            Tiling::Nano(way) => way.tile(image),
        }
    }

    /// Where the tile lies that stands behind these words; nothing where they name no tile, as with tiles that become one sequence.
    pub(crate) fn place_behind(&self, words: &str) -> Option<TilePlace> {
        match self {
            Tiling::Anyres(_) => None,
            Tiling::Split(way) => way.place_behind(words),
            Tiling::Nano(way) => way.place_behind(words),
        }
    }

    /// What becomes of a tile's levels, and the filter of all changes of size.
    pub fn numbers(&self) -> &ImageProcessorConfig {
        match self {
            Tiling::Anyres(way) => way.numbers(),
            Tiling::Split(way) => way.numbers(),
            Tiling::Nano(way) => way.numbers(),
        }
    }
}

impl Tiles {
    /// Hidden states of these tiles, `[N, P, D]`, as one sequence `[T, D]`: see [`Anyres::pack`].
    pub(crate) fn packed(
        &self,
        hidden: &candle_core::Tensor,
        newline: Option<&candle_core::Tensor>,
        most: Option<usize>,
    ) -> Result<candle_core::Tensor> {
        pack::pack(hidden, self, newline, most)
    }

    /// Rows and columns of patches that [`Anyres::pack`] makes of the grid, and the part of the picture that they show, with `side`
    /// patches along a side of a tile.
    pub(crate) fn packed_picture(
        &self,
        side: usize,
        most: Option<usize>,
    ) -> Result<((usize, usize), Image)> {
        pack::picture(self, side, most)
    }

    /// Rows and columns of the grid's pixels that LLaVA's picture fills, the bars around it left out.
    pub(crate) fn filled(&self) -> Result<(Range<usize>, Range<usize>)> {
        let (_, _, height, width) = self.pixel_values.dims4()?;
        let size = (self.rows * height, self.columns * width);
        let (left, top, (wide, tall)) =
            anyres::inner_of(self.image_size, (size.0 as u32, size.1 as u32));
        let (left, top) = (left as usize, top as usize);
        Ok((top..top + tall as usize, left..left + wide as usize))
    }
}

/// Whether so many tiles of this size are too much.
fn check_size(image: &Image, tiles: u64, (height, width): (u32, u32)) -> Result<()> {
    let pixels = tiles.saturating_mul(u64::from(height) * u64::from(width));
    match pixels > MOST_TILE_PIXELS || tiles > MOST_TILES {
        false => Ok(()),
        true => Err(Error::Input(format!(
            "a {image} would become {tiles} tiles of {width}×{height} pixels, more than {MOST_TILES} tiles or {MOST_TILE_PIXELS} \
             pixels in all: shrink it first"
        ))),
    }
}

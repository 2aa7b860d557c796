//! A picture in tiles: their pixel values, and where each lies. It shows itself as the grid.

use candle_core::Tensor;
use image::{Rgb, RgbImage};

use crate::display::{Facts, MimeBundle, Render};
use crate::nn::show;
use crate::vision::{Image, ImageProcessor, ImageProcessorConfig};
use crate::{Error, Result};

/// A picture in tiles.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let file = r#"{"image_processor_type": "Idefics3ImageProcessor", "size": {"longest_edge": 64},
///     "max_image_size": {"longest_edge": 32}}"#;
/// let tiling = Tiling::from_json(file, "preprocessor_config.json".as_ref())?;
/// let tiles = tiling.tile(&Image::filled(100, 50, [200, 40, 40])?)?;
/// assert_eq!(tiles.pixel_values.dims(), [3, 3, 32, 32]); // two tiles in a row, then the whole picture
/// assert_eq!((tiles.rows, tiles.columns, tiles.overview), (1, 2, Some(2)));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Tiles {
    /// All tiles, `[N, 3, H, W]`, f32 on the CPU: those of the grid row by row, and the whole picture, if it is there, before or
    /// behind them.
    pub pixel_values: Tensor,
    /// Rows of the grid; 0 for a picture that was not cut.
    pub rows: usize,
    /// Columns of the grid; 0 for a picture that was not cut.
    pub columns: usize,
    /// Which tile shows the whole picture, if one does.
    pub overview: Option<usize>,
    /// Height and width of the picture, in pixels.
    pub image_size: (u32, u32),
    /// The way back from pixel values to pixels.
    numbers: ImageProcessorConfig,
}

/// A part of what a language model reads for a picture in tiles: text, or the tokens of one tile.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let file = r#"{"image_processor_type": "Idefics3ImageProcessor", "size": {"longest_edge": 64},
///     "max_image_size": {"longest_edge": 32}}"#;
/// let Tiling::Split(split) = Tiling::from_json(file, "preprocessor_config.json".as_ref())? else { unreachable!() };
/// let pieces = split.pieces(&split.tile(&Image::filled(100, 50, [200, 40, 40])?)?);
/// println!("{pieces:?}"); // <row_1_col_1>, tile 0, <row_1_col_2>, tile 1, …
/// assert_eq!(pieces.iter().filter(|piece| matches!(piece, TilePiece::Tile(_))).count(), 3);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TilePiece {
    /// Text around tiles, such as `<row_1_col_2>`.
    Text(String),
    /// The tile with this number.
    Tile(usize),
}

/// Where a tile lies in its picture; the places of the grid come in the order in which they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TilePlace {
    /// Row and column in the grid, from 0.
    At(usize, usize),
    /// It shows the whole.
    Whole,
}

/// Tiles of one size in their rows and columns, without gaps.
pub(crate) fn stitched<'a>(
    tiles: impl Iterator<Item = ((usize, usize), &'a Image)> + Clone,
) -> Result<Image> {
    let (mut height, mut width, mut rows, mut columns) = (1, 1, 1, 1);
    for ((row, column), tile) in tiles.clone() {
        (height, width) = (tile.height().max(height), tile.width().max(width));
        (rows, columns) = (rows.max(row as u32 + 1), columns.max(column as u32 + 1));
    }
    let mut all = RgbImage::from_pixel(columns * width, rows * height, Rgb([127; 3]));
    for ((row, column), tile) in tiles {
        let (x, y) = (column as u32 * width, row as u32 * height);
        image::imageops::replace(&mut all, tile.rgb(), x.into(), y.into());
    }
    Image::from_rgb(all)
}

impl Tiles {
    /// From tiles that are prepared already, all of one size.
    pub(super) fn new(
        tiles: &[Image],
        grid: (usize, usize),
        overview: usize,
        image: &Image,
        processor: &ImageProcessor,
    ) -> Result<Self> {
        let pixel_values = processor.preprocess_batch(tiles)?; // [N, 3, H, W]
        Ok(Self::of_values(
            pixel_values,
            grid,
            Some(overview),
            image,
            processor.config(),
        ))
    }

    /// From pixel values `[N, 3, H, W]`.
    pub(super) fn of_values(
        pixel_values: Tensor,
        grid: (usize, usize),
        overview: Option<usize>,
        image: &Image,
        numbers: &ImageProcessorConfig,
    ) -> Self {
        Self {
            pixel_values,
            rows: grid.0,
            columns: grid.1,
            overview,
            image_size: (image.height(), image.width()),
            numbers: numbers.clone(),
        }
    }

    /// N.
    pub fn count(&self) -> usize {
        self.rows * self.columns + usize::from(self.overview.is_some())
    }

    /// Row and column of a tile in the grid, from 0; `None` for the whole picture, and behind the last tile.
    pub fn place(&self, tile: usize) -> Option<(usize, usize)> {
        let first = usize::from(self.overview == Some(0));
        let index = tile.checked_sub(first)?;
        match Some(tile) != self.overview && index < self.rows * self.columns {
            true => Some((index / self.columns, index % self.columns)),
            false => None,
        }
    }

    /// The tiles as pictures, in their order.
    ///
    /// # Errors
    /// When the pixel values were changed to another shape.
    pub fn images(&self) -> Result<Vec<Image>> {
        ImageProcessor::new(self.numbers.clone())?.to_images(&self.pixel_values)
    }

    /// The grid's tiles put together as they were cut, without gaps; of a picture that was not cut, its one tile.
    ///
    /// # Errors
    /// As [`Tiles::images`].
    pub fn joined(&self) -> Result<Image> {
        let images = self.images()?;
        if self.rows == 0 {
            return images.into_iter().next().ok_or_else(|| {
                Error::Input("there is no tile: a picture has one at least".into())
            });
        }
        let placed = images.iter().enumerate();
        stitched(placed.filter_map(|(tile, image)| Some((self.place(tile)?, image))))
    }

    /// All tiles in one picture: the whole on the left, the grid beside it, with gaps.
    ///
    /// # Errors
    /// As [`Tiles::images`].
    pub fn picture(&self) -> Result<Image> {
        let images = self.images()?;
        let (height, width) = images
            .first()
            .map_or((1, 1), |tile| (tile.height(), tile.width()));
        let beside = u32::from(self.overview.is_some()); // columns left of the grid
        let (rows, columns) = (self.rows.max(1) as u32, self.columns as u32 + beside);
        // Between hundreds of tiles gaps would be all that is seen.
        let gap = if rows.max(columns) <= 64 { 4 } else { 0 };
        // About this many pixels a side for all: what is shown, not what is read.
        let shrink = (rows * height).max(columns * width).div_ceil(1024).max(1);
        let (tall, wide) = (height.div_ceil(shrink) + gap, width.div_ceil(shrink) + gap);
        let mut all = RgbImage::from_pixel(columns * wide - gap, rows * tall - gap, Rgb([255; 3]));
        for (number, tile) in images.iter().enumerate() {
            let (row, column) = match self.place(number) {
                None if Some(number) == self.overview => (0, 0),
                None => continue,
                Some((row, column)) => (row as u32, column as u32 + beside),
            };
            for y in 0..height.div_ceil(shrink) {
                for x in 0..width.div_ceil(shrink) {
                    let pixel = tile.rgb().get_pixel(x * shrink, y * shrink);
                    all.put_pixel(column * wide + x, row * tall + y, *pixel);
                }
            }
        }
        Image::from_rgb(all)
    }

    pub(in crate::vision) fn facts(&self) -> Facts {
        let (height, width) = self.image_size;
        let columns = self.columns;
        let grid = match (self.rows, self.overview) {
            (0, _) => "not cut: one tile shows the whole".to_string(),
            (rows, None) => format!("{rows} rows × {columns} columns"),
            (rows, Some(whole)) => {
                format!("{rows} rows × {columns} columns, and the whole as tile {whole}")
            }
        };
        Facts::new(format!("Tiles of a {width}×{height} picture"))
            .fact("pixel_values", show::shape(&self.pixel_values))
            .fact("grid", grid)
    }
}

impl Render for Tiles {
    fn render(&self) -> MimeBundle {
        let facts = self.facts().render();
        let Ok(picture) = self.picture() else {
            return facts;
        };
        let html = format!(
            "{}{}",
            facts.html().unwrap_or_default(),
            picture.to_html(picture.shown_width())
        );
        match picture.to_png() {
            Ok(png) => MimeBundle::text(facts.plain())
                .with_html(html)
                .with_png(&png),
            Err(_) => facts.with_html(html),
        }
    }
}

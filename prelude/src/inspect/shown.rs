//! A picture of a prompt as pixel values, all of its tiles together: read, changed, and put back into the prompt.
//!
//! ```text
//! prompt, input ─► pixel values of all tiles [N, C, H, W] ─ changed ─► the prompt with them in their places
//!                  └ where the picture lies in them: the grid without the bars around it, and the whole in one tile
//! ```

use candle_core::Tensor;
use std::ops::Range;
use std::sync::Arc;

use super::drawn::{Shown, as_picture, cells_of, shown_in, side_by_side, stage_one};
use super::patches::PatchHeat;
use crate::error::{Error, Result};
use crate::vision::tiling::stitched;
use crate::vision::{Image, Positions, Tiles};
use crate::vlm::{Prompt, Seen, Vlm};

/// One picture of a prompt, in one tile or several.
pub(super) struct ShownPicture {
    /// Of all tiles, `[N, C, H, W]`.
    pub pixel_values: Tensor,
    source: Source,
    tiles: Vec<Image>,
    /// Rows and columns of the grid; 0 of a picture that was not cut.
    grid: (usize, usize),
    /// Which tiles are the grid's, row by row.
    cells: Vec<usize>,
    /// Which tile shows the whole.
    whole: Option<usize>,
    /// Rows and columns of the grid's pixels that the picture fills.
    filled: (Range<usize>, Range<usize>),
}

/// Where the pixel values stand in the prompt.
enum Source {
    /// An input for each tile.
    Inputs(Vec<usize>),
    /// One input, whose tiles become one sequence.
    Tiled(usize, Arc<Tiles>),
}

impl ShownPicture {
    /// The picture that the input at `input` is, or is a tile of. Where other tiles of it were taken out of the prompt, that tile alone.
    ///
    /// # Errors
    /// For an input that is not there, or no picture as pixel values.
    pub fn of(vlm: &Vlm, prompt: &Prompt, input: usize) -> Result<Self> {
        let count = prompt.inputs().count();
        let Some(piece) = prompt.inputs().nth(input) else {
            return Err(Error::Input(format!(
                "the prompt shows {count} inputs, no number {input}"
            )));
        };
        if let Seen::Tiled(tiles) = &piece.seen {
            return Self::packed(input, tiles);
        }
        let none = || {
            Error::Input(format!(
                "input {input} of the prompt is no picture as pixel values: there is nothing to cover or to draw on"
            ))
        };
        let (mut inputs, mut grid, mut whole) = (vec![input], (0, 0), Some(0));
        for shown in shown_in(vlm, prompt) {
            let Shown::Tiles(tiles) = shown else { continue };
            if !tiles.values().any(|(at, _)| *at == input) {
                continue;
            }
            if let Some(cells) = cells_of(&tiles) {
                whole = cells.whole.map(|_| cells.inputs.len());
                inputs = cells.inputs.into_iter().chain(cells.whole).collect();
                grid = cells.grid;
            }
        }
        let (mut values, mut tiles) = (Vec::new(), Vec::new());
        for piece in inputs.iter().map(|&at| prompt.inputs().nth(at)) {
            let piece = piece.ok_or_else(none)?;
            let (encoder, processor) = stage_one(vlm, piece)?;
            tiles.push(as_picture(encoder, processor, piece)?.ok_or_else(none)?);
            if let Seen::Prepared(pixel_values) = &piece.seen {
                values.push(pixel_values.clone()); // [1, C, H, W]
            }
        }
        let pixel_values = Tensor::cat(&values, 0)?; // [N, C, H, W]
        let (_, _, height, width) = pixel_values.dims4()?;
        Ok(Self {
            pixel_values,
            source: Source::Inputs(inputs),
            tiles,
            grid,
            cells: (0..grid.0 * grid.1).collect(),
            whole,
            filled: (0..grid.0 * height, 0..grid.1 * width),
        })
    }

    fn packed(input: usize, tiles: &Arc<Tiles>) -> Result<Self> {
        let placed = (0..tiles.count()).filter(|&tile| tiles.place(tile).is_some());
        Ok(Self {
            pixel_values: tiles.pixel_values.clone(),
            tiles: tiles.images()?,
            grid: (tiles.rows, tiles.columns),
            cells: placed.collect(), // row by row
            whole: tiles.overview,
            filled: tiles.filled()?,
            source: Source::Tiled(input, tiles.clone()),
        })
    }

    /// The prompt with these pixel values, `[N, C, H, W]`, in the place of the picture's.
    pub fn put(&self, prompt: &Prompt, pixel_values: &Tensor) -> Result<Prompt> {
        let mut prompt = prompt.clone();
        for (at, piece) in prompt.inputs_mut().enumerate() {
            match &self.source {
                Source::Inputs(inputs) => {
                    if let Some(tile) = inputs.iter().position(|input| *input == at) {
                        piece.seen = Seen::Prepared(pixel_values.narrow(0, tile, 1)?); // [1, C, H, W]
                    }
                }
                Source::Tiled(input, tiles) if *input == at => {
                    let mut tiles = Tiles::clone(tiles);
                    tiles.pixel_values = pixel_values.clone();
                    piece.seen = Seen::Tiled(Arc::new(tiles));
                }
                Source::Tiled(..) => {}
            }
        }
        Ok(prompt)
    }

    /// The pixel values with one field of `side` × `side` over the picture in `colour`, `[1, C, 1, 1]`: in the grid, and where the whole
    /// shows it.
    pub fn covered(&self, field: (usize, usize), side: usize, colour: &Tensor) -> Result<Tensor> {
        let (_, channels, height, width) = self.pixel_values.dims4()?;
        let part = |at: usize, range: &Range<usize>| {
            range.start + at * range.len() / side..range.start + (at + 1) * range.len() / side
        };
        let mut values = self.pixel_values.clone();
        let mut fill = |tile: usize, down: Range<usize>, across: Range<usize>| -> Result<()> {
            if down.is_empty() || across.is_empty() {
                return Ok(());
            }
            let shape = (1, channels, down.len(), across.len());
            let new = colour.broadcast_as(shape)?.contiguous()?; // [1, C, h, w]
            values = values.slice_assign(&[tile..tile + 1, 0..channels, down, across], &new)?;
            Ok(())
        };
        if let Some(whole) = self.whole {
            fill(
                whole,
                part(field.0, &(0..height)),
                part(field.1, &(0..width)),
            )?;
        }
        let (down, across) = (part(field.0, &self.filled.0), part(field.1, &self.filled.1));
        for (cell, &tile) in self.cells.iter().enumerate() {
            let (row, column) = (cell / self.grid.1, cell % self.grid.1);
            let inside = |range: &Range<usize>, at: usize, size: usize| {
                range.start.clamp(at * size, (at + 1) * size) - at * size
                    ..range.end.clamp(at * size, (at + 1) * size) - at * size
            };
            fill(
                tile,
                inside(&down, row, height),
                inside(&across, column, width),
            )?;
        }
        Ok(values)
    }

    /// The mean of the picture's pixel values, `[1, C, 1, 1]`: of the tile that shows the whole, where there is one.
    pub fn mean_colour(&self) -> Result<Tensor> {
        let values = match self.whole {
            Some(whole) => self.pixel_values.narrow(0, whole, 1)?, // [1, C, H, W]
            None => self.pixel_values.clone(),
        };
        Ok(values.mean_keepdim(3)?.mean_keepdim(2)?.mean_keepdim(0)?) // [1, C, 1, 1]
    }

    /// How many pixels the picture is high and wide where it is largest.
    pub fn size(&self) -> Result<(usize, usize)> {
        let (_, _, height, width) = self.pixel_values.dims4()?;
        Ok(match self.cells.is_empty() {
            true => (height, width),
            false => (self.filled.0.len(), self.filled.1.len()),
        })
    }

    /// What a map of the picture is drawn on: the grid's tiles put together without the bars, or the only tile.
    pub fn picture(&self) -> Result<Image> {
        if self.cells.is_empty() {
            return self.whole_picture();
        }
        let joined = self.joined()?;
        let (down, across) = &self.filled;
        let part = image::imageops::crop_imm(
            joined.rgb(),
            across.start as u32,
            down.start as u32,
            across.len() as u32,
            down.len() as u32,
        );
        Image::from_rgb(part.to_image())
    }

    fn joined(&self) -> Result<Image> {
        let placed = self.cells.iter().enumerate().filter_map(|(cell, &tile)| {
            let place = (cell / self.grid.1, cell % self.grid.1);
            Some((place, self.tiles.get(tile)?))
        });
        stitched(placed)
    }

    fn whole_picture(&self) -> Result<Image> {
        let whole = self.whole.and_then(|whole| self.tiles.get(whole));
        whole.cloned().ok_or_else(|| {
            Error::Input("none of the tiles shows the whole picture: nothing to draw on".into())
        })
    }

    /// A number for each pixel value, `[N, C, H, W]`, summed by patch: the map of the grid, bars included, with that of the whole beside it.
    pub fn summed(&self, title: &str, by_value: &Tensor, tile: Positions) -> Result<PatchHeat> {
        let (rows, columns) = (tile.rows, tile.columns);
        let by_tile = (0..self.tiles.len())
            .map(|at| summed(&by_value.narrow(0, at, 1)?, rows, columns))
            .collect::<Result<Vec<_>>>()?;
        let whole = match self.whole.and_then(|whole| by_tile.get(whole)) {
            Some(values) => {
                let title = match self.cells.is_empty() {
                    true => title.to_owned(),
                    false => format!("{title} · the whole in one tile"),
                };
                let picture = self.whole_picture()?;
                Some(PatchHeat::grid(
                    title,
                    &picture,
                    rows,
                    columns,
                    values.clone(),
                )?)
            }
            None => None,
        };
        if self.cells.is_empty() {
            return whole.ok_or_else(|| Error::Input("the picture has no tile".into()));
        }
        let (down, across) = self.grid;
        let value = |row: usize, column: usize, patch: usize| {
            let tile = self.cells.get(row * across + column);
            let values = tile.and_then(|&tile| by_tile.get(tile));
            values
                .and_then(|values| values.get(patch))
                .copied()
                .unwrap_or(f32::NAN)
        };
        let map = PatchHeat::grid(
            format!("{title} · in {down} × {across} tiles"),
            &self.joined()?,
            down * rows,
            across * columns,
            side_by_side(self.grid, tile, value),
        )?;
        Ok(map.beside(whole))
    }
}

/// `[1, C, H, W]` → the sum of each of `rows` × `columns` patches, row by row.
fn summed(pixels: &Tensor, rows: usize, columns: usize) -> Result<Vec<f32>> {
    let by_pixel = pixels.sum(1)?.squeeze(0)?; // [H, W]
    let (height, width) = by_pixel.dims2()?;
    let (high, wide) = (height / rows.max(1), width / columns.max(1));
    let by_patch = by_pixel
        .narrow(0, 0, high * rows)?
        .narrow(1, 0, wide * columns)?
        .reshape((rows, high, columns, wide))?
        .sum((1, 3))?; // [rows, columns]
    Ok(by_patch.flatten_all()?.to_vec1()?)
}

#[cfg(test)]
#[path = "shown_tests.rs"]
mod tests;

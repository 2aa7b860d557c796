//! Where a prompt's image tokens lie: which token of which input is which patch of which picture, for maps that are drawn on pictures.
//!
//! ```text
//! a picture of one input          ─► one map, its patches
//! a picture in tiles, an input each: the words before it say which  ┐  the grid's patches side by side where they lie, on
//! a picture in tiles that became one sequence: as the projector packs ┴► the tiles put together; and the whole in one tile
//! ```

use candle_core::Tensor;
use std::collections::BTreeMap;
use std::ops::Range;

use super::patches::PatchHeat;
use crate::display::SegmentKind;
use crate::error::{Error, Result};
use crate::projector::AnyresMlp;
use crate::vision::tiling::{TilePlace, stitched};
use crate::vision::{Encoder, Image, ImageProcessor, Positions, Tiles, Tiling};
use crate::vlm::{InputPiece, Piece, Prompt, Seen, Sequence, Vlm};

/// What a map is drawn on, and where its numbers are taken from.
pub(super) struct Drawn {
    /// What it shows, in titles.
    name: String,
    pub(super) picture: Image,
    /// How its numbers lie.
    pub(super) positions: Positions,
    /// For each of them the input of the prompt that it belongs to, and which of that input's tokens it is.
    tokens: Vec<(usize, usize)>,
}

impl Drawn {
    /// A picture of one input, all of whose tokens are in their places.
    pub(super) fn whole(name: String, picture: Image, input: usize, positions: Positions) -> Self {
        let tokens = (0..positions.count()).map(|token| (input, token));
        Self {
            name,
            picture,
            positions,
            tokens: tokens.collect(),
        }
    }

    /// The map of `row`, a number for each token of a sequence whose inputs stand at `inputs`; `word` is what the numbers are of.
    pub(super) fn map(
        &self,
        word: &str,
        row: &[f32],
        inputs: &[Range<usize>],
    ) -> Result<PatchHeat> {
        let places = self.places(inputs)?;
        let numbers = places.iter().map(|&place| row.get(place).copied());
        let weights = numbers.collect::<Option<Vec<f32>>>().ok_or_else(|| {
            Error::Input(format!(
                "{} numbers are fewer than the tokens of the sequence",
                row.len()
            ))
        })?;
        let share = weights.iter().sum::<f32>() * 100.0;
        let title = format!("“{}” · {share:.0}% on {}", word.trim(), self.name);
        PatchHeat::of_positions(title, &self.picture, self.positions, &weights)
    }

    /// Where its tokens stand in a sequence whose inputs stand at `inputs`, in the order of its positions.
    pub(super) fn places(&self, inputs: &[Range<usize>]) -> Result<Vec<usize>> {
        let place = |(input, token): &(usize, usize)| {
            let place = inputs
                .get(*input)
                .and_then(|places| places.clone().nth(*token));
            place.ok_or_else(|| {
                Error::Input(format!(
                    "there is no token {token} of input {input} in this sequence"
                ))
            })
        };
        self.tokens.iter().map(place).collect()
    }

    /// What it shows, in titles.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

/// The pictures of a prompt whose image tokens have a place, in the order in which they are read.
pub(super) fn pictures_of(vlm: &Vlm, prompt: &Prompt) -> Result<Vec<Drawn>> {
    let shown = shown_in(vlm, prompt);
    let several = shown.len() > 1;
    let mut drawn = Vec::new();
    for (at, shown) in shown.into_iter().enumerate() {
        let name = match several {
            false => "the picture".to_owned(),
            true => format!("picture {at}"),
        };
        drawn.extend(maps_of(vlm, name, &shown)?);
    }
    Ok(drawn)
}

/// The picture that the input at `input` is, or is a tile of: a map, or one of its tiles put together and one of the whole in one tile.
pub(super) fn picture_with(vlm: &Vlm, prompt: &Prompt, input: usize) -> Result<Vec<Drawn>> {
    let has = |shown: &Shown| match shown {
        Shown::Input(at, _) => *at == input,
        Shown::Tiles(tiles) => tiles.values().any(|(at, _)| *at == input),
    };
    match shown_in(vlm, prompt).iter().find(|shown| has(shown)) {
        Some(shown) => maps_of(vlm, format!("picture {input}"), shown),
        None => Ok(Vec::new()),
    }
}

/// What is drawn for a picture: nothing for another input.
fn maps_of(vlm: &Vlm, name: String, shown: &Shown) -> Result<Vec<Drawn>> {
    match shown {
        Shown::Input(input, piece) => match &piece.seen {
            Seen::Tiled(tiles) => packed(vlm, &name, *input, tiles),
            _ => {
                let (encoder, processor) = stage_one(vlm, piece)?;
                let Some(picture) = as_picture(encoder, processor, piece)? else {
                    return Ok(Vec::new());
                };
                let positions = placed(vlm, piece.encoder.as_deref())?;
                Ok(vec![Drawn::whole(name, picture, *input, positions)])
            }
        },
        Shown::Tiles(tiles) => one_by_one(vlm, &name, tiles),
    }
}

/// The tiles of a picture, an input of the prompt each.
pub(super) struct Cells {
    /// Rows and columns.
    pub(super) grid: (usize, usize),
    /// The inputs, row by row.
    pub(super) inputs: Vec<usize>,
    /// The input that shows the whole picture in one tile.
    pub(super) whole: Option<usize>,
}

/// The tiles of a picture that has an input for each; nothing where one is missing.
pub(super) fn cells_of(tiles: &BTreeMap<TilePlace, (usize, &InputPiece)>) -> Option<Cells> {
    let (mut rows, mut columns) = (0, 0);
    let (mut inputs, mut whole) = (Vec::new(), None);
    for (place, (input, _)) in tiles {
        match place {
            TilePlace::Whole => whole = Some(*input),
            TilePlace::At(row, column) => {
                (rows, columns) = (rows.max(row + 1), columns.max(column + 1));
                inputs.push(*input);
            }
        }
    }
    let grid = (rows, columns);
    (rows.checked_mul(columns) == Some(inputs.len())).then_some(Cells {
        grid,
        inputs,
        whole,
    })
}

/// A picture of a prompt, or another input.
pub(super) enum Shown<'a> {
    Input(usize, &'a InputPiece),
    /// Inputs with their places in a picture.
    Tiles(BTreeMap<TilePlace, (usize, &'a InputPiece)>),
}

/// The inputs of a prompt, tiles of a picture together.
pub(super) fn shown_in<'a>(vlm: &Vlm, prompt: &'a Prompt) -> Vec<Shown<'a>> {
    // A word before a tile is a few tokens at most where the vocabulary has none for it.
    const LONGEST: usize = 32;
    let mut shown: Vec<Shown<'a>> = Vec::new();
    let (mut words, mut input) = (String::new(), 0);
    for piece in &prompt.pieces {
        match piece {
            Piece::Text(_, ids) => {
                let last = &ids[ids.len().saturating_sub(LONGEST)..];
                words.extend(last.iter().map(|id| vlm.llm_processor.token(*id)));
            }
            Piece::Input(piece) => {
                let tiling = vlm.tiling.as_ref().filter(|_| piece.encoder.is_none());
                let place = tiling.and_then(|tiling| tiling.place_behind(&words));
                match (place, shown.last_mut()) {
                    (None, _) => shown.push(Shown::Input(input, piece)),
                    (Some(place), Some(Shown::Tiles(tiles))) if goes_on(tiles, place, tiling) => {
                        tiles.insert(place, (input, piece));
                    }
                    (Some(place), _) => {
                        shown.push(Shown::Tiles(BTreeMap::from([(place, (input, piece))])));
                    }
                }
                words.clear();
                input += 1;
            }
            Piece::Vector(_) | Piece::Target(_) => words.clear(),
        }
    }
    shown
}

/// Whether a tile belongs to the picture of those before it: Idefics3's whole comes last, nanoVLM's first.
fn goes_on<T>(before: &BTreeMap<TilePlace, T>, place: TilePlace, tiling: Option<&Tiling>) -> bool {
    let whole = |place| matches!(place, TilePlace::Whole);
    let over = match tiling {
        Some(Tiling::Split(_)) => before.keys().any(|place| whole(*place)),
        _ => whole(place),
    };
    !over && !before.contains_key(&place)
}

/// A picture whose tiles are an input each.
fn one_by_one(
    vlm: &Vlm,
    name: &str,
    tiles: &BTreeMap<TilePlace, (usize, &InputPiece)>,
) -> Result<Vec<Drawn>> {
    let tile = placed(vlm, None)?;
    let mut cells = BTreeMap::new();
    let mut whole = None;
    for (place, (input, piece)) in tiles {
        let Some(picture) = as_picture(&vlm.image_encoder, &vlm.image_processor, piece)? else {
            return Ok(Vec::new());
        };
        match place {
            TilePlace::Whole => whole = Some((*input, picture)),
            TilePlace::At(row, column) => {
                cells.insert((*row, *column), (*input, picture));
            }
        }
    }
    let count = |side: fn(&(usize, usize)) -> usize| {
        cells.keys().map(side).max().map_or(0, |last| last + 1)
    };
    let (rows, columns) = (count(|at| at.0), count(|at| at.1));
    let mut drawn = Vec::new();
    if rows.checked_mul(columns) != Some(cells.len()) {
        // A prompt that was put together by hand.
        for ((row, column), (input, picture)) in cells {
            let name = format!("{name}, the tile in row {row} and column {column}");
            drawn.push(Drawn::whole(name, picture, input, tile));
        }
    } else if rows > 0 {
        let pictures = cells.iter().map(|(at, (_, picture))| (*at, picture));
        let inputs: Vec<usize> = cells.values().map(|(input, _)| *input).collect(); // row by row
        let token = |row: usize, column: usize, patch: usize| {
            (inputs[row * columns + column], tile.special + patch)
        };
        drawn.push(Drawn {
            name: format!("{name} in {rows} × {columns} tiles"),
            picture: stitched(pictures)?,
            positions: grid(rows * tile.rows, columns * tile.columns),
            tokens: side_by_side((rows, columns), tile, token),
        });
    }
    if let Some((input, picture)) = whole {
        let name = match rows {
            0 => name.to_owned(),
            _ => format!("{name} in one tile"),
        };
        drawn.push(Drawn::whole(name, picture, input, tile));
    }
    Ok(drawn)
}

/// A picture whose tiles became one sequence: first the whole, then the grid's rows of patches without the bars, with a vector of no place
/// behind each.
fn packed(vlm: &Vlm, name: &str, input: usize, tiles: &Tiles) -> Result<Vec<Drawn>> {
    // Where another projector puts them, only its owner knows.
    let (Some(form), Some(overview)) = (vlm.projector.get::<AnyresMlp>(), tiles.overview) else {
        return Ok(Vec::new());
    };
    let tile = placed(vlm, None)?;
    let mut images = tiles.images()?;
    let whole = images.swap_remove(overview.min(images.len().saturating_sub(1)));
    let mut drawn = Vec::new();
    if tiles.rows > 0 {
        let ((rows, columns), picture) = tiles.packed_picture(tile.rows, form.most)?;
        let behind = tile.count();
        let places = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        let tokens = places.map(|(row, column)| (input, behind + row * (columns + 1) + column));
        drawn.push(Drawn {
            name: format!("{name} in {} × {} tiles", tiles.rows, tiles.columns),
            picture,
            positions: grid(rows, columns),
            tokens: tokens.collect(),
        });
    }
    let name = match tiles.rows {
        0 => name.to_owned(),
        _ => format!("{name} in one tile"),
    };
    drawn.push(Drawn::whole(name, whole, input, tile));
    Ok(drawn)
}

/// What `at` gives for row and column of each tile and each of its patches, in the order of the patches of all tiles side by side.
pub(super) fn side_by_side<T>(
    (rows, columns): (usize, usize),
    tile: Positions,
    at: impl Fn(usize, usize, usize) -> T,
) -> Vec<T> {
    let mut all = Vec::with_capacity(rows * tile.rows * columns * tile.columns);
    for row in 0..rows * tile.rows {
        for column in 0..columns * tile.columns {
            let patch = (row % tile.rows) * tile.columns + column % tile.columns;
            all.push(at(row / tile.rows, column / tile.columns, patch));
        }
    }
    all
}

/// Rows and columns without a class token.
pub(super) fn grid(rows: usize, columns: usize) -> Positions {
    Positions {
        special: 0,
        rows,
        columns,
    }
}

/// How the image tokens of an encoder lie.
pub(super) fn placed(vlm: &Vlm, encoder: Option<&str>) -> Result<Positions> {
    let (encoder, projector) = match encoder {
        None => (&vlm.image_encoder, &vlm.projector),
        Some(name) => {
            let other = vlm.other_encoder(name)?;
            (&other.encoder, &other.projector)
        }
    };
    projector.positions(encoder.positions())?.ok_or_else(|| {
        Error::Input(format!(
            "the image tokens of a projector of the form {:?} belong to no place in the picture: nothing to draw on it",
            projector.config.kind
        ))
    })
}

/// The encoder that an input is for, with its image processor.
pub(super) fn stage_one<'a>(
    vlm: &'a Vlm,
    input: &InputPiece,
) -> Result<(&'a Encoder, &'a ImageProcessor)> {
    Ok(match &input.encoder {
        None => (&vlm.image_encoder, &vlm.image_processor),
        Some(name) => {
            let other = vlm.other_encoder(name)?;
            (&other.encoder, &other.image_processor)
        }
    })
}

/// An input as the picture that its encoder sees, if that is what it is.
pub(super) fn as_picture(
    encoder: &Encoder,
    processor: &ImageProcessor,
    input: &InputPiece,
) -> Result<Option<Image>> {
    match &input.seen {
        Seen::Prepared(pixel_values)
            if encoder.image_processor().is_some()
                && pixel_values.rank() == encoder.input_axes().len() =>
        {
            Ok(processor.to_images(pixel_values)?.into_iter().next())
        }
        _ => Ok(None),
    }
}

/// Where the tokens of each input (picture, molecule, …) of the first sequence stand, as ranges of its places, in order.
pub fn input_places(sequence: &Sequence) -> Vec<Range<usize>> {
    let mut start = 0;
    let mut places = Vec::new();
    for (kind, tokens) in sequence.segments.first().into_iter().flatten() {
        let range = start..start + tokens.len();
        start = range.end;
        if *kind == SegmentKind::Image {
            places.push(range);
        }
    }
    places
}

/// A row of numbers, f32 on the CPU.
pub(super) fn numbers(row: &Tensor) -> Result<Vec<f32>> {
    Ok(row
        .to_device(&candle_core::Device::Cpu)?
        .to_dtype(candle_core::DType::F32)?
        .to_vec1()?)
}

#[cfg(test)]
#[path = "drawn_tests.rs"]
pub(super) mod tests;

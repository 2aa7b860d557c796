//! Hidden states of LLaVA's tiles → one sequence: the grid put together, the bars that fitted the picture cut off, a vector
//! behind each row.

use candle_core::{Device, Tensor};

use super::tiles::Tiles;
use crate::vision::Image;
use crate::{Error, Result};

/// `[N, P, D]` → `[T, D]`: see [`Anyres::pack`](super::Anyres::pack).
pub(super) fn pack(
    hidden: &Tensor,
    tiles: &Tiles,
    newline: Option<&Tensor>,
    most: Option<usize>,
) -> Result<Tensor> {
    let (count, positions, width) = hidden.dims3().map_err(|_| {
        Error::Input(format!(
            "hidden states of tiles must be [N, P, D], these are {:?}",
            hidden.dims()
        ))
    })?;
    let side = positions.isqrt();
    if count != tiles.count() || side * side != positions || side == 0 {
        return Err(Error::Input(format!(
            "hidden states {:?} do not fit {} tiles, each a square of patches without class token",
            hidden.dims(),
            tiles.count()
        )));
    }
    if most == Some(0) {
        return Err(Error::Input(
            "a grid of at most 0 tiles: give at least 1, or none for no limit".into(),
        ));
    }
    let newline = match newline {
        Some(newline) if newline.dims() != [width] => {
            return Err(Error::Input(format!(
                "the vector behind each row must be [{width}], this one is {:?}",
                newline.dims()
            )));
        }
        Some(newline) => Some(
            newline
                .to_device(hidden.device())?
                .to_dtype(hidden.dtype())?,
        ),
        None => None,
    };
    let Some(overview) = tiles.overview else {
        return Err(Error::Input(
            "LLaVA's packing needs the tile that shows the whole picture, and these tiles have none".into(),
        ));
    };
    let whole = hidden.get(overview)?; // [P, D]
    if tiles.rows == 0 {
        return match newline {
            Some(newline) => Ok(Tensor::cat(&[&whole, &newline.unsqueeze(0)?], 0)?), // [P + 1, D]
            None => Ok(whole),
        };
    }
    let (rows, columns) = (tiles.rows, tiles.columns);
    let grid = hidden
        .narrow(0, 1, rows * columns)?
        .reshape(&[rows, columns, side, side, width][..])?
        .permute([0, 2, 1, 3, 4])? // [rows, side, columns, side, D]
        .reshape((rows * side, columns * side, width))?;
    let (top, left, height, wide) = inner(tiles.image_size, (rows * side, columns * side));
    let grid = grid.narrow(0, top, height)?.narrow(1, left, wide)?; // [h, w, D]
    let grid = match shrunk((height, wide), side, most) {
        Some(size) => interpolate(&grid.contiguous()?, size)?, // [h', w', D]
        None => grid,
    };
    let (height, wide, _) = grid.dims3()?;
    let rows = match newline {
        Some(newline) => {
            let column = newline
                .reshape((1, 1, width))?
                .broadcast_as((height, 1, width))?;
            Tensor::cat(&[&grid, &column], 1)?.reshape((height * (wide + 1), width))? // [h·(w + 1), D]
        }
        None => grid.reshape((height * wide, width))?,
    };
    Ok(Tensor::cat(&[&whole, &rows], 0)?)
}

/// Rows and columns of patches that stay of a grid, and the part of the picture under them.
pub(super) fn picture(
    tiles: &Tiles,
    side: usize,
    most: Option<usize>,
) -> Result<((usize, usize), Image)> {
    let grid = (tiles.rows, tiles.columns);
    let patches = (grid.0 * side, grid.1 * side);
    let (top, left, height, width) = inner(tiles.image_size, patches);
    let joined = tiles.joined()?;
    let pixels =
        |patch: usize, count: usize, all: u32| (patch * all as usize / count.max(1)) as u32;
    let down = |row| pixels(row, patches.0, joined.height());
    let across = |column| pixels(column, patches.1, joined.width());
    let (y, x) = (down(top), across(left));
    let (tall, wide) = (down(top + height) - y, across(left + width) - x);
    let part = image::imageops::crop_imm(joined.rgb(), x, y, wide.max(1), tall.max(1)).to_image();
    let kept = kept_size(tiles.image_size, grid, side, most);
    Ok((kept, Image::from_rgb(part)?))
}

/// Rows and columns of patches that stay of a grid.
pub(super) fn kept_size(
    image_size: (u32, u32),
    (rows, columns): (usize, usize),
    side: usize,
    most: Option<usize>,
) -> (usize, usize) {
    let (_, _, height, width) = inner(image_size, (rows * side, columns * side));
    shrunk((height, width), side, most).unwrap_or((height, width))
}

/// The part of a grid of patches that the picture fills: first row, first column, rows, columns. The rounding is the
/// reference's, which decides by 7 decimals.
fn inner(image_size: (u32, u32), (rows, columns): (usize, usize)) -> (usize, usize, usize, usize) {
    let (height, width) = (f64::from(image_size.0), f64::from(image_size.1));
    let (tall, wide) = (rows as f64, columns as f64);
    if width / height > wide / tall {
        let filled = rounded(height * (wide / width)).min(rows);
        let bar = (rows - filled) / 2;
        (bar, 0, rows - 2 * bar, columns)
    } else {
        let filled = rounded(width * (tall / height)).min(columns);
        let bar = (columns - filled) / 2;
        (0, bar, rows, columns - 2 * bar)
    }
}

/// Python's `int(round(x, 7))`.
fn rounded(x: f64) -> usize {
    format!("{x:.7}").parse::<f64>().unwrap_or(x) as usize
}

/// The size that a grid is shrunk to where it has more patches than `most` tiles, as OneVision does.
fn shrunk(
    (height, width): (usize, usize),
    side: usize,
    most: Option<usize>,
) -> Option<(usize, usize)> {
    let patches = most? as f64 * (side * side) as f64;
    let ratio = ((height * width) as f64 / patches).sqrt();
    let whole = |length: usize| (floor_divide(length as f64, ratio) as usize).max(1);
    (ratio > 1.1).then(|| (whole(height), whole(width)))
}

/// Python's `a // b` of positive numbers, which is not always ⌊a / b⌋.
fn floor_divide(a: f64, b: f64) -> f64 {
    let quotient = (a - a % b) / b;
    let floor = quotient.floor();
    if quotient - floor > 0.5 {
        floor + 1.0
    } else {
        floor
    }
}

/// torch's `interpolate(mode="bilinear")` of `[h, w, D]`, as two products, so that it has a gradient.
fn interpolate(grid: &Tensor, (height, width): (usize, usize)) -> Result<Tensor> {
    let (rows, columns, d) = grid.dims3()?;
    let down = weights(rows, height, grid)?; // [h', h]
    let across = weights(columns, width, grid)?; // [w', w]
    let tall = down.matmul(&grid.reshape((rows, columns * d))?)?; // [h', w·D]
    let tall = tall.reshape((height, columns, d))?;
    Ok(across.broadcast_left(height)?.contiguous()?.matmul(&tall)?) // [h', w', D]
}

/// How much each old place has of each new one, `[to, from]`.
fn weights(from: usize, to: usize, like: &Tensor) -> Result<Tensor> {
    let mut values = vec![0_f32; to * from];
    let scale = from as f32 / to as f32;
    for place in 0..to {
        let at = (scale * (place as f32 + 0.5) - 0.5).max(0.0);
        let first = (at as usize).min(from - 1);
        let second = (first + 1).min(from - 1);
        let part = at - first as f32;
        values[place * from + first] += 1.0 - part;
        values[place * from + second] += part;
    }
    let weights = Tensor::from_vec(values, (to, from), &Device::Cpu)?;
    Ok(weights.to_device(like.device())?.to_dtype(like.dtype())?)
}

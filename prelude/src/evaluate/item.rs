//! What a set asks at one position, and what is read of it: with its picture, with nothing to see, with another picture.

use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::evaluation::Condition;
use super::set::{EvaluationItem, EvaluationSet, PromptItem};
use crate::Result;
use crate::vision::Image;
use crate::vlm::{InputPiece, Prompt, Query, Seen, Vlm};

/// What a set asks at one position.
#[derive(Clone)]
pub(super) enum Item {
    Picture(EvaluationItem),
    Prompt(PromptItem),
}

impl Item {
    pub fn of(vlm: &Vlm, set: &dyn EvaluationSet, position: usize) -> Result<Self> {
        match set.prompt(vlm, position)? {
            Some(item) => Ok(Self::Prompt(item)),
            None => set.item(position).map(Self::Picture),
        }
    }

    pub fn references(&self) -> &[String] {
        match self {
            Self::Picture(item) => &item.references,
            Self::Prompt(item) => &item.references,
        }
    }

    /// What kind of question it is.
    pub fn kind(&self) -> Option<&String> {
        match self {
            Self::Picture(item) => item.kind.as_ref(),
            Self::Prompt(_) => None,
        }
    }

    /// What is read under a condition; `other` is what another picture is taken from.
    pub fn asked(&self, vlm: &Vlm, condition: Condition, other: Option<&Item>) -> Result<Prompt> {
        match self {
            Self::Picture(item) => {
                let black;
                let shown = match (condition, other) {
                    (Condition::Blind, _) => {
                        let (width, height) = (item.image.width(), item.image.height());
                        black = Image::filled(width, height, [0; 3])?;
                        &black
                    }
                    (Condition::Shuffled, Some(Self::Picture(other))) => &other.image,
                    _ => &item.image,
                };
                let query = match &item.query {
                    Some(query) => Query::Words(query.clone()),
                    None => Query::Vector,
                };
                vlm.answered(shown, &query, &[])
            }
            Self::Prompt(item) => {
                let mut prompt = item.prompt.clone();
                match (condition, other) {
                    (Condition::Blind, _) => {
                        for input in prompt.inputs_mut() {
                            input.seen = nothing(vlm, input)?;
                        }
                    }
                    (Condition::Shuffled, Some(Self::Prompt(other))) => {
                        let others = other.prompt.inputs();
                        for (input, other) in prompt.inputs_mut().zip(others) {
                            if input.encoder == other.encoder {
                                input.seen = other.seen.clone();
                            }
                        }
                    }
                    _ => {}
                }
                Ok(prompt)
            }
        }
    }

    /// Whether what is shown is the same, value by value, whatever is asked about it.
    pub fn shows_the_same(&self, other: &Item) -> Result<bool> {
        match (self, other) {
            (Self::Picture(one), Self::Picture(other)) => Ok(one.image == other.image),
            (Self::Prompt(one), Self::Prompt(other)) => {
                let (one, other) = (one.prompt.inputs(), other.prompt.inputs());
                let (one, other): (Vec<_>, Vec<_>) = (one.collect(), other.collect());
                if one.len() != other.len() {
                    return Ok(false);
                }
                for (one, other) in one.iter().zip(&other) {
                    if one.encoder != other.encoder || !same_input(&one.seen, &other.seen)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }
}

fn same_input(one: &Seen, other: &Seen) -> Result<bool> {
    match (one, other) {
        (Seen::Nothing, Seen::Nothing) => Ok(true),
        (Seen::Prepared(one), Seen::Prepared(other))
        | (Seen::Embedded(one), Seen::Embedded(other)) => same_values(one, other),
        (Seen::Tiled(one), Seen::Tiled(other)) => {
            same_values(&one.pixel_values, &other.pixel_values)
        }
        _ => Ok(false),
    }
}

fn same_values(one: &Tensor, other: &Tensor) -> Result<bool> {
    if one.id() == other.id() || one.dims() != other.dims() {
        return Ok(one.id() == other.id());
    }
    let values = |tensor: &Tensor| -> Result<Vec<f32>> {
        let flat = tensor.flatten_all()?.to_dtype(DType::F32)?; // [values]
        Ok(flat.to_vec1()?)
    };
    Ok(values(one)? == values(other)?)
}

/// What shows nothing in the place of an input: a black picture, and zeros where it is none.
fn nothing(vlm: &Vlm, input: &InputPiece) -> Result<Seen> {
    let (encoder, processor) = match &input.encoder {
        None => (&vlm.image_encoder, &vlm.image_processor),
        Some(name) => {
            let other = vlm.other_encoder(name)?;
            (&other.encoder, &other.image_processor)
        }
    };
    Ok(match &input.seen {
        Seen::Prepared(shown) => {
            let black = match (encoder.image_processor(), shown.dims()) {
                (Some(_), [1, 3, height, width]) => {
                    let black = Image::filled(*width as u32, *height as u32, [0; 3])?;
                    Some(processor.preprocess(&black)?) // [1, 3, H, W]
                }
                _ => None,
            };
            let same = black.filter(|black| black.dims() == shown.dims());
            Seen::Prepared(match same {
                Some(black) => black,
                None => shown.zeros_like()?,
            })
        }
        Seen::Tiled(tiles) => {
            let (count, _, height, width) = tiles.pixel_values.dims4()?;
            let black = Image::filled(width as u32, height as u32, [0; 3])?;
            let black = processor.preprocess(&black)?; // [1, 3, H, W]
            let mut same = (**tiles).clone();
            same.pixel_values = black.repeat((count, 1, 1, 1))?; // [N, 3, H, W]
            Seen::Tiled(Arc::new(same))
        }
        Seen::Embedded(tokens) => Seen::Embedded(tokens.zeros_like()?),
        Seen::Nothing => Seen::Nothing,
    })
}

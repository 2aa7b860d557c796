//! What a model can be shown: a picture, which its image processor prepares or its tiling cuts, or numbers that are prepared for its
//! encoder.

use super::Vlm;
use super::prompt::{InputPiece, Piece, Prompt, Seen};
use super::query::Query;
use crate::display::{MimeBundle, SegmentKind};
use crate::vision::{Image, TilePiece, Tiles, Tiling};
use crate::{Error, Result};
use candle_core::Tensor;
use std::sync::Arc;

/// A picture, one input prepared for the model's encoder, or a whole [`Prompt`]: what [`Vlm::generate`], the instruments of
/// [`inspect`](crate::inspect) and a [`Trainer`](crate::train::Trainer) take.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let image = Image::filled(80, 80, [200, 30, 40])?;
/// let pixel_values = image.prepare(&vlm)?; // what `generate` and the others do with it
/// assert_eq!(pixel_values.dims(), [1, 3, 80, 80]);
/// let from_image = vlm.generate(&image)?.max_new_tokens(3).run()?;
/// let from_tensor = vlm.generate(&pixel_values)?.max_new_tokens(3).run()?; // a tensor is an input as well
/// assert_eq!(from_image.ids, from_tensor.ids);
/// # Ok(()) }
/// ```
pub trait VlmInput {
    /// The input as the model's encoder takes it, `[1, ..]`; of a picture that the model cuts into tiles, the one tile that shows the
    /// whole.
    ///
    /// # Errors
    /// For a picture where the encoder takes none, and when it cannot be processed.
    fn prepare(&self, vlm: &Vlm) -> Result<Tensor>;

    /// Memory that keeping it takes, as far as it is known.
    fn bytes(&self) -> usize {
        0
    }

    /// What stands for it in a prompt: an input, or for a picture in tiles several with the words between them.
    ///
    /// # Errors
    /// As [`VlmInput::prepare`].
    fn pieces(&self, vlm: &Vlm) -> Result<Vec<Piece>> {
        Ok(vec![Piece::of(Seen::Prepared(self.prepare(vlm)?))])
    }

    /// The same in a prompt of `count` inputs: some models cut a picture only where it stands alone.
    ///
    /// # Errors
    /// As [`VlmInput::prepare`].
    fn pieces_among(&self, vlm: &Vlm, count: usize) -> Result<Vec<Piece>> {
        let _ = count;
        self.pieces(vlm)
    }

    /// What the model reads of it before it writes: the blog's start │ input │ end │ query, once for each input of a batch. A
    /// [`Prompt`] is read as it is.
    ///
    /// # Errors
    /// As [`VlmInput::prepare`].
    fn prompts(&self, vlm: &Vlm) -> Result<Vec<Prompt>> {
        let inputs = Piece::rows(&self.prepare(vlm)?, Seen::Prepared)?;
        vlm.caption_prompts(inputs, &Query::Vector)
    }
}

impl VlmInput for Image {
    /// `[1, 3, H, W]`.
    fn prepare(&self, vlm: &Vlm) -> Result<Tensor> {
        match &vlm.tiling {
            None => vlm.image_processor.preprocess(self),
            Some(tiling) => tiling.tile(self)?.prepare(vlm),
        }
    }

    fn pieces(&self, vlm: &Vlm) -> Result<Vec<Piece>> {
        match &vlm.tiling {
            None => Ok(vec![Piece::of(Seen::Prepared(self.prepare(vlm)?))]),
            Some(tiling) => tiling.tile(self)?.pieces(vlm),
        }
    }

    fn pieces_among(&self, vlm: &Vlm, count: usize) -> Result<Vec<Piece>> {
        match &vlm.tiling {
            Some(Tiling::Anyres(way)) if count > 1 => way.one_of_several(self)?.pieces(vlm),
            _ => self.pieces(vlm),
        }
    }

    fn prompts(&self, vlm: &Vlm) -> Result<Vec<Prompt>> {
        vlm.caption_prompts(vec![self.pieces(vlm)?], &Query::Vector)
    }
}

impl Tiles {
    /// An input for each tile, with the words around it.
    fn among_words(&self, pieces: Vec<TilePiece>, vlm: &Vlm) -> Result<Vec<Piece>> {
        let pieces = pieces.into_iter().map(|piece| match piece {
            TilePiece::Text(text) => {
                let ids = vlm.llm_processor.encode_plain(&text)?;
                Ok(Piece::Text(SegmentKind::Text, ids))
            }
            TilePiece::Tile(tile) => {
                let tile = self.pixel_values.narrow(0, tile, 1)?; // [1, 3, H, W]
                Ok(Piece::of(Seen::Prepared(tile)))
            }
        });
        pieces.collect()
    }
}

impl VlmInput for Tiles {
    /// The tile that shows the whole, `[1, 3, H, W]`.
    fn prepare(&self, _: &Vlm) -> Result<Tensor> {
        let Some(overview) = self.overview.or((self.count() == 1).then_some(0)) else {
            return Err(Error::Input(format!(
                "one input is asked for, and none of the {} tiles of the picture shows all of it: give one of them, \
                 `tiles.pixel_values.narrow(0, 0, 1)?`",
                self.count()
            )));
        };
        Ok(self.pixel_values.narrow(0, overview, 1)?)
    }

    fn bytes(&self) -> usize {
        VlmInput::bytes(&self.pixel_values)
    }

    /// One input whose tiles become one sequence, or an input for each with the words around it: as the model's tiling has it.
    fn pieces(&self, vlm: &Vlm) -> Result<Vec<Piece>> {
        match &vlm.tiling {
            Some(Tiling::Anyres(_)) => Ok(vec![Piece::of(Seen::Tiled(Arc::new(self.clone())))]),
            Some(Tiling::Split(way)) => self.among_words(way.pieces(self), vlm),
            Some(Tiling::Nano(way)) => self.among_words(way.pieces(self)?, vlm),
            None => Err(Error::Input(
                "the model takes no pictures in tiles: show it the picture, or set `vlm.tiling`"
                    .into(),
            )),
        }
    }

    fn prompts(&self, vlm: &Vlm) -> Result<Vec<Prompt>> {
        vlm.caption_prompts(vec![self.pieces(vlm)?], &Query::Vector)
    }
}

impl VlmInput for Tensor {
    /// As it is.
    fn prepare(&self, _: &Vlm) -> Result<Tensor> {
        Ok(self.clone())
    }

    fn bytes(&self) -> usize {
        self.elem_count() * self.dtype().size_in_bytes()
    }
}

impl VlmInput for Prompt {
    /// The prompt's one input.
    fn prepare(&self, _: &Vlm) -> Result<Tensor> {
        let inputs: Vec<&InputPiece> = self.inputs().collect();
        let words = self.pieces.iter().any(|piece| match piece {
            Piece::Text(_, ids) => !ids.is_empty(),
            Piece::Target(target) => !target.ids.is_empty(),
            Piece::Vector(_) | Piece::Input(_) => false,
        });
        match inputs[..] {
            [
                InputPiece {
                    encoder: None,
                    seen: Seen::Prepared(input),
                },
            ] if !words => Ok(input.clone()),
            _ => Err(Error::Input(format!(
                "one prepared input of the model's image_encoder is looked at here, and the prompt reads {}: give the input itself",
                self.reads()
            ))),
        }
    }

    fn bytes(&self) -> usize {
        let of_input = |input: &InputPiece| match &input.seen {
            Seen::Prepared(tensor) | Seen::Embedded(tensor) => tensor.bytes(),
            Seen::Tiled(tiles) => tiles.pixel_values.bytes(),
            Seen::Nothing => 0,
        };
        self.inputs().map(of_input).sum()
    }

    fn prompts(&self, _: &Vlm) -> Result<Vec<Prompt>> {
        Ok(vec![self.clone()])
    }
}

impl Vlm {
    /// What is read of one input before the model writes, its answer left open.
    ///
    /// # Errors
    /// For several inputs, and as [`Vlm::open_prompts`].
    pub(crate) fn open_prompt(&self, input: &dyn VlmInput) -> Result<Prompt> {
        let mut prompts = self.open_prompts(input)?;
        match (prompts.pop(), prompts.len()) {
            (Some(only), 0) => Ok(only),
            (_, others) => Err(Error::Input(format!(
                "one input, [1, ..], is read here, got {}: give each an answer of its own",
                others + 1
            ))),
        }
    }

    /// What is read of inputs before the model writes.
    ///
    /// # Errors
    /// When an answer is written already; and as [`VlmInput::prompts`].
    pub(crate) fn open_prompts(&self, input: &dyn VlmInput) -> Result<Vec<Prompt>> {
        let prompts = input.prompts(self)?;
        let written = |prompt: &Prompt| {
            let last = prompt.answers().next_back();
            last.is_some_and(|last| !last.ids.is_empty())
        };
        match prompts.iter().any(written) {
            true => Err(Error::Input(
                "the prompt's answer is written already: `prompt.without_answer()` leaves it to the model".into(),
            )),
            false => Ok(prompts),
        }
    }

    /// The input as the encoder sees it: a picture after resizing, cropping and scaling, or how an encoder of something else
    /// shows what it reads.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let seen = vlm.render_input(&Image::filled(200, 100, [200, 30, 40])?)?; // squeezed to 80 × 80
    /// display(&seen);
    /// assert!(seen.plain().len() > 0);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`VlmInput::prepare`] and [`Modality::render_input`](crate::vision::Modality::render_input).
    pub fn render_input(&self, input: &dyn VlmInput) -> Result<MimeBundle> {
        self.image_encoder.render_input(&input.prepare(self)?)
    }
}

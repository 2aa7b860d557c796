//! A text with places for pictures, as a published model's own processor takes it: each place becomes the picture's vectors.
//!
//! text `USER: <image>\nWhat is it? ASSISTANT:`, pictures → [`Prompt`]: text │ input │ text, an answer left open

use crate::display::SegmentKind;
use crate::vlm::prompt::{Piece, Prompt};
use crate::vlm::words::around;
use crate::vlm::{Vlm, VlmInput};
use crate::{Error, Result};

impl Vlm {
    /// A text in which the model's own word for a picture, [`VlmSettings::image_token`](crate::vlm::VlmSettings::image_token), marks
    /// the place of each: a published model's prompt, word by word. Generation goes on behind it.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// # let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/published/llava_clip_llama");
    /// let vlm = Vlm::from_pretrained(folder, &Device::Cpu)?;
    /// let image = Image::filled(40, 30, [200, 30, 40])?;
    /// let prompt = vlm.text_prompt("a <image> b", &[&image])?;
    /// let written = vlm.generate(&prompt)?.max_new_tokens(4).run()?;
    /// # assert!(!written.ids.is_empty());
    /// assert!(vlm.text_prompt("a b", &[&image]).is_err()); // no place for it
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::InputCount`] unless there is one input for each place; for a model without such a word; for a picture that can't be
    /// prepared.
    pub fn text_prompt(&self, text: &str, inputs: &[&dyn VlmInput]) -> Result<Prompt> {
        let Some(token) = &self.settings.image_token else {
            return Err(Error::Input(
                "this model has no word for a picture (`settings.image_token`), as it is no published one: put its prompt together with \
                 `Prompt::new().text(&ids).input(&prepared)`, or use `vlm.question_prompt`"
                    .into(),
            ));
        };
        let video = self.published().and_then(|published| published.video());
        if let Some(video) = video.filter(|video| text.contains(video)) {
            return Err(Error::Input(format!(
                "the text has a place for a video, {video}, and videos are not read: show some of its pictures, one {token} each"
            )));
        }
        let parts = around(&self.llm_processor, text, token)?;
        let places = parts.len() - 1;
        if places != inputs.len() {
            return Err(Error::InputCount {
                places,
                inputs: inputs.len(),
            });
        }
        let mut prompt = Prompt {
            spelling: Some(self.spelling()?),
            ..Prompt::new()
        };
        for (at, ids) in parts.into_iter().enumerate() {
            if at > 0 {
                let pieces = inputs[at - 1].pieces_among(self, inputs.len())?;
                prompt = pieces.into_iter().fold(prompt, Prompt::piece);
            }
            if !ids.is_empty() {
                prompt = prompt.piece(Piece::Text(SegmentKind::Text, ids));
            }
        }
        Ok(prompt)
    }
}

//! How a loss shows itself in a cell: one target as the table of what the model believed, many as a heat strip over the
//! caption.

use super::LossOutput;
use crate::Result;
use crate::display::{MimeBundle, NextTokenTable, Render};
use crate::inspect::{TokenLossMap, token_losses};

/// Candidates in the table of a single target.
const CANDIDATES: usize = 8;

impl LossOutput {
    /// What the model believed about the target at `row` of [`LossOutput::places`]: the most probable tokens and the right
    /// one.
    ///
    /// # Errors
    /// When `row` is not below the number of targets.
    pub fn next_tokens(&self, row: usize) -> Result<NextTokenTable> {
        let logits = self.logits.narrow(0, row, 1)?; // [1, V]
        let target = self.targets.get(row).copied();
        NextTokenTable::from_logits(&logits, CANDIDATES, target, &|id| self.words.token(id))
    }

    /// The loss of each target of one picture's caption, as a heat strip over its tokens.
    ///
    /// # Errors
    /// When the logits cannot be read.
    pub fn token_losses(&self, picture: usize) -> Result<TokenLossMap> {
        let rows: Vec<usize> = (0..self.places.len())
            .filter(|row| self.places[*row].0 == picture)
            .collect();
        let tokens = rows.iter().map(|row| self.words.token(self.targets[*row]));
        let losses = token_losses(&self.logits, &self.targets)?;
        let losses = rows.iter().map(|row| losses[*row]).collect();
        TokenLossMap::new(tokens).row(format!("picture {picture}"), losses)
    }
}

impl Render for LossOutput {
    fn render(&self) -> MimeBundle {
        let shown = self.value().and_then(|loss| match self.targets.as_slice() {
            [target] => {
                let title = format!(
                    "loss {loss:.3}: the next token is “{}”",
                    self.words.token(*target).trim()
                );
                Ok(self.next_tokens(0)?.title(title).render())
            }
            _ => Ok(self.token_losses(0)?.render()),
        });
        shown.unwrap_or_else(|error| {
            MimeBundle::text(format!("a loss that cannot be shown: {error}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::Image;
    use crate::vlm::Vlm;
    use candle_core::Device;

    #[test]
    fn one_target_names_it_and_many_show_each() -> Result<()> {
        let vlm = Vlm::tiny(&Device::Cpu)?;
        let image = Image::filled(64, 64, [240, 240, 240])?;
        let pixels = vlm.image_processor.preprocess(&image)?; // [1, 3, H, W]
        let batch = vlm.caption_batch(&pixels, &["two red circles".to_owned()])?;
        let one = vlm.random_prefix_loss_at(&batch, &[1])?;
        let plain = one.render().plain().to_owned();
        assert!(plain.contains("the next token is “"), "{plain}");
        assert_eq!(
            one.next_tokens(0)?.target().map(|token| token.id),
            Some(batch.caption_ids[0][1])
        );
        let all = vlm.full_sequence_loss_of(&batch)?;
        let plain = all.render().plain().to_owned();
        assert!(plain.contains("circles"), "{plain}");
        assert!(one.next_tokens(1).is_err());
        Ok(())
    }
}

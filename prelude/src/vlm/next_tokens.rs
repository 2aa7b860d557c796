//! What the model would say next: an input and the beginning of a text → the most probable tokens.

use super::input::VlmInput;
use super::{Prompt, Vlm};
use crate::Result;
use crate::display::NextTokenTable;

impl Vlm {
    /// The `count` most probable tokens behind `text`, which may be empty, with their probabilities.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let image = Image::filled(64, 64, [200, 30, 40])?;
    /// let table = vlm.next_tokens(&image, "a red", 5)?;
    /// assert_eq!(table.top().len(), 5);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the input can't be prepared, or nothing fits the context any more.
    pub fn next_tokens(
        &self,
        input: &dyn VlmInput,
        text: &str,
        count: usize,
    ) -> Result<NextTokenTable> {
        let ids = self.given_ids(text)?;
        let prompts = input.prompts(self)?.into_iter().take(1);
        let prompts: Vec<Prompt> = prompts.map(|prompt| prompt.prefix(&ids)).collect();
        let logits = self.forward(&self.sequence(&prompts)?)?.logits()?.detach(); // [1, V]
        NextTokenTable::from_logits(&logits, count, None, &|id| self.llm_processor.token(id))
    }
}

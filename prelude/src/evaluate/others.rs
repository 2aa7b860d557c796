//! Which picture stands in for the asked one, under *another picture*: the last one before it that is not the same.
//!
//! Sets of questions ask several times about one picture, so the next question's picture may be the asked one again.
//!
//! ```text
//! asked about   A A B B A …
//! shown instead B B A A B …     the first ones: the first other picture behind them
//! ```

use super::item::Item;
use crate::Result;

/// What was shown so far.
#[derive(Default)]
pub(super) struct Others {
    /// What the last question was about.
    last: Option<Item>,
    /// The last one before that shows something else.
    before: Option<Item>,
}

impl Others {
    /// What shows something else than `item`, the next question; `ahead` looks for the first behind it that does. `None`: there is
    /// no other picture.
    ///
    /// # Errors
    /// When a value can't be read, and what `ahead` reports.
    pub fn other_than(
        &mut self,
        item: &Item,
        ahead: impl FnOnce() -> Result<Option<Item>>,
    ) -> Result<Option<Item>> {
        let is_new = match &self.last {
            Some(last) => !last.shows_the_same(item)?,
            None => true,
        };
        if is_new {
            self.before = match self.last.replace(item.clone()) {
                Some(last) => Some(last),
                None => ahead()?,
            };
        }
        Ok(self.before.clone())
    }
}

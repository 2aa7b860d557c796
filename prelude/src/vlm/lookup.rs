//! Speculative decoding by prompt lookup: tokens that followed the last ones where these stood before are proposed, and one pass of
//! the model checks all of them.
//!
//! ```text
//! ids of the prompt │ ids made: … a red square above a red ▸ square above a      the proposal
//!                     one pass over the last token and the proposal: logits behind each, a token picked from each in turn,
//!                     until one is another than was proposed; the cache forgets what stood behind it
//! ```
//! Each token is picked from the logits of the tokens in front of it, as without (Saxena, *Prompt Lookup Decoding*, 2023).

use super::generate::{Generate, Generation, Stopped};
use super::prompt::{Piece, Prompt};
use super::steps::Steps;
use crate::session::check_interrupt;
use crate::{Error, Result};
use std::ops::Range;

/// The last tokens that are looked for: three, or else two.
const LOOKED_FOR: [usize; 2] = [3, 2];
/// Stands for what has no ids, such as a picture: no run of tokens goes across it.
const GAP: u32 = u32::MAX;

impl Generate {
    /// Proposes up to so many tokens that followed the last two or three where they stood before, in the words of the prompt or in what
    /// was made, and has the model check them in one pass: the same tokens in fewer passes, where the text repeats. 0, as it is unless
    /// set: none. Pictures are answered one after the other.
    ///
    /// Draws too are those without it, by the same seed. In f32 the sums of a pass over several tokens are rounded otherwise than
    /// those of one token (by some 1e-6 of a logit), and in bf16 much more: two tokens that are as likely as that may change places.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let generate = vlm.generate(&Image::filled(80, 80, [200, 30, 40])?)?.max_new_tokens(24).stop_at(vec![]);
    /// let plain = generate.clone().run()?;
    /// assert_eq!(generate.prompt_lookup(4).run()?.ids, plain.ids);
    /// # Ok(()) }
    /// ```
    pub fn prompt_lookup(mut self, tokens: usize) -> Self {
        self.lookup = tokens;
        self
    }

    /// Refuses what does not go with proposals.
    pub(super) fn check_lookup(&self) -> Result<()> {
        let other = match (self.lookup, self.beams.num_beams, self.cache) {
            (0, ..) | (_, 1, true) => return Ok(()),
            (_, 1, false) => "without_cache",
            _ => "num_beams",
        };
        Err(Error::Input(format!(
            "prompt_lookup goes with one text a picture and a cache: leave out {other}, or prompt_lookup"
        )))
    }

    /// One text a picture, with proposals.
    pub(super) fn look_up(
        &self,
        prompts: &[Prompt],
        on_token: &mut dyn FnMut(usize, u32) -> Result<()>,
    ) -> Result<Vec<Generation>> {
        let each = prompts.iter().enumerate();
        each.map(|(b, prompt)| {
            let prompt = std::slice::from_ref(prompt);
            let mut steps = Steps::new(&self.vlm, prompt, Some(self.max_new_tokens))?;
            self.check_room(&steps, b)?;
            self.look_up_one(&mut steps, ids_of(&prompt[0]), b, on_token)
        })
        .collect()
    }

    fn look_up_one(
        &self,
        steps: &mut Steps<'_>,
        mut known: Vec<u32>,
        picture: usize,
        on_token: &mut dyn FnMut(usize, u32) -> Result<()>,
    ) -> Result<Generation> {
        let mut rng = self.rng(picture);
        let (given, mut kept) = (known.len(), Vec::new());
        let mut stopped = None;
        while stopped.is_none() && known.len() - given < self.max_new_tokens {
            check_interrupt()?;
            let made = known.len() - given;
            // The last one needs no pass of its own behind it.
            let most = self.lookup.min(self.max_new_tokens - made - 1);
            let proposal = match made {
                0 => Vec::new(), // the prompt is read first
                _ => steps.within_angles(known[proposed(&known, most)].to_vec()),
            };
            let logits = match made {
                0 => steps.next(&[Vec::new()])?,                       // [1, V]
                _ => steps.checked(known.last().copied(), &proposal)?, // [1 + proposed, V]
            }
            .detach();
            for (at, row) in logits.to_vec2::<f32>()?.iter().enumerate() {
                let id = self.sampling.pick(row, &known[given..], &mut rng)?;
                known.push(id);
                if self.keep_logits {
                    kept.push(logits.get(at)?);
                }
                on_token(picture, id)?;
                if self.stop_ids.contains(&id) {
                    stopped = Some(Stopped::Eos);
                }
                if stopped.is_some() || proposal.get(at) != Some(&id) {
                    break;
                }
            }
            // Of the text all but the last token stays read.
            steps.forget(known.len() - given - 1)?;
        }
        let ids = known.split_off(given);
        self.generation(ids, stopped.unwrap_or(Stopped::Length), &kept)
    }
}

/// The ids of a prompt, with a gap for what has none.
fn ids_of(prompt: &Prompt) -> Vec<u32> {
    let mut ids = Vec::new();
    for piece in &prompt.pieces {
        match piece {
            Piece::Text(_, words) => ids.extend(words),
            Piece::Target(target) => ids.extend(&target.ids),
            Piece::Vector(_) | Piece::Input(_) => ids.push(GAP),
        }
    }
    ids
}

/// Where in `known` up to `most` tokens stand that followed its last ones where these stood last.
fn proposed(known: &[u32], most: usize) -> Range<usize> {
    for count in LOOKED_FOR {
        let Some(from) = known.len().checked_sub(count) else {
            continue;
        };
        let last = &known[from..];
        if last.contains(&GAP) {
            continue;
        }
        let earlier = (0..from).rev().find(|&at| known[at..at + count] == *last);
        if let Some(at) = earlier {
            let behind = at + count..(at + count + most).min(known.len());
            let gap = known[behind.clone()].iter().position(|&id| id == GAP);
            return behind.start..gap.map_or(behind.end, |gap| behind.start + gap);
        }
    }
    0..0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_the_last_tokens_is_proposed() {
        let of = |known: &[u32], most| known[proposed(known, most)].to_vec();
        assert_eq!(of(&[1, 2, 3, 4, 9, 1, 2], 2), [3, 4]);
        assert_eq!(of(&[1, 2, 3, 4, 9, 1, 2], 9), [3, 4, 9, 1, 2]); // to the end of what is there
        assert_eq!(of(&[7, 1, 2, 5, 8, 1, 2, 6, 7, 1, 2], 1), [5]); // three before two
        assert_eq!(of(&[1, 2, 5, 8, 1, 2, 6, 7, 1, 2], 1), [6]); // the last of several places
        assert_eq!(of(&[4, 4, 4], 3), [4]); // a run goes on
        assert_eq!(of(&[1, 2, GAP, 5, 1, 2], 4), [] as [u32; 0]);
        assert_eq!(of(&[1, GAP, 5, 1, GAP], 4), [] as [u32; 0]);
        assert_eq!(of(&[1, 2, 3], 4), [] as [u32; 0]);
        assert_eq!(of(&[1, 2, 3, 1, 2], 0), [] as [u32; 0]);
        assert_eq!(of(&[], 4), [] as [u32; 0]);
    }
}

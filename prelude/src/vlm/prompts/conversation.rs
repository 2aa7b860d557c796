//! A conversation: questions and answers in turn, with inputs where they are shown, in the model's own chat template.
//!
//! ```text
//! start │ input │ end │ question │ answer │ question │ answer │ start │ input │ end │ question │ answer …
//!                                  target              target                                  target
//! ```
//! One turn gives exactly the prompt of a question. In later turns the words of `start_text` stand where `start_vec` stood, as
//! the vector holds the beginning of the whole text too. Few-shot examples are a conversation of which the last answer counts.

use crate::display::facts::shown_by_facts;
use crate::display::{Facts, SegmentKind};
use crate::language::ChatMessage;
use crate::vlm::prompt::{InputPiece, Piece, Prompt, PromptPart, Seen};
use crate::vlm::settings::{PromptStyle, Targets};
use crate::vlm::words::PICTURE;
use crate::vlm::{Vlm, VlmInput};
use crate::{Error, Result};
use candle_core::Tensor;

/// One turn of a conversation: what is shown and asked, and what is answered.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let image = Image::filled(80, 80, [200, 30, 40])?;
/// let first = Turn::asks("What is this?").shows_to(&vlm, &image)?.answer("a red square");
/// let prompt = vlm.conversation(&[first, Turn::asks("What colour is it?")])?;
/// let written = vlm.generate(&prompt)?.max_new_tokens(4).run()?; // the answer to the second question
/// assert!(written.ids.len() <= 4);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Turn {
    question: String,
    inputs: Vec<Vec<Piece>>,
    answer: Option<String>,
}

impl Turn {
    /// A turn that asks.
    pub fn asks(question: impl Into<String>) -> Self {
        Self {
            question: question.into(),
            inputs: Vec::new(),
            answer: None,
        }
    }

    /// Shows an input with the question, prepared for the model's encoder; several stand one behind the other.
    pub fn shows(self, prepared: &Tensor) -> Self {
        self.piece(None, prepared)
    }

    /// The same for an encoder that [`Vlm::add_encoder`] gave the model.
    pub fn shows_for(self, encoder: &str, prepared: &Tensor) -> Self {
        self.piece(Some(encoder), prepared)
    }

    fn piece(mut self, encoder: Option<&str>, prepared: &Tensor) -> Self {
        self.inputs.push(vec![Piece::Input(InputPiece {
            encoder: encoder.map(ToOwned::to_owned),
            seen: Seen::Prepared(prepared.clone()),
        })]);
        self
    }

    /// Shows a picture with the question as the model takes it, in tiles if it cuts pictures; or any other input.
    ///
    /// # Errors
    /// When it can't be prepared.
    pub fn shows_to(mut self, vlm: &Vlm, input: &dyn VlmInput) -> Result<Self> {
        self.inputs.push(input.pieces(vlm)?);
        Ok(self)
    }

    /// The answer; the last turn of a conversation may leave it to the model.
    pub fn answer(mut self, answer: impl Into<String>) -> Self {
        self.answer = Some(answer.into());
        self
    }

    pub(super) fn inputs(&self) -> &[Vec<Piece>] {
        &self.inputs
    }

    pub(super) fn question(&self) -> &str {
        &self.question
    }

    pub(super) fn answered(&self) -> Option<&str> {
        self.answer.as_deref()
    }

    fn facts(&self) -> Facts {
        let facts = Facts::new("Turn").fact("question", &self.question);
        let facts = self.inputs.iter().fold(facts, |facts, input| {
            let pieces = input.iter().cloned().fold(Prompt::new(), Prompt::piece);
            facts.fact("shows", pieces.reads())
        });
        facts.fact(
            "answer",
            self.answer.as_deref().unwrap_or("left to the model"),
        )
    }
}

shown_by_facts!(Turn);

/// Which answers of a conversation carry loss.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counts {
    /// All of them.
    Every,
    /// The last.
    Last,
}

impl Vlm {
    /// A conversation of several turns; every answer is a target. If the last turn has no answer, generation goes on there.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let image = Image::filled(64, 64, [200, 30, 40])?.prepare(&vlm)?;
    /// let talk = [
    ///     Turn::asks("What is it?").shows(&image).answer("a square"),
    ///     Turn::asks("Which colour?").answer("red"),
    /// ];
    /// let prompt = vlm.conversation(&talk)?;
    /// assert_eq!(prompt.answers().count(), 2);
    /// let loss = vlm.full_sequence_loss_of(&prompt)?;
    /// # assert_eq!(loss.targets.len(), prompt.answer_ids().len());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// For no turns, a turn before the last without an answer, or when the chat template writes earlier turns differently once
    /// others follow.
    pub fn conversation(&self, turns: &[Turn]) -> Result<Prompt> {
        self.turns(turns, Counts::Every)
    }

    /// Few-shot: examples with their captions, then an input whose caption is left to the model (or is `caption`, the one target).
    /// With [`AttentionRule::LastInput`](crate::nn::AttentionRule::LastInput) it is Flamingo's: a caption sees its own picture only.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let [red, green, blue] = [[200, 30, 40], [20, 180, 60], [30, 60, 220]].map(|rgb| Image::filled(64, 64, rgb));
    /// let (red, green, blue) = (red?, green?, blue?);
    /// let shots: [(&dyn VlmInput, &str); 2] = [(&red, "a red square"), (&green, "a green square")];
    /// let prompt = vlm.few_shot(&shots, &blue, None)?.attention(AttentionRule::LastInput);
    /// let written = vlm.generate(&prompt)?.max_new_tokens(8).run()?;
    /// # assert!(!written.ids.is_empty());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Vlm::conversation`], and for inputs that can't be prepared.
    pub fn few_shot(
        &self,
        shots: &[(&dyn VlmInput, &str)],
        input: &dyn VlmInput,
        caption: Option<&str>,
    ) -> Result<Prompt> {
        let ask = |input: &dyn VlmInput| -> Result<Turn> {
            Turn::asks(self.settings.query_text.as_str()).shows_to(self, input)
        };
        let turns = shots
            .iter()
            .map(|(input, caption)| Ok(ask(*input)?.answer(*caption)));
        let mut turns = turns.collect::<Result<Vec<_>>>()?;
        let last = ask(input)?;
        turns.push(match caption {
            Some(caption) => last.answer(caption),
            None => last,
        });
        self.turns(&turns, Counts::Last)
    }

    fn turns(&self, turns: &[Turn], counts: Counts) -> Result<Prompt> {
        let Some(last) = turns.len().checked_sub(1) else {
            return Err(Error::Input(
                "a conversation of no turns: give at least one".into(),
            ));
        };
        let open = turns[..last].iter().position(|turn| turn.answer.is_none());
        if let Some(open) = open {
            return Err(Error::Input(format!(
                "turn {open} has no answer, and others follow: only the last turn's may be left to the model"
            )));
        }
        let counted = |turn: usize| counts == Counts::Every || turn == last;
        if let Some(token) = &self.settings.image_token {
            return self.whole_text(turns, token, counted);
        }
        let asked = self.asked_in(turns)?;
        let mut prompt = Prompt {
            spelling: Some(self.spelling()?),
            ..Prompt::new()
        };
        for (at, (turn, words)) in turns.iter().zip(&asked).enumerate() {
            prompt = self.ask(prompt, turn, words)?;
            let ids = match &turn.answer {
                Some(answer) => self.caption_ids(answer)?,
                None => Vec::new(),
            };
            let loss = match counted(at) {
                true => self.target_range(ids.len()),
                false => 0..0,
            };
            prompt = prompt.target_in(&ids, loss);
        }
        Ok(prompt)
    }

    /// Inputs and question of one turn, behind what came before.
    fn ask(&self, mut prompt: Prompt, turn: &Turn, words: &str) -> Result<Prompt> {
        let processor = &self.llm_processor;
        let is_first = prompt.pieces.is_empty();
        let mut parts = words.split(PICTURE);
        let before = parts.next().unwrap_or_default();
        if turn.inputs.is_empty() {
            let mut ids = processor.encode_plain(before)?;
            if is_first {
                ids.splice(
                    0..0,
                    processor.bos_id().filter(|bos| ids.first() != Some(bos)),
                );
            }
            return Ok(prompt.query(&ids));
        }
        let mut before = before.to_owned();
        for (at, (input, behind)) in turn.inputs.iter().zip(parts.by_ref()).enumerate() {
            prompt = match is_first && at == 0 {
                true => prompt.vector(PromptPart::Start),
                false => {
                    let text = format!("{before}{}", self.settings.start_text);
                    prompt.words(SegmentKind::Start, &processor.encode_plain(&text)?)
                }
            };
            prompt = input
                .iter()
                .cloned()
                .fold(prompt, Prompt::piece)
                .vector(PromptPart::End);
            before = behind.to_owned();
        }
        let is_plain = is_first && turn.inputs.len() == 1;
        if is_plain && turn.question == self.settings.query_text {
            return Ok(prompt.vector(PromptPart::Query));
        }
        let ids = match is_plain {
            true => self.query_ids(&turn.question)?,
            false => processor.encode_plain(&before)?,
        };
        Ok(prompt.query(&ids))
    }

    /// What stands before each answer, from the end of the answer before: the chat template's words, or the questions as they
    /// are. A picture's sign stands for each input.
    fn asked_in(&self, turns: &[Turn]) -> Result<Vec<String>> {
        let signs = |turn: &Turn| PICTURE.repeat(turn.inputs.len());
        let processor = &self.llm_processor;
        if self.settings.prompt == PromptStyle::Plain || processor.chat_template().is_none() {
            let plain = |turn: &Turn| format!("{}{}", signs(turn), turn.question);
            return Ok(turns.iter().map(plain).collect());
        }
        let eos = processor.eos_id().map(|id| processor.token(id));
        let ends = eos.filter(|_| self.settings.targets == Targets::AllAndEos);
        let (mut messages, mut asked, mut read) = (Vec::new(), Vec::new(), String::new());
        for (at, turn) in turns.iter().enumerate() {
            let line = if turn.inputs.is_empty() { "" } else { "\n" };
            messages.push(ChatMessage::user(format!(
                "{}{line}{}",
                signs(turn),
                turn.question
            )));
            let text = processor.render_chat(&messages, true)?;
            let Some(words) = text.strip_prefix(&read) else {
                return Err(Error::Input(format!(
                    "the model's chat template writes the turns before turn {at} differently once it follows: set \
                     `PromptStyle::Plain`, or make one prompt for each answer"
                )));
            };
            // The end-of-sequence token behind an answer is the answer's own.
            let words = ends
                .as_ref()
                .filter(|_| at > 0)
                .and_then(|end| words.strip_prefix(end.as_str()))
                .unwrap_or(words);
            asked.push(words.to_owned());
            let answer = turn.answer.as_deref().unwrap_or_default().trim();
            read = text.clone() + answer;
            messages.push(ChatMessage::assistant(answer));
        }
        if asked
            .iter()
            .zip(turns)
            .any(|(words, turn)| words.matches(PICTURE).count() != turn.inputs.len())
        {
            return Err(Error::Input(
                "the model's chat template leaves out what stands for an input: set `PromptStyle::Plain`".into(),
            ));
        }
        Ok(asked)
    }
}

//! A conversation in the words of a published model: the whole text is tokenised at once, as the model's own processor does, and then cut
//! at pictures and answers.
//!
//! turns ─ chat template ─► text, with the bytes of each answer ─ tokenizer ─► ids with their bytes ─► text │ input │ text │ target │ text …

use super::conversation::Turn;
use crate::display::SegmentKind;
use crate::language::ChatOptions;
use crate::vlm::Vlm;
use crate::vlm::prompt::{Piece, Prompt};
use crate::vlm::settings::Targets;
use crate::vlm::words::{ContentForm, PICTURE, located};
use crate::{Error, Result};
use serde_json::Value;
use std::ops::Range;

/// What a stretch of ids is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Words,
    Picture,
    /// Of this turn.
    Answer(usize),
}

impl Vlm {
    /// Turns in the model's own template, `token` in the place of each picture; `counts` says of a turn whether its answer carries loss. An
    /// answer ends with what the template writes behind it, the last one with the end-of-sequence token in any case.
    pub(super) fn whole_text(
        &self,
        turns: &[Turn],
        token: &str,
        counts: impl Fn(usize) -> bool,
    ) -> Result<Prompt> {
        let (text, answers) = self.written(turns, token)?;
        let inputs: Vec<&Vec<Piece>> = turns.iter().flat_map(Turn::inputs).collect();
        let ends = self.llm_processor.eos_ids();
        // Ids with what they are, in order.
        let mut parts: Vec<(Part, Vec<u32>)> = Vec::new();
        for (id, bytes) in located(&self.llm_processor, &text, token)? {
            let of = |answer: &Range<usize>| bytes.start < answer.end && bytes.end > answer.start;
            let part = match (id, answers.iter().position(of)) {
                (None, _) => Part::Picture,
                (Some(_), Some(turn)) => Part::Answer(turn),
                (Some(_), None) => Part::Words,
            };
            match (parts.last_mut(), id) {
                (Some((last, ids)), Some(id)) if *last == part => ids.push(id),
                // The template's own end of an answer is the answer's.
                (Some((Part::Answer(_), ids)), Some(id))
                    if part == Part::Words
                        && ends.contains(&id)
                        && !ids.last().is_some_and(|last| ends.contains(last)) =>
                {
                    ids.push(id);
                }
                (_, id) => parts.push((part, id.into_iter().collect())),
            }
        }
        let places = parts
            .iter()
            .filter(|(part, _)| *part == Part::Picture)
            .count();
        if places != inputs.len() {
            let inputs = inputs.len();
            return Err(Error::InputCount { places, inputs });
        }
        let mut prompt = Prompt {
            spelling: Some(self.spelling()?),
            ..Prompt::new()
        };
        let mut shown = inputs.into_iter();
        for (part, mut ids) in parts {
            prompt = match part {
                Part::Words => prompt.words(SegmentKind::Query, &ids),
                Part::Picture => {
                    let pieces = shown.next().into_iter().flatten().cloned();
                    pieces.fold(prompt, Prompt::piece)
                }
                Part::Answer(turn) => {
                    let ended = ids.last().is_some_and(|last| ends.contains(last));
                    // Behind an earlier answer stands what the template has there, if only because the next question follows.
                    let is_last = turn + 1 == turns.len();
                    if is_last && !ended && self.settings.targets == Targets::AllAndEos {
                        ids.extend(self.llm_processor.eos_id());
                    }
                    let loss = match counts(turn) {
                        true => self.target_range(ids.len()),
                        false => 0..0,
                    };
                    prompt.target_in(&ids, loss)
                }
            };
        }
        let open = turns.last().is_some_and(|turn| turn.answered().is_none());
        Ok(if open { prompt.target(&[]) } else { prompt })
    }

    /// The text, and the bytes of each turn's answer; none for one that is left to the model.
    fn written(&self, turns: &[Turn], token: &str) -> Result<(String, Vec<Range<usize>>)> {
        let form = ContentForm::of(&self.llm_processor, token);
        let render = |messages: &[Value], answer_next: bool| {
            let options = ChatOptions::new(answer_next);
            self.llm_processor.render_conversation(messages, &options)
        };
        let (mut messages, mut answers, mut text) = (Vec::new(), Vec::new(), String::new());
        for (at, turn) in turns.iter().enumerate() {
            messages.push(form.user(token, turn.inputs().len(), turn.question()));
            let (longer, answer) = match turn.answered().map(str::trim) {
                None => (render(&messages, true)?, 0..0),
                Some(answer) => {
                    // Where an answer stands is seen on one that can't be mistaken for the template's words.
                    messages.push(form.assistant(PICTURE));
                    let marked = render(&messages, false)?;
                    messages.pop();
                    messages.push(form.assistant(answer));
                    let whole = render(&messages, false)?;
                    let as_given = whole == marked.replacen(PICTURE, answer, 1);
                    match marked.find(PICTURE).filter(|_| as_given) {
                        Some(start) => (whole, start..start + answer.len()),
                        // The template changes what it is given, or leaves it out: nothing of it can be found again.
                        None => (String::new(), 0..0),
                    }
                }
            };
            if longer.is_empty() || !longer.starts_with(&text) {
                return Err(Error::Input(format!(
                    "the model's chat template writes the turns up to turn {at} differently once it is answered or another follows: make \
                     one prompt for each answer, or its text by `vlm.text_prompt`"
                )));
            }
            text = longer;
            answers.push(answer);
        }
        Ok((text, answers))
    }
}

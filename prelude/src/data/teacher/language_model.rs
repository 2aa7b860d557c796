//! A language model as the teacher: instructions and a sheet as its prompt → its text → questions with answers.

use super::{LessonKind, Sheet, Teacher};
use crate::display::Facts;
use crate::display::facts::{shown_by_facts, shown_by_fields};
use crate::language::{ChatMessage, Decoder, LlmInput, LlmProcessor, LogitsAt};
use crate::session::check_interrupt_in_pass;
use crate::{Error, Result};
use candle_core::Tensor;

/// What the model is told, by kind of lesson. `{sheet}` stands for captions and boxes, `{objects}` for the boxes' names alone.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let prompts = TeacherPrompts {
///     description: "A picture shows: {objects}. Describe it in one sentence.".into(),
///     ..TeacherPrompts::default()
/// };
/// assert!(prompts.conversation.contains("{sheet}")); // captions and boxes stand in its place
/// assert_ne!(prompts, TeacherPrompts::tiny());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct TeacherPrompts {
    pub conversation: String,
    pub description: String,
    pub reasoning: String,
    /// What a lesson asks where the model writes an answer without its question.
    pub question: String,
}

impl Default for TeacherPrompts {
    /// Instructions for a model that follows some: it is asked for lines that begin with `Question:` and `Answer:`.
    fn default() -> Self {
        let told = "You are told what a picture shows: sentences about it, then things with their boxes [left, top, right, bottom] \
                    as parts of its width and height.\n\n{sheet}\n\n";
        Self {
            conversation: format!(
                "{told}Write three short questions about the picture with their answers, each as a line \"Question: …\" and a line \
                 \"Answer: …\". Ask only what the sentences and boxes answer."
            ),
            description: format!(
                "{told}Describe the picture as if you saw it, in two or three sentences. Do not mention boxes or numbers."
            ),
            reasoning: format!(
                "{told}Write one question about the picture that takes a thought to answer, as a line \"Question: …\", and its answer as \
                 a line \"Answer: …\"."
            ),
            question: "Describe the picture.".into(),
        }
    }
}

impl TeacherPrompts {
    /// For the tiny model, which knows one request in words, a list of objects to be described: all lessons are descriptions then.
    pub fn tiny() -> Self {
        let list = "Objects: {objects}".to_string();
        Self {
            conversation: list.clone(),
            description: list.clone(),
            reasoning: list,
            question: "What does the picture show?".into(),
        }
    }

    fn of(&self, kind: LessonKind, sheet: &Sheet) -> String {
        let text = match kind {
            LessonKind::Conversation => &self.conversation,
            LessonKind::Description => &self.description,
            LessonKind::Reasoning => &self.reasoning,
        };
        text.replace("{sheet}", &sheet.text())
            .replace("{objects}", &sheet.objects())
    }
}

shown_by_fields!(TeacherPrompts);

/// Has a language model write. It has no encoder: a picture can't reach it.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let tiny = Vlm::tiny(&Device::Cpu)?;
/// let teacher = LlmTeacher::new(&tiny.llm, &tiny.llm_processor).prompts(TeacherPrompts::tiny()).max_new_tokens(20);
/// let description = teacher.answer("Objects: small red circle, large blue square")?;
/// assert!(!description.is_empty()); // it was told words; it sees no picture
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone)]
pub struct LlmTeacher {
    llm: Decoder,
    processor: LlmProcessor,
    prompts: TeacherPrompts,
    max_new_tokens: usize,
}

impl LlmTeacher {
    /// A teacher that takes the likeliest token each time, 120 at most.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let tiny = Vlm::tiny(&Device::Cpu)?;
    /// let teacher = LlmTeacher::new(&tiny.llm, &tiny.llm_processor).prompts(TeacherPrompts::tiny());
    /// let shapes = Shapes::new(ShapesConfig::default())?;
    /// let sheets: Vec<Sheet> = (0..4).map(|index| shapes.sheet(Split::Val, index)).collect();
    /// let lessons = Lessons::write(&teacher, &sheets, &[LessonKind::Description])?;
    /// assert_eq!(lessons.lessons.len(), 4);
    /// # Ok(()) }
    /// ```
    pub fn new(llm: &Decoder, processor: &LlmProcessor) -> Self {
        Self {
            llm: crate::nn::shared(llm),
            processor: processor.clone(),
            prompts: TeacherPrompts::default(),
            max_new_tokens: 120,
        }
    }

    /// What the model is told.
    pub fn prompts(mut self, prompts: TeacherPrompts) -> Self {
        self.prompts = prompts;
        self
    }

    /// Longest text, in tokens.
    pub fn max_new_tokens(mut self, tokens: usize) -> Self {
        self.max_new_tokens = tokens;
        self
    }

    /// What the model writes behind a request.
    ///
    /// # Errors
    /// `Input` for a request that leaves no room in the model's context; `Interrupted`.
    pub fn answer(&self, request: &str) -> Result<String> {
        let ids = match self.processor.chat_template() {
            Some(_) => {
                let text = self
                    .processor
                    .render_chat(&[ChatMessage::user(request)], true)?;
                let mut ids = self.processor.encode_plain(&text)?;
                let bos = self
                    .processor
                    .bos_id()
                    .filter(|bos| ids.first() != Some(bos));
                // As the processor itself begins texts.
                if self.processor.encode("a")?.first().copied() == bos {
                    ids.splice(0..0, bos);
                }
                ids
            }
            None => self.processor.encode(request)?,
        };
        let room = self.llm.config.max_position_embeddings;
        let most = self.max_new_tokens.min(room.saturating_sub(ids.len()));
        if most == 0 {
            return Err(Error::Input(format!(
                "the request has {} tokens, the model's context {room}: no room is left for an answer; shorten the prompts, or give sheets \
                 with fewer captions and boxes",
                ids.len()
            )));
        }
        let cache = self.llm.new_cache(1, ids.len() + most)?;
        let (mut made, mut next) = (Vec::new(), ids);
        for _ in 0..most {
            check_interrupt_in_pass()?;
            let tokens = Tensor::new(next.as_slice(), self.llm.device())?.unsqueeze(0)?; // [1, T]
            let input = LlmInput::ids(&tokens)
                .cache(&cache)
                .logits_at(LogitsAt::Last);
            let best = self.llm.forward(&input)?.logits()?.argmax(1)?; // [1]
            let id = best.to_vec1::<u32>()?[0];
            if self.processor.eos_ids().contains(&id) || self.llm.config.eos_ids().contains(&id) {
                break;
            }
            made.push(id);
            next = vec![id];
        }
        Ok(self.processor.decode(&made)?.trim().to_string())
    }

    fn facts(&self) -> Facts {
        Facts::new("LlmTeacher: a language model that sees no picture")
            .fact("model", &self.llm.config.model_type)
            .fact("most tokens", self.max_new_tokens)
            .fact("is told", &self.prompts.conversation)
    }
}

shown_by_facts!(LlmTeacher);

impl Teacher for LlmTeacher {
    fn write(
        &self,
        sheet: &Sheet,
        kind: LessonKind,
    ) -> Result<std::result::Result<Vec<(String, String)>, String>> {
        let request = self.prompts.of(kind, sheet);
        let text = self.answer(&request)?;
        if text.is_empty() {
            return Ok(Err("texts that are empty".into()));
        }
        let pairs = pairs(&text);
        Ok(match (kind, pairs.is_empty()) {
            (_, false) => Ok(pairs),
            (LessonKind::Description, true) => Ok(vec![(self.prompts.question.clone(), text)]),
            // The tiny model's requests are all of one form.
            (_, true) if !request.contains("Question:") => {
                Ok(vec![(self.prompts.question.clone(), text)])
            }
            (_, true) => Err("texts without a line \"Question:\" and a line \"Answer:\"".into()),
        })
    }
}

/// Lines that begin with `Question:` (`Q:`, also with a number or marks around) and the `Answer:` behind each.
fn pairs(text: &str) -> Vec<(String, String)> {
    let (mut pairs, mut question): (Vec<(String, String)>, Option<String>) = (Vec::new(), None);
    let mut in_answer = false;
    for line in text.lines() {
        let plain = line.trim().trim_start_matches(|letter: char| {
            letter.is_ascii_digit() || matches!(letter, '*' | '-' | '.' | ')' | ' ' | '#')
        });
        let after = |names: [&str; 2]| {
            names.into_iter().find_map(|name| {
                let begins = plain.get(..name.len())?.eq_ignore_ascii_case(name);
                begins.then(|| plain[name.len()..].trim_matches(['*', ' ']).to_string())
            })
        };
        if let Some(asked) = after(["Question:", "Q:"]) {
            question = Some(asked).filter(|asked| !asked.is_empty());
            in_answer = false;
        } else if let Some(answer) = after(["Answer:", "A:"]) {
            if let Some(asked) = question.take().filter(|_| !answer.is_empty()) {
                pairs.push((asked, answer));
                in_answer = true;
            }
        } else if line.trim().is_empty() {
            in_answer = false;
        } else if let (true, Some((_, answer))) = (in_answer, pairs.last_mut()) {
            answer.push(' ');
            answer.push_str(line.trim());
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_are_read_from_what_models_write() {
        let text = "Here are some:\n1. **Question:** What is it?\nAnswer: A cat.\nIt sleeps.\n\nQ: Where?\nA: On a mat.\nQuestion: Why?\n\
                    Question: When?\nAnswer:\nAnswer: lost";
        let found = pairs(text);
        let wanted = [
            ("What is it?", "A cat. It sleeps."),
            ("Where?", "On a mat."),
        ];
        let wanted = wanted.map(|(a, b)| (a.to_string(), b.to_string()));
        // An answer without words, and one behind no question, are none.
        assert_eq!(found, wanted);
        assert!(pairs("A cat sits on a mat.").is_empty());
    }
}

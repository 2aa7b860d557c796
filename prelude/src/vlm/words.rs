//! The words of the prompt as token ids: what stands before the picture, behind it, and as the query. Tokenised once, as long as
//! settings and tokenizer stay.

use super::Vlm;
use super::settings::{BosPlacement, PromptStyle, VlmSettings};
use crate::language::{ChatMessage, ChatOptions, LlmProcessor};
use crate::{Error, Result};
use serde_json::{Value, json};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Token ids whose embeddings become `start_vec`, `end_vec` and `query_vec`.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let words = vlm.prompt_words()?;
/// println!("{}", vlm.llm_processor.decode_with_special(&words.query)?);
/// assert_eq!(vlm.query_vec.tensor().dim(1)?, words.query.len()); // a vector for each token
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptWords {
    /// Before the picture.
    pub start: Vec<u32>,
    /// Behind the picture.
    pub end: Vec<u32>,
    /// The question or instruction, and with a chat template the opening of the answer.
    pub query: Vec<u32>,
}

/// Stands for the picture while the chat template is rendered.
pub(super) const PICTURE: &str = "\u{fffc}";

impl PromptWords {
    /// The prompt with the settings' own query.
    ///
    /// # Errors
    /// When the tokenizer or the chat template refuses.
    pub fn new(processor: &LlmProcessor, settings: &VlmSettings) -> Result<Self> {
        Self::with_query(processor, settings, &settings.query_text)
    }

    /// The prompt with another query.
    ///
    /// # Errors
    /// When the tokenizer or the chat template refuses.
    pub(crate) fn with_query(
        processor: &LlmProcessor,
        settings: &VlmSettings,
        query: &str,
    ) -> Result<Self> {
        if let Some(token) = &settings.image_token {
            let text = picture_text(processor, settings, token, query)?;
            let [start, query] = <[Vec<u32>; 2]>::try_from(around(processor, &text, token)?)
                .map_err(|parts| {
                    Error::Input(format!(
                        "the words around the picture have {} places for one: {text:?} must have one {token}",
                        parts.len().saturating_sub(1)
                    ))
                })?;
            return Ok(Self {
                start,
                end: Vec::new(),
                query,
            });
        }
        if settings.bos == BosPlacement::EveryString {
            return Ok(Self {
                start: processor.encode(&settings.start_text)?,
                end: processor.encode(&settings.end_text)?,
                query: processor.encode(query)?,
            });
        }
        let chat =
            settings.prompt == PromptStyle::ChatTemplate && processor.chat_template().is_some();
        let (before, behind) = if chat {
            let message = ChatMessage::user(format!("{PICTURE}\n{query}"));
            let text = processor.render_chat(&[message], true)?;
            match text.split_once(PICTURE) {
                Some((before, behind)) => (before.to_string(), behind.to_string()),
                // A template that drops the user's words has no place for the picture either.
                None => (String::new(), query.to_string()),
            }
        } else {
            (String::new(), query.to_string())
        };
        let mut start = processor.encode_plain(&format!("{before}{}", settings.start_text))?;
        if let Some(bos) = processor.bos_id()
            && start.first() != Some(&bos)
        {
            start.insert(0, bos);
        }
        Ok(Self {
            start,
            end: processor.encode_plain(&settings.end_text)?,
            query: processor.encode_plain(&behind)?,
        })
    }
}

/// A question about a picture in the words of a published model, with `token` where the picture stands.
fn picture_text(
    processor: &LlmProcessor,
    settings: &VlmSettings,
    token: &str,
    query: &str,
) -> Result<String> {
    let template = settings.prompt == PromptStyle::ChatTemplate;
    if !template || processor.chat_template().is_none() {
        return Ok(format!("{token}\n{query}"));
    }
    let message = ContentForm::of(processor, token).user(token, 1, query);
    processor.render_conversation(&[message], &ChatOptions::new(true))
}

/// How a chat template takes what a turn shows and says: those of whole models a list of parts, those of language models a text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ContentForm {
    Parts,
    Text,
}

impl ContentForm {
    /// The form that a model's template takes; `token` is what it writes in a picture's place.
    pub fn of(processor: &LlmProcessor, token: &str) -> Self {
        let message = Self::Parts.user(token, 1, "?");
        match processor.render_conversation(&[message], &ChatOptions::new(true)) {
            Ok(text) if text.matches(token).count() == 1 => Self::Parts,
            _ => Self::Text,
        }
    }

    /// The user's turn: `pictures`, and behind them a question. In a text `sign` stands for each.
    pub fn user(self, sign: &str, pictures: usize, question: &str) -> Value {
        let content = match self {
            Self::Parts => {
                let mut parts = vec![json!({"type": "image"}); pictures];
                parts.push(json!({"type": "text", "text": question}));
                Value::Array(parts)
            }
            Self::Text => {
                let line = if pictures == 0 { "" } else { "\n" };
                format!("{}{line}{question}", sign.repeat(pictures)).into()
            }
        };
        json!({"role": "user", "content": content})
    }

    /// The model's turn.
    pub fn assistant(self, answer: &str) -> Value {
        match self {
            Self::Parts => {
                json!({"role": "assistant", "content": [{"type": "text", "text": answer}]})
            }
            Self::Text => json!({"role": "assistant", "content": answer}),
        }
    }
}

/// The token ids of a text between the places of pictures, as the model's own processor reads it: with what the tokenizer puts in front
/// of a text, unless it stands there. `token` is one of the vocabulary, or a word that is cut out before the text is tokenised.
pub(super) fn around(processor: &LlmProcessor, text: &str, token: &str) -> Result<Vec<Vec<u32>>> {
    let ids = located(processor, text, token)?;
    let parts = ids.split(|(id, _)| id.is_none());
    let parts = parts.map(|part| part.iter().filter_map(|(id, _)| *id).collect());
    Ok(parts.collect())
}

/// The ids of a text with the bytes that each stands for, read as by [`around`]; no id where a picture stands.
pub(super) fn located(
    processor: &LlmProcessor,
    text: &str,
    token: &str,
) -> Result<Vec<(Option<u32>, Range<usize>)>> {
    let bos = processor.bos_id().map(|id| processor.token(id));
    let special = !bos.is_some_and(|bos| text.starts_with(&bos));
    let Some(picture) = processor.token_id(token) else {
        let (mut all, mut start) = (Vec::new(), 0);
        for (at, part) in text.split(token).enumerate() {
            if at > 0 {
                all.push((None, start..start + token.len()));
                start += token.len();
            }
            let ids = processor.encode_located(part, special && at == 0)?;
            all.extend(
                ids.into_iter()
                    .map(|(id, bytes)| (Some(id), start + bytes.start..start + bytes.end)),
            );
            start += part.len();
        }
        return Ok(all);
    };
    let ids = processor.encode_located(text, special)?.into_iter();
    let known = ids.map(|(id, bytes)| ((id != picture).then_some(id), bytes));
    Ok(known.collect())
}

/// The words of a model's prompt with what spells them.
#[derive(Clone)]
pub(super) struct Spelling {
    pub(super) processor: LlmProcessor,
    pub(super) words: PromptWords,
    /// Of the settings that decide the words.
    from: (BosPlacement, PromptStyle, Option<String>, [String; 3]),
}

impl Spelling {
    fn of(settings: &VlmSettings) -> (BosPlacement, PromptStyle, Option<String>, [String; 3]) {
        let texts = [
            &settings.start_text,
            &settings.end_text,
            &settings.query_text,
        ];
        (
            settings.bos,
            settings.prompt,
            settings.image_token.clone(),
            texts.map(String::clone),
        )
    }

    fn is_of(&self, processor: &LlmProcessor, settings: &VlmSettings) -> bool {
        let (bos, style, image, [start, end, query]) = &self.from;
        self.processor.is(processor)
            && (*bos, *style) == (settings.bos, settings.prompt)
            && *image == settings.image_token
            && (start, end) == (&settings.start_text, &settings.end_text)
            && *query == settings.query_text
    }
}

/// Keeps the words of a model's prompt until its settings or its tokenizer change.
#[derive(Default)]
pub(super) struct WordsCache(Mutex<Option<Arc<Spelling>>>);

impl Clone for WordsCache {
    fn clone(&self) -> Self {
        Self(Mutex::new(
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        ))
    }
}

impl Vlm {
    /// The words of this model's prompt.
    ///
    /// # Errors
    /// When the tokenizer or the chat template refuses.
    pub fn prompt_words(&self) -> Result<PromptWords> {
        Ok(self.spelling()?.words.clone())
    }

    /// The ids of words that are given, without the space around them; none of no words.
    pub(super) fn given_ids(&self, words: &str) -> Result<Vec<u32>> {
        match words.trim() {
            "" => Ok(Vec::new()),
            words => self.llm_processor.encode_plain(words),
        }
    }

    pub(super) fn spelling(&self) -> Result<Arc<Spelling>> {
        let mut kept = self.words.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(spelling) = &*kept
            && spelling.is_of(&self.llm_processor, &self.settings)
        {
            return Ok(spelling.clone());
        }
        let spelling = Arc::new(Spelling {
            words: PromptWords::new(&self.llm_processor, &self.settings)?,
            processor: self.llm_processor.clone(),
            from: Spelling::of(&self.settings),
        });
        *kept = Some(spelling.clone());
        Ok(spelling)
    }
}

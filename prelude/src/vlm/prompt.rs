//! The texts of the prompt as token ids: what stands before the picture, behind it, and as the query.

use super::settings::{BosPlacement, PromptStyle, VlmSettings};
use crate::Result;
use crate::language::{ChatMessage, LlmProcessor};

/// Token ids whose embeddings become `start_vec`, `end_vec` and `query_vec`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// Before the picture.
    pub start: Vec<u32>,
    /// Behind the picture.
    pub end: Vec<u32>,
    /// The question or instruction, and with a chat template the opening of the answer.
    pub query: Vec<u32>,
}

/// Stands for the picture while the chat template is rendered.
const PICTURE: &str = "\u{fffc}";

impl Prompt {
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
    pub fn with_query(
        processor: &LlmProcessor,
        settings: &VlmSettings,
        query: &str,
    ) -> Result<Self> {
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

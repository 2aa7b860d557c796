//! Text ↔ token ids: `tokenizer.json`, the special tokens and chat template of `tokenizer_config.json`.
//!
//! The blog calls this the `llm_processor`. [`LlmProcessor::encode`] puts the beginning-of-sequence token in front, as the
//! blog does for every string (so that `<s>` recurs inside its prompts); [`LlmProcessor::encode_plain`] never does, for
//! prompts that are put together from pieces.

use super::config::token_ids;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokenizers::{AddedToken, Tokenizer};

/// Tokenizer and chat template of a language model. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LlmProcessor(Arc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    tokenizer: Tokenizer,
    chat_template: Option<String>,
    bos_token: Option<String>,
    eos_token: Option<String>,
    eos_ids: Vec<u32>,
    pad_id: Option<u32>,
}

/// A token that was added to a tokenizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// Its id.
    pub id: u32,
    /// What its text was cut into before; itself, if it was there already.
    pub pieces: Vec<u32>,
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// What was said.
    pub content: String,
}

impl ChatMessage {
    /// A turn of the given role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self {
            role: role.into(),
            content: content.into(),
        }
    }

    /// A user's turn.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// The model's turn.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }
}

#[derive(Default, Deserialize)]
struct TokenizerConfig {
    #[serde(default)]
    bos_token: Value,
    #[serde(default)]
    eos_token: Value,
    #[serde(default)]
    pad_token: Value,
    #[serde(default)]
    chat_template: Value,
}

impl LlmProcessor {
    /// Reads `tokenizer.json`, and where present `tokenizer_config.json` (special tokens, chat template),
    /// `chat_template.jinja` and `generation_config.json` (further ids that end a text) of a Hugging Face folder.
    ///
    /// # Errors
    /// A missing or damaged file.
    pub fn from_dir(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        let read = |name: &str| -> Result<Option<Vec<u8>>> {
            let path = dir.join(name);
            match std::fs::read(&path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(Error::Io { path, source }),
            }
        };
        let tokenizer = read("tokenizer.json")?.ok_or_else(|| {
            Error::Tokenizer(format!("{} holds no tokenizer.json", dir.display()))
        })?;
        let generation = match read("generation_config.json")? {
            Some(bytes) => parse(&bytes, dir.join("generation_config.json"))?,
            None => Value::Null,
        };
        let mut processor =
            Self::from_bytes(&tokenizer, read("tokenizer_config.json")?.as_deref())?;
        if let (Some(template), Some(inner)) =
            (read("chat_template.jinja")?, Arc::get_mut(&mut processor.0))
        {
            inner.chat_template = Some(String::from_utf8_lossy(&template).into_owned());
        }
        let more = token_ids(generation.get("eos_token_id"));
        if let Some(inner) = Arc::get_mut(&mut processor.0) {
            for id in more {
                if !inner.eos_ids.contains(&id) {
                    inner.eos_ids.push(id);
                }
            }
        }
        Ok(processor)
    }

    /// Reads the bytes of a `tokenizer.json` and, if there is one, a `tokenizer_config.json`.
    ///
    /// # Errors
    /// A damaged file, or a special token that the tokenizer does not know.
    pub fn from_bytes(tokenizer: &[u8], config: Option<&[u8]>) -> Result<Self> {
        let tokenizer = read_tokenizer(tokenizer)?;
        let config: TokenizerConfig = match config {
            Some(bytes) => parse(bytes, "tokenizer_config.json".into())?,
            None => TokenizerConfig::default(),
        };
        let (bos_token, eos_token) = (content(&config.bos_token), content(&config.eos_token));
        let id_of = |token: &Option<String>| -> Result<Option<u32>> {
            token
                .as_ref()
                .map(|token| {
                    tokenizer.token_to_id(token).ok_or_else(|| {
                        Error::Tokenizer(format!("tokenizer_config.json names {token:?}, tokenizer.json has no such token"))
                    })
                })
                .transpose()
        };
        let eos_ids = id_of(&eos_token)?.into_iter().collect();
        let pad_id = id_of(&content(&config.pad_token))?;
        id_of(&bos_token)?;
        let chat_template = match &config.chat_template {
            Value::String(template) => Some(template.clone()),
            // Some checkpoints name several templates.
            Value::Array(list) => list
                .iter()
                .find(|entry| entry["name"] == "default")
                .and_then(|entry| entry["template"].as_str())
                .map(ToString::to_string),
            _ => None,
        };
        Ok(Self(Arc::new(Inner {
            tokenizer,
            chat_template,
            bos_token,
            eos_token,
            eos_ids,
            pad_id,
        })))
    }

    /// The same tokenizer with further special tokens, by id: for each its id and the ids that its text was cut into before.
    /// They stand in texts like any word, and are left out by [`LlmProcessor::decode`]. A token that is there already keeps
    /// its id.
    ///
    /// # Errors
    /// When a token is empty or named twice.
    pub fn with_new_tokens(&self, tokens: &[String]) -> Result<(Self, Vec<NewToken>)> {
        let mut inner = (*self.0).clone();
        let mut new: Vec<NewToken> = Vec::with_capacity(tokens.len());
        for token in tokens {
            let refuse = |what: &str| Error::Tokenizer(format!("new token {token:?}: {what}"));
            if token.trim().is_empty() {
                return Err(refuse("it is empty"));
            }
            let (id, pieces) = match inner.tokenizer.token_to_id(token) {
                Some(id) => (id, vec![id]),
                None => {
                    inner
                        .tokenizer
                        .add_special_tokens([AddedToken::from(token.as_str(), true)])
                        .map_err(|e| refuse(&e.to_string()))?;
                    let id = inner.tokenizer.token_to_id(token);
                    let id = id.ok_or_else(|| refuse("the tokenizer gave it no id"))?;
                    (id, self.encode_plain(token)?)
                }
            };
            if new.iter().any(|other| other.id == id) {
                return Err(refuse("it is named twice"));
            }
            new.push(NewToken { id, pieces });
        }
        new.sort_by_key(|token| token.id);
        Ok((Self(Arc::new(inner)), new))
    }

    /// Ids of a text with the tokenizer's own special tokens in front (for Phi-3: `<s>`), as the blog encodes each string.
    ///
    /// # Errors
    /// When the tokenizer refuses.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.run(text, true)
    }

    /// Ids of a text without anything in front.
    ///
    /// # Errors
    /// When the tokenizer refuses.
    pub fn encode_plain(&self, text: &str) -> Result<Vec<u32>> {
        self.run(text, false)
    }

    fn run(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let encoding = caught(|| self.0.tokenizer.encode(text, special))
            .map_err(|e| Error::Tokenizer(format!("cannot encode {text:?}: {e}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Text of ids, special tokens left out.
    ///
    /// # Errors
    /// When the tokenizer refuses.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        caught(|| self.0.tokenizer.decode(ids, true))
            .map_err(|e| Error::Tokenizer(format!("cannot decode {ids:?}: {e}")))
    }

    /// Text of ids, special tokens as they are written.
    ///
    /// # Errors
    /// When the tokenizer refuses.
    pub fn decode_with_special(&self, ids: &[u32]) -> Result<String> {
        caught(|| self.0.tokenizer.decode(ids, false))
            .map_err(|e| Error::Tokenizer(format!("cannot decode {ids:?}: {e}")))
    }

    /// How one token is written in the vocabulary (a word's leading space as `▁`); `#id` for an id without an entry.
    pub fn token(&self, id: u32) -> String {
        self.0
            .tokenizer
            .id_to_token(id)
            .unwrap_or_else(|| format!("#{id}"))
    }

    /// Id of a token as it is written in the vocabulary.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.0.tokenizer.token_to_id(token)
    }

    /// Number of entries, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.0.tokenizer.get_vocab_size(true)
    }

    /// The beginning-of-sequence id.
    pub fn bos_id(&self) -> Option<u32> {
        self.0
            .bos_token
            .as_deref()
            .and_then(|token| self.token_id(token))
    }

    /// The id that marks the end of a text in training.
    pub fn eos_id(&self) -> Option<u32> {
        self.0.eos_ids.first().copied()
    }

    /// Every id at which generation stops.
    pub fn eos_ids(&self) -> &[u32] {
        &self.0.eos_ids
    }

    /// The padding id.
    pub fn pad_id(&self) -> Option<u32> {
        self.0.pad_id
    }

    /// The chat template, in Jinja.
    pub fn chat_template(&self) -> Option<&str> {
        self.0.chat_template.as_deref()
    }

    /// The conversation as text, by the model's own template; `answer_next` adds the opening of the model's turn.
    ///
    /// # Errors
    /// When there is no template, or the template refuses the conversation.
    pub fn render_chat(&self, messages: &[ChatMessage], answer_next: bool) -> Result<String> {
        let template = self.chat_template().ok_or_else(|| {
            Error::Tokenizer(
                "tokenizer_config.json has no chat_template: use render_chat_with".into(),
            )
        })?;
        self.render_chat_with(template, messages, answer_next)
    }

    /// As [`LlmProcessor::render_chat`], by another template.
    ///
    /// # Errors
    /// When the template is not valid Jinja or refuses the conversation.
    pub fn render_chat_with(
        &self,
        template: &str,
        messages: &[ChatMessage],
        answer_next: bool,
    ) -> Result<String> {
        let mut jinja = minijinja::Environment::new();
        // As transformers sets up its own environment.
        jinja.set_trim_blocks(true);
        jinja.set_lstrip_blocks(true);
        jinja.add_function(
            "raise_exception",
            |message: String| -> std::result::Result<String, minijinja::Error> {
                Err(minijinja::Error::new(
                    minijinja::ErrorKind::InvalidOperation,
                    message,
                ))
            },
        );
        let context = minijinja::context! {
            messages => messages,
            add_generation_prompt => answer_next,
            bos_token => self.0.bos_token.as_deref().unwrap_or(""),
            eos_token => self.0.eos_token.as_deref().unwrap_or(""),
        };
        jinja
            .render_str(template, context)
            .map_err(|e| Error::Tokenizer(format!("chat template: {e}")))
    }
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8], path: PathBuf) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|source| Error::Json { path, source })
}

/// A special token, written plainly or as an object with `content`.
fn content(value: &Value) -> Option<String> {
    value
        .as_str()
        .or_else(|| value["content"].as_str())
        .map(ToString::to_string)
}

/// Parses a `tokenizer.json`.
fn read_tokenizer(bytes: &[u8]) -> Result<Tokenizer> {
    let refuse = |why: String| Error::Tokenizer(format!("tokenizer.json cannot be read: {why}"));
    let _: serde::de::IgnoredAny =
        serde_json::from_slice(bytes).map_err(|error| refuse(error.to_string()))?;
    caught(|| Tokenizer::from_bytes(bytes)).map_err(refuse)
}

/// Runs a call of the tokenizers library, which panics on some damaged `tokenizer.json`s, when it reads them or only when
/// it first uses a part of them; that becomes an error.
fn caught<T, E: std::fmt::Display>(call: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(call))
        .map_err(|_| "the tokenizer contradicts itself; download tokenizer.json again".to_owned())?
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENIZER: &str = r#"{"version": "1.0",
        "added_tokens": [{"id": 1, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
        "model": {"type": "WordLevel", "unk_token": "<unk>", "vocab": {"<unk>": 0, "<s>": 1, "a": 2}}}"#;

    #[test]
    fn a_decoder_that_is_cut_off_is_an_error_and_no_panic_of_the_library() {
        let whole = TOKENIZER.replacen(
            r#""model""#,
            r#""decoder": {"type": "Fuse", 7}, "model""#,
            1,
        );
        let error = LlmProcessor::from_bytes(whole.as_bytes(), None).unwrap_err();
        assert!(error.to_string().contains("cannot be read"), "{error}");
    }

    #[test]
    fn a_template_that_names_an_unknown_token_is_an_error_and_no_panic_of_the_library() -> Result<()>
    {
        let good = LlmProcessor::from_bytes(TOKENIZER.as_bytes(), None)?;
        assert_eq!(good.encode("a")?, [1, 2]);
        let bad = TOKENIZER.replacen(r#"{"<s>": {"id": "<s>""#, r#"{"<x>": {"id": "<x>""#, 1);
        let failed = LlmProcessor::from_bytes(bad.as_bytes(), None)
            .and_then(|processor| processor.encode("a"));
        assert!(matches!(failed, Err(Error::Tokenizer(_))));
        Ok(())
    }
}

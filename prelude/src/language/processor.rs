//! Text ↔ token ids: `tokenizer.json`, with the special tokens and chat templates of the files beside it.
//!
//! The blog calls this the `llm_processor`. [`LlmProcessor::encode`] puts the beginning-of-sequence token in front, as the
//! blog does for every string (so that `<s>` recurs inside its prompts); [`LlmProcessor::encode_plain`] never does, for
//! prompts that are put together from pieces.

use super::chat::{self, ChatMessage, ChatOptions, ChatTemplates};
use super::config::token_ids;
use super::special_tokens::{self, Files};
use crate::{Error, Result, notes};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokenizers::{AddedToken, Encoding, Tokenizer};

/// Tokenizer and chat template of a language model. Cheap to clone.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let words = &vlm.llm_processor;
/// let ids = words.encode("a red square")?;
/// assert_eq!(ids[0], 1); // the token that begins every text
/// assert_eq!(words.decode(&ids)?, "a red square");
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct LlmProcessor(Arc<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    tokenizer: Tokenizer,
    chat_templates: ChatTemplates,
    /// Special tokens by their role.
    special: Map<String, Value>,
    notes: Vec<String>,
    eos_ids: Vec<u32>,
    pad_id: Option<u32>,
}

/// A token that was added to a tokenizer.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let (words, added) = vlm.llm_processor.with_new_tokens(&["<|box|>".to_string()])?;
/// assert!(added[0].pieces.len() > 1); // what it was cut into before
/// assert_eq!(words.token(added[0].id), "<|box|>"); // one token now
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// Its id.
    pub id: u32,
    /// What its text was cut into before; itself, if it was there already.
    pub pieces: Vec<u32>,
}

impl LlmProcessor {
    /// Reads `tokenizer.json` of a Hugging Face folder, and where present `tokenizer_config.json`, `special_tokens_map.json`
    /// and `added_tokens.json` (special tokens, added as transformers adds them), `chat_template.jinja` and
    /// `additional_chat_templates`, and `generation_config.json` (further ids that end a text). Where the files contradict each
    /// other, a line on stderr says so; [`LlmProcessor::notes`] has it too. A GGUF file holds all of this itself.
    ///
    /// # Errors
    /// A missing or damaged file.
    pub fn from_dir(dir: impl AsRef<Path>) -> Result<Self> {
        let dir = dir.as_ref();
        if super::gguf::is_gguf(dir) {
            return super::gguf::GgufFile::open(dir)?.processor();
        }
        let json = |name: &str| -> Result<Value> {
            match read(&dir.join(name))? {
                Some(bytes) => parse(&bytes, dir.join(name)),
                None => Ok(Value::Null),
            }
        };
        let tokenizer = read(&dir.join("tokenizer.json"))?.ok_or_else(|| {
            Error::Tokenizer(format!(
                "{} holds no tokenizer.json{}",
                dir.display(),
                other_tokenizers(dir)
            ))
        })?;
        let files = Files {
            config: json("tokenizer_config.json")?,
            map: json("special_tokens_map.json")?,
            added: json("added_tokens.json")?,
            // The model's reader says what is wrong with a damaged config.
            model_type: crate::hub::model_type(dir).unwrap_or_default(),
            ..Files::default()
        };
        let generation = json("generation_config.json")?;
        let mut inner = Inner::new(&tokenizer, files)?;
        match template_files(dir)? {
            ChatTemplates::None => {}
            found => inner.chat_templates = found,
        }
        for id in token_ids(generation.get("eos_token_id")) {
            if !inner.eos_ids.contains(&id) {
                inner.eos_ids.push(id);
            }
        }
        for note in &inner.notes {
            notes::say(&format!("{}: {note}", dir.display()));
        }
        Ok(Self(Arc::new(inner)))
    }

    /// Reads the bytes of a `tokenizer.json` and, if there is one, a `tokenizer_config.json`.
    ///
    /// # Errors
    /// A damaged file.
    pub fn from_bytes(tokenizer: &[u8], config: Option<&[u8]>) -> Result<Self> {
        let config = match config {
            Some(bytes) => parse(bytes, "tokenizer_config.json".into())?,
            None => Value::Null,
        };
        let files = Files {
            config,
            ..Files::default()
        };
        Ok(Self(Arc::new(Inner::new(tokenizer, files)?)))
    }

    /// A tokenizer from what the two files would hold; `ends`: further ids that end a text.
    pub(super) fn from_parts(tokenizer: &[u8], config: &[u8], ends: &[u32]) -> Result<Self> {
        let files = Files {
            config: parse(config, "tokenizer_config.json".into())?,
            ..Files::default()
        };
        let mut inner = Inner::new(tokenizer, files)?;
        for id in ends {
            if !inner.eos_ids.contains(id) {
                inner.eos_ids.push(*id);
            }
        }
        Ok(Self(Arc::new(inner)))
    }

    /// The same tokenizer with another chat template, in Jinja.
    pub fn with_chat_template(&self, template: impl Into<String>) -> Self {
        let mut inner = (*self.0).clone();
        inner.chat_templates = ChatTemplates::One(template.into());
        Self(Arc::new(inner))
    }

    /// Writes `tokenizer.json` and a `tokenizer_config.json` with the special tokens and the chat templates, as transformers reads them.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<()> {
        let dir = dir.as_ref();
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::Io { path, source }
        };
        std::fs::create_dir_all(dir).map_err(io(dir))?;
        let refused = |error: String| Error::Tokenizer(format!("can't be written: {error}"));
        let text = caught(|| self.0.tokenizer.to_string(true)).map_err(refused)?;
        let path = dir.join("tokenizer.json");
        std::fs::write(&path, text).map_err(io(&path))?;
        let mut config = self.0.special.clone();
        config.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
        config.extend(
            self.0
                .chat_templates
                .in_config()
                .map(|template| ("chat_template".to_owned(), template)),
        );
        let path = dir.join("tokenizer_config.json");
        let text =
            serde_json::to_string_pretty(&config).map_err(|error| refused(error.to_string()))?;
        std::fs::write(&path, text + "\n").map_err(io(&path))
    }

    /// Where the files of the tokenizer contradict each other, and what was done.
    pub fn notes(&self) -> &[String] {
        &self.0.notes
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
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let words = Vlm::tiny(&Device::Cpu)?.llm_processor;
    /// let (with, without) = (words.encode("a red square")?, words.encode_plain("a red square")?);
    /// assert_eq!(with[1..], without[..]); // the first is the token that begins every text
    /// # Ok(()) }
    /// ```
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

    /// Ids of a text, each with the bytes that it stands for; `special`: with the tokenizer's own tokens in front, which stand for none.
    pub(crate) fn encode_located(
        &self,
        text: &str,
        special: bool,
    ) -> Result<Vec<(u32, Range<usize>)>> {
        let encoding = self.encoding(text, special)?;
        let offsets = encoding
            .get_offsets()
            .iter()
            .map(|&(start, end)| start..end);
        Ok(encoding.get_ids().iter().copied().zip(offsets).collect())
    }

    fn run(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        Ok(self.encoding(text, special)?.get_ids().to_vec())
    }

    fn encoding(&self, text: &str, special: bool) -> Result<Encoding> {
        caught(|| self.0.tokenizer.encode(text, special))
            .map_err(|e| Error::Tokenizer(format!("cannot encode {text:?}: {e}")))
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
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let words = Vlm::tiny(&Device::Cpu)?.llm_processor;
    /// let pieces: Vec<String> = words.encode_plain("a red square")?.into_iter().map(|id| words.token(id)).collect();
    /// assert_eq!(pieces, ["▁a", "▁red", "▁square"]); // ▁ stands for a space
    /// # Ok(()) }
    /// ```
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

    /// Whether it is the same one, not only one with the same words.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Number of entries, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.0.tokenizer.get_vocab_size(true)
    }

    /// The beginning-of-sequence id.
    pub fn bos_id(&self) -> Option<u32> {
        self.special_id("bos_token")
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

    /// The tokenizer as its `tokenizer.json` has it.
    pub(super) fn tokenizer_json(&self) -> Result<Value> {
        let text = caught(|| self.0.tokenizer.to_string(false)).map_err(Error::Tokenizer)?;
        serde_json::from_str(&text).map_err(|error| Error::Tokenizer(error.to_string()))
    }

    /// The id of a special token by its role, such as `unk_token`.
    pub(super) fn special_id(&self, role: &str) -> Option<u32> {
        let token = self.0.special.get(role).and_then(Value::as_str);
        token.and_then(|token| self.token_id(token))
    }

    /// A chat template by its name.
    pub(super) fn template(&self, name: &str) -> Option<&str> {
        self.0.chat_templates.named(name)
    }

    /// The chat template, in Jinja; the one called `default` where the model has several.
    pub fn chat_template(&self) -> Option<&str> {
        self.0.chat_templates.default()
    }

    /// The names of the model's chat templates, for [`ChatOptions::template`].
    pub fn chat_templates(&self) -> Vec<&str> {
        self.0.chat_templates.names()
    }

    /// The conversation as text, by the model's own template; `answer_next` adds the opening of the model's turn.
    ///
    /// # Errors
    /// When there is no template, or the template refuses the conversation.
    pub fn render_chat(&self, messages: &[ChatMessage], answer_next: bool) -> Result<String> {
        self.render_conversation(messages, &ChatOptions::new(answer_next))
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
        let options = ChatOptions::new(answer_next);
        chat::render(template, messages, &self.0.special, &options)
    }

    /// The conversation as transformers' `apply_chat_template` writes it, with tools, documents and whatever else the options
    /// give. Messages are objects with `role` and `content`, such as [`ChatMessage`], or JSON with further fields.
    ///
    /// # Errors
    /// When there is no such template, or the template refuses the conversation or does not end.
    pub fn render_conversation(
        &self,
        messages: &[impl Serialize],
        options: &ChatOptions,
    ) -> Result<String> {
        let template = self.0.chat_templates.choose(options)?;
        chat::render(template, messages, &self.0.special, options)
    }
}

impl Inner {
    fn new(tokenizer: &[u8], mut files: Files) -> Result<Self> {
        let parts = TokenizerParts::read(tokenizer)?;
        (files.tokenizer, files.padding) = (parts.added_tokens, parts.padding.pad_token);
        let mut tokenizer = read_tokenizer(tokenizer)?;
        // The library panics on some damaged files only when it first uses them.
        let special = caught(|| Ok::<_, String>(special_tokens::add(&mut tokenizer, &files)));
        let special = special.map_err(Error::Tokenizer)??;
        let id = |role: &str| {
            let token = special.by_role.get(role).and_then(Value::as_str);
            token.and_then(|token| tokenizer.token_to_id(token))
        };
        Ok(Self {
            chat_templates: ChatTemplates::from_config(&files.config["chat_template"])?,
            eos_ids: id("eos_token").into_iter().collect(),
            pad_id: id("pad_token"),
            notes: special.notes,
            special: special.by_role,
            tokenizer,
        })
    }
}

/// A file's bytes, if it is there.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match crate::files::bytes(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Io {
            path: path.to_path_buf(),
            source,
        }),
    }
}

/// What to do about a tokenizer in another format.
fn other_tokenizers(dir: &Path) -> String {
    let others = ["tokenizer.model", "vocab.json", "vocab.txt", "tekken.json"];
    match others.iter().find(|name| dir.join(name).is_file()) {
        Some(name) => format!(
            ", only {name}: write one with transformers, AutoTokenizer.from_pretrained(\"{0}\").save_pretrained(\"{0}\")",
            dir.display()
        ),
        None => String::new(),
    }
}

/// `chat_template.jinja`, and `additional_chat_templates/NAME.jinja`.
fn template_files(dir: &Path) -> Result<ChatTemplates> {
    let mut found = BTreeMap::new();
    let text = |bytes: Vec<u8>, path: &Path| {
        String::from_utf8(bytes)
            .map_err(|_| Error::Tokenizer(format!("{} is not UTF-8 text", path.display())))
    };
    let path = dir.join("chat_template.jinja");
    if let Some(bytes) = read(&path)? {
        found.insert("default".to_string(), text(bytes, &path)?);
    } else {
        // Of processors, before the former.
        let path = dir.join("chat_template.json");
        if let Some(bytes) = read(&path)? {
            let file: Value = parse(&bytes, path)?;
            let template = file["chat_template"].as_str().map(ToOwned::to_owned);
            found.extend(template.map(|template| ("default".to_string(), template)));
        }
    }
    let more = std::fs::read_dir(dir.join("additional_chat_templates"));
    for entry in more.into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|ending| ending == "jinja")
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
            && let Some(bytes) = read(&path)?
        {
            found.insert(name.to_string(), text(bytes, &path)?);
        }
    }
    Ok(ChatTemplates::from_files(found))
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8], path: PathBuf) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|source| Error::Json { path, source })
}

/// Parses a `tokenizer.json`.
fn read_tokenizer(bytes: &[u8]) -> Result<Tokenizer> {
    caught(|| Tokenizer::from_bytes(bytes)).map_err(unreadable)
}

/// What is asked of a `tokenizer.json` besides the tokenizer itself.
#[derive(Deserialize)]
struct TokenizerParts {
    #[serde(default)]
    added_tokens: Value,
    #[serde(default, deserialize_with = "null_is_default")]
    padding: Padding,
}

#[derive(Default, Deserialize)]
struct Padding {
    pad_token: Option<String>,
}

impl TokenizerParts {
    fn read(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))
    }
}

fn null_is_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn unreadable(why: String) -> Error {
    Error::Tokenizer(format!("tokenizer.json cannot be read: {why}"))
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

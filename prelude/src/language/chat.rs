//! Conversations as text, by a model's own chat template, as transformers' `apply_chat_template` renders them.
//!
//! ```text
//! messages, ChatOptions ─┐
//! special tokens ────────┼─ template, chosen by name ─ jinja ─▶ text
//! ```
//! What Python's Jinja has and ours lacks is made up for in `chat/jinja.rs`. A template is a program that comes with a model: it
//! gets so many steps and so much room, and then it is an error.

mod dict;
mod jinja;
mod methods;
mod python;
mod rewrite;

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// One turn of a conversation.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let messages = [ChatMessage::user("What is this?"), ChatMessage::assistant("a red square")];
/// let text = vlm.llm_processor.render_chat(&messages, false)?;
/// println!("{text}"); // with the marks that the language model was trained with
/// assert!(text.contains("<|user|>") && text.contains("a red square"));
/// # Ok(()) }
/// ```
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

/// What a template is given besides the messages; the fields are the arguments of transformers' `apply_chat_template`.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let template = "{{ messages[0].content }} in {{ tone }} words:".to_string();
/// let mut options = ChatOptions { template: Some(template), ..ChatOptions::new(true) };
/// options.variables.insert("tone".into(), "plain".into());
/// let text = vlm.llm_processor.render_conversation(&[ChatMessage::user("Describe it")], &options)?;
/// assert_eq!(text, "Describe it in plain words:");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatOptions {
    /// Adds the opening of the model's turn (`add_generation_prompt`).
    pub answer_next: bool,
    /// Functions that the model may call, each as its JSON schema.
    pub tools: Option<Vec<Value>>,
    /// Texts to answer from, most often objects with `title` and `text`.
    pub documents: Option<Vec<Value>>,
    /// One of the model's templates by name, or a template's text; absent: `tool_use` if there are tools and such a template,
    /// else `default`.
    pub template: Option<String>,
    /// Anything else that the template asks for, such as `enable_thinking`.
    pub variables: Map<String, Value>,
}

impl ChatOptions {
    /// Nothing but the messages; `answer_next` adds the opening of the model's turn.
    pub fn new(answer_next: bool) -> Self {
        Self {
            answer_next,
            ..Self::default()
        }
    }
}

/// The chat templates of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum ChatTemplates {
    #[default]
    None,
    One(String),
    Named(BTreeMap<String, String>),
}

impl ChatTemplates {
    /// The `chat_template` of a `tokenizer_config.json`: a text, or a list of named ones.
    pub fn from_config(value: &Value) -> Result<Self> {
        let bad = || {
            Error::Tokenizer(
                "tokenizer_config.json: chat_template is neither a text nor a list of objects with `name` and `template`"
                    .into(),
            )
        };
        match value {
            Value::Null => Ok(Self::None),
            Value::String(template) => Ok(Self::One(template.clone())),
            Value::Array(list) => {
                let named = list.iter().map(|entry| {
                    let text = |key: &str| entry[key].as_str().map(ToString::to_string);
                    Some((text("name")?, text("template")?))
                });
                Ok(Self::Named(named.collect::<Option<_>>().ok_or_else(bad)?))
            }
            Value::Object(named) => {
                let named = named
                    .iter()
                    .map(|(name, text)| Some((name.clone(), text.as_str()?.to_string())));
                Ok(Self::Named(named.collect::<Option<_>>().ok_or_else(bad)?))
            }
            _ => Err(bad()),
        }
    }

    /// As [`ChatTemplates::from_config`] reads them; `None` for none.
    pub fn in_config(&self) -> Option<Value> {
        match self {
            Self::None => None,
            Self::One(template) => Some(template.as_str().into()),
            Self::Named(all) => Some(Value::Array(
                all.iter()
                    .map(|(name, template)| serde_json::json!({"name": name, "template": template}))
                    .collect(),
            )),
        }
    }

    /// Templates that lie in files of their own, by name.
    pub fn from_files(mut files: BTreeMap<String, String>) -> Self {
        match (files.len(), files.remove("default")) {
            (1, Some(template)) => Self::One(template),
            (0, None) => Self::None,
            (_, default) => {
                files.extend(default.map(|template| ("default".to_string(), template)));
                Self::Named(files)
            }
        }
    }

    /// The template that is used where none is named.
    pub fn default(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::One(template) => Some(template),
            Self::Named(named) => named.get("default").map(String::as_str),
        }
    }

    pub fn named(&self, name: &str) -> Option<&str> {
        match self {
            Self::Named(named) => named.get(name).map(String::as_str),
            _ => self.default().filter(|_| name == "default"),
        }
    }

    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::None => Vec::new(),
            Self::One(_) => vec!["default"],
            Self::Named(named) => named.keys().map(String::as_str).collect(),
        }
    }

    /// The template that these options mean.
    pub fn choose<'a>(&'a self, options: &'a ChatOptions) -> Result<&'a str> {
        let refuse = |message: String| Err(Error::Tokenizer(message));
        match (self, options.template.as_deref()) {
            (Self::Named(named), Some(name)) if named.contains_key(name) => Ok(&named[name]),
            // A text has blocks or places for values; a bare word is a name that is not there.
            (_, Some(template)) if template.contains('{') => Ok(template),
            (_, Some(name)) => refuse(format!(
                "there is no chat template {name:?}; the model has {}",
                match self.names() {
                    names if names.is_empty() => "none".to_string(),
                    names => names.join(", "),
                }
            )),
            (Self::One(template), None) => Ok(template),
            (Self::Named(named), None) => {
                let tools = named.get("tool_use").filter(|_| options.tools.is_some());
                match tools.or_else(|| named.get("default")) {
                    Some(template) => Ok(template),
                    None => refuse(format!(
                        "the model has several chat templates and no default: name one of {} in ChatOptions::template",
                        self.names().join(", ")
                    )),
                }
            }
            (Self::None, None) => refuse(
                "neither tokenizer_config.json nor chat_template.jinja gives a chat template: use render_chat_with".into(),
            ),
        }
    }
}

/// The conversation as text; `special` are the special tokens by their role, such as `bos_token`.
pub(super) fn render(
    template: &str,
    messages: &[impl Serialize],
    special: &Map<String, Value>,
    options: &ChatOptions,
) -> Result<String> {
    let failed = |what: String| Error::Tokenizer(format!("chat template: {what}"));
    let messages = serde_json::to_value(messages)
        .map_err(|error| failed(format!("a message is not JSON: {error}")))?;
    let mut context = special.clone();
    context.extend(options.variables.clone());
    context.insert("messages".into(), messages);
    context.insert(
        "tools".into(),
        serde_json::to_value(&options.tools).unwrap_or_default(),
    );
    context.insert(
        "documents".into(),
        serde_json::to_value(&options.documents).unwrap_or_default(),
    );
    context.insert("add_generation_prompt".into(), options.answer_next.into());
    jinja::render(template, &context).map_err(|error| match error {
        jinja::Failed::Template(what) => failed(what),
        jinja::Failed::Interrupted => Error::Interrupted,
    })
}

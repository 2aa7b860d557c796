//! Special tokens as transformers adds them to a fast tokenizer: those of `tokenizer.json`, and those that only
//! `tokenizer_config.json`, `special_tokens_map.json` or `added_tokens.json` names.
//!
//! ```text
//! tokenizer_config.json: added_tokens_decoder ────────── or, where it has none ─┐
//! special_tokens_map.json, added_tokens.json, added_tokens of tokenizer.json ◀──┘
//!   └─▶ by id, then those named by role ─▶ Tokenizer::add_tokens, which gives each new one the next free id
//! ```
//! A tokenizer's class decides which roles have a token by default, and whether `add_bos_token` and `add_eos_token` count.

use crate::{Error, Result};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, PreTokenizerWrapper, Tokenizer};

/// The roles of single tokens, in transformers' order.
const ROLES: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];
/// Further tokens without a role.
const ADDITIONAL: &str = "additional_special_tokens";

/// What the files of a folder say, as JSON; `Null` for one that is not there.
#[derive(Default)]
pub struct Files {
    /// `added_tokens` of `tokenizer.json`.
    pub tokenizer: Value,
    /// The `pad_token` of its padding.
    pub padding: Option<String>,
    /// `tokenizer_config.json`.
    pub config: Value,
    /// `special_tokens_map.json`.
    pub map: Value,
    /// `added_tokens.json`.
    pub added: Value,
    /// `model_type` of `config.json`, which stands for a class where `tokenizer_config.json` names none.
    pub model_type: String,
}

/// What came of them.
pub struct Special {
    /// The token of each role, and `additional_special_tokens`: what a chat template is given.
    pub by_role: Map<String, Value>,
    /// Where the files contradict each other, and what was done.
    pub notes: Vec<String>,
}

/// The tokens that a class has where the files name none, and whether it puts them around a text.
struct Class {
    defaults: &'static [(&'static str, &'static str)],
    /// The defaults of `add_bos_token` and `add_eos_token`, where the class looks at them.
    adds: Option<(bool, bool)>,
}

/// The classes of language models whose fast tokenizers do more than read `tokenizer.json`.
fn class(name: &str) -> Class {
    const LLAMA: &[(&str, &str)] = &[
        ("bos_token", "<s>"),
        ("eos_token", "</s>"),
        ("unk_token", "<unk>"),
    ];
    const GEMMA: &[(&str, &str)] = &[
        ("bos_token", "<bos>"),
        ("eos_token", "<eos>"),
        ("unk_token", "<unk>"),
        ("pad_token", "<pad>"),
    ];
    const COHERE: &[(&str, &str)] = &[
        ("bos_token", "<BOS_TOKEN>"),
        ("eos_token", "<|END_OF_TURN_TOKEN|>"),
        ("unk_token", "<UNK>"),
    ];
    const GPT: &[(&str, &str)] = &[
        ("bos_token", "<|endoftext|>"),
        ("eos_token", "<|endoftext|>"),
        ("unk_token", "<|endoftext|>"),
    ];
    const QWEN: &[(&str, &str)] = &[
        ("eos_token", "<|endoftext|>"),
        ("unk_token", "<|endoftext|>"),
        ("pad_token", "<|endoftext|>"),
    ];
    let (defaults, adds) = match name.strip_suffix("Fast").unwrap_or(name) {
        "LlamaTokenizer" | "CodeLlamaTokenizer" => (LLAMA, Some((true, false))),
        "GemmaTokenizer" => (GEMMA, Some((true, false))),
        "CohereTokenizer" => (COHERE, Some((true, false))),
        "GPTNeoXTokenizer" => (GPT, Some((false, false))),
        "GPT2Tokenizer" => (GPT, None),
        "Qwen2Tokenizer" => (QWEN, None),
        _ => (&[][..], None),
    };
    Class { defaults, adds }
}

/// A token as a file writes it: its text alone, or with its properties.
#[derive(Clone, Debug, PartialEq)]
enum Written {
    Text(String),
    Token(AddedToken),
}

impl Written {
    /// `None` for `null`.
    fn read(value: &Value, place: &str) -> Result<Option<Self>> {
        match value {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(Self::Text(text.clone()))),
            Value::Object(_) => Ok(Some(Self::Token(token(value, place)?))),
            other => Err(Error::Tokenizer(format!(
                "{place} is {other}, which is no token"
            ))),
        }
    }

    fn content(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Token(token) => &token.content,
        }
    }
}

/// A token with its properties; those that are absent have transformers' defaults.
fn token(value: &Value, place: &str) -> Result<AddedToken> {
    let bad = |what: &str| Error::Tokenizer(format!("{place} {what}"));
    let content = value["content"]
        .as_str()
        .ok_or_else(|| bad("has no text `content`"))?;
    let flag = |key: &str, default: bool| match &value[key] {
        Value::Null => Ok(default),
        Value::Bool(flag) => Ok(*flag),
        other => Err(bad(&format!(
            "has {key} {other}, which is not true or false"
        ))),
    };
    let special = flag("special", false)?;
    Ok(AddedToken::from(content, special)
        .single_word(flag("single_word", false)?)
        .lstrip(flag("lstrip", false)?)
        .rstrip(flag("rstrip", false)?)
        .normalized(flag("normalized", !special)?))
}

/// Adds to `tokenizer` what the files name, and has it put around a text what its class does.
pub fn add(tokenizer: &mut Tokenizer, files: &Files) -> Result<Special> {
    let mut notes = Vec::new();
    let by_id = tokens_by_id(files, &mut notes)?;
    let mut roles = roles(files)?;
    let known: BTreeMap<&str, &AddedToken> = by_id
        .values()
        .map(|token| (token.content.as_str(), token))
        .collect();
    for (role, written) in &mut roles {
        if role.as_str() != ADDITIONAL
            && let Some(token) = known.get(written[0].content())
        {
            written[0] = Written::Token((*token).clone());
        }
    }

    let special: BTreeSet<String> = roles
        .iter()
        .flat_map(|(_, tokens)| tokens)
        .map(|written| written.content().to_string())
        .collect();
    let mut new: Vec<AddedToken> = by_id.values().cloned().collect();
    let there: BTreeSet<String> = tokenizer
        .get_added_tokens_decoder()
        .into_values()
        .map(|token| token.content)
        .chain(new.iter().map(|token| token.content.clone()))
        .collect();
    for (_, tokens) in &roles {
        for written in tokens {
            match written {
                Written::Text(text) if there.contains(text) => {}
                Written::Text(text) => new.push(AddedToken::from(text.as_str(), true)),
                Written::Token(token) if new.contains(token) => {}
                Written::Token(token) => new.push(token.clone()),
            }
        }
    }
    for token in &mut new {
        token.special |= special.contains(&token.content);
    }
    tokenizer
        .add_tokens(new)
        .map_err(|e| Error::Tokenizer(format!("its special tokens cannot be added: {e}")))?;

    for (id, token) in &by_id {
        match tokenizer.token_to_id(&token.content) {
            Some(found) if u64::from(found) == *id => {}
            found => notes.push(format!(
                "the token {:?} has the id {id} by name and {} in the tokenizer, which counts",
                token.content,
                found.map_or("none".to_string(), |found| found.to_string())
            )),
        }
    }
    let by_role = roles.into_iter().map(|(role, tokens)| {
        let mut texts = tokens.iter().map(|written| Value::from(written.content()));
        let value = match role.as_str() {
            ADDITIONAL => texts.collect(),
            _ => texts.next().unwrap_or_default(),
        };
        (role, value)
    });
    let by_role: Map<String, Value> = by_role.collect();
    settings(tokenizer, files, &by_role)?;
    Ok(Special { by_role, notes })
}

/// `added_tokens_decoder`, or what older files have in its place.
fn tokens_by_id(files: &Files, notes: &mut Vec<String>) -> Result<BTreeMap<u64, AddedToken>> {
    let mut by_id = BTreeMap::new();
    let bad = |what: String| Err(Error::Tokenizer(what));
    match &files.config["added_tokens_decoder"] {
        Value::Object(decoder) => {
            for (key, value) in decoder {
                let place = format!("tokenizer_config.json: added_tokens_decoder's {key:?}");
                let Ok(id) = key.parse() else {
                    return bad(format!("{place} is not an id"));
                };
                by_id.insert(id, token(value, &place)?);
            }
            for (name, value) in [
                ("special_tokens_map.json", &files.map),
                ("added_tokens.json", &files.added),
            ] {
                note_ignored(name, value, files, &by_id, notes);
            }
            return Ok(by_id);
        }
        Value::Null => {}
        other => {
            return bad(format!(
                "tokenizer_config.json: added_tokens_decoder is {other}"
            ));
        }
    }
    let special: BTreeSet<String> = roles(files)?
        .iter()
        .flat_map(|(_, tokens)| tokens)
        .map(|written| written.content().to_string())
        .collect();
    match &files.added {
        Value::Object(added) => {
            for (text, id) in added {
                let Some(id) = id.as_u64() else {
                    return bad(format!("added_tokens.json gives {text:?} the id {id}"));
                };
                by_id.insert(id, AddedToken::from(text.as_str(), special.contains(text)));
            }
        }
        Value::Null => {}
        _ => return bad("added_tokens.json is not an object of tokens and ids".into()),
    }
    for value in files.tokenizer.as_array().into_iter().flatten() {
        if let Some(id) = value["id"].as_u64() {
            by_id.insert(
                id,
                token(value, "a token of tokenizer.json's added_tokens")?,
            );
        }
    }
    Ok(by_id)
}

/// Says which tokens of an older file go unread beside `added_tokens_decoder`.
fn note_ignored(
    name: &str,
    value: &Value,
    files: &Files,
    by_id: &BTreeMap<u64, AddedToken>,
    notes: &mut Vec<String>,
) {
    let known: BTreeSet<&str> = by_id.values().map(|token| token.content.as_str()).collect();
    for (key, value) in value.as_object().into_iter().flatten() {
        let differs = match value {
            // By id.
            Value::Number(id) => id
                .as_u64()
                .is_some_and(|id| by_id.get(&id).is_none_or(|token| token.content != *key)),
            Value::Array(list) => list
                .iter()
                .filter_map(text_of)
                .any(|text| !known.contains(text.as_str())),
            value => text_of(value).is_some_and(|text| Some(text) != text_of(&files.config[key])),
        };
        if differs {
            notes.push(format!(
                "{name} says {key:?}: {value}, which is not read: tokenizer_config.json has added_tokens_decoder, which counts"
            ));
        }
    }
}

/// The text of a token, however it is written.
fn text_of(value: &Value) -> Option<String> {
    let text = value.as_str().or_else(|| value["content"].as_str())?;
    Some(text.to_string())
}

/// The tokens that have a role, in transformers' order: by the files, else by the tokenizer's class.
fn roles(files: &Files) -> Result<Vec<(String, Vec<Written>)>> {
    let legacy = files.config["added_tokens_decoder"].is_null();
    let class = class(class_name(files));
    let mut roles = Vec::new();
    for role in ROLES {
        let place = |file: &str| format!("{file}: {role}");
        let in_map = match &files.map[role] {
            Value::Object(_) if legacy => {
                let mut token = token(&files.map[role], &place("special_tokens_map.json"))?;
                token.special = true;
                if files.map[role]["normalized"].is_null() {
                    token.normalized = false;
                }
                Some(Written::Token(token))
            }
            other if legacy => Written::read(other, &place("special_tokens_map.json"))?,
            _ => None,
        };
        let default = || {
            let found = class.defaults.iter().find(|(name, _)| *name == role);
            found.map(|(_, text)| Written::Text((*text).to_string()))
        };
        let named = match (in_map, files.config.get(role)) {
            (Some(written), _) => Some(written),
            (None, Some(value)) => Written::read(value, &place("tokenizer_config.json"))?,
            (None, None) => default().or_else(|| {
                let padding = files.padding.clone().filter(|_| role == "pad_token");
                padding.map(Written::Text)
            }),
        };
        roles.extend(named.map(|written| (role.to_string(), vec![written])));
    }
    let mut additional: Vec<Written> = Vec::new();
    for (name, file) in [
        ("tokenizer_config.json", &files.config),
        ("special_tokens_map.json", &files.map),
    ] {
        if name == "special_tokens_map.json" && !legacy {
            continue;
        }
        match &file[ADDITIONAL] {
            Value::Null => {}
            Value::Array(list) => {
                for value in list {
                    let written = Written::read(value, &format!("{name}: {ADDITIONAL}"))?;
                    let written = match written {
                        Some(Written::Token(token)) => Written::Token(token.special(true)),
                        Some(text) => text,
                        None => continue,
                    };
                    let known = |other: &Written| other.content() == written.content();
                    if name == "tokenizer_config.json" || !additional.iter().any(known) {
                        additional.push(written);
                    }
                }
            }
            other => {
                return Err(Error::Tokenizer(format!(
                    "{name}: {ADDITIONAL} is {other}, which is not a list of tokens"
                )));
            }
        }
    }
    if !additional.is_empty() {
        roles.push((ADDITIONAL.to_string(), additional));
    }
    Ok(roles)
}

/// transformers' class of the tokenizer.
fn class_name(files: &Files) -> &str {
    match files.config["tokenizer_class"].as_str() {
        Some(name) => name,
        None if files.model_type == "phi3" => "LlamaTokenizer",
        None => "",
    }
}

/// What transformers sets besides tokens: no padding or cutting, what is put around a text, how special tokens in a text are read.
fn settings(tokenizer: &mut Tokenizer, files: &Files, roles: &Map<String, Value>) -> Result<()> {
    let flag = |key: &str, default: bool| match files.config.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => Err(Error::Tokenizer(format!(
            "tokenizer_config.json: {key} is {other}, which is not true or false"
        ))),
    };
    tokenizer.with_padding(None);
    tokenizer
        .with_truncation(None)
        .map_err(|e| Error::Tokenizer(e.to_string()))?;
    tokenizer.set_encode_special_tokens(flag("split_special_tokens", false)?);
    if !files.config.is_null()
        && let Some(PreTokenizerWrapper::ByteLevel(bytes)) = tokenizer.get_pre_tokenizer()
    {
        let mut bytes = *bytes;
        bytes.add_prefix_space = flag("add_prefix_space", false)?;
        tokenizer.with_pre_tokenizer(Some(bytes));
    }
    let Some((bos, eos)) = class(class_name(files)).adds else {
        return Ok(());
    };
    let (bos, eos) = (flag("add_bos_token", bos)?, flag("add_eos_token", eos)?);
    let around = |key: &str, role: &str, wanted: bool| -> Result<Option<(String, u32)>> {
        if !wanted {
            return Ok(None);
        }
        let text = roles.get(role).and_then(Value::as_str);
        let found = text.and_then(|text| Some((text.to_string(), tokenizer.token_to_id(text)?)));
        found.map(Some).ok_or_else(|| {
            Error::Tokenizer(format!(
                "tokenizer_config.json: {key} is true, but there is no {role}"
            ))
        })
    };
    let bos = around("add_bos_token", "bos_token", bos)?;
    let eos = around("add_eos_token", "eos_token", eos)?;
    let one = |sequence: &str, kind: usize| {
        let mut pieces = Vec::new();
        pieces.extend(bos.as_ref().map(|(text, _)| format!("{text}:{kind}")));
        pieces.push(format!("{sequence}:{kind}"));
        pieces.extend(eos.as_ref().map(|(text, _)| format!("{text}:{kind}")));
        pieces.join(" ")
    };
    let (single, pair) = (one("$A", 0), one("$B", 1));
    let refuse = |what: String| {
        Error::Tokenizer(format!(
            "its special tokens cannot be put around a text: {what}"
        ))
    };
    let template = TemplateProcessing::builder()
        .try_single(single.as_str())
        .map_err(|e| refuse(e.to_string()))?
        .try_pair(format!("{single} {pair}"))
        .map_err(|e| refuse(e.to_string()))?
        .special_tokens(bos.into_iter().chain(eos).collect::<Vec<_>>())
        .build()
        .map_err(|e| refuse(e.to_string()))?;
    tokenizer.with_post_processor(Some(template));
    Ok(())
}

//! The tokenizer in a GGUF file's metadata, as the `tokenizer.json` and `tokenizer_config.json` that it would have in a folder.
//!
//! ```text
//! gpt2   tokens, merges, `pre` ─▶ BPE on bytes, cut by the expression that `pre` names
//! llama  tokens, scores        ─▶ BPE whose merges are in the order of the scores, unknown characters as bytes
//! ```

use super::metadata::{Asked, Metadata};
use crate::language::LlmProcessor;
use crate::{Error, Result};
use serde_json::{Map, Value, json};
use std::collections::{BTreeSet, HashMap};

/// Keys below `tokenizer.` without effect: roles of tokens that nothing here uses, and counts that the lists themselves tell.
const WITHOUT_EFFECT: [&str; 16] = [
    "token_type_count",
    "seperator_token_id",
    "mask_token_id",
    "cls_token_id",
    "prefix_token_id",
    "suffix_token_id",
    "middle_token_id",
    "fim_pre_token_id",
    "fim_suf_token_id",
    "fim_mid_token_id",
    "fim_pad_token_id",
    "fim_rep_token_id",
    "fim_sep_token_id",
    "add_sep_token",
    "eom_token_id",
    "remove_extra_whitespaces",
];

/// How texts are cut before merging, by llama.cpp's names.
const GPT2: [&str; 3] = ["gpt-2", "phi-2", "default"];
const DIGITS: [&str; 4] = ["smollm", "starcoder", "refact", "codeshell"];
const LLAMA3: [&str; 5] = ["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"];
const QWEN2: [&str; 2] = ["qwen2", "deepseek-r1-qwen"];

const LLAMA3_CUT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2_CUT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

pub(super) fn read(metadata: &Metadata) -> Result<LlmProcessor> {
    let asked = metadata.asked();
    let vocabulary = Vocabulary::read(&asked)?;
    let (tokenizer, add_bos) = match vocabulary.model {
        "gpt2" => vocabulary.gpt2(&asked)?,
        "llama" => vocabulary.llama(&asked)?,
        "none" => return Err(Error::Tokenizer("the file holds no vocabulary".into())),
        other => {
            return Err(Error::Tokenizer(format!(
                "tokenizer.ggml.model is {other}, gpt2 and llama can be read"
            )));
        }
    };
    let (tokenizer, config, ends) = vocabulary.finish(&asked, tokenizer, add_bos)?;
    let without: Vec<String> = WITHOUT_EFFECT
        .iter()
        .map(|key| format!("tokenizer.ggml.{key}"))
        .collect();
    asked.known(&without.iter().map(String::as_str).collect::<Vec<_>>());
    // The same once more, as a whole file.
    asked.known(&["tokenizer.huggingface.json"]);
    asked.check_all_asked("tokenizer.")?;
    LlmProcessor::from_parts(
        tokenizer.to_string().as_bytes(),
        config.to_string().as_bytes(),
        &ends,
    )
}

struct Vocabulary<'a> {
    model: &'a str,
    tokens: Vec<&'a str>,
    /// llama.cpp's numbers: 1 normal, 2 unknown, 3 control, 4 of the user, 5 unused, 6 byte.
    kinds: Vec<u64>,
    ids: HashMap<&'a str, usize>,
}

const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER: u64 = 4;
const BYTE: u64 = 6;

impl<'a> Vocabulary<'a> {
    fn read(asked: &Asked<'a>) -> Result<Self> {
        let lacks = |key: &str| Error::Tokenizer(format!("the file lacks {key}"));
        let key = "tokenizer.ggml.model";
        let model = asked.text(key)?.ok_or_else(|| lacks(key))?;
        let key = "tokenizer.ggml.tokens";
        let tokens = match model {
            "none" => Vec::new(),
            _ => asked.texts(key)?.ok_or_else(|| lacks(key))?,
        };
        let kinds = asked.numbers("tokenizer.ggml.token_type")?;
        let kinds = kinds.unwrap_or_else(|| vec![1; tokens.len()]);
        if kinds.len() != tokens.len() {
            return Err(Error::Tokenizer(format!(
                "tokenizer.ggml.token_type has {} entries for {} tokens",
                kinds.len(),
                tokens.len()
            )));
        }
        let mut ids = HashMap::with_capacity(tokens.len());
        for (id, token) in tokens.iter().enumerate() {
            if ids.insert(*token, id).is_some() {
                return Err(Error::Tokenizer(format!(
                    "tokenizer.ggml.tokens has {token:?} twice"
                )));
            }
        }
        Ok(Self {
            model,
            tokens,
            kinds,
            ids,
        })
    }

    fn vocab(&self) -> Map<String, Value> {
        let entries = self.tokens.iter().enumerate();
        entries
            .map(|(id, token)| (token.to_string(), json!(id)))
            .collect()
    }

    /// BPE on bytes, and whether texts begin with a token unless the file says otherwise.
    fn gpt2(&self, asked: &Asked<'a>) -> Result<(Map<String, Value>, bool)> {
        let key = "tokenizer.ggml.merges";
        let merges = asked.texts(key)?.unwrap_or_default();
        // An empty list is not written; then every token must be there from the beginning.
        let mut normal = self
            .tokens
            .iter()
            .zip(&self.kinds)
            .filter(|(_, kind)| **kind == 1);
        if merges.is_empty() && normal.any(|(token, _)| token.chars().count() > 1) {
            return Err(Error::Tokenizer(format!("the file lacks {key}")));
        }
        let merges = merges.iter().map(|merge| {
            // The second part may not hold a space, but begins behind the first.
            let pair = merge.split_once(' ');
            let known = pair.filter(|(a, b)| self.ids.contains_key(a) && self.ids.contains_key(b));
            known.map(|(a, b)| json!([a, b])).ok_or_else(|| {
                Error::Tokenizer(format!("{key} has {merge:?}, which is no pair of tokens"))
            })
        });
        let merges = merges.collect::<Result<Vec<_>>>()?;
        let pre = asked.text("tokenizer.ggml.pre")?.unwrap_or("default");
        let bytes = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex});
        let cut = |pattern: &str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        let sequence =
            |first: Value, then: Value| json!({"type": "Sequence", "pretokenizers": [first, then]});
        let (cutting, normalizer, whole_words) = if GPT2.contains(&pre) {
            (bytes(true), Value::Null, false)
        } else if DIGITS.contains(&pre) {
            let digits = json!({"type": "Digits", "individual_digits": true});
            (sequence(digits, bytes(true)), Value::Null, false)
        } else if LLAMA3.contains(&pre) {
            (sequence(cut(LLAMA3_CUT), bytes(false)), Value::Null, true)
        } else if QWEN2.contains(&pre) {
            let normalizer = json!({"type": "NFC"});
            (sequence(cut(QWEN2_CUT), bytes(false)), normalizer, false)
        } else {
            let known = [&GPT2[..], &DIGITS, &LLAMA3, &QWEN2].concat();
            return Err(Error::Tokenizer(format!(
                "tokenizer.ggml.pre is {pre}, which is not known; there are {}",
                known.join(", ")
            )));
        };
        // gpt2 files say this without meaning it.
        asked.known(&["tokenizer.ggml.add_space_prefix", "tokenizer.ggml.scores"]);
        let model = json!({"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": whole_words,
            "vocab": self.vocab(), "merges": merges});
        let mut all = Map::new();
        all.insert("normalizer".into(), normalizer);
        all.insert("pre_tokenizer".into(), cutting);
        all.insert("decoder".into(), bytes(true));
        all.insert("model".into(), model);
        Ok((all, whole_words))
    }

    /// SentencePiece's BPE.
    fn llama(&self, asked: &Asked<'a>) -> Result<(Map<String, Value>, bool)> {
        let key = "tokenizer.ggml.scores";
        let scores = asked.floats(key)?;
        let scores = scores.ok_or_else(|| Error::Tokenizer(format!("the file lacks {key}")))?;
        if scores.len() != self.tokens.len() || scores.iter().any(|score| score.is_nan()) {
            return Err(Error::Tokenizer(format!(
                "{key} are {} numbers for {} tokens, or not numbers at all",
                scores.len(),
                self.tokens.len()
            )));
        }
        // The kind of cutting that other vocabularies name; this one has one only.
        if let Some(pre) = asked
            .text("tokenizer.ggml.pre")?
            .filter(|pre| *pre != "default")
        {
            return Err(Error::Tokenizer(format!(
                "tokenizer.ggml.pre is {pre}, which llama vocabularies have not"
            )));
        }
        let prefix = asked
            .flag("tokenizer.ggml.add_space_prefix")?
            .unwrap_or(true);
        let space = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
        let normalizer = match prefix {
            true => {
                json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, space]})
            }
            false => space,
        };
        let mut decoders = vec![
            json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if prefix {
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        let bytes = self.kinds.contains(&BYTE);
        let unknown = self.kinds.iter().position(|kind| *kind == UNKNOWN);
        let unknown = unknown.map(|id| self.tokens[id]);
        let model = json!({"type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": bytes, "ignore_merges": false,
            "vocab": self.vocab(), "merges": self.merges(&scores)});
        let mut all = Map::new();
        all.insert("normalizer".into(), normalizer);
        all.insert("pre_tokenizer".into(), Value::Null);
        let decoder = json!({"type": "Sequence", "decoders": decoders});
        all.insert("decoder".into(), decoder);
        all.insert("model".into(), model);
        Ok((all, true))
    }

    /// Every way to make a token of two others, best score first.
    fn merges(&self, scores: &[f64]) -> Vec<[&'a str; 2]> {
        let mut merges: Vec<(f64, usize, usize, [&str; 2])> = Vec::new();
        // Longer tokens are special ones; each cut of one is looked at.
        const LONGEST: usize = 256;
        for (id, token) in self.tokens.iter().enumerate() {
            if !matches!(self.kinds[id], 1 | 5) || token.len() > LONGEST {
                continue;
            }
            for (at, _) in token.char_indices().skip(1) {
                let (a, b) = token.split_at(at);
                if let (Some(first), Some(second)) = (self.ids.get(a), self.ids.get(b)) {
                    merges.push((scores[id], *first, *second, [a, b]));
                }
            }
        }
        merges.sort_by(|x, y| y.0.total_cmp(&x.0).then((x.1, x.2).cmp(&(y.1, y.2))));
        merges.into_iter().map(|(.., pair)| pair).collect()
    }

    /// Special tokens, what is put around a text, and the chat template; the ids that end a text last.
    fn finish(
        &self,
        asked: &Asked<'a>,
        mut tokenizer: Map<String, Value>,
        add_bos: bool,
    ) -> Result<(Value, Value, Vec<u32>)> {
        let token = |role: &str| -> Result<Option<(u32, &str)>> {
            let key = format!("tokenizer.ggml.{role}_token_id");
            let Some(id) = asked.number(&key)? else {
                return Ok(None);
            };
            // llama.cpp writes −1 as a large number where there is none.
            if id == u64::from(u32::MAX) {
                return Ok(None);
            }
            let text = usize::try_from(id).ok().and_then(|id| self.tokens.get(id));
            let text = text.ok_or_else(|| {
                Error::Tokenizer(format!(
                    "{key} is {id}, there are {} tokens",
                    self.tokens.len()
                ))
            })?;
            Ok(Some((id as u32, text)))
        };
        let (bos, eos, unknown, padding) = (
            token("bos")?,
            token("eos")?,
            token("unknown")?,
            token("padding")?,
        );
        let mut ends = BTreeSet::new();
        for role in ["eos", "eot"] {
            ends.extend(token(role)?.map(|(id, _)| id));
        }
        let special = |kind: u64| matches!(kind, UNKNOWN | CONTROL);
        let added = self.kinds.iter().zip(&self.tokens).enumerate();
        let added = added.filter(|(_, (kind, _))| special(**kind) || **kind == USER);
        let added: Vec<Value> = added
            .map(|(id, (kind, text))| {
                json!({"id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false,
                    "normalized": false, "special": special(*kind)})
            })
            .collect();
        tokenizer.insert("version".into(), json!("1.0"));
        tokenizer.insert("added_tokens".into(), added.into());
        let add_bos = asked
            .flag("tokenizer.ggml.add_bos_token")?
            .unwrap_or(add_bos);
        let add_eos = asked.flag("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
        let around = around(bos.filter(|_| add_bos), eos.filter(|_| add_eos));
        tokenizer.insert("post_processor".into(), around);
        let text = |token: Option<(u32, &str)>| json!(token.map(|(_, text)| text));
        let mut config = json!({"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false,
            "bos_token": text(bos), "eos_token": text(eos), "unk_token": text(unknown), "pad_token": text(padding)});
        if let Some(templates) = templates(asked)? {
            config["chat_template"] = templates;
        }
        Ok((Value::Object(tokenizer), config, ends.into_iter().collect()))
    }
}

/// What is put around a text: the tokens that begin and end it.
fn around(bos: Option<(u32, &str)>, eos: Option<(u32, &str)>) -> Value {
    if bos.is_none() && eos.is_none() {
        return Value::Null;
    }
    let piece = |token: Option<(u32, &str)>, kind: u32| {
        token.map(|(_, text)| json!({"SpecialToken": {"id": text, "type_id": kind}}))
    };
    let text = |id: &str, kind: u32| Some(json!({"Sequence": {"id": id, "type_id": kind}}));
    let first = [piece(bos, 0), text("A", 0), piece(eos, 0)];
    let second = [piece(bos, 1), text("B", 1), piece(eos, 1)];
    let list = |pieces: &[Option<Value>]| pieces.iter().flatten().cloned().collect::<Vec<_>>();
    let tokens = bos.iter().chain(&eos).map(|(id, text)| {
        let entry = json!({"id": text, "ids": [id], "tokens": [text]});
        (text.to_string(), entry)
    });
    json!({"type": "TemplateProcessing", "single": list(&first), "pair": list(&[first, second].concat()),
        "special_tokens": tokens.collect::<Map<_, _>>()})
}

/// `tokenizer.chat_template`, and further ones by name.
fn templates(asked: &Asked) -> Result<Option<Value>> {
    const KEY: &str = "tokenizer.chat_template";
    let default = asked.text(KEY)?;
    let names = asked.texts("tokenizer.chat_templates")?.unwrap_or_default();
    if names.is_empty() {
        return Ok(default.map(Value::from));
    }
    let mut all = Vec::new();
    all.extend(default.map(|text| json!({"name": "default", "template": text})));
    for name in names {
        let key = format!("{KEY}.{name}");
        let text = asked.text(&key)?;
        let text = text.ok_or_else(|| Error::Tokenizer(format!("the file lacks {key}")))?;
        all.push(json!({"name": name, "template": text}));
    }
    Ok(Some(all.into()))
}

//! A tokenizer as the keys of a GGUF file, the way back from `tokenizer`.
//!
//! ```text
//! LlmProcessor ─ tokens, kinds, merges or scores ─ for each way of cutting that the format knows ─▶ keys
//!                            └────────── the same ids for hard texts? ◀── what a reader makes of them ──┘
//! ```
//! A file names how texts are cut, and can't describe it. So each way is tried, and the one is written that gives the ids of the
//! tokenizer itself; if none does, the tokenizer is refused.

use super::tokenizer;
use super::writer::{Keys, Written};
use crate::language::LlmProcessor;
use crate::{Error, Result};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// The ways of cutting texts for BPE on bytes, one name of each that a reader knows.
const CUTS: [&str; 4] = ["gpt-2", "smollm", "llama-bpe", "qwen2"];

/// What cutting and merging differ in.
const TEXTS: [&str; 24] = [
    "The capital of France is",
    " a space in front",
    "  two  red   circles\n\tand 1234 squares!",
    "naïve café — 你好 🙂 Ångström",
    "don't WON'T it's we'LL",
    "",
    " ",
    "\n\n\nb   c\r\n",
    "x = 3.14159; y=(a+b)*[c];",
    "https://example.org/a_b-c?d=e&f=1",
    "12345678901 2024-11-29 0.5%",
    "ALLCAPS camelCase snake_case",
    "Привет, мир! Как дела?",
    "日本語のテキスト、한국어",
    "العربية نص",
    "a\u{301} e\u{308} ﬁ Ⅷ ½",
    "tabs\tand\ttabs",
    "…“quoted” ‘single’ –—",
    "trailing space ",
    "a red circle and two blue squares",
    "🇫🇷👩‍👩‍👧",
    "word\u{a0}word\u{200b}word",
    "!!!???...",
    "▁already ▁marked",
];

/// Added tokens that are tried within a text.
const TRIED: usize = 64;

/// What texts to try are put together from.
const PIECES: [&str; 32] = [
    "a", "B", "the", "Word", "é", "e\u{301}", "ß", "5", "12", "3456", " ", " ", "  ", "\n", "\r\n",
    "\t", ".", ",", "'s", "'LL", "(", "--", "_", "$", "你", "한", "🙂", "½", "\u{a0}", "\u{200d}",
    "…", "п",
];
/// How many texts are put together, each of so many pieces at most.
const DRAWN: (usize, usize) = (500, 9);

/// Keys of a tokenizer for a model whose table has `rows` rows; what the file can't tell is noted.
///
/// # Errors
/// `Tokenizer` for one of another kind than BPE, with more tokens than rows, or whose ids no way of cutting gives.
pub(super) fn of(processor: &LlmProcessor, rows: usize, notes: &mut Vec<String>) -> Result<Keys> {
    let words = Words::read(processor, rows)?;
    let ways: Vec<Way> = match words.on_bytes {
        true => CUTS.map(Way::Bytes).to_vec(),
        false => vec![Way::Pieces { space: true }, Way::Pieces { space: false }],
    };
    let mut nearest: Option<(usize, String)> = None;
    for way in ways {
        let keys = words.keys(processor, way)?;
        let read = match tokenizer::read(&keys.as_read()?) {
            Ok(read) => read,
            Err(error) => {
                nearest.get_or_insert((0, error.to_string()));
                continue;
            }
        };
        match compare(processor, &read, &words.added) {
            Ok(()) => {
                words.note(processor, &read, notes);
                return Ok(keys);
            }
            Err((agreed, text)) => {
                if nearest.as_ref().is_none_or(|(most, _)| agreed > *most) {
                    nearest = Some((agreed, text));
                }
            }
        }
    }
    let why = nearest.map_or_else(String::new, |(_, why)| format!(" ({why})"));
    Err(Error::Tokenizer(format!(
        "the tokenizer cuts texts as no kind does that a GGUF file can name{why}: save the model in Hugging Face's layout instead"
    )))
}

/// How a file may say that texts are cut.
#[derive(Clone, Copy)]
enum Way {
    /// BPE on bytes, cut as `tokenizer.ggml.pre` names.
    Bytes(&'static str),
    /// SentencePiece's BPE, with a space in front of texts or without.
    Pieces { space: bool },
}

/// A tokenizer taken apart.
struct Words {
    tokens: Vec<String>,
    kinds: Vec<i32>,
    merges: Vec<[String; 2]>,
    on_bytes: bool,
    /// Tokens that stand in texts as they are.
    added: Vec<String>,
    /// How many of them take spaces beside them, or stand as whole words only.
    stripping: usize,
}

impl Words {
    fn read(processor: &LlmProcessor, rows: usize) -> Result<Self> {
        let json = processor.tokenizer_json()?;
        let model = &json["model"];
        let kind = model["type"].as_str().unwrap_or("of no type");
        if kind != "BPE" {
            return Err(Error::Tokenizer(format!(
                "the tokenizer's model is {kind}, only BPE can be written as a GGUF file"
            )));
        }
        let mut by_id: BTreeMap<usize, (String, i32)> = BTreeMap::new();
        let bytes = model["byte_fallback"].as_bool().unwrap_or(false);
        let unknown = model["unk_token"].as_str();
        for (token, id) in model["vocab"].as_object().into_iter().flatten() {
            let kind = match token.as_str() {
                token if Some(token) == unknown => UNKNOWN,
                token if bytes && is_byte(token) => BYTE,
                _ => NORMAL,
            };
            by_id.insert(place(id)?, (token.clone(), kind));
        }
        let (mut added, mut stripping) = (Vec::new(), 0);
        for token in json["added_tokens"].as_array().into_iter().flatten() {
            let content = token["content"].as_str().unwrap_or_default().to_string();
            let flag = |name: &str| token[name].as_bool().unwrap_or(false);
            let kind = match flag("special") {
                _ if Some(content.as_str()) == unknown => UNKNOWN,
                true => CONTROL,
                false => USER,
            };
            let odd = ["lstrip", "rstrip", "single_word", "normalized"];
            stripping += usize::from(odd.iter().any(|name| flag(name)));
            by_id.insert(place(&token["id"])?, (content.clone(), kind));
            added.push(content);
        }
        if let Some((last, (token, _))) = by_id.iter().next_back()
            && *last >= rows
        {
            return Err(Error::Tokenizer(format!(
                "token {token:?} has id {last}, the model's table has {rows} rows: enlarge it with `add_tokens`, or give the tokenizer \
                 that belongs to the model"
            )));
        }
        let rows = 0..rows;
        // Rows without a token get a name that no text has, as llama.cpp's converter gives them.
        let entries = rows.map(|id| match by_id.remove(&id) {
            Some(entry) => entry,
            None => (format!("[PAD{id}]"), UNUSED),
        });
        let (tokens, kinds) = entries.unzip();
        let list = json["pre_tokenizer"].to_string() + &json["decoder"].to_string();
        Ok(Self {
            tokens,
            kinds,
            merges: merges(model)?,
            on_bytes: list.contains("\"ByteLevel\""),
            added,
            stripping,
        })
    }

    fn keys(&self, processor: &LlmProcessor, way: Way) -> Result<Keys> {
        let mut keys = Keys::default();
        let key = |name: &str| format!("tokenizer.ggml.{name}");
        match way {
            Way::Bytes(cut) => {
                keys.text(key("model"), "gpt2");
                keys.text(key("pre"), cut);
            }
            Way::Pieces { space } => {
                keys.text(key("model"), "llama");
                keys.text(key("pre"), "default");
                keys.add(key("add_space_prefix"), Written::Bool(space));
            }
        }
        keys.add(key("tokens"), Written::Texts(self.tokens.clone()));
        match way {
            Way::Bytes(_) => {
                keys.add(key("token_type"), Written::I32s(self.kinds.clone()));
                let merges = self
                    .merges
                    .iter()
                    .map(|[a, b]| format!("{a} {b}"))
                    .collect();
                keys.add(key("merges"), Written::Texts(merges));
            }
            Way::Pieces { .. } => {
                keys.add(key("scores"), Written::F32s(self.scores()));
                keys.add(key("token_type"), Written::I32s(self.kinds.clone()));
            }
        }
        let ids = [
            ("bos", processor.bos_id()),
            ("eos", processor.eos_id()),
            ("unknown", processor.special_id("unk_token")),
            ("padding", processor.pad_id()),
            // The end of a turn, where that is another token.
            ("eot", processor.eos_ids().get(1).copied()),
        ];
        for (role, id) in ids {
            if let Some(id) = id {
                keys.add(key(&format!("{role}_token_id")), Written::U32(id));
            }
        }
        let ids = processor.encode("a")?;
        let begins = processor.bos_id().is_some() && ids.first().copied() == processor.bos_id();
        let ends = ids.len() > 1 && ids.last().copied() == processor.eos_id();
        keys.add(key("add_bos_token"), Written::Bool(begins));
        keys.add(key("add_eos_token"), Written::Bool(ends));
        let others: Vec<String> = processor
            .chat_templates()
            .into_iter()
            .filter(|name| *name != "default")
            .map(String::from)
            .collect();
        if let Some(template) = processor.chat_template() {
            keys.text("tokenizer.chat_template", template);
        }
        for name in &others {
            if let Some(template) = processor.template(name) {
                keys.text(format!("tokenizer.chat_template.{name}"), template);
            }
        }
        if !others.is_empty() {
            keys.add("tokenizer.chat_templates", Written::Texts(others));
        }
        Ok(keys)
    }

    /// SentencePiece merges what has the best score first: minus the number of the first merge that makes the token.
    fn scores(&self) -> Vec<f32> {
        let mut first: HashMap<String, usize> = HashMap::with_capacity(self.merges.len());
        for (number, [a, b]) in self.merges.iter().enumerate() {
            first.entry(format!("{a}{b}")).or_insert(number);
        }
        let score = |(token, kind): (&String, &i32)| match (first.get(token), *kind) {
            (Some(number), _) => -(*number as f32),
            // What no merge makes is there from the beginning, or never.
            (None, NORMAL) => -(self.merges.len() as f32),
            (None, BYTE | UNKNOWN) => 0.0,
            _ => -1000.0,
        };
        self.tokens.iter().zip(&self.kinds).map(score).collect()
    }

    fn note(&self, processor: &LlmProcessor, read: &LlmProcessor, notes: &mut Vec<String>) {
        if self.stripping > 0 {
            notes.push(format!(
                "{} added tokens take spaces beside them with them, or stand as whole words only (lstrip, rstrip, single_word, \
                 normalized): the file can't tell that",
                self.stripping
            ));
        }
        let lost: Vec<String> = processor
            .eos_ids()
            .iter()
            .skip(2)
            .map(|id| processor.token(*id))
            .collect();
        if !lost.is_empty() {
            notes.push(format!(
                "the file names two tokens at which a text ends; not named: {}",
                lost.join(", ")
            ));
        }
        let other = TEXTS.iter().find(|text| {
            let written = |by: &LlmProcessor| {
                let ids = processor.encode_plain(text).unwrap_or_default();
                by.decode(&ids).unwrap_or_default()
            };
            written(processor) != written(read)
        });
        if let Some(text) = other {
            notes.push(format!(
                "ids of some texts are written back with other spaces by a reader of the file, such as those of {text:?}"
            ));
        }
    }
}

/// Whether two tokenizers give the same ids; if not, how often they did, and for what they do not.
fn compare(
    ours: &LlmProcessor,
    read: &LlmProcessor,
    added: &[String],
) -> std::result::Result<(), (usize, String)> {
    let within = added.iter().take(TRIED).map(|token| format!("x{token}y"));
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let drawn = (0..DRAWN.0).map(|_| {
        let pieces = 0..rng.random_range(2..=DRAWN.1);
        let piece = |_| PIECES.choose(&mut rng).copied().unwrap_or_default();
        pieces.map(piece).collect::<String>()
    });
    let texts = TEXTS.iter().map(ToString::to_string);
    let texts = texts.chain(drawn.collect::<Vec<_>>()).chain(within);
    for (number, text) in texts.enumerate() {
        let same = |encode: fn(&LlmProcessor, &str) -> Result<Vec<u32>>| matches!((encode(ours, &text), encode(read, &text)), (Ok(a), Ok(b)) if a == b);
        if !same(LlmProcessor::encode) || !same(LlmProcessor::encode_plain) {
            return Err((number, format!("the nearest gives other ids for {text:?}")));
        }
    }
    Ok(())
}

/// `<0x0A>`
fn is_byte(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|t| t.strip_suffix('>'));
    digits.is_some_and(|d| d.len() == 2 && u8::from_str_radix(d, 16).is_ok())
}

fn place(id: &Value) -> Result<usize> {
    let number = id.as_u64().and_then(|id| usize::try_from(id).ok());
    number.ok_or_else(|| Error::Tokenizer(format!("token id {id} is no whole number")))
}

/// `["a", "b"]`, or the older `"a b"`.
fn merges(model: &Value) -> Result<Vec<[String; 2]>> {
    let list = model["merges"].as_array().into_iter().flatten();
    let pair = |merge: &Value| -> Option<[String; 2]> {
        match merge {
            Value::String(text) => {
                let (a, b) = text.split_once(' ')?;
                Some([a.to_string(), b.to_string()])
            }
            pair => Some([
                pair.get(0)?.as_str()?.to_string(),
                pair.get(1)?.as_str()?.to_string(),
            ]),
        }
    };
    let pairs = list.map(|merge| {
        pair(merge).ok_or_else(|| Error::Tokenizer(format!("merge {merge} is no pair of tokens")))
    });
    pairs.collect()
}

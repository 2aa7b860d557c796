//! GGUF heads made from parts: keys of every type with values that fit or do not, tensors that lie where they say or elsewhere. Random
//! edits of a file seldom keep its lengths true; these do, so that what lies behind the reader is reached.

use crate::fuzz;
use glassbox_prelude::candle_core::{DType, Device};
use glassbox_prelude::language::{ChatMessage, GgufFile};
use proptest::prelude::*;

/// A value as a file stores it.
#[derive(Clone, Debug)]
enum Stored {
    /// Type and bytes of a number or a truth value.
    Plain(u32, Vec<u8>),
    Text(String),
    /// Type of the entries, their number as the file says it if that is not true, and the entries.
    List(u32, Option<u64>, Vec<Stored>),
}

impl Stored {
    fn kind(&self) -> u32 {
        match self {
            Self::Plain(kind, _) => *kind,
            Self::Text(_) => 8,
            Self::List(..) => 9,
        }
    }

    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Plain(_, bytes) => to.extend(bytes),
            Self::Text(text) => {
                to.extend((text.len() as u64).to_le_bytes());
                to.extend(text.as_bytes());
            }
            Self::List(kind, count, entries) => {
                to.extend(kind.to_le_bytes());
                to.extend(count.unwrap_or(entries.len() as u64).to_le_bytes());
                entries.iter().for_each(|entry| entry.write(to));
            }
        }
    }
}

fn text(text: &str) -> Stored {
    Stored::Text(text.into())
}

fn u32_of(number: u32) -> Stored {
    Stored::Plain(4, number.to_le_bytes().into())
}

fn f32_of(number: f32) -> Stored {
    Stored::Plain(6, number.to_le_bytes().into())
}

fn texts(list: &[&str]) -> Stored {
    Stored::List(8, None, list.iter().map(|entry| text(entry)).collect())
}

/// The keys of a tiny Llama with a tokenizer of each kind.
fn whole(spm: bool) -> Vec<(String, Stored)> {
    let vocabulary = ["<unk>", "<s>", "</s>", "a", "b", "ab", "Ġ", "▁a", "<0x0A>"];
    let numbers = [
        ("block_count", 1),
        ("context_length", 16),
        ("embedding_length", 8),
        ("feed_forward_length", 8),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
        ("rope.dimension_count", 4),
        ("vocab_size", 9),
    ];
    let mut keys = vec![
        ("general.architecture".to_string(), text("llama")),
        ("general.alignment".to_string(), u32_of(32)),
        ("general.name".to_string(), text("tiny")),
        (
            "llama.attention.layer_norm_rms_epsilon".into(),
            f32_of(1e-5),
        ),
        ("llama.rope.freq_base".into(), f32_of(10000.0)),
        (
            "tokenizer.ggml.model".into(),
            text(if spm { "llama" } else { "gpt2" }),
        ),
        (
            "tokenizer.ggml.pre".into(),
            text(if spm { "default" } else { "smollm" }),
        ),
        ("tokenizer.ggml.tokens".into(), texts(&vocabulary)),
        ("tokenizer.ggml.merges".into(), texts(&["a b"])),
        (
            "tokenizer.ggml.scores".into(),
            Stored::List(6, None, (0..9).map(|n| f32_of(-(n as f32))).collect()),
        ),
        (
            "tokenizer.ggml.token_type".into(),
            Stored::List(5, None, [2, 3, 3, 1, 1, 1, 1, 1, 6].map(u32_of).into()),
        ),
        ("tokenizer.ggml.bos_token_id".into(), u32_of(1)),
        ("tokenizer.ggml.eos_token_id".into(), u32_of(2)),
        (
            "tokenizer.ggml.add_bos_token".into(),
            Stored::Plain(7, vec![1]),
        ),
        (
            "tokenizer.chat_template".into(),
            text("{% for m in messages %}{{ m.content }}{% endfor %}"),
        ),
    ];
    // What only the other kind of vocabulary has.
    let of_the_other = if spm { "merges" } else { "scores" };
    keys.retain(|(key, _)| !key.ends_with(of_the_other));
    keys.extend(numbers.map(|(key, value)| (format!("llama.{key}"), u32_of(value))));
    keys
}

/// Name, sizes (the smallest stride first), of the tensors of that Llama.
fn tensors() -> Vec<(String, Vec<u64>)> {
    let of_layer = [
        ("attn_norm", vec![8]),
        ("attn_q", vec![8, 8]),
        ("attn_k", vec![8, 4]),
        ("attn_v", vec![8, 4]),
        ("attn_output", vec![8, 8]),
        ("ffn_norm", vec![8]),
        ("ffn_gate", vec![8, 8]),
        ("ffn_up", vec![8, 8]),
        ("ffn_down", vec![8, 8]),
    ];
    let mut all = vec![
        ("token_embd.weight".to_string(), vec![8, 9]),
        ("output_norm.weight".to_string(), vec![8]),
        ("output.weight".to_string(), vec![8, 9]),
    ];
    all.extend(of_layer.map(|(name, sizes)| (format!("blk.0.{name}.weight"), sizes)));
    all
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..20u64,
        (0..64u32).prop_map(|bit| 1 << bit),
        (0..64u32).prop_map(|bit| (1 << bit) - 1),
        any::<u64>(),
    ]
}

fn value() -> impl Strategy<Value = Stored> {
    let sizes = [1usize, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
    let plain = (0..13u32, number()).prop_filter_map("a plain type", move |(kind, n)| {
        let size = *sizes.get(kind as usize)?;
        (size > 0).then(|| Stored::Plain(kind, n.to_le_bytes()[..size].into()))
    });
    let float = any::<f32>().prop_map(f32_of);
    let words = prop_oneof![
        Just(text("")),
        "[a-z_.<>|{}% ]{0,12}".prop_map(Stored::Text),
        "\\PC{0,6}".prop_map(Stored::Text),
        Just(text("llama")),
        Just(text("gemma3")),
        Just(text("phi3")),
        Just(text("linear")),
        Just(text("yarn")),
        Just(text(
            "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
        )),
    ];
    let leaf = prop_oneof![3 => plain, 1 => float, 3 => words];
    leaf.prop_recursive(3, 16, 6, |inner| {
        (
            proptest::option::weighted(0.2, number()),
            proptest::collection::vec(inner, 0..6),
        )
            .prop_map(|(count, entries)| {
                let kind = entries.first().map_or(4, Stored::kind);
                Stored::List(kind, count, entries)
            })
    })
}

/// What is changed of a file that would be whole.
#[derive(Clone, Debug)]
enum Change {
    Value(usize, Stored),
    Kind(usize, u32),
    Remove(usize),
    Rename(usize, String),
    Twice(usize),
    Sizes(usize, Vec<u64>),
    Type(usize, u32),
    Offset(usize, u64),
    Name(usize, usize),
    Counts(Option<u64>, Option<u64>),
    Cut(usize),
    Version(u32),
}

fn change() -> impl Strategy<Value = Change> {
    let at = 0..64usize;
    let names = prop_oneof![
        Just("llama.rope.scaling.type".to_string()),
        Just("llama.rope.scaling.factor".to_string()),
        Just("llama.expert_count".to_string()),
        Just("llama.attention.key_length".to_string()),
        Just("llama.attention.sliding_window".to_string()),
        Just("tokenizer.ggml.added_tokens".to_string()),
        Just("tokenizer.ggml.padding_token_id".to_string()),
        Just("tokenizer.ggml.eot_token_id".to_string()),
        "[a-z.]{0,20}",
    ];
    prop_oneof![
        8 => (at.clone(), value()).prop_map(|(at, value)| Change::Value(at, value)),
        1 => (at.clone(), 0..16u32).prop_map(|(at, kind)| Change::Kind(at, kind)),
        2 => at.clone().prop_map(Change::Remove),
        2 => (at.clone(), names).prop_map(|(at, name)| Change::Rename(at, name)),
        1 => at.clone().prop_map(Change::Twice),
        2 => (at.clone(), proptest::collection::vec(number(), 0..6)).prop_map(|(at, sizes)| Change::Sizes(at, sizes)),
        1 => (at.clone(), 0..40u32).prop_map(|(at, kind)| Change::Type(at, kind)),
        1 => (at.clone(), number()).prop_map(|(at, offset)| Change::Offset(at, offset)),
        1 => (at.clone(), at.clone()).prop_map(|(at, other)| Change::Name(at, other)),
        1 => (proptest::option::of(number()), proptest::option::of(number())).prop_map(|(a, b)| Change::Counts(a, b)),
        1 => (0..4000usize).prop_map(Change::Cut),
        1 => any::<u32>().prop_map(Change::Version),
    ]
}

/// The file with these changes.
fn file(spm: bool, changes: &[Change]) -> Vec<u8> {
    let mut keys = whole(spm);
    let mut kinds: Vec<Option<u32>> = vec![None; keys.len()];
    // Name, sizes, type, offset if it is not the true one.
    let mut tensors: Vec<(String, Vec<u64>, u32, Option<u64>)> = tensors()
        .into_iter()
        .map(|(name, sizes)| (name, sizes, 0, None))
        .collect();
    let (mut counts, mut version, mut cut) = ((None, None), 3u32, usize::MAX);
    for change in changes {
        match change {
            Change::Value(at, value) => {
                let at = at % keys.len().max(1);
                if let Some((_, old)) = keys.get_mut(at) {
                    *old = value.clone();
                }
            }
            Change::Kind(at, kind) => {
                let at = at % kinds.len().max(1);
                if let Some(old) = kinds.get_mut(at) {
                    *old = Some(*kind);
                }
            }
            Change::Remove(at) if keys.len() > 1 => {
                let at = at % keys.len();
                keys.remove(at);
                kinds.remove(at);
            }
            Change::Rename(at, name) => {
                let at = at % keys.len().max(1);
                if let Some((key, _)) = keys.get_mut(at) {
                    key.clone_from(name);
                }
            }
            Change::Twice(at) => {
                let at = at % keys.len().max(1);
                keys.extend(keys.get(at).cloned());
                kinds.resize(keys.len(), None);
            }
            Change::Sizes(at, sizes) => {
                let at = at % tensors.len();
                tensors[at].1.clone_from(sizes);
            }
            Change::Type(at, kind) => {
                let at = at % tensors.len();
                tensors[at].2 = *kind;
            }
            Change::Offset(at, offset) => {
                let at = at % tensors.len();
                tensors[at].3 = Some(*offset);
            }
            Change::Name(at, other) => {
                let name = tensors[other % tensors.len()].0.clone();
                let at = at % tensors.len();
                tensors[at].0 = name;
            }
            Change::Counts(of_tensors, of_keys) => counts = (*of_tensors, *of_keys),
            Change::Cut(length) => cut = *length,
            Change::Version(number) => version = *number,
            Change::Remove(_) => {}
        }
    }
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(counts.0.unwrap_or(tensors.len() as u64).to_le_bytes());
    bytes.extend(counts.1.unwrap_or(keys.len() as u64).to_le_bytes());
    for ((key, value), kind) in keys.iter().zip(&kinds) {
        text(key).write(&mut bytes);
        bytes.extend(kind.unwrap_or(value.kind()).to_le_bytes());
        value.write(&mut bytes);
    }
    let mut next = 0u64;
    for (name, sizes, kind, offset) in &tensors {
        text(name).write(&mut bytes);
        bytes.extend((sizes.len() as u32).to_le_bytes());
        sizes
            .iter()
            .for_each(|size| bytes.extend(size.to_le_bytes()));
        bytes.extend(kind.to_le_bytes());
        bytes.extend(offset.unwrap_or(next).to_le_bytes());
        next += 512; // the largest of them, and a multiple of the alignment
    }
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes.resize(bytes.len() + next as usize, 0);
    bytes.truncate(cut);
    bytes
}

fn read(bytes: Vec<u8>) -> Option<()> {
    let file = GgufFile::from_bytes("made.gguf", bytes).ok()?;
    if let Ok(processor) = file.processor() {
        if let Ok(ids) = processor.encode("ab a\n🙂") {
            _ = processor.decode(&ids);
        }
        _ = processor.render_chat(&[ChatMessage::user("a")], true);
    }
    let llm = file.decoder(DType::F32, &Device::Cpu).ok()?;
    crate::models::run(&llm);
    Some(())
}

#[test]
fn a_head_that_is_whole_is_read() {
    for spm in [true, false] {
        let bytes = file(spm, &[]);
        let opened = GgufFile::from_bytes("made.gguf", bytes.clone());
        let opened = opened.expect("it is whole");
        let processor = opened.processor().map(|_| ());
        processor.expect("its tokenizer is whole");
        opened.decoder(DType::F32, &Device::Cpu).expect("a Llama");
        assert_eq!(read(bytes), Some(()));
    }
}

#[test]
fn gguf_heads_of_any_parts_are_read_or_refused() {
    let changes = proptest::collection::vec(change(), 1..5);
    fuzz(&(any::<bool>(), changes), |(spm, changes)| {
        _ = read(file(spm, &changes));
    });
}

//! Parity with the reference (transformers, PEFT, Pillow): every group of the fixture folder, with its worst difference.
//!
//! `cargo test --release -p glassbox-prelude --test parity` reads `tests/fixtures`, or the folder that `GLASSBOX_FIXTURES`
//! names. Every size comes from the folder's own config files. Each group prints its checks; the run ends with a table
//! and fails if a check failed, or if a group could not run at all.
//!
//! The groups named `composed` run again with every operation in the form that a GPU takes.

#![allow(
    clippy::print_stdout,
    reason = "the table on stdout is what this program is for"
)]

mod compare;
mod images;
mod llm;
mod lora;
mod peft;
#[path = "../published/python.rs"]
mod python;
mod tokenizer;
mod vit;
mod vlm;

use compare::{Fixtures, Group, Outcome};
use glassbox_prelude::nn::with_composed_ops;
use std::process::ExitCode;

type Check = fn(&Fixtures, &mut Group) -> Outcome;

const GROUPS: &[(&str, Check)] = &[
    ("images", images::processor),
    ("vit", vit::stages),
    ("vit at 224 pixels", vit::stages_224),
    ("phi-3", llm::plain),
    ("phi-3 padding", llm::padding),
    ("phi-3 cache", llm::cache),
    ("phi-3 bf16 shards", llm::bf16_shards),
    ("phi-3 sliding window", llm::sliding_window),
    ("phi-3 longrope", llm::longrope),
    ("tokenizer", tokenizer::text),
    ("chat template", tokenizer::chat),
    ("vlm", vlm::cases),
    ("vlm, mean over prefixes", vlm::means),
    ("vlm, generation", vlm::generation),
    ("lora", lora::outputs),
    ("lora merges", lora::merges),
    ("lora gradients", lora::gradients),
    ("lora AdamW", lora::steps),
    ("adapters through the disk", lora::round_trips),
    ("adapters in PEFT", peft::adapters),
    ("composed: vit", |f, g| {
        with_composed_ops(|| vit::stages(f, g))
    }),
    ("composed: phi-3", |f, g| {
        with_composed_ops(|| llm::plain(f, g))
    }),
    ("composed: phi-3 padding", |f, g| {
        with_composed_ops(|| llm::padding(f, g))
    }),
    ("composed: phi-3 cache", |f, g| {
        with_composed_ops(|| llm::cache(f, g))
    }),
    ("composed: phi-3 longrope", |f, g| {
        with_composed_ops(|| llm::longrope(f, g))
    }),
    ("composed: vlm", |f, g| {
        with_composed_ops(|| vlm::cases(f, g))
    }),
    ("composed: lora", |f, g| {
        with_composed_ops(|| lora::outputs(f, g))
    }),
    ("composed: lora gradients", |f, g| {
        with_composed_ops(|| lora::gradients(f, g))
    }),
    ("composed: lora AdamW", |f, g| {
        with_composed_ops(|| lora::steps(f, g))
    }),
];

fn main() -> ExitCode {
    let fixtures = Fixtures::find();
    println!("parity with {}\n", fixtures.root().display());
    let mut table = Vec::new();
    for (name, check) in GROUPS {
        let mut group = Group::new(name);
        if let Err(error) = check(&fixtures, &mut group) {
            group.fail(&format!("could not run: {error}"));
        }
        group.print();
        table.push(group);
    }
    println!(
        "{:<26} {:>7} {:>12} {:>12}  result",
        "group", "checks", "worst", "tolerance"
    );
    for group in &table {
        println!("{}", group.summary());
    }
    let (ran, left): (Vec<_>, Vec<_>) = table.iter().partition(|group| group.was_run());
    let failed = ran.iter().filter(|group| !group.passed()).count();
    let not_run = match left.len() {
        0 => String::new(),
        count => format!(", {count} NOT RUN"),
    };
    if failed == 0 {
        println!("\nall {} groups agree{not_run}", ran.len());
        ExitCode::SUCCESS
    } else {
        println!("\n{failed} of {} groups differ{not_run}", ran.len());
        ExitCode::FAILURE
    }
}

//! Scores against pycocoevalcap 1.2 and its Java programs: BLEU, ROUGE-L, CIDEr-D, METEOR's exact stage, and the tokenizer.
//! `scripts/fixtures/scores.py` makes `expected.json`.

#![allow(clippy::print_stdout)] // what differs, and what was not run, is said

mod model;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use glassbox_prelude::Result;
use glassbox_prelude::data::{CocoCaptions, Split};
use glassbox_prelude::evaluate::{
    Answered, Bleu, CaptionTokenizer, CiderD, MeteorExact, Metric, RougeL,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Expected {
    sets: BTreeMap<String, Set>,
    hard: Vec<(String, String)>,
    coco: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Set {
    samples: Vec<Sample>,
    #[serde(default)]
    tokens: Vec<Sample>,
    scores: BTreeMap<String, (f64, Vec<f64>)>,
}

#[derive(Deserialize)]
struct Sample {
    prediction: String,
    references: Vec<String>,
}

fn expected() -> Expected {
    serde_json::from_str(include_str!("expected.json")).expect("made by scores.py")
}

fn metrics(tokenized: bool) -> [Box<dyn Metric>; 4] {
    [
        Box::new(Bleu { tokenized }),
        Box::new(RougeL { tokenized }),
        Box::new(CiderD { tokenized }),
        Box::new(MeteorExact { tokenized }),
    ]
}

/// Compares every figure, of the set and of each picture.
fn compare(name: &str, set: &Set, tokenized: bool) -> Result<usize> {
    let samples = set.samples.iter();
    let answers: Vec<Answered> = samples
        .map(|sample| Answered::new(&sample.prediction, &sample.references))
        .collect();
    let mut compared = 0;
    for metric in metrics(tokenized) {
        for score in metric.scores(&answers)? {
            let Some((whole, each)) = set.scores.get(&score.name) else {
                assert!(
                    score.name.starts_with("METEOR"),
                    "{name}: no figure of {}",
                    score.name
                );
                continue;
            };
            // Meteor writes and reads its sums as text with ten digits.
            assert!(
                (score.value - whole).abs() < 1e-6,
                "{name}: {} is {}, not {whole}",
                score.name,
                score.value
            );
            assert_eq!(score.each.len(), each.len());
            for (at, (ours, theirs)) in score.each.iter().zip(each).enumerate() {
                assert!(
                    (ours - theirs).abs() < 1e-6,
                    "{name}, picture {at}: {} is {ours}, not {theirs}",
                    score.name
                );
                compared += 1;
            }
        }
    }
    Ok(compared)
}

#[test]
fn figures_equal_pycocoevalcap_on_tokenised_captions() -> Result<()> {
    let mut compared = 0;
    for (name, set) in expected().sets.iter().filter(|(name, _)| *name != "raw") {
        compared += compare(name, set, true)?;
    }
    println!("{compared} figures of pictures are equal to 1e-6");
    assert!(compared > 300);
    Ok(())
}

#[test]
fn figures_equal_pycocoevalcap_from_written_captions() -> Result<()> {
    let expected = expected();
    let raw = &expected.sets["raw"];
    for (sample, tokens) in raw.samples.iter().zip(&raw.tokens) {
        assert_eq!(
            CaptionTokenizer::tokenize(&sample.prediction),
            tokens.prediction
        );
        for (reference, tokens) in sample.references.iter().zip(&tokens.references) {
            assert_eq!(&CaptionTokenizer::tokenize(reference), tokens);
        }
    }
    compare("raw", raw, false)?;
    Ok(())
}

/// Strings made to be hard, by hand and drawn at random: what parts us from the Java tokenizer is known by name, the rest is rare.
#[test]
fn the_tokenizer_parts_from_the_java_one_where_it_says() {
    let known: Vec<&str> = CaptionTokenizer::DIFFERENCES
        .iter()
        .map(|(text, _, _)| *text)
        .collect();
    let expected = expected();
    let mut different = Vec::new();
    for (text, tokens) in &expected.hard {
        let ours = CaptionTokenizer::tokenize(text);
        if &ours != tokens {
            different.push((text.as_str(), tokens.as_str(), ours));
        }
    }
    for (text, tokens, ours) in &different {
        println!("{text}\n  Java  {tokens}\n  ours  {ours}");
    }
    let share = different.len() as f64 / expected.hard.len() as f64;
    println!(
        "{} of {} hard strings differ",
        different.len(),
        expected.hard.len()
    );
    assert!(share < 0.02, "{share}");
    // Each of those that are named is there, and is as it says.
    for (text, java, ours) in CaptionTokenizer::DIFFERENCES {
        assert_eq!(CaptionTokenizer::tokenize(text), ours, "{text}");
        assert_ne!(java, ours, "{text}");
    }
    assert!(!known.is_empty());
}

fn hash(text: &str) -> String {
    let mut value = 0xcbf2_9ce4_8422_2325_u64;
    for byte in text.bytes() {
        value = (value ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    format!("{value:016x}")
}

/// Needs real captions: the folder that `GLASSBOX_REAL` names, with coco-mini in it.
#[test]
fn captions_of_coco_have_the_java_tokenizers_tokens()
-> std::result::Result<(), Box<dyn std::error::Error>> {
    let Some(real) = std::env::var_os("GLASSBOX_REAL") else {
        // Past the harness, which hides the prints of tests that pass.
        let _ = std::io::stderr()
            .write_all(b"NOT RUN: GLASSBOX_REAL names no folder with coco-mini in it\n");
        return Ok(());
    };
    let root = Path::new(&real).join("coco-mini");
    let hashes = expected().coco;
    let mut seen = 0;
    for split in [Split::Train, Split::Val] {
        let path = root.join(format!("annotations/captions_{split}2017.json"));
        let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        for annotation in json["annotations"].as_array().ok_or("no annotations")? {
            let (id, caption) = (
                annotation["id"].to_string(),
                annotation["caption"].as_str().unwrap_or_default(),
            );
            let tokens = CaptionTokenizer::tokenize(&caption.replace('\n', " "));
            assert_eq!(hash(&tokens), hashes[&id], "{caption:?} → {tokens:?}");
            seen += 1;
        }
        // The loader's own captions have the same tokens.
        let dataset = CocoCaptions::open(&root, split)?;
        assert!(!dataset.is_empty());
    }
    println!("{seen} captions of COCO have the same tokens");
    assert_eq!(seen, hashes.len());
    Ok(())
}

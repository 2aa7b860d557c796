//! Fixtures that hold several prompts with computed pictures: `scripts/fixtures/smolvlm.py`, `scripts/fixtures/nanovlm.py`.

use crate::computed::picture;
use crate::{Fallible, load_with};
use glassbox_prelude::prelude::*;
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A model's folder with its prompts.
pub struct Fixture {
    pub folder: PathBuf,
    pub cases: Vec<Case>,
    expected: HashMap<String, Tensor>,
}

/// One prompt, and what the reference makes of it.
pub struct Case {
    pub name: String,
    pub pictures: Vec<Image>,
    pub text: String,
    pub ids: Vec<i64>,
    pub greedy: Vec<u32>,
    /// The whole of what is known of it.
    pub all: Value,
    /// Of every place, or of the last.
    pub logits: Tensor,
}

/// A folder below `tests/fixtures`.
pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures")
        .join(name)
}

pub fn fixture(name: &str) -> Fallible<Fixture> {
    let folder = folder(name);
    let file = folder.join("expected.safetensors");
    let expected = glassbox_prelude::candle_core::safetensors::load(file, &Device::Cpu)?;
    let told: Value = serde_json::from_slice(&std::fs::read(folder.join("cases.json"))?)?;
    let case = |one: &Value| -> Fallible<Case> {
        let name = one["name"].as_str().ok_or("no name")?.to_owned();
        let sizes: Vec<(u32, u32)> = serde_json::from_value(one["pictures"].clone())?;
        Ok(Case {
            pictures: sizes
                .into_iter()
                .map(|(width, height)| picture(width, height))
                .collect::<Result<_>>()?,
            text: one["text"].as_str().ok_or("no text")?.to_owned(),
            ids: serde_json::from_value(one["ids"].clone())?,
            greedy: serde_json::from_value(one["greedy"].clone())?,
            all: one.clone(),
            logits: expected[&format!("{name}.logits")].clone(),
            name,
        })
    };
    let cases = told["cases"].as_array().ok_or("no cases")?.iter();
    Ok(Fixture {
        cases: cases.map(case).collect::<Fallible<_>>()?,
        folder,
        expected,
    })
}

impl Fixture {
    pub fn model(&self, settings: VlmSettings) -> Fallible<Vlm> {
        load_with(&self.folder, settings)
    }

    pub fn case(&self, name: &str) -> Fallible<&Case> {
        let mut cases = self.cases.iter();
        Ok(cases.find(|case| case.name == name).ok_or("no such case")?)
    }

    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.expected.get(name)
    }
}

impl Case {
    pub fn shown(&self) -> Vec<&dyn VlmInput> {
        let pictures = self.pictures.iter();
        pictures.map(|picture| picture as &dyn VlmInput).collect()
    }
}

/// All tiles that a prompt shows, `[N, 3, H, W]`.
pub fn pixel_values(prompt: &Prompt) -> Fallible<Option<Tensor>> {
    let mut tiles = Vec::new();
    for input in prompt.inputs() {
        match &input.seen {
            Seen::Prepared(tile) => tiles.push(tile.clone()),
            _ => return Err("an input is not prepared".into()),
        }
    }
    match tiles.is_empty() {
        true => Ok(None),
        false => Ok(Some(Tensor::cat(&tiles, 0)?)),
    }
}

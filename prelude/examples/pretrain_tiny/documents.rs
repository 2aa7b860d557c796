//! The text that the language model is pretrained on: a scene → one document.
//!
//! *Sheets* say what is where, one set of words for each place of a picture, then comes a caption; the embeddings of
//! the words of one place are added up, so that the model learns to read several facts from one input, as it will have
//! to do with image tokens. *Lists* give the objects in words, then a caption. *Captions* stand alone. No pixel is
//! involved: what image tokens mean is left for the projector to learn.

use std::collections::{BTreeSet, HashMap};

use glassbox_prelude::Result;
use glassbox_prelude::data::shapes::{Scene, vocabulary};
use glassbox_prelude::language::LlmProcessor;
use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::sheet::Sheet;
use super::vit::SIDE;

/// One place of the input: token ids with weights.
pub type Place = Vec<(u32, f32)>;

/// A document in token ids.
pub struct Document {
    /// What is given, never empty.
    pub context: Vec<Place>,
    /// What is learned: the caption and its end.
    pub caption: Vec<u32>,
}

/// The kinds of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sheet,
    /// A sheet with every word: what the model is asked in the end.
    Shown,
    List,
    Caption,
}

impl Kind {
    /// 8% lists, 4% lone captions, the rest sheets; without sheets two lists for each lone caption.
    pub fn draw(sheets: bool, rng: &mut impl Rng) -> Kind {
        let span = if sheets { 100 } else { 12 };
        match rng.random_range(0..span) {
            0..8 => Kind::List,
            8..12 => Kind::Caption,
            _ => Kind::Sheet,
        }
    }
}

/// What surrounds the image's places: the corrected prompt, with Phi-3's chat marks and one `<s>`. The model sees no other, so that
/// it can be told what another prompt costs.
const PROMPT: (&str, &str) = (
    "<s><|user|>\n<|imstart|>",
    "<|imend|>\nThis image contains:<|end|>\n<|assistant|>\n",
);

/// Words beyond the captions' own: the prompts, and the words of the sheets.
const MORE_WORDS: [&str; 14] = [
    "This", "image", "contains", "nothing", "part", "Describe", "the", "scene", "What", "is", "in",
    "words", "Objects", "object",
];

/// Every word that should be one token, with its leading `▁`.
pub fn words() -> Vec<String> {
    let words: BTreeSet<&str> = vocabulary().into_iter().chain(MORE_WORDS).collect();
    let letters = |word: &&str| word.chars().all(char::is_alphabetic);
    let mut words: Vec<String> = words
        .into_iter()
        .filter(letters)
        .map(|word| format!("▁{word}"))
        .collect();
    words.push("This".into()); // begins a line in the chat prompt
    words
}

/// Chance that a sheet gives only one word for each place.
const SINGLE: f64 = 0.1;
/// Chance that a sheet says how many objects are alike; else the model has to count.
const COUNTED: f64 = 0.75;

/// Turns scenes into documents.
pub struct Words {
    processor: LlmProcessor,
    /// Ids of the words of sheets, each one token.
    ids: HashMap<&'static str, u32>,
    end: u32,
}

impl Words {
    pub fn new(processor: LlmProcessor) -> Result<Words> {
        let mut ids = HashMap::new();
        for word in super::sheet::words() {
            match processor.encode_plain(word)?[..] {
                [id] => ids.insert(word, id),
                _ => {
                    return Err(glassbox_prelude::Error::Tokenizer(format!(
                        "{word} is not one token"
                    )));
                }
            };
        }
        let end = processor.encode_plain("<|end|>")?[0];
        Ok(Words {
            processor,
            ids,
            end,
        })
    }

    /// Whether a description ends here.
    pub fn ends(&self, id: u32) -> bool {
        id == self.end
    }

    /// The text of token ids.
    pub fn text(&self, ids: &[u32]) -> Result<String> {
        self.processor.decode(ids)
    }

    /// One document about `scene`.
    pub fn document(
        &self,
        scene: &Scene,
        caption: &str,
        kind: Kind,
        rng: &mut impl Rng,
    ) -> Result<Document> {
        let mut target = self.processor.encode_plain(caption)?;
        target.push(self.end);
        let context = match kind {
            Kind::Caption => self.places("<s>")?,
            Kind::List => {
                let mut objects: Vec<String> = scene
                    .objects
                    .iter()
                    .map(|object| {
                        format!(
                            "{} {} {}",
                            object.size.name(),
                            object.colour.name(),
                            object.shape.name()
                        )
                    })
                    .collect();
                objects.shuffle(rng);
                self.places(&format!(
                    "<s><|user|>\nObjects: {}<|end|>\n<|assistant|>\n",
                    objects.join(", ")
                ))?
            }
            Kind::Sheet => {
                let (single, counted) = (rng.random_bool(SINGLE), rng.random_bool(COUNTED));
                self.sheet(scene, counted, |words| {
                    if single {
                        words
                            .choose(rng)
                            .map(|word| vec![(*word, 1.0)])
                            .unwrap_or_default()
                    } else {
                        words
                            .iter()
                            .map(|word| (*word, rng.random_range(0.6..1.4)))
                            .collect()
                    }
                })?
            }
            Kind::Shown => self.sheet(scene, true, |words| {
                words.iter().map(|word| (*word, 1.0)).collect()
            })?,
        };
        Ok(Document {
            context,
            caption: target,
        })
    }

    /// A prompt around a scene's sheet; `choose` gives each place's words their weights.
    fn sheet(
        &self,
        scene: &Scene,
        counted: bool,
        mut choose: impl FnMut(&[&'static str]) -> Vec<(&'static str, f32)>,
    ) -> Result<Vec<Place>> {
        let (before, after) = PROMPT;
        let mut places = self.places(before)?;
        for words in Sheet::new(scene, SIDE as u32).words(counted) {
            places.push(
                choose(&words)
                    .into_iter()
                    .map(|(word, weight)| (self.ids[word], weight))
                    .collect(),
            );
        }
        places.extend(self.places(after)?);
        Ok(places)
    }

    fn places(&self, text: &str) -> Result<Vec<Place>> {
        Ok(self
            .processor
            .encode_plain(text)?
            .into_iter()
            .map(|id| vec![(id, 1.0)])
            .collect())
    }
}

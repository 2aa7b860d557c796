//! The text: sentences about molecules, and lists of atoms with a sentence behind them.
//!
//! ```text
//! <s> propan-1-ol is an alcohol with 3 carbon atoms and the group hydroxyl ; its formula is C 3 H 8 O <|end|>
//! <s><|user|> <|imstart|> carbon 3 carbon 2 carbon 2 oxygen 1 <|imend|> This image contains:<|end|> <|assistant|> propan-1-ol ...
//! ```
//! A list has each atom's element and its hydrogens, in a random order, where image tokens will stand: in words, from no encoder.

use std::collections::BTreeSet;

use glassbox_prelude::Result;
use glassbox_prelude::language::LlmProcessor;
use glassbox_prelude::senses::{Element, OrganicMolecule};
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// What surrounds the input in the corrected prompt.
const PROMPT: (&str, &str) = (
    "<s><|user|>\n<|imstart|>",
    "<|imend|>\nThis image contains:<|end|>\n<|assistant|>\n",
);
/// Every so manieth molecule is never read about.
const HELD_OUT: usize = 9;
/// The part of documents that begin with a list of atoms.
const LISTS: f64 = 0.5;

/// All molecules, apart by whether they are read about.
pub struct Chemistry {
    pub read: Vec<OrganicMolecule>,
    pub held_out: Vec<OrganicMolecule>,
}

impl Chemistry {
    pub fn new() -> Result<Self> {
        let (mut read, mut held_out) = (Vec::new(), Vec::new());
        for (place, molecule) in OrganicMolecule::all()?.into_iter().enumerate() {
            match place % HELD_OUT == HELD_OUT / 2 {
                true => held_out.push(molecule),
                false => read.push(molecule),
            }
        }
        Ok(Self { read, held_out })
    }

    /// Every word, and every run of letters in a name, as a token.
    pub fn words(&self) -> Vec<String> {
        let mut rng = <ChaCha8Rng as rand::SeedableRng>::seed_from_u64(0);
        let mut words: BTreeSet<String> = ["This", "image", "contains", "the"]
            .iter()
            .map(|word| format!("▁{word}"))
            .collect();
        words.insert("This".into());
        for molecule in self.read.iter().chain(&self.held_out) {
            let mut sentences: Vec<String> = (0..12).map(|_| molecule.sentence(&mut rng)).collect();
            sentences.push(atoms(molecule, &mut rng));
            for word in sentences.join(" ").split(' ') {
                for (place, run) in word
                    .split(|c: char| !c.is_ascii_alphabetic())
                    .enumerate()
                    .filter(|(_, run)| !run.is_empty())
                {
                    words.insert(if place == 0 {
                        format!("▁{run}")
                    } else {
                        run.to_owned()
                    });
                }
            }
        }
        words.into_iter().collect()
    }

    /// One document in token ids, `<s>` first.
    pub fn document(&self, processor: &LlmProcessor, rng: &mut ChaCha8Rng) -> Result<Vec<u32>> {
        let molecule = &self.read[rng.random_range(0..self.read.len())];
        let sentence = molecule.sentence(rng);
        let text = match rng.random_bool(LISTS) {
            true => format!(
                "{}{}{}{sentence}<|end|>",
                PROMPT.0,
                atoms(molecule, rng),
                PROMPT.1
            ),
            false => format!("<s>{sentence}<|end|>"),
        };
        processor.encode_plain(&text)
    }
}

/// `carbon 3 carbon 2 oxygen 1`, shuffled.
fn atoms(molecule: &OrganicMolecule, rng: &mut ChaCha8Rng) -> String {
    let called = |element: Element| match element.symbol() {
        "C" => "carbon".to_owned(),
        "N" => "nitrogen".to_owned(),
        "O" => "oxygen".to_owned(),
        "S" => "sulfur".to_owned(),
        "Cl" => "chlorine".to_owned(),
        other => other.to_owned(),
    };
    let all = molecule.molecule.atoms().iter();
    let mut words: Vec<String> = all
        .map(|atom| format!("{} {}", called(atom.element), atom.hydrogens))
        .collect();
    words.shuffle(rng);
    words.join(" ")
}

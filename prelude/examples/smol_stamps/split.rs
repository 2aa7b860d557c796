//! Captioned pictures in two parts of which none has a caption that the other has too: a dataset → training and validation.

use std::collections::BTreeMap;

use glassbox_prelude::data::Sample;
use glassbox_prelude::evaluate::{EvaluationItem, EvaluationSet};
use glassbox_prelude::prelude::*;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Both parts.
pub struct Parts {
    /// To learn from.
    pub train: Part,
    /// To be judged on.
    pub held_out: Part,
}

/// Some pictures of a dataset.
pub struct Part {
    captions: Captions,
    positions: Vec<usize>,
}

impl Part {
    pub fn len(&self) -> usize {
        self.positions.len()
    }

    /// What the picture's file is called, and the first of its captions.
    pub fn named(&self, position: usize) -> Result<(String, String)> {
        let position = self.positions[position];
        let path = self.captions.picture_path(position)?;
        let caption = self.captions.captions(position)?.into_iter().next();
        Ok((path.display().to_string(), caption.unwrap_or_default()))
    }

    pub fn sample(&self, position: usize) -> Result<Sample> {
        self.captions.sample(self.positions[position])
    }
}

impl EvaluationSet for Part {
    fn len(&self) -> usize {
        self.positions.len()
    }

    fn item(&self, position: usize) -> Result<EvaluationItem> {
        let sample = self.sample(position)?;
        Ok(EvaluationItem {
            image: sample.image,
            query: None,
            references: sample.captions,
            kind: None,
        })
    }
}

/// Pictures with one caption (capitals and punctuation aside) stay together; `share` of these groups are held out, drawn from `seed`.
pub fn by_caption(captions: &Captions, share: f64, seed: u64) -> Result<Parts> {
    let mut groups: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for position in 0..captions.len() {
        let caption = captions.captions(position)?.join(" / ");
        let words = CaptionTokenizer::tokenize(&caption);
        groups.entry(words).or_default().push(position);
    }
    let mut groups: Vec<Vec<usize>> = groups.into_values().collect();
    groups.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let held_out = (groups.len() as f64 * share).ceil() as usize;
    let train = groups.split_off(held_out.min(groups.len()));
    let part = |groups: Vec<Vec<usize>>| Part {
        captions: captions.clone(),
        positions: groups.into_iter().flatten().collect(),
    };
    Ok(Parts {
        train: part(train),
        held_out: part(groups),
    })
}

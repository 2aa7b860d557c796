//! An evaluation by several ranks: each answers its share of the batches → all answers, on all ranks, in the order of the set.
//!
//! ```text
//! batches   1 2 3 4 5 …      two ranks: rank 0 answers 1 3 5 …, rank 1 answers 2 4 …; what was said is exchanged after each round
//! ```
//! Batches are those of one process, so the answers are too, to the bit. Every rank reads all pictures and scores all answers.

use serde::{Deserialize, Serialize};

use super::item::Item;
use super::metric::{Answered, Surprise};
use crate::parallel::group::Group;
use crate::vlm::{Vlm, fingerprint::Fingerprints};
use crate::{Error, Result, fnv};
use candle_core::DType;

/// What helps ranks that differ.
const ALIKE: &str = "give all ranks the same model, files and settings";

/// What a model said, without what all ranks know. Figures are bits, so that they arrive as they were.
#[derive(Serialize, Deserialize)]
struct Said {
    prediction: String,
    confidence: Option<u64>,
    /// Nats and tokens.
    surprise: Option<(u64, usize)>,
}

/// Makes sure that all ranks ask the same of the same model; `asked` says what in words.
pub(super) fn same_question(group: &Group, vlm: &Vlm, asked: &str) -> Result<()> {
    if group.ranks() == 1 {
        return Ok(());
    }
    let hashes = || -> Result<[(&'static str, u64); 3]> {
        let text = |text: &str| fnv::bytes(fnv::START, text.as_bytes());
        let base = serde_json::to_string(&Fingerprints::of(vlm)?).map_err(not_told)?;
        let mut weights = fnv::START;
        for parameter in vlm.trainable_parameters() {
            let values = parameter.tensor.detach().to_dtype(DType::F32)?;
            let values = values.flatten_all()?.to_vec1::<f32>()?;
            weights = values.iter().fold(weights, |hash, value| {
                fnv::step(hash, u64::from(value.to_bits()))
            });
        }
        Ok([
            ("question, metrics or set", text(asked)),
            ("base model", text(&base)),
            ("trained weights", weights),
        ])
    };
    group.same(&group.agree(hashes())?, ALIKE)
}

/// Makes sure that all ranks have read the same pictures of the set; `positions` are those of this round.
pub(super) fn same_pictures(group: &Group, positions: &[usize]) -> Result<()> {
    if group.ranks() == 1 {
        return Ok(());
    }
    let start = fnv::step(fnv::START, positions.len() as u64);
    let hash = positions
        .iter()
        .fold(start, |hash, &at| fnv::step(hash, at as u64));
    group.same(&[("list of pictures that can be read", hash)], ALIKE)
}

/// The answers to all batches of a round, in their order, of which this rank brings its own: for each batch those under each condition.
pub(super) fn exchanged(
    group: &Group,
    batches: &[Vec<Item>],
    own: Vec<Vec<Answered>>,
) -> Result<Vec<Vec<Vec<Answered>>>> {
    if group.ranks() == 1 {
        return Ok(vec![own]);
    }
    let said: Vec<Vec<Said>> = own
        .into_iter()
        .map(|answers| answers.into_iter().map(Said::of).collect())
        .collect();
    let text = serde_json::to_string(&said).map_err(not_told);
    let texts = group.texts(&group.agree(text)?)?;
    let all = batches.iter().zip(&texts).map(|(batch, text)| {
        let said: Vec<Vec<Said>> = serde_json::from_str(text).map_err(not_told)?;
        let answers = said.into_iter().map(|said| {
            let answers = batch.iter().zip(said);
            answers.map(|(item, said)| said.about(item)).collect()
        });
        Ok(answers.collect())
    });
    all.collect()
}

fn not_told(error: serde_json::Error) -> Error {
    Error::Parallel(format!("what a rank answered: {error}"))
}

impl Said {
    fn of(answer: Answered) -> Self {
        let bits = |surprise: Surprise| (surprise.nats.to_bits(), surprise.tokens);
        Self {
            prediction: answer.prediction,
            confidence: answer.confidence.map(f64::to_bits),
            surprise: answer.surprise.map(bits),
        }
    }

    fn about(self, item: &Item) -> Answered {
        let surprise = |(nats, tokens)| Surprise {
            nats: f64::from_bits(nats),
            tokens,
        };
        Answered {
            prediction: self.prediction,
            references: item.references().to_vec(),
            kind: item.kind().cloned(),
            confidence: self.confidence.map(f64::from_bits),
            surprise: self.surprise.map(surprise),
        }
    }
}

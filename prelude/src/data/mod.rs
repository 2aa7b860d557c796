//! Pictures with captions: where samples come from.
//!
//! # Layout
//! - `coco`: reads a COCO-captions folder
//! - `shapes`: draws pictures with captions and writes them as such a folder
//! - `question`: image-question-answer triples
//!
//! Data flows: [`Shapes`] → COCO-captions folder → [`CocoCaptions`] → [`Sample`]; real COCO enters at the second step.

pub mod coco;
pub mod question;
mod render;
pub mod shapes;

pub use coco::{CocoCaptions, CocoFinding, CocoReport, Samples};
pub use question::{QuestionAnswer, QuestionFormat};
pub use shapes::{
    AttributeScore, CaptionOrder, Colour, Object, Scene, SceneAttributes, Shape, Shapes,
    ShapesConfig, Size,
};

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::vision::Image;

/// Which part of a dataset: learned from, or held out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// The part that training sees.
    Train,
    /// The held-out part.
    Val,
}

impl Split {
    /// The word in COCO's file names: `train` or `val`.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Val => "val",
        }
    }
}

impl std::fmt::Display for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One picture with its captions.
#[derive(Clone, PartialEq)]
pub struct Sample {
    /// The decoded picture.
    pub image: Image,
    /// Its captions, trimmed, none empty, in the order of the annotations file.
    pub captions: Vec<String>,
    /// The dataset's number for the picture.
    pub image_id: u64,
    /// The picture's file name inside the split's folder.
    pub file_name: String,
}

/// The positions 0 to `length` − 1 in a random order, another one for each epoch.
pub(crate) fn shuffled(length: usize, seed: u64, epoch: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch);
    let mut order: Vec<usize> = (0..length).collect();
    order.shuffle(&mut rng);
    order
}

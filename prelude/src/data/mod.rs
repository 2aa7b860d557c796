//! Pictures with captions, questions and conversations: where samples come from.
//!
//! # Layout
//! - `captions`: pictures with captions, wherever they come from; `store`: how they are kept
//! - readers: `coco`, `karpathy` (its splits for papers), `image_folder` and `parquet` (Hugging Face's), `text_files`
//!   (a `.txt` beside each picture), [`llava`] (conversations, with several turns and pictures); `in_memory`: a set written in a cell
//! - what readers share: `json`, `file_name`, `folder`; `report`: what was kept, repaired and skipped
//! - [`shapes`]: draws pictures with captions and writes them as a COCO folder
//! - `teacher`: conversations about pictures by who does not see them, judged by the scene: LLaVA's recipe for data
//! - `question`: image-question-answer triples; `templates`: wordings for questions; `questions`: a set of them, with kinds
//!
//! Data flows: [`Shapes`] → COCO-captions folder → [`CocoCaptions`] → [`Sample`]; real data enters at the second step.

mod captions;
pub(crate) mod coco;
mod file_name;
mod folder;
mod image_folder;
mod in_memory;
mod json;
mod karpathy;
pub mod llava;
pub(crate) mod parquet;
pub(crate) mod question;
mod questions;
mod render;
mod report;
pub mod shapes;
mod store;
pub(crate) mod teacher;
mod templates;
mod text_files;

pub use captions::{Captions, Samples};
pub use coco::CocoCaptions;
pub use coco::instances::Instances;
pub use llava::{Conversation, Conversations, Said, Speaker, Turn};
pub use question::{QuestionAnswer, QuestionFormat};
pub use questions::{Prior, Question, Questions};
pub use report::{CocoFinding, CocoReport};
pub use shapes::{
    AttributeScore, CaptionOrder, Colour, Object, Scene, SceneAttributes, Shape, Shapes,
    ShapesConfig, Size,
};
pub use teacher::{
    Lesson, LessonKind, Lessons, LlmTeacher, NamedBox, Sheet, Teacher, TeacherPrompts,
    TemplateTeacher,
};
pub use templates::QuestionTemplates;
pub use text_files::TextLines;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::vision::Image;

/// Which part of a dataset: learned from, or held out.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let shapes = Shapes::new(ShapesConfig::default())?;
/// // No scene of one split is in the other.
/// assert_ne!(shapes.captions(Split::Train, 0), shapes.captions(Split::Val, 0));
/// assert_eq!((Split::Train.name(), Split::Val.to_string()), ("train", "val".to_string()));
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
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
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let sample: Sample = Shapes::new(ShapesConfig::default())?.sample(Split::Train, 0)?;
/// assert_eq!((sample.image.width(), sample.captions.len()), (64, 5));
/// println!("{} shows {}", sample.file_name, sample.captions[0]);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
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

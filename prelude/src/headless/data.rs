//! The section `[data]`: which reader opens what, and which part is held out → a set to learn from and one to be measured on.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::data::{
    Captions, CocoCaptions, Conversations, Questions, Shapes, ShapesConfig, Split, shuffled,
};
use crate::display::{Facts, display};
use crate::evaluate::{EvaluationItem, EvaluationSet, PromptItem};
use crate::train::{Example, KeptPictures, TrainingSet};
use crate::vlm::Vlm;
use crate::{Error, Result};

/// What shapes are used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Pictures are described.
    #[default]
    Captions,
    /// Questions about pictures are answered.
    Questions,
}

/// What a run learns from, by kind.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let run = RunConfig::parse("output = \"runs/a\"\n[model]\npreset = \"tiny\"\n[data]\nkind = \"shapes\"\ntrain = 50", "run.toml")?;
/// assert!(matches!(run.data, DataConfig::Shapes { train: 50, validation: 200, .. }));
/// let coco = DataConfig::coco("coco");
/// assert!(RunConfig::new("runs/coco", ModelConfig::preset("tiny"), coco)?.to_toml()?.contains("kind = \"coco\""));
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum DataConfig {
    /// Drawn shapes: no files are needed.
    Shapes {
        /// Where they are written as a COCO folder, once; without it they are drawn in memory.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        folder: Option<PathBuf>,
        /// Pictures to learn from.
        #[serde(default = "two_thousand")]
        train: usize,
        /// Held-out pictures.
        #[serde(default = "two_hundred")]
        validation: usize,
        /// Captions, or questions.
        #[serde(default)]
        task: Task,
        /// Size, number of objects and so on.
        #[serde(default)]
        shapes: ShapesConfig,
    },
    /// A COCO folder with `annotations/captions_train2017.json` (or 2014) beside the pictures.
    Coco {
        /// The folder.
        folder: PathBuf,
    },
    /// Karpathy's split of COCO 2014.
    Karpathy {
        /// `dataset_coco.json`.
        file: PathBuf,
        /// The folder with `train2014/` and `val2014/`.
        pictures: PathBuf,
        /// Splits to learn from.
        #[serde(default = "karpathy_train")]
        train: String,
        /// The held-out split.
        #[serde(default = "karpathy_validation")]
        validation: String,
    },
    /// Hugging Face's imagefolder, with `train` and `validation` or `test` folders.
    ImageFolder {
        /// The folder.
        folder: PathBuf,
    },
    /// Parquet files as the hub's datasets come.
    Parquet {
        /// The folder.
        folder: PathBuf,
    },
    /// Conversations in LLaVA's form; the last answer of each held-out one is scored.
    Conversations {
        /// The file to learn from.
        file: PathBuf,
        /// The file that is held out.
        validation: PathBuf,
        /// Where the pictures of both lie.
        pictures: PathBuf,
    },
    /// Pictures with a text file beside each.
    TextFiles {
        /// The folder.
        folder: PathBuf,
        /// Another folder that is held out; without it a part of the first is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        validation: Option<PathBuf>,
        /// The part that is held out, by a draw with this file's seed.
        #[serde(default = "tenth")]
        held_out: f64,
    },
}

fn two_thousand() -> usize {
    2000
}
fn two_hundred() -> usize {
    200
}
fn karpathy_train() -> String {
    "train+restval".into()
}
fn karpathy_validation() -> String {
    "val".into()
}
fn tenth() -> f64 {
    0.1
}

impl DataConfig {
    /// 2,000 drawn pictures, and 200 held out.
    pub fn shapes() -> DataConfig {
        DataConfig::Shapes {
            folder: None,
            train: two_thousand(),
            validation: two_hundred(),
            task: Task::Captions,
            shapes: ShapesConfig::default(),
        }
    }

    /// A COCO folder.
    pub fn coco(folder: impl Into<PathBuf>) -> DataConfig {
        DataConfig::Coco {
            folder: folder.into(),
        }
    }

    pub(super) fn check(&self) -> Result<()> {
        let wrong = |what: String| Err(Error::Config(format!("[data]: {what}")));
        match self {
            DataConfig::Shapes {
                folder: Some(_),
                task: Task::Questions,
                ..
            } => wrong("questions about shapes are asked in memory: leave folder out".into()),
            DataConfig::Shapes {
                train,
                validation,
                shapes,
                ..
            } => {
                if *train == 0 || *validation == 0 {
                    return wrong("train and validation must be at least 1".into());
                }
                Shapes::new(shapes.clone()).map(drop)
            }
            DataConfig::TextFiles { held_out, .. } if !(*held_out > 0.0 && *held_out < 1.0) => {
                wrong(format!(
                    "held_out is {held_out}, it must be a part between 0 and 1"
                ))
            }
            _ => Ok(()),
        }
    }

    /// Whether its captions say colours, shapes and counts that can be compared one by one.
    pub(super) fn is_captioned_shapes(&self) -> bool {
        matches!(
            self,
            DataConfig::Shapes {
                task: Task::Captions,
                ..
            }
        )
    }

    /// Whether questions are asked.
    pub(super) fn asks(&self) -> bool {
        matches!(
            self,
            DataConfig::Conversations { .. }
                | DataConfig::Shapes {
                    task: Task::Questions,
                    ..
                }
        )
    }

    /// Opens the sets and shows what was found.
    pub(super) fn open(&self, seed: u64) -> Result<Sets> {
        let sets = self.opened(seed)?;
        let facts = Facts::new("Data")
            .fact("to learn from", sets.train.said())
            .fact("held out", sets.validation.said());
        display(&facts);
        Ok(sets)
    }

    fn opened(&self, seed: u64) -> Result<Sets> {
        let two = |train: Captions, validation: Captions| Sets {
            train: Set::Captions(train),
            validation: Set::Captions(validation),
        };
        let split = |open: &dyn Fn(Split) -> Result<Captions>| -> Result<Sets> {
            Ok(two(open(Split::Train)?, open(Split::Val)?))
        };
        match self {
            DataConfig::Shapes {
                folder,
                train,
                validation,
                task,
                shapes,
            } => {
                let shapes = Shapes::new(shapes.clone())?;
                match (task, folder) {
                    (Task::Captions, Some(folder)) => {
                        shapes.write_coco(folder, *train, *validation)?;
                        split(&|part| CocoCaptions::open(folder, part))
                    }
                    (Task::Captions, None) => {
                        let drawn = |split, count| -> Result<Set> {
                            let all = (0..count as u64).map(|index| shapes.sample(split, index));
                            let all = all.map(|sample| {
                                sample.map(|sample| Item {
                                    image: sample.image,
                                    references: sample.captions,
                                })
                            });
                            Ok(Set::Drawn(Arc::new(all.collect::<Result<_>>()?)))
                        };
                        Ok(Sets {
                            train: drawn(Split::Train, *train)?,
                            validation: drawn(Split::Val, *validation)?,
                        })
                    }
                    (Task::Questions, _) => {
                        self.check()?; // that there is no folder
                        let asked =
                            |split, count| Set::Asked(Questions::of_shapes(&shapes, split, count));
                        Ok(Sets {
                            train: asked(Split::Train, *train),
                            validation: asked(Split::Val, *validation),
                        })
                    }
                }
            }
            DataConfig::Conversations {
                file,
                validation,
                pictures,
            } => Ok(Sets {
                train: Set::Talks(Conversations::open(file, pictures)?),
                validation: Set::Talks(Conversations::open(validation, pictures)?),
            }),
            DataConfig::Coco { folder } => split(&|part| CocoCaptions::open(folder, part)),
            DataConfig::Karpathy {
                file,
                pictures,
                train,
                validation,
            } => Ok(two(
                Captions::karpathy(file, pictures, train)?,
                Captions::karpathy(file, pictures, validation)?,
            )),
            DataConfig::ImageFolder { folder } => {
                split(&|part| Captions::image_folder(folder, part))
            }
            DataConfig::Parquet { folder } => split(&|part| Captions::parquet(folder, part)),
            DataConfig::TextFiles {
                folder,
                validation: Some(validation),
                ..
            } => Ok(two(
                Captions::text_files(folder)?,
                Captions::text_files(validation)?,
            )),
            DataConfig::TextFiles {
                folder, held_out, ..
            } => {
                let all = Captions::text_files(folder)?;
                let count = (all.len() as f64 * held_out).round() as usize;
                if count == 0 || count >= all.len() {
                    return Err(Error::Input(format!(
                        "{} has {} pictures, of which held_out = {held_out} leaves none on one side: change it, or name a validation folder",
                        folder.display(),
                        all.len()
                    )));
                }
                let order = shuffled(all.len(), seed, 0);
                let (validation, train) = order.split_at(count);
                let part = |positions: &[usize]| {
                    let mut positions = positions.to_vec();
                    positions.sort_unstable();
                    Set::Part(all.clone(), positions)
                };
                Ok(Sets {
                    train: part(train),
                    validation: part(validation),
                })
            }
        }
    }
}

/// What is learned from, and what is held out.
pub(super) struct Sets {
    pub train: Set,
    pub validation: Set,
}

/// A picture in memory.
pub(super) struct Item {
    image: crate::vision::Image,
    references: Vec<String>,
}

/// One of the sets.
#[derive(Clone)]
pub(super) enum Set {
    Captions(Captions),
    /// Some of them.
    Part(Captions, Vec<usize>),
    Drawn(Arc<Vec<Item>>),
    Asked(Questions),
    Talks(Conversations),
}

impl Set {
    fn said(&self) -> String {
        match self {
            Set::Captions(all) => format!("{all:?}"),
            Set::Part(all, positions) => format!("{} of {all:?}", positions.len()),
            Set::Drawn(all) => format!("{} drawn", all.len()),
            Set::Asked(all) => format!("{all:?}"),
            Set::Talks(all) => format!("{all:?}"),
        }
    }

    /// Every caption or answer, for the most frequent one.
    pub(super) fn references(&self) -> Vec<String> {
        match self {
            Set::Captions(all) => all.all_captions(),
            Set::Part(all, positions) => {
                let each = positions.iter();
                each.flat_map(|position| all.captions(*position).unwrap_or_default())
                    .collect()
            }
            Set::Drawn(all) => all
                .iter()
                .flat_map(|item| item.references.clone())
                .collect(),
            Set::Asked(all) => {
                let each = 0..all.len();
                each.flat_map(|position| all.answers(position).unwrap_or_default().to_vec())
                    .collect()
            }
            // What is said most often in conversations is no baseline: that of the held-out answers is taken.
            Set::Talks(_) => Vec::new(),
        }
    }

    /// The first readable pictures, to be watched while the model trains; none where questions are asked.
    pub(super) fn pictures(&self, count: usize) -> Result<Vec<crate::vision::Image>> {
        let mut found = Vec::new();
        if matches!(self, Set::Talks(_) | Set::Asked(_)) {
            return Ok(found);
        }
        for position in 0..EvaluationSet::len(self) {
            if found.len() == count {
                break;
            }
            match EvaluationSet::item(self, position) {
                Ok(item) if item.query.is_none() => found.push(item.image),
                Ok(_) => {}
                // The evaluation and the trainer count those.
                Err(Error::Io { .. } | Error::Image { .. } | Error::Json { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    fn item_at(&self, position: usize) -> Result<&Item> {
        let none = || Error::Input(format!("there is no example {position}"));
        match self {
            Set::Drawn(all) => all.get(position).ok_or_else(none),
            _ => Err(none()),
        }
    }

    /// Where an example of a part lies in the whole.
    fn place(positions: &[usize], position: usize) -> Result<usize> {
        let found = positions.get(position).copied();
        found.ok_or_else(|| {
            Error::Input(format!(
                "there is no example {position} among {}",
                positions.len()
            ))
        })
    }
}

impl TrainingSet for Set {
    fn len(&self) -> usize {
        match self {
            Set::Captions(all) => all.len(),
            Set::Part(_, positions) => positions.len(),
            Set::Drawn(all) => all.len(),
            Set::Asked(all) => all.len(),
            Set::Talks(all) => all.len(),
        }
    }

    fn handle(&self) -> Option<Arc<dyn TrainingSet + Send + Sync>> {
        Some(Arc::new(self.clone()))
    }

    fn length(&self, position: usize) -> Option<usize> {
        match self {
            Set::Captions(all) => TrainingSet::length(all, position),
            Set::Part(all, positions) => TrainingSet::length(all, *positions.get(position)?),
            Set::Drawn(all) => {
                let references = &all.get(position)?.references;
                let bytes: usize = references.iter().map(String::len).sum();
                Some(bytes / references.len().max(1))
            }
            Set::Asked(all) => TrainingSet::length(all, position),
            Set::Talks(all) => TrainingSet::length(all, position),
        }
    }

    fn example(&self, vlm: &Vlm, position: usize) -> Result<Example> {
        match self {
            Set::Captions(all) => TrainingSet::example(all, vlm, position),
            Set::Part(all, positions) => {
                TrainingSet::example(all, vlm, Self::place(positions, position)?)
            }
            Set::Asked(all) => TrainingSet::example(all, vlm, position),
            Set::Talks(all) => TrainingSet::example(all, vlm, position),
            Set::Drawn(_) => {
                let item = self.item_at(position)?;
                let example = Example::with_captions(&item.image, item.references.clone());
                TrainingSet::example(&vec![example], vlm, 0)
            }
        }
    }

    fn example_kept(
        &self,
        vlm: &Vlm,
        position: usize,
        pictures: &KeptPictures,
    ) -> Result<Option<Example>> {
        match self {
            Set::Captions(all) => all.example_kept(vlm, position, pictures),
            Set::Part(all, positions) => {
                all.example_kept(vlm, Self::place(positions, position)?, pictures)
            }
            Set::Asked(all) => all.example_kept(vlm, position, pictures),
            Set::Talks(all) => all.example_kept(vlm, position, pictures),
            Set::Drawn(_) => Ok(None),
        }
    }

    fn name(&self, position: usize) -> String {
        match self {
            Set::Captions(all) => TrainingSet::name(all, position),
            Set::Part(all, positions) => match Self::place(positions, position) {
                Ok(place) => TrainingSet::name(all, place),
                Err(_) => format!("example {position}"),
            },
            Set::Drawn(_) => format!("example {position}"),
            Set::Asked(all) => TrainingSet::name(all, position),
            Set::Talks(all) => TrainingSet::name(all, position),
        }
    }

    fn fingerprint(&self) -> Option<String> {
        let mut hash = crate::runs::hash::Hash::default();
        match self {
            Set::Captions(all) => return Some(all.fingerprint()),
            Set::Asked(all) => return TrainingSet::fingerprint(all),
            Set::Talks(all) => return TrainingSet::fingerprint(all),
            Set::Part(all, positions) => {
                hash.text(&all.fingerprint());
                let positions: Vec<u32> =
                    positions.iter().map(|position| *position as u32).collect();
                hash.numbers(&positions);
            }
            Set::Drawn(all) => {
                for item in all.iter() {
                    item.references.iter().for_each(|text| hash.text(text));
                    hash.numbers(&[]);
                }
            }
        }
        Some(hash.hex())
    }
}

impl EvaluationSet for Set {
    fn len(&self) -> usize {
        TrainingSet::len(self)
    }

    fn item(&self, position: usize) -> Result<EvaluationItem> {
        match self {
            Set::Captions(all) => EvaluationSet::item(all, position),
            Set::Part(all, positions) => {
                EvaluationSet::item(all, Self::place(positions, position)?)
            }
            Set::Asked(all) => EvaluationSet::item(all, position),
            Set::Talks(all) => EvaluationSet::item(all, position),
            Set::Drawn(_) => {
                let item = self.item_at(position)?;
                Ok(EvaluationItem {
                    image: item.image.clone(),
                    query: None,
                    references: item.references.clone(),
                    kind: None,
                })
            }
        }
    }

    fn prompt(&self, vlm: &Vlm, position: usize) -> Result<Option<PromptItem>> {
        match self {
            Set::Talks(all) => EvaluationSet::prompt(all, vlm, position),
            _ => Ok(None),
        }
    }
}

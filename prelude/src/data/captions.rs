//! Pictures with captions, wherever they come from: what trainers and evaluations take.
//!
//! a reader ([`coco`](super::coco), [`karpathy`](super::karpathy), [`image_folder`](super::image_folder),
//! [`parquet`](super::parquet), [`text_files`](super::text_files)) → `store` → [`Captions`] → [`Sample`], decoded when asked for.

use std::path::PathBuf;
use std::sync::Arc;

use super::report::CocoReport;
use super::store::Store;
use super::{Sample, shuffled};
use crate::runs::hash::Hash;
use crate::train::PictureFile;
use crate::{Error, Result};

/// Where captions stand in a table unless a column is named, in this order.
pub(super) const COLUMNS: [&str; 7] = [
    "text",
    "caption",
    "captions",
    "texts",
    "sentences",
    "description",
    "prompt",
];

/// What held-out parts are called on the Hugging Face hub, in the order in which they are looked for.
pub(super) const HELD_OUT: [&str; 6] = ["validation", "val", "valid", "dev", "eval", "test"];

/// Pictures with captions. Cheap to clone; pictures are decoded one at a time.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let set = Captions::of_images([
///     (Image::filled(64, 64, [214, 40, 40])?, vec!["all red", "a red picture"]),
///     (Image::filled(64, 64, [38, 84, 205])?, vec!["all blue"]),
/// ])?;
/// assert_eq!((set.len(), set.report().captions), (2, 3));
/// let first: Sample = set.samples(0, 0).next().unwrap()?; // in the order of seed 0, epoch 0
/// assert_eq!(first.image.width(), 64);
/// assert_eq!(set.order(0, 0), set.order(0, 0)); // the same each time
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone)]
pub struct Captions {
    store: Arc<Store>,
}

impl Captions {
    pub(super) fn of(store: Store) -> Captions {
        Captions {
            store: Arc::new(store),
        }
    }

    /// A dataset none of whose pictures can be used is an error that says what was found.
    pub(super) fn unless_empty(store: Store, what_to_do: &str) -> Result<Captions> {
        match store.len() {
            0 => Err(Error::Input(format!(
                "{} holds no picture that can be used ({}): {what_to_do}",
                store.source.display(),
                store.report
            ))),
            _ => Ok(Captions::of(store)),
        }
    }

    /// Number of pictures that have a file and a caption.
    pub fn len(&self) -> usize {
        self.store.len()
    }

    /// Never true: opening an empty dataset is an error.
    pub fn is_empty(&self) -> bool {
        self.store.len() == 0
    }

    /// What was found and what was left out.
    pub fn report(&self) -> CocoReport {
        self.store.report.clone()
    }

    /// Reads and decodes the picture at a position (in the order of the file that lists them).
    ///
    /// # Errors
    /// `Input` when there is no such position; `Io` or `Image` when the file is gone or broken, naming it.
    pub fn sample(&self, position: usize) -> Result<Sample> {
        let (image_id, file_name) = self.picture(position)?;
        Ok(Sample {
            image: self.store.load(position)?,
            captions: self.captions(position)?,
            image_id,
            file_name: file_name.to_string(),
        })
    }

    /// The captions at a position, without decoding the picture.
    ///
    /// # Errors
    /// `Input` when there is no such position.
    pub fn captions(&self, position: usize) -> Result<Vec<String>> {
        self.picture(position)?;
        Ok(self.store.captions(position).map(str::to_string).collect())
    }

    /// Where the picture at a position lies.
    ///
    /// # Errors
    /// `Input` when there is no such position.
    pub fn picture_path(&self, position: usize) -> Result<PathBuf> {
        Ok(self.store.pictures.join(self.picture(position)?.1))
    }

    /// The file that the picture at a position lies in; `None` for one in memory.
    ///
    /// # Errors
    /// `Input` when there is no such position.
    pub(crate) fn picture_file(&self, position: usize) -> Result<Option<PictureFile>> {
        self.picture(position)?;
        Ok(self.store.file(position))
    }

    /// Every caption, picture by picture: text to train a tokenizer or a language model on.
    pub fn all_captions(&self) -> Vec<String> {
        let positions = 0..self.len();
        positions
            .flat_map(|position| self.store.captions(position).map(str::to_string))
            .collect()
    }

    /// What the set is known by: a hash of the pictures' names and captions. The pictures themselves are not read.
    pub fn fingerprint(&self) -> String {
        let mut hash = Hash::default();
        for position in 0..self.len() {
            if let Some((_, name)) = self.store.picture(position) {
                hash.text(name);
            }
            self.store
                .captions(position)
                .for_each(|caption| hash.text(caption));
            hash.numbers(&[]);
        }
        hash.hex()
    }

    /// All positions in a random order, another one for each epoch; the same arguments give the same order.
    pub fn order(&self, seed: u64, epoch: u64) -> Vec<usize> {
        shuffled(self.len(), seed, epoch)
    }

    /// One pass over all samples in the order of (`seed`, `epoch`).
    pub fn samples(&self, seed: u64, epoch: u64) -> Samples {
        Samples {
            dataset: self.clone(),
            order: self.order(seed, epoch),
            next: 0,
        }
    }

    pub(super) fn picture(&self, position: usize) -> Result<(u64, &str)> {
        self.store.picture(position).ok_or_else(|| {
            Error::Input(format!(
                "there is no picture {position} in {}: choose 0 to {}",
                self.store.source.display(),
                self.len() - 1
            ))
        })
    }
}

impl std::fmt::Debug for Captions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Store {
            kind,
            source,
            report,
            ..
        } = &*self.store;
        write!(f, "{kind}({}: {report})", source.display())
    }
}

/// One pass over a dataset. Owns what it needs, so a cell can keep it half-way.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let shapes = Shapes::new(ShapesConfig::default())?;
/// let pairs = [shapes.sample(Split::Val, 0)?, shapes.sample(Split::Val, 1)?].map(|sample| (sample.image, sample.captions));
/// let mut samples = Captions::of_images(pairs)?.samples(1, 0); // in the order of seed 1's first epoch
/// assert_eq!(samples.len(), 2);
/// assert!(!samples.next().expect("there are two")?.captions.is_empty());
/// assert_eq!(samples.len(), 1);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Samples {
    dataset: Captions,
    order: Vec<usize>,
    next: usize,
}

impl Samples {
    /// Samples that are still to come.
    pub fn len(&self) -> usize {
        self.order.len().saturating_sub(self.next)
    }

    /// Whether none is to come.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Samples of the whole pass.
    pub(super) fn all(&self) -> usize {
        self.order.len()
    }

    pub(super) fn dataset(&self) -> &Captions {
        &self.dataset
    }
}

impl Iterator for Samples {
    type Item = Result<Sample>;

    fn next(&mut self) -> Option<Result<Sample>> {
        let position = *self.order.get(self.next)?;
        self.next += 1;
        Some(self.dataset.sample(position))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.order.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Samples {}

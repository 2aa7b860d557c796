//! The examples of one sitting: positions → prepared examples, read ahead on background threads, kept as many as fit; what can't
//! be read is left out.
//!
//! ```text
//! order ─ picks of the next steps ─► asked for ─ threads: read, decode, prepare, maybe encode ─► there ─ pick of this step ─► example
//! ```
//! Which example stands where is the order's word alone: neither the number of threads nor their haste changes it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::features::Features;
use super::loader::Loader;
use super::order::Order;
use super::pictures::KeptPictures;
use super::set::{Example, TrainingSet};
use super::settings::TrainerSettings;
use super::unreadable::LeftOut;
use crate::vlm::Vlm;
use crate::{Error, Result};

/// Reads a training set.
pub(super) struct Inputs<'a> {
    vlm: &'a Vlm,
    set: &'a dyn TrainingSet,
    order: Order,
    /// Part of the set that may be unreadable.
    max_unreadable: f64,
    /// Positions that could not be read in this sitting, or are of no use.
    unreadable: HashSet<usize>,
    examples: HashMap<usize, Arc<Example>>,
    bytes: usize,
    /// What `examples` may take.
    most: usize,
    kept: OnDisk,
    loader: Option<Loader>,
    /// Picks that are asked for ahead of their step.
    ahead: usize,
    /// The first pick that was not asked for yet.
    asked: usize,
    /// Picks of all steps of the run.
    end: usize,
    samples_a_step: usize,
}

impl<'a> Inputs<'a> {
    pub(super) fn new(
        vlm: &'a Vlm,
        set: &'a dyn TrainingSet,
        order: Order,
        settings: &TrainerSettings,
    ) -> Result<Self> {
        let kept = OnDisk::open(vlm, settings)?;
        let handle = set.handle().filter(|_| settings.workers > 0);
        let loader = match handle {
            Some(handle) => Some(Loader::start(settings.workers, vlm, handle, kept.clone())?),
            None => None,
        };
        let samples_a_step = settings.samples_a_step();
        Ok(Self {
            vlm,
            set,
            order,
            max_unreadable: settings.max_unreadable,
            unreadable: HashSet::new(),
            examples: HashMap::new(),
            bytes: 0,
            most: settings.cache_megabytes.saturating_mul(1 << 20),
            kept,
            loader,
            ahead: settings.prefetch.saturating_mul(samples_a_step),
            asked: 0,
            end: settings.steps.saturating_mul(samples_a_step),
            samples_a_step,
        })
    }

    /// The example at `slot` of a step's batch, with its position. In the place of one that can't be read stands the next
    /// of the epoch's order that can, so that the same seed and the same files give the same steps.
    pub(super) fn pick(
        &mut self,
        (step, slot): (usize, usize),
        left_out: &mut LeftOut,
    ) -> Result<(usize, Arc<Example>)> {
        self.ask_ahead(step * self.samples_a_step + slot);
        for later in 0..self.set.len() {
            let position = self.order.pick(step, slot, later);
            if self.unreadable.contains(&position) {
                continue;
            }
            match self.read(position) {
                Ok(example) => return Ok((position, example)),
                Err(error) => {
                    let limits = (self.max_unreadable, self.set.len());
                    left_out.add((false, position), error, limits)?;
                    self.unreadable.insert(position);
                }
            }
        }
        Err(Error::NoSamples {
            set: "the training set".into(),
            why: "no example can be read any more, see which were left out; mend or replace them"
                .into(),
        })
    }

    /// Leaves out an example that is of no use.
    pub(super) fn leave_out(&mut self, position: usize) {
        self.unreadable.insert(position);
    }

    /// Has the threads read what the picks up to some steps from `place` on need.
    fn ask_ahead(&mut self, place: usize) {
        let Some(loader) = &self.loader else { return };
        let to = (place + 1 + self.ahead).min(self.end);
        for place in self.asked.max(place)..to {
            let (step, slot) = (place / self.samples_a_step, place % self.samples_a_step);
            let position = self.order.pick(step, slot, 0);
            if !self.examples.contains_key(&position) && !self.unreadable.contains(&position) {
                loader.ask(position);
            }
        }
        self.asked = self.asked.max(to);
    }

    fn read(&mut self, position: usize) -> Result<Arc<Example>> {
        if let Some(example) = self.examples.get(&position) {
            return Ok(example.clone());
        }
        let example = match &self.loader {
            Some(loader) => loader.take(position)?,
            None => read_one(self.vlm, self.set, &self.kept, position)?,
        };
        let example = Arc::new(example);
        let bytes = example.bytes();
        if self.bytes + bytes <= self.most {
            self.bytes += bytes;
            self.examples.insert(position, example.clone());
        }
        Ok(example)
    }
}

/// What is kept on disk.
#[derive(Clone)]
pub(super) struct OnDisk {
    features: Option<Arc<Features>>,
    pictures: Option<Arc<KeptPictures>>,
}

impl OnDisk {
    fn open(vlm: &Vlm, settings: &TrainerSettings) -> Result<Self> {
        let features = settings.features.as_ref();
        let features = features.map(|kept| Features::open(vlm, kept));
        let pictures = settings.pictures.as_ref();
        let pictures = pictures.map(|kept| KeptPictures::open(vlm, kept));
        Ok(Self {
            features: features.transpose()?.map(Arc::new),
            pictures: pictures.transpose()?.map(Arc::new),
        })
    }
}

/// The example at a position, prepared, and with the encoder's features in place of its inputs where these are kept.
pub(super) fn read_one(
    vlm: &Vlm,
    set: &dyn TrainingSet,
    kept: &OnDisk,
    position: usize,
) -> Result<Example> {
    let example = match &kept.pictures {
        None => set.example(vlm, position)?,
        Some(pictures) => set.example_kept(vlm, position, pictures)?.ok_or_else(|| {
            Error::Config(
                "trainer: `pictures` keeps prepared pictures of files on disk, and this training set reads none, or does not say \
                 which: implement `TrainingSet::example_kept` for it, or leave `pictures` out"
                    .into(),
            )
        })?,
    };
    match &kept.features {
        Some(features) => example.encoded(vlm, features),
        None => Ok(example),
    }
}

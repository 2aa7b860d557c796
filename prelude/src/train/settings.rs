//! The settings of a run: what a cell writes, what a file holds, and what a checkpoint keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::adamw::Rates;
use super::features::FeatureSettings;
use super::optimizer::{Optimizer, OptimizerKind};
use super::part::{PartSettings, TrainedPart, is_lora_b};
use super::schedule::Schedule;
use super::unreadable;
use crate::nn::Parameter;
use crate::vlm::Vlm;
use crate::{Error, Result};

/// What a step learns from each caption.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let random = TrainerSettings { loss: LossKind::RandomPrefix, ..TrainerSettings::tour() };
/// random.validate()?;
/// let smoothed = TrainerSettings { label_smoothing: 0.1, ..random };
/// assert!(smoothed.validate().is_err()); // goes with FullSequence alone
/// assert_eq!(TrainerSettings::default().loss, LossKind::FullSequence);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// One token at a random place, as in the blog.
    RandomPrefix,
    /// Every token at once: the mean of the random-prefix loss over all places, from one forward pass.
    #[default]
    FullSequence,
}

/// What the sum of a step's losses is divided by, with [`LossKind::FullSequence`].
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let by_caption = TrainerSettings::from_json(r#"{"divide_by": "samples"}"#)?;
/// assert_eq!(by_caption.divide_by, LossAverage::Samples);
/// let differences = TrainerSettings::default().differences(&by_caption)?;
/// assert!(differences[0].changes_steps()); // the same data and seed give other steps
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossAverage {
    /// The targets of the whole step: every token counts alike, in whatever parts the step is computed.
    #[default]
    Tokens,
    /// The samples of the step, each with the mean over its own targets: every caption counts alike.
    Samples,
}

/// What becomes of a sample that is longer than the language model's context, or than `max_tokens`.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let image = Image::filled(64, 64, [200, 30, 40])?;
/// let set = vec![Example::new(&image, "a red square left of a blue star and a green circle")];
/// let tokens = vlm.caption_prompt(&image, "a red square")?;
/// let most = vlm.sequence(std::slice::from_ref(&tokens))?.lengths[0];
/// let settings = TrainerSettings { steps: 1, batch_size: 1, max_tokens: Some(most), ..TrainerSettings::tour() };
/// let cut = TrainerSettings { too_long: TooLong::Cut, ..settings };
/// assert_eq!(Trainer::new(cut)?.fit(&vlm, &set, &set)?.cut, 1);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TooLong {
    /// It ends the run, by name.
    #[default]
    Refuse,
    /// Its end is cut off, as far as targets stand there; the cuts are counted. One that has no target left ends the run.
    Cut,
    /// It is left out as one that can't be read is, named and counted.
    LeaveOut,
}

/// What becomes of samples whose loss or gradient is no finite number. The step is not taken in either case.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let settings = TrainerSettings { not_finite: NotFinite::LeaveOut, ..TrainerSettings::tour() };
/// let json = settings.to_json()?;
/// assert!(json.contains(r#""not_finite": "leave_out""#));
/// assert_eq!(TrainerSettings::from_json("{}")?.not_finite, NotFinite::Stop);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotFinite {
    /// They end the run, by name.
    #[default]
    Stop,
    /// They are left out as those that can't be read are, named and counted, and the step is made with others.
    LeaveOut,
}

/// What becomes of a run whose checkpoint can't be written, such as onto a full disk. The older ones stay.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let json = r#"{"checkpoints": {"folder": "runs/a/checkpoints", "on_failure": "stop"}}"#;
/// let settings = TrainerSettings::from_json(json)?;
/// assert_eq!(settings.checkpoints.map(|kept| kept.on_failure), Some(FailedSave::Stop));
/// assert_eq!(CheckpointSettings::new("runs/a/checkpoints").on_failure, FailedSave::Warn);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailedSave {
    /// It goes on, with a warning.
    #[default]
    Warn,
    /// It ends.
    Stop,
}

/// Checkpoints while a run goes on: `folder/step-00000100` and so on.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # let folder = std::env::temp_dir().join(format!("checkpoint-settings-{}", std::process::id()));
/// # let folder = folder.as_path();
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let set = vec![Example::new(&Image::filled(64, 64, [200, 30, 40])?, "a red square")];
/// let checkpoints = CheckpointSettings { every: 1, keep_best: false, ..CheckpointSettings::new(folder) };
/// let settings = TrainerSettings { steps: 2, batch_size: 1, checkpoints: Some(checkpoints), ..TrainerSettings::tour() };
/// Trainer::new(settings)?.fit(&vlm, &set, &set)?;
/// let steps: Vec<usize> = run_checkpoints(folder)?.iter().map(|kept| kept.step).collect();
/// assert_eq!(steps, [1, 2]);
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointSettings {
    /// Where they lie.
    pub folder: PathBuf,
    /// Steps from one to the next; 0: only at the end, and the best.
    #[serde(default = "hundred")]
    pub every: usize,
    /// So many of the newest are kept, at least one.
    #[serde(default = "two")]
    pub keep_last: usize,
    /// Whether the best by `best_by` is written and kept as well.
    #[serde(default = "yes")]
    pub keep_best: bool,
    /// What becomes of the run if one can't be written.
    #[serde(default)]
    pub on_failure: FailedSave,
}

impl CheckpointSettings {
    /// Every 100 steps, the last two and the best.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            every: hundred(),
            keep_last: two(),
            keep_best: true,
            on_failure: FailedSave::Warn,
        }
    }
}

fn hundred() -> usize {
    100
}

fn two() -> usize {
    2
}

fn yes() -> bool {
    true
}

/// The figure that says which state of the model is the best.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let set = vec![Example::new(&Image::filled(64, 64, [200, 30, 40])?, "a red square")];
/// let best_by = BestBy { figure: "words".into(), highest: true };
/// let settings = TrainerSettings { steps: 1, batch_size: 1, best_by, ..TrainerSettings::tour() };
/// let mut trainer = Trainer::new(settings)?;
/// trainer.measure("words", |_| Ok(7.0)); // any number that can be had from the model
/// trainer.fit(&vlm, &set, &set)?;
/// assert_eq!(trainer.best().map(|(_, words)| words), Some(7.0));
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BestBy {
    /// `validation_loss`, or the name of a figure that the trainer measures ([`Trainer::measure`](super::Trainer::measure)).
    pub figure: String,
    /// Whether more is better.
    #[serde(default)]
    pub highest: bool,
}

impl Default for BestBy {
    /// The lowest validation loss.
    fn default() -> Self {
        Self {
            figure: "validation_loss".into(),
            highest: false,
        }
    }
}

/// The run ends when the figure of `best_by` no longer gets better.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let set = vec![Example::new(&Image::filled(64, 64, [200, 30, 40])?, "a red square")];
/// let early_stop = Some(EarlyStop { patience: 1, least: 100.0 }); // no step makes it better by so much
/// let settings = TrainerSettings { steps: 5, batch_size: 1, validate_every: 1, early_stop, ..TrainerSettings::tour() };
/// let report = Trainer::new(settings)?.fit(&vlm, &set, &set)?;
/// assert!(report.steps < 5);
/// assert!(report.stopped.is_some());
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStop {
    /// So many measurements in a row without a better one end the run, at least one.
    pub patience: usize,
    /// By so much a figure must be better than the best to count.
    #[serde(default)]
    pub least: f64,
}

/// A stretch of the run in which only some parts train, such as LLaVA's first, which aligns the projector. The schedule runs
/// anew in each.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let align = TrainStage { share: 0.25, train: vec![TrainedPart::Projector], learning_rate: Some(1e-3) };
/// let tune = TrainStage { share: 0.75, train: vec![TrainedPart::Projector, TrainedPart::LlmLora], learning_rate: None };
/// let settings = TrainerSettings { stages: vec![align, tune], ..TrainerSettings::tour() };
/// settings.validate()?;
/// let halves = TrainerSettings { stages: settings.stages[..1].to_vec(), ..settings };
/// assert!(halves.validate().is_err()); // the shares are not 1 together
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainStage {
    /// Its part of the run's steps; those of all stages are 1 together.
    pub share: f64,
    /// What trains in it; everything else stays as it is.
    pub train: Vec<TrainedPart>,
    /// Its highest learning rate, for parts that have none of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
}

/// The settings of a [`Trainer`](super::Trainer). In a file (TOML, JSON) every field may be left out, which is its default, and one that
/// there is not is refused by name.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let settings = TrainerSettings { steps: 200, schedule: Schedule::Constant, ..TrainerSettings::tour() };
/// let json = settings.to_json()?;
/// assert_eq!(TrainerSettings::from_json(&json)?, settings);
/// let error = TrainerSettings::from_json(r#"{"lerning_rate": 0.1}"#).unwrap_err().to_string();
/// assert!(error.contains("lerning_rate"), "{error}");
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainerSettings {
    /// The highest learning rate of the run.
    pub learning_rate: f64,
    /// AdamW's decoupled weight decay.
    pub weight_decay: f64,
    /// Plain or schedule-free AdamW.
    pub optimizer: OptimizerKind,
    /// AdamW's decay of the running mean of gradients.
    pub beta1: f64,
    /// AdamW's decay of the running mean of squared gradients.
    pub beta2: f64,
    /// What AdamW adds to the root of the second moment.
    pub eps: f64,
    /// LoRA+ (Hayou et al. 2024): LoRA's B learns at so many times the rate of A; 16 is usual, 1 is plain LoRA.
    pub lora_plus: f64,
    /// Samples that are computed together.
    pub batch_size: usize,
    /// Keeps of each layer of the language model, of a ViT and of the towers its input alone, and computes the layer again in the
    /// backward pass: less memory for about a third more time. On the CPU. Another encoder that trains is named before the first step:
    /// it keeps everything.
    pub gradient_checkpointing: bool,
    /// So many batches make one step: their gradients are added up, as if the step were one batch of all their samples. For
    /// more samples in a step than memory holds at once.
    pub accumulate: usize,
    /// Steps in the run.
    pub steps: usize,
    /// Decides which samples and captions each step sees.
    pub seed: u64,
    /// What a step learns from each caption.
    pub loss: LossKind,
    /// With [`LossKind::FullSequence`]: the part of each target that is any token instead of the right one; 0 is none, 0.1 is usual.
    /// The validation loss is measured without.
    pub label_smoothing: f64,
    /// What the losses of a step are divided by.
    pub divide_by: LossAverage,
    /// Longest gradient that is used as it is; a longer one is scaled down to this. `None`, in files 0: no limit.
    #[serde(with = "no_limit")]
    pub max_norm: Option<f64>,
    /// Longest sequence to learn from, in tokens; `None`: the language model's context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<usize>,
    /// What becomes of a longer one.
    pub too_long: TooLong,
    /// What becomes of samples whose loss or gradient is no finite number.
    pub not_finite: NotFinite,
    /// Steps between two measurements of the validation loss; 0: only at the end.
    pub validate_every: usize,
    /// Held-out samples that the validation loss is measured on, the first of the dataset.
    pub validation_samples: usize,
    /// Part of the training set, and of the held-out set, that may be unreadable: a picture that is gone, cut off or no
    /// picture is left out, named once and counted in report and log, and another takes its place. More of them end the
    /// run; one may always be, unless this is 0, when the first ends it.
    pub max_unreadable: f64,
    /// Whether the first step ends the run when something that trains gets no gradient, such as behind an operation without
    /// a backward pass: it would never move. Or, in an encoder of one's own, another gradient than the slope of the loss: it would
    /// move another way.
    pub require_gradients: bool,
    /// Threads that read, decode and prepare samples while the model trains, for sets that have a
    /// [`handle`](super::TrainingSet::handle); 0: each is read when its step comes. Which samples a step has does not depend on it.
    pub workers: usize,
    /// So many steps ahead they read.
    pub prefetch: usize,
    /// Prepared samples are kept in memory up to this size, in 2²⁰ bytes, so that later epochs do not read them again.
    pub cache_megabytes: usize,
    /// Above 1: of so many steps in a row the samples are sorted by length and dealt into steps of alike lengths, for less padding. The
    /// set must know its [`length`](super::TrainingSet::length)s.
    pub bucket: usize,
    /// Several samples of a batch share a row of at most `max_tokens` tokens, so that less of it is padding. Each sees itself only,
    /// and its positions begin anew: losses and gradients are those of samples in rows of their own, to rounding. Off the CPU the
    /// scores of a whole row are held: bound it there by `max_tokens`.
    pub packing: bool,
    /// A file that gets one JSON line a step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<PathBuf>,
    /// A folder for the run: its settings, seed, versions and data, each step (as JSON lines and for TensorBoard), captions as they
    /// change, the curve. See [`Run`](crate::runs::Run).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<PathBuf>,
    /// Shows nothing, for loops over many runs.
    pub quiet: bool,
    /// Shape of the learning rate over the run.
    pub schedule: Schedule,
    /// Which state of the model is the best.
    pub best_by: BestBy,
    /// When the run ends before its last step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stop: Option<EarlyStop>,
    /// Checkpoints while the run goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoints: Option<CheckpointSettings>,
    /// What the frozen encoder makes of each sample, kept on disk for later epochs and runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub features: Option<FeatureSettings>,
    /// Pictures as the image processor makes them, kept on disk for later epochs and runs: for sets that read them from files, and
    /// encoders that train or slow disks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pictures: Option<FeatureSettings>,
    /// Stages one after the other, in one run; none: everything trains all the time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<TrainStage>,
    /// Learning rate and weight decay of single parts, where they differ from those above.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<TrainedPart, PartSettings>,
}

impl Default for TrainerSettings {
    /// The blog's learning rate, full sequences, 1000 steps of 8 samples.
    fn default() -> Self {
        Self {
            learning_rate: 3e-4,
            weight_decay: 0.01,
            optimizer: OptimizerKind::Adamw,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            lora_plus: 1.0,
            batch_size: 8,
            gradient_checkpointing: false,
            accumulate: 1,
            steps: 1000,
            seed: 0,
            loss: LossKind::FullSequence,
            label_smoothing: 0.0,
            divide_by: LossAverage::Tokens,
            max_norm: Some(1.0),
            max_tokens: None,
            too_long: TooLong::Refuse,
            not_finite: NotFinite::Stop,
            validate_every: 100,
            validation_samples: 32,
            max_unreadable: unreadable::MOST,
            require_gradients: true,
            workers: 2,
            prefetch: 2,
            cache_megabytes: 512,
            bucket: 1,
            packing: false,
            log: None,
            run: None,
            quiet: false,
            schedule: Schedule::WarmupCosine {
                warmup: 0.05,
                floor: 0.05,
            },
            best_by: BestBy::default(),
            early_stop: None,
            checkpoints: None,
            features: None,
            pictures: None,
            stages: Vec::new(),
            parts: BTreeMap::new(),
        }
    }
}

impl TrainerSettings {
    /// What the tour uses: joins the tiny model's halves in about a minute on two cores.
    pub fn tour() -> Self {
        Self {
            learning_rate: 3e-3,
            steps: 700,
            ..Self::default()
        }
    }

    /// Reads settings as JSON.
    ///
    /// # Errors
    /// `Config` for what is no JSON, a field that there is not, a value of another kind or out of its range.
    pub fn from_json(json: &str) -> Result<Self> {
        let settings: Self = serde_json::from_str(json)
            .map_err(|error| Error::Config(format!("trainer settings: {error}")))?;
        settings.validate()?;
        Ok(settings)
    }

    /// The settings as JSON, every field.
    ///
    /// # Errors
    /// `Config` for a value that JSON has no words for, such as a rate that is no number.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(self)
            .map_err(|error| Error::Config(format!("trainer settings: {error}")))
    }

    /// Checks every setting against its range, as [`Trainer::new`](super::Trainer::new) does.
    ///
    /// # Errors
    /// `Config`, naming the setting.
    pub fn validate(&self) -> Result<()> {
        let mut counts = vec![
            ("batch_size", self.batch_size),
            ("accumulate", self.accumulate),
            ("steps", self.steps),
            ("bucket", self.bucket),
            ("max_tokens", self.max_tokens.unwrap_or(1)),
        ];
        counts.extend(
            self.early_stop
                .map(|stop| ("early_stop.patience", stop.patience)),
        );
        let checkpoints = self.checkpoints.as_ref();
        counts.extend(checkpoints.map(|kept| ("checkpoints.keep_last", kept.keep_last)));
        if let Some((name, _)) = counts.into_iter().find(|(_, value)| *value == 0) {
            return Err(Error::Config(format!(
                "trainer: {name} is 0, it must be at least 1"
            )));
        }
        if !(0.0..=1.0).contains(&self.label_smoothing)
            || (self.label_smoothing > 0.0 && self.loss == LossKind::RandomPrefix)
        {
            return Err(Error::Config(format!(
                "trainer: label_smoothing is {}, it must be a part from 0 to 1, and goes with LossKind::FullSequence",
                self.label_smoothing
            )));
        }
        if !(0.0..=1.0).contains(&self.max_unreadable) {
            return Err(Error::Config(format!(
                "trainer: max_unreadable is {}, it must be a part from 0 to 1",
                self.max_unreadable
            )));
        }
        let mut sizes = vec![
            ("learning_rate".to_owned(), self.learning_rate),
            ("weight_decay".to_owned(), self.weight_decay),
            ("lora_plus".to_owned(), self.lora_plus),
        ];
        sizes.extend(
            self.early_stop
                .map(|stop| ("early_stop.least".to_owned(), stop.least)),
        );
        for (part, own) in &self.parts {
            let part = part.name();
            let rate = own
                .learning_rate
                .map(|rate| (format!("parts.{part}.learning_rate"), rate));
            let decay = own
                .weight_decay
                .map(|decay| (format!("parts.{part}.weight_decay"), decay));
            sizes.extend(rate.into_iter().chain(decay));
        }
        let wrong = |value: f64| !value.is_finite() || value < 0.0;
        if let Some((name, value)) = sizes.into_iter().find(|(_, value)| wrong(*value)) {
            return Err(Error::Config(format!(
                "trainer: {name} is {value}, it must not be negative"
            )));
        }
        let shares: f64 = self.stages.iter().map(|stage| stage.share).sum();
        let odd = |stage: &TrainStage| {
            stage.share.is_nan() || stage.share <= 0.0 || stage.train.is_empty()
        };
        if !self.stages.is_empty() && ((shares - 1.0).abs() > 1e-6 || self.stages.iter().any(odd)) {
            return Err(Error::Config(format!(
                "trainer: each of the stages must train something and have a share above 0, and all shares together must be 1, not \
                 {shares}"
            )));
        }
        let falls = !matches!(self.schedule, Schedule::Constant | Schedule::Warmup { .. });
        if self.optimizer == OptimizerKind::ScheduleFree && falls {
            return Err(Error::Config(format!(
                "trainer: schedule_free averages its steps in place of a falling rate, and the schedule is {:?}: give it \
                 Schedule::Warmup {{ warmup: 0.05 }} or Schedule::Constant",
                self.schedule
            )));
        }
        self.schedule.validate()?;
        // Moments' decays and eps are the optimizer's own to check.
        Optimizer::new(self)?;
        match self.max_norm {
            Some(norm) if norm.is_nan() || norm <= 0.0 => Err(Error::Config(format!(
                "trainer: max_norm is {norm}, it must be above 0 (None for no limit)"
            ))),
            _ => Ok(()),
        }
    }
}

impl TrainerSettings {
    /// Samples in a step.
    pub fn samples_a_step(&self) -> usize {
        self.batch_size.saturating_mul(self.accumulate)
    }

    /// Tokens that a row of several samples may have, with packing.
    pub(super) fn packed(&self, vlm: &Vlm) -> Option<usize> {
        self.packing.then(|| self.most_tokens(vlm))
    }

    /// The longest sequence to learn from, in tokens.
    pub(super) fn most_tokens(&self, vlm: &Vlm) -> usize {
        let context = vlm.llm.config.max_position_embeddings;
        self.max_tokens.map_or(context, |most| most.min(context))
    }

    /// The stage of a step, and how much of it is done before that step.
    pub(super) fn stage(&self, step: usize) -> (Option<usize>, f64) {
        let mut from = 0;
        let mut share = 0.0;
        for (at, stage) in self.stages.iter().enumerate() {
            share += stage.share;
            let is_last = at + 1 == self.stages.len();
            let to = match is_last {
                true => self.steps.max(from),
                false => (share * self.steps as f64).round() as usize,
            };
            if step < to || is_last {
                let length = (to - from).max(1);
                return (Some(at), step.saturating_sub(from) as f64 / length as f64);
            }
            from = to;
        }
        (None, step as f64 / self.steps as f64)
    }

    /// What trains in a stage.
    pub(super) fn active(&self, stage: Option<usize>, parameters: &[Parameter]) -> Vec<Parameter> {
        let trains = |parameter: &&Parameter| match stage.and_then(|at| self.stages.get(at)) {
            Some(stage) => stage.train.contains(&TrainedPart::of(parameter)),
            None => true,
        };
        parameters.iter().filter(trains).cloned().collect()
    }

    /// The highest learning rate of a stage, of parts that have none of their own.
    pub(super) fn rate_of(&self, stage: Option<usize>) -> f64 {
        let stage = stage.and_then(|at| self.stages.get(at));
        let own = stage.and_then(|stage| stage.learning_rate);
        own.unwrap_or(self.learning_rate)
    }

    /// Learning rate at its highest, and weight decay, of a parameter in a stage.
    pub(super) fn rates(&self, stage: Option<usize>, parameter: &Parameter) -> Rates {
        let own = self.parts.get(&TrainedPart::of(parameter)).copied();
        let own = own.unwrap_or_default();
        let rate = own.learning_rate.unwrap_or(self.rate_of(stage));
        Rates {
            rate: match is_lora_b(parameter) {
                true => rate * self.lora_plus,
                false => rate,
            },
            weight_decay: own.weight_decay.unwrap_or(self.weight_decay),
        }
    }

    /// Refuses settings for a part of which nothing trains, as they would do nothing, and a part that no stage trains.
    pub(super) fn check_parts(&self, parameters: &[Parameter]) -> Result<()> {
        let trains: BTreeSet<TrainedPart> = parameters.iter().map(TrainedPart::of).collect();
        let named = self.parts.keys().map(|part| ("parts", part));
        let staged = self.stages.iter().flat_map(|stage| &stage.train);
        let mut named = named.chain(staged.clone().map(|part| ("stages", part)));
        if let Some((at, idle)) = named.find(|(_, part)| !trains.contains(part)) {
            let names: Vec<&str> = trains.iter().map(|part| part.name()).collect();
            return Err(Error::Config(format!(
                "trainer: {at} names {}, and nothing of it trains in this model; what trains is {}: unfreeze it, or leave these \
                 settings out",
                idle.name(),
                names.join(", ")
            )));
        }
        let staged: BTreeSet<&TrainedPart> = staged.collect();
        match trains.iter().find(|part| !staged.contains(part)) {
            Some(part) if !self.stages.is_empty() => Err(Error::Config(format!(
                "trainer: {} trains in this model and in none of the stages: name it in one, or freeze it",
                part.name()
            ))),
            _ => Ok(()),
        }
    }

    /// Where `other` differs from these settings, name by name: `parts.projector.learning_rate 0.001 (here 0.002)`.
    ///
    /// # Errors
    /// As [`TrainerSettings::to_json`].
    pub fn differences(&self, other: &Self) -> Result<Vec<SettingDifference>> {
        let value = |settings: &Self| -> Result<Value> {
            serde_json::to_value(settings)
                .map_err(|error| Error::Config(format!("trainer settings: {error}")))
        };
        let mut found = Vec::new();
        compare("", &value(self)?, &value(other)?, &mut found);
        Ok(found)
    }
}

/// A setting that differs between two runs.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let settings = TrainerSettings::tour();
/// let other = TrainerSettings { batch_size: 4, steps: 200, ..settings.clone() };
/// let differences = settings.differences(&other)?;
/// assert_eq!(differences[0].to_string(), "batch_size 8 (here 4)");
/// assert!(differences[0].changes_steps());
/// assert!(!differences[1].changes_steps()); // a run may go on to another number of steps
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingDifference {
    /// Its name, with dots where it stands inside another.
    pub name: String,
    /// Its value in the first, as JSON; `none` where it is not given.
    pub first: String,
    /// Its value in the second.
    pub second: String,
}

/// Settings without a say in what a step computes: a run that goes on may change them.
const FREE: [&str; 16] = [
    "workers",
    "prefetch",
    "cache_megabytes",
    "steps",
    "log",
    "run",
    "quiet",
    "checkpoints",
    "validate_every",
    "validation_samples",
    "max_unreadable",
    "require_gradients",
    "best_by",
    "early_stop",
    "not_finite",
    "pictures",
];

impl SettingDifference {
    /// Whether steps compute something else with it.
    pub fn changes_steps(&self) -> bool {
        let first = self.name.split('.').next().unwrap_or_default();
        !FREE.contains(&first)
    }
}

impl std::fmt::Display for SettingDifference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} (here {})", self.name, self.first, self.second)
    }
}

fn compare(at: &str, first: &Value, second: &Value, found: &mut Vec<SettingDifference>) {
    if first == second {
        return;
    }
    if let (Value::Object(one), Value::Object(other)) = (first, second) {
        let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
        for name in names {
            let at = match at {
                "" => name.clone(),
                at => format!("{at}.{name}"),
            };
            let of = |map: &serde_json::Map<String, Value>| map.get(name).cloned();
            compare(
                &at,
                &of(one).unwrap_or_default(),
                &of(other).unwrap_or_default(),
                found,
            );
        }
        return;
    }
    let said = |value: &Value| match value {
        Value::Null => "none".to_owned(),
        value => value.to_string(),
    };
    found.push(SettingDifference {
        name: at.to_owned(),
        first: said(first),
        second: said(second),
    });
}

/// `None` as 0: TOML has no word for nothing.
mod no_limit {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(limit: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(limit.unwrap_or(0.0))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<f64>, D::Error> {
        Ok(Option::<f64>::deserialize(deserializer)?.filter(|limit| *limit != 0.0))
    }
}

/// Another name of [`TrainerSettings`].
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let config = TrainerConfig { steps: 200, ..TrainerConfig::tour() };
/// assert_eq!(config, TrainerSettings { steps: 200, ..TrainerSettings::tour() });
/// assert_eq!(config.samples_a_step(), 8);
/// ```
pub type TrainerConfig = TrainerSettings;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_back_from_a_file_as_they_were() -> Result<()> {
        let settings = TrainerSettings {
            learning_rate: 1.0 / 3.0,
            max_norm: None,
            optimizer: OptimizerKind::ScheduleFree,
            schedule: Schedule::Constant,
            checkpoints: Some(CheckpointSettings::new("run/checkpoints")),
            early_stop: Some(EarlyStop {
                patience: 3,
                least: 0.0,
            }),
            parts: BTreeMap::from([(
                TrainedPart::Projector,
                PartSettings {
                    learning_rate: Some(1e-3),
                    weight_decay: None,
                },
            )]),
            ..TrainerSettings::default()
        };
        let read = TrainerSettings::from_json(&settings.to_json()?)?;
        assert_eq!(settings.differences(&read)?, []);
        assert_eq!((read.max_norm, &read.parts), (None, &settings.parts));
        assert_eq!(
            TrainerSettings::from_json("{}")?,
            TrainerSettings::default()
        );
        Ok(())
    }

    #[test]
    fn what_a_file_may_not_say_is_named() {
        for (json, named) in [
            (r#"{"lerning_rate":0.1}"#, "lerning_rate"),
            (r#"{"parts":{"projektor":{}}}"#, "projektor"),
            (r#"{"parts":{"projector":{"rate":1}}}"#, "rate"),
            (r#"{"checkpoints":{"every":10}}"#, "folder"),
            (r#"{"accumulate":0}"#, "accumulate"),
            (
                r#"{"parts":{"vectors":{"weight_decay":-1}}}"#,
                "parts.vectors.weight_decay",
            ),
            (r#"{"optimizer":"schedule_free"}"#, "Schedule::Constant"),
            (r#"{"early_stop":{"patience":0}}"#, "early_stop.patience"),
            (r#"{"beta1":1.0}"#, "beta1"),
            (r#"{"beta2":-0.5}"#, "beta2"),
            (r#"{"eps":-1e-8}"#, "eps"),
            (
                r#"{"optimizer":"schedule_free","schedule":"constant","beta1":0.0}"#,
                "beta1",
            ),
        ] {
            let error = TrainerSettings::from_json(json).unwrap_err().to_string();
            assert!(error.contains(named), "{json}: {error}");
        }
    }

    #[test]
    fn differences_are_named_and_those_without_a_say_in_steps_are_known() -> Result<()> {
        let mut other = TrainerSettings {
            seed: 7,
            steps: 5,
            schedule: Schedule::Constant,
            ..TrainerSettings::default()
        };
        other.parts.insert(
            TrainedPart::LlmLora,
            PartSettings {
                learning_rate: Some(1e-4),
                weight_decay: None,
            },
        );
        let found = TrainerSettings::default().differences(&other)?;
        let said: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert!(said.contains(&"seed 0 (here 7)".to_owned()), "{said:?}");
        assert!(said.iter().any(|one| one.starts_with("parts")), "{said:?}");
        assert!(
            said.iter().any(|one| one.starts_with("schedule")),
            "{said:?}"
        );
        let free: Vec<&str> = found
            .iter()
            .filter(|one| !one.changes_steps())
            .map(|one| one.name.as_str())
            .collect();
        assert_eq!(free, ["steps"]);
        Ok(())
    }

    /// A resumed run was taken to make the same steps when long samples were cut from there on, or left out.
    #[test]
    fn what_becomes_of_long_samples_has_a_say_in_the_steps() -> Result<()> {
        for too_long in [TooLong::Cut, TooLong::LeaveOut] {
            let other = TrainerSettings {
                too_long,
                ..TrainerSettings::default()
            };
            let found = TrainerSettings::default().differences(&other)?;
            assert!(found.len() == 1 && found[0].changes_steps(), "{found:?}");
        }
        Ok(())
    }
}

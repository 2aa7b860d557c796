//! The training loop: (model, training set, held-out set) → the trained model and a report.
//!
//! Each step picks a batch, computes the loss, and moves what trains: LoRA, projector and prompt vectors, whatever the
//! model has unfrozen. Inputs come from any [`TrainingSet`], prepared for the model's own encoder. One live plot shows the run; an interrupt stops it between two steps.
//!
//! What can't teach anything is said: which tokens of the first sample carry loss is shown, a sample without any and a parameter
//! without gradient are errors, an unreadable picture is left out and counted.

use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::Tensor;
use rand_chacha::ChaCha8Rng;

use super::adamw::{AdamW, AdamWConfig};
use super::begun::Begun;
use super::checkpoint::{self, Progress};
use super::gradient_check;
use super::gradients::Gradients;
use super::inputs::Inputs;
use super::log::{Log, StepRecord};
use super::order::{Order, pick_caption, step_rng};
use super::report::TrainReport;
use super::schedule::Schedule;
use super::set::{self, TrainingSet};
use super::unreadable::{self, LeftOut, Unreadable};
use crate::display::{LivePlot, MimeBundle, display};
use crate::nn::Parameter;
use crate::session::check_interrupt;
use crate::vlm::{LossOutput, Vlm};
use crate::{Error, Result};

/// What a step learns from each caption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LossKind {
    /// One token at a random place, as in the blog.
    RandomPrefix,
    /// Every token at once: the mean of the random-prefix loss over all places, from one forward pass.
    #[default]
    FullSequence,
}

/// The settings of a [`Trainer`].
#[derive(Debug, Clone, PartialEq)]
pub struct TrainerConfig {
    /// The highest learning rate of the run.
    pub learning_rate: f64,
    /// AdamW's decoupled weight decay.
    pub weight_decay: f64,
    /// Shape of the learning rate over the run.
    pub schedule: Schedule,
    /// Samples in a step.
    pub batch_size: usize,
    /// Steps in the run.
    pub steps: usize,
    /// Decides which samples and captions each step sees.
    pub seed: u64,
    /// What a step learns from each caption.
    pub loss: LossKind,
    /// Longest gradient that is used as it is; a longer one is scaled down to this. `None`: no limit.
    pub max_norm: Option<f64>,
    /// Steps between two measurements of the validation loss; 0: only at the end.
    pub validate_every: usize,
    /// Held-out samples that the validation loss is measured on, the first of the dataset.
    pub validation_samples: usize,
    /// Part of the training set, and of the held-out set, that may be unreadable: a picture that is gone, cut off or no
    /// picture is left out, named once and counted in report and log, and another takes its place. More of them end the
    /// run; one may always be, unless this is 0, when the first ends it.
    pub max_unreadable: f64,
    /// Whether the first step ends the run when something that trains gets no gradient, such as behind an operation without
    /// a backward pass: it would never move.
    pub require_gradients: bool,
    /// A file that gets one JSON line a step.
    pub log: Option<PathBuf>,
}

impl Default for TrainerConfig {
    /// The blog's learning rate, full sequences, 1000 steps of 8 samples.
    fn default() -> Self {
        Self {
            learning_rate: 3e-4,
            weight_decay: 0.01,
            schedule: Schedule::WarmupCosine {
                warmup: 0.05,
                floor: 0.05,
            },
            batch_size: 8,
            steps: 1000,
            seed: 0,
            loss: LossKind::FullSequence,
            max_norm: Some(1.0),
            validate_every: 100,
            validation_samples: 32,
            max_unreadable: unreadable::MOST,
            require_gradients: true,
            log: None,
        }
    }
}

impl TrainerConfig {
    /// What the tour uses: joins the tiny model's halves in about a minute on two cores.
    pub fn tour() -> Self {
        Self {
            learning_rate: 3e-3,
            steps: 700,
            ..Self::default()
        }
    }

    fn validate(&self) -> Result<()> {
        let empty = [("batch_size", self.batch_size), ("steps", self.steps)];
        if let Some((name, _)) = empty.into_iter().find(|(_, value)| *value == 0) {
            return Err(Error::Config(format!(
                "trainer: {name} is 0, it must be at least 1"
            )));
        }
        if !(0.0..=1.0).contains(&self.max_unreadable) {
            return Err(Error::Config(format!(
                "trainer: max_unreadable is {}, it must be a part from 0 to 1",
                self.max_unreadable
            )));
        }
        match self.max_norm {
            Some(norm) if norm.is_nan() || norm <= 0.0 => Err(Error::Config(format!(
                "trainer: max_norm is {norm}, it must be above 0 (None for no limit)"
            ))),
            _ => Ok(()),
        }
    }
}

/// Trains a model in one or several sittings: a value that a cell keeps. It holds the optimizer's state, how far the
/// run has come and the record of every step; the weights are the model's.
pub struct Trainer {
    config: TrainerConfig,
    optimizer: AdamW,
    step: usize,
    tokens: u64,
    seconds: f64,
    /// The validation loss before the first step.
    untrained: Option<f64>,
    records: Vec<StepRecord>,
    unreadable: Vec<Unreadable>,
    /// The model, once a step was made.
    begun: Option<Begun>,
}

impl Trainer {
    /// A trainer that has not begun.
    ///
    /// # Errors
    /// When a setting is out of its range.
    pub fn new(config: TrainerConfig) -> Result<Self> {
        config.validate()?;
        let optimizer = AdamW::new(AdamWConfig {
            learning_rate: config.learning_rate,
            weight_decay: config.weight_decay,
            ..AdamWConfig::default()
        })?;
        Ok(Self {
            config,
            optimizer,
            step: 0,
            tokens: 0,
            seconds: 0.0,
            untrained: None,
            records: Vec::new(),
            unreadable: Vec::new(),
            begun: None,
        })
    }

    /// The settings.
    pub fn config(&self) -> &TrainerConfig {
        &self.config
    }

    /// Steps done so far.
    pub fn step(&self) -> usize {
        self.step
    }

    /// Every step so far.
    pub fn records(&self) -> &[StepRecord] {
        &self.records
    }

    /// Makes the run longer by `steps`: the next [`Trainer::fit`] goes on to the new end. The schedule stretches.
    pub fn extend(&mut self, steps: usize) {
        self.config.steps = self.config.steps.saturating_add(steps);
    }

    /// Trains until the run's last step. Shows what is frozen and what trains, which tokens of the first sample carry loss,
    /// then one live plot.
    ///
    /// After an interrupt the model and the trainer stand at the last finished step, and calling `fit` again goes on
    /// with the numbers that the run would have had. At the run's end `fit` trains nothing more, and says so.
    ///
    /// # Errors
    /// [`Error::Interrupted`]; `NoGradient` when something that trains gets none in the first step; `NoTarget` for samples
    /// without a token that carries loss; `Config` for another model than the run was begun with; `Input` when nothing trains,
    /// when too many examples can't be read, or when the loss is no longer finite. In each case the step is not taken. And
    /// whatever reading an example or the forward pass reports.
    pub fn fit(
        &mut self,
        vlm: &Vlm,
        train: &dyn TrainingSet,
        validation: &dyn TrainingSet,
    ) -> Result<TrainReport> {
        if let Some(begun) = &self.begun {
            begun.check(vlm)?;
        }
        let steps_before = self.step;
        if self.step >= self.config.steps {
            display(&self.nothing_trained());
            return Ok(self.report(steps_before));
        }
        let parameters = vlm.trainable_parameters();
        if parameters.is_empty() {
            return Err(Error::Input(
                "nothing trains: add LoRA, or unfreeze the projector".into(),
            ));
        }
        if train.is_empty() || validation.is_empty() {
            return Err(Error::Input(
                "the training set or the held-out set is empty: give at least one example each"
                    .into(),
            ));
        }
        display(&vlm.table());
        let order = Order::new(train.len(), self.config.seed, self.config.batch_size);
        let mut run = Run {
            inputs: Inputs::new(vlm, train, order, self.config.max_unreadable),
            left_out: LeftOut::resumed(std::mem::take(&mut self.unreadable)),
            log: self.config.log.as_deref().map(Log::append).transpose()?,
            plot: self.plot(),
            vlm,
            train,
            parameters,
            checked: !self.config.require_gradients,
        };
        let outcome = self.prepare(&mut run, validation);
        let outcome = outcome.and_then(|held_out| self.run(&mut run, &held_out));
        self.unreadable = run.left_out.list().to_vec();
        match outcome {
            Ok(()) => {
                let report = self.report(steps_before);
                run.plot.finish(report.summary());
                Ok(report)
            }
            Err(error) => {
                run.plot.finish(match error {
                    Error::Interrupted => {
                        let step = self.step;
                        format!("interrupted after step {step}; call fit again to go on")
                    }
                    _ => format!("failed in step {}", self.step + 1),
                });
                Err(error)
            }
        }
    }

    /// What is seen before the first step: the held-out batches, and which tokens carry loss.
    fn prepare(&mut self, run: &mut Run<'_>, validation: &dyn TrainingSet) -> Result<HeldOut> {
        let held_out = self.held_out(run, validation)?;
        if self.step == 0 {
            self.show_targets(run)?;
        }
        Ok(held_out)
    }

    fn report(&self, steps_before: usize) -> TrainReport {
        TrainReport::new(
            &self.records,
            self.step - steps_before,
            self.config.batch_size,
            self.untrained,
            &self.unreadable,
        )
    }

    fn nothing_trained(&self) -> MimeBundle {
        MimeBundle::text(format!(
            "nothing was trained: this trainer has done all of its {} steps. `trainer.extend(n)` makes the run n steps \
             longer, and `fit` then goes on; `Trainer::new(config)?` begins another run",
            self.config.steps
        ))
    }

    /// Shows the sequence of the first sample that this run learns from, with the tokens that carry loss marked.
    fn show_targets(&self, run: &mut Run<'_>) -> Result<()> {
        let (position, example) = run.inputs.pick((self.step, 0), &mut run.left_out)?;
        let mut rng = step_rng(self.config.seed, self.step);
        let Some(caption) = pick_caption(&example.captions, &mut rng) else {
            return Ok(()); // an error of the first step, which names all such samples
        };
        let name = format!("training {}", run.train.name(position));
        run.vlm.check_targets([(name, caption.as_str())])?;
        let which = match self.config.loss {
            LossKind::FullSequence => "loss on every token marked target",
            LossKind::RandomPrefix => "loss on one of the tokens marked target, another each time",
        };
        let title = format!("{} · {which}", run.train.name(position));
        display(&run.vlm.target_strip(&example.input, caption)?.title(title));
        Ok(())
    }

    fn run(&mut self, run: &mut Run<'_>, held_out: &HeldOut) -> Result<()> {
        if self.step == 0 {
            let loss = held_out.loss(run.vlm)?;
            run.plot.validation(0, loss);
            self.untrained = Some(loss);
        }
        while self.step < self.config.steps {
            check_interrupt()?;
            let begun = Instant::now();
            let mut record = self.train_step(run)?;
            let measure = self.config.validate_every;
            let due = self.step == self.config.steps
                || (measure > 0 && self.step.is_multiple_of(measure));
            let validation = due.then(|| held_out.loss(run.vlm)).transpose();
            if let Ok(Some(loss)) = validation {
                run.plot.validation(self.step, loss);
                record.validation_loss = Some(loss);
            }
            self.seconds += begun.elapsed().as_secs_f64();
            record.seconds = self.seconds;
            // The step is taken and counts, also when its validation was interrupted.
            if let Some(log) = &mut run.log {
                log.write(&record)?;
            }
            self.records.push(record);
            validation?;
        }
        Ok(())
    }
}

impl Trainer {
    /// One optimizer step on the picks of this step.
    fn train_step(&mut self, run: &mut Run<'_>) -> Result<StepRecord> {
        let mut rng = step_rng(self.config.seed, self.step);
        let mut inputs = Vec::with_capacity(self.config.batch_size);
        let mut captions = Vec::with_capacity(self.config.batch_size);
        let mut names = Vec::with_capacity(self.config.batch_size);
        for slot in 0..self.config.batch_size {
            let (position, example) = run.inputs.pick((self.step, slot), &mut run.left_out)?;
            let caption = pick_caption(&example.captions, &mut rng).cloned();
            captions.push(caption.unwrap_or_default());
            inputs.push(example.input.clone());
            names.push(format!("training {}", run.train.name(position)));
        }
        run.vlm
            .check_targets(names.into_iter().zip(captions.iter().map(String::as_str)))?;
        let inputs = set::batch(&inputs)?; // [B, ..]
        let (output, mut gradients) = self
            .passes(run, &inputs, &captions, &mut rng)
            .inspect_err(|_| run.vlm.take_back_draws())?;
        let loss = f64::from(output.value()?);
        run.checked = true;
        let norm = gradients.clip(self.config.max_norm.unwrap_or(f64::INFINITY))?;
        if !loss.is_finite() || !norm.is_finite() {
            let step = self.step + 1;
            return Err(Error::Input(format!(
                "step {step}: the loss is {loss} and the gradient's length {norm}, so the step was not taken; \
                 train with a lower learning rate or check the inputs' values"
            )));
        }
        let rate = self.config.learning_rate
            * self
                .config
                .schedule
                .factor(self.step as f64 / self.config.steps as f64);
        self.optimizer
            .step_with_rate(&run.parameters, &gradients, rate)?;
        self.tokens += output.tokens as u64;
        run.plot.step(self.step, loss, output.tokens);
        self.step += 1;
        self.begun.get_or_insert_with(|| Begun::with(run.vlm));
        Ok(StepRecord {
            step: self.step,
            loss,
            rate,
            norm,
            tokens: self.tokens,
            seconds: self.seconds,
            validation_loss: None,
            unreadable: run.left_out.list().len(),
        })
    }

    /// Forward and backward. An interrupt may end them between any two layers; nothing that lasts has changed by then.
    fn passes(
        &self,
        run: &Run<'_>,
        inputs: &Tensor,
        captions: &[String],
        rng: &mut ChaCha8Rng,
    ) -> Result<(LossOutput, Gradients)> {
        run.vlm.set_training(true);
        let output = match self.config.loss {
            LossKind::RandomPrefix => run.vlm.random_prefix_loss(inputs, captions, rng),
            LossKind::FullSequence => run.vlm.full_sequence_loss(inputs, captions),
        };
        run.vlm.set_training(false);
        let output = output?;
        let gradients = Gradients::of(&output.loss, &run.parameters)?;
        if !run.checked {
            gradient_check::check(&gradients, &run.parameters)?;
        }
        Ok((output, gradients))
    }

    /// The first readable samples of the held-out set with their first captions: the same ones at every measurement.
    fn held_out(&self, run: &mut Run<'_>, dataset: &dyn TrainingSet) -> Result<HeldOut> {
        let count = self.config.validation_samples.min(dataset.len()).max(1);
        let (mut inputs, mut captions, mut names) = (Vec::new(), Vec::new(), Vec::new());
        for position in 0..dataset.len() {
            match dataset.example(run.vlm, position) {
                Ok(example) => {
                    captions.push(example.captions.into_iter().next().unwrap_or_default());
                    inputs.push(example.input);
                    names.push(format!("held-out {}", dataset.name(position)));
                }
                Err(error) => {
                    let limits = (self.config.max_unreadable, dataset.len());
                    run.left_out.add((true, position), error, limits)?;
                }
            }
            if inputs.len() == count {
                break;
            }
        }
        run.vlm
            .check_targets(names.into_iter().zip(captions.iter().map(String::as_str)))?;
        let size = self.config.batch_size;
        let batches = inputs.chunks(size).zip(captions.chunks(size));
        let batches =
            batches.map(|(inputs, captions)| Ok((set::batch(inputs)?, captions.to_vec())));
        Ok(HeldOut {
            batches: batches.collect::<Result<_>>()?,
        })
    }

    /// A plot that begins with the steps of earlier sittings.
    fn plot(&self) -> LivePlot {
        let train: Vec<(usize, f64)> = self
            .records
            .iter()
            .map(|record| (record.step - 1, record.loss))
            .collect();
        let measured = self
            .records
            .iter()
            .filter_map(|record| Some((record.step, record.validation_loss?)));
        let measured: Vec<(usize, f64)> = self
            .untrained
            .map(|loss| (0, loss))
            .into_iter()
            .chain(measured)
            .collect();
        LivePlot::resumed("training", self.config.steps, &train, &measured)
    }

    /// Writes the trained parameters, the optimizer's state and the progress into `folder`, replacing what a trainer
    /// wrote there before.
    ///
    /// # Errors
    /// When a file can't be written; what was there before is then still there. `Config` for another model than the run was
    /// begun with.
    pub fn save(&self, folder: impl AsRef<Path>, vlm: &Vlm) -> Result<()> {
        if let Some(begun) = &self.begun {
            begun.check(vlm)?;
        }
        let progress = Progress {
            seed: self.config.seed,
            batch_size: self.config.batch_size,
            step: self.step,
            tokens: self.tokens,
            seconds: self.seconds,
            untrained: self.untrained,
            records: self.records.clone(),
            unreadable: self.unreadable.clone(),
        };
        checkpoint::save(
            folder.as_ref(),
            &vlm.trainable_parameters(),
            &self.optimizer.state()?,
            &progress,
        )
    }

    /// Takes over what [`Trainer::save`] wrote, into this trainer and into the model. With the same settings as the
    /// saved trainer, training goes on as if it had never stopped.
    ///
    /// # Errors
    /// When a file is missing or damaged, when the model has other trainable parts than the saved one, or when seed
    /// or batch size differ (the data would come in another order). Nothing is changed then.
    pub fn load(&mut self, folder: impl AsRef<Path>, vlm: &Vlm) -> Result<()> {
        let folder = folder.as_ref();
        let saved = checkpoint::read_progress(folder)?;
        let (seed, batch_size) = (self.config.seed, self.config.batch_size);
        if (saved.seed, saved.batch_size) != (seed, batch_size) {
            return Err(Error::Config(format!(
                "{} was trained with seed {} and batch_size {}, this trainer has {seed} and {batch_size}; \
                 use the saved ones",
                folder.display(),
                saved.seed,
                saved.batch_size
            )));
        }
        let parameters = vlm.trainable_parameters();
        let mut optimizer = AdamW::new(self.optimizer.config())?;
        optimizer.load_state(&checkpoint::read_optimizer(folder)?, vlm.device())?;
        checkpoint::load_parameters(folder, &parameters)?;
        self.optimizer = optimizer;
        self.step = saved.step;
        self.tokens = saved.tokens;
        self.seconds = saved.seconds;
        self.untrained = saved.untrained;
        self.records = saved.records;
        self.unreadable = saved.unreadable;
        self.begun = (self.step > 0).then(|| Begun::with(vlm));
        Ok(())
    }
}

/// What one sitting needs.
struct Run<'a> {
    vlm: &'a Vlm,
    train: &'a dyn TrainingSet,
    parameters: Vec<Parameter>,
    inputs: Inputs<'a>,
    left_out: LeftOut,
    plot: LivePlot,
    log: Option<Log>,
    /// Whether it is known that everything that trains gets a gradient.
    checked: bool,
}

/// Batches that the validation loss is measured on.
struct HeldOut {
    batches: Vec<(Tensor, Vec<String>)>,
}

impl HeldOut {
    /// Mean full-sequence loss over the samples.
    fn loss(&self, vlm: &Vlm) -> Result<f64> {
        let (mut sum, mut samples) = (0.0, 0);
        for (inputs, captions) in &self.batches {
            check_interrupt()?;
            let output = vlm.full_sequence_loss(inputs, captions)?;
            sum += f64::from(output.value()?) * captions.len() as f64;
            samples += captions.len();
        }
        Ok(sum / samples as f64)
    }
}

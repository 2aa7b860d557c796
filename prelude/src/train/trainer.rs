//! The training loop: (model, training set, held-out set) → the trained model and a report.
//!
//! Each step picks a batch, computes the loss, and moves what trains: LoRA, projector and prompt vectors, whatever the
//! model has unfrozen. Inputs come from any [`TrainingSet`], prepared for the model's own encoder. One live plot shows the run; an interrupt stops it between two steps.
//!
//! What can't teach anything is said: which tokens of the first sample carry loss is shown, a sample without any and a parameter
//! without gradient are errors, an unreadable picture is left out and counted.

use std::sync::Arc;
use std::time::Instant;

use super::begun::Begun;
use super::callback::{Callback, StepView};
use super::inputs::Inputs;
use super::log::{Log, StepRecord};
use super::optimizer::Optimizer;
use super::order::{Order, pick_choice, step_rng};
use super::plan::{self, TrainPlan};
use super::ranks;
use super::report::TrainReport;
use super::set::TrainingSet;
use super::settings::{CheckpointSettings, LossKind, TooLong, TrainerSettings};
use super::step::Lengths;
use super::unreadable::{LeftOut, Unreadable};
use super::validation::{CaptionRecord, HeldOut, Measures, Watch};
use crate::display::{LivePlot, MimeBundle};
use crate::evaluate::{EvaluationSet, Evaluator};
use crate::memory;
use crate::nn::Parameter;
use crate::parallel::{self, Collective, group::Group};
use crate::runs::Recorder;
use crate::session::check_interrupt;
use crate::vision::Image;
use crate::vlm::{Prompt, Vlm, packing::packed_size};
use crate::{Error, Result};

/// Trains a model in one or several sittings: a value that a cell keeps. It holds the optimizer's state, how far the
/// run has come and the record of every step; the weights are the model's.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let set = vec![Example::new(&Image::filled(64, 64, [200, 30, 40])?, "a red square")];
/// let mut trainer = Trainer::new(TrainerSettings { steps: 1, batch_size: 1, ..TrainerSettings::tour() })?;
/// let report = trainer.fit(&vlm, &set, &set)?;
/// assert_eq!(report.steps, 1);
/// trainer.extend(1); // goes on where it was
/// assert_eq!(trainer.fit(&vlm, &set, &set)?.new_steps, 1);
/// assert_eq!(trainer.records().len(), 2);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
pub struct Trainer {
    pub(super) config: TrainerSettings,
    pub(super) optimizer: Optimizer,
    pub(super) step: usize,
    pub(super) tokens: u64,
    pub(super) seconds: f64,
    /// Seconds of them in which the model waited for samples.
    pub(super) waited: f64,
    /// Samples that were cut.
    pub(super) cut: usize,
    /// What callbacks made of the learning rate.
    pub(super) rate_factor: f64,
    /// The validation loss before the first step.
    pub(super) untrained: Option<f64>,
    pub(super) records: Vec<StepRecord>,
    pub(super) unreadable: Vec<Unreadable>,
    pub(super) captions: Vec<CaptionRecord>,
    pub(super) watch: Watch,
    /// Why the last sitting ended before the run's end.
    pub(super) stopped: Option<String>,
    /// The model, once a step was made.
    pub(super) begun: Option<Begun>,
    /// Examples of the training set.
    pub(super) examples: Option<usize>,
    /// Whether that is what a checkpoint says.
    pub(super) loaded: bool,
    /// What the run's folder is to say besides settings.
    pub(super) notes: serde_json::Map<String, serde_json::Value>,
    pub(super) plan: Option<TrainPlan>,
    pub(super) callbacks: Vec<Callback>,
    pub(super) measures: Measures,
    /// The processes that train together, where they are not those of the launcher.
    ranks: Option<Arc<dyn Collective>>,
    /// Another rank shows, logs and saves.
    pub(super) follows: bool,
}

impl Trainer {
    /// A trainer that has not begun.
    ///
    /// # Errors
    /// `Config` when a setting is out of its range.
    pub fn new(settings: TrainerSettings) -> Result<Self> {
        settings.validate()?;
        Ok(Self {
            optimizer: Optimizer::new(&settings)?,
            config: settings,
            step: 0,
            tokens: 0,
            seconds: 0.0,
            waited: 0.0,
            cut: 0,
            rate_factor: 1.0,
            untrained: None,
            records: Vec::new(),
            unreadable: Vec::new(),
            captions: Vec::new(),
            watch: Watch::default(),
            stopped: None,
            begun: None,
            examples: None,
            loaded: false,
            notes: serde_json::Map::new(),
            plan: None,
            callbacks: Vec::new(),
            measures: Measures::default(),
            ranks: None,
            follows: false,
        })
    }

    /// Has the run's `config.json` say this too, so that tables of runs and their differences show it: `trainer.note("data",
    /// "shapes")`. Counts from the next [`Trainer::fit`] on.
    pub fn note(&mut self, name: impl Into<String>, value: impl Into<serde_json::Value>) {
        self.notes.insert(name.into(), value.into());
    }

    /// The settings.
    pub fn config(&self) -> &TrainerSettings {
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

    /// What the model said of the watched pictures so far.
    pub fn captions(&self) -> &[CaptionRecord] {
        &self.captions
    }

    /// What was said before the first step of what trains, memory and time.
    pub fn plan(&self) -> Option<&TrainPlan> {
        self.plan.as_ref()
    }

    /// Step and figure of the best state so far, by `best_by`.
    pub fn best(&self) -> Option<(usize, f64)> {
        self.watch.best
    }

    /// Has a closure see each step: it may stop the run, log figures, and change the learning rate.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// # let vlm = Vlm::tiny(&Device::Cpu)?;
    /// # let set = vec![Example::new(&Image::filled(64, 64, [200, 30, 40])?, "a red square")];
    /// let mut trainer = Trainer::new(TrainerSettings { steps: 9, batch_size: 1, ..TrainerSettings::tour() })?;
    /// trainer.on_step(|step| {
    ///     step.log("loss squared", step.record().loss.powi(2));
    ///     if step.record().step == 3 {
    ///         step.stop("three are enough here");
    ///     }
    ///     Ok(())
    /// });
    /// let report = trainer.fit(&vlm, &set, &set)?;
    /// assert_eq!(report.steps, 3);
    /// assert!(report.stopped.is_some());
    /// # Ok(()) }
    /// ```
    pub fn on_step(
        &mut self,
        callback: impl FnMut(&mut StepView<'_>) -> Result<()> + Send + 'static,
    ) -> &mut Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Measures a figure of the model together with the validation loss, under a name by which `best_by` and the log know it.
    pub fn measure(
        &mut self,
        name: impl Into<String>,
        measure: impl FnMut(&Vlm) -> Result<f64> + Send + 'static,
    ) -> &mut Self {
        self.measures.add(name.into(), Box::new(measure));
        self
    }

    /// Measures the metrics of an [`Evaluator`] on a set together with the validation loss, each under its own name, such as
    /// `CIDEr-D`; without baselines.
    pub fn measure_scores(
        &mut self,
        evaluator: Evaluator,
        set: impl EvaluationSet + Send + 'static,
    ) -> &mut Self {
        self.measures.add_scores(evaluator, Box::new(set));
        self
    }

    /// Shows what the model says of these pictures whenever the validation loss is measured; [`Trainer::captions`] keeps it.
    pub fn watch_pictures(&mut self, pictures: Vec<Image>) -> &mut Self {
        self.measures.watch(pictures);
        self
    }

    /// Trains together with other ranks than those of the launcher ([`parallel::world`]): threads of a test. Each has a trainer
    /// and a model of its own.
    pub fn train_with(&mut self, ranks: Arc<dyn Collective>) -> &mut Self {
        self.ranks = Some(ranks);
        self
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
    /// Under `mpirun` or `srun` each process takes its part of every step's samples, and the losses are those of one process: rank 0
    /// shows, logs, saves, measures and calls callbacks, for all. An error or an interrupt on one rank ends all.
    ///
    /// # Errors
    /// `Parallel` and `Rank` for what goes wrong between several processes; [`Error::Interrupted`]; `NoGradient` when something that trains gets none in the first step, `WrongGradient` when that of an
    /// encoder of one's own is not the slope of the loss; `NoTarget` for samples
    /// without a token that carries loss; `NotFinite` for those whose loss is no finite number, `ContextOverflow` for those that are
    /// too long, where the settings do not leave them out; `NoSamples` when no sample can be used; `Config` for another model than
    /// the run was begun with; `Input` when nothing trains, or when too many examples can't be read. In each case the step is not
    /// taken. And whatever reading an example, the forward pass, a measure or a callback reports.
    pub fn fit(
        &mut self,
        vlm: &Vlm,
        train: &dyn TrainingSet,
        validation: &dyn TrainingSet,
    ) -> Result<TrainReport> {
        let ranks = match &self.ranks {
            Some(ranks) => ranks.clone(),
            None => parallel::around()?,
        };
        let group = Group::of(ranks);
        self.follows = !group.leads();
        let checked = self.checked(&group, vlm, train, validation);
        let parameters = group.agree(checked)?;
        self.agree_on_all(&group, vlm, (train, validation), &parameters)?;
        let steps_before = self.step;
        if self.step >= self.config.steps {
            group.finish();
            self.show(&self.nothing_trained());
            return Ok(self.report(steps_before));
        }
        (self.loaded, self.examples) = (false, Some(train.len()));
        self.show(&vlm.table());
        let opened = self.opened(vlm, train, validation);
        let (recorder, log, inputs) = group.agree(opened)?;
        let mut run = Run {
            inputs,
            lengths: Lengths::default(),
            left_out: LeftOut::resumed(self.unreadable.clone()),
            log,
            plot: self.plot(),
            recorder,
            vlm,
            train,
            parameters,
            checked_stage: None,
            group,
        };
        for one in run.left_out.list() {
            if one.lasting && !one.held_out {
                run.inputs.leave_out(one.position);
            }
        }
        if self.stopped.take().is_some() {
            self.watch.waiting = 0;
        }
        let outcome = self.prepare(&mut run, validation);
        let outcome = run.group.agree(outcome).and_then(|held_out| {
            self.same_held_out(&run.group, &held_out)?;
            self.run(&mut run, &held_out)
        });
        let rested = self.optimizer.rest(&run.parameters);
        self.unreadable = run.left_out.list().to_vec();
        let outcome = self.saved_at_end(&run, outcome).and(rested);
        let outcome = self.finish(&mut run, outcome, steps_before);
        run.group.end(outcome)
    }

    /// What can be told before anything is opened: what trains. Nothing where the run is at its end.
    fn checked(
        &self,
        group: &Group,
        vlm: &Vlm,
        train: &dyn TrainingSet,
        validation: &dyn TrainingSet,
    ) -> Result<Vec<Parameter>> {
        if let Some(begun) = &self.begun {
            begun.check(vlm)?;
        }
        if self.step >= self.config.steps {
            return Ok(Vec::new());
        }
        let parameters = vlm.trainable_parameters();
        if parameters.is_empty() {
            return Err(Error::Input(
                "nothing trains: add LoRA, or unfreeze the projector".into(),
            ));
        }
        self.config.check_parts(&parameters)?;
        if self.config.gradient_checkpointing && !vlm.device().is_cpu() {
            return Err(Error::Config(
                "trainer: gradient_checkpointing is there on the CPU only, and the model lies elsewhere: leave it out, or train with a \
                 smaller batch_size and more accumulate"
                    .into(),
            ));
        }
        for (set, empty) in [
            ("the training set", train.is_empty()),
            ("the held-out set", validation.is_empty()),
        ] {
            if empty {
                return Err(Error::NoSamples {
                    set: set.into(),
                    why: "it is empty, give it at least one example".into(),
                });
            }
        }
        self.check_ranks(group)?;
        let writes = |_: &&CheckpointSettings| self.step == 0 && group.leads();
        if let Some(kept) = self.config.checkpoints.as_ref().filter(writes) {
            super::checkpoints::none_of_another_run(&kept.folder)?;
        }
        let saved = self.examples.filter(|_| self.loaded);
        if let Some(examples) = saved.filter(|examples| *examples != train.len()) {
            return Err(Error::Config(format!(
                "the checkpoint that this trainer goes on from was made with {examples} training examples, and this set has {}: \
                 the steps would learn from others; give the same set, or train with a new Trainer",
                train.len()
            )));
        }
        Ok(parameters)
    }

    /// What a sitting writes, on the rank that does, and what it reads.
    fn opened<'a>(
        &self,
        vlm: &'a Vlm,
        train: &'a dyn TrainingSet,
        validation: &dyn TrainingSet,
    ) -> Result<(Option<Recorder>, Option<Log>, Inputs<'a>)> {
        let (recorder, log) = match self.follows {
            true => (None, None),
            false => {
                let recorder = self.recorder(vlm, train, validation)?;
                let log = match (&self.config.log, self.step) {
                    (None, _) => None,
                    (Some(path), 0) => Some(Log::append(path)?),
                    (Some(path), step) => Some(Log::resume(path, step)?),
                };
                (recorder, log)
            }
        };
        let order = self.order(train)?;
        let inputs = Inputs::new(vlm, train, order, &self.config)?;
        Ok((recorder, log, inputs))
    }

    /// Which samples each step has.
    fn order(&self, train: &dyn TrainingSet) -> Result<Order> {
        let settings = &self.config;
        let order = Order::new(train.len(), settings.seed, settings.samples_a_step());
        if settings.bucket == 1 {
            return Ok(order);
        }
        let lengths = (0..train.len()).map(|position| train.length(position));
        let lengths = lengths.collect::<Option<Vec<usize>>>().ok_or_else(|| {
            Error::Config(format!(
                "trainer: bucket is {}, and the training set does not know how long its examples are: implement \
                 `TrainingSet::length` for it, or leave bucket out",
                settings.bucket
            ))
        })?;
        Ok(order.bucketed(lengths, settings.bucket))
    }

    /// What is seen before the first step: the held-out batches, and which tokens carry loss.
    fn prepare(&mut self, run: &mut Run<'_>, validation: &dyn TrainingSet) -> Result<HeldOut> {
        let held_out = self.held_out(run, validation)?;
        if self.step == 0 {
            self.show_targets(run)?;
            if self.follows {
                return Ok(held_out);
            }
            if let Some(plan) = self.planned(run)? {
                self.show(&plan);
                self.plan = Some(plan);
            }
        }
        Ok(held_out)
    }

    /// What the run will need, by the longest sample of its first step; `None` if that can't be told: the step itself will say why.
    fn planned(&mut self, run: &mut Run<'_>) -> Result<Option<TrainPlan>> {
        let mut rng = step_rng(self.config.seed, self.step);
        let (mut longest, mut tokens): (Option<Prompt>, _) = (None, 0);
        let (picked, _) = self.picked(run, &mut rng)?;
        let mut lengths = Vec::with_capacity(picked.len());
        for one in picked {
            let length = run.lengths.of(run.vlm, &one.prompt)?;
            lengths.push(length);
            if length > tokens && !one.prompt.target_places().is_empty() {
                (longest, tokens) = (Some(one.prompt), length);
            }
        }
        let packed = self.config.packed(run.vlm).and_then(|most| {
            let batches = lengths.chunks(self.config.batch_size);
            let sizes = batches.map(|batch| packed_size(batch, most));
            sizes.max_by_key(|(rows, tokens)| rows * tokens)
        });
        match longest {
            None => Ok(None),
            Some(longest) => plan::unless_interrupted(TrainPlan::of(
                run.vlm,
                &self.config,
                &run.parameters,
                &longest,
                packed,
            )),
        }
    }

    pub(super) fn report(&self, steps_before: usize) -> TrainReport {
        let report = TrainReport::new(
            &self.records,
            self.step - steps_before,
            self.config.samples_a_step(),
            self.untrained,
            &self.unreadable,
        );
        let plan = self.plan.as_ref();
        TrainReport {
            memory: plan.and_then(|plan| Some((plan.memory()?, plan.measured?))),
            stopped: self.stopped.clone(),
            ..report
        }
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
        let prompt = example.prompt(run.vlm, pick_choice(example.choices(), &mut rng))?;
        let name = format!("training {}", run.train.name(position));
        run.vlm.check_targets([(name.clone(), &prompt)])?;
        let prompt = match run.lengths.fit(run.vlm, &self.config, prompt, &name) {
            Ok((prompt, _)) => prompt,
            // The first step leaves it out, and shows that.
            Err(Error::ContextOverflow { .. }) if self.config.too_long == TooLong::LeaveOut => {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let which = match self.config.loss {
            LossKind::FullSequence => "loss on every token marked target",
            LossKind::RandomPrefix => "loss on one of the tokens marked target, another each time",
        };
        let title = format!("{} · {which}", run.train.name(position));
        self.show(&run.vlm.sequence(&[prompt])?.strip(0)?.title(title));
        Ok(())
    }

    fn run(&mut self, run: &mut Run<'_>, held_out: &HeldOut) -> Result<()> {
        if self.step == 0 {
            let begun = self.untrained_loss(run, held_out);
            run.group.agree(begun)?;
        }
        while self.step < self.config.steps && self.stopped.is_none() {
            let stepped = self.whole_step(run, held_out);
            run.group.agree(stepped)?;
        }
        Ok(())
    }

    /// The validation loss before the first step.
    fn untrained_loss(&mut self, run: &mut Run<'_>, held_out: &HeldOut) -> Result<()> {
        let loss = held_out.loss(run.vlm, &run.group)?;
        run.plot.validation(0, loss);
        self.untrained = Some(loss);
        match &mut run.recorder {
            Some(recorder) => recorder.untrained(loss),
            None => Ok(()),
        }
    }

    /// A step with what is measured, told, written and saved after it.
    fn whole_step(&mut self, run: &mut Run<'_>, held_out: &HeldOut) -> Result<()> {
        check_interrupt()?;
        let begun = Instant::now();
        self.optimizer.train(&run.parameters)?;
        let mut record = self.watched_step(run)?;
        self.begun.get_or_insert_with(|| Begun::with(run.vlm));
        let measure = self.config.validate_every;
        let due =
            self.step == self.config.steps || (measure > 0 && self.step.is_multiple_of(measure));
        let measured = match due {
            true => self.measured(run, held_out, &mut record),
            false => Ok(false),
        };
        self.seconds += begun.elapsed().as_secs_f64();
        record.seconds = self.seconds;
        let called = self.called_back(run, &mut record);
        // The step is taken and counts, also when its validation was interrupted.
        if let Some(log) = &mut run.log {
            log.write(&record)?;
        }
        Self::draw(&run.plot, self.records.last(), &record);
        self.draw_memory(&run.plot);
        if let Some(recorder) = &mut run.recorder {
            recorder.step(&record)?;
        }
        self.records.push(record);
        let is_best = measured?;
        called?;
        if self.stopped.is_none() {
            let settings = &self.config;
            self.stopped = self.watch.stop(&settings.best_by, settings.early_stop);
        }
        self.save_if_due(run, is_best)
    }

    /// A step; the second of a run that was planned is looked at for what it takes of memory.
    fn watched_step(&mut self, run: &mut Run<'_>) -> Result<StepRecord> {
        if self.step != 1 || self.plan.is_none() || !run.vlm.device().is_cpu() {
            return self.train_step(run);
        }
        let (record, peak) = memory::peak_of(|| self.train_step(run))?;
        if let Some(plan) = &mut self.plan {
            plan.found(peak);
        }
        Ok(record)
    }

    /// Measures the model as it is after a step: whether it is the best so far.
    fn measured(
        &mut self,
        run: &mut Run<'_>,
        held_out: &HeldOut,
        record: &mut StepRecord,
    ) -> Result<bool> {
        self.optimizer.rest(&run.parameters)?;
        let loss = held_out.loss(run.vlm, &run.group)?;
        run.plot.validation(self.step, loss);
        record.validation_loss = Some(loss);
        let figures = self.measures.figures(run.vlm, &run.group);
        record.metrics.extend(run.group.agree(figures)?);
        ranks::share_metrics(&run.group, &mut record.metrics)?;
        if !self.follows {
            let said = self.measures.captions(run.vlm, self.step, &run.plot)?;
            if let Some(recorder) = &mut run.recorder {
                recorder.captions(&said)?;
            }
            self.captions.extend(said);
        }
        self.watch
            .note(record, &self.config.best_by, self.config.early_stop)
    }

    /// Has every callback see a step, on the rank that leads; what they decide counts on all.
    fn called_back(&mut self, run: &Run<'_>, record: &mut StepRecord) -> Result<()> {
        if self.callbacks.is_empty() {
            return Ok(());
        }
        let called = match self.follows {
            true => Ok(()),
            false => {
                let mut view = StepView {
                    record,
                    vlm: run.vlm,
                    rate_factor: &mut self.rate_factor,
                    stop: &mut self.stopped,
                };
                let mut callbacks = self.callbacks.iter_mut();
                parallel::by_itself(|| callbacks.try_for_each(|callback| callback(&mut view)))
            }
        };
        run.group.agree(called)?;
        self.share_decisions(&run.group, record)
    }
}

impl Trainer {
    /// The first readable samples of the held-out set with their first captions: the same ones at every measurement.
    fn held_out(&self, run: &mut Run<'_>, dataset: &dyn TrainingSet) -> Result<HeldOut> {
        let count = self.config.validation_samples.min(dataset.len()).max(1);
        let limits = (self.config.max_unreadable, dataset.len());
        let (mut prompts, mut names) = (Vec::new(), Vec::new());
        for position in 0..dataset.len() {
            match dataset.example(run.vlm, position) {
                Ok(example) => {
                    let first = (example.choices() > 0).then_some(0);
                    let name = format!("held-out {}", dataset.name(position));
                    let prompt = example.prompt(run.vlm, first)?;
                    match run.lengths.fit(run.vlm, &self.config, prompt, &name) {
                        Ok((prompt, _)) => {
                            prompts.push(prompt);
                            names.push(name);
                        }
                        Err(error @ Error::ContextOverflow { .. })
                            if self.config.too_long == TooLong::LeaveOut =>
                        {
                            run.left_out.add_unusable((true, position), error, limits)?;
                        }
                        Err(error) => return Err(error),
                    }
                }
                Err(error) => run.left_out.add((true, position), error, limits)?,
            }
            if prompts.len() == count {
                break;
            }
        }
        run.vlm.check_targets(names.into_iter().zip(&prompts))?;
        let batches = prompts.chunks(self.config.batch_size);
        Ok(HeldOut {
            batches: batches.map(<[Prompt]>::to_vec).collect(),
        })
    }

    /// The validation loss before the first step, once it was measured.
    pub fn untrained(&self) -> Option<f64> {
        self.untrained
    }

    /// A plot that begins with the steps of earlier sittings.
    fn plot(&self) -> LivePlot {
        if self.config.quiet || self.follows {
            return LivePlot::hidden();
        }
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
        let plot = LivePlot::resumed("training", self.config.steps, &train, &measured);
        let before = std::iter::once(None).chain(self.records.iter().map(Some));
        for (before, record) in before.zip(&self.records) {
            Self::draw(&plot, before, record);
        }
        plot
    }
}

/// What one sitting needs.
pub(super) struct Run<'a> {
    pub(super) vlm: &'a Vlm,
    pub(super) train: &'a dyn TrainingSet,
    pub(super) parameters: Vec<Parameter>,
    pub(super) inputs: Inputs<'a>,
    pub(super) lengths: Lengths,
    pub(super) left_out: LeftOut,
    pub(super) plot: LivePlot,
    pub(super) recorder: Option<Recorder>,
    log: Option<Log>,
    /// The stage of which it is known that everything that trains in it gets a gradient.
    pub(super) checked_stage: Option<Option<usize>>,
    /// The processes that train together; one alone is a group too.
    pub(super) group: Group,
}

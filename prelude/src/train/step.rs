//! One step: its samples → their losses, batch by batch → gradients, added up → the optimizer.
//!
//! ```text
//! samples of the step ─ targets, counted ─┬─ batch 1 ─ loss / targets of the step ─ gradients ─┐
//!                                         └─ batch 2 ─ loss / targets of the step ─ gradients ─┴─ + ─ clip ─ optimizer
//! ```
//! With several ranks each makes the passes over its part of the step's samples, and gradients are added up over all.
//! So it does not matter into how many batches a step is cut. A step whose loss or gradient is no finite number is not taken, and
//! the samples are named that it comes from.

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::gradient_check;
use super::gradients::Gradients;
use super::log::StepRecord;
use super::order::{pick_choice, step_rng};
use super::settings::{LossAverage, LossKind, NotFinite, TooLong, TrainerSettings};
use super::slope_check;
use super::trainer::{Run, Trainer};
use crate::nn::dropout::{self, Unknown};
use crate::nn::{Parameter, recompute};
use crate::parallel::buckets;
use crate::session::check_interrupt;
use crate::vlm::loss::all_targets;
use crate::vlm::{Prompt, Vlm};
use crate::{Error, Result, fnv};

/// A sample that a step learns from.
pub(super) struct Picked {
    pub position: usize,
    pub name: String,
    pub prompt: Prompt,
}

/// The loss of a step with its gradients.
struct Passed {
    loss: f64,
    tokens: usize,
    gradients: Gradients,
    /// Samples with a target whose own loss is no finite number.
    not_finite: Vec<usize>,
}

/// The samples of a step, all ranks' together.
struct Part {
    picked: Vec<Picked>,
    /// How many were cut.
    cut: usize,
    prompts: Vec<Prompt>,
}

/// What a step asks of each sample: (sample, index among its answer ids), with a weight.
pub(super) struct Asked {
    places: Vec<Vec<usize>>,
    weights: Vec<f32>,
}

impl Asked {
    /// The targets of a step, and what each counts: all weights together are 1.
    pub(super) fn of(
        settings: &TrainerSettings,
        prompts: &[Prompt],
        rng: &mut ChaCha8Rng,
    ) -> Result<Self> {
        let mut places = all_targets(prompts)?;
        let samples = prompts.len();
        if settings.loss == LossKind::RandomPrefix {
            for targets in &mut places {
                *targets = vec![targets[rng.random_range(0..targets.len())]];
            }
        }
        let all: usize = places.iter().map(Vec::len).sum();
        let weight = |targets: &Vec<usize>| match settings.divide_by {
            LossAverage::Tokens => 1.0 / all as f32,
            LossAverage::Samples => 1.0 / (samples as f32 * targets.len() as f32),
        };
        let weights = places.iter().map(weight).collect();
        Ok(Self { places, weights })
    }

    /// The part of the samples in `range`: places counted from its beginning, and the weight of each.
    pub(super) fn part(&self, range: std::ops::Range<usize>) -> (Vec<(usize, usize)>, Vec<f32>) {
        let (mut places, mut weights) = (Vec::new(), Vec::new());
        for (b, at) in range.enumerate() {
            places.extend(self.places[at].iter().map(|&index| (b, index)));
            weights.extend(std::iter::repeat_n(self.weights[at], self.places[at].len()));
        }
        (places, weights)
    }
}

impl Trainer {
    /// One optimizer step on the samples of this step; those that are of no use are left out by the settings, and others take
    /// their place.
    pub(super) fn train_step(&mut self, run: &mut Run<'_>) -> Result<StepRecord> {
        loop {
            let own = self.own_part(run);
            let passed_here = own.is_ok();
            let (part, passed) = run.group.agree(own).inspect_err(|_| {
                if passed_here {
                    run.vlm.take_back_draws();
                }
            })?;
            let Part {
                picked,
                cut,
                prompts,
            } = part;
            let passed = self
                .together(run, &picked, &prompts, passed)
                .inspect_err(|_| run.vlm.take_back_draws())?;
            if passed.loss.is_finite() {
                run.checked_stage = Some(self.config.stage(self.step).0);
            }
            let Passed {
                loss,
                tokens,
                mut gradients,
                not_finite,
            } = passed;
            let norms = gradients.norms(&run.parameters)?;
            let norm = gradients.clip(self.config.max_norm.unwrap_or(f64::INFINITY))?;
            if !loss.is_finite() || !norm.is_finite() {
                run.vlm.take_back_draws();
                let places = self.culprits(run, &prompts, not_finite);
                let places = run.group.agree(places)?;
                let error = Error::NotFinite {
                    step: self.step + 1,
                    loss,
                    norm,
                    samples: places.iter().map(|&at| picked[at].name.clone()).collect(),
                };
                self.leave_out(run, &picked, &places, error)?;
                continue;
            }
            let mut record = self.taken(run, gradients, (loss, norm, tokens, cut))?;
            record.norms = norms;
            record.waited_for_ranks = self.waited_for_ranks(&run.group)?;
            return Ok(record);
        }
    }

    /// The samples of this step, and what the passes over this rank's part of them give.
    fn own_part(&mut self, run: &mut Run<'_>) -> Result<(Part, Passed)> {
        let mut rng = step_rng(self.config.seed, self.step);
        let (picked, cut) = self.picked(run, &mut rng)?;
        let prompts: Vec<Prompt> = picked.iter().map(|one| one.prompt.clone()).collect();
        let names = picked.iter().map(|one| one.name.clone());
        run.vlm.check_targets(names.zip(&prompts))?;
        let asked = Asked::of(&self.config, &prompts, &mut rng)?;
        let passed = self
            .passes(run, &prompts, &asked)
            .inspect_err(|_| run.vlm.take_back_draws())?;
        let part = Part {
            picked,
            cut,
            prompts,
        };
        Ok((part, passed))
    }

    /// The loss of the whole step with its gradients, from those of all ranks' parts.
    fn together(
        &self,
        run: &Run<'_>,
        picked: &[Picked],
        prompts: &[Prompt],
        own: Passed,
    ) -> Result<Passed> {
        let stage = self.config.stage(self.step).0;
        let active = self.config.active(stage, &run.parameters);
        let passed = match run.group.ranks() {
            1 => own,
            _ => {
                self.same_samples(run, picked)?;
                let mut sums = [own.loss, own.tokens as f64];
                run.group.sum_f64(&mut sums)?;
                let mut bad = vec![0; prompts.len()];
                own.not_finite.iter().for_each(|at| bad[*at] = 1);
                run.group.sum_u64(&mut bad)?;
                Passed {
                    loss: sums[0],
                    tokens: sums[1] as usize,
                    gradients: buckets::sum(&run.group, &own.gradients, &active)?,
                    not_finite: (0..bad.len()).filter(|at| bad[*at] > 0).collect(),
                }
            }
        };
        let checked = !self.config.require_gradients || run.checked_stage == Some(stage);
        if checked || !passed.loss.is_finite() {
            return Ok(passed);
        }
        let teaches = gradient_check::check(&passed.gradients, &active, prompts)
            .and_then(|()| slope_check::check(run.vlm, &active, prompts));
        run.group.agree(teaches.map(|()| passed))
    }

    /// Moves the parameters and takes note.
    fn taken(
        &mut self,
        run: &mut Run<'_>,
        gradients: Gradients,
        (loss, norm, tokens, cut): (f64, f64, usize, usize),
    ) -> Result<StepRecord> {
        let (stage, progress) = self.config.stage(self.step);
        let factor = self.config.schedule.factor(progress) * self.rate_factor;
        if !factor.is_finite() || factor < 0.0 {
            return Err(Error::Input(format!(
                "a callback made the learning rate {factor} times the usual one: give `scale_rate` factors of 0 and above"
            )));
        }
        let settings = &self.config;
        self.optimizer
            .step_by(&run.parameters, &gradients, &|parameter: &Parameter| {
                let mut rates = settings.rates(stage, parameter);
                rates.rate *= factor;
                rates
            })?;
        self.tokens += tokens as u64;
        self.cut += cut;
        run.plot.step(self.step, loss, tokens);
        self.step += 1;
        Ok(StepRecord {
            step: self.step,
            loss,
            rate: self.config.rate_of(stage) * factor,
            norm,
            tokens: self.tokens,
            seconds: self.seconds,
            unreadable: run.left_out.list().len(),
            cut: self.cut,
            waited: self.waited,
            ..StepRecord::default()
        })
    }

    /// The samples of this step with the prompt that each was drawn, and how many of them had to be cut.
    pub(super) fn picked(
        &mut self,
        run: &mut Run<'_>,
        rng: &mut ChaCha8Rng,
    ) -> Result<(Vec<Picked>, usize)> {
        let (mut picked, mut cut) = (Vec::new(), 0);
        for slot in 0..self.config.samples_a_step() {
            loop {
                let begun = std::time::Instant::now();
                let next = run.inputs.pick((self.step, slot), &mut run.left_out);
                self.waited += begun.elapsed().as_secs_f64();
                let (position, example) = next?;
                // What is left out draws nothing: a run that goes on does not look at it again.
                let before = rng.clone();
                let prompt = example.prompt(run.vlm, pick_choice(example.choices(), rng))?;
                let name = format!("training {}", run.train.name(position));
                match run.lengths.fit(run.vlm, &self.config, prompt, &name) {
                    Ok((prompt, was_cut)) => {
                        cut += usize::from(was_cut);
                        picked.push(Picked {
                            position,
                            name,
                            prompt,
                        });
                        break;
                    }
                    Err(error @ Error::ContextOverflow { .. })
                        if self.config.too_long == TooLong::LeaveOut =>
                    {
                        *rng = before;
                        let limits = (self.config.max_unreadable, run.train.len());
                        run.left_out
                            .add_unusable((false, position), error, limits)?;
                        run.inputs.leave_out(position);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok((picked, cut))
    }

    /// Forward and backward. An interrupt may end them between any two layers; nothing that lasts has changed by then.
    fn passes(&self, run: &Run<'_>, prompts: &[Prompt], asked: &Asked) -> Result<Passed> {
        run.vlm.set_training(true);
        let outcome = self.batches(run, prompts, asked);
        run.vlm.set_training(false);
        outcome
    }

    fn batches(&self, run: &Run<'_>, prompts: &[Prompt], asked: &Asked) -> Result<Passed> {
        let active = self
            .config
            .active(self.config.stage(self.step).0, &run.parameters);
        let (mut loss, mut tokens) = (0.0, 0);
        let (mut gradients, mut not_finite): (Option<Gradients>, _) = (None, Vec::new());
        let unknown = match run.group.ranks() {
            1 => Unknown::OwnStream,
            _ => Unknown::Refused,
        };
        let own = run.group.part(prompts.len());
        for (at, batch) in prompts[own.clone()]
            .chunks(self.config.batch_size)
            .enumerate()
        {
            check_interrupt()?;
            let first = own.start + at * self.config.batch_size;
            let (places, weights) = asked.part(first..first + batch.len());
            let way = (self.config.label_smoothing, self.config.packed(run.vlm));
            let output = dropout::by_sample(self.seeds(first, batch.len()), unknown, || {
                recompute::recomputing(self.config.gradient_checkpointing, || {
                    run.vlm.loss_in_rows(batch, &places, &weights, way)
                })
            })?;
            let losses = output.cross_entropy.to_vec1::<f32>()?;
            let bad = output
                .places
                .iter()
                .zip(losses)
                .filter(|(_, loss)| !loss.is_finite());
            not_finite.extend(bad.map(|(&(b, _), _)| first + b));
            loss += f64::from(output.value()?);
            tokens += output.tokens;
            let own = Gradients::of(&output.loss, &active)?;
            match &mut gradients {
                Some(sum) => sum.add(own)?,
                None => gradients = Some(own),
            }
        }
        not_finite.dedup();
        Ok(Passed {
            loss,
            tokens,
            gradients: gradients.unwrap_or_default(),
            not_finite,
        })
    }

    /// What dropout draws from for some of the step's samples, by their places in it.
    fn seeds(&self, first: usize, count: usize) -> Vec<u64> {
        let step = fnv::step(fnv::step(fnv::START, self.config.seed), self.step as u64);
        (first..first + count)
            .map(|place| fnv::step(step, place as u64))
            .collect()
    }

    /// The samples that a loss or a gradient that is no finite number comes from.
    fn culprits(&self, run: &Run<'_>, prompts: &[Prompt], found: Vec<usize>) -> Result<Vec<usize>> {
        // In a row with others one sample makes the losses of all no number.
        if !found.is_empty() && !self.config.packing {
            return Ok(found);
        }
        // Their losses are finite, so it is a gradient, or they share rows: each alone.
        let mut alone = Vec::new();
        for (at, prompt) in prompts.iter().enumerate() {
            check_interrupt()?;
            let output = run.vlm.full_sequence_loss_of(prompt)?;
            let norm = Gradients::of(&output.loss, &run.parameters)?.norm()?;
            if !norm.is_finite() || !output.value()?.is_finite() {
                alone.push(at);
            }
        }
        match alone.is_empty() {
            true => Ok((0..prompts.len()).collect()),
            false => Ok(alone),
        }
    }

    /// By the settings: the samples at `places` are left out from now on, or the run ends with `error`.
    fn leave_out(
        &self,
        run: &mut Run<'_>,
        picked: &[Picked],
        places: &[usize],
        error: Error,
    ) -> Result<()> {
        let Error::NotFinite {
            step, loss, norm, ..
        } = error
        else {
            return Err(error);
        };
        if self.config.not_finite == NotFinite::Stop {
            return Err(error);
        }
        for &at in places {
            let Picked { position, name, .. } = &picked[at];
            let own = Error::NotFinite {
                step,
                loss,
                norm,
                samples: vec![name.clone()],
            };
            let limits = (self.config.max_unreadable, run.train.len());
            run.left_out.add_unusable((false, *position), own, limits)?;
            run.inputs.leave_out(*position);
        }
        Ok(())
    }
}

/// How long prompts are: the tokens of an input are looked up once for each encoder and shape.
#[derive(Default)]
pub(super) struct Lengths {
    inputs: std::collections::HashMap<(Option<String>, Vec<usize>), usize>,
}

impl Lengths {
    /// A prompt that is short enough, cut where the settings say so, and whether it was.
    ///
    /// # Errors
    /// `ContextOverflow` for one that is too long, naming it.
    pub(super) fn fit(
        &mut self,
        vlm: &Vlm,
        settings: &TrainerSettings,
        prompt: Prompt,
        name: &str,
    ) -> Result<(Prompt, bool)> {
        let most = settings.most_tokens(vlm);
        let pieces = self.pieces(vlm, &prompt)?;
        let tokens: usize = pieces.iter().map(|(_, tokens)| tokens).sum();
        if tokens <= most {
            return Ok((prompt, false));
        }
        let overflow = || Error::ContextOverflow {
            what: name.to_owned(),
            tokens,
            context: most,
            pieces: pieces.clone(),
        };
        if settings.too_long != TooLong::Cut {
            return Err(overflow());
        }
        // Everything behind the last id that still fits goes, words between answers too.
        let (mut short, mut long) = (0, prompt.answer_ids().len());
        while short < long {
            let middle = (short + long).div_ceil(2);
            let pieces = self.pieces(vlm, &prompt.until(middle))?;
            match pieces.iter().map(|(_, tokens)| tokens).sum::<usize>() <= most {
                true => short = middle,
                false => long = middle - 1,
            }
        }
        let cut = prompt.until(short);
        match cut.target_places().is_empty() {
            true => Err(overflow()),
            false => Ok((cut, true)),
        }
    }

    /// The tokens of a prompt.
    pub(super) fn of(&mut self, vlm: &Vlm, prompt: &Prompt) -> Result<usize> {
        Ok(self
            .pieces(vlm, prompt)?
            .iter()
            .map(|(_, tokens)| tokens)
            .sum())
    }

    /// The names of a prompt's pieces with their tokens.
    fn pieces(&mut self, vlm: &Vlm, prompt: &Prompt) -> Result<Vec<(String, usize)>> {
        use crate::vlm::{Piece, Seen};
        let mut pieces = Vec::new();
        for piece in &prompt.pieces {
            let tokens = match piece {
                Piece::Text(_, ids) => ids.len(),
                Piece::Target(target) => target.ids.len(),
                Piece::Vector(part) => vlm.prompt_vector(*part)?.dim(1)?,
                Piece::Input(input) => match &input.seen {
                    Seen::Embedded(tokens) => tokens.dim(1)?,
                    Seen::Nothing => 0, // refused where it is read
                    Seen::Prepared(_) | Seen::Tiled(_) => {
                        let shape = match &input.seen {
                            Seen::Prepared(prepared) => prepared.dims().to_vec(),
                            // What becomes of tiles depends on the picture's own size too.
                            Seen::Tiled(tiles) => {
                                let (height, width) = tiles.image_size;
                                let mut shape = tiles.pixel_values.dims().to_vec();
                                shape.extend([tiles.rows, tiles.columns]);
                                shape.extend([height as usize, width as usize]);
                                shape
                            }
                            Seen::Nothing | Seen::Embedded(_) => Vec::new(),
                        };
                        let key = (input.encoder.clone(), shape);
                        match self.inputs.get(&key) {
                            Some(tokens) => *tokens,
                            None => {
                                let alone = Prompt::new().piece(piece.clone());
                                let tokens = vlm.sequence(&[alone])?.lengths[0];
                                self.inputs.insert(key, tokens);
                                tokens
                            }
                        }
                    }
                },
            };
            pieces.push((piece.name(), tokens));
        }
        Ok(pieces)
    }
}

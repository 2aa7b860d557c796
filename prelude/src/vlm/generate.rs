//! Stage 4, generation: token by token, each appended to the sequence that predicts the next.
//!
//! The blog runs the whole sequence again for every token; [`Generate::without_cache`] does that. The default keeps keys
//! and values of earlier tokens in a cache and feeds only the new one: the same ids, far less work.
//! [`Generate::prompt_lookup`] has several tokens checked in one pass; [`Generate::questions`] reads a picture once for all of them.
//! [`Generate::num_beams`] keeps several texts a picture side by side: see `beam`.

use super::Vlm;
use super::beam::{BeamSearch, EarlyStopping};
use super::input::VlmInput;
use super::prompt::{Piece, Prompt, Seen};
use super::query::Query;
use super::sampling::Sampling;
use super::steps::Steps;
use crate::cell;
use crate::display::{MimeBundle, Render, Table};
use crate::session::check_interrupt;
use crate::vision::Image;
use crate::{Error, Result};
use candle_core::Tensor;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::io::Write;
use std::sync::Arc;

/// Why a text ended.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let image = Image::filled(80, 80, [200, 30, 40])?;
/// let written = vlm.generate(&image)?.max_new_tokens(1).stop_at(vec![]).run()?;
/// assert_eq!(written.stopped, Stopped::Length); // `Stopped::Eos` when the model itself ends
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The model made an end-of-sequence token (the last of the ids).
    Eos,
    /// `max_new_tokens` was reached.
    Length,
}

/// What was made for one picture.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let image = Image::filled(80, 80, [200, 30, 40])?;
/// let written = vlm.generate(&image)?.max_new_tokens(6).run()?;
/// println!("{} ({:?})", written.text, written.stopped);
/// assert_eq!(written.text, vlm.llm_processor.decode(&written.ids)?);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Generation {
    /// The new token ids.
    pub ids: Vec<u32>,
    /// Their text, special tokens left out.
    pub text: String,
    /// Why it ended.
    pub stopped: Stopped,
    /// When asked for: the logits from which each token was picked, `[N, V]`.
    pub logits: Option<Tensor>,
    /// Of a beam search: the finished texts with their scores, best (this one) first. Else empty.
    pub beams: Vec<Beam>,
    /// The cell that has printed the text while it was made.
    streamed_in: Option<u64>,
}

/// One of the texts that a beam search found.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let image = Image::filled(80, 80, [200, 30, 40])?;
/// let written = vlm.generate(&image)?.num_beams(3).max_new_tokens(4).run()?;
/// let best: &Beam = &written.beams[0];
/// assert_eq!(best.ids, written.ids);
/// assert!(best.score >= written.beams[1].score);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Beam {
    /// The new token ids.
    pub ids: Vec<u32>,
    /// Their text, special tokens left out.
    pub text: String,
    /// Log-probability divided by length to the power of `length_penalty`.
    pub score: f64,
}

impl Render for Generation {
    fn render(&self) -> MimeBundle {
        if self.beams.is_empty() {
            let printed = self.streamed_in.is_some() && self.streamed_in == cell::number();
            return MimeBundle::text(if printed {
                self.ending()
            } else {
                self.text.clone()
            });
        }
        let mut table = Table::new(["score", "tokens", "text"]).title(format!(
            "The best {} texts of a beam search",
            self.beams.len()
        ));
        for beam in &self.beams {
            let (tokens, text) = (beam.ids.len(), beam.text.as_str());
            table = table.row([beam.score.into(), tokens.into(), text.into()]);
        }
        table.render()
    }
}

impl Generation {
    /// One that another process has made.
    pub(crate) fn told(ids: Vec<u32>, text: String, stopped: Stopped, beams: Vec<Beam>) -> Self {
        Self {
            ids,
            text,
            stopped,
            logits: None,
            beams,
            streamed_in: None,
        }
    }

    /// How long the text is and why it ends: all that is left to say where the text itself has just been printed.
    fn ending(&self) -> String {
        let count = self.ids.len();
        let tokens = if count == 1 { "token" } else { "tokens" };
        match self.stopped {
            Stopped::Eos => format!("({count} {tokens}, the last ends the text)"),
            Stopped::Length => format!("({count} {tokens}, cut at max_new_tokens)"),
        }
    }
}

/// A generation to be set up and run. Cheap to clone.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let image = Image::filled(80, 80, [200, 30, 40])?;
/// let generate = vlm.generate(&image)?.max_new_tokens(6).temperature(0.8).top_k(20).seed(1);
/// let written = generate.clone().run()?;
/// assert_eq!(written.ids, generate.run()?.ids); // the same seed, the same words
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Generate {
    /// The model itself, not a copy: weights that change before it runs count.
    pub(super) vlm: Arc<Vlm>,
    /// What is read first, of each text.
    pub(super) prompts: Vec<Prompt>,
    pub(super) query: Query,
    pub(super) prefix: String,
    /// Why what it was made from can't be read.
    refused: Option<Arc<Error>>,
    pub(super) max_new_tokens: usize,
    pub(super) sampling: Sampling,
    pub(super) beams: BeamSearch,
    pub(super) seed: u64,
    /// The stream of draws of each prompt, where it is not its place in the batch.
    streams: Vec<u64>,
    pub(super) cache: bool,
    pub(super) stop_ids: Vec<u32>,
    pub(super) keep_logits: bool,
    /// The most tokens that are proposed at a time.
    pub(super) lookup: usize,
}

impl Vlm {
    /// Captions a picture, `vlm.generate(&image)?.max_new_tokens(32).stream()?`, or another encoder's prepared input; or goes on
    /// where the last answer of a [`Prompt`] is left open.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let image = Image::filled(64, 64, [200, 30, 40])?;
    /// vlm.generate(&image)?.query("How many?").run()?;
    /// vlm.generate(&image)?.prefix("a red").run()?; // goes on behind these words
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When the picture cannot be preprocessed, or a prompt's answer is written already.
    pub fn generate(&self, input: &dyn VlmInput) -> Result<Generate> {
        let prompts = self.open_prompts(input)?;
        Ok(self.generation_of(prompts))
    }

    /// Goes on behind several prompts at once.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let image = Image::filled(80, 80, [200, 30, 40])?;
    /// let ask = |question: &str| vlm.conversation(&[Turn::asks(question).shows_to(&vlm, &image)?]);
    /// let prompts = [ask("What is this?")?, ask("What colour is it?")?];
    /// let answers = vlm.generate_prompts(&prompts)?.max_new_tokens(4).run_all()?;
    /// assert_eq!(answers.len(), 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When an answer is written already.
    pub fn generate_prompts(&self, prompts: &[Prompt]) -> Result<Generate> {
        let mut all = Vec::with_capacity(prompts.len());
        for prompt in prompts {
            all.extend(self.generate(prompt)?.prompts);
        }
        Ok(self.generation_of(all))
    }

    /// Goes on behind image tokens, `[B, P, D]`, which a cell has cut or changed: as they are they give what
    /// [`Vlm::generate_from`] gives. Changed hidden states of the encoder go through [`Vlm::project`] first.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let image = Image::filled(64, 64, [200, 30, 40])?;
    /// let tokens = vlm.embed_images(&[image])?; // [1, P, D]
    /// let fewer = tokens.narrow(1, 0, tokens.dim(1)? / 2)?; // [1, P / 2, D]
    /// let half_seen = vlm.generate_from_tokens(&fewer)?.run()?;
    /// let half_loss = vlm.full_sequence_loss_of(&vlm.prompt_of_tokens(&fewer, "a square")?)?;
    /// # assert!(!half_seen.ids.is_empty() && half_loss.value()? > 0.0);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// For another shape.
    pub fn generate_from_tokens(&self, image_tokens: &Tensor) -> Result<Generate> {
        image_tokens.dims3()?;
        let rows = Piece::rows(image_tokens, Seen::Embedded)?;
        Ok(self.generation_of(self.caption_prompts(rows, &Query::Vector)?))
    }

    /// Captions several pictures at once.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let images = [Image::filled(80, 80, [200, 30, 40])?, Image::filled(80, 80, [30, 40, 200])?];
    /// let captions = vlm.generate_batch(&images)?.max_new_tokens(4).run_all()?;
    /// assert_eq!(captions.len(), 2);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// For no pictures.
    pub fn generate_batch(&self, images: &[Image]) -> Result<Generate> {
        if self.tiling.is_none() {
            return Ok(self.generate_from(&self.image_processor.preprocess_batch(images)?));
        }
        let mut prompts = Vec::with_capacity(images.len());
        for image in images {
            prompts.extend(image.prompts(self)?);
        }
        Ok(self.generation_of(prompts))
    }

    /// Captions preprocessed pictures, `[B, 3, H, W]`, or a batch of what another encoder takes. What is wrong with them shows
    /// when it runs.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let pixel_values = Tensor::zeros((1, 3, 80, 80), DType::F32, &Device::Cpu)?; // uniform gray
    /// let written = vlm.generate_from(&pixel_values).max_new_tokens(4).run()?;
    /// assert!(written.ids.len() <= 4);
    /// # Ok(()) }
    /// ```
    pub fn generate_from(&self, pixel_values: &Tensor) -> Generate {
        let prompts = VlmInput::prompts(pixel_values, self);
        let mut generate = self.generation_of(Vec::new());
        match prompts {
            Ok(prompts) => generate.prompts = prompts,
            Err(error) => generate.refused = Some(Arc::new(error)),
        }
        generate
    }

    pub(super) fn generation_of(&self, prompts: Vec<Prompt>) -> Generate {
        let mut stop_ids = Vec::new();
        if self.settings.stop_at_eos {
            stop_ids.extend(self.llm_processor.eos_ids());
            stop_ids.extend(self.llm.config.eos_ids());
        }
        Generate {
            vlm: Arc::new(self.share()),
            prompts,
            refused: None,
            query: Query::Vector,
            prefix: String::new(),
            max_new_tokens: 32,
            sampling: Sampling::default(),
            beams: BeamSearch::default(),
            seed: 0,
            streams: Vec::new(),
            cache: true,
            stop_ids,
            keep_logits: false,
            lookup: 0,
        }
    }
}

impl Generate {
    /// Most tokens to make; 32 unless set.
    pub fn max_new_tokens(mut self, tokens: usize) -> Self {
        self.max_new_tokens = tokens;
        self
    }

    /// What is asked, instead of the model's `query_vec`: words, or token ids as a [`Query`].
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let image = Image::filled(80, 80, [200, 30, 40])?;
    /// let answer = vlm.generate(&image)?.query("What colour is it?").max_new_tokens(3).run()?;
    /// assert!(answer.ids.len() <= 3);
    /// # Ok(()) }
    /// ```
    pub fn query(mut self, query: impl Into<Query>) -> Self {
        self.query = query.into();
        self
    }

    /// Asks several questions of the same input, all at once: the answers are those of [`Generate::query`] with each, in their order.
    /// What stands before the questions, the picture mostly, goes through its encoder and through the language model once for all of
    /// them (through the language model once for each where an attention rule lets a picture's tokens see those behind them).
    /// Where tokens are drawn, each question has draws of its own, as each picture of a batch has.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let image = Image::filled(80, 80, [200, 30, 40])?;
    /// let answers = vlm.generate(&image)?.questions(&["What is this?", "Which colour is it?"])?.max_new_tokens(4).run_all()?;
    /// let colour = vlm.generate(&image)?.query("Which colour is it?").max_new_tokens(4).run()?;
    /// assert_eq!(answers[1].ids, colour.ids);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// For no question, and for words that the tokenizer or the chat template refuses.
    pub fn questions<S: AsRef<str>>(mut self, questions: &[S]) -> Result<Self> {
        let ids = questions
            .iter()
            .map(|question| self.vlm.query_ids(question.as_ref()));
        let ids = ids.collect::<Result<Vec<_>>>()?;
        if ids.is_empty() {
            return Err(Error::Input("no questions: give at least one".into()));
        }
        let prompts = self.prompts.iter();
        self.prompts = prompts
            .flat_map(|prompt| vec![prompt.clone(); ids.len()])
            .collect();
        let inputs = self.prompts.len() / ids.len();
        self.query = Query::Each(vec![ids; inputs].concat());
        Ok(self)
    }

    /// The beginning of the text, which is given; what is made goes on behind it.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let image = Image::filled(80, 80, [200, 30, 40])?;
    /// let written = vlm.generate(&image)?.prefix("a red").max_new_tokens(3).run()?; // how does it go on?
    /// assert!(written.ids.len() <= 3);
    /// # Ok(()) }
    /// ```
    pub fn prefix(mut self, words: impl Into<String>) -> Self {
        self.prefix = words.into();
        self
    }

    /// How tokens are picked; greedy unless set.
    pub fn sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = sampling;
        self
    }

    /// Draws tokens with this temperature instead of taking the best.
    pub fn temperature(mut self, temperature: f32) -> Self {
        self.sampling.temperature = temperature;
        self
    }

    /// Draws among the best `k` only.
    pub fn top_k(mut self, k: usize) -> Self {
        self.sampling.top_k = k;
        self
    }

    /// Draws among the best tokens that together have probability `p` only.
    pub fn top_p(mut self, p: f32) -> Self {
        self.sampling.top_p = p;
        self
    }

    /// Makes tokens that were made already less likely (above 1).
    pub fn repetition_penalty(mut self, penalty: f32) -> Self {
        self.sampling.repetition_penalty = penalty;
        self
    }

    /// Keeps this many texts a picture side by side and takes the best as a whole; 1 (greedy) unless set.
    pub fn num_beams(mut self, beams: usize) -> Self {
        self.beams.num_beams = beams;
        self
    }

    /// Beams: a text's log-probability is divided by its length to this power; 1 unless set, above favours long texts.
    pub fn length_penalty(mut self, penalty: f64) -> Self {
        self.beams.length_penalty = penalty;
        self
    }

    /// Beams: when the search ends before `max_new_tokens`.
    pub fn early_stopping(mut self, when: EarlyStopping) -> Self {
        self.beams.early_stopping = when;
        self
    }

    /// Decides all draws.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// What is drawn for each prompt is what is drawn for the one at this place of a longer list.
    pub(crate) fn drawn_as(mut self, places: &[usize]) -> Self {
        self.streams = places.iter().map(|place| *place as u64).collect();
        self
    }

    pub(crate) fn keeps_logits(&self) -> bool {
        self.keep_logits
    }

    /// Everything that decides what is made, besides model and prompts.
    pub(crate) fn settings_in_words(&self) -> String {
        // Proposals are not among them: they change a token only where rounding decides between two.
        format!(
            "{:?} {:?} {} {:?} {:?} {} {} {:?}",
            self.query,
            self.prefix,
            self.max_new_tokens,
            self.sampling,
            self.beams,
            self.seed,
            self.cache,
            self.stop_ids
        )
    }

    /// Runs the whole sequence again for every token, as the blog does.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let generate = vlm.generate(&Image::filled(80, 80, [200, 30, 40])?)?.max_new_tokens(4);
    /// assert_eq!(generate.clone().without_cache().run()?.ids, generate.run()?.ids); // slower, and the same
    /// # Ok(()) }
    /// ```
    pub fn without_cache(mut self) -> Self {
        self.cache = false;
        self
    }

    /// Stops at these ids (an empty list: never) instead of the model's own.
    pub fn stop_at(mut self, ids: Vec<u32>) -> Self {
        self.stop_ids = ids;
        self
    }

    /// Also gives the logits from which each token was picked.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let written = vlm.generate(&Image::filled(80, 80, [200, 30, 40])?)?.keep_logits().max_new_tokens(3).run()?;
    /// let logits = written.logits.expect("they were asked for");
    /// assert_eq!(logits.dims(), [written.ids.len(), 576]);
    /// # Ok(()) }
    /// ```
    pub fn keep_logits(mut self) -> Self {
        self.keep_logits = true;
        self
    }

    /// Makes the text for one picture.
    ///
    /// # Errors
    /// For a batch of several pictures, a text that does not fit the context, or an interrupt.
    pub fn run(self) -> Result<Generation> {
        let mut all = self.run_with(&mut |_, _| Ok(()))?;
        match (all.pop(), all.is_empty()) {
            (Some(only), true) => Ok(only),
            _ => Err(Error::Input(
                "there are several pictures: use run_all".into(),
            )),
        }
    }

    /// Makes the texts for all pictures of the batch.
    ///
    /// # Errors
    /// A text that does not fit the context, or an interrupt.
    pub fn run_all(self) -> Result<Vec<Generation>> {
        self.run_with(&mut |_, _| Ok(()))
    }

    /// As [`Generate::run`], printing the text as it is made. With beams a token is printed once every text that may
    /// still win has it, so that nothing printed is taken back; the rest follows at the end.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let image = Image::filled(80, 80, [200, 30, 40])?;
    /// let written = vlm.generate(&image)?.max_new_tokens(4).stream()?; // the cell shows each word as it comes
    /// assert!(written.ids.len() <= 4);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Generate::run`], and when stdout is gone.
    pub fn stream(self) -> Result<Generation> {
        let io = |source| Error::Io {
            path: "stdout".into(),
            source,
        };
        let processor = self.vlm.llm_processor.clone();
        let mut ids = Vec::new();
        let mut shown = 0;
        let result = self.run_with(&mut |picture, id| {
            if picture > 0 {
                return Err(Error::Input(
                    "there are several pictures: use run_all".into(),
                ));
            }
            ids.push(id);
            let text = processor.decode(&ids)?;
            // A character may be spread over several tokens: wait until it is whole.
            if text.len() > shown && !text.ends_with('\u{fffd}') {
                let mut out = std::io::stdout().lock();
                out.write_all(&text.as_bytes()[shown..])
                    .and_then(|()| out.flush())
                    .map_err(io)?;
                shown = text.len();
            }
            Ok(())
        });
        writeln!(std::io::stdout()).map_err(io)?;
        let mut made = result?
            .pop()
            .ok_or_else(|| Error::Input("a batch of no pictures: give at least one".into()))?;
        made.streamed_in = cell::number();
        Ok(made)
    }

    /// Makes the texts for all pictures, calling `on_token(picture, id)` for each token as it is made (with beams: once it
    /// is certain); an error from it stops the generation.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let mut seen = Vec::new();
    /// let written = vlm
    ///     .generate(&Image::filled(80, 80, [200, 30, 40])?)?
    ///     .max_new_tokens(3)
    ///     .run_with(&mut |picture, token| {
    ///         seen.push((picture, token)); // while it writes
    ///         Ok(())
    ///     })?;
    /// assert_eq!(seen.len(), written[0].ids.len());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A text that does not fit the context, an interrupt, or an error of `on_token`.
    pub fn run_with(
        self,
        on_token: &mut dyn FnMut(usize, u32) -> Result<()>,
    ) -> Result<Vec<Generation>> {
        self.sampling.validate()?;
        self.beams.validate(&self.sampling)?;
        self.check_lookup()?;
        let prompts = self.asked()?;
        if self.lookup > 0 {
            return self.look_up(&prompts, on_token);
        }
        let room = self.cache.then_some(self.max_new_tokens);
        let steps = Steps::new(&self.vlm, &prompts, room)?;
        self.check_room(&steps, 0)?;
        if self.beams.num_beams > 1 {
            self.search(steps, on_token)
        } else {
            self.pick(steps, on_token)
        }
    }

    /// Refuses prompts, of which the first has this number, that leave no room for what is to be made.
    pub(super) fn check_room(&self, steps: &Steps<'_>, first: usize) -> Result<()> {
        let context = self.vlm.llm.config.max_position_embeddings;
        let sequence = steps.sequence();
        for (b, length) in sequence.lengths.iter().enumerate() {
            let tokens = length + self.max_new_tokens;
            if tokens > context {
                let mut pieces = sequence.segments.counts_of(b);
                pieces.push(("new tokens".into(), self.max_new_tokens));
                let what = format!("prompt {} with what is to be made", first + b);
                return Err(Error::ContextOverflow {
                    what,
                    tokens,
                    context,
                    pieces,
                });
            }
        }
        Ok(())
    }

    /// What decides the draws of a prompt.
    pub(super) fn rng(&self, picture: usize) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let own = self.streams.get(picture).copied();
        rng.set_stream(own.unwrap_or(picture as u64));
        rng
    }

    /// The prompts with the query and the beginning that were asked for.
    fn asked(&self) -> Result<Vec<Prompt>> {
        if let Some(error) = &self.refused {
            return Err(Error::Input(error.to_string()));
        }
        let prefix = self.vlm.given_ids(&self.prefix)?;
        let count = self.prompts.len();
        let asked = |prompt: &Prompt, b: usize| match &self.query {
            Query::Vector => Ok(prompt.clone()),
            Query::Words(text) => prompt.clone().asked(&self.vlm.query_ids(text)?),
            Query::Shared(ids) => prompt.clone().asked(ids),
            Query::Each(lists) => match lists.get(b).filter(|_| lists.len() == count) {
                Some(ids) => prompt.clone().asked(ids),
                None => Err(Error::Input(format!(
                    "{} queries for {count} pictures",
                    lists.len()
                ))),
            },
        };
        let prompts = self.prompts.iter().enumerate();
        prompts
            .map(|(b, prompt)| Ok(asked(prompt, b)?.prefix(&prefix)))
            .collect()
    }

    /// One text a picture, token by token.
    fn pick(
        &self,
        mut steps: Steps<'_>,
        on_token: &mut dyn FnMut(usize, u32) -> Result<()>,
    ) -> Result<Vec<Generation>> {
        let batch = steps.batch();
        let mut rngs: Vec<ChaCha8Rng> = (0..batch).map(|picture| self.rng(picture)).collect();
        let mut made: Vec<Vec<u32>> = vec![Vec::new(); batch];
        let mut stopped = vec![None; batch];
        let mut kept: Vec<Vec<Tensor>> = vec![Vec::new(); batch];
        for _ in 0..self.max_new_tokens {
            check_interrupt()?;
            let logits = steps.next(&made)?.detach(); // [B, V]
            let rows = logits.to_vec2::<f32>()?;
            for (b, row) in rows.iter().enumerate() {
                // A finished text keeps its place in the batch; what it would go on with is not recorded.
                let id = self.sampling.pick(row, &made[b], &mut rngs[b])?;
                made[b].push(id);
                if stopped[b].is_some() {
                    continue;
                }
                if self.keep_logits {
                    kept[b].push(logits.get(b)?);
                }
                on_token(b, id)?;
                if self.stop_ids.contains(&id) {
                    stopped[b] = Some(made[b].len());
                }
            }
            if stopped.iter().all(Option::is_some) {
                break;
            }
        }
        made.into_iter()
            .zip(stopped)
            .zip(kept)
            .map(|((mut ids, end), kept)| {
                ids.truncate(end.unwrap_or(ids.len()));
                let stopped = if end.is_some() {
                    Stopped::Eos
                } else {
                    Stopped::Length
                };
                self.generation(ids, stopped, &kept)
            })
            .collect()
    }

    pub(super) fn generation(
        &self,
        ids: Vec<u32>,
        stopped: Stopped,
        kept: &[Tensor],
    ) -> Result<Generation> {
        Ok(Generation {
            text: self.vlm.llm_processor.decode(&ids)?,
            stopped,
            logits: match self.keep_logits && !kept.is_empty() {
                true => Some(Tensor::stack(kept, 0)?), // [N, V]
                false => None,
            },
            ids,
            beams: Vec::new(),
            streamed_in: None,
        })
    }
}

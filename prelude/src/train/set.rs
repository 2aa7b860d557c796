//! What a trainer learns from: numbered examples, each of which gives prompts.
//!
//! ```text
//! TrainingSet ─ position ─► Example ─ one of its captions, or prompts ─► Prompt ─► the loss
//! ```

use std::sync::Arc;

use candle_core::Tensor;

use super::features::Features;
use super::pictures::{KeptPictures, PictureFile};
use crate::data::{CocoCaptions, Conversation, Conversations, Questions};
use crate::display::Facts;
use crate::runs::hash::Hash;
use crate::vision::Image;
use crate::vlm::{Piece, Prompt, Query, Seen, Turn, Vlm, VlmInput};
use crate::{Error, Result};

/// Numbered examples: what a [`Trainer`](super::Trainer) learns from and is measured on. A COCO folder is one, for models that read
/// pictures, and so are [`Questions`] and [`Conversations`]; so is a `Vec` of [`Example`]s, of [`Prompt`]s, or of pairs such as
/// `(Tensor, Vec<String>)` with inputs that are prepared for the model's encoder.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// /// Pictures that are drawn when they are asked for.
/// struct Reds(usize);
/// impl TrainingSet for Reds {
///     fn len(&self) -> usize {
///         self.0
///     }
///     fn example(&self, _: &Vlm, position: usize) -> Result<Example> {
///         let red = 100 + (position % 100) as u8;
///         Ok(Example::new(&Image::filled(64, 64, [red, 30, 40])?, "a red square"))
///     }
/// }
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let settings = TrainerSettings { steps: 1, batch_size: 2, ..TrainerSettings::tour() };
/// assert_eq!(Trainer::new(settings)?.fit(&vlm, &Reds(10), &Reds(2))?.samples, 2);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
pub trait TrainingSet {
    /// Number of examples.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The example at `position`, its input prepared for the model's encoder.
    ///
    /// # Errors
    /// When there is no such example, or its input cannot be read or prepared. `Io`, `Image` and `Json` say that it can't
    /// be read: a trainer leaves it out and takes another.
    fn example(&self, vlm: &Vlm, position: usize) -> Result<Example>;

    /// The same with its picture as it is kept on disk ([`TrainerSettings::pictures`](super::TrainerSettings::pictures)), which is asked
    /// for it by its file. `None`, as long as nothing else is said: no pictures are read from files.
    ///
    /// # Errors
    /// As [`TrainingSet::example`].
    fn example_kept(
        &self,
        vlm: &Vlm,
        position: usize,
        pictures: &KeptPictures,
    ) -> Result<Option<Example>> {
        let _ = (vlm, position, pictures);
        Ok(None)
    }

    /// A handle of its own to the same examples, through which background threads read them while the model trains. `None`, as
    /// long as nothing else is said: each is read when its step comes.
    fn handle(&self) -> Option<Arc<dyn TrainingSet + Send + Sync>> {
        None
    }

    /// How long the words of the example at `position` are, in whatever unit, without reading its input: by this batches of alike
    /// lengths are made. `None`, as long as nothing else is said: it is not known.
    fn length(&self, position: usize) -> Option<usize> {
        let _ = position;
        None
    }

    /// How messages call the example at `position`.
    fn name(&self, position: usize) -> String {
        format!("example {position}")
    }

    /// What the set is known by: a hash of names, captions and token ids, for which no picture is read. `None` where only reading
    /// everything would tell.
    fn fingerprint(&self) -> Option<String> {
        None
    }
}

/// One example: an input with its captions (or a question with its answers), or prompts of any form.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let image = Image::filled(64, 64, [200, 30, 40])?;
/// let captioned = Example::with_captions(&image, vec!["a red square".into(), "something red".into()]);
/// assert_eq!(captioned.choices(), 2); // a step draws one of them
/// let asked = Example::new(&image, "four").asked("how many corners?");
/// assert_eq!(asked.captions(), ["four"]);
/// let set = vec![captioned, asked]; // what `Trainer::fit` takes
/// assert_eq!(TrainingSet::len(&set), 2);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone)]
pub struct Example {
    /// What is shown: an input, where the example is made of one.
    shown: Option<Arc<dyn VlmInput + Send + Sync>>,
    /// What stands between input and caption.
    query: Query,
    /// The captions, or answers; one of them is drawn each time.
    captions: Vec<String>,
    /// In place of all these.
    prompts: Vec<Prompt>,
}

impl Example {
    /// An input (a picture, or what the model's encoder takes) with a caption.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let image = Image::filled(64, 64, [200, 30, 40])?;
    /// let set = vec![
    ///     Example::new(&image, "a red square"),
    ///     Example::new(&image, "four").asked("how many corners?"),
    /// ];
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let config = TrainerConfig { steps: 1, batch_size: 2, ..TrainerConfig::tour() };
    /// let report = Trainer::new(config)?.fit(&vlm, &set, &set)?;
    /// # assert_eq!(report.steps, 1);
    /// # Ok(()) }
    /// ```
    pub fn new<I: VlmInput + Clone + Send + Sync + 'static>(
        input: &I,
        caption: impl Into<String>,
    ) -> Self {
        Self::with_captions(input, vec![caption.into()])
    }

    /// An input with several captions.
    pub fn with_captions<I: VlmInput + Clone + Send + Sync + 'static>(
        input: &I,
        captions: Vec<String>,
    ) -> Self {
        Self {
            shown: Some(Arc::new(input.clone())),
            query: Query::Vector,
            captions,
            prompts: Vec::new(),
        }
    }

    /// Prompts of any form: one of them is drawn each time.
    pub fn of(prompts: Vec<Prompt>) -> Self {
        Self {
            shown: None,
            query: Query::Vector,
            captions: Vec::new(),
            prompts,
        }
    }

    /// The question that the captions answer, in place of the model's own query.
    pub fn asked(mut self, question: impl Into<String>) -> Self {
        self.query = Query::Words(question.into());
        self
    }

    /// The captions or answers.
    pub fn captions(&self) -> &[String] {
        &self.captions
    }

    /// How many prompts there are to draw from.
    pub fn choices(&self) -> usize {
        match self.prompts.len() {
            0 => self.captions.len(),
            prompts => prompts,
        }
    }

    /// The prompt with the caption at `choice`; without one, or where the caption has no words, one without an answer.
    ///
    /// # Errors
    /// When the input can't be prepared, or there is no such choice.
    pub fn prompt(&self, vlm: &Vlm, choice: Option<usize>) -> Result<Prompt> {
        let missing = |choice: usize| {
            Error::Input(format!(
                "the example has {} prompts, no number {choice}",
                self.choices()
            ))
        };
        if !self.prompts.is_empty() {
            let choice = choice.unwrap_or(0);
            return self
                .prompts
                .get(choice)
                .cloned()
                .ok_or_else(|| missing(choice));
        }
        let caption = match choice {
            Some(choice) => self.captions.get(choice).ok_or_else(|| missing(choice))?,
            None => "",
        };
        let ids = match caption.trim() {
            "" => Vec::new(),
            words => vlm.caption_ids(words)?,
        };
        match &self.shown {
            Some(input) => vlm.answered(&**input, &self.query, &ids),
            None => Err(Error::Input(
                "the example has neither an input nor prompts: give it some".into(),
            )),
        }
    }

    /// Takes in the words and ids that it is made of.
    fn hash(&self, hash: &mut Hash) {
        if let Query::Words(question) = &self.query {
            hash.text(question);
        }
        self.captions.iter().for_each(|caption| hash.text(caption));
        self.prompts
            .iter()
            .for_each(|prompt| hash_prompt(prompt, hash));
        hash.numbers(&[]);
    }

    /// The same with its input as the model's encoder takes it.
    fn prepared(mut self, vlm: &Vlm) -> Result<Self> {
        if let Some(input) = &self.shown {
            self.shown = Some(Arc::new(vlm.open_prompt(&**input)?));
        }
        Ok(self)
    }

    /// The same with the encoder's hidden states in place of what the encoder would read.
    pub(super) fn encoded(mut self, vlm: &Vlm, features: &Features) -> Result<Self> {
        let mut shown = match &self.shown {
            Some(input) => Some(vlm.open_prompt(&**input)?),
            None => None,
        };
        let prompts = shown.iter_mut().chain(&mut self.prompts);
        for input in prompts.flat_map(Prompt::inputs_mut) {
            if input.encoder.is_none()
                && let Seen::Prepared(prepared) = &mut input.seen
            {
                *prepared = features.of(vlm, prepared)?; // [1, P, D]
            }
        }
        if let Some(shown) = shown {
            self.shown = Some(Arc::new(shown));
        }
        Ok(self)
    }

    /// What it takes to keep its inputs.
    pub(super) fn bytes(&self) -> usize {
        let of_prompts = self.prompts.iter().map(VlmInput::bytes);
        let shown = self.shown.as_ref().map_or(0, |input| input.bytes());
        of_prompts.sum::<usize>() + shown
    }

    pub(super) fn facts(&self) -> Facts {
        let facts = Facts::new("Example").fact_if(
            "prompts",
            (!self.prompts.is_empty()).then_some(self.prompts.len()),
        );
        let asked = match &self.query {
            Query::Words(question) => Some(question),
            _ => None,
        };
        let facts = facts.fact_if("asked", asked);
        self.captions
            .iter()
            .fold(facts, |facts, caption| facts.fact("caption", caption))
    }
}

/// The example that `made` gives of the pictures in `files`, prepared as they are kept on disk, or of what `decode` reads where they are
/// not; `None` for pictures that lie in no files.
fn of_kept(
    vlm: &Vlm,
    kept: &KeptPictures,
    files: Option<Vec<PictureFile>>,
    decode: impl Fn(&PictureFile) -> Result<Image>,
    made: impl FnOnce(Vec<Tensor>) -> Result<Example>,
) -> Result<Option<Example>> {
    let Some(files) = files else {
        return Ok(None);
    };
    let pixels = files.iter().map(|file| {
        kept.prepared(vlm, file, || decode(file)) // [1, 3, H, W]
    });
    made(pixels.collect::<Result<Vec<Tensor>>>()?).map(Some)
}

/// The one picture of an example with captions.
fn only(pixels: Vec<Tensor>) -> Result<Tensor> {
    let count = pixels.len();
    let mut pixels = pixels.into_iter();
    pixels.next().filter(|_| count == 1).ok_or_else(|| {
        Error::Input(format!(
            "an example with captions has one picture, this one {count}"
        ))
    })
}

impl TrainingSet for CocoCaptions {
    fn len(&self) -> usize {
        CocoCaptions::len(self)
    }

    fn example(&self, vlm: &Vlm, position: usize) -> Result<Example> {
        let sample = self.sample(position)?;
        Example::with_captions(&sample.image, sample.captions).prepared(vlm)
    }

    fn example_kept(
        &self,
        vlm: &Vlm,
        position: usize,
        pictures: &KeptPictures,
    ) -> Result<Option<Example>> {
        let file = self.picture_file(position)?.map(|file| vec![file]);
        let decode = |_: &PictureFile| Ok(self.sample(position)?.image);
        of_kept(vlm, pictures, file, decode, |pixels| {
            Example::with_captions(&only(pixels)?, self.captions(position)?).prepared(vlm)
        })
    }

    fn handle(&self) -> Option<Arc<dyn TrainingSet + Send + Sync>> {
        Some(Arc::new(self.clone()))
    }

    /// The mean length of its captions, in bytes.
    fn length(&self, position: usize) -> Option<usize> {
        let captions = self.captions(position).ok()?;
        let bytes: usize = captions.iter().map(String::len).sum();
        Some(bytes / captions.len().max(1))
    }

    fn name(&self, position: usize) -> String {
        match self.picture_path(position) {
            Ok(path) => format!("example {position} ({})", path.display()),
            Err(_) => format!("example {position}"),
        }
    }

    fn fingerprint(&self) -> Option<String> {
        Some(CocoCaptions::fingerprint(self))
    }
}

impl TrainingSet for Questions {
    fn len(&self) -> usize {
        Questions::len(self)
    }

    fn example(&self, vlm: &Vlm, position: usize) -> Result<Example> {
        let (image, answers) = (self.image(position)?, self.answers(position)?);
        let example = Example::with_captions(&image, answers.to_vec());
        example.asked(self.query(position)?).prepared(vlm)
    }

    fn example_kept(
        &self,
        vlm: &Vlm,
        position: usize,
        pictures: &KeptPictures,
    ) -> Result<Option<Example>> {
        let file = self.picture_file(position)?.map(|file| vec![file]);
        of_kept(
            vlm,
            pictures,
            file,
            |_| self.image(position),
            |pixels| {
                let example =
                    Example::with_captions(&only(pixels)?, self.answers(position)?.to_vec());
                example.asked(self.query(position)?).prepared(vlm)
            },
        )
    }

    fn handle(&self) -> Option<Arc<dyn TrainingSet + Send + Sync>> {
        Some(Arc::new(self.clone()))
    }

    /// Its question and the mean of its answers, in bytes.
    fn length(&self, position: usize) -> Option<usize> {
        let (query, answers) = (self.query(position).ok()?, self.answers(position).ok()?);
        let bytes: usize = answers.iter().map(String::len).sum();
        Some(query.len() + bytes / answers.len().max(1))
    }

    fn name(&self, position: usize) -> String {
        match self.question(position) {
            Ok(question) => format!("question {position} ({question})"),
            Err(_) => format!("question {position}"),
        }
    }

    /// Of the questions as they are asked, and their answers.
    fn fingerprint(&self) -> Option<String> {
        let mut hash = Hash::default();
        for position in 0..Questions::len(self) {
            hash.text(&self.query(position).ok()?);
            let answers = self.answers(position).ok()?;
            answers.iter().for_each(|answer| hash.text(answer));
            hash.numbers(&[]);
        }
        Some(hash.hex())
    }
}

/// Every answer of a conversation is a target. As in LLaVA, the pictures of a turn stand in front of its words, and what the system
/// says in front of the first question.
impl TrainingSet for Conversations {
    fn len(&self) -> usize {
        Conversations::len(self)
    }

    fn example(&self, vlm: &Vlm, position: usize) -> Result<Example> {
        spoken(vlm, self.conversation(position)?, self.images(position)?)
    }

    fn example_kept(
        &self,
        vlm: &Vlm,
        position: usize,
        pictures: &KeptPictures,
    ) -> Result<Option<Example>> {
        let paths = self.picture_paths(position)?;
        let files = paths.iter().map(|path| path.as_path().into()).collect();
        of_kept(
            vlm,
            pictures,
            Some(files),
            |file| Image::load(&file.path),
            |pixels| spoken(vlm, self.conversation(position)?, pixels),
        )
    }

    fn handle(&self) -> Option<Arc<dyn TrainingSet + Send + Sync>> {
        Some(Arc::new(self.clone()))
    }

    /// What is said in it, in bytes.
    fn length(&self, position: usize) -> Option<usize> {
        let turns = self.conversation(position).ok()?.turns.iter();
        Some(turns.map(|turn| turn.text().len()).sum())
    }

    fn name(&self, position: usize) -> String {
        match self.conversation(position) {
            Ok(conversation) if !conversation.id.is_empty() => {
                format!("conversation {position} ({})", conversation.id)
            }
            _ => format!("conversation {position}"),
        }
    }

    /// Of what is said.
    fn fingerprint(&self) -> Option<String> {
        let mut hash = Hash::default();
        for position in 0..Conversations::len(self) {
            let conversation = self.conversation(position).ok()?;
            hash.text(conversation.system.as_deref().unwrap_or_default());
            for turn in &conversation.turns {
                hash.text(&turn.text());
            }
            hash.numbers(&[]);
        }
        Some(hash.hex())
    }
}

/// The turns of a conversation with its pictures, decoded or prepared.
fn spoken<I: VlmInput>(vlm: &Vlm, conversation: &Conversation, inputs: Vec<I>) -> Result<Example> {
    let mut inputs = inputs.into_iter();
    let mut turns = Vec::with_capacity(conversation.turns.len() / 2);
    for (number, pair) in conversation.turns.chunks_exact(2).enumerate() {
        let words = pair[0].text();
        let words = match (&conversation.system, number) {
            (Some(system), 0) => format!("{system}\n{words}"),
            _ => words,
        };
        let mut turn = Turn::asks(words).answer(pair[1].text());
        for _ in pair[0].pictures() {
            if let Some(image) = inputs.next() {
                turn = turn.shows_to(vlm, &image)?;
            }
        }
        turns.push(turn);
    }
    Ok(Example::of(vec![vlm.conversation(&turns)?]))
}

impl<I: VlmInput> TrainingSet for Vec<(I, Vec<String>)> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn example(&self, vlm: &Vlm, position: usize) -> Result<Example> {
        let (input, captions) = entry(self, position)?;
        Ok(Example::with_captions(
            &vlm.open_prompt(input)?,
            captions.clone(),
        ))
    }

    fn fingerprint(&self) -> Option<String> {
        let mut hash = Hash::default();
        for (_, captions) in self {
            captions.iter().for_each(|caption| hash.text(caption));
            hash.numbers(&[]);
        }
        Some(hash.hex())
    }
}

impl TrainingSet for Vec<Example> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn example(&self, vlm: &Vlm, position: usize) -> Result<Example> {
        entry(self, position)?.clone().prepared(vlm)
    }

    fn handle(&self) -> Option<Arc<dyn TrainingSet + Send + Sync>> {
        Some(Arc::new(self.clone()))
    }

    /// The mean length of its captions, in bytes; of prompts that of their ids.
    fn length(&self, position: usize) -> Option<usize> {
        let example = self.get(position)?;
        let ids = example
            .prompts
            .iter()
            .map(|prompt| prompt.answer_ids().len());
        let words = example.captions.iter().map(String::len);
        Some(words.chain(ids).sum::<usize>() / example.choices().max(1))
    }

    fn fingerprint(&self) -> Option<String> {
        let mut hash = Hash::default();
        self.iter().for_each(|example| example.hash(&mut hash));
        Some(hash.hex())
    }
}

impl TrainingSet for Vec<Prompt> {
    fn len(&self) -> usize {
        Vec::len(self)
    }

    fn example(&self, _: &Vlm, position: usize) -> Result<Example> {
        Ok(Example::of(vec![entry(self, position)?.clone()]))
    }

    fn handle(&self) -> Option<Arc<dyn TrainingSet + Send + Sync>> {
        Some(Arc::new(self.clone()))
    }

    /// The ids that are given and those of its answers.
    fn length(&self, position: usize) -> Option<usize> {
        let pieces = self.get(position)?.pieces.iter();
        let ids = pieces.map(|piece| match piece {
            Piece::Text(_, ids) => ids.len(),
            Piece::Target(target) => target.ids.len(),
            Piece::Vector(_) | Piece::Input(_) => 0,
        });
        Some(ids.sum())
    }

    fn fingerprint(&self) -> Option<String> {
        let mut hash = Hash::default();
        self.iter()
            .for_each(|prompt| hash_prompt(prompt, &mut hash));
        Some(hash.hex())
    }
}

/// Takes in the ids that a prompt is made of.
fn hash_prompt(prompt: &Prompt, hash: &mut Hash) {
    for piece in &prompt.pieces {
        match piece {
            Piece::Text(_, ids) => hash.numbers(ids),
            Piece::Target(target) => hash.numbers(&target.ids),
            Piece::Input(_) | Piece::Vector(..) => hash.numbers(&[]),
        }
    }
}

fn entry<T>(list: &[T], position: usize) -> Result<&T> {
    let missing = || {
        Error::Input(format!(
            "there is no example {position} among {}",
            list.len()
        ))
    };
    list.get(position).ok_or_else(missing)
}

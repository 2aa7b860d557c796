//! A prompt: what the model reads, piece by piece in the order in which it is read, and which of it carries loss.
//!
//! ```text
//! start │ input │ end │ query │ prefix │ target          a caption, as in the blog
//! words │ input │ words │ input │ words │ target │ words │ target …   anything else
//! ```
//! Everything that makes sequences makes prompts ([`prompts`](super::prompts)); stage 2 ([`concatenate`](super::concatenate)) turns
//! a batch of them into vectors. Loss is taken at the target ids, generation goes on where the last target is empty.

use super::words::Spelling;
use crate::display::{MimeBundle, Render, SegmentKind, TokenStrip};
use crate::nn::{AttentionRule, Parameter, VlmPart};
use crate::vision::Tiles;
use crate::{Error, Result};
use candle_core::Tensor;
use std::ops::Range;
use std::sync::Arc;

/// A vector of the model's own prompt.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let start = vlm.prompt_vector(PromptPart::Start)?; // stands in front of the image
/// assert_eq!(start.dims(), vlm.start_vec.tensor().dims());
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptPart {
    /// `start_vec`: an input begins.
    Start,
    /// `end_vec`: the input is over.
    End,
    /// `query_vec`: the question or instruction.
    Query,
}

impl PromptPart {
    /// The name of its vector.
    pub(crate) fn vector(self) -> &'static str {
        match self {
            Self::Start => "start_vec",
            Self::End => "end_vec",
            Self::Query => "query_vec",
        }
    }
}

/// One stretch of what the model reads.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let prompt = vlm.caption_prompt(&Image::filled(80, 80, [200, 30, 40])?, "a red square")?;
/// for piece in &prompt.pieces {
///     println!("{piece:?}"); // given words, prompt vectors, the image, the caption as target
/// }
/// assert!(matches!(prompt.pieces.last(), Some(Piece::Target(_))));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub enum Piece {
    /// Words that are given, as token ids. The kind colours them where they are shown.
    Text(SegmentKind, Vec<u32>),
    /// A prompt vector, or with [`PromptVectors::Tokens`](super::PromptVectors::Tokens) its words.
    Vector(PromptPart),
    /// What an encoder reads.
    Input(InputPiece),
    /// Words that the model has to find: the answer.
    Target(TargetPiece),
}

/// What an encoder reads, a picture mostly.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let prompt = vlm.caption_prompt(&Image::filled(80, 80, [200, 30, 40])?, "a red square")?;
/// let inputs: Vec<&InputPiece> = prompt.inputs().collect();
/// assert_eq!(inputs.len(), 1);
/// assert_eq!(inputs[0].encoder, None); // it is for the model's own image encoder
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct InputPiece {
    /// The encoder's name, where it is not the model's `image_encoder`.
    pub encoder: Option<String>,
    /// How far it has come.
    pub seen: Seen,
}

/// How far an input has come on its way into the sequence.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let prompt = vlm.caption_prompt(&Image::filled(80, 80, [200, 30, 40])?, "a red square")?;
/// let seen = |prompts: &[Prompt]| prompts[0].inputs().map(|input| input.seen.clone()).next();
/// assert!(matches!(seen(&[prompt.clone()]), Some(Seen::Prepared(_)))); // pixel values
/// let through = vlm.embed_inputs(&[prompt])?; // through image encoder and projector
/// assert!(matches!(seen(&through), Some(Seen::Embedded(_))));
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub enum Seen {
    /// A place that no input was put into yet.
    Nothing,
    /// Prepared for its encoder, `[1, ..]`; hidden states `[1, P, D of the encoder]` pass the projector only.
    Prepared(Tensor),
    /// A picture in tiles, which become one sequence of vectors.
    Tiled(Arc<Tiles>),
    /// Vectors of the language model's width, `[1, P, D]`.
    Embedded(Tensor),
}

/// The ids of an answer.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let prompt = vlm.caption_prompt(&Image::filled(80, 80, [200, 30, 40])?, "a red square")?;
/// let targets: Vec<&TargetPiece> = prompt.answers().collect();
/// assert_eq!(targets[0].ids.len(), 4); // three words and the end
/// assert_eq!(targets[0].loss, 0..4); // all are asked for
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetPiece {
    /// All of the answer.
    pub ids: Vec<u32>,
    /// Which of them carry loss. Those in front of them are given, those behind are not asked for.
    pub loss: Range<usize>,
}

/// What the model reads: pieces in order, and who sees whom among them. Values of it are cheap to clone, and show themselves as
/// a strip of tokens with the targets marked.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let (day, night) = (Image::filled(64, 64, [240; 3])?, Image::filled(64, 64, [20; 3])?);
/// let ids = |text: &str| vlm.llm_processor.encode_plain(text);
/// let prompt = Prompt::new()
///     .input(&day.prepare(&vlm)?)
///     .text(&ids("then")?)
///     .input(&night.prepare(&vlm)?)
///     .target(&ids("it is dark")?)
///     .attention(AttentionRule::LastInput); // the words see the last picture only
/// let loss = vlm.full_sequence_loss_of(&prompt)?;
/// assert_eq!(loss.targets, ids("it is dark")?);
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct Prompt {
    /// In the order in which they are read.
    pub pieces: Vec<Piece>,
    /// Who sees whom; the model's setting unless it is given here.
    pub rule: Option<AttentionRule>,
    /// Spells the ids where the prompt is shown.
    pub(super) spelling: Option<Arc<Spelling>>,
}

/// Makes a prompt piece by piece.
impl Prompt {
    /// Nothing to read yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a piece.
    pub fn piece(mut self, piece: Piece) -> Self {
        self.pieces.push(piece);
        self
    }

    /// Adds words.
    pub fn text(self, ids: &[u32]) -> Self {
        self.words(SegmentKind::Text, ids)
    }

    /// Adds the question, or the words that stand in its place.
    pub fn query(self, ids: &[u32]) -> Self {
        self.words(SegmentKind::Query, ids)
    }

    /// Adds the beginning of the answer, which is given.
    pub fn prefix(self, ids: &[u32]) -> Self {
        self.words(SegmentKind::Prefix, ids)
    }

    /// Adds words of a kind.
    pub fn words(self, kind: SegmentKind, ids: &[u32]) -> Self {
        self.piece(Piece::Text(kind, ids.to_vec()))
    }

    /// Adds one of the model's prompt vectors.
    pub fn vector(self, part: PromptPart) -> Self {
        self.piece(Piece::Vector(part))
    }

    /// Adds an input that is prepared for the model's `image_encoder`, `[1, ..]`, or its hidden states.
    pub fn input(self, prepared: &Tensor) -> Self {
        self.seen(None, Seen::Prepared(prepared.clone()))
    }

    /// Adds an input for another encoder of the model.
    pub fn input_for(self, encoder: &str, prepared: &Tensor) -> Self {
        self.seen(Some(encoder), Seen::Prepared(prepared.clone()))
    }

    /// Adds an input as the language model reads it, `[1, P, D]`: image tokens, as they are or changed.
    pub fn image_tokens(self, embedded: &Tensor) -> Self {
        self.seen(None, Seen::Embedded(embedded.clone()))
    }

    /// Adds a place for an input, which [`Prompt::shown`] fills.
    pub fn place(self) -> Self {
        self.seen(None, Seen::Nothing)
    }

    fn seen(self, encoder: Option<&str>, seen: Seen) -> Self {
        let encoder = encoder.map(ToOwned::to_owned);
        self.piece(Piece::Input(InputPiece { encoder, seen }))
    }

    /// Adds an answer all of whose ids carry loss; an empty one is where generation goes on.
    pub fn target(self, ids: &[u32]) -> Self {
        self.target_in(ids, 0..ids.len())
    }

    /// Adds an answer of which the ids in `loss` carry loss.
    pub fn target_in(self, ids: &[u32], loss: Range<usize>) -> Self {
        let loss = loss.start.min(ids.len())..loss.end.min(ids.len());
        self.piece(Piece::Target(TargetPiece {
            ids: ids.to_vec(),
            loss,
        }))
    }

    /// Writes the answer where the prompt ends, in the place of one that is left open; the ids in `loss` carry loss.
    pub(crate) fn answer(mut self, ids: &[u32], loss: Range<usize>) -> Self {
        if let Some(Piece::Target(TargetPiece { ids, .. })) = self.pieces.last()
            && ids.is_empty()
        {
            self.pieces.pop();
        }
        self.target_in(ids, loss)
    }

    /// Says who sees whom, in place of the model's setting.
    pub fn attention(mut self, rule: AttentionRule) -> Self {
        self.rule = Some(rule);
        self
    }
}

impl Piece {
    /// Whether both read the very same: equal ids, or one input in the same memory.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(_, one), Self::Text(_, other)) => one == other,
            (Self::Vector(one), Self::Vector(other)) => one == other,
            (Self::Target(one), Self::Target(other)) => one.ids == other.ids,
            (Self::Input(one), Self::Input(other)) => {
                one.encoder == other.encoder && one.seen.is_same(&other.seen)
            }
            _ => false,
        }
    }

    /// Whether it is words, at least one.
    pub(super) fn has_words(&self) -> bool {
        match self {
            Self::Text(_, ids) => !ids.is_empty(),
            Self::Target(target) => !target.ids.is_empty(),
            Self::Vector(_) | Self::Input(_) => false,
        }
    }
}

impl Seen {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Prepared(one), Self::Prepared(other))
            | (Self::Embedded(one), Self::Embedded(other)) => one.id() == other.id(),
            (Self::Tiled(one), Self::Tiled(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

/// Looks at a prompt, and makes another of it.
impl Prompt {
    /// The inputs in it, in order.
    pub fn inputs(&self) -> impl Iterator<Item = &InputPiece> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Input(input) => Some(input),
            _ => None,
        })
    }

    /// Whether the model's parameter of this name has a say in what comes of the prompt.
    pub(crate) fn uses(&self, parameter: &Parameter) -> bool {
        let vector = |name: &str| {
            let is = |piece: &Piece| matches!(piece, Piece::Vector(part) if part.vector() == name);
            self.pieces.iter().any(is)
        };
        let shown = |encoder: Option<&str>| {
            self.inputs().any(|input| {
                input.encoder.as_deref() == encoder
                    && matches!(input.seen, Seen::Prepared(_) | Seen::Tiled(_))
            })
        };
        match &parameter.part {
            Some(VlmPart::PromptVectors) => vector(&parameter.name),
            Some(VlmPart::ImageEncoder | VlmPart::Projector) => shown(None),
            Some(VlmPart::OtherEncoder(name) | VlmPart::OtherProjector(name)) => shown(Some(name)),
            Some(VlmPart::Llm) | None => true,
        }
    }

    /// The ids of all answers, one after the other.
    pub fn answer_ids(&self) -> Vec<u32> {
        let ids = self.answers().flat_map(|target| &target.ids);
        ids.copied().collect()
    }

    /// The answers, in order.
    pub fn answers(&self) -> impl DoubleEndedIterator<Item = &TargetPiece> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Target(target) => Some(target),
            _ => None,
        })
    }

    /// Which of [`Prompt::answer_ids`] carry loss.
    pub fn target_places(&self) -> Vec<usize> {
        let mut places = Vec::new();
        let mut before = 0;
        for target in self.answers() {
            places.extend(target.loss.clone().map(|index| before + index));
            before += target.ids.len();
        }
        places
    }

    /// The prompt with its open places filled, in order.
    ///
    /// # Errors
    /// [`Error::InputCount`] unless there is one input for each place.
    pub fn shown(mut self, prepared: &[Tensor]) -> Result<Self> {
        let open = |input: &&mut InputPiece| matches!(input.seen, Seen::Nothing);
        let mut places: Vec<_> = self.inputs_mut().filter(open).collect();
        if places.len() != prepared.len() {
            let (places, inputs) = (places.len(), prepared.len());
            return Err(Error::InputCount { places, inputs });
        }
        for (place, input) in places.iter_mut().zip(prepared) {
            place.seen = Seen::Prepared(input.clone());
        }
        Ok(self)
    }

    pub(crate) fn inputs_mut(&mut self) -> impl Iterator<Item = &mut InputPiece> {
        self.pieces.iter_mut().filter_map(|piece| match piece {
            Piece::Input(input) => Some(input),
            _ => None,
        })
    }

    /// The prompt up to the answer id at `index` of [`Prompt::answer_ids`], that one and everything behind it left out: what
    /// it is predicted from.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let prompt = vlm.caption_prompt(&Image::filled(80, 80, [200, 30, 40])?, "a red square")?;
    /// let begun = vlm.sequence(&[prompt.until(2)])?; // image, query, and "a red"
    /// let all = vlm.sequence(&[prompt])?;
    /// assert_eq!(begun.lengths[0], all.prompt_lengths[0] + 2);
    /// # Ok(()) }
    /// ```
    pub fn until(&self, index: usize) -> Self {
        let mut prompt = Self {
            pieces: Vec::new(),
            ..self.clone()
        };
        let mut left = index;
        for piece in &self.pieces {
            match piece {
                Piece::Target(target) if left < target.ids.len() => {
                    let loss = target.loss.start.min(left)..target.loss.end.min(left);
                    return prompt.target_in(&target.ids[..left], loss);
                }
                Piece::Target(target) => left -= target.ids.len(),
                _ => {}
            }
            prompt.pieces.push(piece.clone());
        }
        prompt
    }

    /// The prompt with its last answer left to the model; what stands behind it is left out too.
    pub fn without_answer(&self) -> Self {
        let mut prompt = self.clone();
        let is_target = |piece: &Piece| matches!(piece, Piece::Target(_));
        if let Some(last) = prompt.pieces.iter().rposition(is_target) {
            prompt.pieces.truncate(last);
        }
        prompt.target(&[])
    }

    /// The prompt with other words in the place of its last query.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let prompt = vlm.caption_prompt(&Image::filled(80, 80, [200, 30, 40])?, "a red square")?;
    /// let other = prompt.asked(&vlm.llm_processor.encode_plain("What is this?")?)?;
    /// assert_eq!(vlm.llm_processor.decode(&other.answer_ids())?, "a red square");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When it has no query.
    pub fn asked(mut self, ids: &[u32]) -> Result<Self> {
        let asks = |piece: &&mut Piece| {
            matches!(
                piece,
                Piece::Vector(PromptPart::Query) | Piece::Text(SegmentKind::Query, _)
            )
        };
        match self.pieces.iter_mut().rev().find(asks) {
            Some(query) => *query = Piece::Text(SegmentKind::Query, ids.to_vec()),
            None => {
                return Err(Error::Input(
                    "the prompt has no query that another could take the place of: give it the words that it should have"
                        .into(),
                ));
            }
        }
        Ok(self)
    }

    /// The prompt as a strip of tokens, its targets marked. An input that no encoder has read yet is one block without a size.
    pub fn strip(&self) -> TokenStrip {
        let mut strip = TokenStrip::new();
        for (kind, words) in self.segments(None) {
            strip = strip.segment(kind, words, Vec::new());
        }
        strip
    }

    /// Its pieces in a line: `start 8 | image [1, 3, 64, 64] | end 9`.
    pub(crate) fn reads(&self) -> String {
        let parts = self
            .segments(None)
            .into_iter()
            .map(|(kind, words)| match (kind, &words[..]) {
                (SegmentKind::Image, [one]) => one.clone(),
                _ => format!("{} {}", kind.name(), words.len()),
            });
        parts.collect::<Vec<_>>().join(" | ")
    }

    /// The parts that a strip shows, with their words. A prompt vector of another length than its words is `lengths` of them.
    pub(super) fn segments(&self, lengths: Option<&[usize]>) -> Vec<(SegmentKind, Vec<String>)> {
        let spell = |ids: &[u32]| -> Vec<String> {
            let word = |&id: &u32| match &self.spelling {
                Some(spelling) => spelling.processor.token(id),
                None => format!("#{id}"),
            };
            ids.iter().map(word).collect()
        };
        let mut segments = Vec::new();
        for (at, piece) in self.pieces.iter().enumerate() {
            let length = lengths.and_then(|lengths| lengths.get(at).copied());
            match piece {
                Piece::Text(kind, ids) => segments.push((*kind, spell(ids))),
                Piece::Vector(part) => {
                    let (kind, ids) = part.kind_and_words(self.spelling.as_deref());
                    let words = match length {
                        Some(length) if length != ids.len() => vec![kind.name().into(); length],
                        None if ids.is_empty() => vec![kind.name().into()],
                        _ => spell(ids),
                    };
                    segments.push((kind, words));
                }
                Piece::Input(input) => {
                    let name = input.encoder.as_deref().unwrap_or("image");
                    let count = length.or(match &input.seen {
                        Seen::Embedded(tokens) => tokens.dims().get(1).copied(),
                        Seen::Nothing | Seen::Prepared(_) | Seen::Tiled(_) => None,
                    });
                    let words = match count {
                        Some(count) => (0..count).map(|i| format!("{name} {i}")).collect(),
                        None => vec![input.as_words(name)],
                    };
                    segments.push((SegmentKind::Image, words));
                }
                Piece::Target(TargetPiece { ids, loss }) => {
                    // Anybody may set the fields.
                    let from = loss.start.min(ids.len());
                    let to = loss.end.clamp(from, ids.len());
                    segments.push((SegmentKind::Prefix, spell(&ids[..from])));
                    segments.push((SegmentKind::Target, spell(&ids[from..to])));
                    segments.push((SegmentKind::Text, spell(&ids[to..])));
                }
            }
        }
        segments.retain(|(_, words)| !words.is_empty());
        segments
    }
}

impl InputPiece {
    /// Lets no gradient pass.
    pub(super) fn detach(&mut self) {
        if let Seen::Prepared(tensor) | Seen::Embedded(tensor) = &mut self.seen {
            *tensor = tensor.detach();
        }
    }

    fn as_words(&self, name: &str) -> String {
        match &self.seen {
            Seen::Nothing => format!("a place for {name}"),
            Seen::Prepared(input) => format!("{name} {:?}", input.dims()),
            Seen::Tiled(tiles) => format!("{name} in {} tiles", tiles.count()),
            Seen::Embedded(tokens) => format!("{name} tokens {:?}", tokens.dims()),
        }
    }
}

impl PromptPart {
    /// How it is shown, and the words that it begins as.
    fn kind_and_words(self, spelling: Option<&Spelling>) -> (SegmentKind, &[u32]) {
        let words = spelling.map(|spelling| &spelling.words);
        match self {
            Self::Start => (SegmentKind::Start, words.map_or(&[], |words| &words.start)),
            Self::End => (SegmentKind::End, words.map_or(&[], |words| &words.end)),
            Self::Query => (SegmentKind::Query, words.map_or(&[], |words| &words.query)),
        }
    }
}

impl Piece {
    /// An input of the model's `image_encoder`.
    pub(super) fn of(seen: Seen) -> Self {
        Self::Input(InputPiece {
            encoder: None,
            seen,
        })
    }

    /// For each row of a batch `[B, ..]` such an input, `[1, ..]`.
    pub(super) fn rows(batch: &Tensor, seen: fn(Tensor) -> Seen) -> Result<Vec<Vec<Self>>> {
        let rows = 0..batch.dims().first().copied().unwrap_or(0);
        let rows = rows.map(|b| Ok(vec![Self::of(seen(batch.narrow(0, b, 1)?))]));
        rows.collect()
    }

    /// What it is called where its tokens are counted.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Text(kind, _) => kind.name().into(),
            Self::Vector(part) => part.kind_and_words(None).0.name().into(),
            Self::Input(input) => input.encoder.clone().unwrap_or_else(|| "image".into()),
            Self::Target(_) => "target".into(),
        }
    }
}

impl Render for Prompt {
    fn render(&self) -> MimeBundle {
        self.strip().render()
    }
}

impl Render for Piece {
    fn render(&self) -> MimeBundle {
        Prompt::new().piece(self.clone()).render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    fn conversation() -> Prompt {
        Prompt::new()
            .text(&[1, 2])
            .target(&[3, 4])
            .query(&[5])
            .target_in(&[6, 7, 8], 1..2)
    }

    #[test]
    fn targets_are_numbered_through_all_answers() {
        let prompt = conversation();
        assert_eq!(prompt.answer_ids(), [3, 4, 6, 7, 8]);
        assert_eq!(prompt.target_places(), [0, 1, 3]);
    }

    #[test]
    fn a_prompt_ends_before_the_id_that_is_asked_for() {
        let counts = |index| {
            let cut = conversation().until(index);
            (cut.pieces.len(), cut.answer_ids())
        };
        assert_eq!(counts(0), (2, vec![]));
        assert_eq!(counts(1), (2, vec![3]));
        assert_eq!(counts(2), (4, vec![3, 4]));
        assert_eq!(counts(4), (4, vec![3, 4, 6, 7]));
        let open = conversation().without_answer();
        assert_eq!((open.pieces.len(), open.answer_ids()), (4, vec![3, 4]));
    }

    #[test]
    fn it_shows_itself_with_its_targets_marked() {
        let plain = conversation().render().plain().to_owned();
        assert!(
            plain.starts_with(
                "8 tokens: text 2 | target 2 | query 1 | prefix 1 | target 1 | text 1"
            ),
            "{plain}"
        );
    }

    #[test]
    fn inputs_that_do_not_match_their_places_are_counted() -> Result<()> {
        let input = Tensor::zeros((1, 3, 2, 2), DType::F32, &Device::Cpu)?;
        let prompt = Prompt::new().place().text(&[1]).place();
        let error = prompt
            .clone()
            .shown(std::slice::from_ref(&input))
            .map(|_| ())
            .unwrap_err();
        assert!(
            matches!(
                error,
                Error::InputCount {
                    places: 2,
                    inputs: 1
                }
            ),
            "{error}"
        );
        assert_eq!(prompt.shown(&[input.clone(), input])?.inputs().count(), 2);
        Ok(())
    }

    #[test]
    fn a_query_that_is_not_there_cannot_be_changed() {
        assert!(Prompt::new().text(&[1]).asked(&[2]).is_err());
        let asked = conversation()
            .asked(&[9, 9])
            .map(|prompt| prompt.strip().len());
        assert_eq!(asked.ok(), Some(9));
    }
}

//! Is it true of the scene? A text about a shapes picture → its claims, each true, false, or not to be judged.
//!
//! ```text
//! text ─ sentences ─ words: things, places, relations, sizes … ─▶ claims ─ scene ─▶ verdicts
//! ```
//! Only what is wholly understood is judged: a sentence with one unknown word is one claim that is not. So is what is too close to
//! call (the place beyond a border that the middle is near, two sizes that hardly differ) or ambiguous ("the star" of two). "A star"
//! claims at least one, "one star" and "two stars" claim just so many; "above" is a matter of height alone.

use std::collections::BTreeMap;

use super::scene::{Colour, Object, Relation, Scene, Shape, Size};

/// What a claim is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClaimKind {
    /// That something is there, or is not.
    Existence,
    /// How many there are.
    Count,
    /// Which colour something has.
    Colour,
    /// Whether something is small or large.
    Size,
    /// Where something lies in the picture.
    Place,
    /// Where something lies seen from another.
    Relation,
    /// More, larger, highest, …
    Comparison,
    /// Of a sentence that is not understood.
    Unknown,
}

impl ClaimKind {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Existence => "existence",
            Self::Count => "count",
            Self::Colour => "colour",
            Self::Size => "size",
            Self::Place => "place",
            Self::Relation => "relation",
            Self::Comparison => "comparison",
            Self::Unknown => "not understood",
        }
    }
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Verdict {
    True,
    False,
    /// It can't be told: not understood, too close to call, or ambiguous.
    Unjudged,
}

/// One claim of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The sentence that it stands in.
    pub sentence: String,
    /// What it is about.
    pub kind: ClaimKind,
    /// What the scene says.
    pub verdict: Verdict,
}

/// Nearer than this to each other, in parts of the picture's side, places and heights are not told apart.
const CLOSE: f32 = 0.03;
/// Sizes that differ by less than this factor are not told apart.
const ALIKE: f32 = 1.1;

impl Scene {
    /// The claims of a text, judged. `question`: what the text answers, so that "two", "yes" and "at the top" can be judged too.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// use glassbox_prelude::data::shapes::Verdict;
    /// # fn main() -> Result<()> {
    /// let shapes = Shapes::new(ShapesConfig::default())?;
    /// let scene = shapes.scene(Split::Train, 0);
    /// for caption in shapes.captions(Split::Train, 0) {
    ///     assert!(scene.judge(None, &caption).iter().all(|claim| claim.verdict == Verdict::True));
    /// }
    /// assert_eq!(scene.judge(None, "a happy dog")[0].verdict, Verdict::Unjudged);
    /// # Ok(()) }
    /// ```
    pub fn judge(&self, question: Option<&str>, text: &str) -> Vec<Claim> {
        let mut claims = Vec::new();
        for (at, sentence) in sentences(text).into_iter().enumerate() {
            let question = question.filter(|_| at == 0);
            claims.extend(self.sentence(question, sentence));
        }
        claims
    }

    fn sentence(&self, question: Option<&str>, sentence: &str) -> Vec<Claim> {
        let claim = |(kind, verdict): (ClaimKind, Verdict)| Claim {
            sentence: sentence.trim().to_string(),
            kind,
            verdict,
        };
        let found = words(sentence);
        let (agrees, rest) = match found.first().map(String::as_str) {
            Some("yes") => (Some(true), &found[1..]),
            // "no red circle" is no answer.
            Some("no") if found.get(1).is_none_or(|word| word == ",") => (Some(false), &found[1..]),
            _ => (None, &found[..]),
        };
        let said = match items(rest) {
            Some(items) => items,
            None => return vec![claim((ClaimKind::Unknown, Verdict::Unjudged))],
        };
        let asked = question.map(|question| words(question.trim_end_matches(['?', '.', '!', ' '])));
        let mut judged = Vec::new();
        match (agrees, &asked) {
            (Some(agrees), Some(asked)) => judged.push(self.agreed(agrees, asked)),
            // Yes to nothing.
            (Some(_), None) => judged.push((ClaimKind::Unknown, Verdict::Unjudged)),
            (None, Some(asked)) if !said.iter().any(|item| matches!(item, Item::Thing(_))) => {
                judged.push(self.short_answer(asked, rest, &said));
                return judged.into_iter().map(claim).collect();
            }
            _ => {}
        }
        judged.extend(self.claims(&said));
        if judged.is_empty() {
            judged.push((ClaimKind::Unknown, Verdict::Unjudged));
        }
        judged.into_iter().map(claim).collect()
    }

    /// Yes or no to a question that is a statement turned round.
    fn agreed(&self, agrees: bool, asked: &[String]) -> (ClaimKind, Verdict) {
        let open = ["how", "which", "what", "where", "or"];
        if asked.iter().any(|word| open.contains(&word.as_str())) {
            return (ClaimKind::Unknown, Verdict::Unjudged);
        }
        let claims = items(asked).map_or_else(Vec::new, |items| self.claims(&items));
        let Some((kind, _)) = claims.last().copied() else {
            return (ClaimKind::Unknown, Verdict::Unjudged);
        };
        // One false claim is enough for "no"; for "yes" all must be true.
        let all: Vec<Verdict> = claims.iter().map(|(_, verdict)| *verdict).collect();
        let verdict = match worst(&all) {
            Verdict::Unjudged => Verdict::Unjudged,
            whole => verdict((whole == Verdict::True) == agrees),
        };
        (kind, verdict)
    }

    /// "two", "red", "at the top", "small".
    fn short_answer(
        &self,
        asked: &[String],
        said: &[String],
        items_said: &[Item],
    ) -> (ClaimKind, Verdict) {
        let unknown = (ClaimKind::Unknown, Verdict::Unjudged);
        let has = |word: &str| asked.iter().any(|asked| asked == word);
        let Some(about) = items(asked) else {
            return unknown;
        };
        let Some(thing) = about.iter().find_map(|item| match item {
            Item::Thing(thing) => Some(*thing),
            _ => None,
        }) else {
            return unknown;
        };
        let number = said.iter().find_map(|word| number(word));
        match items_said {
            [] if has("how") && has("many") => match number {
                Some(count) => (
                    ClaimKind::Count,
                    verdict(self.matching(&thing).len() == count),
                ),
                None => unknown,
            },
            [Item::Colour(_) | Item::Size(_) | Item::Place(..)] => {
                let subject = Thing {
                    definite: true,
                    count: None,
                    ..thing
                };
                let mut claims = self.claims(&[Item::Thing(subject), items_said[0]]);
                claims.pop().unwrap_or(unknown)
            }
            _ => unknown,
        }
    }

    fn matching(&self, thing: &Thing) -> Vec<&Object> {
        let fits = |object: &&Object| {
            thing.size.is_none_or(|size| size == object.size)
                && thing.colour.is_none_or(|colour| colour == object.colour)
                && thing.shape.is_none_or(|shape| shape == object.shape)
        };
        self.objects.iter().filter(fits).collect()
    }

    fn claims(&self, items: &[Item]) -> Vec<(ClaimKind, Verdict)> {
        let mut claims = Vec::new();
        let mut subject: Option<Thing> = None;
        let mut link: Option<Item> = None;
        let mut more = false;
        for item in items {
            match (*item, subject) {
                (Item::More, _) => more = true,
                (Item::Relation(_) | Item::Larger | Item::Smaller | Item::Than, Some(_)) => {
                    link = Some(*item);
                }
                (Item::Thing(object), Some(first)) if link.is_some() => {
                    if !object.definite && !matches!(link, Some(Item::Than)) {
                        claims.push(self.there(&object));
                    }
                    claims.push(match link.take() {
                        Some(Item::Than) if more => {
                            more = false;
                            let (a, b) =
                                (self.matching(&first).len(), self.matching(&object).len());
                            (ClaimKind::Comparison, verdict(a > b))
                        }
                        Some(Item::Relation(relation)) => (
                            ClaimKind::Relation,
                            self.pairs(&first, &object, |a, b| lies(a, relation, b)),
                        ),
                        Some(Item::Larger) => {
                            (ClaimKind::Comparison, self.pairs(&first, &object, larger))
                        }
                        Some(Item::Smaller) => (
                            ClaimKind::Comparison,
                            self.pairs(&first, &object, |a, b| larger(b, a)),
                        ),
                        _ => (ClaimKind::Unknown, Verdict::Unjudged),
                    });
                }
                (Item::Thing(thing), _) => {
                    if !thing.definite && !more {
                        claims.push(self.there(&thing));
                    } else if thing.definite && self.matching(&thing).is_empty() {
                        claims.push((ClaimKind::Existence, Verdict::False));
                    }
                    subject = Some(thing);
                }
                (Item::Colour(colour), Some(thing)) => {
                    let of = |object: &Object| verdict(object.colour == colour);
                    claims.push((ClaimKind::Colour, self.each(&thing, of)));
                }
                (Item::Size(size), Some(thing)) => {
                    let of = |object: &Object| verdict(object.size == size);
                    claims.push((ClaimKind::Size, self.each(&thing, of)));
                }
                (Item::Place(row, column), Some(thing)) => {
                    let of = |object: &Object| in_place(object, row, column);
                    claims.push((ClaimKind::Place, self.each(&thing, of)));
                }
                (Item::Most(most), Some(thing)) => {
                    let of = |object: &Object| self.is_most(object, most);
                    claims.push((ClaimKind::Comparison, self.each(&thing, of)));
                }
                // A link or an attribute of nothing.
                _ => claims.push((ClaimKind::Unknown, Verdict::Unjudged)),
            }
        }
        if link.is_some() || more {
            claims.push((ClaimKind::Unknown, Verdict::Unjudged));
        }
        claims
    }

    /// What a thing that is not "the" claims by being named.
    fn there(&self, thing: &Thing) -> (ClaimKind, Verdict) {
        let found = self.matching(thing).len();
        match (thing.count, thing.plural) {
            (Some(0), _) => (ClaimKind::Existence, verdict(found == 0)),
            (Some(count), _) => (ClaimKind::Count, verdict(found == count)),
            (None, true) => (ClaimKind::Existence, verdict(found >= 2)),
            (None, false) => (ClaimKind::Existence, verdict(found >= 1)),
        }
    }

    /// Whether something holds of what a thing names: of one of them, of the only one, or of all.
    fn each(&self, thing: &Thing, holds: impl Fn(&Object) -> Verdict) -> Verdict {
        let found = self.matching(thing);
        let verdicts: Vec<Verdict> = found.into_iter().map(holds).collect();
        match (thing.definite, thing.plural, verdicts.as_slice()) {
            (_, _, []) => Verdict::False,
            (_, _, [only]) => *only,
            (_, true, all) => worst(all),
            (false, false, all) => best(all),
            // Which of them?
            (true, false, all) => match (worst(all), best(all)) {
                (worst, best) if worst == best => best,
                _ => Verdict::Unjudged,
            },
        }
    }

    fn pairs(
        &self,
        first: &Thing,
        second: &Thing,
        holds: impl Fn(&Object, &Object) -> Verdict,
    ) -> Verdict {
        self.each(first, |a| {
            self.each(second, |b| match std::ptr::eq(a, b) {
                true => Verdict::False,
                false => holds(a, b),
            })
        })
    }

    fn is_most(&self, object: &Object, most: Most) -> Verdict {
        let others = self.objects.iter().filter(|o| !std::ptr::eq(*o, object));
        let beats = others.map(|other| match most {
            Most::High => lies(object, Relation::Above, other),
            Most::Low => lies(object, Relation::Below, other),
            Most::Left => lies(object, Relation::LeftOf, other),
            Most::Right => lies(object, Relation::RightOf, other),
            Most::Large => larger(object, other),
            Most::Small => larger(other, object),
        });
        worst(&beats.collect::<Vec<_>>())
    }
}

/// How many claims of each kind are true, false, and not judged.
pub fn by_kind<'a>(claims: impl IntoIterator<Item = &'a Claim>) -> BTreeMap<ClaimKind, [usize; 3]> {
    let mut counts: BTreeMap<ClaimKind, [usize; 3]> = BTreeMap::new();
    for claim in claims {
        let place = match claim.verdict {
            Verdict::True => 0,
            Verdict::False => 1,
            Verdict::Unjudged => 2,
        };
        counts.entry(claim.kind).or_default()[place] += 1;
    }
    counts
}

fn verdict(holds: bool) -> Verdict {
    if holds { Verdict::True } else { Verdict::False }
}

fn worst(all: &[Verdict]) -> Verdict {
    let has = |verdict| all.contains(&verdict);
    match (has(Verdict::False), has(Verdict::Unjudged)) {
        (true, _) => Verdict::False,
        (_, true) => Verdict::Unjudged,
        _ => Verdict::True,
    }
}

fn best(all: &[Verdict]) -> Verdict {
    let has = |verdict| all.contains(&verdict);
    match (has(Verdict::True), has(Verdict::Unjudged)) {
        (true, _) => Verdict::True,
        (_, true) => Verdict::Unjudged,
        _ => Verdict::False,
    }
}

fn lies(one: &Object, relation: Relation, other: &Object) -> Verdict {
    by_margin(match relation {
        Relation::Above => other.y - one.y,
        Relation::Below => one.y - other.y,
        Relation::LeftOf => other.x - one.x,
        Relation::RightOf => one.x - other.x,
    })
}

fn by_margin(margin: f32) -> Verdict {
    match margin {
        margin if margin > CLOSE => Verdict::True,
        margin if margin < -CLOSE => Verdict::False,
        _ => Verdict::Unjudged,
    }
}

fn larger(one: &Object, other: &Object) -> Verdict {
    match (one.size, other.size) {
        (Size::Large, Size::Small) => Verdict::True,
        (Size::Small, Size::Large) => Verdict::False,
        _ if one.half > other.half * ALIKE => Verdict::True,
        _ if other.half > one.half * ALIKE => Verdict::False,
        _ => Verdict::Unjudged,
    }
}

/// Third of the picture: −1, 0, 1; `None` says nothing of this direction.
fn in_place(object: &Object, row: Option<i8>, column: Option<i8>) -> Verdict {
    let third = |middle: f32, wanted: Option<i8>| {
        let Some(wanted) = wanted else {
            return Verdict::True;
        };
        let found = match middle {
            middle if middle < 1.0 / 3.0 => -1,
            middle if middle < 2.0 / 3.0 => 0,
            _ => 1,
        };
        let border = (middle - 1.0 / 3.0).abs().min((middle - 2.0 / 3.0).abs());
        match found == wanted {
            true => Verdict::True,
            false if border < CLOSE => Verdict::Unjudged,
            false => Verdict::False,
        }
    };
    worst(&[third(object.y, row), third(object.x, column)])
}

/// What a noun phrase names.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Thing {
    definite: bool,
    /// Just so many.
    count: Option<usize>,
    plural: bool,
    size: Option<Size>,
    colour: Option<Colour>,
    /// None: any shape.
    shape: Option<Shape>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Most {
    High,
    Low,
    Left,
    Right,
    Large,
    Small,
}

/// What a sentence is made of, fillers left out.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Item {
    Thing(Thing),
    Relation(Relation),
    Larger,
    Smaller,
    More,
    Than,
    Most(Most),
    Colour(Colour),
    Size(Size),
    Place(Option<i8>, Option<i8>),
}

/// Words without which a sentence claims the same.
const FILLERS: &[&str] = &[
    "there",
    "is",
    "are",
    "and",
    "this",
    "that",
    "picture",
    "image",
    "drawing",
    "shows",
    "show",
    "contains",
    "contain",
    "we",
    "see",
    "here",
    "of",
    "in",
    "at",
    "on",
    "light",
    "plain",
    "background",
    "with",
    "it's",
    "i",
    "can",
    "be",
    "seen",
    "to",
    ",",
    ":",
    "-",
    "which",
    "what",
    "where",
    "how",
    "many",
    "big",
    "colour",
    "color",
    "size",
    "total",
    "all",
    "altogether",
    "corner",
    "side",
    "edge",
    "lies",
    "lie",
    "located",
    "also",
    "than",
    "has",
    "does",
];

fn sentences(text: &str) -> Vec<&str> {
    let parts = text.split(['.', '!', '?', ';', '\n']);
    parts.filter(|part| !part.trim().is_empty()).collect()
}

/// Words in lower case and marks; relations of several words as one.
fn words(sentence: &str) -> Vec<String> {
    let mut text = sentence.to_lowercase();
    for (from, to) in [
        ("to the left of", "leftof"),
        ("to the right of", "rightof"),
        ("left of", "leftof"),
        ("right of", "rightof"),
    ] {
        text = text.replace(from, to);
    }
    let mut words = vec![String::new()];
    for letter in text.chars() {
        if letter.is_alphanumeric() || letter == '\'' {
            if let Some(word) = words.last_mut() {
                word.push(letter);
            }
            continue;
        }
        if !letter.is_whitespace() {
            words.push(letter.to_string());
        }
        words.push(String::new());
    }
    words.retain(|word| !word.is_empty());
    words
}

fn number(word: &str) -> Option<usize> {
    let spelled = [
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    ];
    match word {
        "none" | "no" => Some(0),
        _ => spelled
            .iter()
            .position(|name| *name == word)
            .or(word.parse().ok()),
    }
}

/// The items of a sentence; `None` if it holds a word that is not known.
fn items(words: &[String]) -> Option<Vec<Item>> {
    let mut items = Vec::new();
    let (mut thing, mut open) = (Thing::default(), false);
    let mut at = 0;
    while let Some(word) = words.get(at).map(String::as_str) {
        at += 1;
        let shape = Shape::ALL.into_iter().find_map(|shape| match word {
            word if word == shape.name() => Some((Some(shape), false)),
            word if word == shape.plural() => Some((Some(shape), true)),
            _ => None,
        });
        let noun = match word {
            "shape" | "object" => Some((None, false)),
            "shapes" | "objects" => Some((None, true)),
            _ => shape,
        };
        let colour = Colour::ALL.into_iter().find(|colour| colour.name() == word);
        let size = match word {
            "small" | "little" => Some(Size::Small),
            "large" | "big" if !words[..at].iter().any(|word| word == "how") => Some(Size::Large),
            _ => None,
        };
        if let (Some((None, _)), Some(Item::Most(_)), false) = (noun, items.last(), open) {
            // "the largest shape"
            thing = Thing::default();
        } else if let Some((shape, plural)) = noun {
            // "a" and "the" alone name any; a number stays.
            items.push(Item::Thing(Thing {
                shape,
                plural,
                ..thing
            }));
            (thing, open) = (Thing::default(), false);
        } else if word == "the" || word == "a" || word == "an" {
            flush(&mut thing, &mut open, &mut items);
            thing.definite = word == "the";
        } else if let Some(count) = number(word) {
            flush(&mut thing, &mut open, &mut items);
            thing.count = Some(count);
            open = true;
        } else if let Some(colour) = colour {
            if thing.colour.replace(colour).is_some() {
                return None;
            }
            open = true;
        } else if let Some(size) = size {
            if thing.size.replace(size).is_some() {
                return None;
            }
            open = true;
        } else if let Some((row, column, read)) = place(&words[at - 1..]) {
            at += read - 1;
            flush(&mut thing, &mut open, &mut items);
            thing = Thing::default();
            items.push(Item::Place(row, column));
        } else {
            // An adjective that stands alone is said of what stands before it.
            flush(&mut thing, &mut open, &mut items);
            let item = match word {
                "above" | "over" => Item::Relation(Relation::Above),
                "below" | "under" | "beneath" => Item::Relation(Relation::Below),
                "leftof" => Item::Relation(Relation::LeftOf),
                "rightof" => Item::Relation(Relation::RightOf),
                "larger" | "bigger" => Item::Larger,
                "smaller" => Item::Smaller,
                "more" => Item::More,
                "than" if !matches!(items.last(), Some(Item::Larger | Item::Smaller)) => Item::Than,
                "highest" => Item::Most(Most::High),
                "lowest" => Item::Most(Most::Low),
                "leftmost" => Item::Most(Most::Left),
                "rightmost" => Item::Most(Most::Right),
                "largest" | "biggest" => Item::Most(Most::Large),
                "smallest" => Item::Most(Most::Small),
                word if FILLERS.contains(&word) => {
                    // "a picture", "the background": no thing of ours.
                    thing = Thing::default();
                    continue;
                }
                _ => return None,
            };
            thing = Thing::default();
            items.push(item);
        }
    }
    flush(&mut thing, &mut open, &mut items);
    Some(items)
}

/// Adjectives without a noun become items of their own.
fn flush(thing: &mut Thing, open: &mut bool, items: &mut Vec<Item>) {
    if *open {
        items.extend(thing.colour.map(Item::Colour));
        items.extend(thing.size.map(Item::Size));
        // A number of nothing is an answer, and claims nothing by itself.
        *thing = Thing::default();
        *open = false;
    }
}

/// "top left", "middle": rows and columns of thirds, and how many words were read.
fn place(words: &[String]) -> Option<(Option<i8>, Option<i8>, usize)> {
    let (mut row, mut column, mut read) = (None, None, 0);
    for word in words {
        match word.as_str() {
            "top" | "upper" => row = Some(-1),
            "bottom" | "lower" => row = Some(1),
            "left" => column = Some(-1),
            "right" => column = Some(1),
            "middle" | "center" | "centre" if read == 0 => (row, column) = (Some(0), Some(0)),
            "-" if read > 0 => {}
            _ => break,
        }
        read += 1;
    }
    (read > 0).then_some((row, column, read))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Result;
    use crate::data::{Shapes, ShapesConfig, Split};

    fn object(shape: Shape, colour: Colour, size: Size, x: f32, y: f32) -> Object {
        let half = if size == Size::Small { 0.1 } else { 0.18 };
        let ink = colour.rgb();
        Object {
            shape,
            colour,
            size,
            x,
            y,
            half,
            ink,
        }
    }

    /// A small red circle at the top left, a large blue square in the middle, two small black stars at the bottom.
    fn scene() -> Scene {
        Scene {
            objects: vec![
                object(Shape::Circle, Colour::Red, Size::Small, 0.2, 0.2),
                object(Shape::Square, Colour::Blue, Size::Large, 0.5, 0.5),
                object(Shape::Star, Colour::Black, Size::Small, 0.15, 0.85),
                object(Shape::Star, Colour::Black, Size::Small, 0.85, 0.85),
            ],
            background: [240; 3],
            shade: 0,
        }
    }

    fn verdicts(question: Option<&str>, text: &str) -> Vec<(ClaimKind, Verdict)> {
        let claims = scene().judge(question, text);
        claims
            .iter()
            .map(|claim| (claim.kind, claim.verdict))
            .collect()
    }

    #[test]
    fn claims_are_true_false_or_not_judged() {
        use ClaimKind::*;
        use Verdict::*;
        for (text, wanted) in [
            ("There is a red circle.", vec![(Existence, True)]),
            ("There is a red star.", vec![(Existence, False)]),
            ("There is no red star.", vec![(Existence, True)]),
            ("There are no black stars.", vec![(Existence, False)]),
            (
                "There are two black stars and a blue square.",
                vec![(Count, True), (Existence, True)],
            ),
            ("three black stars", vec![(Count, False)]),
            ("one black star", vec![(Count, False)]),
            ("a black star", vec![(Existence, True)]),
            (
                "four shapes: a red circle, a blue square and 2 black stars",
                vec![
                    (Count, True),
                    (Existence, True),
                    (Existence, True),
                    (Count, True),
                ],
            ),
            ("The circle is red.", vec![(Colour, True)]),
            (
                "The circle is blue and large.",
                vec![(Colour, False), (Size, False)],
            ),
            ("The red circle is at the top left.", vec![(Place, True)]),
            ("The red circle is on the right.", vec![(Place, False)]),
            ("The stars are at the bottom.", vec![(Place, True)]),
            ("The stars are at the bottom left.", vec![(Place, False)]),
            ("The star is at the bottom left.", vec![(Place, Unjudged)]),
            ("The black star is at the bottom.", vec![(Place, True)]),
            (
                "The red circle is above the blue square.",
                vec![(Relation, True)],
            ),
            (
                "The red circle is to the right of the blue square",
                vec![(Relation, False)],
            ),
            (
                "a red circle above a blue square",
                vec![(Existence, True), (Existence, True), (Relation, True)],
            ),
            (
                "The red circle is smaller than the blue square.",
                vec![(Comparison, True)],
            ),
            (
                "The red circle is larger than the black stars.",
                vec![(Comparison, Unjudged)],
            ),
            (
                "There are more stars than circles.",
                vec![(Comparison, True)],
            ),
            (
                "The blue square is the largest shape.",
                vec![(Comparison, True)],
            ),
            ("The blue square lies highest.", vec![(Comparison, False)]),
            (
                "The green star is at the top.",
                vec![(Existence, False), (Place, False)],
            ),
            ("A cat sits on the red circle.", vec![(Unknown, Unjudged)]),
            ("There is not a red circle.", vec![(Unknown, Unjudged)]),
            (
                "The red circle is red because it likes it.",
                vec![(Unknown, Unjudged)],
            ),
            ("red", vec![(Unknown, Unjudged)]),
            ("Yes.", vec![(Unknown, Unjudged)]),
            ("", vec![]),
        ] {
            assert_eq!(verdicts(None, text), wanted, "{text}");
        }
    }

    #[test]
    fn short_answers_are_judged_by_their_questions() {
        use ClaimKind::*;
        use Verdict::*;
        for (question, text, wanted) in [
            ("how many black stars are there", "two", (Count, True)),
            ("how many black stars are there", "Three.", (Count, False)),
            ("how many shapes are there?", "4", (Count, True)),
            ("is there a red circle", "yes", (Existence, True)),
            ("is there a red circle", "no", (Existence, False)),
            ("is there a green star", "No.", (Existence, True)),
            (
                "is the red circle above the blue square?",
                "no",
                (Relation, False),
            ),
            ("where is the blue square", "in the middle", (Place, True)),
            ("where is the blue square", "at the top", (Place, False)),
            ("which colour is the square", "blue", (Colour, True)),
            ("how big is the blue square", "small", (Size, False)),
            (
                "which colour is the square",
                "a fine one",
                (Unknown, Unjudged),
            ),
            ("why is the square blue", "yes", (Unknown, Unjudged)),
            ("which colour is the square", "yes", (Unknown, Unjudged)),
        ] {
            assert_eq!(
                verdicts(Some(question), text),
                [wanted],
                "{question} {text}"
            );
        }
        // A sentence behind yes or no is judged too.
        assert_eq!(
            verdicts(
                Some("is there a red circle"),
                "Yes, there is a red circle at the bottom."
            ),
            [(Existence, True), (Existence, True), (Place, False)]
        );
    }

    #[test]
    fn what_the_generator_says_is_true_of_its_scene_and_often_false_of_another() -> Result<()> {
        let shapes = Shapes::new(ShapesConfig::default())?;
        let (mut judged, mut wrong) = (0, 0);
        for index in 0..400 {
            let scene = shapes.scene(Split::Train, index);
            let other = shapes.scene(Split::Train, index + 1);
            for caption in shapes.captions(Split::Train, index) {
                for claim in scene.judge(None, &caption) {
                    assert_eq!(claim.verdict, Verdict::True, "{claim:?} in {caption:?}");
                }
                let claims = other.judge(None, &caption);
                judged += claims.len();
                wrong += claims
                    .iter()
                    .filter(|claim| claim.verdict == Verdict::False)
                    .count();
            }
            for asked in shapes.questions(Split::Train, index) {
                let claims = scene.judge(Some(&asked.question), &asked.answer);
                assert!(
                    claims.len() == 1 && claims[0].verdict == Verdict::True,
                    "{asked:?} {claims:?}"
                );
            }
        }
        assert!(
            wrong * 2 > judged,
            "{wrong} of {judged} claims about another scene are false"
        );
        Ok(())
    }
}

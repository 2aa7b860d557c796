//! Describes a scene: [`Scene`] → five different captions from a grammar of a few dozen words.
//!
//! Every caption lists each (colour, shape) once with its count, so that [`super::SceneAttributes`] can score it.
//! Some add sizes, a place, a relation or the total. A later mention of an object already listed begins with "the".

use rand::Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use serde::{Deserialize, Serialize};

use super::scene::{Colour, Group, Scene, Shape, Size};

/// Captions for each picture.
pub const CAPTIONS_PER_PICTURE: usize = 5;

/// The longest caption, in words.
pub const MAX_CAPTION_WORDS: usize = 24;

/// In which order a caption lists the objects.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::data::CaptionOrder;
///
/// # fn main() -> Result<()> {
/// assert_eq!(ShapesConfig::default().caption_order, CaptionOrder::Fixed);
/// let config = ShapesConfig { caption_order: CaptionOrder::Shuffled, ..ShapesConfig::default() };
/// assert!(!Shapes::new(config)?.captions(Split::Train, 0).is_empty()); // objects in any order
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptionOrder {
    /// By colour, then shape, always the same: the next word is then a question about the picture, not a guess.
    #[default]
    Fixed,
    /// A new order for each caption.
    Shuffled,
}

const OPENERS: [&str; 6] = [
    "there is",
    "a picture of",
    "a drawing of",
    "this picture shows",
    "we see",
    "here is",
];
const ENDINGS: [&str; 2] = ["on a light background", "on a plain background"];
const COUNTS: [&str; 5] = ["no", "a", "two", "three", "four"];

/// Five captions, all different.
pub(super) fn captions(scene: &Scene, order: CaptionOrder, rng: &mut impl Rng) -> Vec<String> {
    let mut captions: Vec<String> = Vec::with_capacity(CAPTIONS_PER_PICTURE);
    for step in 0.. {
        let mut groups = scene.groups();
        if order == CaptionOrder::Shuffled {
            groups.shuffle(rng);
        }
        let caption = match step {
            0 => list(&groups, false),
            1 => sized(&groups, rng),
            2 => located(&groups, rng),
            3 => counted(scene, &groups),
            _ => opened(&groups, rng), // 12 of these differ, so five are always found
        };
        if !captions.contains(&caption) {
            captions.push(caption);
        }
        if captions.len() == CAPTIONS_PER_PICTURE {
            break;
        }
    }
    captions.shuffle(rng);
    captions
}

/// "a red circle, two blue squares and a black star", with sizes where a group has only one.
fn list(groups: &[Group<'_>], sizes: bool) -> String {
    let phrases: Vec<String> = groups.iter().map(|group| phrase(group, sizes)).collect();
    match phrases.split_last() {
        None => String::new(),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

fn phrase(group: &Group<'_>, sizes: bool) -> String {
    let count = COUNTS[group.members.len().min(COUNTS.len() - 1)];
    let noun = if group.members.len() == 1 {
        group.shape.name()
    } else {
        group.shape.plural()
    };
    let size = group.members[0].size;
    let same = group.members.iter().all(|member| member.size == size);
    let size = if sizes && same {
        format!("{} ", size.name())
    } else {
        String::new()
    };
    format!("{count} {size}{} {noun}", group.colour.name())
}

/// "there are two large red circles"
fn sized(groups: &[Group<'_>], rng: &mut impl Rng) -> String {
    let body = list(groups, true);
    if rng.random_bool(0.5) {
        body
    } else {
        open(groups, &body, rng)
    }
}

/// "a red circle above a blue square", or the list and one more thing about it:
/// "…, the red circle is at the top left".
fn located(groups: &[Group<'_>], rng: &mut impl Rng) -> String {
    let alone: Vec<&Group<'_>> = groups
        .iter()
        .filter(|group| group.members.len() == 1)
        .collect();
    let mut related = Vec::new();
    for (index, first) in alone.iter().enumerate() {
        for second in &alone[index + 1..] {
            if let Some(relation) = first.members[0].relation_to(second.members[0]) {
                related.push((*first, relation.words(), *second));
            }
        }
    }
    if let Some((first, relation, second)) = related.choose(rng)
        && rng.random_bool(0.7)
    {
        return if groups.len() == 2 {
            format!(
                "{} {relation} {}",
                phrase(first, false),
                phrase(second, false)
            )
        } else {
            let body = list(groups, false);
            format!(
                "{body}, the {} is {relation} the {}",
                name(first),
                name(second)
            )
        };
    }
    match (alone.choose(rng), groups.len()) {
        (Some(only), 1) => format!("{} {}", phrase(only, false), only.members[0].place()),
        (Some(one), _) => format!(
            "{}, the {} is {}",
            list(groups, false),
            name(one),
            one.members[0].place()
        ),
        (None, _) => opened(groups, rng),
    }
}

fn name(group: &Group<'_>) -> String {
    format!("{} {}", group.colour.name(), group.shape.name())
}

/// "three shapes: two red circles and a blue square"
fn counted(scene: &Scene, groups: &[Group<'_>]) -> String {
    let total = match scene.objects.len() {
        1 => "one shape",
        2 => "two shapes",
        3 => "three shapes",
        _ => "four shapes",
    };
    format!("{total}: {}", list(groups, false))
}

/// "a drawing of a red circle and a blue square on a light background"
fn opened(groups: &[Group<'_>], rng: &mut impl Rng) -> String {
    let body = list(groups, false);
    match rng.random_range(0..3) {
        0 => format!("{body} {}", pick(&ENDINGS, rng)),
        1 => open(groups, &body, rng),
        _ => format!("{} {}", open(groups, &body, rng), pick(&ENDINGS, rng)),
    }
}

fn open(groups: &[Group<'_>], body: &str, rng: &mut impl Rng) -> String {
    let several = groups.first().is_some_and(|group| group.members.len() > 1);
    match pick(&OPENERS, rng) {
        "there is" if several => format!("there are {body}"),
        "here is" if several => format!("here are {body}"),
        opener => format!("{opener} {body}"),
    }
}

fn pick(choices: &[&'static str], rng: &mut impl Rng) -> &'static str {
    choices.choose(rng).copied().unwrap_or_default()
}

/// Every word and mark that a caption can hold, sorted: the vocabulary that a tokenizer for shapes needs.
pub fn vocabulary() -> Vec<&'static str> {
    let mut words: Vec<&'static str> = vec![
        "a", "two", "three", "four", "one", "shape", "shapes", "and", ",", ":", "the", "is", "are",
        "above", "below", "left", "right", "of", "at", "on", "in", "top", "bottom", "middle",
    ];
    words.extend(
        Shape::ALL
            .iter()
            .flat_map(|shape| [shape.name(), shape.plural()]),
    );
    words.extend(Colour::ALL.iter().map(|colour| colour.name()));
    words.extend([Size::Small.name(), Size::Large.name()]);
    words.extend(
        OPENERS
            .iter()
            .chain(&ENDINGS)
            .flat_map(|phrase| phrase.split(' ')),
    );
    words.sort_unstable();
    words.dedup();
    words
}

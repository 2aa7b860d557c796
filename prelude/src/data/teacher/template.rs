//! A teacher by rule: a sheet → questions with answers that follow from its boxes, in sentences of a few forms.
//!
//! Of a scene it tells what [`Shapes::questions`](crate::data::Shapes::questions) ask, of boxes with other names what is there, how
//! often, and how things lie.

use rand::SeedableRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{LessonKind, NamedBox, Sheet, Teacher};
use crate::Result;
use crate::data::shapes::{Object, Scene};
use crate::display::facts::shown_by_fields;

/// Turns of a conversation at most.
const TURNS: usize = 4;
/// Middles that are nearer than this, in parts of the picture, are not compared.
const CLEAR: f64 = 0.12;

/// Writes by rule. The same seed and sheet give the same words.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let sheet = Shapes::new(ShapesConfig::default())?.sheet(Split::Train, 0);
/// let write = |seed| TemplateTeacher::new(seed).write(&sheet, LessonKind::Conversation);
/// let asked = write(0)?.unwrap_or_default(); // questions with answers
/// assert!(!asked.is_empty());
/// assert_eq!(asked, write(0)?.unwrap_or_default()); // the same seed, the same words
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateTeacher {
    seed: u64,
}

shown_by_fields!(TemplateTeacher);

impl TemplateTeacher {
    /// `seed` decides the choice and the order of questions.
    pub fn new(seed: u64) -> Self {
        Self { seed }
    }
}

impl Teacher for TemplateTeacher {
    fn write(
        &self,
        sheet: &Sheet,
        kind: LessonKind,
    ) -> Result<std::result::Result<Vec<(String, String)>, String>> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(sheet.image_id ^ ((kind as u64) << 60));
        let things = Things::of(sheet);
        if things.groups.is_empty() {
            return Ok(Err("sheets without a box".into()));
        }
        let said = match kind {
            LessonKind::Conversation => {
                let mut all = things.short();
                all.shuffle(&mut rng);
                all.truncate(TURNS);
                all
            }
            LessonKind::Description => {
                let asks = [
                    "Describe the picture in detail.",
                    "What is in the picture, and where?",
                ];
                let asks = asks.choose(&mut rng).copied().unwrap_or_default();
                vec![(asks.to_string(), things.description())]
            }
            LessonKind::Reasoning => {
                let all = things.compared();
                match all.choose(&mut rng) {
                    Some(one) => vec![one.clone()],
                    None => return Ok(Err("sheets with nothing to compare".into())),
                }
            }
        };
        Ok(Ok(said))
    }
}

/// A name, and what has it.
type Named<'a> = (&'a str, &'a NamedBox);

/// The things of a sheet, those of one name together.
struct Things<'a> {
    groups: Vec<(String, Vec<&'a NamedBox>)>,
    scene: Option<&'a Scene>,
}

impl<'a> Things<'a> {
    fn of(sheet: &'a Sheet) -> Self {
        let mut groups: Vec<(String, Vec<&NamedBox>)> = Vec::new();
        for (at, of) in sheet.boxes.iter().enumerate() {
            // Of a scene colour and shape are the name, the size is told apart.
            let object = sheet.scene.as_ref().and_then(|scene| scene.objects.get(at));
            let name = object.map_or_else(|| of.name.clone(), name);
            match groups.iter_mut().find(|(known, _)| *known == name) {
                Some((_, members)) => members.push(of),
                None => groups.push((name, vec![of])),
            }
        }
        Self {
            groups,
            scene: sheet.scene.as_ref(),
        }
    }

    /// Things of which there is one.
    fn single(&self) -> impl Iterator<Item = Named<'_>> {
        self.groups
            .iter()
            .filter_map(|(name, members)| match members.as_slice() {
                [only] => Some((name.as_str(), *only)),
                _ => None,
            })
    }

    fn short(&self) -> Vec<(String, String)> {
        let mut said = Vec::new();
        let mut say = |question: String, answer: String| said.push((question, answer));
        for (name, members) in &self.groups {
            let count = members.len();
            say(
                format!("How many {} are there?", plural(name)),
                there(name, count),
            );
            say(
                format!("Is there {}?", with_article(name)),
                format!("Yes, {}", lower_first(&there(name, count))),
            );
        }
        for (name, of) in self.single() {
            let place = place(of);
            say(
                format!("Where is the {name}?"),
                format!("The {name} is {place}."),
            );
        }
        if let Some(scene) = self.scene {
            let total = scene.objects.len();
            say("How many shapes are there?".into(), there("shape", total));
            for object in &scene.objects {
                let same = |other: &&Object| other.shape == object.shape;
                if scene.objects.iter().filter(same).count() == 1 {
                    let (shape, colour) = (object.shape.name(), object.colour.name());
                    say(
                        format!("Which colour is the {shape}?"),
                        format!("The {shape} is {colour}."),
                    );
                }
            }
        }
        said
    }

    fn description(&self) -> String {
        let mut sentences = Vec::new();
        for (name, members) in &self.groups {
            sentences.push(match members.as_slice() {
                [only] => format!("There is {} {}.", with_article(name), place(only)),
                _ => there(name, members.len()),
            });
        }
        for (first, second) in self.pairs() {
            sentences.push(lies(first, second));
        }
        sentences.join(" ")
    }

    /// Single things whose places clearly differ: neighbours in the sheet's order.
    fn pairs(&self) -> Vec<(Named<'_>, Named<'_>)> {
        let single: Vec<Named<'_>> = self.single().collect();
        let pairs = single.windows(2).map(|pair| (pair[0], pair[1]));
        let far = |((_, a), (_, b)): &(Named<'_>, Named<'_>)| {
            let (dx, dy) = apart(a, b);
            dx.abs().max(dy.abs()) > CLEAR
        };
        pairs.filter(far).collect()
    }

    fn compared(&self) -> Vec<(String, String)> {
        let mut said = Vec::new();
        for (first, second) in self.pairs() {
            let question = format!(
                "How do the {} and the {} lie to each other?",
                first.0, second.0
            );
            said.push((question, lies(first, second)));
        }
        for (first, more) in &self.groups {
            for (second, fewer) in &self.groups {
                if more.len() > fewer.len() {
                    said.push((
                        format!(
                            "Are there more {} or more {}?",
                            plural(first),
                            plural(second)
                        ),
                        format!("There are more {} than {}.", plural(first), plural(second)),
                    ));
                }
            }
        }
        let area = |of: &NamedBox| (of.right - of.left) * (of.bottom - of.top);
        for (name, of) in self.single() {
            for (other, than) in self.single() {
                if area(of) > 1.5 * area(than) {
                    said.push((
                        format!("Which takes more room, the {other} or the {name}?"),
                        format!("The {name} is larger than the {other}."),
                    ));
                }
            }
        }
        said
    }
}

/// "The red circle is above the blue square."
fn lies((first, a): Named<'_>, (second, b): Named<'_>) -> String {
    let (dx, dy) = apart(a, b);
    let relation = match (dx.abs() > dy.abs(), dx < 0.0, dy < 0.0) {
        (true, true, _) => "to the left of",
        (true, false, _) => "to the right of",
        (false, _, true) => "above",
        (false, _, false) => "below",
    };
    format!("The {first} is {relation} the {second}.")
}

/// From the second middle to the first.
fn apart(a: &NamedBox, b: &NamedBox) -> (f64, f64) {
    let middle = |of: &NamedBox| ((of.left + of.right) / 2.0, (of.top + of.bottom) / 2.0);
    let ((ax, ay), (bx, by)) = (middle(a), middle(b));
    (ax - bx, ay - by)
}

/// The ninth that holds the middle.
fn place(of: &NamedBox) -> &'static str {
    let third = |middle: f64| (middle * 3.0).clamp(0.0, 2.0) as usize;
    let row = third((of.top + of.bottom) / 2.0);
    let column = third((of.left + of.right) / 2.0);
    crate::data::shapes::PLACES[row][column]
}

fn name(object: &Object) -> String {
    format!("{} {}", object.colour.name(), object.shape.name())
}

/// "There is a dog.", "There are two dogs."
fn there(name: &str, count: usize) -> String {
    const NUMBERS: [&str; 10] = [
        "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
    ];
    match count {
        0 | 1 => format!("There is one {name}."),
        count => {
            let number = NUMBERS.get(count - 2);
            let number = number.map_or_else(|| count.to_string(), ToString::to_string);
            format!("There are {number} {}.", plural(name))
        }
    }
}

fn plural(name: &str) -> String {
    let irregular = [
        ("person", "people"),
        ("mouse", "mice"),
        ("sheep", "sheep"),
        ("skis", "pairs of skis"),
        ("scissors", "pairs of scissors"),
        ("knife", "knives"),
    ];
    if let Some((_, plural)) = irregular.iter().find(|(single, _)| *single == name) {
        return (*plural).to_string();
    }
    let sibilant = ["s", "x", "ch", "sh"].iter().any(|end| name.ends_with(end));
    match sibilant {
        true => format!("{name}es"),
        false => format!("{name}s"),
    }
}

fn with_article(name: &str) -> String {
    let vowel = name.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {name}", if vowel { "an" } else { "a" })
}

fn lower_first(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters
        .next()
        .map(|letter| letter.to_lowercase().to_string());
    first.unwrap_or_default() + letters.as_str()
}

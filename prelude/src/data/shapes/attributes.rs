//! Reads a caption back: text → which colour and shape, how many. The judge of what a model wrote.
//!
//! Built for the captions of this grammar and tolerant of a model's slips: case, punctuation, unknown words, digits.

use std::collections::BTreeMap;

use super::scene::{Colour, Scene, Shape};

/// How many objects of each colour and shape a caption claims.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let said = SceneAttributes::from_caption("two red stars and a blue circle");
/// let truth = SceneAttributes::from_caption("a blue star, a red circle and a red star");
/// assert_eq!((said.total(), truth.total()), (3, 3));
/// let score = said.score(&truth);
/// assert!(score.colour && score.shape && score.count && !score.all); // the pairs are wrong
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SceneAttributes {
    /// (colour, shape) → count, counts at least 1.
    pub objects: BTreeMap<(Colour, Shape), usize>,
    /// Shapes named without a colour ("a circle"): never right, but not silently dropped.
    pub colourless: usize,
}

/// What a caption got right against a reference.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::data::AttributeScore;
///
/// let right = SceneAttributes::from_caption("a red square and a blue circle");
/// let said = SceneAttributes::from_caption("a blue square and a red circle");
/// let score: AttributeScore = said.score(&right);
/// assert!(score.colour && score.shape && score.count);
/// assert!(!score.all); // the colours belong to the other shapes
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttributeScore {
    /// The same set of colours.
    pub colour: bool,
    /// The same set of shapes.
    pub shape: bool,
    /// The same number of objects in all.
    pub count: bool,
    /// The same count of every (colour, shape): all of the above and the right pairing.
    pub all: bool,
}

impl SceneAttributes {
    /// Parses a caption. A phrase that begins with "the" speaks of something already listed and adds nothing;
    /// a plural without a count claims two. Never fails: a text without objects gives an empty result.
    pub fn from_caption(caption: &str) -> SceneAttributes {
        let mut found = SceneAttributes::default();
        let mut phrase = Phrase::default();
        for token in tokens(caption) {
            if token == "the" {
                phrase = Phrase {
                    definite: true,
                    ..Phrase::default()
                };
            } else if let Some(count) = count_word(&token) {
                phrase = Phrase {
                    count: Some(count),
                    ..Phrase::default()
                };
            } else if let Some(colour) = Colour::ALL
                .into_iter()
                .find(|colour| colour.name() == token)
            {
                phrase.colour = Some(colour);
            } else if let Some((shape, plural)) = shape_word(&token) {
                let count = phrase.count.unwrap_or(if plural { 2 } else { 1 });
                match (phrase.definite, phrase.colour) {
                    (true, _) => {}
                    (false, Some(colour)) if count > 0 => {
                        *found.objects.entry((colour, shape)).or_default() += count
                    }
                    (false, Some(_)) => {}
                    (false, None) => found.colourless += count,
                }
                phrase = Phrase::default();
            } else if matches!(
                token.as_str(),
                "shape" | "shapes" | "object" | "objects" | "," | ":" | "." | ";"
            ) {
                phrase = Phrase::default();
            } else if !matches!(token.as_str(), "small" | "large") {
                phrase.definite = false;
            }
        }
        found
    }

    /// The truth about a scene.
    pub fn from_scene(scene: &Scene) -> SceneAttributes {
        let objects = scene
            .groups()
            .iter()
            .map(|group| ((group.colour, group.shape), group.members.len()))
            .collect();
        SceneAttributes {
            objects,
            colourless: 0,
        }
    }

    /// Number of objects in all.
    pub fn total(&self) -> usize {
        self.objects.values().sum::<usize>() + self.colourless
    }

    /// Judges this reading of a prediction against a reference.
    pub fn score(&self, reference: &SceneAttributes) -> AttributeScore {
        let colours = |side: &SceneAttributes| {
            let mut colours: Vec<Colour> = side.objects.keys().map(|(colour, _)| *colour).collect();
            colours.dedup(); // keys are sorted by colour first
            colours
        };
        let shapes = |side: &SceneAttributes| {
            let mut shapes: Vec<Shape> = side.objects.keys().map(|(_, shape)| *shape).collect();
            shapes.sort_unstable();
            shapes.dedup();
            shapes
        };
        AttributeScore {
            colour: colours(self) == colours(reference),
            shape: shapes(self) == shapes(reference),
            count: self.total() == reference.total(),
            all: self == reference,
        }
    }
}

/// [`SceneAttributes::score`] on two captions.
pub fn score(prediction: &str, reference: &str) -> AttributeScore {
    SceneAttributes::from_caption(prediction).score(&SceneAttributes::from_caption(reference))
}

impl std::fmt::Display for SceneAttributes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts: Vec<String> = self
            .objects
            .iter()
            .map(|((colour, shape), count)| format!("{count}× {} {}", colour.name(), shape.name()))
            .collect();
        if self.colourless > 0 {
            parts.push(format!("{}× without colour", self.colourless));
        }
        f.write_str(if parts.is_empty() { "nothing" } else { "" })?;
        f.write_str(&parts.join(", "))
    }
}

/// What has been read of "two small red …" so far.
#[derive(Default)]
struct Phrase {
    definite: bool,
    count: Option<usize>,
    colour: Option<Colour>,
}

/// Words in lower case, each punctuation mark by itself.
fn tokens(caption: &str) -> Vec<String> {
    let mut tokens = vec![String::new()];
    for letter in caption.chars().flat_map(char::to_lowercase) {
        if letter.is_alphanumeric() {
            if let Some(word) = tokens.last_mut() {
                word.push(letter);
            }
        } else {
            tokens.extend([letter.to_string(), String::new()]);
        }
    }
    tokens.retain(|token| !token.trim().is_empty());
    tokens
}

fn count_word(token: &str) -> Option<usize> {
    Some(match token {
        "no" => 0,
        "a" | "an" | "one" | "another" => 1,
        "two" => 2,
        "three" => 3,
        "four" => 4,
        "five" => 5,
        "six" => 6,
        digits => return digits.parse().ok().filter(|count| *count < 1000),
    })
}

fn shape_word(token: &str) -> Option<(Shape, bool)> {
    Shape::ALL.into_iter().find_map(|shape| match token {
        word if word == shape.name() => Some((shape, false)),
        word if word == shape.plural() => Some((shape, true)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(caption: &str) -> String {
        SceneAttributes::from_caption(caption).to_string()
    }

    #[test]
    fn later_mentions_and_totals_add_nothing() {
        assert_eq!(
            read("a red circle and two blue squares, the red circle is at the top left"),
            "1× red circle, 2× blue square"
        );
        assert_eq!(
            read("three shapes: two red circles and a small blue square"),
            "2× red circle, 1× blue square"
        );
        assert_eq!(
            read("this picture shows a black star left of a red star"),
            "1× red star, 1× black star"
        );
    }

    #[test]
    fn tolerates_what_a_model_writes() {
        assert_eq!(read("A RED circle.  Another red circle!"), "2× red circle");
        assert_eq!(read("2 red circles"), "2× red circle");
        assert_eq!(read("red circles"), "2× red circle");
        assert_eq!(read("a circle"), "1× without colour");
        assert_eq!(read("the the a a and"), "nothing");
        assert_eq!(read(""), "nothing");
    }

    #[test]
    fn score_separates_the_attributes() {
        let truth = "a red circle and two blue squares";
        let right = score("there are two blue squares and a small red circle", truth);
        assert_eq!(
            right,
            AttributeScore {
                colour: true,
                shape: true,
                count: true,
                all: true
            }
        );
        let swapped = score("a blue circle and two red squares", truth);
        assert_eq!(
            swapped,
            AttributeScore {
                colour: true,
                shape: true,
                count: true,
                all: false
            }
        );
        let miscounted = score("a red circle and a blue square", truth);
        assert_eq!(
            miscounted,
            AttributeScore {
                colour: true,
                shape: true,
                count: false,
                all: false
            }
        );
        let nothing = score("", truth);
        assert_eq!(
            nothing,
            AttributeScore {
                colour: false,
                shape: false,
                count: false,
                all: false
            }
        );
    }
}

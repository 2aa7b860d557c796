//! What is where in a scene, as words: a [`Scene`] → one set of words for each image token.
//!
//! The class token's place holds the number of objects; then come the patches, row by row. A patch that an object
//! covers says colour, shape and size of the object; the patch that holds its middle says `object` and how many of this
//! colour and shape there are, the others `part`; a patch of background says `nothing`. The ViT is pretrained to tell these apart, the language model to read them.

use glassbox_prelude::data::{Colour, Object, Scene, Shape, Size};

/// The part of a patch that an object must cover to be named there, unless its middle lies in the patch.
const COVERED: f32 = 0.2;

/// What one patch shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patch {
    pub colour: Colour,
    pub shape: Shape,
    pub size: Size,
    /// In the patch that holds the object's middle: how many objects of this colour and shape there are.
    pub alike: Option<usize>,
}

/// A scene on a grid of patches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sheet {
    /// Number of objects, 1 to 4.
    pub count: usize,
    /// Row by row; `None` where there is only background.
    pub patches: Vec<Option<Patch>>,
}

impl Sheet {
    /// Reads the scene off a grid of `side` × `side` patches.
    pub fn new(scene: &Scene, side: u32) -> Sheet {
        const PIXELS: u32 = 8; // sampling points along a patch
        let mut patches: Vec<Option<Patch>> = Vec::new();
        for owner in scene.patch_owners(side * PIXELS, PIXELS, COVERED) {
            patches.push(owner.map(|index| patch(scene, index, None)));
        }
        for index in 0..scene.objects.len() {
            let cell = |part: f32| ((part * side as f32) as u32).min(side - 1);
            let place = cell(scene.objects[index].y) * side + cell(scene.objects[index].x);
            let object = &scene.objects[index];
            let same =
                |other: &&Object| (other.colour, other.shape) == (object.colour, object.shape);
            patches[place as usize] = Some(patch(
                scene,
                index,
                Some(scene.objects.iter().filter(same).count()),
            ));
        }
        Sheet {
            count: scene.objects.len(),
            patches,
        }
    }

    /// The words of each image token, the class token's first; `counted`: whether to say how many objects are alike.
    pub fn words(&self, counted: bool) -> Vec<Vec<&'static str>> {
        let mut words = vec![vec![number(self.count)]];
        words.extend(self.patches.iter().map(|patch| match patch {
            None => vec!["nothing"],
            Some(Patch {
                colour,
                shape,
                size,
                alike,
            }) => {
                let mut words = vec![colour.name(), shape.name(), size.name()];
                match alike {
                    None => words.push("part"),
                    Some(alike) => {
                        words.push("object");
                        words.extend(counted.then(|| number(*alike)));
                    }
                }
                words
            }
        }));
        words
    }
}

fn number(count: usize) -> &'static str {
    ["one", "two", "three", "four"][count.clamp(1, 4) - 1]
}

fn patch(scene: &Scene, index: usize, alike: Option<usize>) -> Patch {
    let object = &scene.objects[index];
    Patch {
        colour: object.colour,
        shape: object.shape,
        size: object.size,
        alike,
    }
}

/// Every word that a sheet can hold.
pub fn words() -> Vec<&'static str> {
    let mut words = vec!["nothing", "part", "object"];
    words.extend((1..=4).map(number));
    words.extend(Colour::ALL.iter().map(|colour| colour.name()));
    words.extend(Shape::ALL.iter().map(|shape| shape.name()));
    words.extend([Size::Small, Size::Large].iter().map(|size| size.name()));
    words
}

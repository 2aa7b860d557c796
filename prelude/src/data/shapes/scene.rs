//! What a shapes picture contains, before it is drawn or described.
//!
//! seed → random stream → [`Scene`]: a background and 1–4 objects that do not overlap. Everything is in units of the
//! picture's side (0 to 1, origin top left), so that one scene can be drawn at any size.

use rand::Rng;
use rand::seq::IndexedRandom;
use serde::{Deserialize, Serialize};

use super::ShapesConfig;
use crate::runs::hash::Hash;

/// The outline of an object.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::data::Shape;
///
/// assert_eq!((Shape::Star.name(), Shape::Star.plural()), ("star", "stars"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Shape {
    Circle,
    Square,
    Triangle,
    Star,
}

impl Shape {
    /// Every shape, in the order of their class numbers.
    pub const ALL: [Shape; 4] = [Shape::Circle, Shape::Square, Shape::Triangle, Shape::Star];

    /// The noun of the captions.
    pub fn name(self) -> &'static str {
        match self {
            Shape::Circle => "circle",
            Shape::Square => "square",
            Shape::Triangle => "triangle",
            Shape::Star => "star",
        }
    }

    /// The noun for two and more.
    pub fn plural(self) -> &'static str {
        match self {
            Shape::Circle => "circles",
            Shape::Square => "squares",
            Shape::Triangle => "triangles",
            Shape::Star => "stars",
        }
    }
}

/// The colour of an object. None of them needs "an", and none is near the light background.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::data::Colour;
///
/// assert_eq!(Colour::ALL.len(), 6);
/// assert_eq!(Colour::Red.name(), "red"); // as captions say it
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Colour {
    Red,
    Green,
    Blue,
    Yellow,
    Purple,
    Black,
}

impl Colour {
    /// Every colour, in the order of their class numbers.
    pub const ALL: [Colour; 6] = [
        Colour::Red,
        Colour::Green,
        Colour::Blue,
        Colour::Yellow,
        Colour::Purple,
        Colour::Black,
    ];

    /// The adjective of the captions.
    pub fn name(self) -> &'static str {
        match self {
            Colour::Red => "red",
            Colour::Green => "green",
            Colour::Blue => "blue",
            Colour::Yellow => "yellow",
            Colour::Purple => "purple",
            Colour::Black => "black",
        }
    }

    /// The middle of the inks that are drawn for it, as sRGB.
    pub fn rgb(self) -> [u8; 3] {
        match self {
            Colour::Red => [214, 40, 40],
            Colour::Green => [42, 157, 74],
            Colour::Blue => [38, 84, 205],
            Colour::Yellow => [243, 200, 30],
            Colour::Purple => [140, 55, 180],
            Colour::Black => [32, 32, 34],
        }
    }
}

/// How big an object is drawn.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::data::Size;
///
/// assert_eq!(Size::Large.name(), "large");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Size {
    Small,
    Large,
}

impl Size {
    /// The adjective of the captions.
    pub fn name(self) -> &'static str {
        match self {
            Size::Small => "small",
            Size::Large => "large",
        }
    }

    /// Half of the object's width, as a part of the picture's side, before jitter.
    fn half(self) -> f32 {
        match self {
            Size::Small => 0.105,
            Size::Large => 0.185,
        }
    }
}

/// The ninths of a picture, by row and column.
pub(in crate::data) const PLACES: [[&str; 3]; 3] = [
    ["at the top left", "at the top", "at the top right"],
    ["on the left", "in the middle", "on the right"],
    ["at the bottom left", "at the bottom", "at the bottom right"],
];

/// Where one object lies seen from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Relation {
    Above,
    Below,
    LeftOf,
    RightOf,
}

impl Relation {
    /// The words of the captions: "the circle is *above* the square".
    pub fn words(self) -> &'static str {
        match self {
            Relation::Above => "above",
            Relation::Below => "below",
            Relation::LeftOf => "left of",
            Relation::RightOf => "right of",
        }
    }
}

/// One object of a scene. Lengths are parts of the picture's side.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// # fn main() -> Result<()> {
/// let shapes = Shapes::new(ShapesConfig::default())?;
/// let scene = shapes.scene(Split::Train, 0);
/// let object = &scene.objects[0];
/// println!("a {} {} {}", object.size.name(), object.colour.name(), object.shape.name());
/// assert!(object.covers(object.x, object.y)); // its middle
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Outline.
    pub shape: Shape,
    /// Colour as named in the captions.
    pub colour: Colour,
    /// Size as named in the captions.
    pub size: Size,
    /// Middle, from the left edge.
    pub x: f32,
    /// Middle, from the top edge.
    pub y: f32,
    /// Half of the width and height of the object's box.
    pub half: f32,
    /// The ink that is drawn: the colour with a little jitter.
    pub ink: [u8; 3],
}

/// A box in pixels: `left..right` by `top..bottom`, right and bottom excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PixelBox {
    pub left: u32,
    pub top: u32,
    pub right: u32,
    pub bottom: u32,
}

impl Object {
    /// The smallest box of whole pixels around the object in a picture of `image_size` pixels a side.
    pub fn pixel_box(&self, image_size: u32) -> PixelBox {
        let side = image_size as f32;
        let low = |middle: f32| ((middle - self.half) * side).floor().clamp(0.0, side) as u32;
        let high = |middle: f32| ((middle + self.half) * side).ceil().clamp(0.0, side) as u32;
        PixelBox {
            left: low(self.x),
            top: low(self.y),
            right: high(self.x),
            bottom: high(self.y),
        }
    }

    /// Whether a point (parts of the side) lies inside the outline.
    pub fn covers(&self, x: f32, y: f32) -> bool {
        let (u, v) = ((x - self.x) / self.half, (y - self.y) / self.half); // −1 to 1 inside the box
        match self.shape {
            Shape::Circle => u * u + v * v <= 1.0,
            Shape::Square => u.abs() <= 0.88 && v.abs() <= 0.88,
            Shape::Triangle => (-1.0..=0.85).contains(&v) && u.abs() <= (v + 1.0) / 1.85,
            Shape::Star => inside_polygon(&STAR, u, v),
        }
    }

    /// The ninth of the picture that holds the middle: "at the top left", "in the middle", …
    pub fn place(&self) -> &'static str {
        PLACES[third(self.y)][third(self.x)]
    }

    /// How this object lies seen from the other, when one direction clearly wins.
    pub fn relation_to(&self, other: &Object) -> Option<Relation> {
        const CLEAR: f32 = 0.12;
        let (dx, dy) = (self.x - other.x, self.y - other.y);
        if dy.abs() > dx.abs() + CLEAR {
            Some(if dy < 0.0 {
                Relation::Above
            } else {
                Relation::Below
            })
        } else if dx.abs() > dy.abs() + CLEAR {
            Some(if dx < 0.0 {
                Relation::LeftOf
            } else {
                Relation::RightOf
            })
        } else {
            None
        }
    }
}

/// A background and the objects on it.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let shapes = Shapes::new(ShapesConfig::default())?;
/// let scene: Scene = shapes.scene(Split::Train, 0); // what is drawn, before it is
/// let image = shapes.draw(&scene)?;
/// let first = &scene.objects[0];
/// println!("a {} {} at {:.2}, {:.2}", first.colour.name(), first.shape.name(), first.x, first.y);
/// let owners = scene.patch_owners(image.width(), 16, 0.1); // which object lies in each patch
/// assert_eq!(owners.len(), 16);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// 1 to 4 objects whose boxes do not touch.
    pub objects: Vec<Object>,
    /// Background at the picture's top left, light.
    pub background: [u8; 3],
    /// How many levels the background darkens towards the bottom right.
    pub shade: u8,
}

impl Scene {
    /// Draws the next scene from a random stream; always succeeds and uses a bounded number of draws.
    pub(super) fn random(config: &ShapesConfig, rng: &mut impl Rng) -> Scene {
        let count = rng.random_range(config.min_objects..=config.max_objects);
        let mut objects: Vec<Object> = Vec::with_capacity(count);
        for _ in 0..count {
            let (shape, colour) = match objects.choose(rng) {
                Some(twin) if rng.random_bool(config.repeat) => (twin.shape, twin.colour),
                _ => (
                    pick(&config.shapes, Shape::Circle, rng),
                    pick(&config.colours, Colour::Red, rng),
                ),
            };
            let size = if rng.random_bool(0.5) {
                Size::Small
            } else {
                Size::Large
            };
            let half = size.half() * rng.random_range(0.92..=1.08_f32);
            let ink = colour
                .rgb()
                .map(|level| level.saturating_add_signed(rng.random_range(-14..=14_i8)));
            objects.push(Object {
                shape,
                colour,
                size,
                x: 0.5,
                y: 0.5,
                half,
                ink,
            });
        }
        place(&mut objects, rng);
        let light = rng.random_range(228..=250_u8);
        let background = [0; 3].map(|_: u8| light.saturating_add_signed(rng.random_range(-5..=5)));
        Scene {
            objects,
            background,
            shade: rng.random_range(0..=12),
        }
    }

    /// The objects as (colour, shape) groups with their members, in the order of colour, then shape.
    pub fn groups(&self) -> Vec<Group<'_>> {
        let mut groups: Vec<Group<'_>> = Vec::new();
        for object in &self.objects {
            match groups
                .iter_mut()
                .find(|group| group.colour == object.colour && group.shape == object.shape)
            {
                Some(group) => group.members.push(object),
                None => groups.push(Group {
                    colour: object.colour,
                    shape: object.shape,
                    members: vec![object],
                }),
            }
        }
        groups.sort_by_key(|group| (group.colour, group.shape));
        groups
    }

    /// For each patch of `patch_size` pixels, row by row, the index of the object that fills most of it, or `None`
    /// where less than `threshold` (a part of the patch, 0 to 1) is filled. Length `(image_size / patch_size)²`.
    pub fn patch_owners(
        &self,
        image_size: u32,
        patch_size: u32,
        threshold: f32,
    ) -> Vec<Option<usize>> {
        let side = image_size / patch_size.max(1);
        let mut owners = Vec::with_capacity((side * side) as usize);
        for row in 0..side {
            for column in 0..side {
                let mut filled = vec![0_u32; self.objects.len()];
                for y in row * patch_size..(row + 1) * patch_size {
                    for x in column * patch_size..(column + 1) * patch_size {
                        let point = (
                            (x as f32 + 0.5) / image_size as f32,
                            (y as f32 + 0.5) / image_size as f32,
                        );
                        for (count, object) in filled.iter_mut().zip(&self.objects) {
                            *count += u32::from(object.covers(point.0, point.1));
                        }
                    }
                }
                let most = filled.iter().enumerate().max_by_key(|(_, count)| **count);
                let enough = threshold * (patch_size * patch_size) as f32;
                owners.push(
                    most.filter(|(_, count)| **count > 0 && **count as f32 >= enough)
                        .map(|(index, _)| index),
                );
            }
        }
        owners
    }

    /// A number that two scenes share exactly when they hold the same objects (shape, colour, size) in the same
    /// cells of an 8×8 grid. Decides which split a scene belongs to.
    pub(super) fn key(&self) -> u64 {
        let cell = |part: f32| ((part * 8.0) as u8).min(7);
        let mut parts: Vec<[u8; 5]> = self
            .objects
            .iter()
            .map(|object| {
                [
                    object.shape as u8,
                    object.colour as u8,
                    object.size as u8,
                    cell(object.x),
                    cell(object.y),
                ]
            })
            .collect();
        parts.sort_unstable();
        // Not the standard library's hash, which may change between versions.
        let mut hash = Hash::default();
        parts.iter().for_each(|part| hash.bytes(part));
        // A byte reaches the bits that decide the split only after four more: without them those of a scene with one object would know
        // nothing but its shape and colour, and three kinds of objects would be held out whole.
        if parts.len() == 1 {
            hash.bytes(&[0; 4]);
        }
        hash.value()
    }
}

/// Objects of one colour and shape.
#[derive(Debug, Clone)]
pub struct Group<'a> {
    /// Their colour.
    pub colour: Colour,
    /// Their shape.
    pub shape: Shape,
    /// At least one object.
    pub members: Vec<&'a Object>,
}

/// Moves the objects to places where their boxes keep a gap.
fn place(objects: &mut [Object], rng: &mut impl Rng) {
    const GAP: f32 = 0.03;
    const TRIES: usize = 60;
    for index in 0..objects.len() {
        let half = objects[index].half;
        let free = (0..TRIES).find_map(|_| {
            let low = half + 0.01;
            let (x, y) = (
                rng.random_range(low..=1.0 - low),
                rng.random_range(low..=1.0 - low),
            );
            let clear = |other: &Object| {
                (x - other.x).abs().max((y - other.y).abs()) >= half + other.half + GAP
            };
            objects[..index].iter().all(clear).then_some((x, y))
        });
        match free {
            Some((x, y)) => (objects[index].x, objects[index].y) = (x, y),
            None => return place_in_quarters(objects, rng),
        }
    }
}

/// The way out when objects got in each other's way: one quarter of the picture each (a large object fits).
fn place_in_quarters(objects: &mut [Object], rng: &mut impl Rng) {
    for (index, object) in objects.iter_mut().enumerate() {
        let room = 0.25 - object.half - 0.015;
        object.x = 0.25 + 0.5 * (index % 2) as f32 + rng.random_range(-room..=room);
        object.y = 0.25 + 0.5 * (index / 2) as f32 + rng.random_range(-room..=room);
    }
}

fn pick<T: Copy>(choices: &[T], otherwise: T, rng: &mut impl Rng) -> T {
    choices.choose(rng).copied().unwrap_or(otherwise)
}

fn third(part: f32) -> usize {
    ((part * 3.0) as usize).min(2)
}

/// A five-pointed star, corners from the top clockwise, in the box −1 to 1.
const STAR: [(f32, f32); 10] = [
    (0.0, -1.0),
    (0.2469, -0.3399),
    (0.9511, -0.3090),
    (0.3995, 0.1298),
    (0.5878, 0.8090),
    (0.0, 0.42),
    (-0.5878, 0.8090),
    (-0.3995, 0.1298),
    (-0.9511, -0.3090),
    (-0.2469, -0.3399),
];

/// Even-odd rule.
fn inside_polygon(corners: &[(f32, f32)], x: f32, y: f32) -> bool {
    let mut inside = false;
    for (index, (x1, y1)) in corners.iter().enumerate() {
        let (x0, y0) = corners[(index + corners.len() - 1) % corners.len()];
        if (*y1 > y) != (y0 > y) && x < (x0 - x1) * (y - y1) / (y0 - y1) + x1 {
            inside = !inside;
        }
    }
    inside
}

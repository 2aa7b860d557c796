//! Shapes: pictures of a few coloured shapes with five captions each, drawn from a seed.
//!
//! (seed, split, index) → [`Scene`] → picture and captions; [`Shapes::write_coco`] puts them into a COCO-captions
//! folder, so that the loader that reads it is the loader that reads COCO. Any sample can be made by itself, in any
//! order and with the same result. A scene's content decides its split, so no held-out scene has a twin in training.
//! `statements` judges what is said of a scene.

mod attributes;
mod draw;
mod grammar;
mod scene;
pub(crate) mod statements;
mod write;

pub use attributes::{AttributeScore, SceneAttributes, score};
pub use grammar::{CAPTIONS_PER_PICTURE, CaptionOrder, MAX_CAPTION_WORDS, vocabulary};
pub(in crate::data) use scene::PLACES;
pub use scene::{Colour, Group, Object, PixelBox, Relation, Scene, Shape, Size};
pub use statements::{Claim, ClaimKind, Verdict, by_kind};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::question::QuestionAnswer;
use super::{Sample, Split};
use crate::vision::Image;
use crate::{Error, Result};

/// What the generator draws. The same config gives the same bytes.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use glassbox_prelude::data::shapes::{Colour, Shape};
/// let config = ShapesConfig { shapes: vec![Shape::Star], colours: vec![Colour::Red], max_objects: 1, ..ShapesConfig::default() };
/// let stars = Shapes::new(config)?;
/// assert!(stars.captions(Split::Train, 0).iter().all(|caption| caption.contains("red star")));
/// assert!(Shapes::new(ShapesConfig { image_size: 0, ..ShapesConfig::default() }).is_err());
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShapesConfig {
    /// Start of every random stream.
    pub seed: u64,
    /// Width and height of the pictures in pixels, 16 to 1024.
    pub image_size: u32,
    /// Shapes to choose from.
    pub shapes: Vec<Shape>,
    /// Colours to choose from.
    pub colours: Vec<Colour>,
    /// Fewest objects in a scene, at least 1.
    pub min_objects: usize,
    /// Most objects in a scene, at most 4.
    pub max_objects: usize,
    /// Chance (0 to 1) that an object repeats the colour and shape of an earlier one, so that there is something to
    /// count.
    pub repeat: f64,
    /// Order of the objects inside a caption.
    pub caption_order: CaptionOrder,
}

impl Default for ShapesConfig {
    fn default() -> Self {
        ShapesConfig {
            seed: 17,
            image_size: 64,
            shapes: Shape::ALL.to_vec(),
            colours: Colour::ALL.to_vec(),
            min_objects: 1,
            max_objects: 4,
            repeat: 0.35,
            caption_order: CaptionOrder::Fixed,
        }
    }
}

impl ShapesConfig {
    fn check(&self) -> Result<()> {
        let complaint = if !(16..=1024).contains(&self.image_size) {
            format!(
                "image_size is {}: choose 16 to 1024 pixels",
                self.image_size
            )
        } else if self.min_objects < 1
            || self.max_objects > 4
            || self.min_objects > self.max_objects
        {
            format!(
                "min_objects {} and max_objects {}: choose 1 to 4, the first not above the second",
                self.min_objects, self.max_objects
            )
        } else if self.shapes.is_empty() || self.colours.is_empty() {
            "shapes or colours is empty: name at least one of each".to_string()
        } else if !(0.0..=1.0).contains(&self.repeat) {
            format!("repeat is {}: choose 0 to 1", self.repeat)
        } else {
            return Ok(());
        };
        Err(Error::Config(format!("shapes config: {complaint}")))
    }
}

/// The generator. Every method is a pure function of the config and its arguments.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let shapes = Shapes::new(ShapesConfig::default())?;
/// let sample = shapes.sample(Split::Train, 7)?; // number 7 is the same picture each time
/// assert_eq!(sample.captions, shapes.captions(Split::Train, 7));
/// let set = Captions::of_images((0..10).map(|index| {
///     let scene = shapes.scene(Split::Train, index);
///     Ok((shapes.draw(&scene)?, shapes.captions(Split::Train, index)))
/// }).collect::<Result<Vec<_>>>()?)?;
/// assert_eq!(set.len(), 10);
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
#[derive(Clone)]
pub struct Shapes {
    config: ShapesConfig,
}

/// Which random stream: each use has its own, so that a change to one leaves the others alone.
#[derive(Clone, Copy)]
enum Purpose {
    Scene = 1,
    Captions = 2,
    Questions = 3,
}

impl Shapes {
    /// Checks the config.
    ///
    /// # Errors
    /// `Config` for a size, object count, chance or choice out of range.
    pub fn new(config: ShapesConfig) -> Result<Shapes> {
        config.check()?;
        Ok(Shapes { config })
    }

    /// What this generator draws.
    pub fn config(&self) -> &ShapesConfig {
        &self.config
    }

    /// The scene with this number.
    pub fn scene(&self, split: Split, index: u64) -> Scene {
        let mut rng = self.stream(Purpose::Scene, split, index);
        loop {
            let scene = Scene::random(&self.config, &mut rng);
            if split_of(&scene) == split {
                return scene;
            }
        }
    }

    /// Draws a scene.
    ///
    /// # Errors
    /// None for a checked config.
    pub fn draw(&self, scene: &Scene) -> Result<Image> {
        Image::from_rgb(draw::draw(scene, self.config.image_size))
    }

    /// The five captions of the scene with this number, all different.
    pub fn captions(&self, split: Split, index: u64) -> Vec<String> {
        self.captions_of(&self.scene(split, index), split, index)
    }

    /// Picture and captions with this number, before JPEG: what [`Shapes::write_coco`] writes.
    ///
    /// # Errors
    /// None for a checked config.
    pub fn sample(&self, split: Split, index: u64) -> Result<Sample> {
        let scene = self.scene(split, index);
        let image_id = image_id(split, index);
        Ok(Sample {
            image: self.draw(&scene)?,
            captions: self.captions_of(&scene, split, index),
            image_id,
            file_name: file_name(image_id),
        })
    }

    /// Questions with answers about the scene with this number, at least three.
    pub fn questions(&self, split: Split, index: u64) -> Vec<QuestionAnswer> {
        let mut rng = self.stream(Purpose::Questions, split, index);
        super::question::about_scene(
            &self.scene(split, index),
            image_id(split, index),
            &self.config,
            &mut rng,
        )
    }

    fn captions_of(&self, scene: &Scene, split: Split, index: u64) -> Vec<String> {
        let mut rng = self.stream(Purpose::Captions, split, index);
        grammar::captions(scene, self.config.caption_order, &mut rng)
    }

    fn stream(&self, purpose: Purpose, split: Split, index: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::seed_from_u64(self.config.seed);
        let split = match split {
            Split::Train => 0,
            Split::Val => 1,
        };
        rng.set_stream(index ^ ((purpose as u64) << 60) ^ (split << 56));
        rng
    }
}

/// One scene in eight is held out, whatever its number.
fn split_of(scene: &Scene) -> Split {
    if (scene.key() >> 32).is_multiple_of(8) {
        Split::Val
    } else {
        Split::Train
    }
}

/// Ids differ between the splits, as in COCO.
pub(in crate::data) fn image_id(split: Split, index: u64) -> u64 {
    const FIRST_HELD_OUT: u64 = 1_000_000_000;
    match split {
        Split::Train => index + 1,
        Split::Val => FIRST_HELD_OUT + index + 1,
    }
}

pub(in crate::data) fn file_name(image_id: u64) -> String {
    format!("{image_id:012}.jpg")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{HashMap, HashSet};

    fn shapes(seed: u64) -> Shapes {
        Shapes {
            config: ShapesConfig {
                seed,
                ..ShapesConfig::default()
            },
        }
    }

    proptest! {
        #[test]
        fn every_caption_reads_back_as_its_scene(seed in 0_u64..1000, index in 0_u64..100_000, held_out: bool, mix: bool) {
            let mut shapes = shapes(seed);
            if mix {
                shapes.config.caption_order = CaptionOrder::Shuffled;
            }
            let split = if held_out { Split::Val } else { Split::Train };
            let truth = SceneAttributes::from_scene(&shapes.scene(split, index));
            let captions = shapes.captions(split, index);
            prop_assert_eq!(captions.len(), CAPTIONS_PER_PICTURE);
            prop_assert_eq!(captions.iter().collect::<HashSet<_>>().len(), CAPTIONS_PER_PICTURE);
            let known = vocabulary();
            for caption in &captions {
                prop_assert_eq!(&SceneAttributes::from_caption(caption), &truth, "{}", caption);
                prop_assert!(caption.split(' ').count() <= MAX_CAPTION_WORDS, "{}", caption);
                for word in caption.replace([',', ':'], " ").split_whitespace() {
                    prop_assert!(known.contains(&word), "{} is not in the vocabulary", word);
                }
            }
        }

        #[test]
        fn objects_keep_apart_and_inside(seed in 0_u64..1000, index in 0_u64..100_000) {
            let scene = shapes(seed).scene(Split::Train, index);
            prop_assert!((1..=4).contains(&scene.objects.len()));
            for (number, one) in scene.objects.iter().enumerate() {
                prop_assert!(one.x >= one.half && one.x <= 1.0 - one.half && one.y >= one.half && one.y <= 1.0 - one.half);
                for other in &scene.objects[..number] {
                    prop_assert!((one.x - other.x).abs().max((one.y - other.y).abs()) > one.half + other.half);
                }
            }
        }
    }

    #[test]
    fn the_seed_decides_everything() -> Result<()> {
        let sample = shapes(3).sample(Split::Train, 41)?;
        assert_eq!(sample, shapes(3).sample(Split::Train, 41)?);
        assert_ne!(sample.image, shapes(4).sample(Split::Train, 41)?.image);
        assert_ne!(sample.image, shapes(3).sample(Split::Val, 41)?.image);
        assert_ne!(sample.image, shapes(3).sample(Split::Train, 42)?.image);
        Ok(())
    }

    #[test]
    fn no_held_out_scene_is_in_training() {
        let shapes = shapes(5);
        let seen: HashSet<u64> = (0..4000)
            .map(|index| shapes.scene(Split::Train, index).key())
            .collect();
        for index in 0..500 {
            assert!(
                !seen.contains(&shapes.scene(Split::Val, index).key()),
                "held-out scene {index}"
            );
        }
    }

    /// Three kinds were held out whole and no other, and a set without them had no held-out scene at all: looking for one never ended.
    #[test]
    fn of_every_kind_of_lone_object_about_one_scene_in_eight_is_held_out() {
        for shape in Shape::ALL {
            for colour in Colour::ALL {
                let one = ShapesConfig {
                    shapes: vec![shape],
                    colours: vec![colour],
                    max_objects: 1,
                    ..ShapesConfig::default()
                };
                let mut rng = ChaCha8Rng::seed_from_u64(1);
                let scenes: HashMap<u64, Split> = (0..2000)
                    .map(|_| Scene::random(&one, &mut rng))
                    .map(|scene| (scene.key(), split_of(&scene)))
                    .collect();
                let held_out = scenes.values().filter(|split| **split == Split::Val);
                let share = held_out.count() as f64 / scenes.len() as f64;
                assert!(
                    (0.03..0.3).contains(&share),
                    "{colour:?} {shape:?}: {share} of {} scenes",
                    scenes.len()
                );
            }
        }
    }

    #[test]
    fn patches_and_boxes_agree_with_the_pixels() -> Result<()> {
        let shapes = shapes(6);
        for index in 0..50 {
            let scene = shapes.scene(Split::Train, index);
            let picture = shapes.draw(&scene)?;
            let size = shapes.config.image_size;
            for (number, object) in scene.objects.iter().enumerate() {
                let place = object.pixel_box(size);
                let (x, y) = (
                    (place.left + place.right) / 2,
                    (place.top + place.bottom) / 2,
                );
                let found = picture.rgb().get_pixel(x, y).0;
                assert_eq!(found, object.ink, "middle of {object:?} in scene {index}");
                assert!(scene.patch_owners(size, 8, 0.05).contains(&Some(number)));
            }
            let corner = picture.rgb().get_pixel(0, 0).0;
            assert!(
                corner.iter().all(|level| *level > 200),
                "background of scene {index} is {corner:?}"
            );
        }
        Ok(())
    }

    #[test]
    fn configs_out_of_range_say_what_to_choose() {
        let wrong = [
            ShapesConfig {
                image_size: 8,
                ..ShapesConfig::default()
            },
            ShapesConfig {
                min_objects: 0,
                ..ShapesConfig::default()
            },
            ShapesConfig {
                min_objects: 3,
                max_objects: 2,
                ..ShapesConfig::default()
            },
            ShapesConfig {
                max_objects: 9,
                ..ShapesConfig::default()
            },
            ShapesConfig {
                colours: vec![],
                ..ShapesConfig::default()
            },
            ShapesConfig {
                repeat: f64::NAN,
                ..ShapesConfig::default()
            },
        ];
        for config in wrong {
            let message = Shapes::new(config)
                .map(|_| ())
                .expect_err("out of range")
                .to_string();
            assert!(
                message.contains("choose") || message.contains("name at least"),
                "{message}"
            );
        }
    }
}

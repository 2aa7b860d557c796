//! Opens captions of the size of COCO's train2017 (118,287 pictures, 591,753 captions) and says how long and how much memory that
//! takes: `cargo run --release -p glassbox-prelude --example coco_size [FOLDER]`. Pictures are empty files.

#![allow(clippy::print_stdout)] // a program that reports to a terminal

use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;

use glassbox_prelude::data::{CocoCaptions, Split};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const PICTURES: usize = 118_287;
const CAPTIONS: usize = 591_753;
const WORDS: [&str; 24] = [
    "a", "man", "woman", "sitting", "on", "the", "street", "with", "two", "dogs", "and", "red",
    "bus", "in", "front", "of", "building", "holding", "umbrella", "kitchen", "table", "near",
    "large", "white",
];

/// What was measured.
#[allow(dead_code)] // a program prints what a test holds against limits
pub struct Measured {
    /// Of the file.
    pub bytes: u64,
    pub seconds: f64,
    /// Resident memory in MB: before opening, after it, and at most meanwhile.
    pub memory: [f64; 3],
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let temporary = tempfile::tempdir()?;
    let root = std::env::args()
        .nth(1)
        .map_or(temporary.path().to_path_buf(), Into::into);
    measure(&root).map(drop)
}

/// Writes the files into `root` where they are not there, opens them, and says what that took.
pub fn measure(root: &Path) -> Result<Measured, Box<dyn std::error::Error>> {
    let annotations = root.join("annotations/captions_train2017.json");
    if !annotations.is_file() {
        write(root, PICTURES, CAPTIONS)?;
    }
    let bytes = std::fs::metadata(&annotations)?.len();
    let before = resident("VmRSS")?;
    let begin = Instant::now();
    let dataset = CocoCaptions::open(root, Split::Train)?;
    let seconds = begin.elapsed().as_secs_f64();
    let memory = [before, resident("VmRSS")?, resident("VmHWM")?];
    println!("{dataset:?}");
    println!(
        "{:.1} MB opened in {seconds:.2} s; resident {:.0} MB before, {:.0} MB after, {:.0} MB at most",
        bytes as f64 / 1e6,
        before,
        memory[1],
        memory[2]
    );
    assert_eq!(
        (dataset.len(), dataset.report().captions),
        (PICTURES, CAPTIONS)
    );
    Ok(Measured {
        bytes,
        seconds,
        memory,
    })
}

/// Megabytes of this process by the kernel's word.
pub fn resident(name: &str) -> Result<f64, Box<dyn std::error::Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find(|line| line.starts_with(name))
        .ok_or("no such line")?;
    let kilobytes: f64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kilobytes / 1000.0)
}

/// Captions of so many pictures, and the pictures, as empty files, where COCO's train2017 has them in its folder.
pub fn write(
    root: &Path,
    pictures: usize,
    captions: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    let folder = root.join("train2017");
    std::fs::create_dir_all(&folder)?;
    std::fs::create_dir_all(root.join("annotations"))?;
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut text = String::from("{\"info\": {}, \"licenses\": [], \"images\": [");
    let id = |number: usize| number * 4 + 9;
    for number in 0..pictures {
        let name = format!("{:012}.jpg", id(number));
        std::fs::write(folder.join(&name), [])?;
        let comma = if number > 0 { ", " } else { "" };
        write!(
            text,
            "{comma}{{\"license\": 3, \"file_name\": \"{name}\", \"coco_url\": \"http://images.cocodataset.org/train2017/{name}\", \
             \"height\": 360, \"width\": 640, \"date_captured\": \"2013-11-14 11:18:45\", \
             \"flickr_url\": \"http://farm9.staticflickr.com/8186/{:010}_cc2bc3e3dd_z.jpg\", \"id\": {}}}",
            number,
            id(number)
        )?;
    }
    text.push_str("], \"annotations\": [");
    for number in 0..captions {
        let comma = if number > 0 { ", " } else { "" };
        // Five each, and one more for some, in no order.
        let picture = id((number * 7) % pictures);
        let words: Vec<&str> = (0..rng.random_range(8..14))
            .filter_map(|_| WORDS.choose(&mut rng).copied())
            .collect();
        write!(
            text,
            "{comma}{{\"image_id\": {picture}, \"id\": {}, \"caption\": \"A {}.\"}}",
            number + 37,
            words.join(" ")
        )?;
    }
    text.push_str("]}");
    std::fs::write(root.join("annotations/captions_train2017.json"), text)?;
    Ok(())
}

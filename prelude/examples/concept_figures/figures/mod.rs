//! One drawing a file, all on the same [`canvas`]: the sizes of a model → SVG text. The same thing has the same colour in all.

mod cache;
mod canvas;
mod encoder;
mod few_shot;
mod lora;
mod loss;
pub mod measure;
mod projector;
mod sequence;
pub mod sizes;

use sizes::Sizes;

/// Every figure: the name of its file without `.svg`, and the SVG.
pub fn all(sizes: &Sizes) -> Vec<(&'static str, String)> {
    vec![
        ("encoder", encoder::drawn(sizes)),
        ("projector", projector::drawn(sizes)),
        ("sequence", sequence::drawn(sizes)),
        ("lora", lora::drawn(sizes)),
        ("loss", loss::drawn(sizes)),
        ("cache", cache::drawn(sizes)),
        ("few_shot", few_shot::drawn(sizes)),
    ]
}

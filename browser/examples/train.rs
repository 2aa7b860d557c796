//! Trains the tiny model as the tour does (`notebooks/00_tour.ipynb`), and writes what was trained to `browser/trained.safetensors`, in half precision.
//!
//!     cargo run --release -p glassbox-browser --example train

use std::collections::HashMap;

use glassbox_prelude::prelude::*;

fn main() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("glassbox-browser-{}", std::process::id()));
    let shapes = Shapes::new(ShapesConfig {
        image_size: 128,
        ..ShapesConfig::default()
    })?;
    shapes.write_coco(&folder, 3000, 200)?;
    let train_set = CocoCaptions::open(&folder, Split::Train)?;
    let val_set = CocoCaptions::open(&folder, Split::Val)?;
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let report = Trainer::new(TrainerConfig::tour())?.fit(&vlm, &train_set, &val_set)?;
    display(&report);
    display(&attribute_accuracy(&vlm, &val_set, 200)?);
    let mut values = HashMap::new();
    for parameter in vlm.trainable_parameters() {
        let Some(var) = &parameter.var else { continue };
        values.insert(
            parameter.name.clone(),
            var.as_detached_tensor().to_dtype(DType::F16)?,
        );
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/trained.safetensors");
    glassbox_prelude::candle_core::safetensors::save(&values, path)?;
    let _ = std::fs::remove_dir_all(&folder);
    Ok(())
}

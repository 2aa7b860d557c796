//! Pictures as the image processor makes them, kept on disk: a picture's file → pixel values, decoded and prepared once for all epochs
//! and runs.
//!
//! ```text
//! folder/<the processor's settings>/<path, size, time and place of the picture>.safetensors    "pixel_values" [1, 3, H, W]
//! ```
//! A file that is written anew has another time or size, so it is another picture; so is one for another processor.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use candle_core::{Device, Tensor};

use super::features::FeatureSettings;
use super::kept::{Kept, Key};
use crate::vision::Image;
use crate::vlm::Vlm;
use crate::{Error, Result};

/// The prepared pictures of one image processor: what a [`TrainingSet`](super::TrainingSet) of your own asks in
/// [`example_kept`](super::TrainingSet::example_kept).
///
/// ```
/// use glassbox_prelude::prelude::*;
/// /// A file for each example, whose pictures are decoded and prepared once for all epochs.
/// struct Files(Vec<std::path::PathBuf>);
/// impl TrainingSet for Files {
///     fn len(&self) -> usize {
///         self.0.len()
///     }
///     fn example(&self, _: &Vlm, position: usize) -> Result<Example> {
///         Ok(Example::new(&Image::load(&self.0[position])?, "a red square"))
///     }
///     fn example_kept(&self, vlm: &Vlm, position: usize, kept: &KeptPictures) -> Result<Option<Example>> {
///         let path = self.0[position].as_path();
///         let pixels = kept.prepared(vlm, &path.into(), || Image::load(path))?; // [1, 3, H, W]
///         Ok(Some(Example::new(&pixels, "a red square")))
///     }
/// }
/// # let folder = std::env::temp_dir().join(format!("kept-pictures-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder).ok();
/// # let (file, folder) = (folder.join("red.png"), folder.as_path());
/// # std::fs::write(&file, Image::filled(64, 64, [200, 30, 40])?.to_png()?).ok();
/// let set = Files(vec![file]);
/// let pictures = Some(FeatureSettings::new(folder.join("prepared")));
/// let settings = TrainerSettings { steps: 1, batch_size: 1, pictures, ..TrainerSettings::tour() };
/// Trainer::new(settings)?.fit(&Vlm::tiny(&Device::Cpu)?, &set, &set)?;
/// assert!(folder.join("prepared").is_dir());
/// # std::fs::remove_dir_all(folder).ok();
/// # Ok::<(), glassbox_prelude::Error>(())
/// ```
pub struct KeptPictures {
    kept: Kept,
}

/// The file that a picture lies in, and which of those in it.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// use std::path::Path;
/// let alone = PictureFile::from(Path::new("photos/cat.png"));
/// assert_eq!(alone.number, 0);
/// let third = PictureFile { number: 2, ..alone.clone() }; // of a file with many pictures, such as a parquet file
/// assert_eq!(third.path, alone.path);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureFile {
    /// Where the file lies.
    pub path: PathBuf,
    /// Which of the pictures in it; 0 where it is a picture itself.
    pub number: usize,
}

impl From<&Path> for PictureFile {
    fn from(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            number: 0,
        }
    }
}

crate::display::facts::shown_by_fields!(PictureFile);

impl KeptPictures {
    /// Those of the model's image processor.
    ///
    /// # Errors
    /// `Config` for a model that cuts pictures into tiles; `Io` when the folder can't be made or read.
    pub(super) fn open(vlm: &Vlm, settings: &FeatureSettings) -> Result<Self> {
        if vlm.tiling.is_some() {
            return Err(Error::Config(
                "trainer: prepared pictures are kept of models that read them whole, and this one cuts them into tiles: leave \
                 `pictures` out"
                    .into(),
            ));
        }
        let mut key = Key::new();
        // Every setting, those that its file has no words for as well; numbers are written to the last digit.
        key.bytes(format!("{:?}", vlm.image_processor.config()).as_bytes());
        let folder = settings.folder.join(key.hex());
        let most = settings.megabytes.saturating_mul(1 << 20);
        Ok(Self {
            kept: Kept::open(folder, "pixel_values", most)?,
        })
    }

    /// A picture as the model's encoder takes it, `[1, 3, H, W]`: the one that is kept, or the decoded one prepared now.
    ///
    /// # Errors
    /// `Io` when the picture's file is not there; what `decode` and the image processor report.
    pub fn prepared(
        &self,
        vlm: &Vlm,
        file: &PictureFile,
        decode: impl FnOnce() -> Result<Image>,
    ) -> Result<Tensor> {
        let failed = |source| Error::Io {
            path: file.path.clone(),
            source,
        };
        let path = std::path::absolute(&file.path).map_err(failed)?;
        let about = std::fs::metadata(&path).map_err(failed)?;
        let time = about.modified().map_err(failed)?;
        let time = match time.duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_nanos(),
            Err(before) => u128::MAX - before.duration().as_nanos(),
        };
        let mut key = Key::new();
        key.bytes(path.as_os_str().as_encoded_bytes());
        key.bytes(&about.len().to_le_bytes());
        key.bytes(&time.to_le_bytes());
        key.word(file.number as u64);
        self.kept.get(&key.hex(), &Device::Cpu, || {
            vlm.image_processor.preprocess(&decode()?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vision::{ImageProcessor, ImageProcessorConfig};

    fn pixels(tensor: &Tensor) -> Result<Vec<f32>> {
        Ok(tensor.flatten_all()?.to_vec1()?)
    }

    #[test]
    fn a_picture_is_decoded_once_and_again_when_its_file_or_the_processor_is_another() -> Result<()>
    {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.png");
        let write = |level: u8, side: u32| -> Result<()> {
            let png = Image::filled(side, side, [level; 3])?.to_png()?;
            std::fs::write(&path, png).map_err(|source| Error::Io {
                path: path.clone(),
                source,
            })
        };
        write(200, 40)?;
        let mut vlm = Vlm::tiny(&Device::Cpu)?;
        let settings = FeatureSettings::new(folder.path().join("kept"));
        let file = PictureFile::from(path.as_path());
        let never = || -> Result<Image> { panic!("it is kept") };
        let kept = KeptPictures::open(&vlm, &settings)?;
        let first = pixels(&kept.prepared(&vlm, &file, || Image::load(&path))?)?;
        let want = pixels(&vlm.image_processor.preprocess(&Image::load(&path)?)?)?;
        assert_eq!(first, want);
        // Another run.
        let kept = KeptPictures::open(&vlm, &settings)?;
        assert_eq!(pixels(&kept.prepared(&vlm, &file, never)?)?, want);
        // Another place in the same file, another file in the same place, another processor.
        let other = PictureFile {
            number: 1,
            ..file.clone()
        };
        let mut decoded = 0;
        let mut decode = || {
            decoded += 1;
            Image::load(&path)
        };
        kept.prepared(&vlm, &other, &mut decode)?;
        write(30, 50)?;
        let new = pixels(&kept.prepared(&vlm, &file, &mut decode)?)?;
        assert_ne!(new, want);
        vlm.image_processor = ImageProcessor::new(ImageProcessorConfig {
            normalize: None,
            ..vlm.image_processor.config().clone()
        })?;
        let kept = KeptPictures::open(&vlm, &settings)?;
        assert_ne!(pixels(&kept.prepared(&vlm, &file, &mut decode)?)?, new);
        assert_eq!(decoded, 3);
        std::fs::remove_file(&path).expect("it is there");
        let gone = kept.prepared(&vlm, &file, never).map(|_| ()).unwrap_err();
        assert!(matches!(gone, Error::Io { .. }), "{gone}");
        Ok(())
    }

    /// A folder of pictures trains the same with and without, and with what another run has kept; a set that reads none says so.
    #[test]
    fn a_run_on_kept_pictures_takes_the_same_steps() -> Result<()> {
        use crate::data::{CocoCaptions, Shapes, ShapesConfig, Split};
        use crate::train::{Example, Trainer, TrainerSettings};
        let folder = tempfile::tempdir().expect("a temporary folder");
        let data = folder.path().join("data");
        let shapes = ShapesConfig {
            image_size: 32,
            ..ShapesConfig::default()
        };
        Shapes::new(shapes)?.write_coco(&data, 4, 2)?;
        let (set, held_out) = (
            CocoCaptions::open(&data, Split::Train)?,
            CocoCaptions::open(&data, Split::Val)?,
        );
        let settings = |workers, pictures| TrainerSettings {
            pictures,
            workers,
            cache_megabytes: 0,
            batch_size: 2,
            steps: 3,
            validation_samples: 1,
            quiet: true,
            ..TrainerSettings::tour()
        };
        let run = |workers, pictures| -> Result<Vec<f64>> {
            let mut trainer = Trainer::new(settings(workers, pictures))?;
            trainer.fit(&Vlm::tiny(&Device::Cpu)?, &set, &held_out)?;
            Ok(trainer.records().iter().map(|record| record.loss).collect())
        };
        let kept = FeatureSettings::new(folder.path().join("kept"));
        let plain = run(0, None)?;
        assert_eq!(run(2, Some(kept.clone()))?, plain);
        let processor = std::fs::read_dir(&kept.folder)
            .expect("there")
            .flatten()
            .next();
        let processor = processor.expect("one processor").path();
        let files = || {
            let names = std::fs::read_dir(&processor).expect("there").flatten();
            let names = names.map(|file| file.file_name().to_string_lossy().into_owned());
            names.filter(|name| name.ends_with(".safetensors")).count()
        };
        assert_eq!(files(), 4, "one of each picture");
        assert_eq!(run(0, Some(kept.clone()))?, plain, "from disk");
        assert_eq!(files(), 4);
        let given = vec![Example::new(&Image::filled(8, 8, [9; 3])?, "a star")];
        let mut trainer = Trainer::new(settings(0, Some(kept)))?;
        let error = trainer.fit(&Vlm::tiny(&Device::Cpu)?, &given, &held_out);
        let error = error.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("TrainingSet::example_kept"), "{error}");
        Ok(())
    }
}

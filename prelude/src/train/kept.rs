//! Tensors kept on disk under a key, up to a limit: what is there is read, what is not is made and written.
//!
//! ```text
//! key ─► folder/<key>.safetensors, whole? ─ yes ─► tensor
//!                                         └ no ──► make ─► written beside its place and moved there, if it still fits ─► tensor
//! ```
//! Several threads and processes may use one folder: a file is whole or not there, and what all of them have written is counted in one
//! file, which each locks while it writes, so that together they keep to the limit. A damaged one is made again, and said. What can't
//! be written, such as onto a full disk, is said once and made each time.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Tensor};

use crate::nn::checkpoint::save_safetensors;
use crate::{Error, Result, files, fnv, notes};

const END: &str = ".safetensors";

/// Where the bytes of all files are counted, for all who write here.
const COUNT: &str = ".bytes";

/// What a file takes besides its values, at most, in bytes.
const HEADER: u64 = 256;

/// A folder of tensors.
pub(super) struct Kept {
    folder: PathBuf,
    /// What the tensor is called in its file, and in messages.
    name: &'static str,
    most: u64,
    used: Mutex<u64>,
    /// Whether nothing is written any more.
    unwritable: AtomicBool,
    /// Whether it was said that the folder can't be locked.
    unlocked: AtomicBool,
}

impl Kept {
    /// Those in a folder, which is made if it is not there; `most` bytes for all files.
    ///
    /// # Errors
    /// `Io` when the folder can't be made or read.
    pub(super) fn open(folder: PathBuf, name: &'static str, most: u64) -> Result<Self> {
        let failed = |source| Error::Io {
            path: folder.clone(),
            source,
        };
        std::fs::create_dir_all(&folder).map_err(failed)?;
        files::remove_leftovers(&folder, "");
        let counted = match folder.join(COUNT).exists() {
            // Whoever died while writing has not counted it.
            true => Count::hold(&folder).and_then(|mut count| count.anew(&folder)),
            false => counted(&folder),
        };
        let used = counted
            .or_else(|_| self::counted(&folder))
            .map_err(failed)?;
        Ok(Self {
            folder,
            name,
            most,
            used: Mutex::new(used),
            unwritable: AtomicBool::new(false),
            unlocked: AtomicBool::new(false),
        })
    }

    /// The tensor of a key, in f32: the one that is there, or what `make` gives.
    ///
    /// # Errors
    /// What `make` reports.
    pub(super) fn get(
        &self,
        key: &str,
        device: &Device,
        make: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Tensor> {
        let path = self.folder.join(format!("{key}{END}"));
        let there = length(&path);
        if there > 0
            && let Ok(mut kept) = candle_core::safetensors::load(&path, device)
            && let Some(tensor) = kept.remove(self.name)
        {
            return Ok(tensor);
        }
        if there > 0 {
            notes::say(&format!(
                "{} is damaged: its {} are made again",
                path.display(),
                self.name
            ));
        }
        let tensor = make()?.detach().to_dtype(DType::F32)?;
        self.keep(&path, there, &tensor);
        Ok(tensor)
    }

    /// Writes a tensor if it fits, in the place of a damaged file of `damaged` bytes, or of none.
    fn keep(&self, path: &Path, damaged: u64, tensor: &Tensor) {
        let bytes = (tensor.elem_count() * size_of::<f32>()) as u64 + HEADER;
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if self.unwritable.load(Ordering::Relaxed) {
            return;
        }
        // Held until it is written and counted.
        let mut count = match Count::hold(&self.folder) {
            Ok(mut count) => {
                if let Ok(all) = count.read(&self.folder) {
                    *used = all;
                }
                Some(count)
            }
            // A folder that is not there is told by the writing itself.
            Err(error) => {
                if self.folder.exists() && !self.unlocked.swap(true, Ordering::Relaxed) {
                    notes::say(&format!(
                        "{} can't be locked ({error}): several processes that keep {} there may together pass the limit",
                        self.folder.display(),
                        self.name
                    ));
                }
                None
            }
        };
        let there = length(path);
        // Who else asked for it has written it meanwhile.
        if there != damaged {
            return;
        }
        // The damaged one is counted already, and its place is free again.
        if used.saturating_sub(there) + bytes > self.most {
            return;
        }
        let written = save_safetensors(path, &[(self.name.to_owned(), tensor.clone())]);
        *used = used.saturating_sub(there) + length(path);
        if let Some(Err(error)) = count.as_mut().map(|count| count.write(*used)) {
            notes::say(&format!(
                "the bytes in {} could not be counted: {error}",
                self.folder.display()
            ));
        }
        if let Err(error) = written {
            self.unwritable.store(true, Ordering::Relaxed);
            notes::say(&format!(
                "{} are not kept on disk any more, and are made each time: {error}",
                self.name
            ));
        }
    }

    /// Bytes of all files, as far as this process knows.
    #[cfg(test)]
    pub(super) fn used(&self) -> u64 {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of all files in a folder, as all who write there count them: locked as long as this lives.
struct Count(File);

impl Count {
    /// Waits until nobody else has it.
    fn hold(folder: &Path) -> std::io::Result<Self> {
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.open(folder.join(COUNT))?;
        file.lock()?;
        Ok(Self(file))
    }

    /// As it was written last; by looking at each file where it was not.
    fn read(&mut self, folder: &Path) -> std::io::Result<u64> {
        let mut text = String::new();
        self.0.rewind()?;
        self.0.read_to_string(&mut text).ok();
        match text.trim_end().parse() {
            // A line that was cut off is no number of bytes.
            Ok(bytes) if text.ends_with('\n') => Ok(bytes),
            _ => self.anew(folder),
        }
    }

    /// By looking at each file.
    fn anew(&mut self, folder: &Path) -> std::io::Result<u64> {
        let bytes = counted(folder)?;
        self.write(bytes)?;
        Ok(bytes)
    }

    fn write(&mut self, bytes: u64) -> std::io::Result<()> {
        self.0.rewind()?;
        self.0.set_len(0)?;
        writeln!(self.0, "{bytes}")
    }
}

/// The bytes of all files in a folder but the one that counts them.
fn counted(folder: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let about = entry.and_then(|entry| Ok((entry.file_name(), entry.metadata()?.len())));
        match about {
            Ok((name, _)) if name == COUNT => {}
            Ok((_, length)) => bytes += length,
            // Another process has removed or moved it meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// Bytes of a file; 0 if it is not there.
fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |about| about.len())
}

/// Two streams of FNV-1a over words of eight bytes: 128 bits, the same in every build.
pub(super) struct Key([u64; 2]);

impl Key {
    pub(super) fn new() -> Self {
        Self([fnv::START, 0x6c62_272e_07bb_0142])
    }

    /// Takes in bytes and their number.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        fnv::words(bytes).for_each(|word| self.word(word));
        self.word(bytes.len() as u64);
    }

    /// Takes in shape and values, at least 32 bits of each.
    pub(super) fn tensor(&mut self, tensor: &Tensor) -> Result<()> {
        for &dim in tensor.dims() {
            self.word(dim as u64);
        }
        let flat = tensor.detach().to_device(&Device::Cpu)?.flatten_all()?;
        for value in flat.to_dtype(DType::F32)?.to_vec1::<f32>()? {
            self.word(u64::from(value.to_bits()));
        }
        Ok(())
    }

    pub(super) fn word(&mut self, word: u64) {
        self.0[0] = fnv::step(self.0[0], word);
        self.0[1] = fnv::step(self.0[1].rotate_left(23), word).wrapping_add(1);
    }

    pub(super) fn hex(&self) -> String {
        format!("{:016x}{:016x}", self.0[0], self.0[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    fn open(folder: &Path, most: u64) -> Result<Kept> {
        Kept::open(folder.to_path_buf(), "values", most)
    }

    fn made(value: f32) -> impl FnOnce() -> Result<Tensor> {
        move || Ok(Tensor::full(value, (1, 100), &Device::Cpu)?)
    }

    fn of(kept: &Kept, key: &str, value: f32) -> Result<f32> {
        let tensor = kept.get(key, &Device::Cpu, made(value))?;
        Ok(tensor.flatten_all()?.to_vec1::<f32>()?[0])
    }

    /// It was counted by its own length when the folder was opened, and by the new one's when it was made again.
    #[test]
    fn a_damaged_file_is_made_again_and_counted_once() -> Result<()> {
        let folder = folder();
        let kept = open(folder.path(), 10_000)?;
        assert_eq!(of(&kept, "one", 1.0)?, 1.0);
        let whole = kept.used();
        assert_eq!(whole, length(&folder.path().join("one.safetensors")));
        std::fs::write(folder.path().join("one.safetensors"), b"no tensors").expect("it is ours");
        let again = open(folder.path(), 10_000)?;
        assert_eq!(again.used(), 10);
        assert_eq!(of(&again, "one", 2.0)?, 2.0, "made again");
        assert_eq!(again.used(), whole);
        assert_eq!(of(&again, "one", 3.0)?, 2.0, "read");
        assert_eq!(again.used(), whole);
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_made_each_time() -> Result<()> {
        let folder = folder();
        let kept = open(folder.path(), 1000)?;
        assert_eq!(of(&kept, "one", 1.0)?, 1.0);
        assert_eq!(of(&kept, "two", 1.0)?, 1.0);
        let used = kept.used();
        assert!(used <= 1000, "{used}");
        assert_eq!((of(&kept, "one", 5.0)?, of(&kept, "two", 5.0)?), (1.0, 5.0));
        assert_eq!(kept.used(), used);
        assert_eq!(open(folder.path(), 1000)?.used(), used, "across runs");
        Ok(())
    }

    /// Writers that died have left their unfinished files, which count as long as they are there.
    #[test]
    fn leftovers_of_dead_writers_go_and_those_of_living_ones_stay() -> Result<()> {
        let folder = folder();
        let dead = folder.path().join(".one.safetensors.4294967295-0.part"); // no process has this number
        let living = files::unfinished(&folder.path().join("one.safetensors"));
        for path in [&dead, &living] {
            std::fs::write(path, [0; 7]).expect("it is ours");
        }
        let kept = open(folder.path(), 1000)?;
        assert!(living.exists());
        if Path::new("/proc/self").exists() {
            assert!(!dead.exists());
            assert_eq!(kept.used(), 7);
        }
        Ok(())
    }

    #[test]
    fn writers_at_once_leave_whole_files() -> Result<()> {
        let folder = folder();
        let work = |seed: usize| -> Result<()> {
            let kept = open(folder.path(), 1 << 20)?;
            for at in 0..200 {
                let key = (at * (seed + 1)) % 20;
                let value = of(&kept, &key.to_string(), key as f32)?;
                assert_eq!(value, key as f32);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..4).map(|seed| scope.spawn(move || work(seed))).collect();
            all.into_iter()
                .try_for_each(|one| one.join().expect("no panic"))
        })?;
        let left = std::fs::read_dir(folder.path()).expect("there").count();
        assert_eq!(left, 21, "the count, and nothing unfinished");
        Ok(())
    }

    /// Each of them knows only what it has written itself: as two processes do.
    #[test]
    fn writers_at_once_keep_to_the_limit_together() -> Result<()> {
        let folder = folder();
        let most = 10 * 700; // of 160 files of 600 bytes or so
        let work = |writer: usize| -> Result<()> {
            let kept = open(folder.path(), most)?;
            for at in 0..40 {
                of(&kept, &format!("{writer}-{at}"), 1.0)?;
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..4)
                .map(|writer| scope.spawn(move || work(writer)))
                .collect();
            all.into_iter()
                .try_for_each(|one| one.join().expect("no panic"))
        })?;
        let bytes = counted(folder.path()).expect("there");
        assert!(bytes <= most && bytes > most / 2, "{bytes} of {most}");
        assert_eq!(open(folder.path(), most)?.used(), bytes);
        Ok(())
    }

    /// Such as one whose writer was killed, or that was changed by hand.
    #[test]
    fn a_wrong_count_is_made_right() -> Result<()> {
        let folder = folder();
        let kept = open(folder.path(), 1 << 20)?;
        of(&kept, "one", 1.0)?;
        let whole = kept.used();
        for wrong in ["", "12", "many\n", "99999999\n"] {
            std::fs::write(folder.path().join(COUNT), wrong).expect("it is ours");
            let next = open(folder.path(), 1 << 20)?;
            assert_eq!(next.used(), whole, "{wrong:?}");
            std::fs::write(folder.path().join(COUNT), wrong.trim_end()).expect("it is ours");
            let _ = of(&next, &format!("two{}", wrong.trim()), 1.0)?;
            assert_eq!(
                next.used(),
                counted(folder.path()).expect("there"),
                "{wrong:?}"
            );
            std::fs::remove_file(folder.path().join(format!("two{}{END}", wrong.trim()))).ok();
        }
        Ok(())
    }

    #[test]
    #[cfg(unix)]
    fn a_folder_that_can_not_be_written_ends_nothing() -> Result<()> {
        let folder = folder();
        let kept = open(&folder.path().join("gone"), 1 << 20)?;
        std::fs::remove_dir(folder.path().join("gone")).expect("it is empty");
        assert_eq!(of(&kept, "one", 1.0)?, 1.0);
        assert_eq!(of(&kept, "one", 2.0)?, 2.0);
        assert_eq!(kept.used(), 0);
        Ok(())
    }
}

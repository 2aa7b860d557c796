//! What a model writes about every example of a set, by one process or shared by several ranks.
//!
//! ```text
//! batches   1 2 3 4 5 …      two ranks: rank 0 reads and writes 1 3 5 …, rank 1 reads and writes 2 4 …; texts are exchanged after each round
//! ```
//! A batch is the same examples whatever the number of ranks, and what is drawn for an example depends on the seed and its position in the
//! set: all ranks have the texts that one process writes, to the bit. Each example is read by one rank alone.

use serde::{Deserialize, Serialize};

use super::evaluation::Condition;
use super::item::Item;
use super::set::EvaluationSet;
use super::shared;
use crate::display::{Progress, Table};
use crate::parallel::{self, group::Group};
use crate::session::check_interrupt;
use crate::train::Unreadable;
use crate::train::unreadable::{LeftOut, MOST};
use crate::vlm::{Beam, Generate, Generation, Prompt, Stopped, Vlm};
use crate::{Error, Result};

/// Examples that are written about together.
const BATCH: usize = 16;

/// The text about one example of a set.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let set = vec![(Image::filled(80, 80, [200, 30, 40])?, vec!["a red square".to_string()])];
/// let written = generate_set(&vlm, &set, |generate| generate.max_new_tokens(4))?;
/// let first: &SetText = &written.texts[0];
/// assert!(first.position == 0 && first.generation.ids.len() <= 4);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct SetText {
    /// Its position in the set.
    pub position: usize,
    /// What was written.
    pub generation: Generation,
}

/// The texts about a set. Shows itself as a table.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let set = vec![(Image::filled(80, 80, [200, 30, 40])?, vec!["a red square".to_string()])];
/// let written: SetTexts = generate_set(&vlm, &set, |generate| generate.max_new_tokens(4))?;
/// assert!(written.unreadable.is_empty());
/// assert!(written.table().render().plain().contains(written.texts[0].generation.text.trim()));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct SetTexts {
    /// One for each example that can be read, in the set's order.
    pub texts: Vec<SetText>,
    /// Examples that can't be read.
    pub unreadable: Vec<Unreadable>,
}

impl SetTexts {
    /// Position, text and its length.
    pub fn table(&self) -> Table {
        let mut table = Table::new(["example", "text", "tokens"])
            .title(format!(
                "What was written about {} examples",
                self.texts.len()
            ))
            .fold_after(60);
        for one in &self.texts {
            let text = one.generation.text.as_str();
            let tokens = one.generation.ids.len();
            table = table.row([one.position.into(), text.into(), tokens.into()]);
        }
        match self.unreadable.len() {
            0 => table,
            count => table.note(crate::train::unreadable::words(count)),
        }
    }
}

/// Writes about every example of a set, in batches: `how` sets up each batch's [`Generate`]. Shows progress.
///
/// Under `mpirun` or `srun` each process reads and writes its part of the batches, and all have all texts, which are those of one process to the
/// bit. Call it on all of them. What is drawn with a temperature depends on the seed and on the example's position.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let vlm = Vlm::tiny(&Device::Cpu)?;
/// let images = [[200, 30, 40], [30, 40, 200]].map(|colour| Image::filled(80, 80, colour));
/// let mut set: Vec<(Image, Vec<String>)> = Vec::new();
/// for image in images {
///     set.push((image?, Vec::new())); // nothing is compared, so no captions are needed
/// }
/// let written = generate_set(&vlm, &set, |generate| generate.temperature(0.8).seed(3).max_new_tokens(5))?;
/// assert_eq!(written.texts.len(), 2);
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// `Parallel` and `Rank` for what goes wrong between several processes; `Interrupted`; `Input` for a set without examples, one of which more than a
/// quarter can't be read, or a `how` that keeps logits; whatever generating reports.
pub fn generate_set(
    vlm: &Vlm,
    set: &dyn EvaluationSet,
    how: impl Fn(Generate) -> Generate,
) -> Result<SetTexts> {
    let group = Group::of(parallel::around()?);
    let written = written(&group, vlm, set, &how);
    group.end(written)
}

/// As [`generate_set`], by the ranks of a group.
fn written(
    group: &Group,
    vlm: &Vlm,
    set: &dyn EvaluationSet,
    how: &dyn Fn(Generate) -> Generate,
) -> Result<SetTexts> {
    let size = set.len();
    let asked = how(vlm.generate_prompts(&[])?);
    let asked = match (size, asked.keeps_logits()) {
        (0, _) => Err(Error::Input("a set without examples".into())),
        (_, true) => Err(Error::Input(
            "the logits of a whole set are not kept: leave keep_logits out, or generate picture by picture".into(),
        )),
        _ => Ok(format!("{size} {}", asked.settings_in_words())),
    };
    shared::same_question(group, vlm, &group.agree(asked)?)?;
    let progress = Progress::new("writing", size);
    let mut found = SetTexts {
        texts: Vec::new(),
        unreadable: Vec::new(),
    };
    let mut left_out = LeftOut::default();
    let mut begin = 0;
    while begin < size {
        let round = begin..size.min(begin + group.ranks() * BATCH);
        let own = round.clone().skip(group.rank() * BATCH).take(BATCH);
        let said = batch(vlm, set, own, how);
        let text = said.and_then(|said| serde_json::to_string(&said).map_err(not_told));
        let texts = match group.ranks() {
            1 => vec![text?],
            _ => group.texts(&group.agree(text)?)?,
        };
        for text in texts {
            for one in serde_json::from_str::<Vec<Said>>(&text).map_err(not_told)? {
                match one {
                    Said::Unreadable { position, why } => {
                        left_out.add_unusable((true, position), Error::Input(why), (MOST, size))?;
                    }
                    Said::Text(one) => found.texts.push(one.text()),
                }
            }
        }
        progress.advance(round.len())?;
        begin = round.end;
    }
    progress.finish("");
    found.unreadable = left_out.list().to_vec();
    Ok(found)
}

fn not_told(error: serde_json::Error) -> Error {
    Error::Parallel(format!("what a rank wrote: {error}"))
}

/// What comes of these positions, in their order.
fn batch(
    vlm: &Vlm,
    set: &dyn EvaluationSet,
    positions: impl Iterator<Item = usize>,
    how: &dyn Fn(Generate) -> Generate,
) -> Result<Vec<Said>> {
    let mut said: Vec<Said> = Vec::new();
    let (mut prompts, mut places): (Vec<Prompt>, Vec<usize>) = Default::default();
    for position in positions {
        check_interrupt()?;
        let read = Item::of(vlm, set, position);
        match read.and_then(|item| item.asked(vlm, Condition::Model, None)) {
            Ok(prompt) => {
                prompts.push(prompt);
                places.push(position);
            }
            Err(error @ (Error::Io { .. } | Error::Image { .. } | Error::Json { .. })) => {
                let why = error.to_string();
                said.push(Said::Unreadable { position, why });
            }
            Err(error) => return Err(error),
        }
    }
    if !prompts.is_empty() {
        let generate = how(vlm.generate_prompts(&prompts)?).drawn_as(&places);
        let made = generate.run_all()?;
        let texts = places.into_iter().zip(made);
        said.extend(texts.map(|(position, one)| Said::Text(Told::of(position, one))));
    }
    Ok(said)
}

/// What a rank tells the others about an example.
#[derive(Serialize, Deserialize)]
enum Said {
    Unreadable { position: usize, why: String },
    Text(Told),
}

/// A text on its way. Scores are bits, so that they arrive as they were.
#[derive(Serialize, Deserialize)]
struct Told {
    position: usize,
    ids: Vec<u32>,
    text: String,
    ended: bool,
    beams: Vec<(Vec<u32>, String, u64)>,
}

impl Told {
    fn of(position: usize, one: Generation) -> Told {
        let beams = one.beams.into_iter();
        Told {
            position,
            ids: one.ids,
            text: one.text,
            ended: one.stopped == Stopped::Eos,
            beams: beams
                .map(|beam| (beam.ids, beam.text, beam.score.to_bits()))
                .collect(),
        }
    }

    fn text(self) -> SetText {
        let stopped = match self.ended {
            true => Stopped::Eos,
            false => Stopped::Length,
        };
        let beams = self.beams.into_iter().map(|(ids, text, score)| Beam {
            ids,
            text,
            score: f64::from_bits(score),
        });
        let generation = Generation::told(self.ids, self.text, stopped, beams.collect());
        SetText {
            position: self.position,
            generation,
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::super::set::EvaluationItem;
    use super::*;
    use crate::parallel::threads;
    use crate::vision::Image;

    /// Pictures of which some can't be read.
    struct Pictures {
        size: usize,
        gone: Vec<usize>,
    }

    impl EvaluationSet for Pictures {
        fn len(&self) -> usize {
            self.size
        }

        fn item(&self, position: usize) -> Result<EvaluationItem> {
            if self.gone.contains(&position) {
                return Err(Error::Io {
                    path: format!("{position}.png").into(),
                    source: std::io::ErrorKind::NotFound.into(),
                });
            }
            let colour = [(position * 37 % 256) as u8, 30, (position * 91 % 256) as u8];
            Ok(EvaluationItem {
                image: Image::filled(64, 64, colour)?,
                query: None,
                references: Vec::new(),
                kind: None,
            })
        }
    }

    type Bits = (usize, Vec<u32>, String, bool, Vec<u64>);

    fn bits(found: &SetTexts) -> Vec<Bits> {
        let one = |one: &SetText| {
            let made = &one.generation;
            let scores = made.beams.iter().map(|beam| beam.score.to_bits());
            let ended = made.stopped == Stopped::Eos;
            (
                one.position,
                made.ids.clone(),
                made.text.clone(),
                ended,
                scores.collect(),
            )
        };
        found.texts.iter().map(one).collect()
    }

    fn on_ranks(
        ranks: usize,
        vlm: &Vlm,
        set: &(impl Fn(usize) -> Pictures + Sync),
        how: &(impl Fn(Generate) -> Generate + Sync),
    ) -> Vec<Result<SetTexts>> {
        std::thread::scope(|scope| {
            let running: Vec<_> = threads(ranks)
                .into_iter()
                .map(|rank| {
                    scope.spawn(move || {
                        let group = Group::of(rank);
                        let vlm = vlm.clone();
                        let found = written(&group, &vlm, &set(group.rank()), how);
                        group.end(found)
                    })
                })
                .collect();
            let ended = running.into_iter().map(|one| one.join().expect("no panic"));
            ended.collect()
        })
    }

    #[test]
    fn ranks_write_what_one_process_writes_to_the_bit() -> Result<()> {
        let vlm = Vlm::tiny(&Device::Cpu)?;
        let drawn = |generate: Generate| generate.temperature(0.9).seed(7).max_new_tokens(5);
        let searched = |generate: Generate| generate.num_beams(2).max_new_tokens(4);
        for size in [1, 16, 41] {
            let gone = if size > 16 { vec![3, 40] } else { vec![] };
            let set = |_: usize| Pictures {
                size,
                gone: gone.clone(),
            };
            let whole = generate_set(&vlm, &set(0), drawn)?;
            assert_eq!(whole.texts.len(), size - gone.len());
            assert_eq!(whole.unreadable.len(), gone.len());
            let best = generate_set(&vlm, &set(0), searched)?;
            for ranks in [2, 3] {
                for found in on_ranks(ranks, &vlm, &set, &drawn) {
                    let found = found?;
                    assert_eq!(bits(&found), bits(&whole), "{size} by {ranks}");
                    assert_eq!(found.unreadable, whole.unreadable);
                }
            }
            for found in on_ranks(2, &vlm, &set, &searched) {
                assert_eq!(bits(&found?), bits(&best));
            }
        }
        Ok(())
    }

    #[test]
    fn draws_are_of_the_example_and_not_of_its_place_in_a_batch() -> Result<()> {
        let vlm = Vlm::tiny(&Device::Cpu)?;
        let image = Image::filled(64, 64, [200, 30, 40])?;
        let alike = vec![(image, Vec::<String>::new()); 2 * BATCH];
        let drawn = |generate: Generate| generate.temperature(1.0).seed(7).max_new_tokens(6);
        let found = generate_set(&vlm, &alike, drawn)?.texts;
        let (first, second) = found.split_at(BATCH);
        let same = first.iter().zip(second);
        let same = same.filter(|(one, other)| one.generation.ids == other.generation.ids);
        assert!(
            same.count() < BATCH / 2,
            "the second batch draws what the first one drew"
        );
        Ok(())
    }

    #[test]
    fn what_can_not_be_written_by_all_ends_all() -> Result<()> {
        let vlm = Vlm::tiny(&Device::Cpu)?;
        let usual = |generate: Generate| generate.max_new_tokens(2);
        let more = |rank: usize| Pictures {
            size: 20 + rank,
            gone: vec![],
        };
        for found in on_ranks(2, &vlm, &more, &usual) {
            let said = found
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default();
            assert!(
                said.contains("rank 1 of 2") && said.contains("set"),
                "{said}"
            );
        }
        let most = |_: usize| Pictures {
            size: 20,
            gone: (0..9).collect(),
        };
        for found in on_ranks(2, &vlm, &most, &usual) {
            let said = found
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default();
            assert!(
                said.contains("0.png") || said.contains("can't be read"),
                "{said}"
            );
        }
        let logits = generate_set(&vlm, &more(0), |generate| generate.keep_logits());
        assert!(logits.is_err_and(|error| error.to_string().contains("keep_logits")));
        Ok(())
    }
}

//! Ranks that end together: what each rank's work came to → one outcome for all.
//!
//! A rank that failed alone would leave the others waiting in the next sum for ever. So before each operation every rank says one word:
//! that it goes on and with which operation, that it was interrupted, or that it failed. The first rank that failed then tells the
//! others why, an interrupt of one is an interrupt of all, and ranks that come to different operations are told so. What leaves
//! without having told (a panic) ends the job by `abort`, the last means.
//!
//! ```text
//! rank 0: work ─ agree ──┬── sum ─ agree …          all words are "agree", "sum": go on
//! rank 1: work ─ failed ─┘                          rank 1's word is "failed": it tells why, and both end
//! ```

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use candle_core::{Device, Tensor};

use super::{Collective, GpuSums};
use crate::{Error, Result, fnv, notes};

/// What a rank's word begins with, in its lowest bits; that of the operation follows.
const GOES_ON: u64 = 0;
const INTERRUPTED: u64 = 1;
const FAILED: u64 = 2;
const STATE: u64 = 3;

/// Whether the last that this process did with others was to agree on an end.
#[cfg_attr(not(unix), allow(dead_code))] // what only an MPI library asks
static ENDED_TOGETHER: AtomicBool = AtomicBool::new(false);

/// Whether all ranks know that there was a failure or an interrupt, and nothing was begun together since.
#[cfg_attr(not(unix), allow(dead_code))] // what only an MPI library asks
pub(super) fn ended_together() -> bool {
    ENDED_TOGETHER.load(Ordering::SeqCst)
}

/// The ranks of one run, as seen by one of them.
pub(crate) struct Group {
    ranks: Arc<dyn Collective>,
    /// Nothing is agreed on any more: the run has ended, and all know.
    over: Cell<bool>,
    /// Seconds that this rank waited for others.
    waited: Cell<f64>,
}

impl Group {
    pub(crate) fn of(ranks: Arc<dyn Collective>) -> Self {
        ENDED_TOGETHER.store(false, Ordering::SeqCst);
        Self {
            ranks,
            over: Cell::new(false),
            waited: Cell::new(0.0),
        }
    }

    pub(crate) fn rank(&self) -> usize {
        self.ranks.rank()
    }

    pub(crate) fn ranks(&self) -> usize {
        self.ranks.ranks()
    }

    /// Whether this rank is the one that shows, logs and saves.
    pub(crate) fn leads(&self) -> bool {
        self.rank() == 0
    }

    pub(crate) fn library(&self) -> String {
        self.ranks.library()
    }

    /// Seconds that this rank waited for the others so far.
    pub(crate) fn waited(&self) -> f64 {
        self.waited.get()
    }

    /// This rank's part of `count` things: the first ranks have one more where they can't be dealt evenly.
    pub(crate) fn part(&self, count: usize) -> std::ops::Range<usize> {
        let (each, more) = (count / self.ranks(), count % self.ranks());
        let first = self.rank() * each + self.rank().min(more);
        first..first + each + usize::from(self.rank() < more)
    }

    /// The work's result, if it was done on every rank. After the run has ended it is the work's own.
    ///
    /// # Errors
    /// That of the work where it failed here; `Rank` with the message of the first rank where it failed; `Interrupted` where a rank
    /// was.
    pub(crate) fn agree<T>(&self, outcome: Result<T>) -> Result<T> {
        if self.ranks() == 1 || self.over.get() {
            return outcome;
        }
        self.meet(outcome, "agree", 0)
    }

    /// Tells all ranks how this one's work ended, and what it does next; the work's result, if all do the same.
    fn meet<T>(&self, outcome: Result<T>, next: &str, length: usize) -> Result<T> {
        if self.over.get() {
            return Err(Error::Parallel(
                "the ranks have agreed on the run's end, and do nothing together any more".into(),
            ));
        }
        let operation = fnv::step(fnv::bytes(fnv::START, next.as_bytes()), length as u64);
        let state = match &outcome {
            Ok(_) => GOES_ON,
            Err(Error::Interrupted) => INTERRUPTED,
            Err(_) => FAILED,
        };
        let begun = Instant::now();
        let words = self.words((operation & !STATE) | state)?;
        let waited = self.waited.get() + begun.elapsed().as_secs_f64();
        self.waited.set(waited);
        if let Some(rank) = words.iter().position(|word| word & STATE == FAILED) {
            self.ended_by_fault();
            let own = match &outcome {
                Err(error) => error.to_string(),
                Ok(_) => String::new(),
            };
            let message = self.spread(rank, &own)?;
            return match outcome {
                Err(error) if !matches!(error, Error::Interrupted) => Err(error),
                _ => Err(Error::Rank {
                    rank,
                    ranks: self.ranks(),
                    message,
                }),
            };
        }
        if words.iter().any(|word| word & STATE == INTERRUPTED) {
            self.ended_by_fault();
            return Err(Error::Interrupted);
        }
        if let Some(rank) = words.iter().position(|word| *word != words[0]) {
            self.ended_by_fault();
            return Err(Error::Rank {
                rank,
                ranks: self.ranks(),
                message: format!(
                    "it is at another place of the program than rank 0 (rank {} is at {next}): let all ranks do the same",
                    self.rank()
                ),
            });
        }
        outcome
    }

    /// Nothing is done together any more, and all know why.
    fn ended_by_fault(&self) {
        self.over.set(true);
        ENDED_TOGETHER.store(true, Ordering::SeqCst);
    }

    /// One word of each rank, by rank.
    fn words(&self, own: u64) -> Result<Vec<u64>> {
        let mut all = vec![0; self.ranks()];
        all[self.rank()] = own;
        self.ranks.sum_u64(&mut all)?;
        Ok(all)
    }

    /// The text of one rank, on all, which know that it comes.
    fn spread(&self, rank: usize, own: &str) -> Result<String> {
        let mut length = [0];
        if self.rank() == rank {
            length[0] = own.len() as u64;
        }
        self.ranks.sum_u64(&mut length)?;
        let mut bytes = vec![0; length[0] as usize];
        if self.rank() == rank {
            bytes.copy_from_slice(own.as_bytes());
        }
        self.ranks.broadcast(&mut bytes, rank)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The text of rank 0, on all.
    ///
    /// # Errors
    /// As [`Group::agree`], here and below: every operation begins with it.
    pub(crate) fn text_of_first(&self, own: &str) -> Result<String> {
        self.meet(Ok(()), "text", 0)?;
        self.spread(0, own)
    }

    /// The text of each rank, by rank, on all.
    pub(crate) fn texts(&self, own: &str) -> Result<Vec<String>> {
        self.meet(Ok(()), "texts", 0)?;
        (0..self.ranks())
            .map(|rank| self.spread(rank, own))
            .collect()
    }

    /// One word of each rank, by rank.
    pub(crate) fn gather(&self, own: u64) -> Result<Vec<u64>> {
        self.meet(Ok(()), "gather", 0)?;
        self.words(own)
    }

    /// Refuses ranks that differ from the first one in something: each brings a hash of it.
    ///
    /// # Errors
    /// `Rank`, the same on all ranks, naming the first that differs and in what.
    pub(crate) fn same(&self, what: &[(&str, u64)], advice: &str) -> Result<()> {
        for (name, own) in what {
            let all = self.gather(*own)?;
            if let Some(rank) = all.iter().position(|other| *other != all[0]) {
                self.ended_by_fault();
                return Err(Error::Rank {
                    rank,
                    ranks: self.ranks(),
                    message: format!("its {name} is not that of rank 0: {advice}"),
                });
            }
        }
        Ok(())
    }

    /// The same of something that is told as it is.
    ///
    /// # Errors
    /// As [`Group::same`].
    pub(super) fn same_text(&self, name: &str, own: &str, advice: &str) -> Result<()> {
        let all = self.texts(own)?;
        let Some(rank) = all.iter().position(|other| *other != all[0]) else {
            return Ok(());
        };
        self.ended_by_fault();
        Err(Error::Rank {
            rank,
            ranks: self.ranks(),
            message: format!(
                "its {name} is {}, that of rank 0 is {}: {advice}",
                all[rank], all[0]
            ),
        })
    }

    /// The sum of each value over all ranks.
    pub(crate) fn sum_f32(&self, values: &mut [f32]) -> Result<()> {
        self.meet(Ok(()), "sum of f32", values.len())?;
        self.ranks.sum_f32(values)
    }

    /// The ranks' GPUs, where all of them reach each other: every rank asks, each for its own GPU.
    pub(crate) fn on_gpus(&self, device: &Device) -> Result<Option<Arc<dyn GpuSums>>> {
        self.meet(Ok(()), "GPUs", 0)?;
        self.ranks.on_gpus(device)
    }

    /// The sum of each value over all ranks, on their GPUs.
    pub(crate) fn sum_on(&self, gpus: &dyn GpuSums, values: &Tensor) -> Result<Tensor> {
        self.meet(Ok(()), "sum on GPUs", values.elem_count())?;
        gpus.sum(values)
    }

    /// As [`Group::sum_f32`].
    pub(crate) fn sum_f64(&self, values: &mut [f64]) -> Result<()> {
        self.meet(Ok(()), "sum of f64", values.len())?;
        self.ranks.sum_f64(values)
    }

    /// As [`Group::sum_f32`].
    pub(crate) fn sum_u64(&self, values: &mut [u64]) -> Result<()> {
        self.meet(Ok(()), "sum of u64", values.len())?;
        self.ranks.sum_u64(values)
    }

    /// Replaces the bytes of all ranks by those of rank 0.
    pub(crate) fn broadcast(&self, bytes: &mut [u8]) -> Result<()> {
        self.meet(Ok(()), "broadcast", bytes.len())?;
        self.ranks.broadcast(bytes, 0)
    }

    /// The work's result at the run's end, which all ranks reach together: as [`Group::agree`], but also after all have agreed on an
    /// end, so that no rank goes before the last one has saved what it has. The first failure is the one that counts.
    pub(crate) fn end<T>(&self, outcome: Result<T>) -> Result<T> {
        if self.ranks() == 1 {
            return outcome;
        }
        if !self.over.get() {
            let outcome = self.meet(outcome, "end", 0);
            self.over.set(true);
            return outcome;
        }
        let begun = Instant::now();
        self.words(0)?;
        self.waited
            .set(self.waited.get() + begun.elapsed().as_secs_f64());
        outcome
    }

    /// The run has ended, in the same way on all ranks.
    pub(crate) fn finish(&self) {
        self.over.set(true);
    }
}

/// Work of which all ranks share the outcome: what one of them can't do, none has done.
///
/// # Errors
/// As [`super::world`] and [`Group::agree`], and whatever the work reports.
pub(crate) fn together<T>(work: impl FnOnce(&Group) -> Result<T>) -> Result<T> {
    let group = Group::of(super::around()?);
    let outcome = work(&group);
    group.end(outcome)
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.ranks() == 1 || self.over.get() {
            return;
        }
        let how = match std::thread::panicking() {
            true => "panicked",
            false => "left the run without a word to the others",
        };
        notes::say(&format!(
            "rank {} of {} {how}: the whole job ends, the last checkpoint stays as it is",
            self.rank(),
            self.ranks()
        ));
        self.ranks.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parallel::{alone, threads};

    /// What `work` comes to on each of some ranks.
    fn on_ranks<T: Send>(ranks: usize, work: impl Fn(Group) -> T + Sync) -> Vec<T> {
        let work = &work;
        std::thread::scope(|scope| {
            let running: Vec<_> = threads(ranks)
                .into_iter()
                .map(|rank| scope.spawn(move || work(Group::of(rank))))
                .collect();
            running
                .into_iter()
                .map(|one| one.join().expect("no panic"))
                .collect()
        })
    }

    #[test]
    fn parts_cover_everything_once() {
        for (ranks, count) in [(1, 5), (2, 8), (3, 8), (4, 3), (5, 0)] {
            let parts = on_ranks(ranks, |group| {
                group.finish();
                group.part(count)
            });
            let all: Vec<usize> = parts.into_iter().flatten().collect();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_error_of_one_rank_is_told_to_all_and_keeps_its_own_kind_there() {
        let outcomes = on_ranks(3, |group| {
            group.agree(Ok(())).expect("all is well so far");
            let own = match group.rank() {
                1 => Err(Error::Config("no room on the disk".into())),
                2 => Err(Error::Interrupted),
                _ => Ok(()),
            };
            let agreed = group.agree(own);
            // What is agreed on once is not agreed on again.
            group.agree(agreed)
        });
        for (rank, outcome) in outcomes.into_iter().enumerate() {
            match (rank, outcome) {
                (1, Err(Error::Config(text))) => assert_eq!(text, "no room on the disk"),
                (0 | 2, Err(error @ Error::Rank { rank: 1, .. })) => {
                    let text = error.to_string();
                    assert!(
                        text.contains("rank 1 of 3") && text.contains("no room"),
                        "{text}"
                    );
                }
                (rank, other) => panic!("rank {rank}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_interrupt_of_one_rank_is_one_of_all() {
        let outcomes = on_ranks(2, |group| {
            let own = match group.rank() {
                1 => Err(Error::Interrupted),
                _ => Ok(()),
            };
            group.agree(own)
        });
        let interrupted = |one: &Result<()>| matches!(one, Err(Error::Interrupted));
        assert!(outcomes.iter().all(interrupted), "{outcomes:?}");
    }

    #[test]
    fn a_rank_that_goes_without_a_word_ends_the_others() {
        let outcomes = on_ranks(2, |group| match group.rank() {
            0 => group.agree(Ok(())),
            _ => Ok(()), // dropped here
        });
        let error = outcomes.into_iter().next().expect("two ranks");
        assert!(matches!(error, Err(Error::Rank { rank: 1, .. })));
    }

    #[test]
    fn a_rank_that_differs_is_named_with_what() {
        let outcomes = on_ranks(3, |group| {
            let settings = u64::from(group.rank() == 2);
            group.same(&[("version", 7), ("settings", settings)], "start all alike")
        });
        for outcome in outcomes {
            let text = outcome.unwrap_err().to_string();
            assert!(
                text.contains("rank 2") && text.contains("settings"),
                "{text}"
            );
        }
    }

    #[test]
    fn ranks_at_different_places_are_told_instead_of_waiting() {
        let outcomes = on_ranks(2, |group| match group.rank() {
            0 => group.sum_f64(&mut [1.0, 2.0]),
            _ => group.agree(Ok(())),
        });
        for outcome in outcomes {
            let text = outcome.unwrap_err().to_string();
            assert!(text.contains("another place"), "{text}");
        }
    }

    #[test]
    fn a_failure_is_told_to_ranks_that_are_at_a_sum_and_all_wait_for_the_end() {
        let outcomes = on_ranks(2, |group| {
            let outcome = match group.rank() {
                0 => group.sum_f32(&mut [1.0; 5]),
                _ => group.agree(Err(Error::Config("no room".into()))),
            };
            // Nothing is done together after that, but the end is.
            let after = group.gather(3).is_err();
            (group.end(outcome), after)
        });
        let [first, second] = &outcomes[..] else {
            panic!("two ranks")
        };
        assert!(matches!(first, (Err(Error::Rank { rank: 1, .. }), true)));
        assert!(matches!(second, (Err(Error::Config(_)), true)));
    }

    #[test]
    fn one_process_agrees_with_itself() {
        let group = Group::of(alone());
        let failed = group.agree::<()>(Err(Error::Interrupted));
        assert!(matches!(failed, Err(Error::Interrupted)));
        assert!(group.agree(Ok(5)).is_ok());
        assert_eq!(group.part(7), 0..7);
    }
}

//! What more machines would bring: seconds of a step and bytes of its gradients → time per step over N ranks, and where it stops paying.
//!
//! ```text
//! step(N) = compute + what of exchange(N) no computing hides
//! exchange(N) = messages · 2 ⌈log₂ N⌉ · latency  +  2 (N − 1) / N · bytes / rate        gradients in f32, 4 bytes a value
//! ```
//! The second line is the all-reduce by halving and doubling (Rabenseifner 2004), which MPI libraries take for long messages; Thakur, Rabenseifner
//! and Gropp 2005 compare it with others. Each rank computes its own part of a batch that grows with the ranks. What the model leaves out: ranks
//! of unequal speed (the slowest sets the pace), and several ranks that share one machine's network.

use std::time::Instant;

use super::Collective;
use crate::display::facts::{debug_by_first_line, shown_by_fields};
use crate::display::{Cell, MimeBundle, Render, Table, containers, number};
use crate::train::StepRecord;
use crate::{Error, Result};

/// Bytes of a value that is summed.
const BYTES: f64 = 4.0;
/// Below this share of computing more ranks are mostly waiting.
const PAYS: f64 = 0.5;
/// Values of the short and of the long all-reduce that measure a link.
const SHORT: usize = 1;
const LONG: usize = 1 << 22;
/// Rounds of each; the median counts.
const ROUNDS: usize = 9;

/// What lies between machines.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let ours = Link::new("our cluster", 1.1e9, 20e-6)?; // 1.1 GB/s, 20 µs
/// assert!(ours.bytes_per_second > Link::usual()[0].bytes_per_second);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// What it is called.
    pub name: String,
    /// How fast each machine sends, while it receives as fast.
    pub bytes_per_second: f64,
    /// From the first byte sent to the first received, through the program's library.
    pub latency_seconds: f64,
}

impl Link {
    /// A link of these figures.
    ///
    /// # Errors
    /// `Input` for a rate that is not above 0, or a latency below 0.
    pub fn new(
        name: impl Into<String>,
        bytes_per_second: f64,
        latency_seconds: f64,
    ) -> Result<Link> {
        let (rate, latency) = (bytes_per_second, latency_seconds);
        if !(rate.is_finite() && rate > 0.0 && latency.is_finite() && latency >= 0.0) {
            return Err(Error::Input(format!(
                "a link sends bytes (more than 0 a second) after a latency (0 s or more), and these are {rate} and {latency}"
            )));
        }
        Ok(Link {
            name: name.into(),
            bytes_per_second,
            latency_seconds,
        })
    }

    /// Links as they are sold: Ethernet of 1, 10 and 100 Gb/s and InfiniBand HDR of 200 Gb/s, at nine tenths of the rate on the label, with 30,
    /// 20, 10 and 2 µs through an MPI library. Assumed, not measured: [`Link::measure`] says what yours does.
    pub fn usual() -> Vec<Link> {
        [
            ("Ethernet 1 Gb/s", 1.0, 30.0),
            ("Ethernet 10 Gb/s", 10.0, 20.0),
            ("Ethernet 100 Gb/s", 100.0, 10.0),
            ("InfiniBand 200 Gb/s", 200.0, 2.0),
        ]
        .map(|(name, gigabits, microseconds)| Link {
            name: name.to_owned(),
            bytes_per_second: 0.9 * gigabits * 1e9 / 8.0,
            latency_seconds: microseconds / 1e6,
        })
        .into()
    }

    /// What lies between the ranks of this run, by the time that a short and a long sum over them take. All ranks call it.
    ///
    /// # Errors
    /// `Parallel` when there is one rank only; as [`Collective::sum_f32`].
    pub fn measure(ranks: &dyn Collective) -> Result<Link> {
        let count = ranks.ranks();
        if count < 2 {
            return Err(Error::Parallel(
                "a link lies between several ranks, and this is a run of one: start it by `mpirun -n 2`".into(),
            ));
        }
        let median = |values: usize| -> Result<f64> {
            let mut buffer = vec![0f32; values]; // [values]
            let mut seconds = Vec::new();
            // One round more: the first connects.
            for _ in 0..=ROUNDS {
                ranks.sum_u64(&mut [0])?;
                let begun = Instant::now();
                ranks.sum_f32(&mut buffer)?;
                seconds.push(begun.elapsed().as_secs_f64());
            }
            seconds.remove(0);
            seconds.sort_by(f64::total_cmp);
            // The slowest rank's: the others waited for it.
            let mut sum = [seconds[ROUNDS / 2]];
            ranks.sum_f64(&mut sum)?;
            Ok(sum[0] / count as f64)
        };
        let (short, long) = (median(SHORT)?, median(LONG)?);
        let moved = moved(count) * LONG as f64 * BYTES;
        Link::new(
            format!("{} between {count} ranks, measured", ranks.library()),
            moved / (long - short).max(1e-9),
            short / rounds(count),
        )
    }
}

/// How often a rank waits for another in one all-reduce.
fn rounds(ranks: usize) -> f64 {
    2.0 * f64::from(ranks.next_power_of_two().ilog2())
}

/// How often a rank sends each byte in one all-reduce.
fn moved(ranks: usize) -> f64 {
    2.0 * (ranks as f64 - 1.0) / ranks as f64
}

/// A run whose batch is divided over ranks. Shows itself as a table up to 64 ranks over the usual links.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// // Rank-64 LoRA: 66 million values that train, 20 s a step on one machine.
/// let plan = ScalingPlan::new("LoRA", 20.0, 66_000_000)?;
/// let slow = &Link::usual()[0];
/// assert!(plan.step(slow, 64).efficiency() > 0.75);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct ScalingPlan {
    name: String,
    compute_seconds: f64,
    values: u64,
    messages: usize,
    hidden: f64,
    accumulation: usize,
}

impl ScalingPlan {
    /// A run whose step computes for so long on one rank, and trains so many values.
    ///
    /// # Errors
    /// `Input` when it computes for no time, or nothing trains.
    pub fn new(name: impl Into<String>, compute_seconds: f64, values: u64) -> Result<ScalingPlan> {
        if !(compute_seconds.is_finite() && compute_seconds > 0.0 && values > 0) {
            return Err(Error::Input(format!(
                "a step computes for some time and trains some values, and these are {compute_seconds} s and {values}"
            )));
        }
        Ok(ScalingPlan {
            name: name.into(),
            compute_seconds,
            values,
            messages: 1,
            hidden: 0.0,
            accumulation: 1,
        })
    }

    /// The same with the computing that was measured: the median of these steps of one process ([`Trainer::records`](crate::train::Trainer::records),
    /// `Run::records`), without the first, which warms up.
    ///
    /// ```
    /// use glassbox_prelude::prelude::*;
    /// # fn main() -> Result<()> {
    /// let vlm = Vlm::tiny(&Device::Cpu)?;
    /// let set = vec![Example::new(&Image::filled(64, 64, [200, 30, 40])?, "a red square")];
    /// let mut trainer = Trainer::new(TrainerSettings { steps: 4, batch_size: 1, ..TrainerSettings::tour() })?;
    /// trainer.fit(&vlm, &set, &set)?;
    /// let values = vlm.trainable_parameters().iter().map(|one| one.tensor.elem_count() as u64).sum();
    /// let plan = ScalingPlan::of_steps("tiny", trainer.records(), values)?;
    /// // With the steps of a run of 2 ranks, such as `Run::open("runs/two")?.records()`:
    /// // let link = plan.link_of("ours", 2, run.records())?;  plan.table(&[link], 64)
    /// assert!(plan.step(&Link::usual()[0], 1).compute > 0.0);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// `Input` for fewer than 3 steps, for steps of several ranks, or when nothing trains.
    pub fn of_steps(
        name: impl Into<String>,
        steps: &[StepRecord],
        values: u64,
    ) -> Result<ScalingPlan> {
        if let Some(step) = steps.iter().find(|step| !step.waited_for_ranks.is_empty()) {
            return Err(Error::Input(format!(
                "step {} was made by {} ranks: the computing is that of one process's steps, and `link_of` takes those of several",
                step.step,
                step.waited_for_ranks.len()
            )));
        }
        ScalingPlan::new(name, median_step(steps)?, values)
    }

    /// What lies between machines, by the steps of a run over them: the link whose sums take what a step (each rank with as many samples as the one
    /// process had) took longer. The latency is in its rate. Ranks that share one machine's cores also compute slower: that is in it too.
    ///
    /// # Errors
    /// `Input` for fewer than 3 steps, for steps of another number of ranks, or when they took no longer than those of one process.
    pub fn link_of(
        &self,
        name: impl Into<String>,
        ranks: usize,
        steps: &[StepRecord],
    ) -> Result<Link> {
        let mut steps_of = steps.iter();
        let other = steps_of.find(|step| ranks < 2 || step.waited_for_ranks.len() != ranks);
        if let Some(step) = other {
            return Err(Error::Input(format!(
                "step {} was made by {}, and the link is asked for between {ranks}: give the steps of a run of at least 2 ranks",
                step.step,
                containers::plural(step.waited_for_ranks.len().max(1), "rank")
            )));
        }
        let seconds = median_step(steps)?;
        let compute = self.compute_seconds * self.accumulation as f64;
        let exchange = seconds - compute;
        if exchange <= 0.0 {
            return Err(Error::Input(format!(
                "a step of {ranks} ranks took {}, and one process computes for {}: nothing is left for the sums. Each rank is to have as many \
                 samples as the one process had, on a machine as fast",
                number::time(seconds),
                number::time(compute)
            )));
        }
        Link::new(
            name,
            moved(ranks) * self.values as f64 * BYTES / exchange,
            0.0,
        )
    }

    /// So many sums a step, as of buckets of gradients; at least one.
    pub fn messages(mut self, messages: usize) -> ScalingPlan {
        self.messages = messages.max(1);
        self
    }

    /// The share of computing during which sums may go on, such as 0.5 where they begin with the backward pass.
    pub fn hidden(mut self, share: f64) -> ScalingPlan {
        self.hidden = share.clamp(0.0, 1.0);
        self
    }

    /// So many batches of each rank before their gradients are summed; at least one.
    pub fn accumulation(mut self, batches: usize) -> ScalingPlan {
        self.accumulation = batches.max(1);
        self
    }

    /// The time of a step over so many ranks.
    pub fn step(&self, link: &Link, ranks: usize) -> StepTime {
        let ranks = ranks.max(1);
        let bytes = self.values as f64 * BYTES;
        let compute = self.compute_seconds * self.accumulation as f64;
        let waits = self.messages as f64 * rounds(ranks) * link.latency_seconds;
        let exchange = waits + moved(ranks) * bytes / link.bytes_per_second;
        // Sums go on beside the last batch's backward pass only.
        let covered = self.compute_seconds * self.hidden;
        StepTime {
            ranks,
            compute,
            exchange,
            seconds: compute + (exchange - covered).max(0.0),
        }
    }

    /// The most of these ranks (powers of two up to `most`) with which at least half of a step computes.
    pub fn pays_to(&self, link: &Link, most: usize) -> usize {
        let paying = powers(most).filter(|ranks| self.step(link, *ranks).efficiency() >= PAYS);
        paying.last().unwrap_or(1)
    }

    /// How many batches are to be accumulated so that such a share of a step computes; none for a share that is not between 0 and 1.
    pub fn accumulation_for(&self, link: &Link, ranks: usize, efficiency: f64) -> Option<usize> {
        if !(efficiency > 0.0 && efficiency < 1.0) {
            return None;
        }
        let one = self.clone().accumulation(1).step(link, ranks);
        let waiting = one.seconds - one.compute;
        let needed = waiting * efficiency / (1.0 - efficiency) / one.compute;
        Some((needed.ceil() as usize).max(1))
    }

    /// Rows of ranks (1, 2, 4 … `most`); for each link seconds a step and how many times as many samples a second as one rank.
    pub fn table(&self, links: &[Link], most: usize) -> Table {
        let names = links.iter().map(|link| link.name.clone());
        let mut table = Table::new(["ranks"]).headings(names).title(format!(
            "{}: {} of computing and {} of gradients a step",
            self.name,
            number::time(self.compute_seconds * self.accumulation as f64),
            number::bytes((self.values as f64 * BYTES) as u64)
        ));
        for ranks in powers(most) {
            let mut cells = vec![Cell::figure(ranks.to_string())];
            for link in links {
                let step = self.step(link, ranks);
                let written = format!(
                    "{}, {} ×",
                    number::time(step.seconds),
                    number::float(step.times())
                );
                cells.push(match step.efficiency() >= PAYS {
                    true => Cell::figure(written),
                    false => Cell::bad(written).among_figures(),
                });
            }
            table.push(cells);
        }
        let notes = links.iter().map(|link| {
            let pays = self.pays_to(link, most);
            let more = self.accumulation_for(link, most, 0.8);
            let batches = match more {
                Some(more) if more > 1 => format!(
                    ", and accumulating {} makes it 80% computing with {most}",
                    containers::plural(more, "batch").replace("batchs", "batches")
                ),
                _ => String::new(),
            };
            format!(
                "{}: at least half of a step computes up to {}{batches}",
                link.name,
                containers::plural(pays, "rank")
            )
        });
        table.note(notes.collect::<Vec<_>>().join("; "))
    }
}

/// The median length of steps in seconds, without the first.
fn median_step(steps: &[StepRecord]) -> Result<f64> {
    let pairs = steps.windows(2);
    let mut seconds: Vec<f64> = pairs
        .map(|pair| pair[1].seconds - pair[0].seconds)
        .collect();
    if seconds.len() < 2 {
        return Err(Error::Input(format!(
            "how long a step takes is the median of some, and these are {}: give at least 3",
            steps.len()
        )));
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}

/// 1, 2, 4 … up to `most`.
fn powers(most: usize) -> impl Iterator<Item = usize> {
    let next = |ranks: &usize| ranks.checked_mul(2);
    std::iter::successors(Some(1usize), next).take_while(move |ranks| *ranks <= most.max(1))
}

/// The time of a step over some ranks, as it is expected.
///
/// ```
/// use glassbox_prelude::prelude::*;
/// let step = StepTime { ranks: 4, compute: 3.0, exchange: 1.0, seconds: 4.0 };
/// assert_eq!((step.efficiency(), step.times()), (0.75, 3.0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepTime {
    /// How many ranks.
    pub ranks: usize,
    /// Seconds in which each computes.
    pub compute: f64,
    /// Seconds in which gradients are summed, computing or not.
    pub exchange: f64,
    /// Seconds of the step.
    pub seconds: f64,
}

impl StepTime {
    /// The share of the step that computes.
    pub fn efficiency(&self) -> f64 {
        self.compute / self.seconds
    }

    /// How many times as many samples a second as one rank makes.
    pub fn times(&self) -> f64 {
        self.ranks as f64 * self.efficiency()
    }
}

shown_by_fields!(Link, StepTime);
debug_by_first_line!(ScalingPlan);

impl Render for ScalingPlan {
    fn render(&self) -> MimeBundle {
        self.table(&Link::usual(), 64).render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) -> bool {
        (found - expected).abs() < 1e-9 * expected.abs().max(1.0)
    }

    /// 1 GB of gradients, 1 GB/s, 1 ms, 4 s of computing: by hand.
    #[test]
    fn a_step_is_what_is_computed_by_hand() -> Result<()> {
        let link = Link::new("link", 1e9, 1e-3)?;
        let plan = ScalingPlan::new("plan", 4.0, 250_000_000)?;
        for (ranks, exchange) in [
            (1, 0.0),
            (2, 0.002 + 1.0),
            (4, 0.004 + 1.5),
            (8, 0.006 + 1.75),
            (5, 0.006 + 1.6), // as many rounds as 8
        ] {
            let step = plan.step(&link, ranks);
            assert!(close(step.exchange, exchange), "{ranks}: {step:?}");
            assert!(close(step.seconds, 4.0 + exchange), "{ranks}: {step:?}");
            assert!(close(step.times(), ranks as f64 * 4.0 / (4.0 + exchange)));
        }
        let buckets = plan.clone().messages(10).step(&link, 4);
        assert!(close(buckets.exchange, 0.04 + 1.5), "{buckets:?}");
        // Half of 4 s covers all of 1.504 s; a quarter all but 0.504 s.
        assert!(close(plan.clone().hidden(0.5).step(&link, 4).seconds, 4.0));
        let quarter = plan.clone().hidden(0.25).step(&link, 4);
        assert!(close(quarter.seconds, 4.504), "{quarter:?}");
        let four = plan.accumulation(4).step(&link, 4);
        assert!(
            close(four.compute, 16.0) && close(four.seconds, 17.504),
            "{four:?}"
        );
        Ok(())
    }

    #[test]
    fn where_it_stops_paying_and_what_accumulation_mends_are_computed_by_hand() -> Result<()> {
        let link = Link::new("link", 1e9, 0.0)?;
        // Exchange 1, 1.5, 1.75, 1.875 s with 2, 4, 8, 16 ranks.
        let plan = ScalingPlan::new("plan", 1.6, 250_000_000)?;
        assert_eq!(plan.pays_to(&link, 64), 4);
        assert_eq!(plan.pays_to(&link, 2), 2);
        // 80%: 4 s of computing for each second of waiting; 1.75 · 4 / 1.6 = 4.375 batches.
        assert_eq!(plan.accumulation_for(&link, 8, 0.8), Some(5));
        let step = |batches| {
            plan.clone()
                .accumulation(batches)
                .step(&link, 8)
                .efficiency()
        };
        assert!(step(5) >= 0.8 && step(4) < 0.8);
        assert_eq!(plan.accumulation_for(&link, 1, 0.8), Some(1));
        for share in [0.0, 1.0, -1.0, f64::NAN] {
            assert_eq!(plan.accumulation_for(&link, 8, share), None);
        }
        let text = plan.table(&[link], 8).render().plain().to_owned();
        assert!(
            text.contains("up to 4 ranks") && text.contains("accumulating 5 batches"),
            "{text}"
        );
        Ok(())
    }

    /// The figures of `docs/clusters.md`: Phi-3-mini with LoRA of rank 64 on its MLP, ViT-B/16 with rank 8, a linear projector; and all of it.
    #[test]
    fn the_tables_of_the_docs_are_those_of_the_plan() -> Result<()> {
        let links = Link::usual();
        let phi = 32 * 64 * ((3072 + 2 * 8192) + (8192 + 3072));
        let lora = ScalingPlan::new("LoRA", 68.63, phi + 884_736 + 769 * 3072)?;
        let full = ScalingPlan::new("full", 103.0, 3_909_831_168)?;
        for (plan, seconds, pays) in [
            (&lora, ["73.3", "69.1", "68.7", "68.7"], [64, 64, 64, 64]),
            (&full, ["376.7", "130.4", "105.7", "104.4"], [1, 64, 64, 64]),
        ] {
            for ((link, seconds), pays) in links.iter().zip(seconds).zip(pays) {
                let step = plan.step(link, 64);
                assert_eq!(format!("{:.1}", step.seconds), seconds, "{link:?}");
                assert_eq!(plan.pays_to(link, 64), pays, "{link:?}");
            }
        }
        let batches = links
            .iter()
            .map(|link| full.accumulation_for(link, 64, 0.8));
        let expected = [11, 2, 1, 1].map(Some);
        assert_eq!(batches.collect::<Vec<_>>(), expected);
        Ok(())
    }

    #[test]
    fn figures_that_are_none_are_refused() {
        for (rate, latency) in [
            (0.0, 0.0),
            (f64::NAN, 0.0),
            (1.0, -1.0),
            (f64::INFINITY, 0.0),
        ] {
            assert!(Link::new("x", rate, latency).is_err(), "{rate} {latency}");
        }
        for (seconds, values) in [(0.0, 1), (1.0, 0), (f64::NAN, 1)] {
            assert!(ScalingPlan::new("x", seconds, values).is_err());
        }
        assert!(Link::measure(&*crate::parallel::alone()).is_err());
    }

    /// Every rank comes to the same figures, and they are those of a link.
    #[test]
    fn a_link_between_threads_is_measured() -> Result<()> {
        let ranks = crate::parallel::threads(2);
        let links = std::thread::scope(|scope| {
            let each = ranks.iter();
            let each = each.map(|rank| scope.spawn(move || Link::measure(&**rank)));
            let each: Vec<_> = each.collect();
            let joined = each
                .into_iter()
                .map(|thread| thread.join().expect("no panic"));
            joined.collect::<Result<Vec<Link>>>()
        })?;
        assert_eq!(links[0], links[1]);
        Ok(())
    }

    /// Steps of so many seconds each, the first of ten times as many, made by some ranks.
    fn steps(ranks: usize, seconds: f64) -> Vec<StepRecord> {
        let waited = if ranks > 1 { vec![0.0; ranks] } else { vec![] };
        let one = |step: usize| StepRecord {
            step,
            seconds: seconds * (step + 9) as f64,
            waited_for_ranks: waited.clone(),
            ..StepRecord::default()
        };
        (1..=5).map(one).collect()
    }

    #[test]
    fn a_plan_of_measured_steps_gives_them_back_and_expects_more_ranks_by_them() -> Result<()> {
        let plan = ScalingPlan::of_steps("measured", &steps(1, 2.0), 250_000_000)?;
        let link = plan.link_of("ours", 2, &steps(2, 3.0))?;
        // 1 GB once over in 1 s; four ranks send it one and a half times.
        assert!(close(link.bytes_per_second, 1e9), "{link:?}");
        assert!(close(plan.step(&link, 1).seconds, 2.0));
        assert!(close(plan.step(&link, 2).seconds, 3.0));
        assert!(close(plan.step(&link, 4).seconds, 3.5));
        for (refused, why) in [
            (
                ScalingPlan::of_steps("few", &steps(1, 2.0)[..2], 5).err(),
                "at least 3",
            ),
            (
                ScalingPlan::of_steps("two", &steps(2, 2.0), 5).err(),
                "2 ranks",
            ),
            (
                plan.link_of("one", 1, &steps(1, 3.0)).err(),
                "at least 2 ranks",
            ),
            (plan.link_of("three", 3, &steps(2, 3.0)).err(), "between 3"),
            (
                plan.link_of("faster", 2, &steps(2, 1.5)).err(),
                "nothing is left",
            ),
        ] {
            let said = refused.map(|error| error.to_string()).unwrap_or_default();
            assert!(said.contains(why), "{why}: {said}");
        }
        Ok(())
    }
}

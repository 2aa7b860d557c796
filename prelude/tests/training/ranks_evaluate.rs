//! An evaluation of several ranks is that of one process, to the bit; what can't be shared is told. Threads stand in for processes.

use std::sync::Arc;

use glassbox_prelude::candle_core::Device;
use glassbox_prelude::evaluate::{
    Answered, Calibration, CiderD, Condition, Evaluation, EvaluationItem, EvaluationSet, Evaluator,
    ExactMatch, Perplexity,
};
use glassbox_prelude::parallel::Collective;
use glassbox_prelude::train::{StepRecord, Trainer, TrainerSettings};
use glassbox_prelude::vision::Image;
use glassbox_prelude::vlm::Vlm;
use glassbox_prelude::{Error, Result};

use super::ranks::on_ranks;
use super::{alone, settings, squares};

/// Pictures with questions of two kinds, of which the fourth can't be read.
struct Asked {
    size: usize,
    unreadable: usize,
    interrupted: Option<usize>,
}

impl EvaluationSet for Asked {
    fn len(&self) -> usize {
        self.size
    }

    fn item(&self, position: usize) -> Result<EvaluationItem> {
        if position == self.unreadable {
            return Err(Error::Io {
                path: "gone.png".into(),
                source: std::io::ErrorKind::NotFound.into(),
            });
        }
        if Some(position) == self.interrupted {
            return Err(Error::Interrupted);
        }
        // Some ask about the picture before.
        let at = position - position % 3 % 2;
        Ok(EvaluationItem {
            image: Image::filled(64, 64, [(at * 37 % 256) as u8, 30, (at * 91 % 256) as u8])?,
            query: Some(format!("question {}:", position % 5)),
            references: vec![format!("answer {}", position % 4), "a star".to_owned()],
            kind: Some(["count", "colour"][position % 2].to_owned()),
        })
    }
}

fn evaluator() -> Evaluator {
    Evaluator::new()
        .metric(ExactMatch)
        .metric(CiderD::default())
        .metric(Perplexity)
        .metric(Calibration)
        .max_new_tokens(4)
}

/// A row's condition, its figures as bits, and its answers.
type Told = (Condition, Vec<(String, u64)>, Vec<Answered>);

/// Everything that it holds.
fn told(evaluation: &Evaluation) -> Vec<Told> {
    let rows = evaluation.rows.iter().map(|row| {
        let scores = row.scores.iter();
        let scores = scores.map(|score| (score.name.clone(), score.value.to_bits()));
        (row.condition, scores.collect(), row.answers.clone())
    });
    rows.collect()
}

#[test]
fn ranks_that_answer_together_have_the_evaluation_of_one_process_to_the_bit() -> Result<()> {
    let _alone = alone();
    let vlm = Vlm::tiny(&Device::Cpu)?;
    for size in [1, 16, 41] {
        let set = |unreadable: usize| Asked {
            size,
            unreadable,
            interrupted: None,
        };
        // One of few would be too many that can't be read.
        let unreadable = if size > 16 { 3 } else { usize::MAX };
        let one = evaluator().run(&vlm, &set(unreadable))?;
        assert_eq!(one.rows[0].answers.len(), size - usize::from(size > 16));
        for ranks in [2, 4] {
            let all = on_ranks(ranks, |rank| {
                let own = vlm.clone();
                evaluator().answer_with(rank).run(&own, &set(unreadable))
            });
            for other in all {
                let other = other?;
                assert!(told(&other) == told(&one), "{size} on {ranks} ranks");
                assert_eq!(other.unreadable.len(), one.unreadable.len());
            }
        }
    }
    Ok(())
}

/// How an evaluation of two ranks ends on each, of which the second may have another model or set.
fn ended(
    model: impl Fn(usize) -> Result<Vlm> + Sync,
    set: impl Fn(usize) -> Asked + Sync,
) -> Vec<Result<()>> {
    on_ranks(2, |rank: Arc<dyn Collective>| {
        let at = rank.rank();
        let evaluation = evaluator().answer_with(rank).run(&model(at)?, &set(at));
        evaluation.map(|_| ())
    })
}

#[test]
fn ranks_with_other_pictures_or_weights_are_refused_by_name_and_an_interrupt_ends_all() -> Result<()>
{
    let _alone = alone();
    let tiny = |_: usize| Vlm::tiny(&Device::Cpu);
    let other = |at: usize| -> Result<Vlm> {
        let vlm = Vlm::tiny(&Device::Cpu)?;
        vlm.with_settings((*vlm.settings).clone(), at as u64)
    };
    let usual = |_: usize| Asked {
        size: 40,
        unreadable: usize::MAX,
        interrupted: None,
    };
    let missing = |at: usize| Asked {
        unreadable: if at == 1 { 3 } else { usize::MAX },
        ..usual(at)
    };
    let more = |at: usize| Asked {
        size: 40 + at,
        ..usual(at)
    };
    for (outcomes, word) in [
        (ended(other, usual), "trained weights"),
        (ended(tiny, missing), "can be read"),
        (ended(tiny, more), "set"),
    ] {
        for outcome in outcomes {
            let said = outcome.unwrap_err().to_string();
            assert!(
                said.contains("rank 1 of 2") && said.contains(word),
                "{said}"
            );
        }
    }
    let stopped = |at: usize| Asked {
        interrupted: (at == 1).then_some(35),
        ..usual(at)
    };
    for outcome in ended(tiny, stopped) {
        assert!(matches!(outcome, Err(Error::Interrupted)), "{outcome:?}");
    }
    Ok(())
}

#[test]
fn scores_that_a_trainer_measures_are_shared_and_its_own_measures_are_not() -> Result<()> {
    let _alone = alone();
    let set = squares(20)?;
    let scores = || {
        Evaluator::new()
            .metric(Perplexity)
            .metric(ExactMatch)
            .max_new_tokens(3)
    };
    let run = |rank: Option<Arc<dyn Collective>>| -> Result<Vec<StepRecord>> {
        let vlm = Vlm::tiny(&Device::Cpu)?;
        let mut trainer = Trainer::new(TrainerSettings {
            batch_size: 4,
            learning_rate: 1e-4,
            validate_every: 2,
            ..settings(4)
        })?;
        if let Some(rank) = rank {
            trainer.train_with(rank);
        }
        trainer.measure_scores(scores(), set.clone());
        let own = set.clone();
        trainer.measure("by hand", move |vlm| {
            let found = scores().run(vlm, &own)?;
            Ok(found.score("perplexity").map_or(0.0, |score| score.value))
        });
        trainer.fit(&vlm, &set, &set)?;
        Ok(trainer.records().to_vec())
    };
    let one = run(None)?;
    for records in on_ranks(2, |rank| run(Some(rank))) {
        for (record, one) in records?.iter().zip(&one) {
            assert_eq!(record.metrics.len(), one.metrics.len());
            for (name, value) in &one.metrics {
                let apart = (record.metrics[name] - value).abs();
                assert!(apart <= 1e-5 * value.abs(), "{name}: {apart:e}");
            }
        }
    }
    assert!(one[1].metrics.contains_key("by hand"));
    assert_eq!(one[1].metrics["by hand"], one[1].metrics["perplexity"]);
    Ok(())
}

//! A model scored as a whole: what it says with the picture, blind, and with another one; captions and questions.

use glassbox_prelude::candle_core::Device;
use glassbox_prelude::data::{
    CocoCaptions, QuestionTemplates, Questions, Shapes, ShapesConfig, Split,
};
use glassbox_prelude::display::Render;
use glassbox_prelude::evaluate::{
    Answered, AttributeAccuracy, ByKind, Calibration, Condition, EvaluationSet, Evaluator,
    ExactMatch, Metric, Perplexity, Reliability, RougeL, Row, YesNo, attribute_accuracy, evaluate,
    rounding_cost,
};
use glassbox_prelude::language::GgufType;
use glassbox_prelude::train::{Trainer, TrainerConfig, TrainingSet};
use glassbox_prelude::vision::Image;
use glassbox_prelude::vlm::{Prompt, Vlm};
use glassbox_prelude::{Error, Result};
use std::path::Path;

const PICTURES: usize = 6;

fn shapes() -> Result<Shapes> {
    Shapes::new(ShapesConfig {
        image_size: 32,
        ..ShapesConfig::default()
    })
}

fn folder() -> Result<(tempfile::TempDir, CocoCaptions)> {
    let folder = tempfile::tempdir().map_err(|source| Error::Io {
        path: "temporary folder".into(),
        source,
    })?;
    shapes()?.write_coco(folder.path(), 2, PICTURES)?;
    let val = CocoCaptions::open(folder.path(), Split::Val)?;
    Ok((folder, val))
}

#[test]
fn captions_are_scored_beside_three_baselines() -> Result<()> {
    let (_folder, val) = folder()?;
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let found = evaluate(&vlm, &val)?;
    let conditions: Vec<Condition> = found.rows.iter().map(|row| row.condition).collect();
    assert_eq!(
        conditions,
        [
            Condition::Model,
            Condition::Blind,
            Condition::Shuffled,
            Condition::MostFrequent
        ]
    );
    for name in ["BLEU-1", "BLEU-4", "ROUGE-L", "CIDEr-D", "perplexity"] {
        let score = found.score(name).expect(name);
        assert_eq!(score.pictures(), PICTURES, "{name}");
        let interval = score.interval(found.seed);
        assert!(
            interval.low <= score.value && score.value <= interval.high,
            "{name}: {interval:?} of {}",
            score.value
        );
    }
    // What is measured blind does not depend on the picture, so all answers are the same.
    let blind: Vec<&str> = found.rows[1]
        .answers
        .iter()
        .map(|answer| answer.prediction.as_str())
        .collect();
    assert!(blind.windows(2).all(|pair| pair[0] == pair[1]), "{blind:?}");
    let usual = &found.rows[3];
    assert!(
        usual
            .answers
            .iter()
            .all(|answer| answer.prediction == found.usual)
    );
    assert!(found.of(Condition::MostFrequent, "perplexity").is_none());
    let shown = found.render();
    for words in [
        "blind (black picture)",
        "another picture",
        "most frequent caption",
        "CIDEr-D",
        "6 pictures",
        "favours it",
    ] {
        assert!(shown.plain().contains(words), "{words}:\n{}", shown.plain());
    }
    // The same again.
    assert_eq!(evaluate(&vlm, &val)?.render().plain(), shown.plain());
    Ok(())
}

#[test]
fn perplexity_is_that_of_the_loss() -> Result<()> {
    let (_folder, val) = folder()?;
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let found = Evaluator::new()
        .metric(Perplexity)
        .pictures(1)
        .without_baselines()
        .run(&vlm, &val)?;
    let sample = val.sample(0)?;
    let pixels = vlm.image_processor.preprocess(&sample.image)?;
    let (mut nats, mut tokens) = (0.0, 0);
    for caption in &sample.captions {
        let losses: Vec<f32> = vlm
            .full_sequence_loss(&pixels, std::slice::from_ref(caption))?
            .cross_entropy
            .to_vec1()?;
        nats += losses.iter().map(|loss| f64::from(*loss)).sum::<f64>();
        tokens += losses.len();
    }
    let wanted = (nats / tokens as f64).exp();
    let value = found.score("perplexity").expect("it was asked for").value;
    assert!(
        (value - wanted).abs() < 1e-6 * wanted,
        "{value} is not {wanted}"
    );
    Ok(())
}

#[test]
fn the_metric_of_attributes_is_the_report_of_attributes() -> Result<()> {
    let (_folder, val) = folder()?;
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let report = attribute_accuracy(&vlm, &val, PICTURES)?;
    let found = Evaluator::new()
        .metric(AttributeAccuracy)
        .without_baselines()
        .run(&vlm, &val)?;
    for (name, part) in [
        ("colours right", report.colour()),
        ("shapes right", report.shape()),
        ("number right", report.count()),
        ("all right", report.all()),
    ] {
        let value = found.score(name).expect(name).value;
        assert!(
            (value - part).abs() < 1e-12,
            "{name}: {value} is not {part}"
        );
    }
    let photograph = [Answered::new("a red star", ["a dog on a beach"])];
    assert!(
        AttributeAccuracy
            .scores(&photograph)
            .is_err_and(|error| error.to_string().contains("no coloured shape"))
    );
    Ok(())
}

#[test]
fn questions_are_asked_and_scored_with_confidence() -> Result<()> {
    let shapes = shapes()?;
    let mut questions = Vec::new();
    for index in 0..3 {
        let image = shapes.sample(Split::Val, index)?.image;
        let asked = shapes.questions(Split::Val, index);
        let asked = asked
            .into_iter()
            .filter(|one| matches!(one.answer.as_str(), "yes" | "no"));
        questions.extend(asked.map(|one| (image.clone(), one.question, vec![one.answer])));
    }
    let count = questions.len();
    let set = Questions::new(questions);
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let evaluator = Evaluator::new()
        .metric(ExactMatch)
        .metric(YesNo)
        .metric(Calibration)
        .max_new_tokens(4);
    let found = evaluator.run(&vlm, &set)?;
    assert_eq!(found.answers().len(), count);
    assert!(found.answers().iter().all(|answer| {
        answer
            .confidence
            .is_some_and(|sure| (0.0..=1.0).contains(&sure))
    }));
    let yes = found.score("says yes").expect("of yes/no").value;
    assert!((0.0..=1.0).contains(&yes));
    assert!(Reliability::of(found.answers())?.render().html().is_some());
    // How surprising the right answers are, behind their questions.
    let found = Evaluator::new()
        .metric(Perplexity)
        .pictures(2)
        .without_baselines()
        .run(&vlm, &set)?;
    let mut nats = Vec::new();
    for position in 0..2 {
        let example = set.example(&vlm, position)?;
        let loss = vlm.full_sequence_loss_of(&example.prompt(&vlm, Some(0))?)?;
        nats.extend(loss.cross_entropy.to_vec1::<f32>()?);
    }
    let wanted = (nats.iter().sum::<f32>() / nats.len() as f32).exp();
    let value = found.score("perplexity").expect("it was asked for").value;
    assert!(
        (value / f64::from(wanted) - 1.0).abs() < 1e-5,
        "{value} {wanted}"
    );
    Ok(())
}

#[test]
fn questions_are_scored_by_kind_beside_what_is_right_without_a_look() -> Result<()> {
    let questions = Questions::of_shapes(&shapes()?, Split::Val, 8).at_most(6);
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let found = Evaluator::new()
        .metric(ByKind(ExactMatch))
        .max_new_tokens(4)
        .run(&vlm, &questions)?;
    let rows: Vec<Condition> = found.rows.iter().map(|row| row.condition).collect();
    assert!(rows.contains(&Condition::Blind) && rows.contains(&Condition::MostFrequent));
    // The baseline without a model says the usual answer of each kind, no more.
    for prior in questions.priors() {
        let name = format!("exact match: {}", prior.kind);
        let usual = found
            .of(Condition::MostFrequent, &name)
            .expect("one of each kind");
        assert_eq!(
            (usual.value, usual.pictures()),
            (prior.share, prior.questions),
            "{name}"
        );
        let score = found.score(&name).expect("one of each kind");
        assert!((0.0..=1.0).contains(&score.value));
    }
    Ok(())
}

/// Needs real pictures: the folder that `GLASSBOX_REAL` names, with coco-mini in it.
#[test]
fn captions_of_photographs_become_questions_that_train_and_are_scored()
-> std::result::Result<(), Box<dyn std::error::Error>> {
    let Some(real) = std::env::var_os("GLASSBOX_REAL") else {
        // Past the harness, which hides the prints of tests that pass.
        let _ = std::io::Write::write_all(
            &mut std::io::stderr(),
            b"NOT RUN: GLASSBOX_REAL names no folder with coco-mini in it\n",
        );
        return Ok(());
    };
    let captions = CocoCaptions::open(Path::new(&real).join("coco-mini"), Split::Val)?;
    let templates = QuestionTemplates::default().with("what would a friend say of it");
    let questions = Questions::of_captions(&captions, &templates, 17)?;
    assert_eq!(questions.len(), captions.len());
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let config = TrainerConfig {
        steps: 2,
        batch_size: 2,
        ..TrainerConfig::tour()
    };
    let report = Trainer::new(config)?.fit(&vlm, &questions, &questions)?;
    assert_eq!(report.steps, 2);
    let found = Evaluator::new()
        .metric(RougeL::default())
        .metric(ByKind(ExactMatch))
        .pictures(3)
        .max_new_tokens(8)
        .run(&vlm, &questions)?;
    let score = found.score("exact match: caption").ok_or("of captions")?;
    assert_eq!(score.pictures(), 3);
    assert!(found.of(Condition::Blind, "ROUGE-L").is_some());
    Ok(())
}

#[test]
fn rounding_to_8_bits_costs_little_and_to_4_more() -> Result<()> {
    let root = tempfile::tempdir().map_err(|source| Error::Io {
        path: "a temporary folder".into(),
        source,
    })?;
    shapes()?.write_coco(root.path(), 8, 1)?;
    let set = CocoCaptions::open(root.path(), Split::Train)?;
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let found = rounding_cost(&vlm, &set, 8, &GgufType::ALL)?;
    // As it is, and each type.
    assert_eq!(
        (found.rows.len(), found.examples),
        (1 + GgufType::ALL.len(), 8)
    );
    let cost = |kind| found.cost(kind).expect("it was asked for").abs();
    assert_eq!(cost(GgufType::F32), 0.0);
    assert!(cost(GgufType::F16) < 1e-3, "{:?}", found.rows);
    assert!(cost(GgufType::Q8_0) < 0.02, "{:?}", found.rows);
    assert!(
        cost(GgufType::Q4_0) > cost(GgufType::Q8_0),
        "{:?}",
        found.rows
    );
    assert!(found.render().plain().contains("Q4_0"));
    assert!(rounding_cost(&vlm, &set, 0, &[]).is_err());
    Ok(())
}

#[test]
fn what_can_not_be_scored_says_what_to_do() -> Result<()> {
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let one = vec![(Image::filled(8, 8, [9, 9, 9])?, vec!["a dot".to_string()])];
    let none: Vec<(Image, Vec<String>)> = Vec::new();
    for (result, words) in [
        (Evaluator::new().run(&vlm, &one), "metric(ExactMatch)"),
        (evaluate(&vlm, &none), "at least one"),
        (
            Evaluator::captions().pictures(0).run(&vlm, &one),
            "at least one",
        ),
    ] {
        let message = result.map(|_| ()).expect_err(words).to_string();
        assert!(message.contains(words), "{message}");
    }
    Ok(())
}

/// A broken picture is left out and counted, and the table says so.
#[test]
fn an_unreadable_picture_is_left_out_and_counted() -> Result<()> {
    let (folder, val) = folder()?;
    let path = val.picture_path(1)?;
    std::fs::write(&path, b"no picture").map_err(|source| Error::Io { path, source })?;
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let found = Evaluator::new()
        .metric(ExactMatch)
        .without_baselines()
        .run(&vlm, &val)?;
    assert_eq!(
        (found.answers().len(), found.unreadable.len()),
        (PICTURES - 1, 1)
    );
    assert!(
        found
            .render()
            .plain()
            .contains("1 unreadable example left out"),
        "{}",
        found.render().plain()
    );
    drop(folder);
    Ok(())
}

#[test]
fn another_picture_is_never_the_asked_one_again() -> Result<()> {
    let vlm = Vlm::tiny(&Device::Cpu)?;
    let shapes = Shapes::new(ShapesConfig::default())?;
    let pictures = [3, 4].map(|index| shapes.sample(Split::Val, index).map(|sample| sample.image));
    let [one, other] = pictures;
    let (one, other) = (one?, other?);
    let question = |picture: &Image| (picture.clone(), vec![String::from("a red square")]);
    // Several questions about a picture stand beside each other.
    let set = vec![
        question(&one),
        question(&one),
        question(&one),
        question(&other),
        question(&other),
        question(&one),
    ];
    let evaluator = Evaluator::new().metric(ExactMatch).max_new_tokens(12);
    let said = |set: &dyn EvaluationSet| -> Result<Vec<(Condition, Vec<String>)>> {
        let found = evaluator.run(&vlm, set)?;
        let of = |row: &Row| {
            row.answers
                .iter()
                .map(|answer| answer.prediction.clone())
                .collect()
        };
        Ok(found
            .rows
            .iter()
            .map(|row| (row.condition, of(row)))
            .collect())
    };
    let rows = said(&set)?;
    let (model, shuffled) = (&rows[0].1, &rows[2].1);
    assert_eq!(rows[2].0, Condition::Shuffled);
    let (of_one, of_other) = (&model[0], &model[3]);
    assert_ne!(
        of_one, of_other,
        "the model says the same of both: this test would prove nothing"
    );
    assert_eq!(
        shuffled,
        &[of_other, of_other, of_other, of_one, of_one, of_other].map(Clone::clone)
    );
    // Prompts as well.
    let prompts: Vec<Prompt> = set
        .iter()
        .map(|(image, texts)| vlm.caption_prompt(image, &texts[0]))
        .collect::<Result<_>>()?;
    let rows = said(&prompts)?;
    let (model, shuffled) = (&rows[0].1, &rows[2].1);
    assert_eq!(
        shuffled,
        &[3, 3, 3, 0, 0, 3].map(|at: usize| model[at].clone())
    );
    // More questions about one picture than a batch has, and no other picture at all.
    let only = vec![question(&one); 20];
    assert!(
        said(&only)?
            .iter()
            .all(|(condition, _)| *condition != Condition::Shuffled)
    );
    let mut late = only;
    late.push(question(&other));
    let rows = said(&late)?;
    assert!(rows[2].1[..20].iter().all(|said| said == &rows[0].1[20]));
    Ok(())
}

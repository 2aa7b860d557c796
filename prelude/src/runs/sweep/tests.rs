//! Sweeps that fail, panic, stop and go on.

use super::*;
use crate::display::Render;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other}"),
    }
}

#[test]
fn a_grid_has_all_combinations_and_one_seed_of_everything_first() -> Result<()> {
    let folder = folder();
    let sweep = Sweep::grid(folder.path())
        .over("rank", [2, 8])?
        .over("projector", ["linear", "mlp"])?
        .seeds(2);
    let trials = sweep.trials();
    let seen: Vec<(u64, usize, String)> = trials
        .iter()
        .map(|trial| Ok((trial.seed(), trial.get("rank")?, trial.get("projector")?)))
        .collect::<Result<_>>()?;
    assert_eq!(seen.len(), 8);
    assert_eq!(seen[1], (0, 2, "mlp".to_owned()));
    assert_eq!(seen[4], (1, 2, "linear".to_owned()));
    let mut folders: Vec<&Path> = trials.iter().map(Trial::folder).collect();
    folders.sort();
    folders.dedup();
    assert_eq!(folders.len(), 8);
    let error = trials[0].get::<usize>("rnk").unwrap_err().to_string();
    assert!(error.contains("rank, projector"), "{error}");
    assert!(trials[0].get::<usize>("projector").is_err());
    Ok(())
}

#[test]
fn one_failed_trial_and_one_panic_do_not_end_a_sweep_and_are_tried_again() -> Result<()> {
    let folder = folder();
    let sweep = Sweep::grid(folder.path()).over("rate", [0.1, 0.2, 0.3])?;
    let mut tried = Vec::new();
    let report = sweep.run(|trial| {
        let rate: f64 = trial.get("rate")?;
        tried.push(rate);
        match rate {
            0.1 => Err(Error::Input("the loss is NaN".into())),
            0.2 => panic!("fell over"),
            rate => Ok(Scores::new().higher("accuracy", rate)),
        }
    })?;
    assert_eq!(tried, [0.1, 0.2, 0.3]);
    let why: Vec<&str> = report
        .failed()
        .filter_map(|record| record.error.as_deref())
        .collect();
    assert_eq!(why, ["the loss is NaN", "it panicked: fell over"]);
    let text = report.render().plain().to_owned();
    assert!(
        text.contains("3 of 3 trials") && text.contains("2 failed"),
        "{text}"
    );
    assert!(text.contains("the loss is NaN"), "{text}");

    // What failed is tried again, what is done is not; or it is left.
    let kept = sweep
        .clone()
        .keep_failed()
        .run(|_| panic!("nothing is left to try"))?;
    assert_eq!(kept.failed().count(), 2);
    let mut again = Vec::new();
    let report = sweep.run(|trial| {
        let rate: f64 = trial.get("rate")?;
        again.push(rate);
        Ok(Scores::new().higher("accuracy", rate))
    })?;
    assert_eq!(again, [0.1, 0.2]);
    assert_eq!(report.failed().count(), 0);
    assert_eq!(
        report.mean(&map(serde_json::json!({"rate": 0.3})), "accuracy"),
        Some((0.3, None))
    );
    Ok(())
}

#[test]
fn an_interrupted_sweep_goes_on_where_it_stopped_and_more_seeds_give_intervals() -> Result<()> {
    let folder = folder();
    let sweep = Sweep::list(
        folder.path(),
        [serde_json::json!({"r": 1}), serde_json::json!({"r": 2})],
    )?;
    let outcome = sweep.run(|trial| match trial.get::<i64>("r")? {
        1 => Ok(Scores::new().lower("loss", 3.0)),
        _ => Err(Error::Interrupted),
    });
    assert!(matches!(outcome, Err(Error::Interrupted)));
    assert_eq!(sweep.report()?.records().len(), 1);
    // A process that was killed left half a line.
    let path = folder.path().join("sweep.jsonl");
    let whole = std::fs::read_to_string(&path).expect("there");
    std::fs::write(&path, format!("{whole}{{\"values\":{{\"r\"")).expect("written");
    let mut tried = 0;
    let report = sweep.clone().seeds(3).run(|trial| {
        tried += 1;
        let r: f64 = trial.get("r")?;
        Ok(Scores::new().lower("loss", r + trial.seed() as f64))
    })?;
    assert_eq!(tried, 5, "the first was kept");
    let (mean, half) = report
        .mean(&map(serde_json::json!({"r": 2})), "loss")
        .expect("tried");
    assert!(
        (mean - 3.0).abs() < 1e-12
            && (half.unwrap_or_default() - 4.3027 / 3f64.sqrt()).abs() < 1e-4
    );
    let text = report.render().plain().to_owned();
    assert!(text.contains("± 2.48") && text.contains("6 of 6"), "{text}");
    Ok(())
}

#[test]
fn slips_in_the_axes_are_named() {
    let folder = folder();
    let sweep = || Sweep::grid(folder.path());
    let said = |sweep: Result<Sweep>| sweep.map(|_| ()).unwrap_err().to_string();
    assert!(said(sweep().over("a", Vec::<i32>::new())).contains("no values"));
    assert!(said(sweep().over("a", [1, 1])).contains("twice"));
    assert!(
        said(
            sweep()
                .over("a", [1])
                .and_then(|sweep| sweep.over("a", [2]))
        )
        .contains("twice")
    );
    assert!(said(sweep().over("seed", [1])).contains(".seeds(n)"));
    assert!(said(Sweep::list(folder.path(), [3])).contains("names"));
    assert!(
        said(
            sweep()
                .over("a", 0..1000)
                .and_then(|sweep| sweep.over("b", 0..1000))
        )
        .contains("more than")
    );
}

#[test]
fn figures_that_are_not_finite_are_kept() -> Result<()> {
    let folder = folder();
    let sweep = Sweep::grid(folder.path()).over("a", [1])?;
    sweep.run(|_| {
        Ok(Scores::new()
            .lower("loss", f64::NAN)
            .lower("most", f64::INFINITY))
    })?;
    let record = sweep.report()?.records()[0].clone();
    assert!(record.scores.get("loss").is_some_and(f64::is_nan));
    assert_eq!(record.scores.get("most"), Some(f64::INFINITY));
    Ok(())
}

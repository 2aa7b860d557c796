//! The tour as a newcomer runs it: the built binary executes it from top to bottom, and what it leaves is looked at.
//! And the promise it makes about the interrupt button, kept in a session of its own.

#![allow(clippy::print_stdout)] // figures for whoever reads the log

mod notebook_support;
mod session_support;

use std::time::{Duration, Instant};

use glassbox::session::{CellErrorKind, Event};
use notebook_support::Executed;
use session_support::TestSession;

/// What the README promises of the captions of held-out pictures, all attributes together.
const GOAL_PERCENT: f64 = 85.0;

#[test]
fn the_tour_trains_and_captions() {
    let begin = Instant::now();
    let tour = Executed::of("00_tour.ipynb", &[]);
    println!(
        "the tour took {:.0} s in all",
        begin.elapsed().as_secs_f64()
    );

    let pages = tour.shown("text/html");
    let has = |what: &str| pages.iter().any(|page| page.contains(what));
    assert!(
        has("trainable") && has("image_encoder"),
        "no table of the model"
    );
    assert!(has("imstart"), "no token strip");
    assert!(has("probability"), "no next-token table");
    // One display for the whole of the training: the plot is there once, in its last state.
    let plots = pages
        .iter()
        .filter(|page| page.contains("data:image/svg+xml") && page.contains("steps/s"))
        .count();
    assert_eq!(plots, 1, "the training shows {plots} plots");
    assert!(has("tokens/s"), "no speed at the end of the training");
    let grid = pages
        .iter()
        .find(|page| page.contains("prediction") && page.contains("reference"));
    let grid = grid.expect("no grid of captioned pictures");
    assert!(
        grid.matches("data:image/png;base64,").count() >= 8,
        "too few pictures in the grid"
    );

    // The last line with a figure says how good it is now; the notebook itself has checked it.
    let line = tour.line("all attributes right:");
    let figures = tour.numbers("all attributes right:");
    println!("{line}");
    let [before, after] = figures[..] else {
        panic!("{line}")
    };
    assert!(
        before < 30.0,
        "the untrained model is too good to be untrained: {line}"
    );
    assert!(after >= GOAL_PERCENT, "{line}");

    assert!(tour.page().contains("data:image/png;base64,"));
    tour.assert_self_contained();
}

#[test]
fn an_interrupted_training_goes_on_where_it_stopped() {
    let mut cells = TestSession::start();
    let setup = r#"
        let folder = std::env::temp_dir().join(format!("glassbox-interrupt-{}", std::process::id()));
        Shapes::new(ShapesConfig::default())?.write_coco(&folder, 64, 16)?;
        let train_set = CocoCaptions::open(&folder, Split::Train)?;
        let val_set = CocoCaptions::open(&folder, Split::Val)?;
        let picture = val_set.sample(0)?.image;
    "#;
    let made = cells.run(setup);
    assert!(made.outcome.status.is_ok(), "{made:#?}");
    let model = r#"
        let vlm = Vlm::tiny(&Device::Cpu)?;
        let mut trainer = Trainer::new(TrainerConfig { steps: 100_000, ..TrainerConfig::tour() })?;
    "#;
    let made = cells.run(model);
    assert!(made.outcome.status.is_ok(), "{made:#?}");

    let done = train_until_interrupted(&mut cells, 1);
    assert!(done > 0, "no step was finished");
    let caption =
        cells.run("println!(\"{}\", vlm.generate(&picture)?.max_new_tokens(12).run()?.text);");
    assert!(caption.outcome.status.is_ok(), "{caption:#?}");
    let further = train_until_interrupted(&mut cells, 4);
    assert!(
        further > done,
        "the run stood at step {done} and went on to {further}"
    );
    cells.run("std::fs::remove_dir_all(&folder).ok();");
}

/// Trains and interrupts once the plot has been redrawn `updates` times with a speed. Gives the last finished step.
fn train_until_interrupted(cells: &mut TestSession, updates: usize) -> usize {
    let interrupter = cells.session.interrupter();
    let mut seen = 0;
    let mut asked: Option<Instant> = None;
    let fit = "trainer.fit(&vlm, &train_set, &val_set)?";
    let outcome = cells.session.evaluate(fit, &mut |event| {
        if let Event::Update(display) = &event
            && display.plain().is_some_and(|text| text.contains("steps/s"))
        {
            seen += 1;
            if seen == updates {
                asked = Some(Instant::now());
                interrupter.interrupt();
            }
        }
    });
    let error = outcome
        .status
        .expect_err("the training was to be interrupted");
    assert_eq!(error.kind, CellErrorKind::Interrupted, "{error:#?}");
    let took = asked.expect("no progress was shown").elapsed();
    println!("stopped {:.2} s after the interrupt", took.as_secs_f64());
    // A step takes a tenth of a second; the bound only tells a stop within steps from no stop at all.
    assert!(took < Duration::from_secs(60), "{took:?}");
    cells.result_of("trainer.step()").parse().unwrap()
}

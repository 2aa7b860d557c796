//! The notebook about other senses, with the hidden answers to its exercises: a language model of chemistry needs fewer molecules than a
//! general one, what bonds are worth is told beside controls, and spectra, people and vortices take the place of molecules.

#![allow(clippy::print_stdout)] // figures for whoever reads the log

mod notebook_support;

use notebook_support::Executed;

#[test]
fn chemistry_needs_fewer_molecules_and_bonds_spectra_people_and_vortices_are_read() {
    let sizes = ["-p", "steps=150", "-p", "seeds=1"];
    let run = Executed::with_answers("12_other_senses.ipynb", &sizes);
    assert_eq!(
        run.line("105 molecules"),
        "105 molecules, 70 to learn from, 35 held out"
    );
    let chemistry = run.line("chemistry, asked in words");
    assert!(chemistry.ends_with("“propan-1-ol”"), "{chemistry}");
    assert!(!run.line("general, asked in words").contains("propan"));
    assert_eq!(run.line("5 atoms"), "5 atoms, 5 tokens: C0 C1 C2 C3 O4");
    assert!(
        run.shows(&["butylbenzene", "data:image/svg+xml"])
            && run.shows(&["“alcohol”", "data:image/svg+xml"])
    );
    println!("{}", run.line("of 35 held out"));
    let right = run.numbers("of 35 held out:"); // family, carbons, name
    assert!(right[0] > 15.0 && right[1] > 15.0, "{right:?}");
    assert!(run.shows(&["blind (input of zeros)", "most frequent answer"]));
    // 14 and its share, 35, 70.
    let [general, chemistry, untrained] = ["general:", "chemistry:", "untrained:"].map(|kind| {
        println!("{}", run.line(kind));
        run.numbers(kind)
    });
    for curve in [&general, &chemistry, &untrained] {
        assert_eq!(
            (curve[0], curve[2], curve[4]),
            (14.0, 35.0, 70.0),
            "{curve:?}"
        );
    }
    assert!(chemistry[5] > 60.0, "{chemistry:?}");
    for other in [&general, &untrained] {
        assert!(chemistry[5] > other[5] + 15.0, "{chemistry:?} {other:?}");
    }
    println!("{}", run.line("always the most frequent family"));
    let controls = run.numbers("always the most frequent family:");
    assert!(
        controls.iter().all(|control| *control < 20.0),
        "{controls:?}"
    );
    println!("{}", run.line("chemistry, of molecules"));
    println!("{}", run.line("elements alone"));
    let bonds = run.numbers("elements alone:"); // none, moved, as they are
    assert!(bonds[0] + 10.0 < bonds[2], "{bonds:?}");
    println!("{}", run.line("with hydrogens, neighbours, rings"));
    let told = run.numbers("with hydrogens, neighbours, rings:");
    assert!(told[0] + 10.0 > bonds[0], "{told:?} {bonds:?}");
    println!("{}", run.line("aldehydes and ketones alone"));
    assert!(run.line("aspirin, C9H8O4:").len() > "aspirin, C9H8O4: ".len());
    // The answers to the exercises.
    println!("{}", run.line("general, three times the steps"));
    for (start, chance) in [("spectra right:", 33.0), ("communities right:", 33.0)] {
        println!("{}", run.line(start));
        assert!(run.numbers(start)[0] > chance + 15.0);
    }
    println!("{}", run.line("vortices right"));
    let vortices = run.numbers("vortices right:"); // in the mirror
    assert!(vortices[0] > 75.0 && vortices[1] > 75.0, "{vortices:?}");
    assert!(run.shows(&["Zachary", "data:image/svg+xml"]));
    run.assert_self_contained();
}

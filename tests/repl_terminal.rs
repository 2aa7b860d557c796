//! The REPL in a terminal: keys typed into a pseudo terminal, and what stands on its screen.

mod terminal_support;

use terminal_support::{ALT_ENTER, CTRL_C, CTRL_D, CTRL_R, ENTER, ESCAPE, TAB, Terminal};

/// The last rows of a screen.
fn last_rows(screen: &str, count: usize) -> Vec<&str> {
    let rows: Vec<&str> = screen.trim_end().lines().map(str::trim_end).collect();
    rows[rows.len().saturating_sub(count)..].to_vec()
}

#[test]
fn a_person_works_at_the_terminal() {
    let mut terminal = Terminal::start();

    // A cell goes on until its brackets are closed.
    terminal.enter("/** Doubles a number. */ fn double(x: i32) -> i32 {");
    terminal.wait_for("    ·");
    terminal.run("x * 2 }", 2);
    let screen = terminal.run("double(21)", 3);
    assert_eq!(last_rows(&screen, 1), ["42"]);

    // Help for a name.
    let screen = terminal.command("?double", 3);
    assert!(screen.contains("fn double(x: i32) -> i32"), "{screen}");
    assert!(screen.contains("Doubles a number"), "{screen}");

    // A menu of names, with what they are.
    terminal.run("let words = vec![String::from(\"a\")];", 4);
    terminal.press(&format!("words.first_{TAB}"));
    terminal.wait_for("first_chunk_mut");
    terminal.press(ESCAPE);
    terminal.wait_until("closed menu", std::time::Duration::from_secs(9), |screen| {
        !screen.contains("first_chunk_mut")
    });
    terminal.press(CTRL_C);
    terminal.prompt(4);

    // ctrl-c stops a cell and keeps the variables.
    terminal
        .enter("let mut n = 0; println!(\"be{}\", \"gun\"); loop { check_interrupt()?; n += 1; }");
    terminal.wait_for("begun");
    terminal.press(CTRL_C);
    terminal.wait_for("Interrupted");
    terminal.prompt(5);
    let screen = terminal.run("words.len() + 100", 6);
    assert_eq!(last_rows(&screen, 1), ["101"]);

    // A picture, in half blocks where the terminal knows no better way.
    let picture = "Shapes::new(ShapesConfig::default())?.sample(Split::Train, 0)?.image";
    let screen = terminal.run(picture, 7);
    assert!(screen.contains('▄'), "{screen}");

    // What was typed before is found by a piece of it.
    terminal.press(CTRL_R);
    terminal.wait_for("search");
    terminal.press("fn dou");
    terminal.wait_for("search `fn dou`");
    terminal.wait_for("x * 2 }");
    terminal.press(CTRL_C);
    terminal.prompt(7);

    // An error in colour, with a link to the page about it.
    let screen = terminal.run("let wrong: u8 = \"é\";", 8);
    assert!(screen.contains("mismatched types"), "{screen}");
    let written = terminal.written();
    assert!(written.contains("\u{1b}]8;;https://doc.rust-lang.org/error_codes/E0308.html"));
    assert!(
        written.contains("\u{1b}[35m") || written.contains("\u{1b}[38;"),
        "no colours while typing"
    );

    terminal.press(CTRL_D);
    assert_eq!(terminal.ended().code(), Some(0));
}

#[test]
fn a_sample_takes_a_third_of_the_screen() {
    let mut terminal = Terminal::start();
    terminal.run("let shapes = Shapes::new(ShapesConfig::default())?;", 2);
    for (number, what) in [
        (3, "shapes.sample(Split::Train, 0)?"),
        (4, "shapes.sample(Split::Train, 0)?.image"),
    ] {
        let screen = terminal.run(what, number);
        let shown: Vec<&str> = screen.lines().map(str::trim_end).collect();
        let typed = shown
            .iter()
            .rposition(|row| row.ends_with(what))
            .expect("the cell");
        let rows = shown[typed + 1..]
            .iter()
            .filter(|row| !row.is_empty())
            .count();
        // The terminal has 40 rows.
        assert!((6..=14).contains(&rows), "{rows} rows:\n{screen}");
        assert!(screen.contains('▄'), "{screen}");
    }
}

#[test]
fn keys_that_come_together_with_ctrl_c_are_not_lost() {
    let mut terminal = Terminal::start();
    terminal.prompt(1);
    terminal.press(&format!("given up{CTRL_C}1 + 100{ENTER}"));
    let screen = terminal.prompt(2);
    assert_eq!(last_rows(&screen, 2), ["[1] › 1 + 100", "101"]);
    terminal.press(&format!(
        "a{CTRL_C}b{CTRL_C}fn f() -> u32 {{{ALT_ENTER}7{ENTER}}}{ENTER}"
    ));
    let screen = terminal.prompt(3);
    assert_eq!(
        last_rows(&screen, 3),
        ["[2] › fn f() -> u32 {", "    ·     7", "    · }"]
    );
    assert_eq!(last_rows(&terminal.run("f()", 4), 1), ["7"]);
}

#[test]
fn lines_are_indented_and_a_paste_is_one_cell() {
    let mut terminal = Terminal::start();
    terminal.prompt(1);
    for line in [
        "fn sign(x: i32) -> i32 {",
        "if x < 0 {",
        "return -1;",
        "}",
        "1",
        "}",
    ] {
        terminal.enter(line);
    }
    let screen = terminal.prompt(2);
    assert_eq!(
        last_rows(&screen, 6),
        [
            "[1] › fn sign(x: i32) -> i32 {",
            "    ·     if x < 0 {",
            "    ·         return -1;",
            "    ·     }",
            "    ·     1",
            "    · }",
        ]
    );
    assert_eq!(last_rows(&terminal.run("sign(-5)", 3), 1), ["-1"]);

    terminal.press("\u{1b}[200~let a = 1;\n\nlet b = {\n  a + 1\n};\na + b\u{1b}[201~");
    terminal.wait_for("a + b");
    terminal.press(ENTER);
    let screen = terminal.prompt(4);
    assert_eq!(last_rows(&screen, 2), ["    · a + b", "3"]);
    assert!(screen.contains("    ·   a + 1"), "{screen}");
}

#[test]
fn cells_ask_for_input() {
    let mut terminal = Terminal::start();
    terminal.prompt(1);
    terminal.enter("let name = input(\"name? \")?; println!(\"hello {name}\");");
    terminal.wait_for("\nname?");
    terminal.enter("Ädä");
    let screen = terminal.prompt(2);
    assert_eq!(last_rows(&screen, 2), ["name? Ädä", "hello Ädä"]);

    terminal.enter("let word = input_password(\"password? \")?; println!(\"{}\", word.len());");
    terminal.wait_for("\npassword?");
    terminal.enter("secret");
    let screen = terminal.prompt(3);
    assert_eq!(last_rows(&screen, 2), ["password?", "6"]);

    terminal.enter("let more = input(\"more? \")?;");
    terminal.wait_for("\nmore?");
    terminal.press("abc");
    terminal.wait_for("more? abc");
    terminal.press(CTRL_C);
    terminal.wait_for("Interrupted");
    terminal.prompt(4);
    let screen = terminal.run("name.len()", 5);
    assert_eq!(last_rows(&screen, 1), ["5"], "the editor takes keys again");

    terminal.enter("input(\"last? \")?");
    terminal.wait_for("\nlast?");
    terminal.press(CTRL_D);
    terminal.wait_for("ctrl-d");
    terminal.prompt(6);
}

#[test]
fn ctrl_c_held_down_costs_nothing() {
    let mut terminal = Terminal::start();
    terminal.prompt(1);
    terminal.run("let kept = 5;", 2);
    // Between cells, and while one runs.
    terminal.again(CTRL_C, 2);
    let screen = terminal.again(CTRL_C, 2);
    assert!(screen.contains("ctrl-d or :quit leaves"), "{screen}");
    terminal.enter("println!(\"be{}\", \"gun\"); loop { check_interrupt()?; }");
    terminal.wait_for("begun");
    for _ in 0..8 {
        terminal.press(CTRL_C);
        std::thread::sleep(std::time::Duration::from_millis(40));
    }
    terminal.wait_for("Interrupted");
    terminal.prompt(3);
    assert_eq!(last_rows(&terminal.run("kept", 4), 1), ["5"]);
}

#[test]
fn a_cell_that_does_not_stop_is_ended_by_a_second_ctrl_c() {
    let mut terminal = Terminal::start();
    terminal.prompt(1);
    terminal.run("let gone = 5;", 2);
    terminal.enter(
        "println!(\"be{}\", \"gun\"); std::thread::sleep(std::time::Duration::from_secs(600));",
    );
    terminal.wait_for("begun");
    terminal.press(CTRL_C);
    terminal.wait_for("has not stopped yet");
    terminal.press(CTRL_C);
    terminal.wait_for(":replay");
    let screen = terminal.prompt(3);
    assert!(screen.contains("lost: `gone`"), "{screen}");
    terminal.run(":replay", 4);
    assert_eq!(last_rows(&terminal.run("gone", 5), 1), ["5"]);
}

#[test]
fn a_thread_prints_above_the_line_that_is_typed() {
    let mut terminal = Terminal::start();
    terminal.prompt(1);
    terminal.run(
        "std::thread::spawn(|| { for n in 0..6 { std::thread::sleep(std::time::Duration::from_millis(400)); \
         println!(\"thre{} {n}\", \"ad\"); } });",
        2,
    );
    terminal.press("let typed = 4");
    terminal.wait_for("thread 2");
    terminal.press("2; typed");
    terminal.wait_for("thread 5");
    // The line is drawn once more below what was printed.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let screen = terminal.screen();
    let rows = last_rows(&screen, 3);
    assert!(
        rows[0].ends_with("thread 4") && rows[1].ends_with("thread 5"),
        "{screen}"
    );
    assert_eq!(rows[2], "[2] › let typed = 42; typed", "{screen}");
    terminal.press(ENTER);
    let screen = terminal.prompt(3);
    assert_eq!(last_rows(&screen, 1), ["42"], "{screen}");
}

#[test]
fn displays_that_change_are_redrawn_in_place() {
    let mut terminal = Terminal::start_with(60, None, &[]);
    terminal.prompt(1);
    let update = |name: &str, text: &str| format!("{name}.update(&MimeBundle::text({text}));");
    let cell = [
        "{ let show = |text: &str| display_live(&MimeBundle::text(text));",
        "let (a, b) = (show(\"a0\"), show(\"b0\\nb0\"));",
        &update("a", "\"a1 \".repeat(30)"),
        &update("b", "\"b1\""),
        &update("a", "\"a2\""),
        &update("b", "\"b2 \".repeat(30)"),
        "}",
    ]
    .concat();
    let screen = terminal.run(&cell, 2);
    // The last states, whole, right below the cell.
    let rows = last_rows(&screen, 3);
    assert!(
        rows[0].starts_with("[1] ›") && rows[0].ends_with('}'),
        "{screen}"
    );
    assert_eq!(rows[1..], ["a2", "b2 ".repeat(30).trim_end()]);
    // While they changed, each line took one row.
    assert!(
        terminal
            .written()
            .contains(&format!("{}b…", "b2 ".repeat(19)))
    );
}

#[test]
fn what_was_typed_is_found_in_the_next_session() {
    let home = tempfile::tempdir().expect("a temporary folder");
    let mut first = Terminal::start_with(100, Some(home.path()), &[]);
    first.prompt(1);
    first.run("let remembered = 7;", 2);
    first.press(CTRL_D);
    first.ended();
    let mut second = Terminal::start_with(100, Some(home.path()), &[]);
    second.prompt(1);
    second.press(CTRL_R);
    second.press("remem");
    second.wait_for("let remembered = 7;");
    // Once into the line, once to run it.
    second.press(ENTER);
    second.wait_for("[1] › let remembered");
    second.press(ENTER);
    second.prompt(2);
    assert_eq!(last_rows(&second.run("remembered", 3), 1), ["7"]);
}

#[test]
fn help_is_one_table() {
    let mut terminal = Terminal::start_with(80, None, &[]);
    terminal.prompt(1);
    let screen = terminal.command(":help", 1);
    for command in [":restart", ":quit", ":type", ":replay"] {
        let rows = screen.lines().filter(|row| {
            let row = row.trim_start();
            row.strip_prefix(command)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        });
        assert_eq!(rows.count(), 1, "{command}:\n{screen}");
    }
}

#[test]
fn a_terminal_that_knows_only_lines_gets_only_lines() {
    let mut terminal = Terminal::start_with(80, None, &[("TERM", "dumb")]);
    terminal.enter("fn f() -> u32 {");
    terminal.wait_for("    .");
    terminal.enter("7 }");
    terminal.wait_for("[2] >");
    terminal.enter("let live = display_live(&MimeBundle::text(\"one\")); live.update(&MimeBundle::text(\"two\")); f() * 6");
    terminal.wait_for("[3] >");
    terminal.wait_for("\n42");
    terminal.enter("nonsense");
    terminal.wait_for("[4] >");
    assert!(
        !terminal.written().contains('\u{1b}'),
        "{:?}",
        terminal.written()
    );
    terminal.enter(":quit");
    assert_eq!(terminal.ended().code(), Some(0));
}

#[test]
fn without_colours_there_are_none() {
    let mut terminal = Terminal::start_with(80, None, &[("NO_COLOR", "1")]);
    terminal.prompt(1);
    terminal.run("let wrong: u8 = \"text\";", 2);
    terminal.command("?Vec", 2);
    let picture = "Shapes::new(ShapesConfig::default())?.sample(Split::Train, 0)?.image";
    terminal.run(picture, 3);
    let written = terminal.written();
    let coloured = |code: &str| written.contains(&format!("\u{1b}[{code}"));
    for code in ["3", "1;3", "38;", "48;"] {
        let sgr = (0..=9).any(|digit| coloured(&format!("{code}{digit}m")));
        assert!(!sgr && !coloured("38;5"), "colour {code} in {written:?}");
    }
}

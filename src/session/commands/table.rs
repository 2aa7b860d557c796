//! The table of commands, in the order in which `:help` shows it.

use super::{
    Command, Does, Takes, bench, clear, dep, doc, env, explain, export, help, last_compile_dir,
    last_error_json, load, load_config, memory, opt, quit, replay, restart, shell, show_deps, time,
    timing, type_of, vars,
};

/// All commands.
pub(crate) const TABLE: &[Command] = &[
    Command {
        words: &[":help", ":h", ":?"],
        arguments: "",
        summary: "this table",
        takes: Takes::Nothing,
        does: Does::Session(help::run),
    },
    Command {
        words: &[":doc", "?", "??"],
        arguments: "NAME",
        summary: "what is known of a name, with its documentation: `?NAME`; all of it: `??NAME`",
        takes: Takes::Name,
        does: Does::Session(doc::run),
    },
    Command {
        words: &[":vars"],
        arguments: "",
        summary: "the variables with type, shape and size",
        takes: Takes::Nothing,
        does: Does::Session(vars::run),
    },
    Command {
        words: &[":type", ":t"],
        arguments: "EXPRESSION",
        summary: "the type of a variable or an expression",
        takes: Takes::Name,
        does: Does::Engine(type_of::run),
    },
    Command {
        words: &[":mem"],
        arguments: "",
        summary: "the memory that this session uses",
        takes: Takes::Nothing,
        does: Does::Session(memory::run),
    },
    Command {
        words: &[":time"],
        arguments: "CODE",
        summary: "run code and say how long it ran, apart from compiling",
        takes: Takes::Code,
        does: Does::Session(time::run),
    },
    Command {
        words: &[":bench"],
        arguments: "EXPRESSION",
        summary: "run an expression many times: median, spread, extremes",
        takes: Takes::Code,
        does: Does::Session(bench::run),
    },
    Command {
        words: &[":timing"],
        arguments: "",
        summary: "show how long each phase of a cell takes, or no longer",
        takes: Takes::Nothing,
        does: Does::Engine(timing::run),
    },
    Command {
        words: &[":load"],
        arguments: "FILE",
        summary: "run a file of Rust code as if it stood in the cell",
        takes: Takes::Text,
        does: Does::Session(load::run),
    },
    Command {
        words: &[":replay"],
        arguments: "[NAME…] [list | all]",
        summary: "run the cells again that defined what was lost; `list` only names them, `all` adds cells that used it",
        takes: Takes::Text,
        does: Does::Session(replay::run),
    },
    Command {
        words: &[":export"],
        arguments: "DIR",
        summary: "write the cells that ran as a Cargo project",
        takes: Takes::Text,
        does: Does::Session(export::run),
    },
    Command {
        words: &[":dep"],
        arguments: "NAME = \"VERSION\"",
        summary: "add a crate, as in `:dep regex = \"1.0\"`",
        takes: Takes::Text,
        does: Does::Engine(dep::run),
    },
    Command {
        words: &[":show_deps"],
        arguments: "",
        summary: "the crates that were added",
        takes: Takes::Nothing,
        does: Does::Engine(show_deps::run),
    },
    Command {
        words: &[":opt"],
        arguments: "[LEVEL]",
        summary: "set how much cells are optimised: 0, 1, 2 or 3",
        takes: Takes::Text,
        does: Does::Engine(opt::run),
    },
    Command {
        words: &[":env"],
        arguments: "KEY=VALUE",
        summary: "set an environment variable for the process that runs cells, which is started anew",
        takes: Takes::Text,
        does: Does::Engine(env::run),
    },
    Command {
        words: &[":restart"],
        arguments: "",
        summary: "start the process that runs cells anew; variables go, items are kept",
        takes: Takes::Nothing,
        does: Does::Engine(restart::run),
    },
    Command {
        words: &[":clear"],
        arguments: "",
        summary: "forget all variables and items, and start a new process",
        takes: Takes::Nothing,
        does: Does::Engine(clear::run),
    },
    Command {
        words: &[":explain"],
        arguments: "",
        summary: "rustc's explanation of the last error",
        takes: Takes::Nothing,
        does: Does::Engine(explain::run),
    },
    Command {
        words: &[":last_error_json"],
        arguments: "",
        summary: "the last compilation's errors as JSON",
        takes: Takes::Nothing,
        does: Does::Engine(last_error_json::run),
    },
    Command {
        words: &[":last_compile_dir"],
        arguments: "",
        summary: "the folder of the last compilation",
        takes: Takes::Nothing,
        does: Does::Engine(last_compile_dir::run),
    },
    Command {
        words: &[":load_config"],
        arguments: "",
        summary: "run evcxr's startup configuration (init.evcxr, prelude.rs)",
        takes: Takes::Nothing,
        does: Does::Session(load_config::run),
    },
    Command {
        words: &["!"],
        arguments: "COMMAND",
        summary: "run a shell command",
        takes: Takes::Text,
        does: Does::Engine(shell::run),
    },
    Command {
        words: &[":quit", ":q", ":exit"],
        arguments: "",
        summary: "leave the terminal",
        takes: Takes::Nothing,
        does: Does::Session(quit::run),
    },
];

/// evcxr's words for what it alone does: it does not run the cells here.
const OF_EVCXR: [&str; 16] = [
    ":sccache",
    ":cache",
    ":clear_cache",
    ":linker",
    ":codegen_backend",
    ":allow_static_linking",
    ":time_passes",
    ":toolchain",
    ":internal_debug",
    ":build_env",
    ":offline",
    ":preserve_vars_on_panic",
    ":fmt",
    ":types",
    ":efmt",
    ":version",
];

/// The row of a word, which begins with its mark.
pub(super) fn find(word: &str) -> Option<&'static Command> {
    TABLE.iter().find(|command| command.words.contains(&word))
}

/// Why a word that is not in the table does nothing.
pub(super) fn unknown(word: &str) -> String {
    if OF_EVCXR.contains(&word) {
        return format!(
            "`{word}` changes how evcxr works, which does not run the cells here; see `:help`"
        );
    }
    format!("there is no command `{word}`; `:help` lists them")
}

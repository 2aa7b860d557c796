//! What the commands of a cell do.

use super::super::event::Display;
use super::super::magic::two_columns;
use super::super::report::Diagnostic;
use super::commands::{self, Order};
use super::{Direct, Done, State, Trouble};

impl Direct {
    /// Does what a line of a cell that is not Rust asks for.
    pub(super) fn obey(&mut self, order: &Order, done: &mut Done) -> Result<(), Trouble> {
        let refused = |error: String| Trouble::Refused(error);
        let mut say = |text: String| done.shown.push(Display::text(text.trim_end()));
        let (name, arguments) = match order {
            Order::Shell(command) => {
                say(commands::shell(command).map_err(refused)?);
                return Ok(());
            }
            Order::Colon(name, arguments) => (name.as_str(), arguments.as_str()),
        };
        match name {
            "clear" => {
                self.state = State {
                    items: self.base.clone(),
                    ..State::default()
                };
                self.lesson = None;
                self.compiler.extra.clear();
                self.analyst.depend(&self.state.dependencies);
                self.restart()?;
            }
            "restart" => {
                self.restart()?;
                say("the process that runs cells was started anew".to_owned());
            }
            "dep" => {
                let (name, config) = commands::dependency(arguments).map_err(refused)?;
                let mut state = self.state.clone();
                if state.dependencies.insert(name, config.clone()) != Some(config) {
                    self.add_dependencies(&state)?;
                    self.state = state;
                }
            }
            "show_deps" => {
                let rows = self.state.dependencies.clone().into_iter();
                say(commands::table(rows, " = "));
            }
            "vars" => {
                let rows = self.variables().map(|(name, ty)| (name.to_owned(), ty));
                done.shown.push(two_columns(&rows.collect::<Vec<_>>()));
            }
            "type" | "t" => {
                let found = self.variables().find(|(name, _)| *name == arguments);
                let ty = match found {
                    Some((_, ty)) => Some(ty),
                    None => self.questions().type_of(arguments).map_err(refused)?,
                };
                let ty = ty.ok_or_else(|| {
                    Trouble::Refused(format!(
                        "the type of `{arguments}` is not known; write a variable or an expression"
                    ))
                })?;
                say(format!("{arguments}: {ty}"));
            }
            "opt" => {
                let level = match (arguments, self.compiler.opt_level.as_str()) {
                    ("", "0") => "2",
                    ("", _) => "0",
                    (level @ ("0" | "1" | "2" | "3" | "s" | "z"), _) => level,
                    (other, _) => {
                        return Err(Trouble::Refused(format!(
                            "there is no optimization level `{other}`; write 0, 1, 2 or 3"
                        )));
                    }
                };
                self.compiler.opt_level = level.to_owned();
                say(format!("Optimization: {level}"));
            }
            "timing" => {
                self.timing = !self.timing;
                say(format!("Timing: {}", self.timing));
            }
            "env" => {
                let (key, value) = arguments
                    .split_once('=')
                    .ok_or_else(|| Trouble::Refused("write `:env KEY=VALUE`".to_owned()))?;
                self.process.set_env(key.trim(), value.trim());
                self.restart()?;
                say(format!(
                    "Set {arguments}; the process that runs cells was started anew"
                ));
            }
            "explain" => {
                let codes: Vec<&str> = self
                    .last_errors
                    .iter()
                    .filter_map(Diagnostic::code)
                    .collect();
                let text = self.compiler.explain(&codes).map_err(refused)?;
                say(text);
            }
            "last_error_json" => {
                let lines = self
                    .last_errors
                    .iter()
                    .map(|error| format!("{}\n", error.json));
                say(lines.collect());
            }
            "last_compile_dir" => say(self.compiler.folder().display().to_string()),
            "doc" => {
                let found = self
                    .questions()
                    .inspect(arguments, arguments.len())
                    .map_err(refused)?;
                let found = found.ok_or_else(|| {
                    Trouble::Refused(format!("nothing is known of `{arguments}`"))
                })?;
                let mut display = Display::text(found.plain);
                for (mime, text) in [("text/markdown", found.markdown), ("text/html", found.html)] {
                    display.data.insert(mime.to_owned(), text.into());
                }
                done.shown.push(display);
            }
            "help" => {
                let rows = commands::COMMANDS.iter();
                let rows = rows.map(|(name, does)| (format!("{name:<17}"), (*does).to_owned()));
                say(commands::table(rows, " "));
            }
            "load_config" => {
                for cell in commands::configuration() {
                    let more = self.evaluate_cell(&cell)?;
                    done.shown.extend(more.shown);
                }
            }
            "quit" => std::process::exit(0),
            "sccache"
            | "cache"
            | "clear_cache"
            | "linker"
            | "codegen_backend"
            | "allow_static_linking"
            | "time_passes"
            | "toolchain"
            | "internal_debug"
            | "build_env"
            | "offline"
            | "preserve_vars_on_panic"
            | "fmt"
            | "types"
            | "efmt"
            | "version" => {
                return Err(Trouble::Refused(format!(
                    "`:{name}` changes how evcxr works, which does not run the cells here; see `:help`"
                )));
            }
            _ => {
                return Err(Trouble::Refused(format!(
                    "there is no command `:{name}`; `:help` lists them"
                )));
            }
        }
        Ok(())
    }
}

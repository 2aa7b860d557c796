//! Turns the source that evcxr generates into what we compile.
//!
//! Only lines that evcxr itself wrote are touched, and never their number, so that errors and panics keep the line and
//! column numbers by which they are traced back to the cell:
//! - what it prints to stdout for its own use goes to the private control descriptor instead;
//! - a failed `?` reports its error as an event;
//! - the last expression shows itself in one compilation: as a picture if it can, else by `{:?}`.

/// The line before a final expression and the one after it, and what they become.
const EXPRESSION_BEGIN: (&str, &str) = (
    "(\n",
    "{ use ::glassbox_prelude::{cell::ShowDebug as _, display::EvcxrDisplay as _}; (&(\n",
);
const EXPRESSION_END: (&str, &str) = (").evcxr_display();\n", ")).evcxr_display() };\n");

const PANIC: (&str, &str) = (
    "    println!(\"EVCXR_PANIC_NOTIFICATION\");\n",
    "    ::glassbox_prelude::session::control(\"EVCXR_PANIC_NOTIFICATION\");\n",
);

const FAILED: (&str, &str) = (
    "println!(\"{}\", evcxr_internal_runtime::USER_ERROR_OCCURRED);\n",
    "::glassbox_prelude::session::control(evcxr_internal_runtime::USER_ERROR_OCCURRED);\n",
);

const ERROR_TEXT: &str = "impl<T: std::fmt::Display> From<T> for EvcxrUserCodeError {\n                \
     fn from(error: T) -> Self {\n                    ";
const ERROR_CALLER: (&str, &str) = ("fn from(error: T)", "#[track_caller] fn from(error: T)");
const ERROR_REPORT: (&str, &str) = (
    "eprintln!(\"{}\", error);\n",
    "::glassbox_prelude::cell::failed(&error);\n",
);

const TYPE_CHANGED: (&str, &str) = (
    "            println!(\"{VARIABLE_CHANGED_TYPE}{name}\");\n",
    "            ::glassbox_prelude::session::control(&format!(\"{VARIABLE_CHANGED_TYPE}{name}\"));\n",
);

/// First words of the line that defines how a final expression without a picture is shown.
const SHOW_TEXT: &str = "fn evcxr_send_text_plain(text: &str) {";
const SHOW_TEXT_BY_EVENT: &str =
    "fn evcxr_send_text_plain(text: &str) { ::glassbox_prelude::session::send_result(text) }\n";

/// The source to compile instead of `source`, line for line.
pub(crate) fn rewrite(source: &str) -> String {
    let mut source = source.to_owned();
    // What evcxr generates stands behind the items of all cells: the last occurrence is evcxr's.
    for (before, after) in [PANIC, FAILED, TYPE_CHANGED] {
        replace_last(&mut source, before, after);
    }
    replace_error_report(&mut source);
    replace_expression(&mut source);
    replace_show_text(&mut source);
    source
}

fn replace_last(source: &mut String, before: &str, after: &str) {
    if let Some(at) = source.rfind(before) {
        source.replace_range(at..at + before.len(), after);
    }
}

fn replace_error_report(source: &mut String) {
    if let Some(at) = source.rfind(ERROR_TEXT) {
        let at = at + ERROR_TEXT.len();
        let (before, after) = ERROR_REPORT;
        if source[at..].starts_with(before) {
            source.replace_range(at..at + before.len(), after);
            let (before, after) = ERROR_CALLER;
            if let Some(begin) = source[..at].rfind(before) {
                source.replace_range(begin..begin + before.len(), after);
            }
        }
    }
}

fn replace_expression(source: &mut String) {
    let (before, after) = EXPRESSION_END;
    let Some(end) = source.rfind(&format!("\n{before}")).map(|at| at + 1) else {
        return;
    };
    let Some(begin) = source[..end]
        .rfind(&format!("\n{}", EXPRESSION_BEGIN.0))
        .map(|at| at + 1)
    else {
        return;
    };
    source.replace_range(end..end + before.len(), after);
    source.replace_range(begin..begin + EXPRESSION_BEGIN.0.len(), EXPRESSION_BEGIN.1);
}

fn replace_show_text(source: &mut String) {
    let Some(at) = source.rfind(&format!("\n{SHOW_TEXT}")).map(|at| at + 1) else {
        return;
    };
    let Some(length) = source[at..].find('\n').map(|length| length + 1) else {
        return;
    };
    source.replace_range(at..at + length, SHOW_TEXT_BY_EVENT);
}

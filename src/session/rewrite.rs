//! Turns the source that evcxr generates into what we compile.
//!
//! Only lines that evcxr itself wrote are touched, and never their number, so that errors and panics keep the line and
//! column numbers by which they are traced back to the cell:
//! - what it prints to stdout for its own use goes to the private control descriptor instead;
//! - a failed `?` reports its error as an event;
//! - the last expression shows itself in one compilation: as a picture if it can, else by `{:?}`.

use ra_ap_syntax::ast::{self, HasAttrs, HasGenericArgs, HasGenericParams, HasModuleItem, HasName};
use ra_ap_syntax::{AstNode, Edition, SourceFile};

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
            let register: String = error_types(source)
                .iter()
                .map(|name| register(name))
                .collect();
            source.replace_range(at..at + before.len(), &format!("{register}{after}"));
            let (before, after) = ERROR_CALLER;
            if let Some(begin) = source[..at].rfind(before) {
                source.replace_range(begin..begin + before.len(), after);
            }
        }
    }
}

/// Tells the prelude that a type of the cells may be an error with sources, for when a `?` fails.
pub(crate) fn register(name: &str) -> String {
    format!(
        "{{ use ::glassbox_prelude::cell::{{IsError as _, IsNoError as _}}; \
         (&::glassbox_prelude::cell::Candidate::<{name}>::new()).register(); }} "
    )
}

/// The types without parameters, at the top level of `source`, that say of themselves that they are errors.
pub(crate) fn error_types(source: &str) -> Vec<String> {
    if !source.contains("Error for ") && !source.contains("derive(") {
        return Vec::new();
    }
    let file = SourceFile::parse(source, Edition::Edition2024).tree();
    let mut names: Vec<String> = file.items().filter_map(error_type).collect();
    names.sort();
    names.dedup();
    names
}

fn error_type(item: ast::Item) -> Option<String> {
    let plain = |generics: Option<ast::GenericParamList>, name: Option<ast::Name>| {
        generics
            .is_none()
            .then(|| name.map(|name| name.text().to_string()))?
    };
    match item {
        ast::Item::Struct(item) if derives_error(&item) => {
            plain(item.generic_param_list(), item.name())
        }
        ast::Item::Enum(item) if derives_error(&item) => {
            plain(item.generic_param_list(), item.name())
        }
        ast::Item::Impl(item) => {
            let is_error = last_name(&item.trait_()?)? == "Error";
            let ast::Type::PathType(path) = item.self_ty()? else {
                return None;
            };
            let path = path.path()?;
            let simple = path.qualifier().is_none()
                && path.segment()?.generic_arg_list().is_none()
                && item.generic_param_list().is_none();
            (is_error && simple).then(|| path.syntax().text().to_string())
        }
        _ => None,
    }
}

fn last_name(ty: &ast::Type) -> Option<String> {
    let ast::Type::PathType(path) = ty else {
        return None;
    };
    let name = path.path()?.segment()?.name_ref()?;
    Some(name.text().to_string())
}

fn derives_error(item: &impl HasAttrs) -> bool {
    item.attrs().any(|attribute| {
        let text = attribute.syntax().text().to_string();
        let Some(list) = text.split_once("derive").map(|(_, list)| list) else {
            return false;
        };
        list.split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .any(|word| word == "Error")
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_say_they_are_errors_are_found() {
        let source = "#[derive(Debug, thiserror::Error)]\nenum Mine { A }\nstruct Plain;\n\
                      impl std::error::Error for Other {}\nimpl<T> Error for Many<T> {}\n\
                      #[derive(Clone)]\nstruct Error2;\nimpl From<Mine> for Other {}\n\
                      mod inner { impl Error for Hidden {} }";
        assert_eq!(error_types(source), ["Mine", "Other"]);
        assert_eq!(error_types("fn f() {}"), [""; 0]);
    }
}

//! Which types of the cells are errors: the prelude is told of them before a cell with a `?` runs, so that it finds the sources of
//! the error that ended it.

use ra_ap_syntax::AstNode;
use ra_ap_syntax::ast::{self, HasAttrs, HasGenericArgs, HasGenericParams, HasModuleItem, HasName};

use crate::session::nesting::parse;

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
    let file = parse(source).tree();
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

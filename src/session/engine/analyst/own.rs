//! Answers without rust-analyzer: the names of the session's variables and items, and what is said of them there.

use glassbox_analyst_wire::{Answer, Completion, Completions, Inspection, Page, Question};
use ra_ap_syntax::AstNode;
use ra_ap_syntax::ast::{self, HasModuleItem, HasName};

use super::page::Known;
use super::targets::subject;
use crate::html;
use crate::session::engine::types::shortened;
use crate::session::nesting::parse;

/// What can be said; where nothing can, `news` says why.
pub(super) fn answer(known: &Known, page: &Page, question: &Question, news: &str) -> Answer {
    match question {
        Question::Complete => Answer::Completions(complete(known, page)),
        Question::Inspect(subject) => {
            let name = subject.name.clone().and_then(|name| page.code.get(name));
            let found =
                name.and_then(|name| names(known).into_iter().find(|found| found.text == name));
            Answer::Inspection(Some(inspection(found, news)))
        }
        Question::TypeOf => Answer::Refused(news.to_owned()),
    }
}

fn complete(known: &Known, page: &Page) -> Completions {
    let word = subject(&page.code, page.cursor).name;
    let start = word
        .as_ref()
        .map_or(page.cursor, |word| word.start.min(page.cursor));
    let (before, begun) = (&page.code[..start], &page.code[start..page.cursor]);
    // Members, and what is in a module, is not known.
    let named_alone = !before.trim_end().ends_with(['.', ':']);
    let mut items = names(known);
    items.retain(|item| named_alone && item.text.starts_with(begun));
    Completions {
        start,
        end: word.map_or(page.cursor, |word| word.end),
        items,
    }
}

fn inspection(found: Option<Completion>, news: &str) -> Inspection {
    let declaration = found.map(|found| found.detail.map_or(found.text, |_| found.label));
    let (mut plain, mut markdown, mut html) = (String::new(), String::new(), String::new());
    if let Some(text) = declaration {
        plain = format!("{text}\n\n");
        markdown = format!("```rust\n{text}\n```\n\n");
        html = format!("<pre><code>{}</code></pre>", html::escape(&text));
    }
    plain += news;
    markdown += news;
    html += &format!("<p>{}</p>", html::escape(news));
    Inspection {
        plain,
        markdown,
        html,
    }
}

/// The variables, with their types, then the items.
fn names(known: &Known) -> Vec<Completion> {
    let variables = parse(&format!("fn f({}) {{}}", known.parameters)).tree();
    let parameters = variables
        .syntax()
        .descendants()
        .filter_map(ast::Param::cast);
    let mut found: Vec<Completion> = parameters
        .filter_map(|parameter| {
            let Some(ast::Pat::IdentPat(pattern)) = parameter.pat() else {
                return None;
            };
            let name = pattern.name()?.text().to_string();
            let ty = shortened(&parameter.ty()?.syntax().text().to_string());
            Some(Completion {
                label: format!("{name}: {ty}"),
                text: name,
                kind: "instance",
                detail: Some(ty),
                ..Completion::default()
            })
        })
        .collect();
    found.extend(parse(&known.items).tree().items().filter_map(named));
    found
}

fn named(item: ast::Item) -> Option<Completion> {
    let (name, kind) = match item {
        ast::Item::Fn(item) => (item.name(), "function"),
        ast::Item::MacroRules(item) => (item.name(), "function"),
        ast::Item::Struct(item) => (item.name(), "class"),
        ast::Item::Enum(item) => (item.name(), "class"),
        ast::Item::Union(item) => (item.name(), "class"),
        ast::Item::Trait(item) => (item.name(), "class"),
        ast::Item::TypeAlias(item) => (item.name(), "class"),
        ast::Item::Module(item) => (item.name(), "module"),
        ast::Item::Const(item) => (item.name(), "instance"),
        ast::Item::Static(item) => (item.name(), "instance"),
        _ => return None,
    };
    let name = name?.text().to_string();
    Some(Completion {
        label: name.clone(),
        text: name,
        kind,
        ..Completion::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        Known {
            items: "fn double(x: i32) -> i32 { 2 * x }\nstruct Dot;\n".to_owned(),
            parameters: "mut dogs: ::std::vec::Vec<::std::string::String>, cat: u8, ".to_owned(),
        }
    }

    fn completed(code: &str) -> Vec<String> {
        let page = known().page(code, code.len()).unwrap();
        let Answer::Completions(found) = answer(&known(), &page, &Question::Complete, "") else {
            panic!("no completions");
        };
        assert_eq!(found.end, code.len());
        found.items.into_iter().map(|item| item.label).collect()
    }

    #[test]
    fn names_of_the_session_are_proposed() {
        assert_eq!(completed("let a = do"), ["dogs: Vec<String>", "double"]);
        assert_eq!(completed("D"), ["Dot"]);
        assert_eq!(completed("").len(), 4);
        for member in ["dogs.", "dogs.do", "std::d", "nothing"] {
            assert!(completed(member).is_empty(), "{member}");
        }
    }

    #[test]
    fn an_inspection_says_what_is_known_and_why_not_more() {
        let told = |code: &str| {
            let page = known().page(code, 1).unwrap();
            let question = Question::Inspect(subject(code, 1));
            let Answer::Inspection(Some(found)) =
                answer(&known(), &page, &question, "Built <soon>.")
            else {
                panic!("nothing is said of {code}");
            };
            found
        };
        assert_eq!(told("dogs").plain, "dogs: Vec<String>\n\nBuilt <soon>.");
        assert_eq!(told("nothing").markdown, "Built <soon>.");
        assert!(told("Dot").html.ends_with("<p>Built &lt;soon&gt;.</p>"));
    }
}

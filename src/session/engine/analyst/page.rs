//! The file that rust-analyzer is asked about: what the session knows, then a cell inside a function.
//!
//! ```text
//! items of all cells
//! async fn …(variables of all cells) -> Result<…> {
//!     the cell, unchanged        ◀── a place in it is the place in the file less `start`
//! }
//! ```

use glassbox_analyst_wire::{FUNCTION, Page};

use crate::session::nesting::depth;
use crate::session::syntax;

/// Code that nests deeper is not looked at: each operator of a long chain takes rust-analyzer time, and each level stack.
const DEEPEST: usize = 400;

/// What the session knew when its last cell began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// The items of all cells.
    pub items: String,
    /// The variables, as parameters of a function.
    pub parameters: String,
}

impl Known {
    /// The file around `code`; `None` if nothing can be said of it at this place.
    pub(super) fn page(&self, code: &str, cursor: usize) -> Option<Page> {
        let cursor = code.floor_char_boundary(cursor);
        // Lines of commands are no Rust. They are blanked out so that every place stays where it is.
        let commands = code.len() - syntax::skip_commands(code).len();
        let start = code[..cursor].rfind('\n').map_or(0, |end| end + 1);
        let line = code[start..].lines().next().unwrap_or_default();
        let on_command = start < commands && syntax::is_aside(line);
        if on_command || depth(&code[commands..]) > DEEPEST {
            return None;
        }
        let blank = code[..commands].bytes().map(|byte| match byte {
            b'\n' => '\n',
            _ => ' ',
        });
        let code: String = blank.chain(code[commands..].chars()).collect();
        let mut text = format!(
            "{}\nasync fn {FUNCTION}({}) -> ::core::result::Result<(), ::glassbox_prelude::cell::Failed> {{\n",
            self.items, self.parameters
        );
        let start = text.len();
        text.push_str(&code);
        // The semicolon keeps the last expression from being taken for the function's result.
        text.push_str("\n;\n}\n");
        Some(Page {
            text,
            start,
            code,
            cursor,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn places_stay_where_they_are_and_commands_vanish() {
        let known = Known {
            items: "fn f() {}\n".to_owned(),
            parameters: "x: u8, ".to_owned(),
        };
        let code = "!ls é\n:dep a\nlet é = x;";
        let page = known.page(code, code.len()).unwrap();
        assert_eq!(page.code.len(), code.len());
        assert_eq!(page.code.trim(), "let é = x;");
        assert_eq!(&page.text[page.start..page.start + code.len()], page.code);
        assert_eq!(known.page(code, 3), None);
        for code in [":vars", "// a comm", "!ls"] {
            assert_eq!(known.page(code, code.len()), None, "{code}");
        }
        // An empty line above the code is a place for code, a comment there is none.
        let code = ":dep a\n\n// b\nlet c = x;";
        assert!(known.page(code, 7).is_some() && known.page(code, 10).is_none());
        // Inside a character: the place before it.
        assert_eq!(known.page("é", 1).unwrap().cursor, 0);
    }

    #[test]
    fn what_nests_too_deep_is_not_looked_at() {
        let page = |code: &str| Known::default().page(code, code.len());
        assert!(page(&"(".repeat(1000)).is_none());
        assert!(page(&"-".repeat(1000)).is_none());
        assert!(page(&"(a);".repeat(1000)).is_some());
        assert!(page(&"a-b*c;".repeat(1000)).is_some());
    }

    proptest! {
        #[test]
        fn any_code_makes_a_page(code in "(:dep a\n|!l\n|\\PC|[{}();\n]){0,30}", at in any::<prop::sample::Index>()) {
            let at = at.index(code.len() + 1);
            if let Some(page) = Known::default().page(&code, at) {
                prop_assert!(page.code.is_char_boundary(page.cursor) && page.code.len() == code.len());
            }
        }
    }
}

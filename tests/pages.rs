//! The course as pages (`docs/pages`, made by `scripts/pages.py`): each is of the notebook as it stands, small, and loads nothing from
//! elsewhere; the index leads to all of them; links within the documentation lead somewhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use glassbox::notebook::document::Notebook;

/// A page is no larger, in bytes: a phone loads it.
const LARGEST: u64 = 500_000;
/// All pages and their pictures together, in bytes.
const LARGEST_TOGETHER: u64 = 5_000_000;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> PathBuf {
    root().join("docs/pages")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names, without it, of the files in a folder that have this extension.
fn named(folder: &Path, extension: &str) -> BTreeSet<String> {
    let entries =
        std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    let wanted = paths.filter(|path| path.extension().is_some_and(|found| found == extension));
    let stems = wanted.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned());
    stems.filter(|stem| !stem.contains(".executed")).collect()
}

fn page(name: &str) -> String {
    read(&pages().join(format!("{name}.html")))
}

/// What stands in quotes behind each `name=`.
fn values<'a>(html: &'a str, name: &str) -> Vec<&'a str> {
    let begin = format!("{name}=\"");
    let behind = html.split(&begin).skip(1);
    behind.filter_map(|rest| rest.split('"').next()).collect()
}

/// The file that a link of `from` leads to, if it is one of this repository.
fn file_of(from: &Path, link: &str) -> Option<PathBuf> {
    let file = link.split('#').next().unwrap_or_default();
    let elsewhere = ["http://", "https://", "data:", "mailto:"]
        .iter()
        .any(|scheme| link.starts_with(scheme));
    (!elsewhere && !file.is_empty()).then(|| from.parent().unwrap().join(file))
}

#[test]
fn each_page_is_of_the_notebook_as_it_stands() {
    let notebooks = named(&root().join("notebooks"), "ipynb");
    assert!(notebooks.len() >= 13, "{notebooks:?}");
    for name in &notebooks {
        let notebook =
            Notebook::parse(&read(&root().join(format!("notebooks/{name}.ipynb")))).unwrap();
        let meta = format!(
            "<meta name=\"notebook-sha256\" content=\"{}\">",
            notebook.digest()
        );
        assert!(
            pages().join(format!("{name}.html")).exists() && page(name).contains(&meta),
            "docs/pages/{name}.html is missing or of another text than the notebook: scripts/pages.py makes it"
        );
    }
    let mut written = named(&pages(), "html");
    assert!(written.remove("index"), "there is no index");
    assert_eq!(written, notebooks, "a page without its notebook");
}

#[test]
fn pages_are_small_show_what_came_out_and_load_nothing() {
    let mut together = 0;
    for name in named(&pages(), "html") {
        let size = std::fs::metadata(pages().join(format!("{name}.html")))
            .unwrap()
            .len();
        assert!(size <= LARGEST, "{name}: {size} bytes");
        together += size;
        let html = page(&name);
        for outside in ["<script", "<link ", "@import", "url(", "<iframe"] {
            assert!(!html.contains(outside), "{name} says {outside}");
        }
        for needed in [
            "prefers-color-scheme: dark",
            "width=device-width",
            "Content-Security-Policy",
        ] {
            assert!(html.contains(needed), "{name} lacks {needed}");
        }
        for source in values(&html, " src") {
            let own = source.starts_with("data:image/");
            assert!(
                own || name == "index" && source.starts_with("pictures/"),
                "{name}: {source}"
            );
        }
        if name != "index" {
            assert!(html.contains("class=\"out"), "{name} was not executed");
            assert!(
                !html.contains("class=\"cell failed\""),
                "a cell of {name} failed"
            );
        }
    }
    for picture in std::fs::read_dir(pages().join("pictures")).unwrap() {
        together += picture.unwrap().metadata().unwrap().len();
    }
    assert!(together <= LARGEST_TOGETHER, "{together} bytes");
}

/// A notebook's card says what it teaches, what comes out and how long it takes, in the words of its first cell.
#[test]
fn the_index_leads_to_every_page_and_shows_a_picture_of_it() {
    let index = page("index");
    for name in named(&root().join("notebooks"), "ipynb") {
        assert!(
            values(&index, " href").contains(&format!("{name}.html").as_str()),
            "the index lacks {name}"
        );
        let shown = |source: &&str| source.starts_with(&format!("pictures/{name}."));
        assert!(
            values(&index, " src").iter().any(shown),
            "the index has no picture of {name}"
        );
        let first = Notebook::parse(&read(&root().join(format!("notebooks/{name}.ipynb"))))
            .unwrap()
            .cells()[0]
            .source();
        for needed in [
            "**You will** (1)",
            "(2)",
            "(3)",
            "**Time**:",
            "**Know before**:",
            "> **What comes out.**",
        ] {
            assert!(
                first.contains(needed),
                "the first cell of {name} lacks {needed}"
            );
        }
        let title = first.lines().next().unwrap().trim_start_matches("# ");
        assert!(index.contains(title), "the index does not say {title}");
    }
}

/// A figure is a file beside the notebooks; in a page it stands inside, as it is now.
#[test]
fn figures_that_notebooks_show_are_there_and_in_their_pages() {
    let folder = root().join("notebooks");
    let mut shown = BTreeSet::new();
    for name in named(&folder, "ipynb") {
        let notebook = Notebook::parse(&read(&folder.join(format!("{name}.ipynb")))).unwrap();
        for cell in notebook.cells() {
            let source = cell.source();
            for rest in source.split("](figures/").skip(1) {
                let file = rest.split(')').next().unwrap_or_default();
                let figure = std::fs::read(folder.join("figures").join(file))
                    .unwrap_or_else(|error| panic!("{name} shows figures/{file}: {error}"));
                assert!(
                    page(&name).contains(&STANDARD.encode(figure)),
                    "docs/pages/{name}.html has not figures/{file} as it is now: scripts/pages.py puts it in"
                );
                shown.insert(file.trim_end_matches(".svg").to_owned());
            }
        }
    }
    assert_eq!(
        shown,
        named(&folder.join("figures"), "svg"),
        "figures shown by a notebook, and those that are there"
    );
}

#[test]
fn links_of_pages_and_of_the_documentation_lead_to_files_that_are_there() {
    for name in named(&pages(), "html") {
        let from = pages().join(format!("{name}.html"));
        let html = page(&name);
        for link in [values(&html, " href"), values(&html, " src")].concat() {
            if let Some(file) = file_of(&from, link) {
                assert!(file.exists(), "{name}: {link}");
                assert!(
                    file.extension().is_none_or(|end| end != "ipynb"),
                    "{name} leads to a notebook: {link}"
                );
            }
        }
    }
    let documents = named(&root().join("docs"), "md")
        .into_iter()
        .map(|name| root().join(format!("docs/{name}.md")));
    for from in documents.chain([root().join("README.md"), root().join("CONTRIBUTING.md")]) {
        for rest in read(&from).split("](").skip(1) {
            let link = rest.split(')').next().unwrap_or_default();
            if let Some(file) = file_of(&from, link) {
                assert!(file.exists(), "{}: {link}", from.display());
            }
        }
    }
}

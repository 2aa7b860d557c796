//! rust-analyzer itself: its database, filled with the crates that it is shown and one file of our own.
//!
//! ```text
//! Crates ─▶ files, crate graph ─▶ AnalysisHost ◀── the page: what the session knows, and a cell
//!                                      └─▶ View: a snapshot that answers questions
//! ```
//! Everything but the page is given as belonging to libraries: rust-analyzer then knows that it does not change, and
//! looks only at the page again when that does.

use std::fs;
use std::path::Path;

use glassbox_analyst_wire::{Crates, Krate, Origin, Page, STANDARD};
use ra_ap_hir::{CfgOptions, ChangeWithProcMacros, Symbol};
use ra_ap_ide::{Analysis, AnalysisHost, CrateGraphBuilder, Edition, FileId, SourceRoot};
use ra_ap_ide_db::RootDatabase;
use ra_ap_ide_db::base_db::target::{Arch, TargetData};
use ra_ap_ide_db::base_db::{
    AbsPathBuf, CrateBuilderId, CrateDisplayName, CrateName, CrateOrigin, CrateWorkspaceData,
    DependencyBuilder, Env, FileSet, LangCrateOrigin, Version, VfsPath,
};
use triomphe::Arc;

/// Folders of a package with Rust files that are no part of its library.
const ASIDE: [&str; 6] = ["target", "tests", "examples", "benches", "wire", ".git"];

/// The database.
pub(super) struct World {
    host: AnalysisHost,
    page: FileId,
}

/// What the database says at one moment about one page.
pub(super) struct View {
    pub analysis: Analysis,
    /// The same, for what the analysis has no question for.
    pub database: RootDatabase,
    pub file: FileId,
    pub page: Page,
}

impl World {
    pub(super) fn load(crates: &Crates) -> Result<World, String> {
        let mut files = Files::default();
        let mut roots = Vec::new();
        for krate in &crates.all {
            roots.push(files.read(krate));
        }
        let page = files.add(
            VfsPath::new_virtual_path("/cell.rs".to_owned()),
            String::new(),
        );
        files.close(SourceRoot::new_local);

        let graph = Graph {
            settings: &crates.settings,
            workspace: Arc::new(CrateWorkspaceData {
                target: match &crates.layout {
                    Some(layout) => Ok(TargetData {
                        data_layout: layout.as_str().into(),
                        arch: Arch::Other,
                    }),
                    None => Err("rustc does not say".into()),
                },
                toolchain: Version::parse(&crates.release).ok(),
            }),
        };
        let mut change = files.change;
        change.set_roots(files.roots);
        change.set_crate_graph(graph.build(crates, &roots, page)?);
        let mut host = AnalysisHost::default();
        host.apply_change(change);
        Ok(World { host, page })
    }

    /// Writes the page anew.
    pub(super) fn show(&mut self, page: Page) -> View {
        let mut change = ChangeWithProcMacros::default();
        change.change_file(self.page, Some(page.text.clone()));
        self.host.apply_change(change);
        View {
            analysis: self.host.analysis(),
            database: self.host.raw_database().clone(),
            file: self.page,
            page,
        }
    }

    /// Throws away what only answers of the past needed. Nothing may be asked meanwhile.
    pub(super) fn tidy(&mut self) {
        self.host.trigger_garbage_collection();
    }
}

/// The files of all crates.
#[derive(Default)]
struct Files {
    change: ChangeWithProcMacros,
    roots: Vec<SourceRoot>,
    /// Those of the crate that is being read.
    open: FileSet,
    count: u32,
}

impl Files {
    fn add(&mut self, path: VfsPath, text: String) -> FileId {
        let id = FileId::from_raw(self.count);
        self.count += 1;
        self.open.insert(id, path);
        self.change.change_file(id, Some(text));
        id
    }

    fn close(&mut self, root: fn(FileSet) -> SourceRoot) {
        self.roots.push(root(std::mem::take(&mut self.open)));
    }

    /// Reads the files of a crate; returns the one that it begins with, if it is there.
    fn read(&mut self, krate: &Krate) -> Option<FileId> {
        let mut root = None;
        if let Some(folder) = krate.root.parent() {
            self.walk(folder, &krate.root, &mut root);
        }
        self.close(SourceRoot::new_library);
        root
    }

    fn walk(&mut self, folder: &Path, wanted: &Path, root: &mut Option<FileId>) {
        let Ok(entries) = fs::read_dir(folder) else {
            return;
        };
        for entry in entries.filter_map(Result::ok) {
            let path = entry.path();
            let aside = || ASIDE.iter().any(|name| entry.file_name() == *name);
            if path.is_dir() {
                // A module may have such a name, a package's other folders stand beside its manifest.
                if !(aside() && folder.join("Cargo.toml").exists()) {
                    self.walk(&path, wanted, root);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && let Some(name) = path.to_str()
                && let Ok(absolute) = AbsPathBuf::try_from(name)
                && let Ok(text) = fs::read_to_string(&path)
            {
                let id = self.add(absolute.into(), text);
                if path == wanted {
                    *root = Some(id);
                }
            }
        }
    }
}

/// What all crates are told.
struct Graph<'a> {
    settings: &'a str,
    workspace: Arc<CrateWorkspaceData>,
}

impl Graph<'_> {
    fn build(
        &self,
        crates: &Crates,
        roots: &[Option<FileId>],
        page: FileId,
    ) -> Result<CrateGraphBuilder, String> {
        let mut graph = CrateGraphBuilder::default();
        let mut known: Vec<Option<CrateBuilderId>> = Vec::new();
        for (krate, root) in crates.all.iter().zip(roots) {
            let id = root.map(|root| self.add(&mut graph, krate, root));
            if let Some(id) = id {
                connect(&mut graph, id, krate, &known, &krate.needs)?;
            }
            known.push(id);
        }
        let cell = Krate {
            name: "cell".to_owned(),
            version: None,
            root: "/cell.rs".into(),
            edition: "2024".to_owned(),
            features: Vec::new(),
            origin: Origin::Prelude,
            makes_macros: false,
            needs: Vec::new(),
        };
        let id = self.add(&mut graph, &cell, page);
        connect(&mut graph, id, &cell, &known, &crates.named)?;
        Ok(graph)
    }

    fn add(&self, graph: &mut CrateGraphBuilder, krate: &Krate, root: FileId) -> CrateBuilderId {
        let origin = match krate.origin {
            Origin::Standard => CrateOrigin::Lang(LangCrateOrigin::from(krate.name.as_str())),
            Origin::Prelude => CrateOrigin::Local {
                repo: None,
                name: Some(Symbol::intern(&krate.name)),
            },
            Origin::Library => CrateOrigin::Library {
                repo: None,
                name: Symbol::intern(&krate.name),
            },
        };
        // It matters to macros, which we don't run.
        let folder = AbsPathBuf::assert("/".into());
        let mut env = Env::default();
        env.set("CARGO_PKG_NAME", krate.name.as_str());
        if let Some(version) = &krate.version {
            env.set("CARGO_PKG_VERSION", version.as_str());
        }
        graph.add_crate_root(
            root,
            krate.edition.parse().unwrap_or(Edition::CURRENT),
            Some(CrateDisplayName::from_canonical_name(&krate.name)),
            krate.version.clone(),
            self.options(krate),
            None,
            env,
            origin,
            Vec::new(),
            krate.makes_macros,
            Arc::new(folder),
            self.workspace.clone(),
        )
    }

    fn options(&self, krate: &Krate) -> CfgOptions {
        let mut options = CfgOptions::default();
        let features = krate
            .features
            .iter()
            .map(|feature| format!("feature={feature:?}"));
        // The last one keeps processor intrinsics out of the standard library, whose files are not there.
        let own = ["debug_assertions", "miri"];
        let own = &own[..if krate.origin == Origin::Standard {
            2
        } else {
            1
        }];
        let lines = self.settings.lines().chain(own.iter().copied());
        for line in lines.map(str::to_owned).chain(features) {
            match line.split_once('=') {
                Some((key, value)) => options
                    .insert_key_value(Symbol::intern(key), Symbol::intern(value.trim_matches('"'))),
                None => options.insert_atom(Symbol::intern(&line)),
            }
        }
        options
    }
}

/// Tells a crate of those that it needs, and of the standard library.
fn connect(
    graph: &mut CrateGraphBuilder,
    from: CrateBuilderId,
    krate: &Krate,
    known: &[Option<CrateBuilderId>],
    needs: &[(String, usize)],
) -> Result<(), String> {
    let mut add = |name: &str, place: usize, in_prelude: bool, standard: bool| {
        let Some(Some(to)) = known.get(place) else {
            return Ok(());
        };
        let name = CrateName::normalize_dashes(name);
        graph
            .add_dep(
                from,
                DependencyBuilder::with_prelude(name, *to, in_prelude, standard),
            )
            .map_err(|error| error.to_string())
    };
    for (name, place) in needs {
        add(name, *place, true, false)?;
    }
    if krate.origin != Origin::Standard {
        for (place, name) in STANDARD.iter().enumerate() {
            match *name {
                "proc_macro" if !krate.makes_macros => {}
                // Of these `alloc` has to be asked for by `extern crate`.
                name => add(name, place, name != "alloc", true)?,
            }
        }
    }
    Ok(())
}

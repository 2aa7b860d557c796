//! Kernelspecs: the folder by which Jupyter finds the kernel, written and removed.
//!
//! A spec is written beside its final place and moved there, so a failure leaves the old one as it was. Only specs that
//! Glassbox wrote are replaced or removed: they carry a `glassbox` key in their metadata.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::session::FEATURES_VARIABLE;
use crate::{private, programs};

use super::stock;

const LOGOS: [(&str, &[u8]); 3] = [
    ("logo-32x32.png", include_bytes!("logo/logo-32x32.png")),
    ("logo-64x64.png", include_bytes!("logo/logo-64x64.png")),
    ("logo-svg.svg", include_bytes!("logo/logo-svg.svg")),
];

/// Where a kernelspec goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Place {
    /// The user's Jupyter data folder: `$JUPYTER_DATA_DIR`, else `jupyter` in the XDG data folder
    /// (`~/Library/Jupyter` on macOS).
    #[default]
    User,
    /// `share/jupyter` under this folder.
    Prefix(PathBuf),
    /// `share/jupyter` under the prefix of the active Python environment.
    SysPrefix,
}

/// What to install or uninstall.
#[derive(Debug, Clone, Default)]
pub struct InstallOptions {
    /// Where.
    pub place: Place,
    /// The kernel's name for clients (`jupyter console --kernel NAME`); by default `glassbox`, or `glassbox-stock`.
    pub name: Option<String>,
    /// Plain evcxr_jupyter with the prelude preloaded, instead of Glassbox's own kernel.
    pub stock: bool,
    /// Features of the prelude that the kernel's sessions are built with, such as `cuda`.
    pub features: Vec<String>,
}

impl InstallOptions {
    /// The name in use.
    pub fn name(&self) -> &str {
        match (&self.name, self.stock) {
            (Some(name), _) => name,
            (None, false) => "glassbox",
            (None, true) => "glassbox-stock",
        }
    }
}

/// Writes the kernelspec for this executable and returns its folder.
///
/// # Errors
/// The name is not one that Jupyter accepts, the name belongs to another kernel, or the folder cannot be written.
pub fn install(options: &InstallOptions) -> Result<PathBuf> {
    let folder = spec_folder(options)?;
    if folder.exists() && !is_ours(&folder) {
        bail!(
            "{} is another kernel: choose another --name, or remove it with `jupyter kernelspec remove`",
            folder.display()
        );
    }
    let program = std::env::current_exe().context("the path of this program is not known")?;
    let program = program
        .to_str()
        .with_context(|| format!("{} is not UTF-8", program.display()))?;
    write(&folder, &kernel_json(options, program))
        .with_context(|| format!("the kernelspec cannot be written to {}", folder.display()))?;
    Ok(folder)
}

/// Removes a kernelspec that [`install`] wrote and returns where it was.
///
/// # Errors
/// There is none of that name in that place, or it belongs to another kernel.
pub fn uninstall(options: &InstallOptions) -> Result<PathBuf> {
    let folder = spec_folder(options)?;
    if !folder.exists() {
        bail!(
            "no kernel named {} in {}",
            options.name(),
            folder.parent().unwrap_or(&folder).display()
        );
    }
    if !is_ours(&folder) {
        bail!("{} is another kernel: it stays", folder.display());
    }
    std::fs::remove_dir_all(&folder)
        .with_context(|| format!("{} cannot be removed", folder.display()))?;
    Ok(folder)
}

/// The folder of the kernelspec that `options` describe, whether it exists or not.
///
/// # Errors
/// The name is not one that Jupyter accepts, or the place is not known on this machine.
pub fn spec_folder(options: &InstallOptions) -> Result<PathBuf> {
    let name = options.name();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if name.is_empty() || !name.chars().all(fits) || name.starts_with('.') {
        bail!("kernel name {name:?}: Jupyter takes ASCII letters, digits, '-', '_' and '.'");
    }
    let data = match &options.place {
        Place::User => user_data_dir()?,
        Place::Prefix(prefix) => prefix.join("share").join("jupyter"),
        Place::SysPrefix => python_prefix()?.join("share").join("jupyter"),
    };
    Ok(data.join("kernels").join(name))
}

fn kernel_json(options: &InstallOptions, program: &str) -> Value {
    let name = options.name();
    let (arguments, title, usual) = if options.stock {
        (
            [stock::SUBCOMMAND, stock::SERVE],
            "Glassbox (stock evcxr)",
            "glassbox-stock",
        )
    } else {
        (["kernel", "--connection-file"], "Glassbox", "glassbox")
    };
    let title = if name == usual {
        title.to_owned()
    } else {
        format!("{title}: {name}")
    };
    let glassbox = json!({ "version": env!("CARGO_PKG_VERSION"), "stock": options.stock });
    let mut environment = serde_json::Map::new();
    if !options.features.is_empty() {
        environment.insert(
            FEATURES_VARIABLE.to_owned(),
            options.features.join(",").into(),
        );
    }
    json!({
        "argv": [program, arguments[0], arguments[1], "{connection_file}"],
        "env": environment,
        "display_name": title,
        "language": "rust",
        "interrupt_mode": "message",
        "metadata": { "debugger": false, "glassbox": glassbox },
    })
}

fn write(folder: &Path, spec: &Value) -> Result<()> {
    let parent = folder
        .parent()
        .context("a kernelspec needs a folder to be in")?;
    private::make_ordinary_folders(parent)?;
    let new = tempfile::Builder::new()
        .prefix(".glassbox-")
        .tempdir_in(parent)?;
    std::fs::write(
        new.path().join("kernel.json"),
        serde_json::to_string_pretty(spec)? + "\n",
    )?;
    for (name, bytes) in LOGOS {
        std::fs::write(new.path().join(name), bytes)?;
    }
    for entry in std::fs::read_dir(new.path())? {
        private::make_ordinary(&entry?.path())?;
    }
    readable_by_all(new.path())?;
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::rename(new.path(), folder)?;
    // Moved away: nothing is left to clean up.
    let _ = new.keep();
    Ok(())
}

/// Temporary folders are private; a spec under a shared prefix is for everyone.
fn readable_by_all(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
}

fn is_ours(folder: &Path) -> bool {
    let spec = std::fs::read_to_string(folder.join("kernel.json")).ok();
    let spec: Option<Value> = spec.and_then(|text| serde_json::from_str(&text).ok());
    spec.is_some_and(|spec| spec.pointer("/metadata/glassbox").is_some())
}

fn user_data_dir() -> Result<PathBuf> {
    if let Some(folder) = set("JUPYTER_DATA_DIR") {
        return Ok(folder.into());
    }
    let folder = if cfg!(target_os = "macos") {
        dirs::home_dir().map(|home| home.join("Library").join("Jupyter"))
    } else {
        dirs::data_dir().map(|data| data.join("jupyter"))
    };
    folder.context(
        "the user's data folder is not known: set HOME or JUPYTER_DATA_DIR, or use --prefix",
    )
}

/// The prefix of the environment in use: the activated one, else what `python3` on PATH says.
fn python_prefix() -> Result<PathBuf> {
    if let Some(prefix) = set("VIRTUAL_ENV").or_else(|| set("CONDA_PREFIX")) {
        return Ok(prefix.into());
    }
    let needs = "--sys-prefix needs an active Python environment, or python3 on PATH";
    let python = programs::find("python3").context(needs)?;
    // Isolated: no module of the present folder takes the place of one of Python's own.
    let asked = programs::command(&python)
        .args(["-I", "-c", "import sys; print(sys.prefix)"])
        .output();
    let output = asked.context(needs)?;
    let prefix = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || prefix.is_empty() {
        bail!("python3 did not say its prefix: use --prefix instead");
    }
    Ok(prefix.into())
}

fn set(variable: &str) -> Option<OsString> {
    std::env::var_os(variable).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{InstallOptions, Place, install, spec_folder, uninstall};

    #[test]
    fn installs_replaces_and_removes_its_own_but_no_other() -> anyhow::Result<()> {
        let prefix = tempfile::tempdir()?;
        let options = InstallOptions {
            place: Place::Prefix(prefix.path().to_owned()),
            ..Default::default()
        };
        let folder = install(&options)?;
        assert_eq!(install(&options)?, folder);
        let spec: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(folder.join("kernel.json"))?)?;
        assert_eq!(spec["display_name"], "Glassbox");
        assert_eq!(spec["interrupt_mode"], "message");
        assert_eq!(spec["argv"][3], "{connection_file}");
        assert_eq!(
            std::fs::read_dir(prefix.path().join("share/jupyter/kernels"))?.count(),
            1
        );
        uninstall(&options)?;
        assert!(!folder.exists());

        std::fs::create_dir_all(&folder)?;
        std::fs::write(
            folder.join("kernel.json"),
            r#"{"argv": ["python3"], "display_name": "Mine"}"#,
        )?;
        assert!(install(&options).is_err());
        assert!(uninstall(&options).is_err());
        assert!(std::fs::read_to_string(folder.join("kernel.json"))?.contains("Mine"));
        Ok(())
    }

    #[test]
    fn features_reach_the_kernel_s_sessions() -> anyhow::Result<()> {
        let prefix = tempfile::tempdir()?;
        let options = InstallOptions {
            place: Place::Prefix(prefix.path().to_owned()),
            features: vec!["cuda".to_owned(), "more".to_owned()],
            ..Default::default()
        };
        let text = std::fs::read_to_string(install(&options)?.join("kernel.json"))?;
        let spec: serde_json::Value = serde_json::from_str(&text)?;
        assert_eq!(spec["env"]["GLASSBOX_FEATURES"], "cuda,more");
        Ok(())
    }

    #[test]
    fn a_name_cannot_leave_the_kernels_folder() {
        for name in ["", "..", "a/b", "ä", "a b"] {
            let options = InstallOptions {
                name: Some(name.to_owned()),
                ..Default::default()
            };
            assert!(spec_folder(&options).is_err(), "{name:?}");
        }
    }
}

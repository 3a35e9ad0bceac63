//! The programs that are measured, and what they offer.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::lab::run::LabError;

/// Where they are.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) server: PathBuf,
    pub(crate) bots: PathBuf,
    /// The help of the bots, which says what they know.
    bots_help: String,
}

impl Programs {
    /// Finds them in a folder, or beside this program. Where cargo runs this program, it builds them first, so that it never
    /// measures old ones.
    pub(crate) fn find(folder: Option<&Path>) -> Result<Self, LabError> {
        let beside = || Ok::<_, std::io::Error>(env::current_exe()?.parent().unwrap_or(Path::new(".")).to_owned());
        let folder = match folder {
            Some(folder) => folder.to_owned(),
            None => {
                let folder = beside().map_err(|source| LabError::Io { what: "find this program".into(), source })?;
                if let Some(cargo) = env::var_os("CARGO") {
                    build(Path::new(&cargo), &folder)?;
                }
                folder
            }
        };
        let [server, bots] = ["tickwire-server", "tickwire-bots"].map(|name| folder.join(name));
        for program in [&server, &bots] {
            if !program.is_file() {
                return Err(LabError::NoProgram { program: program.clone() });
            }
        }
        let help = Command::new(&bots).arg("--help").output();
        let help = help.map_err(|source| LabError::Io { what: format!("run {}", bots.display()), source })?;
        Ok(Self { server, bots, bots_help: String::from_utf8_lossy(&help.stdout).into_owned() })
    }

    /// Whether the bots have an option.
    pub(crate) fn bots_know(&self, option: &str) -> bool {
        self.bots_help.split(|c: char| c != '-' && !c.is_alphanumeric()).any(|word| word == option)
    }
}

/// Builds them into the folder in which this program is, by the profile that it was built with.
fn build(cargo: &Path, folder: &Path) -> Result<(), LabError> {
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let mut command = Command::new(cargo);
    command.args([
        "build",
        "--quiet",
        "-p",
        "tickwire-server",
        "-p",
        "tickwire-client",
        "--bins",
        "--profile",
        profile,
    ]);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    if let Some(target) = folder.parent() {
        command.arg("--target-dir").arg(target);
    }
    let status = command.status().map_err(|source| LabError::Io { what: "run cargo".into(), source })?;
    if status.success() { Ok(()) } else { Err(LabError::NotBuilt) }
}

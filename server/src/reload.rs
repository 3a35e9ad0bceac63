//! What can be read anew while the server runs: all of it, or nothing.
//!
//! A part is first prepared, which reads and checks and touches nothing that runs; only when all parts are, they apply. So a
//! certificate that cannot be read keeps limits as they were, too.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use tracing::{error, info, warn};

use crate::{
    config::{ConfigError, Limits},
    server::Shared,
};

/// What a part has prepared.
pub(crate) struct Staged {
    changed: Vec<String>,
    needs_restart: Vec<String>,
    apply: Box<dyn FnOnce() + Send>,
}

impl Staged {
    /// `changed` says what `apply` makes different, in words, a line each.
    pub(crate) fn new(changed: Vec<String>, apply: impl FnOnce() + Send + 'static) -> Self {
        Self { changed, needs_restart: Vec::new(), apply: Box::new(apply) }
    }

    /// What is different and stays as it is until the server starts anew.
    pub(crate) fn needs_restart(self, needs_restart: Vec<String>) -> Self {
        Self { needs_restart, ..self }
    }

    /// Has it hold, and says what that comes to.
    pub(crate) fn apply(self) -> ReloadReport {
        let Self { changed, needs_restart, apply } = self;
        apply();
        ReloadReport { changed, needs_restart }
    }
}

/// Reads a part anew, and says what is wrong with it otherwise.
type Prepare = Box<dyn Fn() -> Result<Staged, String> + Send + Sync>;

/// All parts that can be read anew.
#[derive(Default)]
pub(crate) struct Reloads(Mutex<Vec<(&'static str, Prepare)>>);

impl fmt::Debug for Reloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloads").finish_non_exhaustive()
    }
}

/// What reading everything anew has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReloadReport {
    /// What is different from now on; keys, wherever they have been read.
    pub changed: Vec<String>,
    /// What differs, and stays as it is until the server starts anew.
    pub needs_restart: Vec<String>,
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part}: {problem}; everything stays as it was")]
#[non_exhaustive]
pub struct ReloadError {
    /// The part that is wrong.
    pub part: &'static str,
    /// What is wrong with it, and where it comes from.
    pub problem: String,
}

impl Reloads {
    /// Has a part read anew from now on, after those that are there. `prepare` may read files, and changes nothing.
    pub(crate) fn register(
        &self,
        part: &'static str,
        prepare: impl Fn() -> Result<Staged, String> + Send + Sync + 'static,
    ) {
        self.0.lock().expect("no holder of this lock panics").push((part, Box::new(prepare)));
    }

    /// Reads all parts anew, and says in the log what that has come to. It may wait for the disk.
    pub(crate) fn reload(&self) -> Result<ReloadReport, ReloadError> {
        let result = self.try_reload();
        match &result {
            Ok(report) => {
                report.changed.iter().for_each(|changed| info!("reloaded: {changed}"));
                report.needs_restart.iter().for_each(|waits| warn!("reloaded, but that needs a restart: {waits}"));
                if report.changed.is_empty() {
                    info!("reloaded: nothing has changed");
                }
            }
            Err(error) => error!("not reloaded: {error}"),
        }
        result
    }

    fn try_reload(&self) -> Result<ReloadReport, ReloadError> {
        // Held to the end, so that one reload is over before another begins.
        let parts = self.0.lock().expect("no holder of this lock panics");
        let prepare =
            |(part, prepare): &(&'static str, Prepare)| prepare().map_err(|problem| ReloadError { part, problem });
        let staged = parts.iter().map(prepare).collect::<Result<Vec<Staged>, _>>()?;
        let mut report = ReloadReport::default();
        for part in staged.into_iter().map(Staged::apply) {
            report.changed.extend(part.changed);
            report.needs_restart.extend(part.needs_restart);
        }
        Ok(report)
    }
}

/// Changes a server while it runs, also from elsewhere.
#[derive(Clone, Debug)]
pub struct Control {
    shared: Arc<Shared>,
}

impl Control {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The limits of now.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits::clone(&self.shared.limits())
    }

    /// Has other limits hold. docs/limits.md says of each what it does to connections and streams that are open.
    ///
    /// # Errors
    /// Where one makes no sense: then all stay as they were.
    pub fn set_limits(&self, limits: Limits) -> Result<(), ConfigError> {
        limits.check()?;
        self.shared.set_limits(limits);
        Ok(())
    }

    /// Reads anew what can be read anew: as SIGHUP does. It may wait for the disk.
    ///
    /// # Errors
    /// Where anything is wrong: then everything stays as it was.
    pub fn reload(&self) -> Result<ReloadReport, ReloadError> {
        self.shared.reloads.reload()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn part(reloads: &Reloads, name: &'static str, applied: &Arc<AtomicU32>, problem: Option<&'static str>) {
        let applied = Arc::clone(applied);
        reloads.register(name, move || {
            let applied = Arc::clone(&applied);
            let staged = Staged::new(vec![format!("{name} is new")], move || {
                applied.fetch_add(1, Ordering::Relaxed);
            });
            problem.map_or_else(|| Ok(staged.needs_restart(vec![format!("{name} is old")])), |it| Err(it.to_owned()))
        });
    }

    #[test]
    fn all_parts_apply_and_say_so() {
        let (reloads, applied) = (Reloads::default(), Arc::default());
        assert_eq!(reloads.reload(), Ok(ReloadReport::default()));
        part(&reloads, "a", &applied, None);
        part(&reloads, "b", &applied, None);
        let report = reloads.reload().expect("both are sound");
        assert_eq!((report.changed.join(", "), report.needs_restart.len()), ("a is new, b is new".to_owned(), 2));
        assert_eq!(applied.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn where_one_part_is_wrong_none_applies() {
        let (reloads, applied) = (Reloads::default(), Arc::default());
        part(&reloads, "a", &applied, None);
        part(&reloads, "b", &applied, Some("b.toml is gone"));
        let error = reloads.reload().expect_err("b is wrong");
        assert_eq!(error.to_string(), "b: b.toml is gone; everything stays as it was");
        assert_eq!(applied.load(Ordering::Relaxed), 0);
    }
}

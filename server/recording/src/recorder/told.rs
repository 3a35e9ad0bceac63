//! Troubles that come again and again.

/// A trouble that is told once for each cause, and once more when it is over.
#[derive(Debug, Default)]
pub(super) struct Told {
    cause: Option<String>,
}

impl Told {
    /// Whether it is to be told: it is new, or has another cause than before.
    pub(super) fn begins(&mut self, cause: &str) -> bool {
        self.cause.replace(cause.to_owned()).as_deref() != Some(cause)
    }

    /// Whether its end is to be told: it had begun.
    pub(super) fn ends(&mut self) -> bool {
        self.cause.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_told_once_for_each_cause_and_when_it_ends() {
        let mut told = Told::default();
        assert!(!told.ends(), "there has been none");
        let causes = ["full", "full", "forbidden", "forbidden", "full"].map(|cause| told.begins(cause));
        assert_eq!(causes, [true, false, true, false, true]);
        assert_eq!([told.ends(), told.ends()], [true, false]);
        assert!(told.begins("full"), "it is another one");
    }
}

//! What `doctor` answers.

use serde::{Deserialize, Serialize};

/// How every part of this device is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Diagnosis {
    /// One truthful sentence.
    pub sentence: String,
    /// What was looked at, one after the other; one for each known device.
    pub checks: Vec<Check>,
    /// How long it took.
    pub seconds: f64,
}

/// One part that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Which: `clock`, `disk`, `store`, `listen`, `lan`, `bootstrap`, `dht`, `relay`, `nat`, `device`.
    pub name: String,
    /// Of `device`: its public key, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// How it is.
    pub state: CheckState,
    /// What was found, as a sentence.
    pub found: String,
    /// Why it is so, as a sentence; absent if it is as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What to do, as a sentence; absent if there is nothing to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
}

/// How a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// As it should be.
    Ok,
    /// It is not in use, by choice.
    Off,
    /// It works less well than it could, or somebody is away.
    Warning,
    /// It does not work.
    Failed,
}

impl Check {
    /// A part that is as it should be.
    pub(crate) fn ok(name: &str, found: impl Into<String>) -> Self {
        let found = found.into();
        Self { name: name.into(), device: None, state: CheckState::Ok, found, cause: None, cure: None }
    }

    /// A part that is not in use.
    pub(crate) fn off(name: &str, found: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { state: CheckState::Off, cure: Some(cure.into()), ..Self::ok(name, found) }
    }

    /// A part that could be better.
    pub(crate) fn warning(
        name: &str,
        found: impl Into<String>,
        cause: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self { state: CheckState::Warning, ..Self::failed(name, found, cause, cure) }
    }

    /// A part that does not work.
    pub fn failed(
        name: &str,
        found: impl Into<String>,
        cause: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        let (cause, cure) = (Some(cause.into()), Some(cure.into()));
        Self { state: CheckState::Failed, cause, cure, ..Self::ok(name, found) }
    }

    /// The same about one device.
    pub(crate) fn of(self, device: &str) -> Self {
        Self { device: Some(device.to_owned()), ..self }
    }
}

impl Diagnosis {
    /// Sums checks up.
    pub fn new(checks: Vec<Check>, seconds: f64) -> Self {
        let with = |state| checks.iter().filter(|check: &&Check| check.state == state).count();
        let sentence = match (with(CheckState::Failed), with(CheckState::Warning)) {
            (0, 0) => "Everything that was looked at is as it should be.".into(),
            (0, 1) => "Everything works; one thing is worth a look.".into(),
            (0, n) => format!("Everything works; {n} things are worth a look."),
            (1, _) => "One thing does not work.".into(),
            (n, _) => format!("{n} things do not work."),
        };
        Self { sentence, checks, seconds }
    }

    /// Whether a part of this name does not work.
    pub fn has_failed(&self, name: &str) -> bool {
        self.checks.iter().any(|check| check.name == name && check.state == CheckState::Failed)
    }

    /// Whether there are other devices and none of them was reached.
    pub fn is_alone(&self) -> bool {
        let mut others = self.checks.iter().filter(|check| check.device.is_some()).peekable();
        others.peek().is_some() && others.all(|check| check.state != CheckState::Ok)
    }
}

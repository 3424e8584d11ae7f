//! What the CLI asks a gateway to rehearse, and what came of it: a bundle in memory with cases, one JSON object a line.
//! Must never carry a whole card number in an answer. Tests: `tests/tests/policy_test.rs`.

use serde::{Deserialize, Serialize};

/// A bundle and the cases to run on it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Rehearse {
    /// Name and text of each file of the bundle.
    pub files: Vec<(String, String)>,
    /// Name and text of each file of cases.
    pub cases: Vec<(String, String)>,
}

/// What came of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Rehearsed {
    /// What is wrong with the bundle or the cases, with file and line where there is one; then nothing was run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
    /// Each case, in order.
    #[serde(default)]
    pub played: Vec<Played>,
    /// The routes of the bundle.
    #[serde(default)]
    pub routes: Vec<String>,
}

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Played {
    /// Its file.
    pub file: String,
    /// What it shows.
    pub name: String,
    /// The route that passed it on, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed_by: Option<String>,
    /// What is not as expected, card numbers masked; none if it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
}

//! What a gateway's audit log shows, against what the bundle declares.
//!
//! Must never call a connection declared that the bundle in hand would not make. Tests: `tests/tests/scope.rs`.

use crate::exit::Failure;
use cordon_audit::{Action, Line, Outcome, Source};
use cordon_policy::Bundle;
use std::collections::BTreeMap;
use std::path::Path;

/// Connections that were made and are not declared, each with how often.
pub(super) fn undeclared(bundle: &Bundle, log: &Path) -> Result<Vec<String>, Failure> {
    let unreadable = |error: &dyn std::fmt::Display| {
        Failure::refused("observed", format!("{}: {error}", log.display()))
            .next("name the directory `audit` in the gateway's data_dir")
    };
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    let mut lines = 0_u64;
    for line in cordon_audit::read(log).map_err(|error| unreadable(&error))? {
        let line = line.map_err(|error| unreadable(&error))?;
        lines = lines.saturating_add(1);
        if let Some(what) = undeclared_in(bundle, &line) {
            let times = found.entry(what).or_default();
            *times = times.saturating_add(1);
        }
    }
    if lines == 0 {
        return Err(unreadable(&"there is no audit log"));
    }
    Ok(found.into_iter().map(|(what, times)| format!("{what} ({times} times)")).collect())
}

/// What was allowed and is not declared. What was refused is no connection.
fn undeclared_in(bundle: &Bundle, line: &Line) -> Option<String> {
    let made = matches!(line.outcome, Outcome::Allowed | Outcome::Failed);
    let named = |name: &Option<cordon_audit::Name>| name.as_ref().map(|name| name.as_str().to_owned());
    let route = named(&line.route)?;
    match line.what {
        Action::Forward if made => {
            let to = named(&line.acting_for).unwrap_or_default();
            let declared = bundle.ingress().iter().any(|known| known.name == route && known.service == to);
            (!declared).then(|| format!("the gateway to service {to} on route {route}"))
        }
        Action::Send if made => {
            let (who, to) = (line.who.as_str(), named(&line.destination).unwrap_or_default());
            let known = bundle.egress().iter().find(|known| known.name == route && known.destination == to);
            let listed = known.is_some_and(|known| known.services.iter().any(|service| service == who));
            let Source::Address(address) = line.from else { return None };
            let home = bundle.service(who).and_then(|service| bundle.segment(&service.segment));
            let at_home = home.is_some_and(|segment| segment.contains(address));
            match (listed, at_home) {
                (true, true) => None,
                (false, _) => Some(format!("{who} to destination {to} on route {route}")),
                (true, false) => Some(format!("{who} from {address}, which is not of its segment")),
            }
        }
        _ => None,
    }
}

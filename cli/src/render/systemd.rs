//! A drop-in for units (systemd.resource-control): a second wall behind the host's rules, in which ports do not count.
//! Tests: `tests/tests/render.rs`.

use super::Subject;
use std::collections::BTreeSet;

/// The addresses that units of the segment may speak with.
pub(super) fn drop_in(subject: &Subject, segment: &str) -> String {
    let flows = subject.taken(segment).chain(subject.opened(segment)).collect::<Vec<_>>();
    let anywhere = flows.iter().any(|(_, ranges)| ranges.is_empty());
    let mut allowed: BTreeSet<String> = flows.into_iter().flat_map(|(_, ranges)| ranges).collect();
    allowed.extend(subject.dns.iter().map(ToString::to_string));
    let mut text =
        format!("# Units in segment {segment}, by bundle {}.\n[Service]\n", subject.bundle.digest());
    if anywhere {
        text.push_str(
            "# Anybody connects to a unit here, or it connects to any public address: systemd tells addresses apart,\n\
             # and no ports, so it can deny nothing. The host's rules do.\n",
        );
        return text;
    }
    text.push_str("IPAddressDeny=any\nIPAddressAllow=localhost\n");
    for range in allowed {
        text.push_str(&format!("IPAddressAllow={range}\n"));
    }
    text
}

//! Refusals that come in numbers: a few lines each, then one that says how many (threat B16).
//!
//! It must never hold back anything but a refusal, nor lose one from the count. Tests: at the end of this file, and
//! `tests/tests/flood.rs`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::event::{Action, Code, Event, Outcome};
use crate::name::Name;

/// What refusals have in common that are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Refusal {
    pub(crate) what: Action,
    pub(crate) who: Option<Name>,
    pub(crate) from: IpAddr,
    pub(crate) route: Option<Name>,
    pub(crate) reason: Code,
}

/// Counts refusals by who, from where, what and why, in windows of a minute.
#[derive(Debug)]
pub(crate) struct Flood(Mutex<Table>);

#[derive(Debug)]
struct Table {
    began: Instant,
    /// Lines written in this window.
    written: u64,
    rows: HashMap<Refusal, Row>,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    written: u64,
    held: u64,
    first: Timestamp,
    last: Timestamp,
}

impl Flood {
    pub(crate) fn new(now: Instant) -> Flood {
        Flood(Mutex::new(Table { began: now, written: 0, rows: HashMap::new() }))
    }

    /// Whether this refusal gets a line of its own; otherwise it is counted.
    pub(crate) fn admits(&self, mut refusal: Refusal, at: Timestamp) -> bool {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        refusal.from = network(refusal.from);
        if table.rows.len() >= MOST_ROWS && !table.rows.contains_key(&refusal) {
            // From so many places at once that they are counted together, by reason alone.
            refusal.from = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            refusal.who = None;
            refusal.route = None;
        }
        let room = table.written < LINES_IN_ALL;
        let row = table.rows.entry(refusal).or_insert(Row { written: 0, held: 0, first: at, last: at });
        if room && row.written < LINES_EACH {
            row.written = row.written.saturating_add(1);
            table.written = table.written.saturating_add(1);
            return true;
        }
        if row.held == 0 {
            row.first = at;
        }
        row.held = row.held.saturating_add(1);
        row.last = row.last.max(at);
        false
    }

    /// The lines that stand for what was counted, once the window is over, and begins the next.
    pub(crate) fn due(&self, now: Instant) -> Vec<Event> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(table.began) < WINDOW {
            return Vec::new();
        }
        table.began = now;
        table.written = 0;
        let rows = std::mem::take(&mut table.rows);
        rows.into_iter()
            .filter(|(_, row)| row.held > 0)
            .map(|(refusal, row)| summary(&refusal, row))
            .collect()
    }

    /// [`Flood::due`] without waiting for the window's end.
    pub(crate) fn rest(&self) -> Vec<Event> {
        self.due(Instant::now().checked_add(WINDOW).unwrap_or_else(Instant::now))
    }
}

fn summary(refusal: &Refusal, row: Row) -> Event {
    let mut event = Event::new(refusal.what, Outcome::Denied)
        .at(row.last)
        .since(row.first)
        .from(refusal.from)
        .reason(refusal.reason)
        .count(row.held);
    if let Some(who) = &refusal.who {
        event = event.who(who);
    }
    if let Some(route) = &refusal.route {
        event = event.route(route);
    }
    event
}

/// Where refusals count as from one place: an IPv4 address, or the 64-bit network that one IPv6 host can have to itself.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        address @ IpAddr::V4(_) => address,
    }
}

/// How long refusals are counted together.
const WINDOW: Duration = Duration::from_secs(60);
/// Lines of one kind in a window, before the rest is counted.
const LINES_EACH: u64 = 20;
/// Lines of all refusals in a window, before the rest is counted.
const LINES_IN_ALL: u64 = 2_000;
/// Kinds that are told apart in a window; bounds the memory and the summaries.
const MOST_ROWS: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Action, Code};
    use crate::name::Name;

    fn refusal(from: &str, reason: &'static str) -> Refusal {
        let who = Some(Name::parse("stranger").unwrap());
        Refusal {
            what: Action::Authenticate,
            who,
            from: from.parse().unwrap(),
            route: None,
            reason: Code::new(reason),
        }
    }

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn rendered(events: Vec<Event>) -> Vec<serde_json::Value> {
        let origin = Name::parse("vault").unwrap();
        let mut values: Vec<serde_json::Value> = events
            .into_iter()
            .map(|mut event| serde_json::from_slice(&event.render(&origin).unwrap()).unwrap())
            .collect();
        values.sort_by_key(ToString::to_string);
        values
    }

    #[test]
    fn a_flood_is_twenty_lines_and_a_count() {
        let start = Instant::now();
        let flood = Flood::new(start);
        let written =
            (0..1_000).filter(|at| flood.admits(refusal("10.0.0.1", "no-certificate"), second(*at)));
        assert_eq!(written.count(), 20);
        // Another place or reason is not held back by it.
        assert!(flood.admits(refusal("10.0.0.2", "no-certificate"), second(0)));
        assert!(flood.admits(refusal("10.0.0.1", "unknown-route"), second(0)));
        assert!(flood.due(start).is_empty(), "the window is not over");
        let lines = rendered(flood.due(start + WINDOW));
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0]["items"], 980);
        assert_eq!(lines[0]["since"], "1970-01-01T00:00:20.000000Z");
        assert_eq!(lines[0]["at"], "1970-01-01T00:16:39.000000Z");
        assert_eq!((&lines[0]["who"], &lines[0]["from"]), (&"stranger".into(), &"10.0.0.1".into()));
        assert_eq!((&lines[0]["reason"], &lines[0]["outcome"]), (&"no-certificate".into(), &"denied".into()));
        assert!(flood.admits(refusal("10.0.0.1", "no-certificate"), second(0)), "a new window");
        assert!(flood.due(start + WINDOW * 2).is_empty(), "nothing was held in it");
    }

    #[test]
    fn a_flood_from_everywhere_is_bounded_and_fully_counted() {
        let start = Instant::now();
        let flood = Flood::new(start);
        let mut written = 0;
        for number in 0..20_000_u32 {
            let from = Ipv4Addr::from_bits(0x0a00_0000 + number).to_string();
            written += u64::from(flood.admits(refusal(&from, "no-certificate"), second(0)));
        }
        assert_eq!(written, 2_000);
        let lines = rendered(flood.due(start + WINDOW));
        assert!(lines.len() <= MOST_ROWS + 1, "{}", lines.len());
        let counted: u64 = lines.iter().map(|line| line["items"].as_u64().unwrap()).sum();
        assert_eq!(written + counted, 20_000);
    }

    #[test]
    fn one_host_with_many_ipv6_addresses_is_one_place() {
        let flood = Flood::new(Instant::now());
        let written = (0..100).filter(|number| {
            flood.admits(refusal(&format!("2001:db8::{number:x}"), "no-certificate"), second(0))
        });
        assert_eq!(written.count(), 20);
        assert_eq!(network("::ffff:10.1.2.3".parse().unwrap()), "10.1.2.3".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn only_refusals_of_a_peer_can_be_counted() {
        let peer = "10.0.0.1".parse().unwrap();
        assert!(Event::new(Action::Detokenize, Outcome::Allowed).from(peer).reason("x").refusal().is_none());
        assert!(Event::new(Action::Authenticate, Outcome::Denied).reason("x").refusal().is_none());
        assert!(Event::new(Action::Authenticate, Outcome::Denied).from(peer).reason("x").refusal().is_some());
    }
}

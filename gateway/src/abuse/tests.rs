//! Tests of abuse rules: what is counted, what is stopped, and that it all fits into the room it is given.

use super::table::Row;
use super::*;
use crate::problem::Fault;
use http::HeaderMap;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

const MIB: usize = 1024 * 1024;
const MINUTE: Tick = 600;
const NOW: i64 = 1_795_694_400;

/// A number with this range that no issuer has.
fn pan(range: u32, number: u32) -> Pan {
    let body = format!("0{range:07}{number:07}");
    (0..10).find_map(|digit| Pan::parse(&format!("{body}{digit}")).ok()).unwrap()
}

fn rule(name: &str, per: AbuseKey, limit: AbuseLimit, action: AbuseAction) -> AbuseRule {
    AbuseRule { name: name.to_owned(), per, limit, within: Duration::from_secs(60), action }
}

fn rules(rules: &[AbuseRule]) -> Rules {
    Rules::load("signup", rules, &HashMap::new()).unwrap()
}

fn challenge(passes: usize) -> AbuseAction {
    AbuseAction::Challenge { key: "captcha".to_owned(), header: "x-proof".to_owned(), passes }
}

/// Rules one of which is a challenge, whose key is that of the documented proof.
fn challenging(list: &[AbuseRule]) -> Rules {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, "0123456789abcdef0123456789abcdef\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let key = KeyConfig { file, format: sign::Format::Raw, id: None };
    Rules::load("signup", list, &HashMap::from([("captcha".to_owned(), key)])).unwrap()
}

struct World {
    guard: Arc<Guard>,
    rules: Rules,
    headers: HeaderMap,
    now: Tick,
}

impl World {
    fn new(rules: Rules) -> Self {
        Self { guard: Guard::new(4 * MIB, 8).unwrap(), rules, headers: HeaderMap::new(), now: 0 }
    }

    fn judge(&self, source: &str, pans: &[Pan]) -> Judged<'_> {
        let client = Client { source: source.parse().unwrap(), headers: &self.headers };
        self.guard.judge_at(self.now, &self.rules, client, pans, NOW)
    }

    /// Whether an attempt passes; it is answered at once.
    fn tries(&self, source: &str, card: Pan, approved: bool) -> bool {
        let mut judged = self.judge(source, &[card]);
        let passes = judged.verdict == Verdict::Pass;
        judged.attempt.settle(passes.then_some(if approved {
            Decision::Approved
        } else {
            Decision::Declined
        }));
        passes
    }
}

const RATIO: AbuseLimit = AbuseLimit::DeclineRatio { percent: 50, of: 20 };

#[test]
fn a_share_of_declines_stops_who_tests_cards_and_nobody_else() {
    let world = World::new(rules(&[rule("declined", AbuseKey::Address, RATIO, AbuseAction::Deny)]));
    let passed = (0..10_000).filter(|number| world.tries("203.0.113.9", pan(1, *number), false)).count();
    assert_eq!(passed, 19);
    // Two of three approved, for as long as it goes on.
    assert!((0..5_000).all(|number| world.tries("203.0.113.10", pan(1, number), number % 3 > 0)));
}

#[test]
fn many_attempts_at_once_gain_nothing() {
    for limit in [RATIO, AbuseLimit::Declines(19)] {
        let world = World::new(rules(&[rule("declined", AbuseKey::Address, limit, AbuseAction::Deny)]));
        // None is answered before the last is made.
        let judged: Vec<_> = (0..1_000).map(|number| world.judge("::1", &[pan(1, number)])).collect();
        assert_eq!(judged.iter().filter(|judged| judged.verdict == Verdict::Pass).count(), 19);
        for mut judged in judged {
            let passed = judged.verdict == Verdict::Pass;
            judged.attempt.settle(passed.then_some(Decision::Declined));
        }
        assert!(!world.tries("::1", pan(1, 5_000), false), "{limit:?}");
    }
}

#[test]
fn a_range_that_is_busy_is_judged_by_its_answers_alone() {
    for limit in [RATIO, AbuseLimit::Declines(20)] {
        let world = World::new(rules(&[rule("range", AbuseKey::Iin(8), limit, AbuseAction::Deny)]));
        let address = |number: u32| format!("198.51.{}.{}", number >> 8, number & 0xff);
        let judged: Vec<_> =
            (0..1_000).map(|number| world.judge(&address(number), &[pan(1, number)])).collect();
        assert!(judged.iter().all(|judged| judged.verdict == Verdict::Pass), "a sale begins");
        judged.into_iter().for_each(|mut judged| judged.attempt.settle(Some(Decision::Approved)));
        // One after the other.
        let passed =
            (0..1_000).filter(|number| world.tries(&address(*number), pan(1, 2_000 + number), false));
        assert!(passed.count() <= 20, "{limit:?}");
    }
}

#[test]
fn one_good_card_does_not_hide_the_declines() {
    let world = World::new(rules(&[rule("declined", AbuseKey::Address, RATIO, AbuseAction::Deny)]));
    let passed = (0..1_000).filter(|number| {
        world.tries("::1", pan(2, 0), true);
        world.tries("::1", pan(1, *number), false)
    });
    assert!(passed.count() < 20);
}

#[test]
fn who_was_approved_is_no_decline_however_often() {
    let limit = AbuseLimit::Declines(3);
    let world = World::new(rules(&[rule("declined", AbuseKey::Address, limit, AbuseAction::Deny)]));
    assert!((0..100).all(|number| world.tries("::1", pan(1, number), true)));
    assert_eq!((0..100).filter(|number| world.tries("::1", pan(2, *number), false)).count(), 3);
    assert!(world.tries("2001:db8::1", pan(2, 0), false));
}

#[test]
fn what_nobody_answered_is_not_counted_and_who_hung_up_is() {
    let limit = AbuseLimit::Declines(3);
    let world = World::new(rules(&[rule("declined", AbuseKey::Address, limit, AbuseAction::Deny)]));
    for number in 0..100 {
        let mut judged = world.judge("::1", &[pan(1, number)]);
        assert_eq!(judged.verdict, Verdict::Pass);
        judged.attempt.settle(None);
    }
    let hung_up = (0..100).filter(|number| {
        let judged = world.judge("::1", &[pan(1, *number)]);
        judged.verdict == Verdict::Pass
    });
    assert_eq!(hung_up.count(), 3);
}

#[test]
fn hammering_does_not_outlast_the_window_and_quiet_does() {
    let limit = AbuseLimit::Cards(5);
    let mut world = World::new(rules(&[rule("cards", AbuseKey::Address, limit, AbuseAction::Deny)]));
    let mut passed = 0;
    for number in 0..1_000 {
        world.now += 10;
        passed += usize::from(world.tries("::1", pan(1, number), true));
    }
    assert_eq!(passed, 5);
    world.now += MINUTE - 60;
    assert!(!world.tries("::1", pan(1, 5_000), true), "what was stopped counts as well");
    world.now += MINUTE + 2;
    assert!(world.tries("::1", pan(1, 5_001), true));
}

#[test]
fn an_attempt_counts_down_to_the_rule_that_stops_it() {
    let world = World::new(rules(&[
        rule("address", AbuseKey::Address, AbuseLimit::Cards(5), AbuseAction::Deny),
        rule("range", AbuseKey::Iin(8), AbuseLimit::Cards(8), AbuseAction::Deny),
    ]));
    for number in 0..100 {
        world.tries("203.0.113.9", pan(1, number), false);
    }
    // The hundred attempts of one address took five of the range's eight.
    let passed =
        (0..100).filter(|number| world.tries(&format!("198.51.100.{number}"), pan(1, 1_000 + number), false));
    assert_eq!(passed.count(), 3);
    assert!(world.tries("198.51.100.200", pan(2, 0), false), "another range");
    let judged = world.judge("203.0.113.9", &[pan(1, 1)]);
    assert_eq!(judged.fired.len(), 2, "the other rule is looked at as well");
}

#[test]
fn the_strictest_rule_decides_and_the_longest_delay() {
    let delay = |seconds| AbuseAction::Delay(Duration::from_secs(seconds));
    let list = [
        rule("report", AbuseKey::Address, AbuseLimit::Requests(1), AbuseAction::Report),
        rule("long", AbuseKey::Address, AbuseLimit::Requests(2), delay(2)),
        rule("short", AbuseKey::Address, AbuseLimit::Requests(2), delay(1)),
        rule("challenge", AbuseKey::Address, AbuseLimit::Requests(3), challenge(1)),
        rule("deny", AbuseKey::Network, AbuseLimit::Requests(3), AbuseAction::Deny),
    ];
    let world = World::new(challenging(&list));
    let next = || {
        let judged = world.judge("203.0.113.9", &[]);
        let did = judged.fired.iter().map(|fired| (fired.rule.name().to_owned(), fired.first)).collect();
        (judged.verdict, did)
    };
    let names = |list: &[(&str, bool)]| -> Vec<(String, bool)> {
        list.iter().map(|(name, first)| ((*name).to_owned(), *first)).collect()
    };
    assert_eq!(next(), (Verdict::Pass, names(&[])));
    assert_eq!(next(), (Verdict::Pass, names(&[("report", true)])));
    let (verdict, did) = next();
    assert!(matches!(verdict, Verdict::Delay(time, _) if time == Duration::from_secs(2)), "{verdict:?}");
    assert_eq!(did, names(&[("report", false), ("long", true), ("short", true)]));
    let (verdict, _) = next();
    assert!(matches!(verdict, Verdict::Refuse(Fault::TooManyAttempts { wait_s: 60, .. })), "{verdict:?}");
}

#[test]
fn a_proof_lets_its_client_pass_so_often_and_no_other() {
    let list = [rule("cards", AbuseKey::Address, AbuseLimit::Cards(2), challenge(3))];
    let mut world = World::new(challenging(&list));
    let passed = |world: &World, source: &str, range: u32| {
        (0..20).filter(|number| world.tries(source, pan(range, *number), false)).count()
    };
    assert_eq!(passed(&world, "203.0.113.9", 1), 2);
    let wanted = Fault::ChallengeRequired {
        rule: Name::parse("abuse.cards").unwrap(),
        bound_to: "address".to_owned(),
    };
    assert_eq!(world.judge("203.0.113.9", &[pan(1, 99)]).verdict, Verdict::Refuse(wanted));
    let proof = "exp=1795695000;mac=dnvF47b9wLtfWmgEMXqX42DHhBblf8IFRoiTMgY6DZ0";
    world.headers.insert("x-proof", proof.parse().unwrap());
    assert_eq!(passed(&world, "203.0.113.9", 2), 3);
    assert_eq!(passed(&world, "203.0.113.8", 3), 2, "another address");
    world.headers.append("x-proof", proof.parse().unwrap());
    world.now += 2 * MINUTE;
    assert_eq!(passed(&world, "203.0.113.9", 4), 2, "two proofs are none");
}

#[test]
fn sessions_ranges_and_cards_are_counted_for_themselves() {
    let session = AbuseKey::Header("x-session-id".to_owned());
    let mut world = World::new(rules(&[
        rule("session", session, AbuseLimit::Cards(2), AbuseAction::Deny),
        rule("card", AbuseKey::Card, AbuseLimit::Requests(4), AbuseAction::Deny),
    ]));
    world.headers.insert("x-session-id", "one".parse().unwrap());
    assert_eq!((0..9).filter(|number| world.tries("::1", pan(1, *number), true)).count(), 2);
    world.headers.insert("x-session-id", "two".parse().unwrap());
    assert!(world.tries("::1", pan(1, 5), true));
    world.headers.remove("x-session-id");
    assert!((10..90).all(|number| world.tries("::1", pan(1, number), true)), "no session");
    assert_eq!(
        (0..9).filter(|_| world.tries("::1", pan(7, 7), false)).count(),
        4,
        "one card, again and again"
    );
    // A request may have cards of several ranges; each counts where it belongs.
    let world =
        World::new(rules(&[rule("range", AbuseKey::Iin(6), AbuseLimit::Cards(3), AbuseAction::Deny)]));
    let pans = [pan(100, 1), pan(101, 2), pan(200_000, 3), pan(100, 1)];
    assert_eq!(world.judge("::1", &pans).verdict, Verdict::Pass);
    assert_eq!(world.judge("::1", &[pan(102, 4)]).verdict, Verdict::Pass);
    assert_ne!(world.judge("::1", &[pan(103, 5)]).verdict, Verdict::Pass, "000001 is full");
    assert_eq!(world.judge("::1", &[pan(200_001, 5)]).verdict, Verdict::Pass);
}

#[test]
fn attempts_in_many_threads_do_not_pass_each_other() {
    let world =
        World::new(rules(&[rule("cards", AbuseKey::Address, AbuseLimit::Cards(40), AbuseAction::Deny)]));
    let passed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (world, passed) = (&world, &passed);
            scope.spawn(move || {
                for number in 0..500 {
                    let passes = world.tries("::1", pan(thread, number), true);
                    passed.fetch_add(usize::from(passes), Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(passed.load(Ordering::Relaxed), 40);
}

#[test]
fn ever_new_addresses_neither_fill_the_memory_nor_push_out_an_offender() {
    let world = World::new(rules(&[
        rule("address", AbuseKey::Address, AbuseLimit::Cards(5), AbuseAction::Deny),
        rule("network", AbuseKey::Network, AbuseLimit::Cards(50), AbuseAction::Deny),
    ]));
    for number in 0..20 {
        world.tries("203.0.113.9", pan(1, number), false);
    }
    for number in 0..60_000_u32 {
        // Of the whole range that an IPv6 host of a careless provider has.
        let source = format!("2001:db8:{:x}:{:x}::1", number >> 8, number & 0xff);
        world.tries(&source, pan(2, number % 1_000), false);
    }
    assert!(world.guard.table.used() <= 4 * MIB);
    assert!(world.guard.forgotten() > 10_000, "{}", world.guard.forgotten());
    assert!(!world.tries("203.0.113.9", pan(1, 99), false), "the offender is known still");
}

#[test]
fn nothing_of_a_card_or_a_client_is_shown() {
    let world = World::new(rules(&[rule("cards", AbuseKey::Address, RATIO, AbuseAction::Deny)]));
    let judged = world.judge("203.0.113.9", &[pan(1, 1)]);
    let shown = format!("{:?} {judged:?} {:?}", world.guard, world.rules);
    let number = pan(1, 1);
    assert!(!shown.contains(number.expose()) && !shown.contains("203.0.113.9"), "{shown}");
}

proptest! {
    #[test]
    fn a_count_is_exact_within_the_window(
        limit in 1_usize..12,
        steps in prop::collection::vec((0_u32..40, 0_u64..20), 1..200),
    ) {
        const WITHIN: Tick = 60;
        let mut tally = tally::Tally::default();
        let mut seen = BTreeMap::new();
        let mut now = 0;
        for (step, card) in steps {
            now += step;
            tally.forget(now, WITHIN);
            seen.retain(|_, at| now - *at <= WITHIN);
            seen.insert(card, now);
            let measure = Measure { limit: AbuseLimit::Cards(limit), doubts: true };
            let exceeds = tally.exceeds(measure, &[card]);
            prop_assert_eq!(exceeds, seen.len() > limit, "{:?} at {}", seen, now);
            tally.count(measure, &[card], now, exceeds);
        }
    }

    #[test]
    fn a_table_never_outgrows_its_room(
        room in 0_usize..200_000,
        steps in prop::collection::vec((any::<u8>(), any::<u8>(), 0_u32..40, 1_usize..80), 1..600),
    ) {
        let table = Table::new(room);
        let mut now = 0;
        for (shard, key, step, cards) in steps {
            now += step;
            let mut whole = Key::default();
            (whole[0], whole[1]) = (shard, key);
            let cards: Vec<CardMark> = (0..cards as u64).collect();
            let measure = Measure { limit: AbuseLimit::Cards(60), doubts: true };
            table.with(whole, MINUTE, now, |row: &mut Row| {
                row.hot = row.tally.exceeds(measure, &cards);
                row.tally.count(measure, &cards, now, row.hot);
            });
            prop_assert!(table.used() <= room);
        }
    }
}

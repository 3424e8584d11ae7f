//! Tests of sinks on real files and sockets.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::sync::Mutex;

use super::*;
use crate::error::AuditError;
use crate::event::{Action, Event, Outcome};
use crate::log::Log;
use crate::settings::Settings;

fn settings(kind: SinkKind, path: PathBuf) -> SinkSettings {
    SinkSettings { kind, path: Some(path), required: false, backlog: 10 }
}

fn open(directory: &Path, sink: SinkSettings) -> Result<Log, AuditError> {
    let settings = Settings { sinks: vec![sink], reserve_mib: 0, ..Settings::default() };
    Ok(Log::open_as(&directory.join("audit"), "cordon.test/vault", &settings)?.0)
}

fn append(log: &Log, lines: u64) {
    for _ in 0..lines {
        log.append_blocking(event()).unwrap();
    }
}

fn event() -> Event {
    Event::new(Action::Tokenize, Outcome::Allowed)
}

fn segment(directory: &Path) -> String {
    fs::read_to_string(directory.join("audit/audit-00000000000000000000.jsonl")).unwrap()
}

/// Waits for something that happens soon.
fn until(what: &str, mut claim: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !claim() {
        assert!(Instant::now() < deadline, "in vain until {what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_file_gets_every_line_and_goes_on_after_a_restart() {
    let scratch = tempfile::tempdir().unwrap();
    let copy = scratch.path().join("copy.jsonl");
    let log = open(scratch.path(), settings(SinkKind::File, copy.clone())).unwrap();
    append(&log, 5);
    log.close().unwrap();
    assert_eq!(fs::read_to_string(&copy).unwrap(), segment(scratch.path()));
    // A crash left half of the last line.
    let text = fs::read(&copy).unwrap();
    fs::write(&copy, &text[..text.len() - 9]).unwrap();
    let log = open(scratch.path(), settings(SinkKind::File, copy.clone())).unwrap();
    append(&log, 5);
    log.close().unwrap();
    assert_eq!(fs::read_to_string(&copy).unwrap(), segment(scratch.path()));
}

#[test]
fn a_file_of_something_else_or_with_more_lines_than_the_log_stops_the_start() {
    let scratch = tempfile::tempdir().unwrap();
    let copy = scratch.path().join("copy.jsonl");
    fs::write(&copy, "important notes\n").unwrap();
    let refused = open(scratch.path(), settings(SinkKind::File, copy.clone()));
    assert!(matches!(refused, Err(AuditError::Sink(SinkError::Foreign { .. }))));
    assert_eq!(fs::read_to_string(&copy).unwrap(), "important notes\n");
    fs::remove_file(&copy).unwrap();
    let log = open(scratch.path(), settings(SinkKind::File, copy.clone())).unwrap();
    append(&log, 5);
    log.close().unwrap();
    fs::remove_dir_all(scratch.path().join("audit")).unwrap();
    let refused = open(scratch.path(), settings(SinkKind::File, copy));
    assert!(matches!(refused, Err(AuditError::Sink(SinkError::Ahead { next: 5, size: 0, .. }))));
}

fn received(socket: &UnixDatagram) -> String {
    let mut buffer = vec![0; 300_000];
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

#[test]
fn the_system_log_gets_rfc_5424_messages_in_order_and_none_is_lost_over_a_restart() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("log");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let log = open(scratch.path(), settings(SinkKind::Syslog, path.clone())).unwrap();
    append(&log, 3);
    log.append_blocking(Event::new(Action::Authenticate, Outcome::Denied).reason("no-certificate")).unwrap();
    for index in 0..4 {
        let message = received(&socket);
        let (head, line) = message.split_once(" audit - ").unwrap();
        let fields: Vec<&str> = head.split(' ').collect();
        assert_eq!(fields[0], if index < 3 { "<110>1" } else { "<108>1" }, "{message}");
        assert!(fields[1].parse::<jiff::Timestamp>().is_ok(), "{message}");
        assert_eq!(fields[2..], ["-", "cordon.test/vault", &std::process::id().to_string()]);
        assert_eq!(line, segment(scratch.path()).lines().nth(index).unwrap());
    }
    // Its reader goes away: lines wait in the log, and are sent to the next one, also by the next process.
    drop(socket);
    fs::remove_file(&path).unwrap();
    append(&log, 2);
    log.close().unwrap();
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let log = open(scratch.path(), settings(SinkKind::Syslog, path)).unwrap();
    assert!(received(&socket).contains("{\"n\":4,"));
    assert!(received(&socket).contains("{\"n\":5,"));
    log.close().unwrap();
}

#[test]
fn a_line_too_long_for_a_datagram_is_announced_by_its_index() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("log");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let log = open(scratch.path(), settings(SinkKind::Syslog, path)).unwrap();
    let cards = (0..3_000_u128).map(|number| cordon_card::CardId::from_bytes(number.to_be_bytes()));
    log.append_blocking(event().cards(cards)).unwrap();
    append(&log, 1);
    assert!(received(&socket).ends_with(" audit - {\"n\":0,\"too_long\":true}"));
    assert!(received(&socket).contains("{\"n\":1,"));
    log.close().unwrap();
}

#[test]
fn a_sink_that_never_reads_stops_nothing_unless_it_is_required() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("log");
    let socket = UnixDatagram::bind(&path).unwrap();
    let log = open(scratch.path(), settings(SinkKind::Syslog, path.clone())).unwrap();
    // Far more than a socket nobody reads from holds.
    append(&log, 600);
    until("the sink is late", || log.sinks().iter().any(|sink| sink.late));
    assert!(log.degraded().contains(&"an audit sink is behind by more than its backlog"));
    append(&log, 1);
    log.close().unwrap();

    let required = SinkSettings { required: true, ..settings(SinkKind::Syslog, path) };
    let log = open(scratch.path(), required).unwrap();
    until("the log refuses", || matches!(log.append_blocking(event()), Err(AuditError::SinkBehind)));
    // What the process says of itself is still recorded.
    log.append_blocking(Event::new(Action::Stop, Outcome::Allowed)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    until("it is caught up", || {
        received(&socket);
        !log.sinks()[0].late
    });
    until("the log takes lines again", || log.append_blocking(event()).is_ok());
    log.close().unwrap();
}

/// Every other line, by its index.
struct Even;

impl Form for Even {
    fn render(&self, log: &VerifierKey, line: &[u8]) -> Option<Vec<u8>> {
        assert_eq!(log.name().as_str(), "cordon.test/gateway");
        let index = index_of_line(line)?;
        index.is_multiple_of(2).then(|| format!("line {index}").into_bytes())
    }

    fn index(&self, rendered: &[u8]) -> Option<u64> {
        std::str::from_utf8(rendered).ok()?.strip_prefix("line ")?.parse().ok()
    }
}

/// An outlet of which every third time nothing is certain.
#[derive(Clone, Default)]
struct Doubtful(Arc<Mutex<Doubt>>);

/// What was taken, what of it is certain, and how often it was asked for.
type Doubt = (Vec<String>, Vec<String>, usize);

impl Outlet for Doubtful {
    fn take(&mut self, _: u64, line: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap().0.push(String::from_utf8(line.to_vec()).unwrap());
        Ok(())
    }

    fn settle(&mut self) -> io::Result<()> {
        let (taken, certain, times) = &mut *self.0.lock().unwrap();
        *times += 1;
        if *times % 3 == 1 {
            taken.clear();
            return Err(io::ErrorKind::TimedOut.into());
        }
        certain.append(taken);
        Ok(())
    }
}

fn feeding(directory: &Path, to: FeedTo) -> Log {
    let feed = Feed { kind: "test", name: "a".to_owned(), backlog: 9, form: Box::new(Even), to };
    let settings = Settings { reserve_mib: 0, ..Settings::default() };
    Log::open_feeding(&directory.join("audit"), "cordon.test/gateway", &settings, vec![feed]).unwrap().0
}

fn evens(range: std::ops::Range<u64>) -> Vec<String> {
    range.filter(|index| index.is_multiple_of(2)).map(|index| format!("line {index}")).collect()
}

#[test]
fn what_is_not_certain_is_offered_again_and_nothing_is_lost_over_a_crash() {
    let scratch = tempfile::tempdir().unwrap();
    let outlet = Doubtful::default();
    let certain = || outlet.0.lock().unwrap().1.clone();
    let log = feeding(scratch.path(), FeedTo::Outlet(Box::new(outlet.clone())));
    append(&log, 10);
    until("all is certain", || certain() == evens(0..10));
    assert_eq!((log.sinks()[0].kind, log.sinks()[0].late), ("test", false));
    log.close().unwrap();
    let log = feeding(scratch.path(), FeedTo::Outlet(Box::new(outlet.clone())));
    append(&log, 10);
    until("it went on", || certain() == evens(0..20));
    log.close().unwrap();
    // Where it was is no longer known: everything comes again.
    let directory = scratch.path().join("audit");
    let kept = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path());
    let kept = kept.into_iter().find(|path| path.to_string_lossy().contains("feed-")).unwrap();
    assert_eq!(fs::read_to_string(&kept).unwrap(), "00000000000000000020\n");
    fs::write(&kept, "").unwrap();
    let log = feeding(scratch.path(), FeedTo::Outlet(Box::new(outlet.clone())));
    until("it began again", || certain() == [evens(0..20), evens(0..20)].concat());
    log.close().unwrap();
}

#[test]
fn a_feed_that_is_new_begins_where_the_log_is_even_if_it_never_took_a_line() {
    let scratch = tempfile::tempdir().unwrap();
    let log = feeding(scratch.path(), FeedTo::File(scratch.path().join("other")));
    append(&log, 5);
    log.close().unwrap();
    /// Takes nothing.
    struct Deaf;
    impl Outlet for Deaf {
        fn take(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
            Err(io::ErrorKind::WouldBlock.into())
        }
    }
    let log = feeding(scratch.path(), FeedTo::Outlet(Box::new(Deaf)));
    append(&log, 15);
    until("it is late", || log.sinks()[0].late);
    log.close().unwrap();
    let outlet = Doubtful::default();
    let log = feeding(scratch.path(), FeedTo::Outlet(Box::new(outlet.clone())));
    until("it has them all", || outlet.0.lock().unwrap().1 == evens(5..20));
    log.close().unwrap();
}

#[test]
fn a_file_in_another_form_goes_on_after_its_last_whole_line() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("events");
    for (lines, cut) in [(5, 3), (6, 0)] {
        let log = feeding(scratch.path(), FeedTo::File(path.clone()));
        append(&log, lines);
        log.close().unwrap();
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() - cut]).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", evens(0..11).join("\n")));
}

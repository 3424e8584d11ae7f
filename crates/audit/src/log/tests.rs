//! Tests of segments and recovery that need a small segment size or a look inside.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::event::{Action, Outcome};
use crate::walk::Flaw;

fn event() -> Event {
    Event::new(Action::Inspect, Outcome::Allowed).who(&Name::parse("custodian").unwrap())
}

/// A closed log of `lines` lines in segments of about four.
fn segmented(directory: &Path, lines: u64) -> Vec<PathBuf> {
    let (log, _) = Log::open_with(directory, "cordon.test/vault", 1000).unwrap();
    for index in 0..lines {
        assert_eq!(log.append_blocking(event()).unwrap().index(), index);
    }
    log.close().unwrap();
    verify::list(directory).unwrap().into_iter().map(|segment| segment.path).collect()
}

/// Goes on with such a log.
fn segmented_on(directory: &Path, lines: std::ops::Range<u64>) {
    let (log, _) = Log::open_with(directory, "cordon.test/vault", 1000).unwrap();
    for index in lines {
        assert_eq!(log.append_blocking(event()).unwrap().index(), index);
    }
    log.close().unwrap();
}

fn verifier(directory: &Path) -> VerifierKey {
    VerifierKey::parse(&fs::read_to_string(directory.join(VERIFIER)).unwrap()).unwrap()
}

fn first_flaw(directory: &Path) -> (u64, Flaw) {
    match verify::verify(directory, &verifier(directory), None) {
        Err(VerifyError::Line { index, flaw, .. }) => (index, flaw),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_log_rotates_by_size_and_reopens_over_all_segments() {
    let scratch = tempfile::tempdir().unwrap();
    let segments = segmented(scratch.path(), 40);
    assert!(segments.len() > 5, "{segments:?}");
    for path in &segments {
        assert!(fs::metadata(path).unwrap().len() <= 1000);
    }
    let (log, recovered) = Log::open(scratch.path(), "cordon.test/vault").unwrap();
    assert_eq!((recovered.size, recovered.torn_bytes, recovered.created), (40, 0, false));
    assert_eq!(log.append_blocking(event()).unwrap().index(), 40);
    log.close().unwrap();
    assert_eq!(verify::verify(scratch.path(), &verifier(scratch.path()), None).unwrap().lines, 41);
}

#[test]
fn a_removed_segment_names_its_first_line() {
    let scratch = tempfile::tempdir().unwrap();
    let segments = segmented(scratch.path(), 40);
    let gone = verify::list(scratch.path()).unwrap()[2].first;
    let after = verify::list(scratch.path()).unwrap()[3].first;
    fs::remove_file(&segments[2]).unwrap();
    assert_eq!(first_flaw(scratch.path()), (gone, Flaw::Missing { found: after }));
}

#[test]
fn a_removed_first_segment_names_line_zero() {
    let scratch = tempfile::tempdir().unwrap();
    let segments = segmented(scratch.path(), 40);
    let after = verify::list(scratch.path()).unwrap()[1].first;
    fs::remove_file(&segments[0]).unwrap();
    assert_eq!(first_flaw(scratch.path()), (0, Flaw::Missing { found: after }));
}

#[test]
fn a_removed_last_segment_is_a_truncated_log() {
    let scratch = tempfile::tempdir().unwrap();
    let segments = segmented(scratch.path(), 40);
    let have = verify::list(scratch.path()).unwrap().last().unwrap().first;
    fs::remove_file(segments.last().unwrap()).unwrap();
    let error = verify::verify(scratch.path(), &verifier(scratch.path()), None).unwrap_err();
    assert!(matches!(error, VerifyError::Truncated { have: h, signed: 40 } if h == have), "{error:?}");
}

#[test]
fn two_exchanged_segments_name_the_first_line_that_is_not_in_its_place() {
    let scratch = tempfile::tempdir().unwrap();
    let segments = segmented(scratch.path(), 40);
    let (second, third) = (fs::read(&segments[1]).unwrap(), fs::read(&segments[2]).unwrap());
    fs::write(&segments[1], third).unwrap();
    fs::write(&segments[2], second).unwrap();
    let listed = verify::list(scratch.path()).unwrap();
    assert_eq!(first_flaw(scratch.path()), (listed[1].first, Flaw::Missing { found: listed[2].first }));
}

#[test]
fn tiles_follow_the_lines_over_segments_and_restarts() {
    let scratch = tempfile::tempdir().unwrap();
    segmented(scratch.path(), 300);
    let verified = verify::verify(scratch.path(), &verifier(scratch.path()), None).unwrap();
    // One full tile, and partial ones at both levels.
    assert_eq!(verified.tiles, 3);
    segmented_on(scratch.path(), 300..600);
    let verified = verify::verify(scratch.path(), &verifier(scratch.path()), None).unwrap();
    assert_eq!((verified.lines, verified.tiles), (600, 4));
    // A log that comes without them gets them again.
    fs::remove_dir_all(scratch.path().join("tile")).unwrap();
    assert_eq!(verify::verify(scratch.path(), &verifier(scratch.path()), None).unwrap().tiles, 0);
    segmented_on(scratch.path(), 600..600);
    assert_eq!(verify::verify(scratch.path(), &verifier(scratch.path()), None).unwrap().tiles, 4);
}

#[test]
fn a_segment_cut_in_the_middle_of_the_log_is_not_taken_for_a_torn_end() {
    let scratch = tempfile::tempdir().unwrap();
    let segments = segmented(scratch.path(), 40);
    let bytes = fs::read(&segments[1]).unwrap();
    fs::write(&segments[1], &bytes[..bytes.len() - 10]).unwrap();
    let last = verify::list(scratch.path()).unwrap()[2].first - 1;
    assert_eq!(first_flaw(scratch.path()), (last, Flaw::CutOff));
}

#[test]
fn reading_from_an_index_starts_there_in_any_segment() {
    let scratch = tempfile::tempdir().unwrap();
    segmented(scratch.path(), 40);
    for first in [0, 1, 7, 20, 39, 40] {
        let indexes: Vec<u64> =
            crate::read_from(scratch.path(), first).unwrap().map(|line| line.unwrap().index).collect();
        assert_eq!(indexes, (first..40).collect::<Vec<_>>());
    }
}

#[test]
fn a_segment_that_was_begun_and_not_written_is_gone_on_with() {
    let scratch = tempfile::tempdir().unwrap();
    segmented(scratch.path(), 3);
    fs::write(scratch.path().join(crate::segment::file_name(3)), "").unwrap();
    let (log, recovered) = Log::open(scratch.path(), "cordon.test/vault").unwrap();
    assert_eq!(recovered.size, 3);
    assert_eq!(log.append_blocking(event()).unwrap().index(), 3);
}

/// Lines until zeros are written ahead of them, and a segment's length.
fn fill_until_zeros(directory: &Path, log: &Log) -> u64 {
    let path = verify::list(directory).unwrap().last().unwrap().path.clone();
    let mut lines = 0;
    let ids = || (0..200_u128).map(|number| cordon_card::CardId::from_bytes(number.to_be_bytes()));
    while fs::read(&path).unwrap().last() != Some(&0) {
        log.append_blocking(event().cards(ids())).unwrap();
        lines += 1;
        assert!(lines < 10_000, "no zeros are written ahead");
    }
    lines
}

#[test]
fn zeros_written_ahead_are_no_torn_line_and_are_gone_after_closing() {
    let scratch = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(scratch.path(), "cordon.test/vault").unwrap();
    let lines = fill_until_zeros(scratch.path(), &log);
    let copy = tempfile::tempdir().unwrap();
    // What a power cut would leave: the zeros, and the checkpoint of some earlier moment.
    for entry in fs::read_dir(scratch.path()).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let found = verify::verify(copy.path(), &verifier(copy.path()), None).unwrap();
    assert_eq!((found.lines, found.torn_bytes), (lines, 0));
    assert_eq!(crate::read(copy.path()).unwrap().map(Result::unwrap).count() as u64, lines);
    let (reopened, recovered) = Log::open(copy.path(), "cordon.test/vault").unwrap();
    assert_eq!((recovered.size, recovered.torn_bytes), (lines, 0));
    assert_eq!(reopened.append_blocking(event()).unwrap().index(), lines);
    reopened.close().unwrap();
    log.close().unwrap();
    for directory in [scratch.path(), copy.path()] {
        let bytes = fs::read(&verify::list(directory).unwrap()[0].path).unwrap();
        assert_eq!((bytes.last(), bytes.contains(&0)), (Some(&b'\n'), false));
    }
}

#[test]
fn a_page_that_never_reached_the_disk_ends_the_log_before_it_and_what_follows_is_cut() {
    let scratch = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(scratch.path(), "cordon.test/vault").unwrap();
    let lines = fill_until_zeros(scratch.path(), &log);
    log.close().unwrap();
    let path = verify::list(scratch.path()).unwrap()[0].path.clone();
    let mut bytes = fs::read(&path).unwrap();
    let whole = bytes.len() as u64;
    bytes.extend_from_slice(&[0; 4096]);
    bytes.extend_from_slice(b"{\"index\":");
    bytes.extend_from_slice(&[0; 4096]);
    fs::write(&path, &bytes).unwrap();
    let (log, recovered) = Log::open(scratch.path(), "cordon.test/vault").unwrap();
    assert_eq!((recovered.size, recovered.torn_bytes), (lines, 4096 + 9));
    assert_eq!(fs::metadata(&path).unwrap().len(), whole);
    log.close().unwrap();
}

#[test]
fn the_newest_checkpoint_is_signed_within_its_period_without_further_events() {
    let scratch = tempfile::tempdir().unwrap();
    let (log, _) = Log::open(scratch.path(), "cordon.test/vault").unwrap();
    log.append_blocking(event()).unwrap();
    let deadline = Instant::now() + crate::writer::CHECKPOINT_EVERY * 10;
    while log.statistics().signed < 1 {
        assert!(Instant::now() < deadline, "no checkpoint in time");
        std::thread::yield_now();
    }
    assert_eq!(Checkpoint::open(log.checkpoint().note(), log.verifier()).unwrap().size(), 1);
}

#[test]
fn a_log_whose_making_was_cut_short_is_made_again() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = scratch.path().join("audit");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let half = directory.join("signer.pk8.next");
    fs::write(&half, b"half a k").unwrap();
    fs::set_permissions(&half, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (log, recovered) = Log::open(&directory, "cordon.test/vault").unwrap();
    assert!(recovered.created);
    log.close().unwrap();
    let (log, recovered) = Log::open(&directory, "cordon.test/vault").unwrap();
    assert!(!recovered.created, "with the key it was made with");
    log.close().unwrap();
}

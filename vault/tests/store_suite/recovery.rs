//! Directories that lost something: a cut journal, a flipped byte, a gap, an empty volume. Each is either
//! whole, or refused once the audit log says what was there. Never silently short.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use cordon_vault::store::{FjallStore, Store, StoreError};
use tempfile::TempDir;

use crate::cards::{CARDS, card, entry, token};

const COMMITS: u64 = 16;

/// A closed store of single-card commits: the journal's bytes and where each commit ends in them.
struct Image {
    dir: TempDir,
    journal: Vec<u8>,
    /// `ends[k]` is the length of a journal that holds `k` cards. The store's header is before the first.
    ends: Vec<usize>,
}

/// What the engine writes at the end of every journal batch.
const TRAILER: &[u8] = b"FJL\x03";

fn image() -> Image {
    let dir = tempfile::tempdir().unwrap();
    let store = FjallStore::open(dir.path(), None).unwrap();
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
        for number in 1..=COMMITS {
            assert_eq!(store.insert(vec![card(number, number)]).await.unwrap().sequence, number);
        }
    });
    drop(store);
    let mut journal = Vec::new();
    // The file is longer: the engine allocates it ahead.
    fs::File::open(dir.path().join("0.jnl")).unwrap().take(1 << 20).read_to_end(&mut journal).unwrap();
    let ends: Vec<_> =
        (TRAILER.len()..journal.len()).filter(|end| journal[..*end].ends_with(TRAILER)).collect();
    assert_eq!(ends.len() as u64, COMMITS + 1);
    journal.truncate(*ends.last().unwrap());
    Image { dir, journal, ends }
}

impl Image {
    /// A copy of the directory with other journals.
    fn with_journals(&self, journals: &[(&str, &[u8])]) -> TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_except_journals(self.dir.path(), copy.path());
        for (name, bytes) in journals {
            fs::write(copy.path().join(name), bytes).unwrap();
        }
        copy
    }
}

fn copy_except_journals(from: &Path, to: &Path) {
    for file in fs::read_dir(from).unwrap() {
        let source: PathBuf = file.unwrap().path();
        let target = to.join(source.file_name().unwrap());
        if source.is_dir() {
            fs::create_dir(&target).unwrap();
            copy_except_journals(&source, &target);
        } else if source.extension().is_none_or(|extension| extension != "jnl") {
            fs::copy(&source, &target).unwrap();
        }
    }
}

/// How many of the image's cards a store has, which must be the first ones.
fn cards_in(store: &FjallStore) -> u64 {
    let tokens: Vec<_> = (1..=COMMITS).map(token).collect();
    let rows = store.get(CARDS, &tokens).unwrap();
    let there = rows.iter().take_while(|row| row.is_some()).count();
    assert!(rows.iter().skip(there).all(Option::is_none), "a hole in the middle");
    let found = store.find(CARDS, &(1..=COMMITS).map(|number| vec![entry(1, number)]).collect::<Vec<_>>());
    assert_eq!(found.unwrap().iter().flatten().count(), there, "rows and index entries belong together");
    there as u64
}

#[test]
fn a_cut_journal_opens_at_a_commit_and_is_refused_by_the_anchor() {
    let image = image();
    let mut cuts: Vec<usize> = (0..image.journal.len()).step_by(997).collect();
    cuts.extend(image.ends.iter().step_by(4).flat_map(|end| [end - 1, *end]));
    for cut in cuts {
        let kept = image.ends.iter().filter(|end| **end <= cut).count() as u64;
        let dir = image.with_journals(&[("0.jnl", &image.journal[..cut])]);
        let anchored = FjallStore::open(dir.path(), Some(COMMITS));
        if kept == COMMITS + 1 {
            assert_eq!(cards_in(&anchored.unwrap()), COMMITS);
            continue;
        }
        let store = kept.saturating_sub(1);
        assert!(
            matches!(anchored, Err(StoreError::Behind { store: s, audit: COMMITS }) if s == store),
            "cut at {cut}: {anchored:?}"
        );
        let without = FjallStore::open(dir.path(), None).unwrap();
        assert_eq!((without.sequence(), cards_in(&without)), (store, store), "cut at {cut}");
    }
}

#[test]
fn what_follows_the_last_acknowledged_commit_does_no_harm() {
    let image = image();
    let half = &image.journal[image.ends[3]..image.ends[4] - 9];
    for tail in [&[][..], &[0; 4096], half, &[1], &[0xff; 100]] {
        let journal = [&image.journal[..], tail].concat();
        let dir = image.with_journals(&[("0.jnl", &journal)]);
        let store = FjallStore::open(dir.path(), Some(COMMITS)).unwrap();
        assert_eq!(cards_in(&store), COMMITS);
        let more = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(more.block_on(store.insert(vec![card(99, 99)])).unwrap().sequence, COMMITS + 1);
        drop(store);
        let again = FjallStore::open(dir.path(), Some(COMMITS + 1)).unwrap();
        assert!(again.get(CARDS, &[token(99)]).unwrap()[0].is_some());
    }
}

/// Pages of one commit may reach the disk in any order, and the others be the zeros that stood there.
#[test]
fn a_commit_with_a_hole_that_was_never_acknowledged_does_no_harm() {
    let image = image();
    let last = image.ends.len() - 1;
    let (begin, end) = (image.ends[last - 1], image.ends[last]);
    for (from, to) in [
        (begin + 40, end - 40),
        (begin, begin + 60),
        (begin + 60, end),
        (end - 60, end),
        (begin + 90, begin + 91),
    ] {
        let mut journal = image.journal.clone();
        journal[from..to].fill(0);
        journal.extend_from_slice(&[0; 4096]);
        let dir = image.with_journals(&[("0.jnl", &journal)]);
        let store = FjallStore::open(dir.path(), Some(COMMITS - 1)).unwrap();
        assert_eq!((store.sequence(), cards_in(&store)), (COMMITS - 1, COMMITS - 1), "{from} to {to}");
        drop(store);
        let acknowledged = FjallStore::open(dir.path(), Some(COMMITS));
        assert!(matches!(acknowledged, Err(StoreError::Behind { .. })), "{acknowledged:?}");
    }
}

#[test]
fn damage_before_the_last_commit_is_refused_and_changes_nothing() {
    let image = image();
    let mut journal = image.journal.clone();
    journal[image.ends[7] - 60] ^= 0x41;
    let dir = image.with_journals(&[("0.jnl", &journal)]);
    let refused = FjallStore::open(dir.path(), None);
    assert!(matches!(refused, Err(StoreError::Corrupt(_))), "{refused:?}");
    assert_eq!(fs::read(dir.path().join("0.jnl")).unwrap(), journal);
}

#[test]
fn a_flipped_byte_in_the_journal_is_never_silent() {
    let image = image();
    for position in (0..image.journal.len()).step_by(211) {
        let mut journal = image.journal.clone();
        journal[position] ^= 0x41;
        let dir = image.with_journals(&[("0.jnl", &journal)]);
        if let Ok(store) = FjallStore::open(dir.path(), Some(COMMITS)) {
            assert_eq!(cards_in(&store), COMMITS, "flipped at {position}");
        }
    }
}

#[test]
fn a_commit_lost_between_two_journals_is_refused_even_without_an_anchor() {
    let image = image();
    let (first, second) = (image.ends[10], image.ends[11]);
    let whole = [("0.jnl", &image.journal[..first]), ("1.jnl", &image.journal[first..])];
    let dir = image.with_journals(&whole);
    assert_eq!(cards_in(&FjallStore::open(dir.path(), Some(COMMITS)).unwrap()), COMMITS);
    let gap = [("0.jnl", &image.journal[..first]), ("1.jnl", &image.journal[second..])];
    for anchor in [None, Some(COMMITS)] {
        let dir = image.with_journals(&gap);
        let refused = FjallStore::open(dir.path(), anchor);
        assert!(matches!(refused, Err(StoreError::Corrupt(_))), "{refused:?}");
    }
}

#[test]
fn an_empty_or_missing_directory_is_refused_once_there_is_an_audit_log() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().to_owned(), dir.path().join("store")] {
        let refused = FjallStore::open(&path, Some(1)).unwrap_err();
        assert!(matches!(refused, StoreError::Behind { store: 0, audit: 1 }));
        assert!(fs::read_dir(dir.path()).unwrap().next().is_none(), "nothing was created");
    }
    FjallStore::open(dir.path(), Some(0)).unwrap();
}

#[test]
fn a_directory_whose_creation_was_cut_short_is_refused() {
    let image = image();
    let dir = image.with_journals(&[("0.jnl", &image.journal)]);
    fs::remove_file(dir.path().join("version")).unwrap();
    assert!(matches!(FjallStore::open(dir.path(), None), Err(StoreError::Corrupt(_))));
}

#[test]
fn a_journal_that_was_deleted_is_refused_by_the_anchor() {
    let image = image();
    let dir = image.with_journals(&[]);
    let refused = FjallStore::open(dir.path(), Some(COMMITS)).unwrap_err();
    assert!(matches!(refused, StoreError::Behind { store: 0, audit: COMMITS }));
}

#[test]
fn tables_written_from_the_journal_keep_rows_and_sequence_together() {
    use cordon_vault::store::FjallOptions;
    let dir = tempfile::tempdir().unwrap();
    let options = FjallOptions { cache_bytes: 1 << 20, memtable_bytes: 1 << 20 };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = FjallStore::open_with(dir.path(), None, &options).unwrap();
    let mut expected = None;
    for number in 1..=60 {
        runtime.block_on(store.insert(vec![card(number, number)])).unwrap();
        let written = runtime.block_on(store.put_document("filler", expected, vec![9; 100_000])).unwrap();
        expected = Some(written.value);
    }
    drop(store);
    // The journal is lost, the tables are not: what they hold must end at the commit they say they end at.
    for file in fs::read_dir(dir.path()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            fs::write(path, b"").unwrap();
        }
    }
    let store = FjallStore::open(dir.path(), None).unwrap();
    let sequence = store.sequence();
    assert!(sequence > 0, "nothing was flushed: the test shows nothing");
    let rows = store.get(CARDS, &(1..=60).map(token).collect::<Vec<_>>()).unwrap();
    assert_eq!(rows.iter().flatten().count() as u64, sequence.div_ceil(2));
    let document = store.document("filler").unwrap().map_or(0, |document| document.version);
    assert_eq!(document, sequence / 2);
    drop(store);
    // A table that was begun late may hold even the last commit.
    match FjallStore::open(dir.path(), Some(120)) {
        Ok(_) => assert_eq!(sequence, 120),
        Err(error) => {
            assert!(matches!(error, StoreError::Behind { store, .. } if store == sequence), "{error}")
        }
    }
}

//! Round trips, every cut, every changed byte.

use super::*;
use proptest::prelude::*;

fn header() -> BackupHeader {
    BackupHeader {
        id: "00112233445566778899aabbccddeeff".to_owned(),
        environment: Environment::Dev,
        created_at: "2026-01-02T03:04:05Z".to_owned(),
        version: "0.1.0".to_owned(),
        sequence: 7,
        keyring_epoch: Some(3),
        shares: Some((3, 5)),
        audit: AuditMark { size: 9, checkpoint: "cordon-vault\n9\n".to_owned() },
    }
}

fn written(rows: &[RawRow]) -> Vec<u8> {
    let mut writer = BackupWriter::new(Vec::new(), &header()).unwrap();
    for (key, value) in rows {
        writer.row(key, value).unwrap();
    }
    writer.finish().unwrap().0
}

fn read(bytes: &[u8]) -> Result<Vec<RawRow>, BackupError> {
    let mut reader = BackupReader::new(bytes)?;
    let mut rows = Vec::new();
    while let Some(row) = reader.next_row()? {
        rows.push(row);
    }
    Ok(rows)
}

fn three() -> Vec<RawRow> {
    vec![(vec![0], vec![1]), (vec![2, 0], vec![]), (vec![2, 1], vec![9; 300])]
}

#[test]
fn the_bytes_are_pinned() {
    let bytes = written(&[(vec![2, 9], vec![5])]);
    assert!(bytes.starts_with(b"cordon-backup-1\n\0\0"));
    let tail = bytes.len() - 41;
    assert_eq!(bytes[tail - 10..tail], [1, 0, 2, 0, 0, 0, 1, 2, 9, 5]);
    assert_eq!(bytes[tail..tail + 9], [2, 0, 0, 0, 0, 0, 0, 0, 1]);
}

#[test]
fn a_backup_that_ends_early_is_refused_wherever_it_ends() {
    let bytes = written(&three());
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).is_err(), "{length}");
    }
}

#[test]
fn a_changed_byte_is_noticed_wherever_it_is() {
    let bytes = written(&three());
    for place in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        assert!(read(&changed).is_err(), "{place}");
    }
}

#[test]
fn rows_that_are_missing_repeated_or_moved_are_refused() {
    let mut writer = BackupWriter::new(Vec::new(), &header()).unwrap();
    writer.row(&[2], &[]).unwrap();
    assert!(writer.row(&[2], &[]).is_err());
    assert!(writer.row(&[1], &[]).is_err());
    assert!(writer.row(&[], &[]).is_err());
    let mut behind = written(&three());
    behind.push(0);
    assert!(matches!(read(&behind), Err(BackupError::Format(_))));
}

proptest! {
    #[test]
    fn what_is_written_is_read(rows in proptest::collection::btree_map(
        proptest::collection::vec(any::<u8>(), 1..40),
        proptest::collection::vec(any::<u8>(), 0..400), 0..30))
    {
        let rows: Vec<_> = rows.into_iter().collect();
        let bytes = written(&rows);
        let mut reader = BackupReader::new(&*bytes).unwrap();
        prop_assert_eq!(reader.header(), &header());
        let mut back = Vec::new();
        while let Some(row) = reader.next_row().unwrap() {
            back.push(row);
        }
        prop_assert_eq!(reader.summary().rows, rows.len() as u64);
        prop_assert_eq!(back, rows);
    }

    #[test]
    fn anything_is_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut whole = MAGIC.to_vec();
        whole.extend_from_slice(&bytes);
        drop(read(&whole));
        drop(read(&bytes));
    }
}

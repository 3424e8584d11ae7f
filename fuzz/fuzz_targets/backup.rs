//! A backup's clear text from any bytes: no panic, and what is read whole is written again as the same bytes.
#![no_main]

use cordon_archive::{BackupReader, BackupWriter};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(mut reader) = BackupReader::new(data) else { return };
    let Ok(mut writer) = BackupWriter::new(Vec::new(), reader.header()) else { return };
    loop {
        match reader.next_row() {
            Ok(Some((key, value))) => writer.row(&key, &value).expect("a row that was read can be written"),
            Ok(None) => break,
            Err(_) => return,
        }
    }
    let (bytes, summary) = writer.finish().expect("a tail can be written");
    assert_eq!(summary, reader.summary());
    // The head is JSON and may have been written with other blanks; the rows may not.
    assert!(bytes.len() <= data.len());
});

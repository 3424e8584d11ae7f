//! Files that leave the vault or come to it: encryption to age recipients, and the layout of a backup.
//!
//! Must never write a byte of an archive in clear, nor know what a row of a backup means: rows are bytes here, and
//! the vault alone reads them. Tests: beside each module; fuzz target `backup`.
//!
//! Used by: `vault`, `cli`. Uses: `card`, age.

mod backup;
mod seal;

pub use backup::{
    AuditMark, BackupError, BackupHeader, BackupReader, BackupWriter, MAX_ROW_KEY, MAX_ROW_VALUE, RawRow,
    Summary,
};
pub use seal::{Identities, Opened, Recipients, SealError, Sealing};

//! Limits of the vault API, beside the types they bound. Nothing here is configurable: a limit that can be
//! raised in production is a limit nobody tested.

/// Items in one data call.
pub const MAX_ITEMS: usize = 1_000;

/// Bytes in the body of a data call: 1,000 items with metadata fit.
pub const MAX_DATA_BODY: usize = 2 * 1024 * 1024;

/// Bytes in the body of an administration call.
pub const MAX_ADMIN_BODY: usize = 64 * 1024;

/// Bytes of metadata (keys and values together) kept with one card.
pub const MAX_METADATA: usize = 1024;

/// Audit lines in one page of `GET /v1/audit`.
pub const MAX_AUDIT_PAGE: usize = 1_000;

//! Tests of whole bundles: what loads, what is refused and how it is said, and every decision.
//!
//! Must never depend on anything but the bundle that ships and edits of it made in memory or in a scratch folder.

#[cfg(test)]
mod cases;
#[cfg(test)]
mod decisions;
#[cfg(test)]
mod explain;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod files;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod leaks;
#[cfg(test)]
mod shipped;
#[cfg(test)]
mod slips;

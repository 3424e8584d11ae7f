//! The tree on disk as tiles of 256 hashes (C2SP tlog-tiles), so that a proof reads a few files and not every line.
//!
//! It must never be what a log is verified by: lines are the truth, tiles are made from them and made again at start.
//! Tests: at the end of this file; on real logs in `tests/proofs.rs`.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::merkle::TreeHash;
use crate::path;

/// Makes tiles from leaf hashes in their order, and hands out each one that is full. Holds 255 hashes a level, at most.
#[derive(Debug, Default, Clone)]
pub(crate) struct Builder {
    size: u64,
    /// By level: how many tiles are full, and the hashes after them.
    levels: Vec<(u64, Vec<TreeHash>)>,
}

impl Builder {
    /// Leaves so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Takes the next leaf; `full` sees each tile that it completes.
    pub(crate) fn push(&mut self, leaf: TreeHash, full: &mut dyn FnMut(&Tile<'_>)) {
        self.size = self.size.saturating_add(1);
        let mut hash = leaf;
        for level in 0..=HIGHEST {
            let place = usize::from(level);
            if self.levels.len() == place {
                self.levels.push((0, Vec::with_capacity(WIDTH)));
            }
            let Some((number, hashes)) = self.levels.get_mut(place) else { return };
            hashes.push(hash);
            if hashes.len() < WIDTH {
                return;
            }
            full(&Tile { level, number: *number, hashes });
            hash = root_of(hashes);
            hashes.clear();
            *number = number.saturating_add(1);
        }
    }

    /// The tiles at the right edge, which are not full.
    pub(crate) fn partial(&self) -> impl Iterator<Item = Tile<'_>> {
        (0_u8..)
            .zip(&self.levels)
            .filter(|(_, (_, hashes))| !hashes.is_empty())
            .map(|(level, (number, hashes))| Tile { level, number: *number, hashes })
    }
}

/// Up to 256 hashes side by side at one level.
#[derive(Debug)]
pub(crate) struct Tile<'a> {
    level: u8,
    number: u64,
    hashes: &'a [TreeHash],
}

impl Tile<'_> {
    /// Its file below a log directory.
    pub(crate) fn path(&self, directory: &Path) -> PathBuf {
        let full = full_path(directory, self.level, self.number);
        if self.hashes.len() == WIDTH { full } else { partials(&full).join(self.hashes.len().to_string()) }
    }

    fn bytes(&self) -> Vec<u8> {
        self.hashes.iter().flat_map(TreeHash::as_bytes).copied().collect()
    }

    /// Whether its file holds it; `None` if there is no file.
    pub(crate) fn is_stored(&self, directory: &Path) -> io::Result<Option<bool>> {
        match fs::read(self.path(directory)) {
            Ok(bytes) => Ok(Some(bytes == self.bytes())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes its file unless that holds it already; a full tile takes the place of the partial ones before it. Not
    /// synced: what a power cut takes is made again at the next start.
    pub(crate) fn store(&self, directory: &Path) -> io::Result<()> {
        if self.is_stored(directory)? == Some(true) {
            return Ok(());
        }
        let path = self.path(directory);
        if let Some(parent) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let next = path.with_extension("next");
        let mut file = OpenOptions::new().mode(0o600).create(true).truncate(true).write(true).open(&next)?;
        file.write_all(&self.bytes())?;
        fs::rename(&next, &path)?;
        if self.hashes.len() == WIDTH
            && let Err(error) = fs::remove_dir_all(partials(&path))
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        Ok(())
    }
}

/// Reads hashes of subtrees out of tiles.
#[derive(Debug)]
pub(crate) struct Reader<'d> {
    directory: &'d Path,
    read: HashMap<(u8, u64), Vec<TreeHash>>,
}

impl<'d> Reader<'d> {
    pub(crate) fn new(directory: &'d Path) -> Reader<'d> {
        Reader { directory, read: HashMap::new() }
    }

    /// The hashes over these ranges, which are those of a proof.
    pub(crate) fn hashes(&mut self, ranges: &[Range<u64>]) -> io::Result<Vec<TreeHash>> {
        ranges.iter().map(|range| self.hash(range)).collect()
    }

    /// The hash over a range: of a proof, or the whole tree.
    pub(crate) fn hash(&mut self, range: &Range<u64>) -> io::Result<TreeHash> {
        let parts = path::perfect_parts(range);
        let parts: io::Result<Vec<_>> =
            parts.into_iter().map(|(height, number)| self.perfect(height, number)).collect();
        Ok(path::join(&parts?))
    }

    /// The `number`-th subtree of `2^height` leaves: 1 to 128 neighbours in one tile.
    fn perfect(&mut self, height: u32, number: u64) -> io::Result<TreeHash> {
        let level = u8::try_from(height / HEIGHT).unwrap_or(u8::MAX);
        let first = number << (height % HEIGHT);
        let start = usize::try_from(first % WIDTH_LEAVES).unwrap_or(usize::MAX);
        let end = start.saturating_add(1 << (height % HEIGHT));
        let tile = self.tile(level, first / WIDTH_LEAVES, end)?;
        tile.get(start..end).map(root_of).ok_or_else(missing)
    }

    /// The tile, with at least so many hashes.
    fn tile(&mut self, level: u8, number: u64, least: usize) -> io::Result<&[TreeHash]> {
        let known = self.read.get(&(level, number)).is_some_and(|hashes| hashes.len() >= least);
        if !known {
            let full = full_path(self.directory, level, number);
            let bytes = match fs::read(&full) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => fs::read(narrowest(&full, least)?)?,
                other => other?,
            };
            let (hashes, rest) = bytes.as_chunks::<32>();
            if !rest.is_empty() || hashes.len() < least {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let hashes = hashes.iter().copied().map(TreeHash::from_bytes).collect();
            self.read.insert((level, number), hashes);
        }
        self.read.get(&(level, number)).map(Vec::as_slice).ok_or_else(missing)
    }
}

/// The narrowest partial tile that is wide enough: a wider one begins with the same hashes.
fn narrowest(full: &Path, least: usize) -> io::Result<PathBuf> {
    let directory = partials(full);
    let mut found: Option<usize> = None;
    for entry in fs::read_dir(&directory)? {
        let width = entry?.file_name().to_str().and_then(|name| name.parse::<usize>().ok());
        if let Some(width) = width.filter(|width| *width >= least) {
            found = Some(found.map_or(width, |before| before.min(width)));
        }
    }
    found.map(|width| directory.join(width.to_string())).ok_or_else(missing)
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

/// The root over a perfect number of hashes.
fn root_of(hashes: &[TreeHash]) -> TreeHash {
    let mut row = hashes.to_vec();
    while row.len() > 1 {
        row = row
            .chunks(2)
            .filter_map(|pair| match pair {
                [left, right] => Some(TreeHash::of_node(left, right)),
                _ => None,
            })
            .collect();
    }
    row.first().copied().unwrap_or_else(TreeHash::of_nothing)
}

/// `tile/<level>/<number>`, the number in groups of three digits, all but the last after an `x`.
fn full_path(directory: &Path, level: u8, number: u64) -> PathBuf {
    let mut groups = vec![format!("{:03}", number % 1000)];
    let mut rest = number / 1000;
    while rest > 0 {
        groups.push(format!("x{:03}", rest % 1000));
        rest /= 1000;
    }
    let mut path = directory.join(TILES).join(level.to_string());
    path.extend(groups.iter().rev());
    path
}

/// Where the partial tiles of a tile lie.
fn partials(full: &Path) -> PathBuf {
    full.with_extension("p")
}

/// The directory of tiles below a log directory.
const TILES: &str = "tile";
/// Levels of the tree in one tile.
const HEIGHT: u32 = 8;
const WIDTH: usize = 256;
const WIDTH_LEAVES: u64 = 256;
/// The highest level a tree of 2^64 leaves needs.
const HIGHEST: u8 = 7;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::tests::{leaf, root};

    fn stored(directory: &Path, leaves: u64) -> Builder {
        let mut builder = Builder::default();
        for number in 0..leaves {
            builder.push(leaf(number), &mut |tile| tile.store(directory).unwrap());
        }
        for tile in builder.partial() {
            tile.store(directory).unwrap();
        }
        builder
    }

    #[test]
    fn paths_are_those_of_the_format() {
        for (number, text) in [(0, "000"), (999, "999"), (1_000, "x001/000"), (1_234_067, "x001/x234/067")] {
            assert_eq!(full_path(Path::new("d"), 3, number), Path::new("d/tile/3").join(text));
        }
        let tile = Tile { level: 0, number: 273, hashes: &[leaf(0); 112] };
        assert_eq!(tile.path(Path::new("d")), Path::new("d/tile/0/273.p/112"));
    }

    #[test]
    fn a_tree_of_70000_has_the_tiles_the_format_names() {
        let mut full = [0; 3];
        let mut builder = Builder::default();
        for number in 0..70_000 {
            builder.push(leaf(number), &mut |tile| full[usize::from(tile.level)] += 1);
        }
        assert_eq!(full, [273, 1, 0]);
        let partial: Vec<_> = builder.partial().map(|tile| (tile.level, tile.hashes.len())).collect();
        assert_eq!(partial, [(0, 112), (1, 17), (2, 1)]);
    }

    #[test]
    fn hashes_out_of_tiles_are_those_of_the_tree() {
        let scratch = tempfile::tempdir().unwrap();
        for size in [1, 2, 255, 256, 257, 700] {
            stored(scratch.path(), size);
            let mut reader = Reader::new(scratch.path());
            assert_eq!(reader.hash(&(0..size)).unwrap(), root(0..size), "{size}");
            for index in [0, size / 2, size - 1] {
                for range in path::inclusion(index, size) {
                    assert_eq!(reader.hash(&range).unwrap(), root(range));
                }
            }
        }
        // An older and smaller tree reads from the wider tiles.
        assert_eq!(Reader::new(scratch.path()).hash(&(0..300)).unwrap(), root(0..300));
    }

    #[test]
    fn a_full_tile_replaces_its_partial_ones() {
        let scratch = tempfile::tempdir().unwrap();
        stored(scratch.path(), 10);
        stored(scratch.path(), 20);
        assert_eq!(fs::read_dir(scratch.path().join("tile/0/000.p")).unwrap().count(), 2);
        stored(scratch.path(), 256);
        assert!(!scratch.path().join("tile/0/000.p").exists());
        assert_eq!(fs::read(scratch.path().join("tile/0/000")).unwrap().len(), 8192);
        assert_eq!(fs::read(scratch.path().join("tile/1/000.p/1")).unwrap(), root(0..256).as_bytes());
    }

    #[test]
    fn a_tile_that_is_cut_or_gone_gives_no_hash() {
        let scratch = tempfile::tempdir().unwrap();
        stored(scratch.path(), 300);
        let tile = scratch.path().join("tile/0/000");
        fs::write(&tile, [0; 33]).unwrap();
        assert!(Reader::new(scratch.path()).hash(&(0..1)).is_err());
        fs::remove_file(tile).unwrap();
        assert!(Reader::new(scratch.path()).hash(&(0..1)).is_err());
    }
}

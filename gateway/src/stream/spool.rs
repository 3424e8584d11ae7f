//! Where a rewritten body waits until all of it is found good: a file without a name, sealed under a key that only this
//! request has and that is nowhere but in memory.
//!
//! What waits there holds names and addresses of people, and card numbers where a route reports them: after a crash it
//! must be worth nothing. Must never write what it did not seal, nor give what does not open. Tests: here.

use crate::problem::Fault;
use bytes::Bytes;
use cordon_daemon::body::{BoxError, WipedBytes};
use hyper::body::{Body, Frame, SizeHint};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use zeroize::Zeroizing;

/// `[stream]`
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamConfig {
    /// Room on disk for bodies that are not held whole, in MiB.
    pub spool_mib: u64,
    /// Requests with such a body that are served at once.
    pub requests: usize,
}

impl Default for StreamConfig {
    fn default() -> Self {
        Self { spool_mib: 1024, requests: 8 }
    }
}

impl StreamConfig {
    /// Whether there is room for one, and no more threads than memory is meant for.
    #[must_use]
    pub fn is_sound(self) -> bool {
        (1..=1024 * 1024).contains(&self.spool_mib) && (1..=128).contains(&self.requests)
    }
}

/// The folder of the files, and how much may wait in them.
#[derive(Debug)]
pub struct Spools {
    folder: PathBuf,
    room: AtomicU64,
    places: Arc<Semaphore>,
    random: SystemRandom,
}

impl Spools {
    /// Makes the folder in `data_dir` and removes what a crash left in it.
    ///
    /// # Errors
    /// The folder cannot be made or emptied.
    pub fn open(data_dir: &Path, config: StreamConfig) -> io::Result<Arc<Self>> {
        let folder = data_dir.join(FOLDER);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        for left in fs::read_dir(&folder)? {
            fs::remove_file(left?.path())?;
        }
        let room = AtomicU64::new(config.spool_mib.saturating_mul(1024 * 1024));
        let places = Arc::new(Semaphore::new(config.requests));
        Ok(Arc::new(Self { folder, room, places, random: SystemRandom::new() }))
    }

    /// A file for one body.
    ///
    /// # Errors
    /// [`Fault::Shed`] when there are enough of them, or it cannot be made.
    pub fn spool(self: &Arc<Self>) -> Result<Spool, Fault> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        let place = place.map_err(|_all_taken| Fault::Shed("busy.streams"))?;
        let mut key = Zeroizing::new([0; 32]);
        let mut name = [0; 16];
        self.random.fill(&mut *key).map_err(|_unspecified| NO_RANDOMNESS)?;
        self.random.fill(&mut name).map_err(|_unspecified| NO_RANDOMNESS)?;
        let key = UnboundKey::new(&AES_256_GCM, &*key).map_err(|_unspecified| NO_RANDOMNESS)?;
        let file = self.unnamed(&data_encoding::HEXLOWER.encode(&name)).map_err(|error| failed(&error))?;
        Ok(Spool {
            spools: Arc::clone(self),
            _place: place,
            key: LessSafeKey::new(key),
            file,
            frames: 0,
            length: 0,
            taken: 0,
        })
    }

    fn unnamed(&self, name: &str) -> io::Result<File> {
        let path = self.folder.join(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        fs::remove_file(path)?;
        Ok(file)
    }

    /// Bytes that still find room.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.room.load(Ordering::Relaxed)
    }
}

/// A body that waits. Dropped, it is gone, and its room is free.
pub struct Spool {
    spools: Arc<Spools>,
    _place: OwnedSemaphorePermit,
    key: LessSafeKey,
    file: File,
    frames: u64,
    length: u64,
    taken: u64,
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spool").field("length", &self.length).finish_non_exhaustive()
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        self.spools.room.fetch_add(self.taken, Ordering::Relaxed);
    }
}

impl Spool {
    /// Bytes of body.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.length
    }

    /// Whether nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Seals and writes what comes next. It may wait for the disk.
    ///
    /// # Errors
    /// [`Fault::Shed`] when there is no room for it, or the disk does not take it.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        for frame in bytes.chunks(FRAME) {
            self.write(frame)?;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let room = self
            .spools
            .room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(length));
        room.map_err(|_too_little| Fault::Shed("busy.spool-full"))?;
        self.taken = self.taken.saturating_add(length);
        let mut sealed =
            Zeroizing::new(Vec::with_capacity(bytes.len().saturating_add(AES_256_GCM.tag_len())));
        sealed.extend_from_slice(bytes);
        let nonce = nonce(self.frames);
        let done = self.key.seal_in_place_append_tag(nonce, Aad::empty(), &mut *sealed);
        done.map_err(|_unspecified| Fault::Internal("internal.spool-not-sealed"))?;
        let size = u32::try_from(sealed.len()).unwrap_or(u32::MAX).to_be_bytes();
        let written = self.file.write_all(&size).and_then(|()| self.file.write_all(&sealed));
        written.map_err(|error| failed(&error))?;
        (self.frames, self.length) = (self.frames.saturating_add(1), self.length.saturating_add(length));
        Ok(())
    }

    /// The body, read as fast as it is taken, and no faster.
    #[must_use]
    pub fn into_body(self) -> Spooled {
        let (left, (sender, frames)) = (self.length, channel(AHEAD));
        // It waits for the disk, and for whoever takes what it reads.
        drop(tokio::task::spawn_blocking(move || self.read_into(&sender)));
        Spooled { frames, left }
    }

    fn read_into(mut self, sender: &Sender<Result<Bytes, BoxError>>) {
        let started = self.file.rewind();
        let mut frames = (0..self.frames).map(|number| match &started {
            Ok(()) => self.read_frame(number).map(Bytes::from_owner),
            Err(error) => Err(error.kind().into()),
        });
        let sent = frames.try_for_each(|frame| {
            let failed = frame.is_err();
            if let Err(error) = &frame {
                tracing::error!(%error, "a body that waited on disk could not be read");
            }
            // An error cuts the request off, so that its receiver cannot take it for a whole one.
            let gone = sender.blocking_send(frame.map_err(BoxError::from)).is_err();
            if failed || gone { Err(()) } else { Ok(()) }
        });
        if sent.is_err() {
            tracing::info!("a body that waited on disk was not taken to its end");
        }
    }

    fn read_frame(&mut self, number: u64) -> io::Result<WipedBytes> {
        let mut size = [0; 4];
        self.file.read_exact(&mut size)?;
        let size = usize::try_from(u32::from_be_bytes(size)).unwrap_or(usize::MAX);
        if size > FRAME.saturating_add(AES_256_GCM.tag_len()) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut sealed = Zeroizing::new(vec![0; size]);
        self.file.read_exact(&mut sealed)?;
        let opened = self.key.open_in_place(nonce(number), Aad::empty(), &mut sealed);
        let length = opened.map_err(|_unspecified| io::ErrorKind::InvalidData)?.len();
        sealed.truncate(length);
        Ok(WipedBytes::from(std::mem::take(&mut *sealed)))
    }
}

/// A key seals one body only, so that counting its frames gives each a nonce of its own.
fn nonce(frame: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    let (_, number) = bytes.split_at_mut(NONCE_LEN - size_of::<u64>());
    number.copy_from_slice(&frame.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

fn failed(error: &io::Error) -> Fault {
    tracing::error!(%error, "a body cannot wait on disk");
    Fault::Shed("busy.spool-failed")
}

/// A body that is sent from where it waited.
#[derive(Debug)]
pub struct Spooled {
    frames: Receiver<Result<Bytes, BoxError>>,
    left: u64,
}

impl Body for Spooled {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = ready!(self.frames.poll_recv(context));
        let length = frame.iter().flatten().map(Bytes::len).sum::<usize>();
        self.left = self.left.saturating_sub(u64::try_from(length).unwrap_or(u64::MAX));
        Poll::Ready(frame.map(|frame| frame.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

const FOLDER: &str = "spool";
const NO_RANDOMNESS: Fault = Fault::Internal("internal.no-randomness");
/// Bytes that are sealed at once.
const FRAME: usize = 64 * 1024;
/// Frames that are read before they are taken.
const AHEAD: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    const MIB: u64 = 1024 * 1024;

    fn spools() -> (tempfile::TempDir, Arc<Spools>) {
        let scratch = tempfile::tempdir().unwrap();
        let spools = Spools::open(scratch.path(), StreamConfig { spool_mib: 1, requests: 2 }).unwrap();
        (scratch, spools)
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn what_waits_comes_back_and_its_room_is_free_again() {
        let (scratch, spools) = spools();
        let mut spool = spools.spool().unwrap();
        let body: Vec<u8> = (0..=u8::MAX).cycle().take(200_000).collect();
        body.chunks(70_001).for_each(|part| spool.append(part).unwrap());
        assert_eq!((spool.len(), spools.room()), (200_000, MIB - 200_000));
        let got = run(async {
            let sent = spool.into_body();
            assert_eq!(sent.size_hint().exact(), Some(200_000));
            sent.collect().await.unwrap().to_bytes()
        });
        assert_eq!(got, body);
        assert_eq!(spools.room(), MIB);
        assert_eq!(fs::read_dir(scratch.path().join(FOLDER)).unwrap().count(), 0);
    }

    #[test]
    fn nothing_is_on_disk_as_it_was_and_nothing_that_was_changed_is_given() {
        let (_scratch, spools) = spools();
        let mut spool = spools.spool().unwrap();
        spool.append(b"a name and an address").unwrap();
        let mut file = spool.file.try_clone().unwrap();
        let mut stored = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut stored).unwrap();
        assert_eq!(stored.len(), 4 + 21 + 16);
        assert_eq!(memchr::memmem::find(&stored, b"name"), None);
        file.seek(io::SeekFrom::Start(10)).unwrap();
        file.write_all(&[stored[10] ^ 1]).unwrap();
        assert!(run(async { spool.into_body().collect().await }).is_err());
    }

    #[test]
    fn a_body_that_finds_no_room_or_place_is_refused_and_gives_back_what_it_had() {
        let (_scratch, spools) = spools();
        let (mut spool, other) = (spools.spool().unwrap(), spools.spool().unwrap());
        assert_eq!(spools.spool().err(), Some(Fault::Shed("busy.streams")));
        spool.append(&[0; 700_000]).unwrap();
        assert_eq!(spool.append(&[0; 700_000]), Err(Fault::Shed("busy.spool-full")));
        drop((spool, other));
        assert_eq!(spools.room(), MIB);
        assert!(spools.spool().is_ok());
    }

    #[test]
    fn what_a_crash_left_is_removed_at_the_start() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join(FOLDER)).unwrap();
        fs::write(scratch.path().join(FOLDER).join("left"), "x").unwrap();
        let _spools = Spools::open(scratch.path(), StreamConfig::default()).unwrap();
        assert_eq!(fs::read_dir(scratch.path().join(FOLDER)).unwrap().count(), 0);
    }
}

//! What outlives the process: small files in one folder, each replaced whole, each with a checksum.
//!
//! A file that is missing, cut short, changed or of another version reads as [`Read::Nothing`] or [`Read::Damaged`],
//! never as something else. Writing replaces a file by renaming, so a reader and a crash see the old one or the new.

mod identify;
pub mod sessions;
pub mod spool;
mod stamp;

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub use identify::decode_identify;
pub use sessions::{Found, Kept, Sessions};
pub use stamp::{Stamp, boot_number};

/// The longest file read: a day's permits take 4 KiB.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// What is between a file's content and its checksum.
const CHECK: &str = "\ncrc32 ";

/// A folder that this process has to itself, under one name.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    // Locked as long as it is open; the system lets go of it when the process ends, however it ends.
    _lock: File,
}

/// What a file had to say.
#[derive(Debug, PartialEq, Eq)]
pub enum Read {
    /// Its content, checked.
    Content(Vec<u8>),
    /// There is no such file.
    Nothing,
    /// It is not what was written; the text says how.
    Damaged(&'static str),
}

/// Why there is no folder.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has it.
    Taken,
    /// The system refuses.
    Io(io::Error),
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> OpenError {
        OpenError::Io(error)
    }
}

impl Folder {
    /// Makes the folder at `path` where it does not exist and locks `name` in it.
    ///
    /// # Errors
    /// When another process has the lock, or the folder cannot be written to.
    pub fn open(path: &Path, name: &str) -> Result<Folder, OpenError> {
        // Sessions, messages and what the bot sees: nobody else's on this machine. A folder that is there stays as it is.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        let lock = File::options().create(true).append(true).open(path.join(format!("{name}.lock")))?;
        match lock.try_lock() {
            Ok(()) => Ok(Folder { path: path.to_owned(), _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => Err(OpenError::Taken),
            Err(fs::TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file `name`.
    ///
    /// # Errors
    /// When the system does.
    pub fn read(&self, name: &str) -> io::Result<Read> {
        let file = match File::open(self.path.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Read::Nothing),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok(checked(bytes))
    }

    /// Removes the files whose names begin with `prefix` and that nobody has written for `age`, where the wall clock
    /// says `now`; says how many stay.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn sweep(&self, prefix: &str, age: Duration, now: SystemTime) -> io::Result<usize> {
        let mut left = 0;
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)) {
                continue;
            }
            let written = entry.metadata().and_then(|metadata| metadata.modified());
            let is_old = written.is_ok_and(|at| now.duration_since(at).is_ok_and(|since| since > age));
            if !is_old || fs::remove_file(entry.path()).is_err() {
                left += 1;
            }
        }
        Ok(left)
    }

    /// Whether there is a file `name`.
    pub fn has(&self, name: &str) -> bool {
        self.path.join(name).exists()
    }

    /// Removes the file `name`. Where that fails it stays, and says what was true once.
    pub fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.path.join(name));
    }

    /// Replaces the file `name`. Survives the end of the process at any instant; the system may still lose it with
    /// the power, and then the older one is there or none.
    ///
    /// # Errors
    /// When the system refuses; the older file stays.
    pub fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let new = self.path.join(format!("{name}.new"));
        let mut bytes = content.to_vec();
        bytes.extend_from_slice(format!("{CHECK}{:08x}\n", crc32fast::hash(content)).as_bytes());
        // One write, so that a full disk leaves no half of it unnoticed.
        File::create(&new)?.write_all(&bytes)?;
        fs::rename(&new, self.path.join(name))
    }
}

/// The content of a file whose checksum holds.
fn checked(mut bytes: Vec<u8>) -> Read {
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Read::Damaged("it is too long");
    }
    let tail = CHECK.len() + 9;
    let Some(split) = bytes.len().checked_sub(tail) else { return Read::Damaged("it is too short") };
    let (content, check) = bytes.split_at(split);
    if check != format!("{CHECK}{:08x}\n", crc32fast::hash(content)).as_bytes() {
        return Read::Damaged("its checksum does not hold");
    }
    bytes.truncate(split);
    Read::Content(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that is gone at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("rateway-state-{}-{name}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_is_what_was_last_written() {
        let scratch = Scratch::new("written");
        let folder = Folder::open(&scratch.0.join("a/b"), "test").expect("a folder");
        assert_eq!(folder.read("x").expect("a read"), Read::Nothing);
        for content in [&b"one"[..], b"", b"three\nlines\n"] {
            folder.replace("x", content).expect("a write");
            assert_eq!(folder.read("x").expect("a read"), Read::Content(content.to_vec()));
        }
    }

    #[test]
    fn a_folder_is_for_one_process_and_name() {
        let scratch = Scratch::new("lock");
        let folder = Folder::open(&scratch.0, "test").expect("a folder");
        // flock(2): another description of the same file is refused, in this process as in any other.
        assert!(matches!(Folder::open(&scratch.0, "test"), Err(OpenError::Taken)));
        assert!(Folder::open(&scratch.0, "other").is_ok());
        drop(folder);
        assert!(Folder::open(&scratch.0, "test").is_ok());
    }

    #[test]
    fn old_files_are_swept_and_others_stay() {
        let scratch = Scratch::new("sweep");
        let folder = Folder::open(&scratch.0, "test").expect("a folder");
        for name in ["queue-a.json", "queue-b.json", "other"] {
            folder.replace(name, b"x").expect("a write");
        }
        let written = fs::metadata(scratch.0.join("other")).and_then(|data| data.modified()).expect("a time");
        let age = Duration::from_secs(100);
        assert_eq!(folder.sweep("queue-", age, written + age / 2).expect("a list"), 2);
        assert!(folder.has("queue-a.json"));
        assert_eq!(folder.sweep("queue-", age, written + age * 2).expect("a list"), 0);
        assert!(!folder.has("queue-a.json") && folder.has("other"));
        folder.remove("other");
        folder.remove("other");
        assert!(!folder.has("other"));
    }

    #[test]
    fn nothing_that_was_not_written_is_read() {
        let scratch = Scratch::new("damage");
        let folder = Folder::open(&scratch.0, "test").expect("a folder");
        folder.replace("x", b"{\"remaining\":12}").expect("a write");
        let good = fs::read(scratch.0.join("x")).expect("the file");
        let damaged = |bytes: &[u8]| {
            fs::write(scratch.0.join("x"), bytes).expect("a write");
            matches!(folder.read("x").expect("a read"), Read::Damaged(_))
        };
        for at in 0..good.len() {
            assert!(damaged(&good[..at]), "cut at {at}");
            for bit in 0..8 {
                let mut bytes = good.clone();
                bytes[at] ^= 1 << bit;
                assert!(damaged(&bytes), "bit {bit} at {at}");
            }
        }
        assert!(damaged(&[good.clone(), good.clone()].concat()));
        assert!(damaged(&vec![b' '; FILE_BYTES_MAX as usize + 1]));
        assert!(!damaged(&good));
    }
}

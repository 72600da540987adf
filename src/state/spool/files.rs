//! The few things that a spool asks of a file system. Behind a trait, so that a simulation can fail at each of them.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// One folder of files.
pub trait Files {
    /// An open file.
    type File;

    /// The files' names and lengths in bytes, in any order. Names that are no UTF-8 are none of ours and left out.
    ///
    /// # Errors
    /// When the system refuses.
    fn list(&mut self) -> io::Result<Vec<(String, u64)>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// When there is none, or the system refuses.
    fn open(&mut self, name: &str) -> io::Result<Self::File>;

    /// Makes an empty file.
    ///
    /// # Errors
    /// When there is one of that name, or the system refuses.
    fn create(&mut self, name: &str) -> io::Result<Self::File>;

    /// Writes at `offset` and tells how much of `bytes` was taken, as pwrite(2).
    ///
    /// # Errors
    /// When the system refuses.
    fn write_at(&mut self, file: &Self::File, offset: u64, bytes: &[u8]) -> io::Result<usize>;

    /// Reads at `offset` and tells how much of `into` was filled, as pread(2); 0 at the end of the file.
    ///
    /// # Errors
    /// When the system refuses.
    fn read_at(&mut self, file: &Self::File, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Cuts a file to `len` bytes.
    ///
    /// # Errors
    /// When the system refuses.
    fn truncate(&mut self, file: &Self::File, len: u64) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// When there is none, or the system refuses.
    fn remove(&mut self, name: &str) -> io::Result<()>;
}

/// Writes all of `bytes`.
pub(super) fn write_all<F: Files>(
    files: &mut F,
    file: &F::File,
    mut at: u64,
    mut bytes: &[u8],
) -> io::Result<()> {
    while !bytes.is_empty() {
        match files.write_at(file, at, bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                at += count as u64;
                bytes = bytes.get(count..).unwrap_or_default();
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills all of `into`.
pub(super) fn read_all<F: Files>(
    files: &mut F,
    file: &F::File,
    mut at: u64,
    mut into: &mut [u8],
) -> io::Result<()> {
    while !into.is_empty() {
        match files.read_at(file, at, into) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                at += count as u64;
                into = into.get_mut(count..).unwrap_or_default();
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A folder of the real file system.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    /// The folder at `path`, made where it does not exist.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn open(path: &Path) -> io::Result<Disk> {
        // What is in there are messages of people: nobody else on the machine reads them.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Ok(Disk { path: path.to_owned() })
    }
}

impl Files for Disk {
    type File = File;

    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if let Ok(name) = entry.file_name().into_string()
                && metadata.is_file()
            {
                files.push((name, metadata.len()));
            }
        }
        Ok(files)
    }

    fn open(&mut self, name: &str) -> io::Result<File> {
        File::options().read(true).write(true).open(self.path.join(name))
    }

    fn create(&mut self, name: &str) -> io::Result<File> {
        File::options().read(true).write(true).create_new(true).mode(0o600).open(self.path.join(name))
    }

    fn write_at(&mut self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        FileExt::write_at(file, bytes, offset)
    }

    fn read_at(&mut self, file: &File, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(file, into, offset)
    }

    fn truncate(&mut self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }
}

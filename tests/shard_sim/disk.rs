//! A cluster's folder in memory: it outlives the process, and it fails, tears writes and fills up when it is told to.
//! The process may die within any call, the call half done.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use rateway::base::Rng;
use rateway::state::spool::Files;

/// What the folder holds, and how things go wrong.
#[derive(Debug)]
pub struct Folder {
    files: BTreeMap<String, Vec<u8>>,
    pub rng: Rng,
    /// One call in so many fails with EIO; 0: none.
    pub eio_in: u64,
    /// One write in so many is short; 0: none.
    pub short_in: u64,
    /// The disk takes no more than this.
    pub bytes_max: u64,
    /// Calls until the process dies; the one that it dies in may be half done.
    pub calls_left: Option<u64>,
    /// The process is dead: nothing does anything.
    pub dead: bool,
    /// A process lived on although it could not write how far it has handed things out.
    pub cursor_failed: bool,
    pub faults: u64,
}

/// The folder, for whoever has it open.
#[derive(Clone, Debug)]
pub struct SimDisk(Rc<RefCell<Folder>>);

/// The error number of a disk that cannot.
const EIO: i32 = 5;

fn dying() -> io::Error {
    io::Error::other("the process dies")
}

impl SimDisk {
    pub fn new(seed: u64) -> SimDisk {
        SimDisk(Rc::new(RefCell::new(Folder {
            files: BTreeMap::new(),
            rng: Rng::new(seed),
            eio_in: 0,
            short_in: 0,
            bytes_max: u64::MAX,
            calls_left: None,
            dead: false,
            cursor_failed: false,
            faults: 0,
        })))
    }

    pub fn with<T>(&self, change: impl FnOnce(&mut Folder) -> T) -> T {
        change(&mut self.0.borrow_mut())
    }

    pub fn is_dead(&self) -> bool {
        self.0.borrow().dead
    }

    /// Another process opens it.
    pub fn restart(&self) {
        self.with(|folder| (folder.dead, folder.calls_left) = (false, None));
    }

    /// It works again.
    pub fn heal(&self) {
        self.with(|folder| (folder.eio_in, folder.short_in, folder.bytes_max) = (0, 0, u64::MAX));
    }
}

impl Folder {
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|bytes| bytes.len() as u64).sum()
    }

    /// Whether the call is carried out: `Ok(true)` wholly, `Ok(false)` as the last thing before death.
    fn call(&mut self) -> io::Result<bool> {
        if self.dead {
            return Err(dying());
        }
        if let Some(left) = &mut self.calls_left {
            if *left == 0 {
                self.dead = true;
                return Ok(false);
            }
            *left -= 1;
        }
        if self.eio_in > 0 && self.rng.chance(1, self.eio_in) {
            self.faults += 1;
            return Err(io::Error::from_raw_os_error(EIO));
        }
        Ok(true)
    }

    /// As [`Folder::call`], for what is read only: nothing is half done.
    fn look(&mut self) -> io::Result<()> {
        if self.call()? { Ok(()) } else { Err(dying()) }
    }

    fn write(&mut self, name: &str, offset: usize, bytes: &[u8]) -> io::Result<usize> {
        let lives = self.call()?;
        let mut count = bytes.len();
        if !lives || (self.short_in > 0 && self.rng.chance(1, self.short_in)) {
            count = self.rng.below(bytes.len() as u64 + 1) as usize;
            if lives {
                self.faults += 1;
                count = count.max(1).min(bytes.len());
            }
        }
        let others = self.bytes();
        // Removed while it was open: nobody reads it again.
        let Some(content) = self.files.get_mut(name) else { return Ok(bytes.len()) };
        let room = self.bytes_max.saturating_sub(others) as usize;
        count = count.min((content.len() + room).saturating_sub(offset));
        if count == 0 && lives && !bytes.is_empty() {
            self.faults += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        if content.len() < offset + count {
            content.resize(offset + count, 0);
        }
        content[offset..offset + count].copy_from_slice(&bytes[..count]);
        if lives { Ok(count) } else { Err(dying()) }
    }
}

impl Files for SimDisk {
    type File = String;

    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        self.with(|folder| {
            folder.look()?;
            Ok(folder.files.iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64)).collect())
        })
    }

    fn open(&mut self, name: &str) -> io::Result<String> {
        self.with(|folder| {
            folder.look()?;
            let found = folder.files.contains_key(name);
            if found { Ok(name.to_owned()) } else { Err(io::ErrorKind::NotFound.into()) }
        })
    }

    fn create(&mut self, name: &str) -> io::Result<String> {
        self.with(|folder| {
            let made = folder.call().and_then(|lives| {
                if folder.files.contains_key(name) {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                if lives || folder.rng.chance(1, 2) {
                    folder.files.insert(name.to_owned(), Vec::new());
                }
                if lives { Ok(name.to_owned()) } else { Err(dying()) }
            });
            folder.cursor_failed |= made.is_err() && name == "cursor" && !folder.dead;
            made
        })
    }

    fn write_at(&mut self, file: &String, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.with(|folder| {
            let written = folder.write(file, offset as usize, bytes);
            folder.cursor_failed |= written.is_err() && file == "cursor" && !folder.dead;
            written
        })
    }

    fn read_at(&mut self, file: &String, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.with(|folder| {
            folder.look()?;
            let content = folder.files.get(file).ok_or(io::ErrorKind::NotFound)?;
            let rest = content.get(offset as usize..).unwrap_or_default();
            let mut count = rest.len().min(into.len());
            if folder.short_in > 0 && count > 1 && folder.rng.chance(1, folder.short_in) {
                count = 1 + folder.rng.below(count as u64) as usize;
            }
            into[..count].copy_from_slice(&rest[..count]);
            Ok(count)
        })
    }

    fn truncate(&mut self, file: &String, len: u64) -> io::Result<()> {
        self.with(|folder| {
            let lives = folder.call()?;
            if (lives || folder.rng.chance(1, 2))
                && let Some(content) = folder.files.get_mut(file)
            {
                content.truncate(len as usize);
            }
            if lives { Ok(()) } else { Err(dying()) }
        })
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.with(|folder| {
            let lives = folder.call()?;
            if lives || folder.rng.chance(1, 2) {
                folder.files.remove(name).ok_or(io::ErrorKind::NotFound)?;
            }
            if lives { Ok(()) } else { Err(dying()) }
        })
    }
}

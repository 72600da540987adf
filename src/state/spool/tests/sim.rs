//! A folder in memory that fails, tears writes and stops at any step, by a seed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use crate::base::Rng;
use crate::state::spool::Files;

/// What is on the disk: it outlives the process.
#[derive(Debug, Default)]
pub struct Disk {
    pub files: BTreeMap<String, Vec<u8>>,
    /// The most that all files took together.
    pub bytes_peak: u64,
}

/// How things go wrong.
#[derive(Debug)]
pub struct Faults {
    pub rng: Rng,
    /// One call in so many fails with EIO; 0: none.
    pub eio_in: u64,
    /// One write in so many is short.
    pub short_in: u64,
    /// The disk takes no more than this.
    pub disk_max: u64,
    /// Calls until the process dies; the call that it dies in may be half done.
    pub calls_left: Option<u64>,
    /// The process is dead: nothing does anything.
    pub dead: bool,
    /// The last write to the cursor went wrong, or a write to it never came to its end.
    pub cursor_failed: bool,
}

/// The simulated folder.
#[derive(Clone, Debug)]
pub struct Sim {
    pub disk: Rc<RefCell<Disk>>,
    pub faults: Rc<RefCell<Faults>>,
}

impl Sim {
    pub fn new(seed: u64) -> Sim {
        let faults = Faults {
            rng: Rng::new(seed),
            eio_in: 0,
            short_in: 0,
            disk_max: u64::MAX,
            calls_left: None,
            dead: false,
            cursor_failed: false,
        };
        Sim { disk: Rc::default(), faults: Rc::new(RefCell::new(faults)) }
    }

    pub fn is_dead(&self) -> bool {
        self.faults.borrow().dead
    }

    /// Another process, on the same disk.
    pub fn restart(&self) {
        let mut faults = self.faults.borrow_mut();
        faults.dead = false;
        faults.calls_left = None;
    }

    /// Whether the call is carried out: `Ok(true)` wholly, `Ok(false)` as the last thing before death.
    fn call(&self) -> io::Result<bool> {
        let mut faults = self.faults.borrow_mut();
        if faults.dead {
            return Err(io::Error::other("dead"));
        }
        if let Some(left) = &mut faults.calls_left {
            if *left == 0 {
                faults.dead = true;
                return Ok(false);
            }
            *left -= 1;
        }
        let one_in = faults.eio_in;
        if one_in > 0 && faults.rng.chance(1, one_in) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        Ok(true)
    }

    fn dying(&self) -> io::Error {
        io::Error::other("dying")
    }
}

impl Files for Sim {
    type File = String;

    fn list(&mut self) -> io::Result<Vec<(String, u64)>> {
        if !self.call()? {
            return Err(self.dying());
        }
        Ok(self.disk.borrow().files.iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64)).collect())
    }

    fn open(&mut self, name: &str) -> io::Result<String> {
        if !self.call()? {
            return Err(self.dying());
        }
        let disk = self.disk.borrow();
        let (name, _) = disk.files.get_key_value(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(name.clone())
    }

    fn create(&mut self, name: &str) -> io::Result<String> {
        let lives = self.call()?;
        let mut disk = self.disk.borrow_mut();
        if disk.files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if lives || self.faults.borrow_mut().rng.chance(1, 2) {
            disk.files.insert(name.to_owned(), Vec::new());
        }
        if lives { Ok(name.to_owned()) } else { Err(self.dying()) }
    }

    fn write_at(&mut self, file: &String, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        if file == "cursor" {
            self.faults.borrow_mut().cursor_failed = true;
        }
        let lives = self.call()?;
        let mut disk = self.disk.borrow_mut();
        let mut faults = self.faults.borrow_mut();
        let mut count = bytes.len();
        let one_in = faults.short_in;
        if !lives || (one_in > 0 && faults.rng.chance(1, one_in)) {
            count = faults.rng.below(bytes.len() as u64 + 1) as usize;
            if lives {
                count = count.max(1);
            }
        }
        let total: u64 = disk.files.values().map(|bytes| bytes.len() as u64).sum();
        // A file that was removed and is still open: nobody reads it again.
        let Some(content) = disk.files.get_mut(file) else { return Ok(bytes.len()) };
        let offset = offset as usize;
        let grows = |count: usize| ((offset + count) as u64).saturating_sub(content.len() as u64);
        while count > 0 && total + grows(count) > faults.disk_max {
            count -= 1;
        }
        if count == 0 && lives && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if content.len() < offset + count {
            content.resize(offset + count, 0);
        }
        content[offset..offset + count].copy_from_slice(&bytes[..count]);
        disk.bytes_peak = disk.bytes_peak.max(disk.files.values().map(|bytes| bytes.len() as u64).sum());
        if !lives {
            return Err(self.dying());
        }
        if file == "cursor" && count == bytes.len() {
            faults.cursor_failed = false;
        }
        Ok(count)
    }

    fn read_at(&mut self, file: &String, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        if !self.call()? {
            return Err(self.dying());
        }
        let disk = self.disk.borrow();
        let content = disk.files.get(file).ok_or(io::ErrorKind::NotFound)?;
        let rest = content.get(offset as usize..).unwrap_or_default();
        let mut count = rest.len().min(into.len());
        let mut faults = self.faults.borrow_mut();
        if faults.short_in > 0 && count > 1 && faults.rng.chance(1, 4) {
            count = 1 + faults.rng.below(count as u64) as usize;
        }
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn truncate(&mut self, file: &String, len: u64) -> io::Result<()> {
        let lives = self.call()?;
        if let Some(content) = self.disk.borrow_mut().files.get_mut(file)
            && (lives || self.faults.borrow_mut().rng.chance(1, 2))
        {
            content.truncate(len as usize);
        }
        if lives { Ok(()) } else { Err(self.dying()) }
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        let lives = self.call()?;
        if lives || self.faults.borrow_mut().rng.chance(1, 2) {
            self.disk.borrow_mut().files.remove(name).ok_or(io::ErrorKind::NotFound)?;
        }
        if lives { Ok(()) } else { Err(self.dying()) }
    }
}

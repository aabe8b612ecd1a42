//! A list of passwords that were stolen elsewhere: the file that Have I Been Pwned publishes, ordered by hash. Each line is the SHA-1 of
//! a password in hex, and, after a colon, how often it was seen. It is searched in place and never loaded: a look is some forty reads.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use crate::error::{Context as _, Error, Result};

const HASH: usize = 40;
/// A hash, a colon, a count, and both ends of a line.
const LONGEST_LINE: usize = HASH + 32;
/// Looks at the file's ends that are alike: what is left is read line by line.
const NEAR: u64 = 512;

#[derive(Debug)]
pub(super) struct Breached {
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl Breached {
    /// None for no path. A file that does not look like the list is refused now, not when somebody chooses a password.
    pub(super) fn open(path: &Path) -> Result<Option<Self>> {
        if path.as_os_str().is_empty() {
            return Ok(None);
        }
        let refused = |rule: String| Error::invalid("members.breached_passwords", rule);
        let file = File::open(path).map_err(|error| refused(format!("cannot be read: {error}")))?;
        let bytes = file.metadata().context("look at the list of stolen passwords")?.len();
        let breached = Self { path: path.to_owned(), file, bytes };
        let first = breached.line_at(0)?.map(|(_, hash)| hash);
        let hex = |hash: &String| hash.len() == HASH && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !first.is_some_and(|first| hex(&first)) {
            return Err(refused("does not begin with a SHA-1 in hex: take the file ordered by hash".to_owned()));
        }
        Ok(Some(breached))
    }

    pub(super) fn has(&self, password: &[u8]) -> Result<bool> {
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, password);
        let wanted: String = hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        let (mut low, mut high) = (0, self.bytes);
        // The line wanted begins at `low` or later, and before `high`.
        while high - low > NEAR {
            let middle = low + (high - low) / 2;
            match self.line_at(middle)? {
                Some((begin, hash)) if begin < high => match hash.as_str().cmp(&wanted) {
                    std::cmp::Ordering::Equal => return Ok(true),
                    std::cmp::Ordering::Less => low = begin,
                    std::cmp::Ordering::Greater => high = middle,
                },
                _ => high = middle,
            }
        }
        self.is_between(low, high.saturating_add(NEAR), &wanted)
    }

    /// The first line that begins at `from` or later: where, and its hash.
    fn line_at(&self, from: u64) -> Result<Option<(u64, String)>> {
        let before = from.saturating_sub(1);
        let mut buffer = [0; 2 * LONGEST_LINE];
        let read = self.read(before, &mut buffer)?;
        let skipped =
            if from == 0 { Some(0) } else { buffer[..read].iter().position(|byte| *byte == b'\n').map(|at| at + 1) };
        let Some(skipped) = skipped.filter(|skipped| skipped + HASH <= read) else { return Ok(None) };
        let hash = String::from_utf8_lossy(&buffer[skipped..skipped + HASH]).to_ascii_uppercase();
        Ok(Some((before + skipped as u64, hash)))
    }

    fn is_between(&self, low: u64, high: u64, wanted: &str) -> Result<bool> {
        let mut at = low;
        while at < high {
            match self.line_at(at)? {
                Some((_, hash)) if hash == wanted => return Ok(true),
                Some((begin, _)) => at = begin + 1,
                None => return Ok(false),
            }
        }
        Ok(false)
    }

    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<usize> {
        let mut read = 0;
        while read < buffer.len() {
            match self.file.read_at(&mut buffer[read..], at + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let file = self.path.display().to_string();
                    return Err(Error::unavailable(format!("the list of stolen passwords {file}: {error}")));
                }
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn sha1(password: &str) -> String {
        digest(&SHA1_FOR_LEGACY_USE_ONLY, password.as_bytes())
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect()
    }

    fn list(name: &str, passwords: &[String], end: &str) -> PathBuf {
        let mut lines: Vec<_> = passwords
            .iter()
            .enumerate()
            .map(|(index, password)| format!("{}:{}", sha1(password), index * index))
            .collect();
        lines.sort_unstable();
        let path = std::env::temp_dir().join(format!("tenantry-breached-{}-{name}", std::process::id()));
        let mut file = File::create(&path).unwrap();
        file.write_all(lines.iter().map(|line| format!("{line}{end}")).collect::<String>().as_bytes()).unwrap();
        path
    }

    #[test]
    fn every_password_of_the_list_is_found_and_no_other() {
        for (name, count, end) in [("one", 1, "\r\n"), ("few", 9, "\n"), ("many", 5_000, "\r\n")] {
            let passwords: Vec<_> = (0..count).map(|index| format!("stolen {index}")).collect();
            let path = list(name, &passwords, end);
            let breached = Breached::open(&path).unwrap().unwrap();
            for password in &passwords {
                assert!(breached.has(password.as_bytes()).unwrap(), "{name} {password}");
            }
            for index in 0..2_000 {
                assert!(!breached.has(format!("kept {index}").as_bytes()).unwrap(), "{name} {index}");
            }
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn what_is_no_list_is_refused_at_once() {
        assert!(Breached::open(Path::new("")).unwrap().is_none());
        assert!(Breached::open(Path::new("/nowhere/at/all")).is_err());
        let path = std::env::temp_dir().join(format!("tenantry-breached-{}-none", std::process::id()));
        for content in ["", "password\n123456\n", "5BAA61E4:3\n"] {
            std::fs::write(&path, content).unwrap();
            assert!(Breached::open(&path).is_err(), "{content:?}");
        }
        std::fs::remove_file(path).unwrap();
    }
}

//! A memory cgroup around the server, of version 1 or 2, where one can be made.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes that the server may use.
pub(crate) const LIMIT: u64 = 512 << 20;

/// A cgroup of one's own. It goes with the value, whose process must have ended by then.
pub(crate) struct Cage {
    folder: PathBuf,
    is_v2: bool,
}

impl Cage {
    /// `None` where there are no memory cgroups, or others may not make any.
    pub(crate) fn build() -> Option<Cage> {
        let memberships = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = |controller: &str| {
            let mut lines = memberships.lines().filter_map(|line| line.split_once(':'));
            lines.find_map(|(_, rest)| rest.strip_prefix(controller)?.strip_prefix(":/"))
        };
        let mut places = Vec::new();
        if let Some(own) = own("memory") {
            let root = Path::new("/sys/fs/cgroup/memory");
            places.extend([(root.join(own), false), (root.to_owned(), false)]);
        }
        // Who has processes of his own gives no memory to cgroups below him in version 2: beside him.
        if let Some(own) = own("") {
            let root = Path::new("/sys/fs/cgroup");
            let beside = root.join(own).parent().map(Path::to_owned);
            places.extend(beside.into_iter().chain([root.to_owned()]).map(|place| (place, true)));
        }
        let name = format!("parlor-siege-{}", std::process::id());
        places.into_iter().find_map(|(place, is_v2)| Cage::at(place.join(&name), is_v2))
    }

    fn at(folder: PathBuf, is_v2: bool) -> Option<Cage> {
        fs::create_dir(&folder).ok()?;
        let cage = Cage { folder, is_v2 };
        if is_v2 {
            fs::write(cage.folder.join("memory.max"), LIMIT.to_string()).ok()?;
            // Where nothing is swapped there is nothing to turn off.
            fs::write(cage.folder.join("memory.swap.max"), "0").ok();
        } else {
            fs::write(cage.folder.join("memory.limit_in_bytes"), LIMIT.to_string()).ok()?;
            fs::write(cage.folder.join("memory.memsw.limit_in_bytes"), LIMIT.to_string()).ok();
            // Version 1 counts what sockets hold only where it has a limit, and apart.
            fs::write(cage.folder.join("memory.kmem.tcp.limit_in_bytes"), LIMIT.to_string()).ok();
        }
        Some(cage)
    }

    /// The file that takes the ids of processes.
    pub(crate) fn entrance(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// Processes in it that were killed for want of memory.
    pub(crate) fn kills(&self) -> u64 {
        let file = if self.is_v2 { "memory.events" } else { "memory.oom_control" };
        self.field(file, "oom_kill").unwrap_or(0)
    }

    /// Bytes that sockets hold now.
    pub(crate) fn sockets(&self) -> u64 {
        let held = match self.is_v2 {
            true => self.field("memory.stat", "sock"),
            false => self.number("memory.kmem.tcp.usage_in_bytes"),
        };
        held.unwrap_or(0)
    }

    /// The most bytes that were used at one time. Files that can be read again count too.
    pub(crate) fn peak(&self) -> u64 {
        let file = if self.is_v2 { "memory.peak" } else { "memory.max_usage_in_bytes" };
        self.number(file).unwrap_or(0)
    }

    fn number(&self, file: &str) -> Option<u64> {
        fs::read_to_string(self.folder.join(file)).ok()?.trim().parse().ok()
    }

    fn field(&self, file: &str, name: &str) -> Option<u64> {
        let text = fs::read_to_string(self.folder.join(file)).ok()?;
        let mut fields = text.lines().filter_map(|line| line.split_once(' '));
        fields.find_map(|(key, value)| (key == name).then(|| value.parse().ok())?)
    }
}

impl std::fmt::Display for Cage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let version = if self.is_v2 { 2 } else { 1 };
        write!(f, "a memory cgroup of version {version} with {} MiB", LIMIT >> 20)
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        // While a process is in it, it can't go.
        let _ = fs::remove_dir(&self.folder);
    }
}

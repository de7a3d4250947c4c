//! How much memory the process may use, according to its control group.

use std::path::{Path, PathBuf};

/// In bytes. `None`: there is no limit, or none is seen.
pub(crate) fn memory_limit() -> Option<u64> {
    tightest_of(Path::new("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"))
}

/// The tightest limit on the way from this process's control group to the root. `None`: there is none, or none is seen.
fn tightest_of(own: &Path, mount: &Path) -> Option<u64> {
    let groups = std::fs::read_to_string(own).ok()?;
    let limits = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let (root, file) = match controllers {
            // Version 2 has one hierarchy for everything.
            "" => (mount.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|of| of == "memory") => (mount.join("memory"), "memory.limit_in_bytes"),
            _ => return None,
        };
        tightest(&root, Path::new(path.trim_start_matches('/')), file)
    });
    limits.min()
}

/// In a container the path may be the host's, and only the root is mounted.
fn tightest(root: &Path, path: &Path, file: &str) -> Option<u64> {
    let read = |dir: PathBuf| std::fs::read_to_string(dir.join(file)).ok()?.trim().parse::<u64>().ok();
    // Version 1 says "none" by a number that no machine has.
    path.ancestors().filter_map(|dir| read(root.join(dir))).filter(|limit| *limit < 1 << 60).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_tightest_limit_on_the_way_up_counts() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let limit = |groups: &str| {
            at("self", groups);
            tightest_of(&dir.path().join("self"), &dir.path().join("cgroup"))
        };
        assert_eq!(limit("0::/pods/one\n"), None, "nothing is mounted");
        at("cgroup/pods/one/memory.max", "max\n");
        at("cgroup/pods/memory.max", "1000\n");
        assert_eq!(limit("0::/pods/one\n"), Some(1000));
        at("cgroup/pods/one/memory.max", "700\n");
        assert_eq!(limit("0::/pods/one\n"), Some(700));
        assert_eq!(limit("0::/elsewhere/on/the/host\n"), None);
        at("cgroup/memory/docker/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(limit("3:cpu:/\n5:memory:/docker\n"), None, "version 1 has a number for `none`");
        at("cgroup/memory/docker/memory.limit_in_bytes", "500\n");
        assert_eq!(limit("3:cpu:/\n5:memory,hugetlb:/docker\n"), Some(500));
    }
}

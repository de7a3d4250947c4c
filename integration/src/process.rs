//! The `pelton` process as an operator runs it: a configuration file, a process, signals, an exit code, a log.

use crate::eventually;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// A running process. Killed when dropped.
#[derive(Debug)]
pub struct Pelton {
    child: Child,
    log: PathBuf,
    // Keeps configuration and log as long as the process, where nobody else does.
    _home: Option<tempfile::TempDir>,
}

/// How to start one.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    pub binary: &'a Path,
    pub config: &'a Path,
    pub instance: &'a str,
    pub args: &'a [&'a str],
    pub env: &'a [(&'a str, &'a str)],
    /// Made anew.
    pub log: &'a Path,
}

/// Whether a variable changes what a Pelton does: those of whoever runs the tests are not for it.
fn configures(variable: &str) -> bool {
    ["PELTON_", "OTEL_"].iter().any(|prefix| variable.starts_with(prefix))
        || variable.to_ascii_lowercase().ends_with("_proxy")
}

/// The binary under test: `PELTON_BIN`, else built now.
///
/// # Panics
/// When it cannot be built.
pub fn binary() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            if let Some(given) = std::env::var_os("PELTON_BIN") {
                return PathBuf::from(given);
            }
            let status = Command::new("cargo")
                .current_dir(crate::root())
                // What tests are built with is there already.
                .args(["build", "--quiet", "--workspace", "--all-targets"])
                .status()
                .expect("cargo runs");
            assert!(status.success(), "pelton does not build");
            crate::cache().join("debug/pelton")
        })
        .clone()
}

impl Pelton {
    /// Starts `pelton run` with this configuration, as instance `instance`.
    pub fn start(config: &str, instance: &str) -> Self {
        Self::start_with(config, instance, &[])
    }

    pub fn start_with(config: &str, instance: &str, args: &[&str]) -> Self {
        Self::start_in(config, instance, args, &[])
    }

    /// The same, with these variables.
    pub fn start_in(config: &str, instance: &str, args: &[&str], env: &[(&str, &str)]) -> Self {
        let home = tempfile::tempdir().expect("a temporary directory");
        let file = home.path().join("config.yaml");
        fs::write(&file, config).expect("the configuration is written");
        let log = home.path().join("pelton.log");
        let launch = Launch { binary: &binary(), config: &file, instance, args, env, log: &log };
        let mut pelton = Self::launch(&launch).expect("pelton starts");
        pelton._home = Some(home);
        pelton
    }

    /// Replaces the configuration, as an editor does: the new file takes the old one's name.
    ///
    /// # Panics
    /// When the process was not started by [`Pelton::start`].
    pub fn reconfigure(&self, config: &str) {
        let file = self.config();
        let next = file.with_extension("next");
        fs::write(&next, config).expect("the configuration is written");
        fs::rename(next, file).expect("it takes the place of the old one");
    }

    /// The configuration's file.
    ///
    /// # Panics
    /// When the process was not started by [`Pelton::start`].
    pub fn config(&self) -> PathBuf {
        self._home.as_ref().expect("it has a home").path().join("config.yaml")
    }

    /// The process ends with the thread that calls this.
    pub fn launch(launch: &Launch<'_>) -> std::io::Result<Self> {
        let out = File::create(launch.log)?;
        let mut command = Command::new(launch.binary);
        command
            .args(["run", "-c"])
            .arg(launch.config)
            .args(launch.args)
            .env_clear()
            .envs(std::env::vars_os().filter(|(name, _)| !configures(&name.to_string_lossy())))
            .env("PELTON_INSTANCE", launch.instance)
            .env("PELTON_LOG", std::env::var("PELTON_TEST_LOG").unwrap_or_else(|_| "info".into()))
            .env("XDG_CACHE_HOME", cache_dir())
            .envs(launch.env.iter().copied())
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        // SAFETY: prctl is async-signal-safe and changes only the child.
        #[allow(unsafe_code, reason = "PR_SET_PDEATHSIG has no safe wrapper in std")]
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        Ok(Pelton { child: command.spawn()?, log: launch.log.to_owned(), _home: None })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: a process that this struct started and has not waited for.
        #[allow(unsafe_code, reason = "std can only kill")]
        unsafe {
            libc::kill(self.child.id() as i32, signal);
        }
    }

    /// The exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Has it come as far as to listen to signals?
    pub fn says_it_runs(&self) -> bool {
        self.log().contains("running")
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for the end.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let log = self.log.clone();
        eventually(&format!("pelton ends; log:\n{}", tail(&log)), limit, || self.child.try_wait().ok().flatten())
    }

    /// SIGTERM and wait; the exit code. A process that has only just been started is given time to listen to signals.
    pub fn stop(&mut self) -> Option<i32> {
        eventually("pelton runs", Duration::from_secs(90), || {
            (self.ended().is_some() || self.says_it_runs()).then_some(())
        });
        self.signal(libc::SIGTERM);
        self.wait(Duration::from_secs(90)).code()
    }

    /// The most memory that it ever had resident, in MiB.
    ///
    /// # Panics
    /// When the process has ended.
    pub fn peak_memory_mib(&self) -> u64 {
        self.memory_kib("VmHWM:").expect("a living process") / 1024
    }

    /// What it has resident now, in KiB; `None`: it has ended.
    pub fn resident_kib(&self) -> Option<u64> {
        self.memory_kib("VmRSS:")
    }

    /// Its threads: name, and user and system time so far in clock ticks.
    pub fn threads(&self) -> Vec<(String, u64)> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten();
        tasks
            .filter_map(|task| {
                let stat = fs::read_to_string(task.path().join("stat")).ok()?;
                let (head, tail) = stat.rsplit_once(')')?;
                let ticks = |field: usize| tail.split_whitespace().nth(field)?.parse::<u64>().ok();
                Some((head.split_once('(')?.1.to_owned(), ticks(11)? + ticks(12)?))
            })
            .collect()
    }

    fn memory_kib(&self, line: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        status.lines().find_map(|l| l.strip_prefix(line))?.split_whitespace().next()?.parse().ok()
    }

    /// # Panics
    /// When the process has ended.
    pub fn assert_running(&mut self) {
        if let Ok(Some(status)) = self.child.try_wait() {
            panic!("pelton ended with {status}; log:\n{}", self.log());
        }
    }
}

impl Drop for Pelton {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of pelton {} ---\n{}", self.child.id(), tail(&self.log));
        }
        self.kill();
    }
}

/// Compiled modules are shared by all tests of a machine, as they are by all processes of an operator.
fn cache_dir() -> PathBuf {
    let dir = crate::cache().join("test-cache");
    let _ = fs::create_dir_all(&dir);
    dir
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

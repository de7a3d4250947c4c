//! A pseudo-terminal with a program on it: what it writes is gathered, keys can be pressed, and its modes looked at.

#![allow(dead_code, reason = "each test binary uses its own part")]

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(60);

pub struct Terminal {
    keys: File,
    /// Keeps it open when the program is gone.
    other: File,
    child: Child,
    seen: Arc<(Mutex<Vec<u8>>, Condvar)>,
}

impl Terminal {
    /// Of 140 columns and 30 rows, the program's controlling one.
    pub fn start(command: Command) -> Self {
        Self::start_as(command, "xterm-256color")
    }

    /// The same, called so in TERM.
    pub fn start_as(mut command: Command, term: &str) -> Self {
        let master: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("its other side");
        let size = Winsize { ws_row: 30, ws_col: 140, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).expect("its size");
        let name = ptsname(&master, Vec::new()).expect("its name").into_string().expect("text");
        let mut options = OpenOptions::new();
        let other = std::os::unix::fs::OpenOptionsExt::custom_flags(options.read(true).write(true), 0o400);
        let other = other.open(name).expect("its other side");
        let end = || other.try_clone().expect("another descriptor");
        command.stdin(end()).stdout(end()).stderr(end()).env("TERM", term);
        // SAFETY: both are system calls that change only the child.
        #[allow(unsafe_code, reason = "a session and its terminal are made between fork and exec")]
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        let child = command.spawn().expect("the program starts");
        let keys = File::from(master);
        let mut screen = keys.try_clone().expect("another descriptor");
        let seen: Arc<(Mutex<Vec<u8>>, Condvar)> = Arc::default();
        let all = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut part = [0; 4096];
            while let Ok(read @ 1..) = screen.read(&mut part) {
                all.0.lock().expect("no panic").extend(&part[..read]);
                all.1.notify_all();
            }
        });
        Self { keys, other, child, seen }
    }

    /// All that was written until now.
    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.0.lock().expect("no panic")).into_owned()
    }

    /// Waits until it was written.
    pub fn wait_for(&self, text: &str) {
        let deadline = Instant::now() + LONG;
        let mut seen = self.seen.0.lock().expect("no panic");
        while !String::from_utf8_lossy(&seen).contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "`{text}` was not written: {:?}", String::from_utf8_lossy(&seen));
            seen = self.seen.1.wait_timeout(seen, left).expect("no panic").0;
        }
    }

    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("keys are taken");
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it reads whole lines, and whether it shows what is typed.
    pub fn modes(&self) -> (bool, bool) {
        let modes = tcgetattr(&self.other).expect("its modes").local_modes;
        (modes.contains(LocalModes::ICANON), modes.contains(LocalModes::ECHO))
    }

    /// Waits for the program's end; how, and all that was written.
    pub fn end(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + LONG;
        let status = loop {
            match self.child.try_wait().expect("a child") {
                Some(status) => break status,
                None if Instant::now() > deadline => panic!("it does not end: {:?}", self.seen()),
                None => std::thread::yield_now(),
            }
        };
        // What is written last comes through after all else.
        self.other.write_all(b"<the end>").expect("written");
        self.wait_for("<the end>");
        (status, self.seen())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! Wakes a worker that waits for input: one eventfd that librdkafka's queues, the committer threads and the supervisor
//! write to. A wake-up that arrives while nobody waits is kept, so none is lost between checking and waiting.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// One worker's alarm clock. Shared by `Arc`.
#[derive(Debug)]
pub struct Wake {
    fd: OwnedFd,
}

impl Wake {
    pub fn new() -> io::Result<Self> {
        // SAFETY: plain system call; the descriptor is owned by nobody else.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` is a fresh, open descriptor.
        Ok(Wake { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Ends the present wait, or the next one.
    pub fn notify(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: writes eight bytes from a live buffer. It can only fail with EAGAIN, when a wake-up is pending anyway.
        unsafe { libc::write(self.fd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Waits until somebody notifies or `timeout` is over; takes all wake-ups so far.
    pub fn wait(&self, timeout: Duration) {
        let mut poll = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs().min(3600) as libc::time_t,
            tv_nsec: libc::c_long::from(timeout.subsec_nanos()),
        };
        // SAFETY: one live pollfd, a live timespec, no signal mask.
        if unsafe { libc::ppoll(&mut poll, 1, &timeout, std::ptr::null()) } > 0 {
            let mut count = [0_u8; 8];
            // SAFETY: reads at most eight bytes into a live buffer.
            unsafe { libc::read(self.fd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
        }
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_notification_before_the_wait_ends_it_at_once() {
        let wake = Wake::new().unwrap();
        wake.notify();
        let start = Instant::now();
        wake.wait(Duration::from_secs(60));
        assert!(start.elapsed() < Duration::from_secs(30));
    }
}

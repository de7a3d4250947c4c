//! Exit codes: the numbers are part of the interface (those of sysexits, except clap's 2 for usage).

use crate::config::{Code, ConfigErrors};

/// An exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Ok = 0,
    Failed = 1,
    Usage = 2,
    Unavailable = 69,
    Internal = 70,
    Io = 74,
    Temporary = 75,
    Auth = 77,
    Config = 78,
}

impl Exit {
    pub const ALL: [Self; 9] = [
        Self::Ok,
        Self::Failed,
        Self::Usage,
        Self::Unavailable,
        Self::Internal,
        Self::Io,
        Self::Temporary,
        Self::Auth,
        Self::Config,
    ];

    pub const fn code(self) -> u8 {
        self as u8
    }

    /// This one, unless it is `Ok`.
    pub fn or(self, other: Self) -> Self {
        if self == Self::Ok { other } else { self }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
            Self::Io => "io",
            Self::Temporary => "temporary",
            Self::Auth => "auth",
            Self::Config => "config",
        }
    }

    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "Done, or stopped as told.",
            Self::Failed => "A check failed, or a transform's policy `stop` took effect.",
            Self::Usage => "The command line cannot be understood.",
            Self::Unavailable => "The brokers cannot be reached, or lack what is needed.",
            Self::Internal => "A bug in Pelton.",
            Self::Io => "Reading or writing a local file failed.",
            Self::Temporary => "Not now: starting again may help.",
            Self::Auth => "The brokers refuse the credentials or the operation.",
            Self::Config => "The configuration is wrong, or does not fit the cluster; starting again will not help.",
        }
    }
}

impl From<&ConfigErrors> for Exit {
    /// A broker that does not answer may answer later; everything else stays wrong until somebody fixes it.
    fn from(errors: &ConfigErrors) -> Self {
        let any = |codes: &[Code]| errors.0.iter().any(|error| codes.contains(&error.code));
        if errors.0.is_empty() {
            Self::Ok
        } else if any(&[Code::Authentication, Code::Denied]) {
            Self::Auth
        } else if any(&[Code::Unreachable, Code::Tls]) {
            Self::Unavailable
        } else {
            Self::Config
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

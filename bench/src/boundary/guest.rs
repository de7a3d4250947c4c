//! The guest's module: built as transforms are, or with one setting left out, and put through `jco opt` where that can be
//! had. Cargo is the cache.

use anyhow::{Context, Result, bail};
use pelton_integration::{cache, root};
use pelton_sandbox::Digest;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A way to build the guest.
pub(crate) struct Build {
    pub(crate) name: &'static str,
    /// Of its target directory; none is that of transforms/.
    directory: Option<&'static str>,
    arguments: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

impl Build {
    /// As transforms/ says, in `Cargo.toml` and `.cargo/config.toml`.
    pub(crate) const AS_TRANSFORMS: Build =
        Build { name: "guest, built as transforms/", directory: None, arguments: &[], environment: &[] };

    /// What transforms/ says, less one setting. RUSTFLAGS replaces the flags of `.cargo/config.toml`.
    pub(crate) const VARIANTS: [Build; 7] = [
        Build {
            name: "without all of these: `cargo build --release`",
            directory: Some("none"),
            arguments: &["--no-default-features"],
            environment: &[NO_FLAGS, NO_LTO, ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")],
        },
        Build {
            name: "without LTO, 16 codegen units",
            directory: Some("no-lto"),
            arguments: &[],
            environment: &[NO_LTO, ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")],
        },
        Build {
            name: "opt-level s",
            directory: Some("small"),
            arguments: &[],
            environment: &[("CARGO_PROFILE_RELEASE_OPT_LEVEL", "s")],
        },
        Build {
            name: "the system's allocator",
            directory: Some("system-allocator"),
            arguments: &["--no-default-features"],
            environment: &[],
        },
        Build {
            name: "without -inline-threshold",
            directory: Some("no-inlining"),
            arguments: &[],
            environment: &[("RUSTFLAGS", "-Ctarget-feature=+simd128")],
        },
        Build {
            name: "-inline-threshold=600",
            directory: Some("inline-600"),
            arguments: &[],
            environment: &[("RUSTFLAGS", "-Cllvm-args=-inline-threshold=600 -Ctarget-feature=+simd128")],
        },
        Build {
            name: "without +simd128",
            directory: Some("no-simd"),
            arguments: &[],
            environment: &[("RUSTFLAGS", "-Cllvm-args=-inline-threshold=3000")],
        },
    ];

    /// The module, built now if need be.
    pub(crate) fn make(&self) -> Result<PathBuf> {
        let workspace = root().join("transforms");
        let target = match self.directory {
            Some(directory) => cache().join("bench/guests").join(directory),
            None => workspace.join("target"),
        };
        eprintln!("building: {}", self.name);
        let status = Command::new("cargo")
            .current_dir(&workspace)
            .args(["build", "--quiet", "--release", "--target", "wasm32-wasip2", "--package", "boundary-guest"])
            .args(self.arguments)
            // Settings that were meant for the host's build.
            .env_remove("RUSTFLAGS")
            .env("CARGO_TARGET_DIR", &target)
            .envs(self.environment.iter().copied())
            .status()
            .context("cargo does not run")?;
        if !status.success() {
            bail!("{}: does not build; is wasm32-wasip2 there? (./dev setup)", self.name);
        }
        Ok(fs::canonicalize(target.join("wasm32-wasip2/release/boundary_guest.wasm"))?)
    }
}

/// An empty RUSTFLAGS would count as none.
const NO_FLAGS: (&str, &str) = ("RUSTFLAGS", "-Cdebuginfo=0");
const NO_LTO: (&str, &str) = ("CARGO_PROFILE_RELEASE_LTO", "off");

/// Inlining with limits like those of the build's, and the features that a guest of Rust's uses.
const OPTIMISATION: &str = "-O4 -aimfs 30 -fimfs 150 -ifwl --enable-bulk-memory --enable-sign-ext \
     --enable-nontrapping-float-to-int --enable-mutable-globals --enable-multivalue --enable-reference-types --enable-simd";

/// The module after `jco opt` (Binaryen's wasm-opt, for components), and jco's version; or why there is none.
pub(crate) fn optimise(wasm: &Path) -> Result<(PathBuf, String), String> {
    let (jco, version) = jco()?;
    let digest = fs::read(wasm).map(|bytes| Digest::of(&bytes).to_string()).map_err(|error| error.to_string())?;
    let directory = cache().join("bench");
    let optimised = directory.join(format!("boundary_guest-{}.wasm", &digest[..16]));
    if !optimised.exists() {
        eprintln!("jco opt, {version}");
        fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
        let partial = optimised.with_extension("partial");
        let mut command = command(&jco);
        command.arg("opt").arg("--quiet").arg(wasm).arg("--output").arg(&partial).arg("--");
        answer(command.args(OPTIMISATION.split_whitespace()))?;
        fs::rename(&partial, &optimised).map_err(|error| error.to_string())?;
    }
    Ok((optimised, version))
}

/// How jco is called here, and its version.
fn jco() -> Result<(Vec<&'static str>, String), String> {
    let mut why = "there is neither jco nor npx".to_owned();
    for call in [&["jco"][..], &["npx", "--yes", "@bytecodealliance/jco@1"]] {
        match answer(command(call).arg("--version")) {
            Ok(version) => return Ok((call.to_vec(), format!("jco {}", version.trim()))),
            Err(error) if call.len() > 1 => why = error,
            Err(_) => {}
        }
    }
    Err(why)
}

fn command(call: &[&str]) -> Command {
    let mut command = Command::new(call[0]);
    // Where there is no network, say so soon.
    command.args(&call[1..]).env("npm_config_fetch_retries", "1").env("npm_config_fetch_timeout", "30000");
    command
}

fn answer(command: &mut Command) -> Result<String, String> {
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(format!("{:?} failed: {}", command.get_program(), error.lines().last().unwrap_or_default()))
}

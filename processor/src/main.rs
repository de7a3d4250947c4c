//! The process: arguments in, exit code out.

fn main() -> std::process::ExitCode {
    pelton::cli::main(std::env::args_os()).into()
}

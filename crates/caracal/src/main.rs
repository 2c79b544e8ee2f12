//! The `caracal` command.

fn main() -> std::process::ExitCode {
    caracal::main()
}

//! The `sluice` command line: parses arguments, wires the parts together, turns results into exit codes.
//!
//! One file per subcommand; start at `serve.rs`, which `dev.rs` uses too. Configuration is in `config/`.

mod boot;
mod certificates;
mod config;
mod config_command;
mod dev;
mod docs;
mod doctor;
mod logging;
mod output;
mod serve;
mod sources;
mod token;
mod turn;
mod turn_credentials;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A WebRTC SFU with LiveKit-compatible signaling in one binary.
#[derive(Parser)]
#[command(name = "sluice", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything in one process on loopback, with API key "devkey" and secret "secret".
    Dev(dev::Args),
    /// Serve with a configuration file.
    Serve(serve::Args),
    /// Print an access token.
    Token(token::Args),
    /// Print time-limited credentials for the TURN server.
    TurnCredentials(turn_credentials::Args),
    /// Check, explain or print the configuration.
    #[command(subcommand)]
    Config(config_command::Action),
    /// Look for what keeps clients from connecting, and say what to do about it.
    Doctor(doctor::Args),
    /// Print pages of the documentation that are made from the code.
    #[command(subcommand)]
    Docs(docs::Page),
    /// Print the version.
    Version,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Dev(args) => dev::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Token(args) => token::run(&args),
        Command::TurnCredentials(args) => turn_credentials::run(&args),
        Command::Config(action) => config_command::run(&action),
        Command::Doctor(args) => doctor::run(&args),
        Command::Docs(page) => docs::run(page),
        Command::Version => output::line(concat!("sluice ", env!("CARGO_PKG_VERSION"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            output::error(&e);
            ExitCode::FAILURE
        }
    }
}

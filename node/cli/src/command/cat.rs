//! `locker cat`

use clap::Args;

use crate::context::Context;
use crate::failure::Failure;
use crate::output::Raw;
use crate::request::Request;

/// Write the bytes of a file to standard output
///
/// Only what is asked for is read, and every byte is checked before it is written.
#[derive(Args)]
#[command(after_help = "\
Examples:
  locker cat Papers/letter.txt
  locker cat Films/long.mkv --offset 1000000 --length 4096 | xxd")]
pub(crate) struct Arguments {
    /// File of the locker
    path: String,
    /// First byte
    #[arg(long, default_value_t = 0, value_name = "N")]
    offset: u64,
    /// How many bytes [default: all that follow]
    #[arg(long, value_name = "N")]
    length: Option<u64>,
}

impl Arguments {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let raw = Raw::new();
        let request = Request::Read { path: self.path, offset: self.offset, length: self.length };
        let result = context.ask(request, &raw).map(|_| ());
        raw.finish(result)
    }
}

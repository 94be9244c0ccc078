//! The list of packs that a capsule, a snapshot or a deposit carries with a FileRef: `[[hash, len, locs]...]`, each as
//! in a pack operation but without its code (`docs/spec/07-links.md`, section 4).

use crate::Refusal;
use crate::encode::{Reader, Writer};
use crate::pack::PackOp;

/// Heads of an array of four elements and of one of three, and the code of a pack operation, as single bytes.
const ARRAY_OF_4: u8 = 0x84;
const ARRAY_OF_3: u8 = 0x83;
const CODE: u8 = 20;

/// Appends the list: one array.
pub fn write(packs: &[PackOp], out: &mut Writer) {
    out.array(packs.len());
    for pack in packs {
        let op = pack.encode();
        out.raw(&[ARRAY_OF_3]).raw(&op[2..]);
    }
}

/// Reads a list as the next item.
///
/// # Errors
/// [`Refusal::Canon`] and [`Refusal::Limit`] as [`PackOp::decode`], which every pack of the list has to pass.
pub fn read(from: &mut Reader<'_>) -> Result<Vec<PackOp>, Refusal> {
    let len = from.array()?;
    (0..len)
        .map(|_| {
            let item = from.item()?;
            let (head, fields) = item.split_first().ok_or(Refusal::Canon)?;
            if *head != ARRAY_OF_3 {
                return Err(Refusal::Canon);
            }
            PackOp::decode(&[&[ARRAY_OF_4, CODE], fields].concat())
        })
        .collect()
}

//! Comparing a pack file with its name, outboard included (`docs/spec/08-at-rest.md`, "Pack files").

use bao_tree::io::outboard::PreOrderMemOutboard;

use super::{GROUP, PackReader, file_len};
use crate::StoreError;

/// Reads the whole file once and recomputes hash and outboard.
pub(super) fn verify(pack: &PackReader) -> Result<(), StoreError> {
    let bytes = pack.read_whole()?;
    let len = pack.byte_len();
    let mut stored = vec![0; usize::try_from(file_len(len) - u64::from(len)).map_err(|_| pack.damaged())?];
    pack.read_at(&mut stored, u64::from(len))?;
    if PreOrderMemOutboard::create(&bytes, GROUP).data != stored {
        return Err(pack.damaged());
    }
    Ok(())
}

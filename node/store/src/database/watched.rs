//! What the disk under the database said last. redb keeps that a call to it failed, and afterwards says no more than this
//! to whoever comes, which may be somebody else than who made that call.

use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError};

use redb::{BackendError, StorageBackend};

/// The last error of a disk. Cloned, it is the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastError(Arc<Mutex<Option<Said>>>);

#[derive(Clone, Copy, Debug)]
enum Said {
    Number(i32),
    Kind(io::ErrorKind),
}

impl LastError {
    /// The error, if there was one.
    pub(crate) fn get(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map(|said| match said {
            Said::Number(number) => io::Error::from_raw_os_error(number),
            Said::Kind(kind) => kind.into(),
        })
    }

    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            let said = error.raw_os_error().map_or(Said::Kind(error.kind()), Said::Number);
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
        }
        result
    }
}

/// A storage of redb whose last error is kept.
#[derive(Debug)]
pub(crate) struct Watched<B> {
    storage: B,
    last: LastError,
}

impl<B> Watched<B> {
    pub(crate) fn new(storage: B, last: LastError) -> Self {
        Self { storage, last }
    }
}

type Locked<T> = Result<T, BackendError>;

impl<B: StorageBackend> StorageBackend for Watched<B> {
    fn len(&self) -> io::Result<u64> {
        self.last.note(self.storage.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.last.note(self.storage.read(offset, out))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.last.note(self.storage.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.last.note(self.storage.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.last.note(self.storage.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.storage.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.storage.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.storage.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.storage.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.storage.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<()> {
        self.storage.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Locked<bool> {
        self.storage.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use redb::StorageError;

    use super::*;
    use crate::StoreError;
    use crate::database::Errors;

    #[derive(Debug)]
    struct Failing(i32);

    impl Failing {
        fn fail<T>(&self) -> io::Result<T> {
            Err(io::Error::from_raw_os_error(self.0))
        }
    }

    impl StorageBackend for Failing {
        fn len(&self) -> io::Result<u64> {
            Ok(0)
        }

        fn read(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
            self.fail()
        }

        fn set_len(&self, _: u64) -> io::Result<()> {
            self.fail()
        }

        fn sync_data(&self) -> io::Result<()> {
            self.fail()
        }

        fn write(&self, _: u64, _: &[u8]) -> io::Result<()> {
            self.fail()
        }
    }

    type Call = fn(&Watched<Failing>) -> io::Result<()>;

    /// Goal: whoever is told that an earlier call failed learns why. Method: each call fails, with an error of each sort.
    #[test]
    fn who_comes_after_an_error_is_told_it() {
        let calls: [Call; 4] = [
            |disk| disk.read(0, &mut []),
            |disk| disk.set_len(1),
            |disk| disk.sync_data(),
            |disk| disk.write(0, &[]),
        ];
        for call in calls {
            let errors = Errors::new(Path::new("home"));
            let after = || errors.storage(StorageError::PreviousIo);
            assert!(matches!(after(), StoreError::Poisoned));
            let fail = |number| call(&Watched::new(Failing(number), errors.last.clone())).unwrap_err();
            assert!(Watched::new(Failing(5), errors.last.clone()).len().is_ok());
            assert!(matches!(after(), StoreError::Poisoned));
            assert_eq!(fail(5).raw_os_error(), Some(5));
            assert!(matches!(after(), StoreError::Io { source, .. } if source.raw_os_error() == Some(5)));
            fail(28);
            assert!(matches!(after(), StoreError::Full));
            fail(30);
            assert!(matches!(after(), StoreError::ReadOnly));
            assert!(matches!(errors.storage(StorageError::ValueTooLarge(1)), StoreError::Poisoned));
        }
    }
}

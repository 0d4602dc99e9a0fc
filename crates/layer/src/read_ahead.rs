use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// Buffers that go around: one being filled, one being read, and two to level out the difference.
const BUFFERS: usize = 4;

/// Bytes of each.
const BUFFER: usize = 128 * 1024;

/// Reads `reader` in a thread of its own, half a mebibyte ahead at most, so that what comes before (a network, a
/// decoder) works while the caller does something with the bytes. Where no thread can be started, it is `reader` itself.
///
/// The bytes are those of `reader`, and so is the error that ends them, after all that came before it. A panic of `reader`
/// goes on where the bytes are read. Dropping what is returned waits until the thread has ended: for one read of `reader`
/// at most.
pub(crate) fn read_ahead(reader: Box<dyn Read + Send>) -> Box<dyn Read + Send> {
    let (give_back, empty) = channel();
    let (fill, full) = sync_channel(BUFFERS);
    // A thread that does not start must not take it along.
    let reader = Arc::new(Mutex::new(Some(reader)));
    let take = |reader: &Mutex<Option<_>>| reader.lock().unwrap_or_else(PoisonError::into_inner).take();
    let of_thread = Arc::clone(&reader);
    let produce = move || {
        if let Some(mut reader) = take(&of_thread) {
            while let Ok(buffer) = empty.recv() {
                let (buffer, end) = filled(&mut *reader, buffer);
                let is_end = end.is_some();
                let is_wanted = (buffer.is_empty() || fill.send(Ok(buffer)).is_ok())
                    && end.and_then(Result::err).is_none_or(|error| fill.send(Err(error)).is_ok());
                if is_end || !is_wanted {
                    return;
                }
            }
        }
    };
    match thread::Builder::new().name("read ahead".to_owned()).spawn(produce) {
        Ok(thread) => {
            for _ in 0..BUFFERS {
                // The thread may have ended by a panic; reading finds that out.
                let _ = give_back.send(Vec::with_capacity(BUFFER));
            }
            let (current, at) = (Vec::new(), 0);
            Box::new(ReadAhead { channels: Some((full, give_back)), thread: Some(thread), current, at })
        }
        Err(_) => take(&reader).expect("no thread has taken it"),
    }
}

/// The buffer with as much as it holds, and how the stream ended if it did.
fn filled(reader: &mut dyn Read, mut buffer: Vec<u8>) -> (Vec<u8>, Option<io::Result<()>>) {
    buffer.resize(BUFFER, 0);
    let (mut length, mut end) = (0, None);
    while length < BUFFER && end.is_none() {
        match reader.read(&mut buffer[length..]) {
            Ok(0) => end = Some(Ok(())),
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => end = Some(Err(error)),
        }
    }
    buffer.truncate(length);
    (buffer, end)
}

/// What was read.
type Full = Receiver<io::Result<Vec<u8>>>;

/// The way back for buffers.
type Empty = Sender<Vec<u8>>;

struct ReadAhead {
    /// `None` once the stream has ended.
    channels: Option<(Full, Empty)>,
    thread: Option<JoinHandle<()>>,
    current: Vec<u8>,
    /// How much of that was taken.
    at: usize,
}

impl ReadAhead {
    /// Lets the thread end, and waits for it.
    fn stop(&mut self) -> thread::Result<()> {
        self.channels = None;
        self.thread.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl Read for ReadAhead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.current.len() {
            let Some((full, give_back)) = &self.channels else { return Ok(0) };
            match full.recv() {
                Ok(Ok(next)) => {
                    let empty = std::mem::replace(&mut self.current, next);
                    self.at = 0;
                    if empty.capacity() > 0 {
                        // The thread has ended if it has come to the end of the stream.
                        let _ = give_back.send(empty);
                    }
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => self.stop().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            }
        }
        let count = buffer.len().min(self.current.len() - self.at);
        buffer[..count].copy_from_slice(&self.current[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        // What was not read is not reported, be it an error or a panic.
        let _ = self.stop();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use proptest::prelude::*;

    use super::*;

    /// Gives its parts one read at a time, then does what `end` says.
    struct Parts {
        left: Vec<Vec<u8>>,
        end: fn() -> io::Result<usize>,
        was_dropped: Arc<AtomicBool>,
    }

    impl Parts {
        fn new(parts: &[Vec<u8>], end: fn() -> io::Result<usize>) -> Self {
            let left = parts.iter().rev().filter(|part| !part.is_empty()).cloned().collect();
            Self { left, end, was_dropped: Arc::default() }
        }
    }

    impl Read for Parts {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some(mut part) = self.left.pop() else { return (self.end)() };
            let count = part.len().min(buffer.len());
            buffer[..count].copy_from_slice(&part[..count]);
            let rest = part.split_off(count);
            if !rest.is_empty() {
                self.left.push(rest);
            }
            Ok(count)
        }
    }

    impl Drop for Parts {
        fn drop(&mut self) {
            self.was_dropped.store(true, Ordering::SeqCst);
        }
    }

    /// What a reader gives to somebody who asks for `step` bytes at a time, and the error at its end.
    fn read_in_steps(reader: &mut dyn Read, step: usize) -> (Vec<u8>, Option<io::Error>) {
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; step]);
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return (bytes, None),
                Ok(count) => bytes.extend(&buffer[..count]),
                Err(error) => return (bytes, Some(error)),
            }
        }
    }

    fn broken() -> io::Result<usize> {
        Err(io::Error::other("broken here"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_bytes_are_those_of_the_reader_and_so_is_the_error(
            lengths in proptest::collection::vec((0usize..3, 1usize..100_000, any::<u8>()), 0..12),
            step in prop_oneof![1usize..5_000, 100_000usize..300_000],
            is_broken: bool,
        ) {
            // Small parts, and parts of more than a buffer.
            let part = |(size, length, seed): &(usize, usize, u8)| -> Vec<u8> {
                let length = match size { 0 => length % 7, 1 => *length, _ => length * 3 };
                (0..length).map(|at| seed.wrapping_add(at.to_le_bytes()[0])).collect()
            };
            let parts: Vec<Vec<u8>> = lengths.iter().map(part).collect();
            let end = if is_broken { broken } else { || Ok(0) };
            let mut reader = read_ahead(Box::new(Parts::new(&parts, end)));
            let (bytes, error) = read_in_steps(&mut *reader, step);
            prop_assert!(bytes == parts.concat());
            prop_assert_eq!(error.map(|error| error.to_string()), is_broken.then(|| "broken here".to_owned()));
            prop_assert_eq!(reader.read(&mut [0; 9]).unwrap(), 0);
        }
    }

    #[test]
    fn dropping_it_early_ends_the_thread_and_waits_for_it() {
        for read in [0, 1, BUFFER * 2] {
            let parts = Parts::new(&vec![vec![7; BUFFER]; 100], broken);
            let was_dropped = Arc::clone(&parts.was_dropped);
            let mut reader = read_ahead(Box::new(parts));
            reader.read_exact(&mut vec![0; read]).unwrap();
            assert!(!was_dropped.load(Ordering::SeqCst));
            drop(reader);
            assert!(was_dropped.load(Ordering::SeqCst), "after {read} bytes");
        }
    }

    #[test]
    fn a_panic_goes_on_where_the_bytes_are_read() {
        let parts = Parts::new(&[vec![1; 10], vec![2; BUFFER]], || panic!("in the reader"));
        let mut reader = read_ahead(Box::new(parts));
        // The buffer with the last ten bytes is lost.
        reader.read_exact(&mut vec![0; BUFFER]).unwrap();
        let read = std::panic::AssertUnwindSafe(|| reader.read(&mut [0; 20]));
        let panic = std::panic::catch_unwind(read).unwrap_err();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"in the reader"));
    }
}

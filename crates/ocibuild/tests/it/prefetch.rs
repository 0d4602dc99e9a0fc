//! Base images that are fetched and unpacked before their step has come, and those that nobody needs.

use std::io::{self, Read, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use ocibuild::registry::Registry;
use ocibuild::spec::{
    Descriptor, ImageSource, Platform, Reference, ResolvedImage, SourceError, SourceErrorKind,
};
use ocibuild::{Build, CancelToken, ErrorKind};
use ocibuild_testkit::{ImageBlobs, TestImage, TestRegistry};

use crate::parallel::Scripted;
use crate::support::{World, chain, platform};

/// The layers that were opened, in order.
#[derive(Debug, Default)]
struct Opened {
    layers: Mutex<Vec<String>>,
    changed: Condvar,
}

impl Opened {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.layers.lock().unwrap())
    }

    /// Whether something is opened before patience ends.
    fn is_any(&self) -> bool {
        let layers = self.layers.lock().unwrap();
        let patience = Duration::from_mins(1);
        let waited = self.changed.wait_timeout_while(layers, patience, |layers| layers.is_empty());
        !waited.unwrap().1.timed_out()
    }
}

/// A registry, and what is asked of it.
#[derive(Debug)]
struct Watched {
    registry: Registry,
    opened: Arc<Opened>,
    /// Images of this repository come only as far as that somebody cancels.
    stuck: &'static str,
}

impl ImageSource for Watched {
    fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        cancel: &CancelToken,
    ) -> Result<ResolvedImage, SourceError> {
        self.registry.resolve(reference, platform, cancel)
    }

    fn open(
        &self,
        reference: &Reference,
        blob: &Descriptor,
        cancel: &CancelToken,
    ) -> Result<Box<dyn Read + Send>, SourceError> {
        self.opened.layers.lock().unwrap().push(blob.digest.to_string());
        self.opened.changed.notify_all();
        if reference.repository() == self.stuck {
            return Ok(Box::new(Stuck(cancel.clone())));
        }
        self.registry.open(reference, blob, cancel)
    }
}

/// Gives nothing until it is cancelled.
struct Stuck(CancelToken);

impl Read for Stuck {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        while !self.0.is_cancelled() {
            std::thread::yield_now();
        }
        Err(io::Error::other(SourceError::new(SourceErrorKind::Cancelled, "cancelled")))
    }
}

/// A world whose images come from a registry.
struct Place {
    world: World,
    server: TestRegistry,
    opened: Arc<Opened>,
}

impl Place {
    fn new() -> Option<Self> {
        let mut world = World::with_shell()?;
        let (server, opened) = (TestRegistry::start(), Arc::new(Opened::default()));
        let registry = Registry::builder().build().unwrap();
        let stuck = "stuck";
        world.registry = Some(Box::new(Watched { registry, opened: Arc::clone(&opened), stuck }));
        world.executor = Box::new(Scripted(|command: &str, _: &CancelToken| i32::from(command == "fail")));
        Some(Self { world, server, opened })
    }

    fn push(&self, repository: &str, image: &ImageBlobs) -> String {
        self.server.push(repository, "1", image);
        self.server.reference(repository, "1")
    }

    fn prepare(&self, dockerfile: &str) -> Build {
        // Layers of bases stay at their registry, unless a step reads them.
        self.world.prepare(dockerfile).keep_incomplete(true)
    }

    fn unpacked(&self) -> usize {
        self.world.state.snapshots().list().unwrap().len()
    }
}

/// Images whose layers differ from those of any other number.
fn image(number: usize) -> ImageBlobs {
    let file = format!("file{number}");
    TestImage::new(&platform()).layer(&[(&file, "1")]).layer(&[("other", &file)]).gzip().build()
}

/// A server that sends a file to whoever asks, once `is_ready`.
fn serve(is_ready: impl Fn() -> bool + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let mut request = [0; 4096];
            assert!(connection.read(&mut request).unwrap() > 0);
            let status = if is_ready() { "200 OK" } else { "500 nobody came" };
            let reply = format!("HTTP/1.1 {status}\r\nContent-Length: 4\r\nConnection: close\r\n\r\ntext");
            connection.write_all(reply.as_bytes()).unwrap();
        }
    });
    format!("http://{address}/file")
}

#[test]
fn privileged_a_base_is_unpacked_while_files_are_read() {
    let Some(place) = Place::new() else { return };
    for threads in [2, 8] {
        let base = place.push(&format!("base{threads}"), &image(threads));
        // What is in the layers is known from now on, and they are not unpacked: no step before the RUN needs them.
        place.world.build(place.prepare(&format!("FROM {base}\nWORKDIR /x\n")));
        assert_eq!((place.opened.take().len(), place.unpacked()), (2, 0));
        let opened = Arc::clone(&place.opened);
        // The file comes once a layer was asked for.
        let url = serve(move || opened.is_any());
        let file = format!("FROM {base}\nWORKDIR /w\nADD {url} /w/\nRUN use\n");
        place.world.build(place.prepare(&file).parallelism(threads));
        assert_eq!(place.opened.take().len(), 2, "each layer once");
        place.world.check_left_nothing();
        remove_unpacked(&place.world);
    }
}

fn remove_unpacked(world: &World) {
    for layer in world.state.snapshots().list().unwrap() {
        world.state.snapshots().remove(&layer).unwrap();
    }
}

/// Who wants to know what is in a layer that a `RUN` needs waits until it is unpacked.
#[test]
fn privileged_no_layer_is_fetched_twice() {
    let Some(place) = Place::new() else { return };
    let base = place.push("base", &image(0));
    place.world.files(&[("one", "1"), ("two", "2")]);
    let file = format!(
        "FROM {base} AS a\nCOPY one /c/\nRUN a\nFROM {base} AS b\nWORKDIR /w\nCOPY two /c/\nRUN b\n\
         FROM {base}\nCOPY --from=a /c/one /\nCOPY --from=b /c/two /\nRUN c\n"
    );
    place.world.build(place.prepare(&file));
    assert_eq!(place.opened.take().len(), 2);
    // All is known: nobody needs a layer.
    remove_unpacked(&place.world);
    place.world.build(place.prepare(&file));
    assert_eq!((place.opened.take().len(), place.unpacked()), (0, 0));
}

#[test]
fn privileged_nothing_is_unpacked_that_no_step_needs() {
    let Some(place) = Place::new() else { return };
    let bases = [0, 1].map(|number| place.push(&format!("base{number}"), &image(number)));
    let dockerfile = |command: &str| {
        format!(
            "FROM base AS made\nRUN {command}\nFROM {}\nCOPY --from=made /bin/busybox /b\nRUN use\n",
            bases[0]
        )
    };
    place.world.build(place.prepare(&dockerfile("make")));
    remove_unpacked(&place.world);
    place.opened.take();
    // The stage runs again, and makes what it made before: the RUN behind the copy has its result.
    let (_, seen) = place.world.build(place.prepare(&dockerfile("make again")));
    assert_eq!(seen.done, ["RUN make again"]);
    assert_eq!(place.opened.take(), Vec::<String>::new());
    assert_eq!(place.unpacked(), 2, "the image with the shell, and what the command left");
    remove_unpacked(&place.world);
    // Nothing here is ever run on.
    place.world.files(&[("one", "1")]);
    let copies = format!("FROM {}\nWORKDIR /w\nCOPY one /w/\nCOPY --from={} /other /o\n", bases[1], bases[0]);
    place.world.build(place.prepare(&copies));
    assert_eq!(place.unpacked(), 0);
}

#[test]
fn privileged_what_was_begun_ends_with_the_build() {
    let Some(place) = Place::new() else { return };
    let stuck = place.push("stuck", &image(0));
    let dockerfile = format!(
        "FROM base AS a\nRUN fail\nFROM {stuck} AS b\nWORKDIR /w\nRUN never\nFROM a\nCOPY --from=b /w /w\n"
    );
    for threads in [1, 8] {
        let (error, seen) = place.world.fail(place.prepare(&dockerfile).parallelism(threads));
        assert_eq!(error.kind(), ErrorKind::StepFailed(1));
        assert!(seen.failed.contains(&"RUN fail".to_owned()), "{seen:?}");
        place.world.check_left_nothing();
    }
    // The caller gives up while the layer comes.
    place.opened.take();
    let alone = place.prepare(&format!("FROM {stuck}\nWORKDIR /w\nRUN never\n"));
    let (cancel, opened) = (CancelToken::new(), Arc::clone(&place.opened));
    let canceller = {
        let cancel = cancel.clone();
        std::thread::spawn(move || {
            assert!(opened.is_any());
            cancel.cancel();
        })
    };
    let (result, _) = place.world.try_build_watched(alone, &cancel, |_| {});
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Cancelled);
    canceller.join().unwrap();
    place.world.check_left_nothing();
}

/// What is found out early is told where it would have been found out.
#[test]
fn privileged_the_error_is_that_of_the_step() {
    let Some(place) = Place::new() else { return };
    let mut damaged = image(0);
    let last = damaged.layers.last_mut().unwrap();
    let middle = last.1.len() / 2;
    last.1[middle] ^= 1;
    let base = place.push("damaged", &damaged);
    let dockerfile = format!("FROM {base}\nWORKDIR /w\nRUN use\n");
    let mut told = Vec::new();
    for threads in [1, 2, 8] {
        let (error, seen) = place.world.fail(place.prepare(&dockerfile).parallelism(threads));
        assert_eq!(seen.failed, ["WORKDIR /w"]);
        place.world.check_left_nothing();
        told.push(chain(&error));
    }
    assert!(told.windows(2).all(|two| two[0] == two[1]), "{told:#?}");
}

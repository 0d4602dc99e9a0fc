//! Runtimes that are installed.

use ocibuild_executor::RuntimeExecutor;

use super::InstalledRuntime;

/// Asks all of them at the same time: starting one takes longer than everything else here.
pub(super) fn runtimes() -> Vec<InstalledRuntime> {
    let installed = RuntimeExecutor::installed();
    std::thread::scope(|scope| {
        let ask = |runtime: RuntimeExecutor| InstalledRuntime {
            version: runtime.version().ok(),
            path: runtime.program().to_owned(),
        };
        let asked: Vec<_> = installed.into_iter().map(|runtime| scope.spawn(move || ask(runtime))).collect();
        asked
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

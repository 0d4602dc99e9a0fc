//! Runtimes that are installed.

use std::time::Duration;

use ocibuild_executor::RuntimeExecutor;

use super::InstalledRuntime;

/// All of them take some hundredths of a second.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks all of them at the same time: starting one takes longer than everything else here.
pub(super) fn runtimes() -> Vec<InstalledRuntime> {
    let installed = RuntimeExecutor::installed();
    std::thread::scope(|scope| {
        let ask = |runtime: RuntimeExecutor| InstalledRuntime {
            version: runtime.version(PATIENCE).ok(),
            path: runtime.program().to_owned(),
        };
        let asked: Vec<_> = installed.into_iter().map(|runtime| scope.spawn(move || ask(runtime))).collect();
        asked
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

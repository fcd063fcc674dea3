//! Threads for queries, apart from those that serve the network and the log: a heavy query slows others down, never a
//! produce. Their stacks are large, since planning recurses over expressions.

use std::future::Future;

use stratalog_proto::{Code, Error};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::AbortHandle;

/// Reserved, not used: pages are taken as a stack grows.
const STACK_BYTES: usize = 64 << 20;

/// A tokio runtime that may be dropped anywhere.
#[derive(Debug)]
pub(crate) struct QueryRuntime {
    runtime: Option<Runtime>,
}

impl QueryRuntime {
    /// `first`: what each thread does before anything else.
    ///
    /// # Errors
    /// [`Code::Io`] when the system refuses threads.
    pub(crate) fn start(threads: usize, first: Option<fn()>) -> Result<Self, Error> {
        let first = first.unwrap_or(|| ());
        let runtime = Builder::new_multi_thread()
            .on_thread_start(first)
            .worker_threads(threads)
            .thread_name("query")
            .thread_stack_size(STACK_BYTES)
            .enable_time()
            .build()
            .map_err(|error| Error::new(Code::Io, format!("cannot start {threads} query threads: {error}")))?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Runs a future; it is aborted when the task is dropped.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Task {
        Task(self.handle().spawn(future).abort_handle())
    }

    /// Tasks that have not ended.
    #[cfg(test)]
    pub(crate) fn tasks(&self) -> usize {
        self.handle().metrics().num_alive_tasks()
    }

    fn handle(&self) -> &Handle {
        self.runtime.as_ref().expect("the runtime is there until it is dropped").handle()
    }
}

impl Drop for QueryRuntime {
    fn drop(&mut self) {
        // Waiting for threads is forbidden in async code; running queries end at their next await.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A running query; dropping it ends the query.
#[derive(Debug)]
pub(crate) struct Task(AbortHandle);

impl Task {
    /// As [`QueryRuntime::spawn`], on the runtime that runs the caller.
    pub(crate) fn beside(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

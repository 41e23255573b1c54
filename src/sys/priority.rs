//! How much of the processors a thread gets: `sched_setscheduler(2)`.
#![allow(unsafe_code)]

/// The calling thread runs from now on only while no other thread wants its processor
/// (`SCHED_IDLE`). Where that cannot be had it runs as before.
pub(crate) fn step_back() {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        // SAFETY: all fields are integers, for which zero is a value; this policy wants zero.
        let parameters: libc::sched_param = unsafe { std::mem::zeroed() };
        // SAFETY: 0 is the calling thread, and the parameters outlive the call.
        let changed =
            unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) };
        if changed != 0 {
            let error = std::io::Error::last_os_error();
            tracing::debug!(%error, "a thread of the background runs like any other");
        }
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_steps_back_alone() {
        let policy = || {
            // SAFETY: no pointers.
            unsafe { libc::sched_getscheduler(0) }
        };
        let before = policy();
        let there = std::thread::spawn(move || {
            super::step_back();
            policy()
        });
        assert_eq!(there.join().unwrap(), libc::SCHED_IDLE);
        assert_eq!(policy(), before);
    }
}

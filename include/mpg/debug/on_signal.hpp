// A dump of all tasks when a signal comes, as Go programs give on SIGQUIT (Ctrl-\).
#pragma once

#include <mpg/chan/chan.hpp>
#include <mpg/debug/dump.hpp>
#include <mpg/io/signal.hpp>
#include <mpg/sched/go.hpp>
#include <mpg/sched/this_task.hpp>

#include <csignal>
#include <sstream>

namespace mpg::debug {

/// From now on, while the calling task's runtime lives, each such signal writes all tasks to stderr; the program goes
/// on. (A Go program ends; raise the signal's default action yourself if you want that.) From a task; starts one.
inline void dump_on(int signal = SIGQUIT) {
    go([signals = notify({signal})] {
        this_task::set_name("mpg: dumps on a signal");
        while (signals.recv()) {
            std::ostringstream os;
            dump_tasks(os);
            sched::write_all(2, os.str());
        }
    });
}

} // namespace mpg::debug

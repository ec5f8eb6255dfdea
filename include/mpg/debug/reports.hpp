// The reports of fatal paths (a deadlock, an exception that leaves a task, a stop that does not end) with stacks and
// names, where this room is included.
#pragma once

#include <mpg/debug/dump.hpp>
#include <mpg/debug/last_trace.hpp>

namespace mpg::debug::detail {

inline std::string fatal_tasks(sched::runtime_state& rt) { return report_of(rt, captured_self()); }

inline std::string fatal_site(const void* code) {
    std::string out;
    on_a_thread([&] {
        symbolizer symbols;
        out = task_writer(symbols).site(code);
    });
    return out;
}

inline std::string stack_of_running(sched::runtime_state& rt, sched::machine& m, std::uint64_t id) {
    snapshot unused;
    const std::vector<capture> none;
    bool whole = false;
    const call_stack frames = photographer(rt, unused, none).of_running(m, id, whole);
    if (frames.empty()) return {};
    symbolizer symbols;
    return task_writer(symbols).stack(frames, whole, "");
}

inline const bool reports_installed = [] {
    sched::the_report_writer() = {&fatal_tasks, &fatal_site, &stack_of_running, &write_last_trace};
    return true;
}();

} // namespace mpg::debug::detail

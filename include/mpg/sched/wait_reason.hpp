// Why a task waits: shown in dumps, metrics, traces and probes.
#pragma once

#include <cstdint>
#include <string_view>

namespace mpg::sched {

enum class wait_reason : std::uint8_t {
    none,
    chan_send,
    chan_recv,
    chan_nil,        // a nil channel: for ever
    select,
    select_no_cases, // for ever
    mutex,
    shared_mutex_read,
    shared_mutex_write,
    condition_variable,
    wait_group,
    once,
    semaphore,
    latch,
    barrier,
    sleep,
    join,
    io_read,
    io_write,
    io_accept,
    io_connect,
    io_file,
    blocking,
    thread_lock,
    stopped, // given up by a runtime that stops
};

constexpr std::string_view to_string(wait_reason r) noexcept {
    constexpr std::string_view names[] = {
        "none",       "chan send",  "chan receive",       "nil chan",   "select",    "select (no cases)",
        "mutex",      "shared_mutex read", "shared_mutex write", "condition_variable", "wait_group", "once",
        "semaphore",  "latch",      "barrier",            "sleep",      "join",      "io read",
        "io write",   "io accept",  "io connect",         "io file",    "blocking",  "thread_lock",
        "stopped",
    };
    return names[static_cast<unsigned>(r)];
}

} // namespace mpg::sched

// How a process ends when it cannot go on, and the list of tasks that is printed then.
#pragma once

#include <mpg/sched/runtime_state.hpp>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <link.h>
#include <string>
#include <unistd.h>

namespace mpg::sched {

inline void write_all(int fd, const std::string& text) noexcept {
    for (std::size_t at = 0; at < text.size();) {
        ssize_t n = ::write(fd, text.data() + at, text.size() - at);
        if (n <= 0) return;
        at += static_cast<std::size_t>(n);
    }
}

/// How reports are written where the debug room is included; null: the plain list and addresses.
struct report_writer {
    std::string (*tasks)(runtime_state& rt) = nullptr;
    std::string (*site)(const void* code) = nullptr;
    /// Of task id, while it is m's current one; else "". On a thread that is no machine of rt.
    std::string (*stack)(runtime_state& rt, machine& m, std::uint64_t id) = nullptr;
    /// The process ends: keeps what somebody wants to have of it.
    void (*last)() noexcept = nullptr;
};
[[gnu::visibility("default")]] inline report_writer& the_report_writer() noexcept {
    static report_writer writer;
    return writer;
}

inline void say_last() noexcept {
    if (auto* f = the_report_writer().last) f();
}

/// Ends the process with status 2, as Go does, without running destructors under the threads that still run.
[[noreturn]] inline void fatal(const std::string& message) noexcept {
    write_all(2, "fatal error: " + message + "\n");
    say_last();
    ::_exit(2);
}

/// There is no memory for what cannot be done without. id: the task that it is for. Allocates nothing itself.
[[noreturn]] MPG_NOINLINE inline void no_memory(const char* what, std::uint64_t id) noexcept {
    char text[160];
    const int n = id != 0 ? std::snprintf(text, sizeof text, "fatal error: no memory for %s of task %llu\n", what,
                                          static_cast<unsigned long long>(id))
                          : std::snprintf(text, sizeof text, "fatal error: no memory for %s\n", what);
    [[maybe_unused]] auto written = ::write(2, text, static_cast<std::size_t>(n));
    ::_exit(2);
}

/// A task is started, or somebody waits, in a child of fork().
[[noreturn]] MPG_NOINLINE inline void used_after_fork() noexcept {
    fatal("the runtime was used in a child of fork(); what works there is exec, _exit, and a runtime of its own");
}

/// What somebody else may be writing. Not instrumented: no data race that matters, for who reads so looks twice.
template <class T> __attribute__((no_sanitize("thread"), noinline)) T read_racy(const T& from) noexcept {
    return *const_cast<const volatile T*>(&from);
}

/// t: a record of rt, which may be taken anew meanwhile.
inline std::string name_of(runtime_state& rt, const task& t) {
    std::lock_guard hold(rt.names_lock);
    return t.extras ? t.extras->name : std::string();
}
inline std::string name_of(const task& t) { return t.rt ? name_of(*t.rt, t) : std::string(); }

/// An address as `0x5581ff0a90d4 (program+0x90d4)`, for addr2line: the kernel loads programs anywhere. Allocates nothing.
inline void write_site(char* text, std::size_t size, const void* code) noexcept {
    struct search {
        std::uintptr_t code, offset = 0;
        const char* object = nullptr;
    } s{reinterpret_cast<std::uintptr_t>(code)};
    ::dl_iterate_phdr(
        [](::dl_phdr_info* object, std::size_t, void* arg) {
            auto& found = *static_cast<search*>(arg);
            for (unsigned i = 0; i < object->dlpi_phnum; ++i) {
                const auto& part = object->dlpi_phdr[i];
                if (part.p_type != PT_LOAD || found.code - (object->dlpi_addr + part.p_vaddr) >= part.p_memsz) continue;
                found.offset = found.code - object->dlpi_addr;
                found.object = *object->dlpi_name ? object->dlpi_name : program_invocation_short_name;
                return 1;
            }
            return 0;
        },
        &s);
    const char* slash = s.object ? std::strrchr(s.object, '/') : nullptr;
    if (s.object)
        std::snprintf(text, size, "%p (%s+0x%zx)", code, slash ? slash + 1 : s.object, std::size_t{s.offset});
    else
        std::snprintf(text, size, "%p", code);
}

/// A place in the code: its address, and what is known of it.
inline std::string describe_site(const void* code) {
    if (auto* f = the_report_writer().site) return f(code);
    char text[128];
    write_site(text, sizeof text, code);
    return text;
}

/// Calls f(task&) for every record in use. The records may change meanwhile unless the world is stopped.
template <class F> void for_each_task(runtime_state& rt, F f) {
    rt.records_lock.lock();
    record_slab* first = rt.slabs;
    rt.records_lock.unlock();
    for (record_slab* s = first; s; s = s->next)
        for (task& t : s->records)
            if (t.get_state() != task_state::free && t.get_state() != task_state::ended) f(t);
}

/// One line: id, name, state, what it waits for and for how long, who started it and where.
inline std::string describe(const task& t, base::nanos now) {
    task_state state = t.get_state();
    std::string out = "task " + std::to_string(t.id);
    if (std::string name = name_of(t); !name.empty()) out += " \"" + name + "\"";
    if (state == task_state::waiting && t.wait) {
        out += " [waiting: " + std::string(to_string(t.wait->reason));
        if (t.since > 0 && now > t.since) out += ", " + std::to_string((now - t.since) / 1'000'000) + " ms";
        out += "]";
    } else {
        out += std::string(" [") + to_string(state) + "]";
    }
    char site[128];
    write_site(site, sizeof site, t.created_at);
    return out + ", created by task " + std::to_string(t.parent) + " at " + site + "\n";
}

/// All tasks, for a report.
inline std::string list_tasks(runtime_state& rt, std::size_t most = 1000) {
    if (auto* f = the_report_writer().tasks) return f(rt);
    std::string out;
    std::size_t n = 0;
    base::nanos now = base::now();
    for_each_task(rt, [&](task& t) {
        if (++n <= most) out += describe(t, now);
    });
    if (n > most) out += "... and " + std::to_string(n - most) + " more\n";
    return out;
}

} // namespace mpg::sched

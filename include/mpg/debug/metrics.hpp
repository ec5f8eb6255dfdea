// Numbers of all runtimes and of the process, in Prometheus' text format.
#pragma once

#include <mpg/cancel/runtime.hpp>
#include <mpg/debug/channels.hpp>
#include <mpg/debug/snapshot.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <dirent.h>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

namespace mpg::debug {

namespace detail {

/// Writes families of metrics: HELP, TYPE, then the values.
class metrics_writer {
  public:
    void family(std::string_view name, std::string_view type, std::string_view help) {
        name_ = name;
        ((((out_ += "# HELP ") += name) += ' ') += help) += '\n';
        ((((out_ += "# TYPE ") += name) += ' ') += type) += '\n';
    }
    template <class N> void value(N n, std::string_view labels = {}) {
        out_ += name_;
        if (!labels.empty()) ((out_ += '{') += labels) += '}';
        char text[40];
        if constexpr (std::is_floating_point_v<N>)
            std::snprintf(text, sizeof text, " %.12g\n", n);
        else
            std::snprintf(text, sizeof text, " %llu\n", static_cast<unsigned long long>(n));
        out_ += text;
    }
    template <class N> void single(std::string_view name, std::string_view type, std::string_view help, N n) {
        family(name, type, help);
        value(n);
    }
    /// The sum is an estimate: three quarters of each bucket's end.
    void histogram(const std::string& name, std::string_view help, const latency_histogram& h) {
        family(name, "histogram", help);
        std::uint64_t below = 0;
        double total = 0;
        for (std::size_t i = 0; i < latency_histogram::size; ++i) {
            below += h.counts[i];
            const double end = static_cast<double>(latency_histogram::upper(i).count()) / 1e9;
            total += 0.75 * end * static_cast<double>(h.counts[i]);
            const bool last = i + 1 == latency_histogram::size;
            if (i % 2 != 0 && !last) continue; // powers of four will do
            char text[32];
            std::snprintf(text, sizeof text, "%.9g", end);
            name_ = name + "_bucket";
            value(below, label("le", last ? "+Inf" : text));
        }
        name_ = name + "_sum";
        value(total);
        name_ = name + "_count";
        value(below);
    }
    /// name="value", escaped.
    static std::string label(std::string_view name, std::string_view value) {
        std::string s(name);
        s += "=\"";
        for (char c : value) {
            if (c == '\\' || c == '"') s += '\\';
            if (c == '\n') s += "\\n";
            else s += c;
        }
        return s += '"';
    }
    std::string take() { return std::move(out_); }

  private:
    std::string name_, out_;
};

inline void process_metrics(metrics_writer& w) {
    ::rusage use{};
    ::getrusage(RUSAGE_SELF, &use);
    auto seconds = [](const ::timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
    w.single("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.",
             seconds(use.ru_utime) + seconds(use.ru_stime));
    if (std::ifstream f("/proc/self/statm"); f) {
        unsigned long long size = 0, resident = 0;
        f >> size >> resident;
        auto page = static_cast<unsigned long long>(::sysconf(_SC_PAGESIZE));
        w.single("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", size * page);
        w.single("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", resident * page);
    }
    if (::DIR* d = ::opendir("/proc/self/fd")) {
        unsigned n = 0;
        while (::dirent* e = ::readdir(d)) n += e->d_name[0] != '.';
        ::closedir(d);
        w.single("process_open_fds", "gauge", "Number of open file descriptors.", n - 1);
    }
    ::rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0)
        w.single("process_max_fds", "gauge", "Maximum number of open file descriptors.", limit.rlim_cur);
    if (::getrlimit(RLIMIT_AS, &limit) == 0)
        w.single("process_virtual_memory_max_bytes", "gauge", "Maximum amount of virtual memory available in bytes.", limit.rlim_cur);
    if (std::ifstream f("/proc/self/stat"); f) {
        std::string line;
        std::getline(f, line);
        std::size_t at = line.rfind(')');
        unsigned long long start = 0;
        for (int field = 2; field < 22 && at != std::string::npos; ++field) at = line.find(' ', at + 1);
        ::timespec wall{}, boot{};
        if (at != std::string::npos && std::sscanf(line.c_str() + at, "%llu", &start) == 1 &&
            ::clock_gettime(CLOCK_REALTIME, &wall) == 0 && ::clock_gettime(CLOCK_BOOTTIME, &boot) == 0)
            w.single("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds.",
                     static_cast<double>(wall.tv_sec - boot.tv_sec) +
                         static_cast<double>(start) / static_cast<double>(::sysconf(_SC_CLK_TCK)));
    }
}

/// Of its network namespace, as /proc has it: that is what Prometheus' own libraries give under these names.
inline void network_metrics(metrics_writer& w) {
    std::ifstream f("/proc/self/net/netstat");
    std::string names, values;
    while (std::getline(f, names) && std::getline(f, values)) {
        std::istringstream name(names), value(values);
        std::string word, number, in, out;
        while (name >> word && value >> number) {
            if (word == "InOctets") in = number;
            if (word == "OutOctets") out = number;
        }
        if (in.empty() || out.empty()) continue;
        w.single("process_network_receive_bytes_total", "counter", "Number of bytes received by the process over the network.",
                 std::strtoull(in.c_str(), nullptr, 10));
        w.single("process_network_transmit_bytes_total", "counter", "Number of bytes sent by the process over the network.",
                 std::strtoull(out.c_str(), nullptr, 10));
    }
}

inline void channel_metrics(metrics_writer& w) {
    std::map<std::string, channel_look> by_name;
    for (const channel_look& l : named_channels::instance().look()) {
        channel_look& sum = by_name[l.name];
        sum.length += l.length;
        sum.capacity += l.capacity;
        sum.elastic = sum.elastic || l.elastic;
        sum.high_water += l.high_water;
        sum.accepted += l.accepted;
        sum.dropped += l.dropped;
        sum.rejected += l.rejected;
        sum.grown += l.grown;
    }
    if (by_name.empty()) return;
    w.family("mpg_channel_length", "gauge", "Number of values in the buffers of channels of that name.");
    for (const auto& [name, l] : by_name) w.value(l.length, metrics_writer::label("name", name));
    w.family("mpg_channel_capacity", "gauge", "Size of these buffers.");
    for (const auto& [name, l] : by_name) w.value(l.capacity, metrics_writer::label("name", name));
    w.family("mpg_channel_accepted_total", "counter", "Total number of values that went into channels of that name.");
    for (const auto& [name, l] : by_name) w.value(l.accepted, metrics_writer::label("name", name));
    const bool any = std::any_of(by_name.begin(), by_name.end(), [](const auto& of) { return of.second.elastic; });
    auto counted = [&](std::string_view family, std::string_view type, std::string_view help, auto channel_look::* figure) {
        if (any) w.family(family, type, help);
        for (const auto& [name, l] : by_name)
            if (l.elastic) w.value(l.*figure, metrics_writer::label("name", name));
    };
    counted("mpg_channel_dropped_total", "counter", "Total number of values in elastic channels that gave way to newer ones.", &channel_look::dropped);
    counted("mpg_channel_rejected_total", "counter", "Total number of sends that were refused because a channel was full.", &channel_look::rejected);
    counted("mpg_channel_grown_total", "counter", "Total number of times a buffer grew.", &channel_look::grown);
    counted("mpg_channel_high_water", "gauge", "The most values that were there at a time.", &channel_look::high_water);
}

/// The weight that an Accept field gives a media type, from 0 to 1; -1: it does not name it.
inline double accepts(std::string_view field, std::string_view type) {
    double found = -1;
    while (!field.empty()) {
        std::string_view range = field.substr(0, field.find(','));
        field.remove_prefix(std::min(field.size(), range.size() + 1));
        std::string bare;
        for (char c : range)
            if (c != ' ' && c != '\t') bare += c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
        if (bare.substr(0, bare.find(';')) != type) continue;
        const std::size_t q = bare.find(";q=");
        found = std::max(found, q == std::string::npos ? 1.0 : std::atof(bare.c_str() + q + 3));
    }
    return found;
}

/// From Prometheus' text: families of counters are named without _total, and the end is marked.
inline std::string to_openmetrics(std::string_view text) {
    std::string out;
    while (!text.empty()) {
        std::string_view line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(text.size(), line.size() + 1));
        if (line.substr(0, 7) == "# HELP " || line.substr(0, 7) == "# TYPE ") {
            const std::size_t end = std::min(line.find(' ', 7), line.size());
            std::string_view name = line.substr(7, end - 7);
            if (name.size() > 6 && name.substr(name.size() - 6) == "_total") name.remove_suffix(6);
            ((out += line.substr(0, 7)) += name) += line.substr(end);
        } else {
            out += line;
        }
        out += '\n';
    }
    return out += "# EOF\n";
}

} // namespace detail

/// All metrics, in the text exposition format of Prometheus, version 0.0.4. Sums over all runtimes. Looks at every
/// task's state: about 2 ms for a million.
inline std::string metrics() {
    detail::pinned runtimes;
    runtime_stats sum;
    std::map<unsigned, std::uint64_t> queued;
    std::map<std::string, unsigned> pollers;
    std::uint64_t global = 0, searching = 0, idle = 0, frozen = 0, timers = 0, polls = 0, polled = 0;
    std::size_t cached = 0, touched = 0, cached_bytes = 0;
    for (sched::runtime_state* rt : runtimes) {
        runtime_stats s = static_cast<runtime*>(rt->owner)->stats();
        sum.procs += s.procs;
        sum.threads += s.threads;
        sum.threads_idle += s.threads_idle;
        sum.tasks += s.tasks;
        sum.tasks_created += s.tasks_created;
        sum.tasks_runnable += s.tasks_runnable;
        sum.tasks_running += s.tasks_running;
        sum.tasks_waiting += s.tasks_waiting;
        sum.tasks_blocking += s.tasks_blocking;
        sum.tasks_frozen += s.tasks_frozen;
        sum.steals += s.steals;
        sum.handoffs += s.handoffs;
        sum.preemptions += s.preemptions;
        sum.stack_bytes_mapped += s.stack_bytes_mapped;
        sum.stack_bytes_resident_estimate += s.stack_bytes_resident_estimate;
        sum.dropped_exceptions += s.dropped_exceptions;
        sum.stalls += s.stalls;
        for (std::size_t i = 0; i < latency_histogram::size; ++i) {
            sum.sched_latency.counts[i] += s.sched_latency.counts[i];
            sum.wait_time.counts[i] += s.wait_time.counts[i];
        }
        ++pollers[detail::metrics_writer::label("kind", to_string(s.poller)) + "," +
                  detail::metrics_writer::label("reason", s.poller_reason)];
        std::size_t kept = rt->stacks.idle_slots();
        for (auto& p : rt->ps) {
            queued[p->index] += p->ring.size();
            timers += p->wheel->armed();
            polls += p->polls.load(std::memory_order_relaxed);
            polled += p->polled.load(std::memory_order_relaxed);
            kept += p->stacks.size();
        }
        cached += kept;
        touched += rt->stacks.touched_slots();
        cached_bytes += kept * fiber::stack_pool::page;
        frozen += rt->frozen_count.load(std::memory_order_relaxed);
        global += rt->global.size();
        idle += rt->idle_count.load(std::memory_order_relaxed);
        searching += rt->searching.load(std::memory_order_relaxed);
    }
    detail::metrics_writer w;
    using detail::metrics_writer;
    w.single("mpg_runtimes", "gauge", "Number of runtimes that are alive.", runtimes.size());
    w.family("mpg_tasks", "gauge", "Number of tasks that exist, by state.");
    w.value(sum.tasks_runnable, metrics_writer::label("state", "runnable"));
    w.value(sum.tasks_running, metrics_writer::label("state", "running"));
    w.value(sum.tasks_waiting, metrics_writer::label("state", "waiting"));
    w.value(sum.tasks_blocking, metrics_writer::label("state", "blocking"));
    w.value(sum.tasks_frozen, metrics_writer::label("state", "frozen"));
    w.single("mpg_tasks_created_total", "counter", "Total number of tasks created.", sum.tasks_created);
    w.single("mpg_procs", "gauge", "Number of Ps: how many tasks can run at once.", sum.procs);
    w.single("mpg_procs_idle", "gauge", "Number of Ps that have nothing to do.", idle);
    w.family("mpg_threads", "gauge", "Number of OS threads (Ms) of the runtimes, by state.");
    // One after the other, so they need not fit together: what is left over runs tasks.
    const std::uint64_t elsewhere = sum.threads_idle + searching + frozen + sum.tasks_blocking;
    w.value(sum.threads - std::min<std::uint64_t>(sum.threads, elsewhere), metrics_writer::label("state", "running"));
    w.value(searching, metrics_writer::label("state", "searching"));
    w.value(sum.tasks_blocking, metrics_writer::label("state", "blocking"));
    w.value(frozen, metrics_writer::label("state", "frozen"));
    w.value(sum.threads_idle, metrics_writer::label("state", "idle"));
    w.family("mpg_run_queue_tasks", "gauge", "Number of tasks in the local run queue of a P.");
    for (auto [p, n] : queued) w.value(n, metrics_writer::label("p", std::to_string(p)));
    w.single("mpg_global_queue_tasks", "gauge", "Number of tasks in the global run queue.", global);
    w.single("mpg_steals_total", "counter", "Total number of times a P took work from another.", sum.steals);
    w.single("mpg_handoffs_total", "counter", "Total number of times a P was handed to another thread.", sum.handoffs);
    w.single("mpg_preemptions_total", "counter", "Total number of tasks that were preempted.", sum.preemptions);
    w.family("mpg_poller_info", "gauge", "What waits for I/O, and why not the first choice.");
    for (auto& [labels, n] : pollers) w.value(n, labels);
    w.single("mpg_poller_polls_total", "counter", "Total number of looks at what the kernel has for tasks that wait for I/O.", polls);
    w.single("mpg_poller_wakeups_total", "counter", "Total number of tasks that such looks have woken.", polled);
    w.single("mpg_timers", "gauge", "Number of timers that are set: sleeps, deadlines, tickers.", timers);
    w.family("mpg_stacks", "gauge", "Number of stacks that have memory, by state.");
    w.value(touched - std::min(touched, cached), metrics_writer::label("state", "in_use"));
    w.value(cached, metrics_writer::label("state", "cached"));
    w.single("mpg_stack_cached_bytes", "gauge", "Memory that stacks take which wait for their next task, at least.", cached_bytes);
    w.single("mpg_stack_mapped_bytes", "gauge", "Address space reserved for the stacks of tasks.", sum.stack_bytes_mapped);
    w.single("mpg_stack_resident_bytes", "gauge", "Memory that the stacks of tasks take, at least.",
             sum.stack_bytes_resident_estimate);
    w.single("mpg_dropped_exceptions_total", "counter", "Total number of exceptions of tasks that nobody joined.",
             sum.dropped_exceptions);
    w.single("mpg_stalls_total", "counter", "Total number of times a task held others up for long (options::stall_after).", sum.stalls);
    w.histogram("mpg_sched_latency_seconds", "How long tasks were runnable before they ran: a sample, one of 64.", sum.sched_latency);
    w.histogram("mpg_wait_seconds", "How long tasks were parked before another woke them: a sample, one of 64.", sum.wait_time);
    detail::channel_metrics(w);
    // Where the meaning is Go's, so is the name: that of Go's runtime/metrics as Prometheus' library for Go writes it.
    w.single("go_goroutines", "gauge", "Number of goroutines that currently exist.", sum.tasks);
    w.single("go_threads", "gauge", "Number of OS threads created.", sum.threads);
    w.single("go_sched_gomaxprocs_threads", "gauge", "Number of threads that can run tasks at once.", sum.procs);
    w.single("go_sched_goroutines_goroutines", "gauge", "Count of live goroutines.", sum.tasks);
    w.single("go_sched_goroutines_created_goroutines_total", "counter", "Count of goroutines created.", sum.tasks_created);
    w.single("go_sched_goroutines_runnable_goroutines", "gauge", "Count of goroutines that are ready to run, and do not.",
             sum.tasks_runnable + sum.tasks_frozen);
    w.single("go_sched_goroutines_running_goroutines", "gauge", "Count of goroutines that run.", sum.tasks_running);
    w.single("go_sched_goroutines_waiting_goroutines", "gauge", "Count of goroutines that wait for something.", sum.tasks_waiting);
    w.single("go_sched_goroutines_not_in_go_goroutines", "gauge", "Count of goroutines in blocking calls.", sum.tasks_blocking);
    w.single("go_sched_threads_total_threads", "gauge", "Count of live threads of the runtimes.", sum.threads);
    w.histogram("go_sched_latencies_seconds", "Distribution of the time tasks were runnable before they ran: a sample.", sum.sched_latency);
    detail::process_metrics(w);
    detail::network_metrics(w);
    return w.take();
}

} // namespace mpg::debug

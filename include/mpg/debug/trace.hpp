// The flight recorder: the last things that each P did, in a ring, written on demand as a trace that Perfetto
// (ui.perfetto.dev) and chrome://tracing show.
//
// What is in a ring, and who writes it: sched/events.hpp. What happens on threads without a P goes to one more ring, under
// a lock.
#pragma once

#include <mpg/debug/dump.hpp>
#include <mpg/sched/probes.hpp>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <mutex>
#include <ostream>
#include <string>
#include <unordered_map>
#include <vector>

namespace mpg::debug {

namespace detail {

/// From any thread, while it is written: what was not overwritten meanwhile.
inline void read_ring(const sched::event_ring& ring, std::vector<sched::event_entry>& out) {
    const std::uint64_t end = ring.written(), size = ring.capacity();
    const std::uint64_t first = end > size ? end - size : 0;
    for (std::uint64_t i = first; i < end; ++i) out.push_back(ring.at(i));
    barrier_everywhere();
    // Those that are being written now may overwrite more than the count says.
    const std::uint64_t now = ring.written() + ring.at_a_time;
    const std::uint64_t lost = now > size ? now - size : 0;
    if (lost > first) out.erase(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(std::min(lost - first, end - first)));
}

inline void append_json(std::string& out, std::string_view text) {
    for (char c : text) {
        if (c == '"' || c == '\\') out += '\\';
        if (static_cast<unsigned char>(c) >= 0x20) out += c;
    }
}

/// Slices: from a start to whatever ends the run on that P.
class trace_text {
  public:
    trace_text(std::string& out, unsigned process, sched::runtime_state& rt, symbolizer& symbols)
        : out_(out), process_(process), rt_(rt), symbols_(symbols) {
        const auto ticks = static_cast<double>(sched::cpu_ticks() - rt.trace.first_ticks);
        per_tick_ = ticks > 0 ? static_cast<double>(base::now() - rt.trace.first_time) / ticks / 1000 : 0; // us
    }

    void write() {
        std::vector<std::vector<sched::event_entry>> all(rt_.ps.size() + 1);
        for (std::size_t i = 0; i < rt_.ps.size(); ++i) read_ring(*rt_.ps[i]->events, all[i]);
        read_ring(*rt_.trace.others, all.back());
        // Of tasks that are older than the rings: who is still there.
        sched::for_each_task(rt_, [&](sched::task& t) {
            record_view view(t);
            created_[MPG_DEBUG_FIELD(view, id)] = reinterpret_cast<std::uint64_t>(MPG_DEBUG_FIELD(view, created_at));
        });
        for (auto& ring : all)
            for (std::size_t i = 0; i + 1 < ring.size(); ++i)
                if (ring[i].what() == sched::trace_event::create && ring[i + 1].what() == sched::trace_event::site)
                    created_[ring[i].about] = ring[i + 1].about;
        // Who runs while it is written does so until now; a recorder that stands has seen its last event.
        double now = 0;
        if (rt_.trace.recording.load(std::memory_order_relaxed))
            now = time({sched::cpu_ticks() << 8, 0});
        else
            for (auto& ring : all)
                if (!ring.empty()) now = std::max(now, time(ring.back()));
        for (std::size_t i = 0; i < all.size(); ++i) {
            const bool a_p = i < rt_.ps.size();
            const sched::event_ring& ring = a_p ? *rt_.ps[i]->events : *rt_.trace.others;
            thread_name(i, a_p ? "P " + std::to_string(i) : std::string("without a P"));
            track(i, all[i], a_p, ring.written() > all[i].size() && !all[i].empty() ? time(all[i].front()) : 0, now);
        }
    }

  private:
    double time(const sched::event_entry& e) const noexcept {
        const std::uint64_t since = (e.stamp & ~std::uint64_t{0xff}) - (rt_.trace.first_ticks << 8);
        return static_cast<double>(static_cast<std::int64_t>(since) >> 8) * per_tick_;
    }
    void event(const std::string& text) { (out_ += out_.back() == '[' ? "\n" : ",\n") += text; }
    void thread_name(std::size_t track, const std::string& name) {
        event("{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":" + std::to_string(process_) +
              ",\"tid\":" + std::to_string(track) + ",\"args\":{\"name\":\"" + name + "\"}}");
    }
    std::string name_of(std::uint64_t task) {
        std::string s = "task " + std::to_string(task);
        if (auto it = created_.find(task); it != created_.end())
            (s += " ") += task_writer(symbols_).site(reinterpret_cast<const void*>(it->second));
        return s;
    }
    std::string common(const char* phase, std::size_t track, double at) const {
        char text[128];
        std::snprintf(text, sizeof text, "{\"ph\":\"%s\",\"pid\":%u,\"tid\":%zu,\"ts\":%.3f", phase, process_, track, at);
        return text;
    }
    void slice(std::size_t track, std::uint64_t task, double at, double to, std::string_view end) {
        char text[48];
        std::snprintf(text, sizeof text, ",\"dur\":%.3f", std::max(to - at, 0.001));
        std::string s = common("X", track, at) + text + ",\"name\":\"";
        append_json(s, name_of(task));
        ((s += "\",\"args\":{\"ended by\":\"") += end) += "\"}}";
        event(s);
    }
    void slice(std::size_t track, const sched::event_entry& from, double to, std::string_view end) {
        slice(track, from.about, time(from), to, end);
        // The arrow from who woke it.
        event(common("f", track, time(from)) + ",\"bp\":\"e\",\"cat\":\"ready\",\"name\":\"ready\",\"id\":" + std::to_string(from.about) + "}");
    }
    void instant(std::size_t track, const sched::event_entry& e, const std::string& name) {
        event(common("i", track, time(e)) + ",\"s\":\"t\",\"name\":\"" + name + "\"}");
    }
    /// a_p: what runs there does so one by one. first: from when on the ring has everything.
    void track(std::size_t n, const std::vector<sched::event_entry>& entries, bool a_p, double first, double now) {
        using sched::trace_event;
        const sched::event_entry* running = nullptr;
        bool began = !a_p; // whoever ran before the ring begins is known by what ends its run
        auto stop = [&](const sched::event_entry& e, std::string_view why) {
            if (running)
                slice(n, *running, time(e), why);
            else if (!began && e.what() != trace_event::start)
                slice(n, e.about & ~(std::uint64_t{0xff} << 56), first, time(e), why);
            running = nullptr;
            began = true;
        };
        for (const sched::event_entry& e : entries) {
            switch (e.what()) {
            case trace_event::start:
                stop(e, "yield");
                running = &e;
                break;
            case trace_event::block:
                stop(e, sched::to_string(static_cast<sched::wait_reason>(e.about >> 56)));
                break;
            case trace_event::end: stop(e, "end"); break;
            case trace_event::preempt: stop(e, "preemption"); break;
            case trace_event::create: instant(n, e, "create " + std::to_string(e.about)); break;
            case trace_event::site: break;
            case trace_event::ready:
                event(common("s", n, time(e)) + ",\"cat\":\"ready\",\"name\":\"ready\",\"id\":" + std::to_string(e.about) + "}");
                break;
            case trace_event::steal:
                instant(n, e, "steal " + std::to_string(e.about >> 32) + " from P " + std::to_string(e.about & 0xffff'ffffu));
                break;
            case trace_event::handoff: instant(n, e, "handoff of P " + std::to_string(e.about)); break;
            }
        }
        if (running && a_p) slice(n, *running, now, "it runs still");
    }

    std::string& out_;
    unsigned process_;
    sched::runtime_state& rt_;
    symbolizer& symbols_;
    double per_tick_ = 0;
    std::unordered_map<std::uint64_t, std::uint64_t> created_;
};

} // namespace detail

/// Starts recording, in all runtimes that are alive: each P keeps its last `events` events (16 bytes each, rounded up to a
/// power of two; the first call for a runtime decides, or options::record_events). Nothing happens where it is on already.
inline void start_trace(std::size_t events = 1 << 16) {
    static std::mutex lock;
    detail::pinned runtimes;
    for (sched::runtime_state* rt : runtimes) {
        std::lock_guard hold(lock);
        sched::probe::start_recording(*rt, events);
    }
}

/// Stops recording; what was recorded stays, to be written.
inline void stop_trace() {
    detail::pinned runtimes;
    for (sched::runtime_state* rt : runtimes) sched::probe::stop_recording(*rt);
}

/// Is any runtime being recorded?
inline bool tracing() {
    bool on = false;
    detail::pinned runtimes;
    for (sched::runtime_state* rt : runtimes) on = on || rt->trace.recording.load(std::memory_order_relaxed);
    return on;
}

namespace detail {

/// On a thread's ordinary stack.
inline std::string json_trace(const pinned& runtimes) {
    std::string out = "{\"traceEvents\":[";
    symbolizer symbols;
    unsigned process = 0;
    for (sched::runtime_state* rt : runtimes) {
        ++process;
        if (rt->trace.others) trace_text(out, process, *rt, symbols).write();
    }
    return out += "\n],\"displayTimeUnit\":\"ns\"}\n";
}

} // namespace detail

/// What is in the rings now, also while they are written, as JSON in the Trace Event Format: Ps as threads, runs of
/// tasks as slices (with what ended them), arrows from who woke a task to its next run.
inline void write_trace(std::ostream& os) {
    std::string out;
    detail::pinned runtimes;
    detail::aside([&] { detail::on_a_thread([&] { out = detail::json_trace(runtimes); }); });
    os << out;
}

} // namespace mpg::debug

// The flight recorder: the last things that each P did, in a ring, written on demand as a trace that Perfetto
// (ui.perfetto.dev) and chrome://tracing show.
//
// Each P's ring has one writer, the machine that holds the P; what happens on threads without a P goes to one more
// ring, under a lock. An event is 32 bytes and a read of the CPU's counter: about 10 ns.
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

struct trace_entry {
    std::uint64_t ticks;
    std::uint64_t a, b;
    std::uint64_t what; // trace_event
};

MPG_ALWAYS_INLINE std::uint64_t cpu_ticks() noexcept {
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    std::uint64_t t;
    asm volatile("mrs %0, cntvct_el0" : "=r"(t));
    return t;
#endif
}

class trace_ring {
  public:
    explicit trace_ring(std::size_t size) : entries_(size) {}

    /// Its one writer at that time.
    void write(sched::trace_event e, std::uint64_t a, std::uint64_t b) noexcept {
        std::uint64_t n = written_.load(std::memory_order_relaxed);
        entries_[n % entries_.size()] = {cpu_ticks(), a, b, static_cast<std::uint64_t>(e)};
        written_.store(n + 1, std::memory_order_release); // pairs with: read
    }
    /// From any thread, while it is written: what was not overwritten meanwhile.
    void read(std::vector<trace_entry>& out) const {
        std::uint64_t end = written_.load(std::memory_order_acquire); // pairs with: write
        std::uint64_t first = end > entries_.size() ? end - entries_.size() : 0;
        std::size_t at = out.size();
        for (std::uint64_t i = first; i < end; ++i) {
            trace_entry e;
            copy_racy(reinterpret_cast<std::byte*>(&e), &entries_[i % entries_.size()], sizeof e);
            out.push_back(e);
        }
        barrier_everywhere();
        // The entry that is being written now may overwrite one more than the count says.
        std::uint64_t now = written_.load(std::memory_order_acquire) + 1;
        std::uint64_t lost = now > entries_.size() ? now - entries_.size() : 0;
        if (lost > first)
            out.erase(out.begin() + static_cast<std::ptrdiff_t>(at),
                      out.begin() + static_cast<std::ptrdiff_t>(at + std::min<std::uint64_t>(lost - first, end - first)));
    }
    void clear() noexcept { written_.store(0, std::memory_order_release); }

  private:
    std::vector<trace_entry> entries_;
    alignas(base::cache_line) base::atomic<std::uint64_t> written_{0};
};

/// What a runtime that was ever traced owns, until its end.
struct trace_rings {
    std::vector<std::unique_ptr<trace_ring>> of_p;
    trace_ring others;
    base::spinlock others_lock;
    std::uint64_t first_ticks = cpu_ticks();
    base::nanos first_time = base::now();

    trace_rings(std::size_t ps, std::size_t events) : others(events) {
        for (std::size_t i = 0; i < ps; ++i) of_p.push_back(std::make_unique<trace_ring>(events));
    }
    static void destroy(void* self) noexcept { delete static_cast<trace_rings*>(self); }

    static void record(sched::runtime_state& rt, sched::trace_event e, std::uint64_t a, std::uint64_t b) noexcept {
        auto& self = *static_cast<trace_rings*>(rt.trace.data);
        sched::machine* m = sched::this_machine();
        if (m && m->rt == &rt && m->p) return self.of_p[m->p->index]->write(e, a, b);
        std::lock_guard hold(self.others_lock);
        self.others.write(e, a, b);
    }
};

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
        : out_(out), process_(process), rt_(rt), rings_(*static_cast<trace_rings*>(rt.trace.data)), symbols_(symbols) {
        const trace_rings& rings = rings_;
        double ticks = static_cast<double>(cpu_ticks() - rings.first_ticks);
        per_tick_ = ticks > 0 ? static_cast<double>(base::now() - rings.first_time) / ticks / 1000 : 0; // us
    }

    void write() {
        std::vector<std::vector<trace_entry>> all(rings_.of_p.size() + 1);
        for (std::size_t i = 0; i < rings_.of_p.size(); ++i) rings_.of_p[i]->read(all[i]);
        rings_.others.read(all.back());
        // Of tasks that are older than the rings: who is still there.
        sched::for_each_task(rt_, [&](sched::task& t) {
            record_view view(t);
            created_[MPG_DEBUG_FIELD(view, id)] = reinterpret_cast<std::uint64_t>(MPG_DEBUG_FIELD(view, created_at));
        });
        for (auto& ring : all)
            for (auto& e : ring)
                if (what(e) == sched::trace_event::create) created_[e.a] = e.b;
        for (std::size_t i = 0; i < all.size(); ++i) {
            thread_name(i, i < rings_.of_p.size() ? "P " + std::to_string(i) : std::string("without a P"));
            track(i, all[i]);
        }
    }

  private:
    static sched::trace_event what(const trace_entry& e) noexcept { return static_cast<sched::trace_event>(e.what); }
    double time(const trace_entry& e) const noexcept {
        return static_cast<double>(static_cast<std::int64_t>(e.ticks - rings_.first_ticks)) * per_tick_;
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
    void slice(std::size_t track, const trace_entry& from, double to, std::string_view end) {
        double at = time(from);
        char text[48];
        std::snprintf(text, sizeof text, ",\"dur\":%.3f", std::max(to - at, 0.001));
        std::string s = common("X", track, at) + text + ",\"name\":\"";
        append_json(s, name_of(from.a));
        ((s += "\",\"args\":{\"ended by\":\"") += end) += "\"}}";
        event(s);
        // The arrow from who woke it.
        event(common("f", track, at) + ",\"bp\":\"e\",\"cat\":\"ready\",\"name\":\"ready\",\"id\":" + std::to_string(from.a) + "}");
    }
    void instant(std::size_t track, const trace_entry& e, const std::string& name) {
        event(common("i", track, time(e)) + ",\"s\":\"t\",\"name\":\"" + name + "\"}");
    }
    void track(std::size_t n, const std::vector<trace_entry>& entries) {
        using sched::trace_event;
        const trace_entry* running = nullptr;
        auto stop = [&](const trace_entry& e, std::string_view why) {
            if (running) slice(n, *running, time(e), why);
            running = nullptr;
        };
        for (const trace_entry& e : entries) {
            switch (what(e)) {
            case trace_event::start:
                stop(e, "yield");
                running = &e;
                break;
            case trace_event::block:
                stop(e, sched::to_string(static_cast<sched::wait_reason>(e.b)));
                break;
            case trace_event::end: stop(e, "end"); break;
            case trace_event::preempt: stop(e, "preemption"); break;
            case trace_event::create: instant(n, e, "create " + std::to_string(e.a)); break;
            case trace_event::ready:
                event(common("s", n, time(e)) + ",\"cat\":\"ready\",\"name\":\"ready\",\"id\":" + std::to_string(e.a) + "}");
                break;
            case trace_event::steal:
                instant(n, e, "steal " + std::to_string(e.b) + " from P " + std::to_string(e.a));
                break;
            case trace_event::handoff: instant(n, e, "handoff of P " + std::to_string(e.a)); break;
            }
        }
    }

    std::string& out_;
    unsigned process_;
    sched::runtime_state& rt_;
    const trace_rings& rings_;
    symbolizer& symbols_;
    double per_tick_ = 0;
    std::unordered_map<std::uint64_t, std::uint64_t> created_;
};

} // namespace detail

/// Starts recording, in all runtimes that are alive: each P keeps its last `events` events (32 bytes each; the first
/// call for a runtime decides). Nothing happens where it is on already.
inline void start_trace(std::size_t events = 1 << 16) {
    static base::spinlock lock;
    detail::pinned runtimes;
    for (sched::runtime_state* rt : runtimes) {
        if (!rt->trace.data) {
            auto rings = std::make_unique<detail::trace_rings>(rt->ps.size(), std::max<std::size_t>(events, 16));
            std::lock_guard hold(lock);
            if (!rt->trace.data) {
                rt->trace.destroy = &detail::trace_rings::destroy;
                rt->trace.data = rings.release();
            }
        }
        // release: pairs with probe::record.
        rt->trace.record.store(&detail::trace_rings::record, std::memory_order_release);
    }
}

/// Stops recording; what was recorded stays, to be written.
inline void stop_trace() {
    detail::pinned runtimes;
    for (sched::runtime_state* rt : runtimes) rt->trace.record.store(nullptr, std::memory_order_relaxed);
}

/// Is any runtime being recorded?
inline bool tracing() {
    bool on = false;
    detail::pinned runtimes;
    for (sched::runtime_state* rt : runtimes) on = on || rt->trace.record.load(std::memory_order_relaxed);
    return on;
}

/// What is in the rings now, also while they are written, as JSON in the Trace Event Format: Ps as threads, runs of
/// tasks as slices (with what ended them), arrows from who woke a task to its next run.
inline void write_trace(std::ostream& os) {
    std::string out = "{\"traceEvents\":[";
    detail::pinned runtimes;
    detail::aside([&] {
        detail::on_a_thread([&] {
            detail::symbolizer symbols;
            unsigned process = 0;
            for (sched::runtime_state* rt : runtimes) {
                ++process;
                if (rt->trace.data) detail::trace_text(out, process, *rt, symbols).write();
            }
        });
    });
    os << out << "\n],\"displayTimeUnit\":\"ns\"}\n";
}

} // namespace mpg::debug
